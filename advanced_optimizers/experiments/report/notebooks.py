"""Executes the notebooks, and keeps their text twins in step."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from advanced_optimizers.experiments.records.paths import output_root, this_project
from advanced_optimizers.experiments.records.writing import remove_leftovers, write_if_changed

_CELL_TIMEOUT_SECONDS = 4 * 3600  # a study that trains everything again takes hours


class NotebookError(RuntimeError):
    """A notebook raised; the message names it and ends with the error."""


def notebook_paths() -> list[Path]:
    """The project's notebooks, in the order of their names.

    Raises:
        ProjectError: The working directory is not in this project.
        NotebookError: It has no notebooks.
    """
    folder = this_project() / "notebooks"
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise NotebookError(f"there is no notebook in {folder}: restore the folder from version control")
    return paths


def run_notebooks(profile: str, announce: Callable[[str], None] = print) -> list[Path]:
    """Executes every notebook from top to bottom and saves it.

    Args:
        profile: ``full`` saves into ``notebooks/``, ``quick`` into the scratch folder.
        announce: Told which notebook runs, and where it was saved.

    Raises:
        ProjectError: The working directory is not in this project.
        NotebookError: There is no notebook, or a cell raised. The notebook is not saved.
    """
    paths, folder = notebook_paths(), output_root(profile) / "notebooks"
    remove_leftovers(folder)
    saved = []
    for path in paths:
        announce(f"{path.name}: running ({profile} profile)")
        notebook = nbformat.read(path, as_version=4)
        header = deepcopy(notebook.metadata)
        with _profile_variable(profile):
            _execute(notebook, path)
        keep_header(notebook, header)
        target = folder / path.name
        write_if_changed(target, nbformat.writes(notebook).rstrip("\n") + "\n")
        announce(f"{path.name}: saved as {target.relative_to(this_project())}")
        saved.append(target)
    return saved


def keep_header(notebook: dict[str, Any], header: dict[str, Any]) -> None:
    """Puts back what running a notebook writes over: which kernel ran it, and on which Python.

    Both depend on the machine. Without this, to run and save an unchanged notebook on another one would change it.

    Args:
        notebook: A notebook that was run; it is changed.
        header: Its metadata from before.
    """
    for name in ("kernelspec", "language_info"):
        if name in header:
            notebook["metadata"][name] = header[name]


def sync_problems() -> list[str]:
    """Notebooks whose cells differ from those of their text twin, one line each."""
    problems = []
    for path in notebook_paths():
        twin = path.with_suffix(".py")
        if not twin.is_file():
            problems.append(f"{path.name} has no text twin {twin.name}: jupytext --sync {path.name}")
            continue
        cells, twin_cells = (
            [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]
            for notebook in (nbformat.read(path, as_version=4), jupytext.read(twin))
        )
        if cells != twin_cells:
            problems.append(f"{path.name} and {twin.name} differ: jupytext --sync {path.name}")
    return problems


def _execute(notebook: nbformat.NotebookNode, path: Path) -> None:
    client = NotebookClient(
        notebook,
        timeout=_CELL_TIMEOUT_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # a cell's printed lines arrive in pieces, and not always in the same ones
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": path.parent}},
    )
    try:
        finished = asyncio.run(_runs_to_the_end(client))
    except (CellExecutionError, DeadKernelError) as error:
        raise NotebookError(f"{path.name} raised:\n{error}") from error
    if not finished:
        raise KeyboardInterrupt


async def _runs_to_the_end(client: NotebookClient) -> bool:
    """Executes the client's notebook and returns whether it ran to its end; Ctrl-C stops its kernel at once.

    nbclient's own handler of Ctrl-C stops the kernel too, but then fails because the kernel is gone.
    """
    execution = asyncio.ensure_future(client.async_execute())
    interrupted = False

    def stop() -> None:
        nonlocal interrupted
        interrupted = True
        client.shutdown_kernel = "immediate"  # a kernel that is asked to stop logs how its cell was cut short
        execution.cancel()

    def take_over(notebook: nbformat.NotebookNode) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop)

    client.on_notebook_start = take_over
    try:
        await execution
    except (asyncio.CancelledError, DeadKernelError):  # nbclient takes being canceled for a dead kernel
        if not interrupted:
            raise
    return not interrupted


@contextmanager
def _profile_variable(profile: str) -> Iterator[None]:
    before = os.environ.get("PROFILE")
    os.environ["PROFILE"] = profile
    try:
        yield
    finally:
        if before is None:
            del os.environ["PROFILE"]
        else:
            os.environ["PROFILE"] = before
