"""The notebooks: how they are written, that twins are in step, and that running and saving one changes nothing."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class
from traitlets.config.loader import PyFileConfigLoader

from advanced_optimizers.experiments.report import notebooks
from advanced_optimizers.experiments.report.notebooks import keep_header, notebook_paths, run_notebooks, sync_problems
from tests.experiments_helpers import PYPROJECT

ROOT = Path(__file__).parent.parent
REPORT = "../coursework_report.md"
# Their examples are on other data than batches of digits, or of another kind than training a classifier.
OWN_EXAMPLES = ("10_multimodal", "11_federated", "12_privacy", "14_quantum", "15_hyperparameter_search")
CONFIG = ROOT / "notebooks" / "config" / "jupyter_server_config.py"
NOTEBOOKS = notebook_paths()
LONGEST_LINE = 88  # what a cell shows in JupyterLab beside the file browser, or on a page of 850 pixels

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def cells_of(path: Path, cell_type: str = "code") -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == cell_type]


def outputs_of(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in cells_of(path) for output in cell.outputs]


def anchors(markdown: str) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def read_config() -> ModuleType:
    spec = importlib.util.spec_from_file_location("jupyter_server_config", CONFIG)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def test_text_twins_are_in_step() -> None:
    assert sync_problems() == []


class TestHowTheyAreWritten:
    @every_notebook
    def test_first_come_the_question_the_method_and_its_limits(self, path: Path) -> None:
        first = cells_of(path, "markdown")[0].source
        assert re.match(r"# .+\?\n|# .+: .+\n", first)
        for part in ("$$", "arXiv" if "local" not in path.name else "doi", "**What does not match.**"):
            assert part in first
        report = re.escape(REPORT).replace(r"\.md", r"(?:_automl)?\.md")
        assert re.search(rf"\[section [\d.]+[^]]*\]\({report}#", first, re.IGNORECASE)

    @every_notebook
    def test_then_the_parameters_and_the_lines_that_use_the_algorithm(self, path: Path) -> None:
        parameters, example = cells_of(path)[:2]
        assert parameters.metadata.tags == ["parameters"]
        if path.stem in OWN_EXAMPLES:
            return
        imports, _, lines = example.source.partition("import digits_batches\n\n")
        assert all(line.startswith(("import ", "from ")) for line in imports.splitlines() if line)
        assert "digits_batches(" in lines
        assert len(lines.splitlines()) <= 15

    @every_notebook
    def test_links_lead_to_sections_of_the_report(self, path: Path) -> None:
        text = "\n".join(cell.source for cell in cells_of(path, "markdown"))
        linked = re.findall(r"\]\((?!https://)([^)#]*)#?([^)]*)\)", text)
        assert len(linked) >= 2
        files = {file for file, _ in linked}
        assert files <= {REPORT, *(REPORT.replace(".md", f"_{name}.md") for name in ("automl", "appendices"))}
        assert files - {REPORT.replace(".md", "_appendices.md")}
        for file in files:
            known = anchors((ROOT / Path(file).name).read_text(encoding="utf-8"))
            assert {anchor for own, anchor in linked if own == file} <= known

    @every_notebook
    def test_cells_are_short_and_their_lines_too(self, path: Path) -> None:
        for cell in cells_of(path):
            assert cell.source.count("\n") < 25
            assert max(map(len, cell.source.splitlines())) <= LONGEST_LINE

    @every_notebook
    def test_only_the_examples_train_and_nothing_plots(self, path: Path) -> None:
        study = next(i for i, cell in enumerate(cells_of(path)) if "open_study(" in cell.source)
        for index, cell in enumerate(cells_of(path)):
            assert "matplotlib" not in cell.source
            assert "backward()" not in cell.source or index < study


class TestStoredOutputs:
    @every_notebook
    def test_they_come_from_one_run_without_errors_or_warnings(self, path: Path) -> None:
        cells = cells_of(path)
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run it from top to bottom"
        assert not [output for output in outputs_of(path) if output.output_type == "error"]
        assert not [output.text for output in outputs_of(path) if output.get("name") == "stderr"]
        assert path.stat().st_size < 600_000

    @every_notebook
    def test_images_have_alternative_text(self, path: Path) -> None:
        images = [image for o in outputs_of(path) for image in re.findall("<img[^>]+>", str(o.get("data", "")))]
        assert images
        assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
        assert not [output for output in outputs_of(path) if "image/png" in output.get("data", {})]

    @every_notebook
    def test_no_value_of_a_table_breaks_and_no_printed_line_is_long(self, path: Path) -> None:
        tables = [o.data["text/markdown"] for o in outputs_of(path) if "text/markdown" in o.get("data", {})]
        assert tables
        for table in tables:
            assert not re.search(r"\d ±|± \d|\d \[|\w = \S", table.partition("\n")[2])
        printed = "\n".join(output.text for output in outputs_of(path) if output.output_type == "stream")
        assert max(map(len, printed.splitlines())) <= LONGEST_LINE

    @every_notebook
    def test_nothing_in_them_depends_on_the_machine_or_the_time(self, path: Path) -> None:
        cells = nbformat.read(path, as_version=4).cells
        assert not [cell.metadata for cell in cells if cell.metadata.keys() - {"tags"}]
        text = "\n".join(str(output.get("text", "")) + str(output.get("data", "")) for output in outputs_of(path))
        pictureless = re.sub(r"base64,[^\"]+", "", text)
        assert not re.search(r"0x[0-9a-f]{6,}|it/s|run/s|/tmp/|/home/|site-packages", pictureless)


class TestSaving:
    """What JupyterLab does when a notebook is opened, run and saved: through its contents manager, and jupytext's."""

    @pytest.fixture(params=[True, False], ids=["with jupytext", "without jupytext"])
    def server(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        manager = build_sync_jupytext_contents_manager_class(LargeFileManager) if request.param else LargeFileManager
        return manager(root_dir=str(tmp_path))

    def copied(self, path: Path, folder: Path) -> list[Path]:
        pair = [path, path.with_suffix(".py")]
        for file in pair:
            (folder / file.name).write_bytes(file.read_bytes())
        return pair

    @every_notebook
    def test_what_is_saved_unchanged_is_unchanged(self, path: Path, server: Any, tmp_path: Path) -> None:
        pair = self.copied(path, tmp_path)
        server.save(server.get(path.name), path.name)
        assert [(tmp_path / file.name).read_bytes() for file in pair] == [file.read_bytes() for file in pair]

    @every_notebook
    def test_another_python_changes_nothing(self, path: Path, server: Any, tmp_path: Path) -> None:
        pair = self.copied(path, tmp_path)
        model = server.get(path.name)
        model["content"]["metadata"]["language_info"]["version"] = "3.99.0"
        model["content"]["metadata"]["kernelspec"]["display_name"] = "My Python"
        server.pre_save_hook = read_config().keep_header
        server.save(model, path.name)
        assert [(tmp_path / file.name).read_bytes() for file in pair] == [file.read_bytes() for file in pair]

    def test_another_kernel_is_kept_and_a_new_notebook_saved_as_it_is(self, tmp_path: Path) -> None:
        server = LargeFileManager(root_dir=str(tmp_path))
        server.pre_save_hook = read_config().keep_header
        notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "a"}})
        for name in ("python3", "torch-nightly"):
            notebook.metadata.kernelspec.name = name
            server.save({"type": "notebook", "format": "json", "content": deepcopy(notebook)}, "new.ipynb")
            saved = json.loads((tmp_path / "new.ipynb").read_text(encoding="utf-8"))
            assert saved["metadata"]["kernelspec"]["name"] == name

    def test_the_server_reads_the_hook_from_its_configuration(self) -> None:
        config = PyFileConfigLoader(CONFIG.name, path=str(CONFIG.parent)).load_config()
        assert config.ContentsManager.pre_save_hook.__name__ == "keep_header"

    def test_the_executor_keeps_the_header_as_well(self) -> None:
        header = {"kernelspec": {"name": "python3"}, "language_info": {"name": "python", "version": "3.11.7"}}
        notebook = {"cells": [], "metadata": {**header, "language_info": {"name": "python", "version": "3.99.0"}}}
        keep_header(notebook, header)
        assert notebook["metadata"] == header


class TestRunning:
    """What the command ``notebooks`` saves; the kernel is left out."""

    @pytest.fixture
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "pyproject.toml").write_text(PYPROJECT)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1", id="one")])
        (tmp_path / "notebooks").mkdir()
        nbformat.write(notebook, tmp_path / "notebooks" / "a.ipynb")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(notebooks, "_execute", lambda notebook, path: None)
        return tmp_path

    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
    def test_an_unchanged_notebook_is_not_written(self, project: Path, line_end: bytes) -> None:
        path = project / "notebooks" / "a.ipynb"
        path.write_bytes(path.read_bytes().replace(b"\n", line_end))
        before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino
        assert run_notebooks("full", announce=lambda line: None) == [path]
        assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before

    def test_with_a_full_disk_the_notebook_is_as_it_was(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = project / "notebooks" / "a.ipynb"
        before = path.read_bytes()

        def execute(notebook: nbformat.NotebookNode, path: Path) -> None:
            notebook.cells[0].execution_count = 7

        def fail(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(notebooks, "_execute", execute)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="No space left on device"):
                run_notebooks("full", announce=lambda line: None)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]
        run_notebooks("full", announce=lambda line: None)
        assert nbformat.read(path, as_version=4).cells[0].execution_count == 7
