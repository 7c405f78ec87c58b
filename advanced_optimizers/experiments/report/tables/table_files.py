"""How a table is written, as Markdown and CSV: its values, its note, and the runs behind each of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from advanced_optimizers.experiments.records.writing import write_if_changed

# The column of a CSV file with the ids of the runs behind each row, separated by blanks.
RUNS = "Runs"

# What stands in the place of a number, a table or a figure whose runs are missing.
PENDING = "*no run yet*"
# What stands in a cell without a value.
NOTHING = "-"
# Fewer digits than a float has, so that every machine writes the same text.
_FLOAT = "%.6g"
# What a cell must not break inside: "98.49 ± 0.11", "+0.06 [-0.12, +0.24] points", "lr = 0.1", "p < 0.001", "20 %".
_VALUE = re.compile(
    r"[+-]?\d[\d.]*(?: %| s\b| ± [\d.]+| \([\d.]+ to [^)]*\)| \[[^\]]*\](?: (?:points|times|nats|s)\b)?)"
    r"|\d+ of \d+ runs"
    r"|\(n = \d+(?:, \d+ diverged)?\)"
    r"|\w+ [=<] [^\s,;)]+"
)
_NO_BREAK = "\u00a0"


def with_runs(table: pd.DataFrame, run_ids: Iterable[Iterable[str]]) -> pd.DataFrame:
    """The same table with the ids of the runs behind each row, which are the last column of its CSV file.

    They would fill the screen, so neither Markdown nor the command line has them. A table without any run has no such
    column.
    """
    words = [" ".join(sorted(ids)) for ids in run_ids]
    if any(words):
        table.attrs[RUNS] = words
    return table


def noted(table: pd.DataFrame, note: str) -> pd.DataFrame:
    """The same table with a note, which ``to_markdown`` writes below it; an empty one is left out."""
    if note:
        table.attrs["note"] = note
    return table


def to_markdown(frame: pd.DataFrame) -> str:
    """The frame as a Markdown table without its index, and its note; columns of numbers align right.

    A value with its interval and unit has no-break spaces, so that no browser breaks it.
    """
    rules = ["---:" if pd.api.types.is_numeric_dtype(frame[name]) else ":---" for name in frame.columns]
    cells = [[_markdown_cell(value) for value in row] for row in frame.itertuples(index=False)]
    header = [_markdown_cell(name) for name in frame.columns]
    lines = [f"| {' | '.join(row)} |" for row in [header, rules, *cells]]
    note = frame.attrs.get("note")
    return "\n".join([*lines, "", f"*{unbroken(note)}*"] if note else lines)


def unbroken(text: str) -> str:
    """The text with no-break spaces inside its values, such as ``98.49 ± 0.11`` and ``n = 5``."""
    return _VALUE.sub(lambda match: match.group().replace(" ", _NO_BREAK), text)


def render_tables(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """The text of every table's files, ``NAME.md`` and ``NAME.csv``, by file name."""
    files = {}
    for name, table in tables.items():
        files[f"{name}.md"] = to_markdown(table) + "\n"
        runs = {RUNS: table.attrs[RUNS]} if RUNS in table.attrs else {}
        files[f"{name}.csv"] = table.assign(**runs).to_csv(index=False, lineterminator="\n", float_format=_FLOAT)
    return files


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Writes every table as ``NAME.md`` and ``NAME.csv`` into a folder, which it makes; unchanged files stay.

    Returns:
        The paths of all of them.
    """
    paths = []
    for name, text in render_tables(tables).items():
        paths.append(folder / name)
        write_if_changed(paths[-1], text)
    return paths


def _markdown_cell(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return NOTHING
    text = _FLOAT % value if isinstance(value, float) else str(value)
    return unbroken(text.replace("|", "\\|").replace("\n", " "))
