"""Figures with a row for each algorithm: values of the last epoch, differences from the baseline, costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advanced_optimizers.experiments.evidence.comparisons import Evidence
from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels, conditions
from advanced_optimizers.experiments.evidence.statistics import mean, mean_interval
from advanced_optimizers.experiments.report.figures.panels import Row, mark_absence, mark_legend, named_rows
from advanced_optimizers.experiments.report.figures.style import (
    BLACK,
    VERMILLION,
    Style,
    condition_words,
    drawn_styles,
    wrapped,
)

_FILLED: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 6}
_HOLLOW = {**_FILLED, "markerfacecolor": "white", "markeredgewidth": 1.4}
_HALF = {**_FILLED, "fillstyle": "left", "markerfacecoloralt": "white", "markeredgewidth": 1.4}
_CROSS: dict[str, Any] = {"linestyle": "", "marker": "x", "markersize": 6, "markeredgewidth": 1.6}
_ZERO = {"color": BLACK, "linewidth": 1}
_LIMIT = {"color": VERMILLION, "linestyle": ":", "linewidth": 1.4}
_MARGIN: dict[str, Any] = {"color": "#EFEFEF", "linewidth": 0}
# How a mark is filled; any other outcome is a clear one.
_UNCLEAR = frozenset({"undecided", "unclear", "identical"})

_Pair: TypeAlias = tuple[str, str]  # baseline and algorithm


class _Quantity(NamedTuple):
    """How the evidence on a quantity is drawn.

    Attributes:
        xlabel: What the horizontal axis shows.
        scale: What an estimate is multiplied by.
        gain: What a claimed gain is multiplied by.
        lines: Vertical lines by where they stand.
        marks: For the legend, by what they mean.
    """

    xlabel: str
    scale: float
    gain: float
    lines: Mapping[float, Mapping[str, Any]]
    marks: Mapping[str, Mapping[str, Any]]


def final_accuracy(
    frame: pd.DataFrame,
    metric: str = "test_accuracy",
    *,
    labels: Labels,
    algorithms: Sequence[str] | None = None,
) -> Figure:
    """A metric of the last epoch: every seed as a light dot, the mean with its interval; one panel per condition.

    Args:
        frame: One row per run, from ``frames.records_frame``.
        metric: A column of the frame that ``METRICS`` knows.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the study in its order; None takes those of the frame.

    Raises:
        ValueError: The frame holds no completed run.
    """
    completed = frame[(frame["status"] == "completed") & frame[metric].notna()] if len(frame) else frame
    if completed.empty:
        raise ValueError("frame must hold completed runs, got none; run the study first")
    styles = drawn_styles(completed["algorithm"], algorithms, labels)
    cells = completed.groupby(["task", "label_noise", "algorithm"])
    panels, kind = conditions(completed, labels), METRICS[metric]
    with named_rows(len(panels), [Row(labels.get(name, name)) for name in styles], kind.label) as rows:
        for (task, label_noise), axis in zip(panels, rows.axes, strict=True):
            for y, (algorithm, style) in zip(rows.heights, styles.items(), strict=True):
                if (task, label_noise, algorithm) in cells.groups:
                    values = cells.get_group((task, label_noise, algorithm))[metric].astype(float)
                    _draw_dots(axis, y, [kind.scale * value for value in values], style)
                else:
                    mark_absence(axis, y)
        _set_titles(rows.axes, panels, labels)
    return rows.figure


def paired_differences(
    evidence: Sequence[Evidence], *, labels: Labels, algorithms: Sequence[str] | None = None
) -> Figure:
    """Differences of one metric from the baseline, paired by seed, with the line of no difference.

    Args:
        evidence: Rows of a verdict; all of one metric.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the study in its order; None takes those of the evidence.

    Raises:
        ValueError: There is no row, or the rows are of several metrics.
    """
    quantities = sorted({row.quantity for row in evidence})
    if len(quantities) != 1 or quantities[0] not in METRICS:
        raise ValueError(f"evidence must hold rows of one metric, got {quantities}")
    kind = METRICS[quantities[0]]
    unit = f" ({kind.difference_unit})" if kind.difference_unit else ""
    marks: dict[str, Mapping[str, Any]] = {"better or worse": _FILLED}
    if any(row.comparison.margin is not None for row in evidence):
        marks |= {"equivalent": _HALF}
    marks |= {"undecided": _HOLLOW}
    if any(row.outcome == "identical" for row in evidence):
        marks["undecided or identical"] = marks.pop("undecided")
    if any(row.comparison.claimed is not None for row in evidence):
        marks["claimed gain"] = _CROSS
    quantity = _Quantity(
        xlabel=f"Difference in {kind.name}{unit}",
        scale=kind.scale,
        gain=kind.scale if kind.higher_is_better else -kind.scale,
        lines={0.0: _ZERO},
        marks=marks,
    )
    return _draw_evidence(evidence, quantity, drawn_styles(_compared(evidence), algorithms, labels), labels)


def overhead(
    evidence: Sequence[Evidence], *, limit: float | None, labels: Labels, algorithms: Sequence[str] | None = None
) -> Figure:
    """Ratios of the time of an epoch to the baseline's, with the lines of no cost and of the claim's limit.

    Args:
        evidence: Rows of an overhead verdict.
        limit: The largest ratio that the claim allows; None if nothing is claimed.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the study in its order; None takes those of the evidence.

    Raises:
        ValueError: There is no row, or a row is not a ratio.
    """
    if not evidence or any(row.quantity != "ratio" for row in evidence):
        raise ValueError(f"evidence must hold ratios, got {sorted({row.quantity for row in evidence})}")
    lines = {1.0: _ZERO}
    marks: dict[str, Mapping[str, Any]] = {"clear difference": _FILLED, "unclear": _HOLLOW}
    if limit is not None:
        lines[limit] = _LIMIT
        marks = {"clearly within or above the limit": _FILLED, "unclear": _HOLLOW, f"limit of {limit:g}": _LIMIT}
    quantity = _Quantity("Time per epoch / baseline's", 1.0, 1.0, lines, marks)
    return _draw_evidence(evidence, quantity, drawn_styles(_compared(evidence), algorithms, labels), labels)


def _draw_evidence(
    evidence: Sequence[Evidence], quantity: _Quantity, styles: Mapping[str, Style], labels: Labels
) -> Figure:
    """The interval of each comparison, in a row under the heading of its baseline; rows are in the styles' order."""
    panels: dict[tuple[str, float], dict[_Pair, Evidence]] = {}
    for row in evidence:
        c = row.comparison
        panels.setdefault((c.task, c.label_noise), {})[c.baseline, c.algorithm] = row
    pairs = {pair for rows in panels.values() for pair in rows}
    names: dict[_Pair, Row] = {}
    for baseline in styles:
        compared = {(baseline, name): Row(labels.get(name, name)) for name in styles if (baseline, name) in pairs}
        if compared:
            heading = Row(f"Baseline: {labels.get(baseline, baseline)}", heading=True)
            names |= {(baseline, ""): heading, **compared}
    with named_rows(len(panels), list(names.values()), quantity.xlabel) as (figure, axes, heights):
        for axis, rows in zip(axes, panels.values(), strict=True):
            _draw_margin(axis, rows.values(), quantity.scale)
            for x, line in quantity.lines.items():
                axis.axvline(x, **line)
            for (pair, name), y in zip(names.items(), heights, strict=True):
                if pair in rows:
                    _draw_interval(axis, y, rows[pair], quantity, styles[pair[1]])
                elif not name.heading:
                    mark_absence(axis, y)
        _set_titles(axes, list(panels), labels)
        mark_legend(figure, quantity.marks)
    return figure


def _draw_dots(axis: Axes, y: float, values: Sequence[float], style: Style) -> None:
    axis.plot(values, [y + 0.1] * len(values), linestyle="", marker="o", color=style.color, alpha=0.3)
    if len(values) > 1:
        interval = mean_interval(values)
        axis.hlines(y, interval.low, interval.high, color=style.color, linewidth=1.6)
    axis.plot(mean(values), y, marker=style.marker, markersize=6, color=style.color)


def _draw_margin(axis: Axes, rows: Iterable[Evidence], scale: float) -> None:
    """A band over the differences that do not matter; a panel is of one task, which has one margin."""
    for margin in {row.comparison.margin for row in rows if row.comparison.margin is not None}:
        axis.axvspan(-scale * margin, scale * margin, zorder=0, **_MARGIN)


def _draw_interval(axis: Axes, y: float, row: Evidence, quantity: _Quantity, style: Style) -> None:
    scale, interval = quantity.scale, row.interval
    face = "white" if row.outcome in _UNCLEAR else style.color
    axis.hlines(y, scale * interval.low, scale * interval.high, color=style.color, linewidth=1.6)
    axis.plot(
        scale * interval.estimate,
        y,
        marker=style.marker,
        markersize=6,
        color=style.color,
        markerfacecolor=face,
        markeredgewidth=1.4,
        fillstyle="left" if row.outcome == "equivalent" else "full",
        markerfacecoloralt="white",
    )
    if row.comparison.claimed is not None:
        axis.plot(quantity.gain * row.comparison.claimed, y, color=BLACK, **_CROSS)


def _set_titles(axes: Sequence[Axes], panels: Sequence[tuple[str, float]], labels: Labels) -> None:
    for axis, words in zip(axes, condition_words(panels, labels), strict=True):
        axis.set_title("\n".join(wrapped(part, 30) for part in words if part))


def _compared(evidence: Sequence[Evidence]) -> set[str]:
    return {name for row in evidence for name in (row.comparison.algorithm, row.comparison.baseline)}
