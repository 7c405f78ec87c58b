"""The command line: python -m benchmarks [--quick] [--only PART ...] [--device DEVICE] [--output FOLDER]."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from advanced_optimizers.experiments.data.datasets import DataError
from advanced_optimizers.experiments.records.paths import ProjectError, output_root, project_root, this_project
from benchmarks import (
    data_pipeline,
    depth_memory,
    devices,
    epochs,
    imports,
    locality,
    one_run,
    operations,
    pipeline,
    step,
    tasks,
)
from benchmarks.result import LOAD_AT_START, Result

# The parts that can also be measured on an accelerator.
ON_DEVICES: dict[str, Callable[..., Result]] = {"step": step.run}

PARTS: dict[str, Callable[[bool], Result]] = {
    "step": step.run,
    "operations": operations.run,
    "data": data_pipeline.run,
    "epochs": epochs.run,
    "one-run": one_run.run,
    "import": imports.run,
    "locality": locality.run,
    "depth": depth_memory.run,
    "pipeline": pipeline.run,
    "tasks": tasks.run,
    "devices": devices.run,
}

# Parts that are measured only where they are named: they train for hours.
ON_REQUEST = ("devices",)

RESULTS = Path("results") / "benchmarks"
SOURCE = Path(__file__).resolve().parent.parent

# With more busy processes than this, measurements are disturbed.
BUSY = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts, prints their tables and writes their files; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        folder = options.output or benchmarks_folder("quick" if options.quick else "full")
    except ProjectError as error:
        parser.error(f"{error}; or name an --output")
    if options.quick and folder.resolve() == (project_root() / RESULTS).resolve():
        parser.error(f"--output must not be {folder} with --quick: it holds the full measurements")
    if not (options.quick or options.output or _is_committed()):
        parser.error("the project's measurements name a commit, so commit the changes first, or name an --output")
    parts = options.only or [part for part in PARTS if part not in ON_REQUEST]
    if options.device != "cpu" and not set(parts) <= set(ON_DEVICES):
        parser.error(f"--device needs --only with any of {', '.join(ON_DEVICES)}")
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device must be one that torch can use here, got {options.device!r} ({_first_line(error)})")
    if LOAD_AT_START > BUSY:
        busy = f"{LOAD_AT_START:.1f} processes were busy in the last minute"
        print(f"warning: {busy}; on a quiet machine the numbers would be different\n", file=sys.stderr)
    failed = []
    for part in parts:
        try:
            on_cpu = options.device == "cpu"
            result = PARTS[part](options.quick) if on_cpu else ON_DEVICES[part](options.quick, options.device)
        except DataError as error:  # the other parts need no data files
            failed.append(part)
            print(f"error: {part} was not measured: {error}\n", file=sys.stderr)
            continue
        print(result.text, flush=True)
        print(f"Written: {', '.join(str(path) for path in result.save(folder))}\n", flush=True)
    return 1 if failed else 0


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _is_committed() -> bool:
    """Whether all code that is measured, and all that measures, is that of a commit."""
    command = ["git", "-C", str(SOURCE), "status", "--porcelain", "--", "advanced_optimizers", "benchmarks"]
    try:
        return not subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # outside of git
        return False


def benchmarks_folder(profile: str) -> Path:
    """Returns the folder for the measurements of a profile.

    Raises:
        ProjectError: The working directory is not in this project.
    """
    return (this_project() if profile == "full" else output_root(profile)) / RESULTS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory side by side.")
    parser.add_argument(
        "--quick", action="store_true", help="takes seconds, to see that everything works; do not cite the numbers"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"any of {', '.join(PARTS)}; default: all but {', '.join(ON_REQUEST)}",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="DEVICE",
        help=f"where to measure {', '.join(ON_DEVICES)}: cpu or cuda; default: cpu",
    )
    default = "results/benchmarks of the project; with --quick, the same in .scratch/quick"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=f"default: {default}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
