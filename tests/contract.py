"""The contract as a whole: the tests that belong to it, and a way to run them over rows outside this folder."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

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
    """Runs the contract over the rows in the files ``cases_*.py`` of a folder, in a fresh Python.

    Args:
        folder: Where the files are; what they import may lie next to them.
        *arguments: Further arguments for pytest, such as ``"-k", "resumes"``.

    Raises:
        RuntimeError: The tests could not even be collected.
    """
    root = HERE.parent
    environment = {**os.environ, "CONTRACT_CASES": str(folder.resolve())}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        files = [str(HERE / f"{name}.py") for name in MODULES]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", *files, *arguments]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        if done.returncode not in (0, 1):  # neither "all passed" nor "some failed"
            raise RuntimeError(f"the contract tests of {folder} did not run:\n{output}")
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = tuple(case.get("name", "") for case in cases if case.find("failure") is not None or _broke(case))
    skips = [(case.get("name", ""), case.find("skipped")) for case in cases]
    skipped = {name: skip.get("message", "") for name, skip in skips if skip is not None}
    passed = tuple(name for name, _ in skips if name not in failed and name not in skipped)
    return ContractResult(passed, failed, skipped, output)


def _broke(case: ElementTree.Element) -> bool:
    return case.find("error") is not None
