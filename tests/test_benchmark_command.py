"""The command that measures: where its results go, and which it refuses to measure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from advanced_optimizers.experiments.data.datasets import DataError
from benchmarks import __main__ as command
from benchmarks.result import Result
from tests.experiments_helpers import PYPROJECT
from tests.test_benchmarks import a_result


class TestCommand:
    @pytest.fixture
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "pyproject.toml").write_text(PYPROJECT)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(command, "PARTS", {"step": lambda quick: a_result("quick" if quick else "full")})
        monkeypatch.setattr(command, "_is_committed", lambda: True)
        return tmp_path

    def test_measurements_of_the_project_name_a_commit(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command, "_is_committed", lambda: False)
        with pytest.raises(SystemExit):
            command.main([])
        assert "commit the changes first, or name an --output" in capsys.readouterr().err
        assert not (project / "results").exists()
        assert command.main(["--quick"]) == 0
        assert command.main(["--output", str(project / "elsewhere")]) == 0

    @pytest.mark.parametrize("place", ["advanced_optimizers", "benchmarks"])
    def test_what_is_not_committed_is_noticed_in_what_measures_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        def git(*arguments: str) -> None:
            own = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
            subprocess.run(["git", "-C", str(tmp_path), *own, *arguments], check=True, capture_output=True)

        monkeypatch.setattr(command, "SOURCE", tmp_path)
        assert not command._is_committed()  # no repository
        for folder in ("advanced_optimizers", "benchmarks", "docs"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "code.py").touch()
        git("init", "--quiet")
        git("add", ".")
        git("commit", "--quiet", "-m", "all")
        (tmp_path / "docs" / "code.py").write_text("changed")
        assert command._is_committed()
        (tmp_path / place / "code.py").write_text("changed")
        assert not command._is_committed()

    def test_quick_goes_to_the_scratch_folder(self, project: Path) -> None:
        assert command.main(["--quick"]) == 0
        assert command.main([]) == 0
        written = sorted(path.relative_to(project).as_posix() for path in project.rglob("*.json"))
        assert written == [".scratch/quick/results/benchmarks/quick.json", "results/benchmarks/full.json"]

    def test_quick_never_replaces_the_full_measurements(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            command.main(["--quick", "--output", "results/benchmarks"])
        assert "--output must not be results/benchmarks with --quick" in capsys.readouterr().err
        assert not (project / "results").exists()

    def test_missing_data_stop_their_part_alone(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def without_data(quick: bool) -> Result:
            raise DataError("mnist is not there")

        monkeypatch.setattr(command, "PARTS", {"epochs": without_data, "step": lambda quick: a_result()})
        assert command.main(["--quick"]) == 1
        captured = capsys.readouterr()
        assert "epochs was not measured: mnist is not there" in captured.err
        assert "FER over SGD" in captured.out

    def test_what_trains_for_hours_is_measured_only_where_it_is_named(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts = {name: lambda quick, name=name: a_result(name) for name in ("step", "devices")}
        monkeypatch.setattr(command, "PARTS", parts)
        assert command.main(["--quick"]) == 0
        assert [path.stem for path in project.rglob("*.json")] == ["step"]
        assert command.main(["--quick", "--only", "devices"]) == 0
        assert sorted(path.stem for path in project.rglob("*.json")) == ["devices", "step"]

    def test_an_unknown_part_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            command.main(["--only", "stpe"])
        assert "stpe" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--device", "cuda"], "--device needs --only with any of step"),
            (["--device", "cuda", "--only", "step", "data"], "--device needs --only with any of step"),
            (["--device", "abacus", "--only", "step"], "--device must be one that torch can use here, got 'abacus'"),
        ],
    )
    def test_a_device_that_nothing_can_be_measured_on_is_refused(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            command.main(["--quick", *arguments])
        assert message in capsys.readouterr().err

    def test_a_device_is_given_to_what_is_measured(self, monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
        monkeypatch.setattr(command, "ON_DEVICES", {"step": lambda quick, device: a_result(f"on-{device}")})
        assert command.main(["--only", "step", "--device", "meta"]) == 0
        assert [path.name for path in project.rglob("*.json")] == ["on-meta.json"]
