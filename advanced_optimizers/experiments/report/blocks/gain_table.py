"""The topics' gains over their baselines: a table with what each method needs, and a figure of the ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from advanced_optimizers.experiments.evidence.comparisons import select_pair
from advanced_optimizers.experiments.evidence.gains import Gain, error_ratio
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.evidence.statistics import Interval
from advanced_optimizers.experiments.report.figures.panels import Row, named_rows
from advanced_optimizers.experiments.report.figures.style import BLACK
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy, StudyFigure
from advanced_optimizers.experiments.report.tables import tables
from advanced_optimizers.experiments.report.tables.table_files import NOTHING, PENDING, noted, with_runs

Studies = Mapping[str, RecordedStudy[Any]]

_NOTE = (
    "Error ratio: the baseline's error over the method's, geometric mean over the seeds with its 95 % interval; "
    "above 1, the method is better. CPU time: of a whole run with what is measured in it, of the baseline in "
    "parentheses; mean over the seeds. Samples: what both may learn from, of one task where there are many."
)


class _Found(NamedTuple):
    """What the records have about a gain."""

    ratio: Interval | None
    run_ids: tuple[str, ...]


def gains_table(gains: Sequence[Gain], studies: Studies) -> pd.DataFrame:
    """One row per gain: both results, the ratio of errors, and what the method needs.

    Args:
        gains: In the order of the rows.
        studies: The recorded studies, by name.
    """
    rows = [_row(gain, studies[gain.study]) for gain in gains]
    return with_runs(noted(pd.DataFrame(rows), _NOTE), [list(_found(g, studies).run_ids) for g in gains])


def gains_figure(gains: Sequence[Gain], studies: Studies) -> StudyFigure | None:
    """The ratios with their intervals on a logarithmic axis; None while none is known."""
    found = {gain.topic: _found(gain, studies) for gain in gains}
    known = {name: row.ratio for name, row in found.items() if row.ratio is not None}
    if not known:
        return None
    return StudyFigure(
        f"error of the baseline over that of the method ({len(known)} topics)",
        partial(draw_gains, known),
        tuple(run_id for name in known for run_id in found[name].run_ids),
        note="Geometric mean over the seeds with its 95 % interval. Right of the line the method is better.",
    )


def draw_gains(ratios: Mapping[str, Interval]) -> Figure:
    """Ratios with their intervals, a row each.

    Args:
        ratios: By the name of the row, > 0.
    """
    with named_rows(1, [Row(name) for name in ratios], "Error ratio") as (figure, (axis,), heights):
        axis.set_xscale("log")
        axis.axvline(1.0, color=BLACK, linewidth=1)
        for ratio, y in zip(ratios.values(), heights, strict=True):
            axis.hlines(y, ratio.low, ratio.high, color=BLACK, linewidth=1.6)
            axis.plot(ratio.estimate, y, color=BLACK, linestyle="", marker="o", markersize=6)
        low, high = min(r.low for r in ratios.values()), max(r.high for r in ratios.values())
        ticks = [t for t in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if low / 1.5 <= t <= high * 1.5]
        axis.set_xticks(ticks)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
    return figure


def _found(gain: Gain, studies: Studies) -> _Found:
    frame = studies[gain.study].frame
    if frame.empty or gain.metric not in frame:
        return _Found(None, ())
    run_ids = [str(run_id) for runs in select_pair(frame, gain.comparison) for run_id in runs["run_id"]]
    return _Found(error_ratio(frame, gain), tuple(run_ids))


def _row(gain: Gain, results: RecordedStudy[Any]) -> dict[str, str]:
    kind = METRICS[gain.metric]
    ratio = _found(gain, {gain.study: results}).ratio
    row = {"Topic": gain.topic, "Measured": f"{kind.label}, {label(gain.task)}"}
    if ratio is None:
        return {**row, "Baseline": PENDING, **dict.fromkeys(_COLUMNS, PENDING)}
    method, baseline = select_pair(results.frame, gain.comparison)
    return {
        **row,
        "Baseline": tables.mean_words(baseline, gain.metric),
        "Method": tables.mean_words(method, gain.metric),
        "Error ratio": ratio.bracket(digits=2),
        "CPU time (s)": f"{_seconds(results, gain.algorithm, gain)} ({_seconds(results, gain.baseline, gain)})",
        "Parameters": _parameters(method, gain),
        "Samples": f"{gain.samples:,}",
    }


_COLUMNS = ("Method", "Error ratio", "CPU time (s)", "Parameters", "Samples")


def _seconds(results: RecordedStudy[Any], algorithm: str, gain: Gain) -> str:
    spent = [
        math.fsum(float(value or 0.0) for value in record.curves["cpu_seconds"])
        for record in results.records
        if (record.config.task, record.config.algorithm) == (gain.task, algorithm)
    ]
    return f"{fmean(spent):.1f}"


def _parameters(method: pd.DataFrame, gain: Gain) -> str:
    if "parameters" in method and method["parameters"].notna().any():
        return f"{method['parameters'].mean():,.0f}"
    return NOTHING if gain.parameters is None else f"{gain.parameters:,}"
