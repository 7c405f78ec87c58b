"""The contract as a whole: the tests that belong to it, and a way to run them over rows outside this folder."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

HERE = Path(__file__).resolve().parent
MODULES = ("test_contract", "test_contract_training")


def contract_tests() -> set[str]:
    """The names of all contract tests."""
    modules = [importlib.import_module(f"tests.{name}") for name in MODULES]
    return {name for module in modules for name in vars(module) if name.startswith("test_")}


class ContractResult(NamedTuple):
    """What a run of the contract came to.

    Attributes:
        passed: Ids of the tests that passed.
        failed: Ids of those that failed.
        skipped: Ids of those that were skipped, with the reason.
        output: What pytest printed.
    """

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: dict[str, str]
    output: str


def run_contract(folder: Path, *arguments: str) -> ContractResult:
    """Runs the contract over the rows in the files ``cases_*.py`` of a folder, in a process of its own.

    Args:
        folder: Where the files are; what they import may lie next to them.
        *arguments: Further arguments for pytest, such as ``"-k", "resumes"``.

    Raises:
        RuntimeError: The tests could not even be collected.
    """
    from tests.experiments_helpers import other_process  # here: the contract itself needs the package alone

    with tempfile.TemporaryDirectory() as scratch:
        report, printed = Path(scratch) / "report.xml", Path(scratch) / "printed.txt"
        files = [str(HERE / f"{name}.py") for name in MODULES]
        # Without the plugin of the notebooks, which loads for three seconds.
        command = ["-p", "no:cacheprovider", "-p", "no:nbval", f"--junitxml={report}", *files, *arguments]
        with other_process(_run_pytest, command, folder.resolve(), printed) as process:
            process.join()
            status = process.exitcode
        output = printed.read_text(encoding="utf-8")
        if status not in (0, 1):  # neither "all passed" nor "some failed"
            raise RuntimeError(f"the contract tests of {folder} did not run:\n{output}")
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = tuple(case.get("name", "") for case in cases if case.find("failure") is not None or _broke(case))
    skips = [(case.get("name", ""), case.find("skipped")) for case in cases]
    skipped = {name: skip.get("message", "") for name, skip in skips if skip is not None}
    passed = tuple(name for name, _ in skips if name not in failed and name not in skipped)
    return ContractResult(passed, failed, skipped, output)


def _run_pytest(command: list[str], folder: Path, printed: Path) -> None:
    """Runs pytest in this process, which is new and has the libraries loaded, and ends it with pytest's status."""
    from tests.experiments_helpers import print_into

    os.environ["CONTRACT_CASES"] = str(folder)
    os.chdir(HERE.parent)
    print_into(printed)
    sys.exit(pytest.main(command))


def _broke(case: ElementTree.Element) -> bool:
    return case.find("error") is not None
