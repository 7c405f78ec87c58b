"""The figures of a sweep of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from advanced_optimizers.experiments.evidence.metrics import Labels, ordered
from advanced_optimizers.experiments.report.figure_style import GRAY, WIDTH, drawn_styles, wrapped
from advanced_optimizers.experiments.report.panels import algorithm_legend, label_columns, panel_grid

_MARKERS, _LINES = "os^Dv<>", ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
# Errors that an axis may name, in %: the first of these grids of which at least two fall onto it.
_TICKS = ((1, 2, 5, 10, 20, 50, 100), (1, 1.5, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 70, 100), range(1, 101))
_LEAST_ERROR = 1e-3  # on a logarithmic axis, where a run without any error has no place


def error_by_rate(
    points: pd.DataFrame,
    *,
    labels: Labels,
    algorithms: Sequence[str],
    marked: Sequence[float] = (),
    quantity: str = "Test error",
) -> Figure:
    """Error by learning rate. One algorithm: a line per task; several: a panel per task, a line per algorithm.

    Args:
        points: From ``rates.rate_points``.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the sweep in its order.
        marked: Learning rates to mark.
        quantity: What the error is.

    Raises:
        ValueError: There is no run.
    """
    if points.empty:
        raise ValueError("points must hold runs, got none; run the study first")
    tasks = ordered(points["task"], labels)
    if len(set(points["algorithm"])) == 1:
        return _one_algorithm(points, tasks, labels, marked, quantity)
    styles = drawn_styles(points["algorithm"], algorithms, labels)
    columns = min(len(tasks), 2)
    with panel_grid(len(tasks), columns, (WIDTH, 1.3 + 2.6 * -(-len(tasks) // columns))) as (figure, axes):
        for task, axis in zip(tasks, axes, strict=True):
            for name, style in styles.items():
                own = points[(points["task"] == task) & (points["algorithm"] == name)]
                _draw(axis, own, {"color": style.color, "marker": style.marker, "linestyle": style.line})
            _finish(axis, points["rate"], marked)
            axis.set_title(wrapped(labels.get(task, task), 76 // columns), loc="left")
        label_columns(axes, columns, "Learning rate")
        figure.supylabel(f"{quantity} (%)")
        algorithm_legend(figure, styles, labels)
    return figure


def _one_algorithm(
    points: pd.DataFrame, tasks: Sequence[str], labels: Labels, marked: Sequence[float], quantity: str
) -> Figure:
    shades = sns.color_palette("viridis", len(tasks)).as_hex()
    looks = [
        {"color": shade, "marker": _MARKERS[i % len(_MARKERS)], "linestyle": _LINES[i % len(_LINES)]}
        for i, shade in enumerate(shades)
    ]
    with panel_grid(1, 1, (WIDTH, 4.0)) as (figure, (axis,)):
        for task, look in zip(tasks, looks, strict=True):
            _draw(axis, points[points["task"] == task], look)
        _finish(axis, points["rate"], marked)
        axis.set_xlabel("Learning rate")
        axis.set_ylabel(f"{quantity} (%)")
        handles = [
            Line2D([], [], label=wrapped(labels.get(task, task), 34), **look)
            for task, look in zip(tasks, looks, strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw(axis: Axes, own: pd.DataFrame, look: dict[str, Any]) -> None:
    """The mean over the seeds and, as a band, their range."""
    errors = (100 * (1 - own["accuracy"])).clip(lower=100 * _LEAST_ERROR).groupby(own["rate"])
    means = errors.mean()
    axis.plot(means.index, means, **look)
    axis.fill_between(means.index, errors.min(), errors.max(), color=look["color"], alpha=0.2, linewidth=0)


def _finish(axis: Axes, rates: pd.Series, marked: Sequence[float]) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    ticks = next(
        found for grid in _TICKS if len(found := [t for t in grid if low <= t <= high]) > 1 or grid is _TICKS[-1]
    )
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_locator(NullLocator())
    for rate in marked:
        axis.axvline(rate, color=GRAY, linestyle=(0, (1, 1)), linewidth=1, zorder=0)
        place = axis.get_xaxis_transform()
        axis.text(rate, 1.0, f"{rate:g}", transform=place, ha="center", va="bottom", color=GRAY)
    axis.set_xlim(rates.min() / 1.3, rates.max() * 1.3)
