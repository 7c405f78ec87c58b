"""What a source states, beside what was measured: a table of values, and figures of differences."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from advanced_optimizers.experiments.evidence.comparisons import Evidence, Verdict, by_seed
from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels
from advanced_optimizers.experiments.evidence.statistics import Interval, mean_interval
from advanced_optimizers.experiments.report.figures.panels import Row, mark_legend, named_rows
from advanced_optimizers.experiments.report.figures.style import BLACK, VERMILLION
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.report.tables.table_files import noted, with_runs
from advanced_optimizers.experiments.studies.registry import CLAIMS, TOPICS

_NOTHING = "-"
_HERE: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 6}
_STATED: dict[str, Any] = {"linestyle": "", "marker": "x", "markersize": 7, "markeredgewidth": 1.6}


def stated_table(frame: pd.DataFrame, stated: Mapping[str, Mapping[str, float]], *, labels: Labels) -> pd.DataFrame:
    """Each stated value beside the mean over the seeds with its interval, and where the stated one lies.

    Args:
        frame: The runs of one study on one task, from ``frames.records_frame``.
        stated: By metric and algorithm, the stated value as the metric is recorded.
        labels: Names for display, of algorithms.
    """
    rows, run_ids = [], []
    for metric, values in stated.items():
        kind = METRICS[metric]
        for name, value in values.items():
            runs = frame[frame["algorithm"] == name].set_index("seed")
            known = by_seed(runs, metric)
            interval = mean_interval(list(known.values())) if len(known) > 1 else None
            rows.append(
                {
                    "Quantity": kind.label,
                    "Algorithm": labels.get(name, name),
                    "Stated": f"{kind.scale * value:.{min(kind.digits, 2)}f}",
                    "Here": _NOTHING if interval is None else interval.plus_minus(kind.scale, kind.digits),
                    "n": len(known),
                    "The stated value": _NOTHING if interval is None else _place(value, interval),
                }
            )
            run_ids.append([str(run_id) for run_id in runs.loc[list(known), "run_id"]])
    note = (
        "Here: mean ± half-width of the 95 % interval over the seeds. The source has one seed and a smaller test set."
    )
    return with_runs(noted(pd.DataFrame(rows), note), run_ids)


def _place(value: float, interval: Interval) -> str:
    if interval.low <= value <= interval.high:
        return "lies in the interval"
    return "is below the interval" if value < interval.low else "is above the interval"


def stated_figures(verdicts: Mapping[str, Verdict]) -> dict[str, StudyFigure]:
    """For each topic with several stated differences, a figure of them beside the measured ones, by file name."""
    figures = {}
    for name, topic in TOPICS.items():
        keys = [claim.key for claim in topic.claims if claim.key in verdicts]
        rows = {CLAIMS[key].short: row for key in keys for row in verdicts[key].evidence if _is_stated(row)}
        if len(rows) > 1:
            figures[f"{name.replace('_', '-')}-stated"] = StudyFigure(
                f"stated and measured differences ({len(rows)} comparisons)",
                partial(stated_differences, rows),
                tuple(run_id for row in rows.values() for run_id in row.run_ids),
                note="Mean difference, paired by seed, with its 95 % interval. Hollow: neither confirmed nor refuted.",
            )
    return figures


def _is_stated(row: Evidence) -> bool:
    return row.comparison.claimed is not None and row.outcome in ("within", "above", "unclear")


def stated_differences(rows: Mapping[str, Evidence]) -> Figure:
    """Measured differences of one metric with their intervals, each beside the stated one.

    Args:
        rows: By what the row is called, evidence of ``stated.compare_stated``; all of one metric.

    Raises:
        ValueError: There is no row, or the rows are of several metrics.
    """
    metrics = sorted({row.quantity for row in rows.values()})
    if len(metrics) != 1:
        raise ValueError(f"rows must be of one metric, got {metrics}")
    kind = METRICS[metrics[0]]
    xlabel = f"Difference in {kind.name} ({kind.difference_unit})"
    with named_rows(1, [Row(name) for name in rows], xlabel) as (figure, (axis,), heights):
        axis.axvline(0.0, color=BLACK, linewidth=1)
        for row, y in zip(rows.values(), heights, strict=True):
            low, middle, high = (kind.scale * x for x in (row.interval.low, row.interval.estimate, row.interval.high))
            axis.hlines(y, low, high, color=BLACK, linewidth=1.6)
            face = "white" if row.outcome == "unclear" else BLACK
            axis.plot(middle, y, color=BLACK, markerfacecolor=face, **_HERE)
            axis.plot(kind.scale * (row.comparison.claimed or 0.0), y, color=VERMILLION, **_STATED)
        mark_legend(figure, {"measured": {"color": BLACK, **_HERE}, "stated": {"color": VERMILLION, **_STATED}})
    return figure
