"""The notebooks: text twins in step, executed in order, without errors or large outputs."""

from pathlib import Path

import nbformat
import pytest

from advanced_optimizers.experiments.report.notebooks import notebook_paths, sync_problems

NOTEBOOKS = notebook_paths()


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_text_twins_are_in_step():
    assert sync_problems() == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_stored_outputs(path: Path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run it from top to bottom"
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert path.stat().st_size < 600_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_are_short(path: Path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.source.count("\n") < 25
