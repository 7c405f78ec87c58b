"""The command line: what it prints, its exit status, and where it writes."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.records.checks import content_checksum
from advanced_optimizers.experiments.records.paths import figures_folder, output_root, project_root, run_store
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies import registry, reproducing
from advanced_optimizers.experiments.studies.retraining import retraining_store
from advanced_optimizers.experiments.studies.running import run_study
from advanced_optimizers.experiments.training import loop as training
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from tests.experiments_helpers import PYPROJECT, TINY, TINY_RUNS, files_under, make_record

SCRATCH = Path(".scratch") / "quick"
RUNS = SCRATCH / "results" / "runs"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with committed records and figures, as the working directory; the tiny study is the quick one."""
    for name in ("pyproject.toml", "results/runs/digits-mlp/sgd/committed.json", "figures/committed.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("committed")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.STUDIES, ("tiny", "quick"), TINY)
    monkeypatch.delitem(registry.STUDIES, ("fer", "full"))  # its store would be the made-up project's
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    store = RunStore(tmp_path_factory.mktemp("finished") / "runs")
    run_study(TINY, store, progress=False)
    return store


@pytest.fixture
def trained(project: Path, finished: RunStore) -> Path:
    shutil.copytree(finished.root, project / RUNS)
    return project


def fails_with(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of errors that a failing command prints."""
    assert main(arguments) == 1
    return capsys.readouterr().err.splitlines()


def fails(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a failing command prints."""
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line


# --- Where things go -------------------------------------------------------------------------------------------------


def test_full_results_are_the_projects_and_quick_ones_are_scratch(project: Path) -> None:
    assert output_root("full") == project
    assert run_store("full").root == project / "results" / "runs"
    assert figures_folder("full") == project / "figures"
    assert output_root("quick") == project / SCRATCH
    assert run_store("quick").root == project / RUNS
    assert figures_folder("quick") == project / SCRATCH / "figures"


def test_the_project_is_found_from_inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = project / "notebooks" / "drafts"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert project_root() == project
    assert run_store("quick").root == project / RUNS


def test_without_a_project_the_working_directory_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not any((folder / "pyproject.toml").exists() for folder in tmp_path.parents)
    assert project_root() == tmp_path


@pytest.mark.parametrize("place", [output_root, run_store, figures_folder])
def test_a_bad_profile_is_refused(place: object) -> None:
    with pytest.raises(ValueError, match="profile must be one of quick, full, got 'Full'"):
        place("Full")  # type: ignore[operator]


# --- Commands --------------------------------------------------------------------------------------------------------


def test_run_trains_once_and_writes_to_scratch_alone(
    project: Path, finished: RunStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_under(project)
    assert main(["run", "tiny", "--profile", "quick", "--jobs", "1"]) == 0
    assert capsys.readouterr().out == f"tiny (quick): 0 runs loaded, {TINY_RUNS} trained\n"
    after = files_under(project)
    assert {path: content for path, content in after.items() if not path.startswith(str(SCRATCH))} == before
    assert [r.outcome() for r in run_store("quick").records()] == [r.outcome() for r in finished.records()]
    monkeypatch.setattr(training, "_Run", lambda *_: pytest.fail("a recorded run was trained"))
    assert main(["run", "tiny", "--jobs", "1"]) == 0  # quick is the default
    assert capsys.readouterr().out == f"tiny (quick): {TINY_RUNS} runs loaded, 0 trained\n"


def test_run_retrains_on_demand(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_under(trained / RUNS)
    assert main(["run", "tiny", "--jobs", "1", "--retrain"]) == 0
    assert capsys.readouterr().out == f"tiny (quick): 0 runs loaded, {TINY_RUNS} trained\n"
    after = files_under(trained / RUNS)
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in before)


def test_list_shows_studies_and_algorithms_and_writes_nothing(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_under(trained)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (tiny,) = [line for line in lines if line.split()[:1] == ["tiny"]]
    assert tiny.split() == ["tiny", "quick", str(TINY_RUNS), "runs", "recorded", "digits-mlp"]
    (fer,) = [line for line in lines if line.split()[:1] == ["fer"]]
    assert fer.split()[:3] == ["fer", "quick", "0"]
    for name, algorithm in ALGORITHMS.items():
        assert [name, *algorithm.label.split()] in [line.split() for line in lines]
    assert files_under(trained) == before


@pytest.mark.parametrize(
    ("columns", "widest"),
    [pytest.param(60, 60, marks=pytest.mark.slow), (80, 80), pytest.param(200, 100, marks=pytest.mark.slow)],
)
def test_list_wraps_what_a_study_asks(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, widest: int
) -> None:
    title = " ".join(["Which"] + 20 * ["optimizer"] + ["wins?"])
    monkeypatch.setitem(registry.STUDIES, ("tiny", "quick"), replace(TINY, title=title))
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["list"]) == 0
    paragraphs = capsys.readouterr().out.split("\n\n")
    (tiny,) = [paragraph.splitlines() for paragraph in paragraphs if "optimizer optimizer" in paragraph]
    assert " ".join(line.strip() for line in tiny[1:]) == title
    assert widest - len("optimizer ") < max(map(len, tiny[1:])) <= widest


def test_reproduce_compares_every_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_under(trained)
    assert main(["reproduce", "tiny", "--jobs", "1"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == TINY_RUNS
    assert all(line.endswith(": identical") for line in lines)
    assert last == f"{TINY_RUNS} of {TINY_RUNS} runs came back bit for bit"
    assert files_under(trained) == before


def test_reproduce_finds_a_run_that_differs(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = TINY.final_configs(run_store("quick"))[:2]
    path = run_store("quick").path(first)
    content = json.loads(path.read_text())
    content["curves"]["test_accuracy"][0] += 0.001
    content["checksum"] = content_checksum(content)
    path.write_text(json.dumps(content))
    assert main(["reproduce", "tiny", "--jobs", "1", "--only", first.run_id[:8], second.run_id[:8]]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [first.run_id, second.run_id]
    assert [line.rsplit(maxsplit=1)[1] for line in lines[:2]] == ["DIFFERENT", "identical"]
    assert lines[2] == "1 of 2 runs came back bit for bit"


@pytest.mark.parametrize(("judgment", "status"), [("identical", 0), ("within", 0), ("undecided", 1), ("DIFFERENT", 1)])
def test_only_runs_that_came_back_are_a_success(
    trained: Path, monkeypatch: pytest.MonkeyPatch, judgment: str, status: int
) -> None:
    monkeypatch.setattr(reproducing.Reproduction, "judgment", property(lambda again: judgment))
    monkeypatch.setattr(
        reproducing, "train_all", lambda configs, scratch, *rest: [scratch.save(make_record(c)) for c in configs]
    )
    assert main(["reproduce", "tiny", "--jobs", "1"]) == status


# --- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "reproduce"])
def test_an_unknown_study_gives_the_nearest_names(
    project: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert "no study is named 'tinny'; did you mean tiny" in fails([command, "tinny"], capsys)


@pytest.mark.parametrize("command", ["run", "reproduce"])
def test_bad_jobs_are_named(trained: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "jobs must be >= 1, got 0" in fails([command, "tiny", "--jobs", "0"], capsys)


def test_a_device_that_does_not_exist_is_named_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "tpu9000" in fails(["run", "tiny", "--jobs", "1", "--device", "tpu9000"], capsys)


@pytest.mark.parametrize(("engine", "module"), [("ray", "ray.util.joblib"), ("dask", "distributed")])
def test_an_engine_that_is_not_installed_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, engine: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module.split(".")[0], None)
    monkeypatch.setitem(sys.modules, module, None)
    assert engine in fails(["run", "tiny", "--jobs", "2", "--engine", engine], capsys)


def test_nothing_to_reproduce_is_an_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no recorded run in" in fails(["reproduce", "tiny", "--jobs", "1"], capsys)


def test_an_unknown_run_id_is_an_error(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(["reproduce", "tiny", "--jobs", "1", "--only", "zzzz"], capsys)
    assert "no recorded run whose id begins with 'zzzz'" in line


@pytest.mark.parametrize("command", [["list"], ["run", "tiny", "--jobs", "1"], ["reproduce", "tiny", "--jobs", "1"]])
def test_a_damaged_record_is_an_error_that_names_it(
    trained: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    path = run_store("quick").path(TINY.tuning_configs()[0])
    path.write_text("{")
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.count(str(path)) == 1
    assert "delete it" in error


def test_a_damaged_record_does_not_hide_the_other_studies(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_store("quick").path(TINY.tuning_configs()[0])
    path.unlink()
    path.mkdir()
    assert main(["list"]) == 1
    printed = capsys.readouterr()
    assert re.search("tiny +quick +a damaged record", printed.out)
    assert re.search("fer +quick +0 runs recorded", printed.out)
    assert str(path) in printed.err


def test_old_records_are_adopted_on_demand(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in run_store("quick").paths():
        content = json.loads(path.read_text())
        del content["checksum"]
        path.write_text(json.dumps(content))
    assert "`adopt` lists it" in " ".join(fails_with(["list"], capsys))
    assert main(["adopt"]) == 0
    assert capsys.readouterr().out == f"written: {RUNS / 'SHA256SUMS'}\n"
    assert len(run_store("quick").records()) == TINY_RUNS


def test_a_full_disk_is_one_line(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert f"No space left on device: '{run_store('quick').root / 'SHA256SUMS'}'" in fails(["adopt"], capsys)


def test_two_retrainings_at_once_are_one_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with retraining_store("tiny", run_store("quick"), "cpu"):
        line = fails(["run", "tiny", "--jobs", "1", "--retrain"], capsys)
    assert f"the study tiny is being trained again by process {os.getpid()} on " in line


def test_a_failing_run_is_an_error(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(TINY, name="broken", tasks=(replace(TINY.tasks[0], model="nothing"),), algorithms=("sgd",))
    monkeypatch.setitem(registry.STUDIES, ("broken", "quick"), broken)
    assert main(["run", "broken", "--jobs", "1"]) == 1
    error = capsys.readouterr().err
    assert "error: 2 of 2 runs failed:" in error
    assert error.count("no model is named 'nothing'") == 2
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["walk"], "invalid choice: 'walk'"),
        (["run"], "study"),
        (["run", "tiny", "--profile", "fast"], "invalid choice: 'fast'"),
        (["run", "tiny", "--engine", "steam"], "invalid choice: 'steam'"),
        (["run", "tiny", "--jobs", "two"], "invalid int value: 'two'"),
        (["reproduce", "tiny", "--only"], "--only"),
    ],
)
def test_bad_usage_is_explained(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
