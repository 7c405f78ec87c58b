"""docs/adding_an_algorithm.md, followed to the letter in a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract import contract_tests, run_contract
from tests.experiments_helpers import run_command

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "adding_an_algorithm.md").read_text(encoding="utf-8")
FILES = {
    block.splitlines()[0].removeprefix("# "): block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
}
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]

Follow = Callable[[str], str]


@pytest.fixture(scope="module")
def follow(tmp_path_factory: pytest.TempPathFactory) -> Follow:
    """Runs one of the page's commands in a folder with the page's files; returns what it prints."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")

    def run(beginning: str) -> str:
        (command,) = [command for command in COMMANDS if command.startswith(beginning)]
        return run_command(command.split()[1:], folder, COLUMNS="100", PROFILE="quick")

    run.folder = folder  # type: ignore[attr-defined]
    return run


def test_the_page_has_its_files_and_commands() -> None:
    assert set(FILES) == {"clipping.py", "clipping_reference.py", "cases_clipping.py", "clipping_topic.py"}
    assert len(COMMANDS) == 4


def test_it_appears_in_the_list(follow: Follow) -> None:
    printed = follow("advanced-optimizers --topic clipping_topic.py list")
    assert re.search(r"clipping +quick +\d+ runs recorded +digits-mlp", printed)
    assert re.search(r"clipping +Clipping \+ Adam", printed)


@pytest.mark.slow
def test_it_trains_and_gets_its_tables_figures_and_verdict(follow: Follow) -> None:
    assert "clipping (quick): 0 runs loaded, 8 trained" in follow("advanced-optimizers --topic clipping_topic.py run")
    printed = follow("advanced-optimizers --topic clipping_topic.py show")
    assert "8 of 8 runs loaded" in printed
    assert "Clipping + Adam" in printed
    assert "pending" in printed
    written = {path.name for path in (follow.folder / ".scratch" / "quick").rglob("*.*")}  # type: ignore[attr-defined]
    assert {"clipping-test-accuracy.md", "clipping-claims.md", "clipping-hyperparameters.csv"} <= written
    figures = {"clipping-test-accuracy.png", "clipping-test-accuracy-differences.png", "clipping-learning-curves.png"}
    assert figures <= written


@pytest.mark.slow
def test_it_passes_the_contract(follow: Follow) -> None:
    assert (
        "CONTRACT_CASES=path/to/folder python -m pytest tests/test_contract.py tests/test_contract_training.py"
        in COMMANDS
    )
    result = run_contract(follow.folder)  # type: ignore[attr-defined]
    assert not result.failed, result.output
    assert {name.partition("[")[0] for name in result.passed} == contract_tests()
