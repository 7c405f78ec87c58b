"""The README's table "What works with what" says what tests show: each of its cells has one that exists."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.what_works import COLUMNS, TESTS

HERE = Path(__file__).parent
README = (HERE.parent / "README.md").read_text(encoding="utf-8")
# The first words of cells that no test can show.
WITHOUT_A_TEST = ("untested", "no: ")


def table(text: str) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The columns and the rows of the table, each row by its first cell."""
    section = text.split("### What works with what\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    (_, *columns), _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return tuple(columns), {name: tuple(cells) for name, *cells in rows}


@cache
def existing_tests(file: str) -> set[str]:
    path = HERE / f"test_{file}.py"
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def faults(text: str, tests: dict[str, tuple[str, ...]]) -> list[str]:
    """What the table and its tests do not agree in."""
    columns, rows = table(text)
    found = [f"columns are {columns}"] if columns != COLUMNS else []
    found += [f"{row}: is in one of the two only" for row in rows.keys() ^ tests.keys()]
    for row in rows.keys() & tests.keys():
        if len(rows[row]) != len(COLUMNS):
            found.append(f"{row}: has {len(rows[row])} cells")
        for column, cell, names in zip(COLUMNS, rows[row], tests[row], strict=False):
            found += [f"{row}, {column}: {fault}" for fault in faults_of_cell(cell, names)]
    return found


def faults_of_cell(cell: str, names: str) -> list[str]:
    if cell.startswith(WITHOUT_A_TEST):
        return [f"says {cell!r} and names {names}"] if names else []
    if not cell or not names:
        return [f"says {cell!r} without a test"]
    pairs = [name.partition("::") for name in names.split()]
    return [f"there is no {file}::{test}" for file, _, test in pairs if test not in existing_tests(file)]


def test_each_cell_has_a_test() -> None:
    assert faults(README, TESTS) == []


def test_there_are_rows() -> None:
    assert len(TESTS) >= 17
    assert sum(len(names.split()) for cells in TESTS.values() for names in cells) >= 80


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("| Closures |", "| Closure |", "is in one of the two only"),
        ("| accelerate | yes |", "| accelerate | untested |", "says 'untested' and names"),
        ("| accelerate | yes |", "| accelerate |  |", "without a test"),
        ("| accelerate | yes |", "| accelerate |", "has 5 cells"),
        ("`LocalizedOptimizer` | `SigPropOptimizer` |", "`SigPropOptimizer` | `LocalizedOptimizer` |", "columns are"),
    ],
)
def test_a_table_that_says_something_else_is_a_fault(old: str, new: str, fault: str) -> None:
    assert old in README
    assert any(fault in found for found in faults(README.replace(old, new), TESTS))


def test_a_test_that_does_not_exist_is_a_fault() -> None:
    broken = {**TESTS, "Closures": ("contract::test_nothing", *TESTS["Closures"][1:])}
    assert any("there is no contract::test_nothing" in found for found in faults(README, broken))
