"""The figures of a sweep of the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from advanced_optimizers.experiments.evidence.metrics import Labels, ordered
from advanced_optimizers.experiments.report.figures.panels import (
    algorithm_legend,
    label_columns,
    mark_legend,
    panel_grid,
)
from advanced_optimizers.experiments.report.figures.style import (
    GRAY,
    MAX_LINES,
    OTHERS,
    WIDTH,
    Style,
    drawn_styles,
    wrapped,
)

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
    """Error by learning rate. One algorithm: a line per task; some: a panel per task, a line per algorithm.

    More algorithms than lines that a panel can hold have a panel each, before the lines of all others.

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
    if len(styles) > MAX_LINES:
        return _each_before_others(points, tasks, styles, labels, marked, quantity)
    columns = min(len(tasks), 2)
    with panel_grid(len(tasks), columns, (WIDTH, 1.3 + 2.6 * -(-len(tasks) // columns))) as (figure, axes):
        for task, axis in zip(tasks, axes, strict=True):
            for name, style in styles.items():
                own = points[(points["task"] == task) & (points["algorithm"] == name)]
                _draw(axis, own, {"color": style.color, "marker": style.marker, "linestyle": style.line})
            _finish(axis, points["rate"], marked)
            # Above the marked rates, which stand right on top of the panel.
            axis.set_title(wrapped(labels.get(task, task), 76 // columns), loc="left", pad=18 if marked else None)
        label_columns(axes, columns, "Learning rate")
        figure.supylabel(f"{quantity} (%)")
        algorithm_legend(figure, styles, labels)
    return figure


def _each_before_others(
    points: pd.DataFrame,
    tasks: Sequence[str],
    styles: Mapping[str, Style],
    labels: Labels,
    marked: Sequence[float],
    quantity: str,
) -> Figure:
    panels, columns = [(task, name) for task in tasks for name in styles], 3
    size = (WIDTH, 0.8 + 1.65 * -(-len(panels) // columns))
    with panel_grid(len(panels), columns, size, sharey=True) as (figure, axes):
        for (task, name), axis in zip(panels, axes, strict=True):
            here = points[points["task"] == task]
            for other in styles:
                if other != name:
                    _draw_mean(axis, here[here["algorithm"] == other], OTHERS)
            style = styles[name]
            _draw(axis, here[here["algorithm"] == name], {"color": style.color, "marker": style.marker})
            words = [labels.get(task, task)] * (len(tasks) > 1) + [labels.get(name, name)]
            title = "\n".join(wrapped(part, 27) for part in words)
            axis.set_title(title, loc="left", pad=18 if marked else None)
        for axis in axes:
            _finish(axis, points["rate"], marked)
        label_columns(axes, columns, "Learning rate")
        figure.supylabel(f"{quantity} (%)")
        mark_legend(figure, {"the other algorithms": OTHERS})
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
    errors = _errors(own)
    _draw_mean(axis, own, look)
    axis.fill_between(sorted(errors.groups), errors.min(), errors.max(), color=look["color"], alpha=0.2, linewidth=0)


def _draw_mean(axis: Axes, own: pd.DataFrame, look: Mapping[str, Any]) -> None:
    means = _errors(own).mean()
    axis.plot(means.index, means, **look)


def _errors(own: pd.DataFrame) -> Any:
    """The errors in %, grouped by learning rate."""
    return (100 * (1 - own["accuracy"])).clip(lower=100 * _LEAST_ERROR).groupby(own["rate"])


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
