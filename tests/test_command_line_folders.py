"""Which folder's results the command line reads and writes: this project's, or those of a user's own studies."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.records.paths import ProjectError, this_project
from advanced_optimizers.experiments.report import notebooks
from advanced_optimizers.experiments.studies import registry
from benchmarks import __main__ as benchmarks
from tests.experiments_helpers import PYPROJECT, TINY, files_under

FOREIGN = '[project]\nname = "somebody-elses"\ndependencies = ["advanced-optimizers"]\n'
NAMES_OF_OURS = (PYPROJECT, "[build-system]\n\n[project] # ours\ndynamic = [\"version\"]\nname='advanced-optimizers'\n")
NAMES_OF_OTHERS = (
    None,
    "",
    FOREIGN,
    '[project]\nname = "advanced-optimizers-extra"\n',
    '[project]\ndescription = "x"\n[tool.x]\nname = "advanced-optimizers"\n',
    '[tool.x]\nname = "advanced-optimizers"\n',
    '[project]\n# name = "advanced-optimizers"\n',
)
# Every command that reads or writes this project's results, notebooks or report.
COMMANDS = (
    ["notebooks"],
    ["notebooks", "--profile", "full"],
    ["report"],
    ["report", "--check"],
    ["run", "tiny", "--profile", "full"],
    ["run", "tiny", "--profile", "full", "--retrain"],
    ["reproduce", "tiny", "--profile", "full"],
    ["show", "tiny", "--profile", "full"],
    ["adopt", "--profile", "full"],
)


def make_folder(folder: Path, settings: str | None) -> Path:
    if settings is not None:
        (folder / "pyproject.toml").write_text(settings)
    return folder


@pytest.fixture(params=[None, FOREIGN], ids=["no project", "another project"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside this project, with a notebook, a README and a record of its own, as the working directory."""
    make_folder(tmp_path, request.param)
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "notebooks" / "theirs.ipynb")
    (tmp_path / "README.md").write_text("Their <!-- result:legend -->?<!-- /result -->")
    (tmp_path / "results" / "runs").mkdir(parents=True)
    (tmp_path / "results" / "runs" / "theirs.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.STUDIES, ("tiny", "full"), replace(TINY, profile="full"))
    monkeypatch.setattr(notebooks, "_execute", lambda *_: pytest.fail("a notebook was executed"))
    return tmp_path


@pytest.mark.parametrize("settings", NAMES_OF_OURS)
def test_a_checkout_is_known_by_its_projects_name(
    settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = make_folder(tmp_path, settings) / "notebooks"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert this_project() == tmp_path


@pytest.mark.parametrize("settings", NAMES_OF_OTHERS)
def test_no_other_folder_is_taken_for_one(
    settings: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_folder(tmp_path, settings))
    with pytest.raises(ProjectError, match="is not a checkout of advanced-optimizers"):
        this_project()


def test_a_project_inside_a_checkout_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path, PYPROJECT)
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(make_folder(tmp_path / "inside", FOREIGN))
    with pytest.raises(ProjectError):
        this_project()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_elsewhere_it_is_one_error_and_nothing_is_touched(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    before = files_under(elsewhere)
    assert main(command) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {elsewhere} is not a checkout of advanced-optimizers")
    assert "git clone https://" in line
    assert ("--profile quick" in line) == (command[0] not in ("notebooks", "report") or "full" in command)
    assert files_under(elsewhere) == before


@pytest.mark.parametrize("arguments", [[], ["--only", "step"]])
def test_benchmarks_do_not_write_elsewhere(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(benchmarks, "PARTS", {"step": lambda quick: pytest.fail("it was measured")})
    before = files_under(elsewhere)
    with pytest.raises(SystemExit):
        benchmarks.main(arguments)
    error = capsys.readouterr().err
    assert f"{elsewhere} is not a checkout" in error
    assert "--output" in error
    assert files_under(elsewhere) == before


def test_a_checkout_without_notebooks_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_folder(tmp_path, PYPROJECT))
    assert main(["notebooks"]) == 1
    assert capsys.readouterr() == (
        "",
        f"error: there is no notebook in {tmp_path / 'notebooks'}: restore the folder from version control\n",
    )


@pytest.mark.parametrize("command", [["list"], ["show", "fer"], ["run", "tiny", "--jobs", "1"]], ids=" ".join)
def test_the_quick_profile_works_anywhere(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    tiny = replace(TINY, algorithms=("sgd",), label_noises=(0.0,), seeds=(0,), trials=1)
    monkeypatch.setitem(registry.STUDIES, ("tiny", "quick"), tiny)
    before = files_under(elsewhere)
    assert main(command) == 0
    assert {path: text for path, text in files_under(elsewhere).items() if not path.startswith(".scratch")} == before


OWN_TOPIC = """
from dataclasses import replace
from advanced_optimizers.experiments.studies.topic import Topic
from tests.experiments_helpers import TINY

own = replace(TINY, name="own", algorithms=("sgd",), label_noises=(0.0,), seeds=(0,), trials=1)
TOPIC = Topic(title="Own", algorithms={}, studies=(own, replace(own, profile="full")))
"""


def test_ones_own_studies_keep_their_results_in_ones_own_folder(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOPICS", "STUDIES", "_FILES"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    monkeypatch.setattr(registry, "FURTHER_SOURCES", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    (elsewhere / "own_topic.py").write_text(OWN_TOPIC)
    for command in (["run", "own", "--jobs", "1"], ["show", "own"], ["reproduce", "own", "--jobs", "1"]):
        assert main(["--topic", "own_topic.py", *command, "--profile", "full"]) == 0
    assert "0 runs loaded, 2 trained" in capsys.readouterr().out
    assert len(list((elsewhere / "results" / "runs" / "digits-mlp" / "sgd").glob("*.json"))) == 2
