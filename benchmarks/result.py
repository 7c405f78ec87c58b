"""The result of one part of the benchmark: a table to read, and its measurements in a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advanced_optimizers.experiments.records.machine import environment
from advanced_optimizers.experiments.records.writing import write_if_changed

Rows = list[dict[str, str]]

# The load in the minute before the benchmark added its own.
LOAD_AT_START = os.getloadavg()[0]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one part.

    Attributes:
        name: The stem of the file names.
        caption: What the table shows: threads, repeats, and what each ratio refers to.
        rows: The cells of the table, by column.
        measurements: What was measured, as the file stores it.
        environment: Versions, commit, hardware, threads, and how busy the machine was at the start.
    """

    name: str
    caption: str
    rows: Rows
    measurements: list[dict[str, Any]]
    environment: dict[str, Any]

    @property
    def text(self) -> str:
        """The caption and the table, in Markdown that is aligned for a terminal."""
        return f"{self.caption}\n\n{aligned(self.rows)}\n"

    def save(self, folder: Path) -> list[Path]:
        """Writes ``<name>.json`` and the table ``<name>.md``, each completely or not at all; returns their paths."""
        content = {"measurements": self.measurements, "environment": self.environment, "caption": self.caption}
        written = []
        for suffix, text in (("json", json.dumps(content, indent=1, allow_nan=False) + "\n"), ("md", self.text)):
            path = folder / f"{self.name}.{suffix}"
            write_if_changed(path, text)
            written.append(path)
        return written


def aligned(rows: Rows) -> str:
    """Returns a Markdown table with aligned columns: the first one to the left, the others to the right."""
    header = list(rows[0])
    lines = [header, *([row[column] for column in header] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def cpu_environment() -> dict[str, Any]:
    """Returns :func:`environment_of` the processor."""
    return environment_of("cpu")


def environment_of(device: str) -> dict[str, Any]:
    """Returns what a run's record says about versions and hardware, and how many processes were busy before."""
    return {**environment(torch.device(device)), "load_at_start": LOAD_AT_START}


def number_of_threads(threads: int) -> str:
    """Returns a number of threads in words, for captions."""
    return f"{threads} thread{'s' if threads > 1 else ''}"
