"""The figures of a sweep of the learning rate over the width, and that of a coordinate check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from advanced_optimizers.experiments.evidence.metrics import Labels, ordered
from advanced_optimizers.experiments.evidence.optima import find_optima, optimum_bounds, widths
from advanced_optimizers.experiments.report.figures.panels import label_columns, mark_legend, panel_grid
from advanced_optimizers.experiments.report.figures.style import BLACK, WIDTH, Style, drawn_styles, wrapped

# Of log losses: the initial loss over ten classes, which a network that does not learn keeps, and some room above it.
_HIGHEST_LOSS = 3.0
_AT_LEAST = "largest rate that trains"
_OPTIMUM: dict[str, Any] = {"marker": "o", "markersize": 4.5, "markerfacecolor": "none", "markeredgewidth": 0.9}
_CENSORED: dict[str, Any] = {**_OPTIMUM, "marker": ">", "markersize": 5.5}
_ARROW: dict[str, Any] = {"marker": "$\\uparrow$", "markersize": 9, "linestyle": ""}
_CROSS: dict[str, Any] = {"marker": "x", "markersize": 5, "linestyle": ""}


def loss_by_rate(points: pd.DataFrame, *, labels: Labels, algorithms: Sequence[str] | None = None) -> Figure:
    """Training loss by log2 of the learning rate, one line per width: one panel per task and algorithm.

    Args:
        points: From ``optima.sweep_points``.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the sweep in its order; None takes those of the points.

    Raises:
        ValueError: There is no run.
    """
    if points.empty:
        raise ValueError("points must hold runs, got none; run the study first")
    tasks, drawn = ordered(points["task"], labels), list(drawn_styles(points["algorithm"], algorithms, labels))
    shades = _shades(points["units"])
    panels = [(task, algorithm) for task in tasks for algorithm in drawn]
    optima = find_optima(points)
    with panel_grid(len(panels), len(drawn), (WIDTH, 0.6 + 2.3 * len(tasks)), sharey="row") as (figure, axes):
        for (task, algorithm), axis in zip(panels, axes, strict=True):
            on_task = points[points["task"] == task]
            panel = on_task[on_task["algorithm"] == algorithm]
            for units in sorted(set(panel["units"])):
                _draw_sweep(axis, panel[panel["units"] == units], shades[units])
            for units in sorted(set(panel["units"])):
                _mark_optimum(axis, optima, task, algorithm, units)
            _mark_diverged(axis, panel, shades)
            if np.isfinite(panel["loss"]).any():
                axis.set_yscale("log")
            axis.yaxis.set_minor_locator(NullLocator())
            # The interval of few seeds may be wider than all learning rates tried; a task's panels share their range.
            axis.set_xlim(on_task["exponent"].min() - 0.5, on_task["exponent"].max() + 0.5)
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            names = (labels.get(task, task), labels.get(algorithm, algorithm))
            axis.set_title("\n".join(wrapped(name, 60 // len(drawn)) for name in names), loc="left")
        for axis in axes:  # once all are drawn: a limit set before would hide lower losses of the next panel in the row
            if axis.get_yscale() == "log":
                axis.set_ylim(top=_HIGHEST_LOSS)
        label_columns(axes, len(drawn), "log2 of the learning rate")
        figure.supylabel("Training loss (nats)")
        handles = [Line2D([], [], color=color, linewidth=2.5, label=str(units)) for units, color in shades.items()]
        figure.legend(handles=handles, loc="outside right center", frameon=False, title="Units")
        marks = {"optimum, with its 95 % interval": {**_OPTIMUM, "linewidth": 1}}
        if (optima["ceiling"] > optima["exponent"]).any():
            marks[_AT_LEAST] = {**_CENSORED, "linewidth": 1}
        diverged = not np.isfinite(points["loss"]).all()
        mark_legend(figure, {**marks, "runs diverged": _CROSS} if diverged else marks)
    return figure


def optimum_by_width(optima: pd.DataFrame, *, labels: Labels, algorithms: Sequence[str] | None = None) -> Figure:
    """log2 of the best learning rate by width, all parametrizations in one panel per task.

    Args:
        optima: From ``optima.find_optima``.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the sweep in its order; None takes those of the optima.

    Raises:
        ValueError: There is no optimum.
    """
    if optima.empty:
        raise ValueError("optima must hold optima, got none; run the study first")
    tasks, styles = ordered(optima["task"], labels), drawn_styles(optima["algorithm"], algorithms, labels)
    columns = min(len(tasks), 2)
    size = (WIDTH, 0.9 + 2.0 * -(-len(tasks) // columns))
    with panel_grid(len(tasks), columns, size, sharey=True) as (figure, axes):
        for task, axis in zip(tasks, axes, strict=True):
            for algorithm, style in styles.items():
                _draw_optima(axis, optima, task, algorithm, style)
            _width_axis(axis, sorted({int(n) for n in optima.loc[optima["task"] == task, "units"]}))
            axis.set_title(wrapped(labels.get(task, task), 76 // columns), loc="left")
        label_columns(axes, columns, "Units")
        figure.supylabel("log2 of the best learning rate")
        marks: dict[str, dict[str, Any]] = {
            labels.get(name, name): {"color": style.color, "marker": style.marker, "linestyle": style.line}
            for name, style in styles.items()
        }
        if (optima["ceiling"] > optima["exponent"]).any():
            marks[_AT_LEAST] = _ARROW
        mark_legend(figure, marks)
    return figure


def coordinate_sizes(checks: Mapping[str, Sequence[NamedTuple]], modules: Mapping[str, str]) -> Figure:
    """The size of modules' outputs by width, before and after training: one panel per parametrization.

    Args:
        checks: The panels' titles and rows of ``coordinate_check``, all with the same steps.
        modules: Names of the modules to draw, and what the legend calls them.

    Raises:
        ValueError: There is no check, or a check has no row of the modules.
    """
    if not checks:
        raise ValueError("checks must hold at least one check, got none")
    frames = {name: pd.DataFrame(rows) for name, rows in checks.items()}
    for name, frame in frames.items():
        if not frame["module"].isin(modules).any():
            raise ValueError(
                f"checks must hold rows of {', '.join(modules)}, {name!r} has {sorted(set(frame['module']))}"
            )
    last = max(int(frame["step"].max()) for frame in frames.values())
    shades = dict(zip(modules, sns.color_palette("viridis", len(modules)).as_hex(), strict=True))
    with panel_grid(len(frames), len(frames), (WIDTH, 2.9), sharey="row") as (figure, axes):
        for (name, frame), axis in zip(frames.items(), axes, strict=True):
            for step, line in ((1, ":"), (last, "-")):
                for module, color in shades.items():
                    chosen = frame[(frame["step"] == step) & (frame["module"] == module)]
                    sizes = chosen.groupby("width")["size"].mean()
                    sizes = sizes[(sizes > 0) & np.isfinite(sizes)]  # an output that starts at zero has no logarithm
                    axis.plot(sizes.index, sizes, color=color, linestyle=line, marker="o")
            axis.set_yscale("log")
            _width_axis(axis, sorted(set(frame["width"])))
            axis.set_title(wrapped(name, 76 // len(frames)), loc="left")
        label_columns(axes, len(frames), "Units")
        figure.supylabel("Mean absolute output")
        marks = {words: {"color": shades[module], "marker": "o"} for module, words in modules.items()}
        mark_legend(figure, {**marks, "untrained": {"linestyle": ":"}, f"at step {last}": {"linestyle": "-"}})
    return figure


def _draw_sweep(axis: Axes, sweep: pd.DataFrame, color: str) -> None:
    finite = sweep[np.isfinite(sweep["loss"])].groupby("exponent")["loss"]
    means = finite.mean()
    axis.plot(means.index, means, color=color, marker=".")
    axis.fill_between(means.index, finite.min(), finite.max(), color=color, alpha=0.25, linewidth=0)


def _mark_diverged(axis: Axes, panel: pd.DataFrame, shades: Mapping[int, str]) -> None:
    """Crosses at the upper edge, one below another: without them a minimum next to them seems to end its sweep."""
    for exponent, runs in panel[~np.isfinite(panel["loss"])].groupby("exponent"):
        for row, units in enumerate(sorted(set(runs["units"]))):
            height = 0.96 - 0.05 * row
            axis.plot(exponent, height, color=shades[units], transform=axis.get_xaxis_transform(), **_CROSS)


def _mark_optimum(axis: Axes, optima: pd.DataFrame, task: str, algorithm: str, units: int) -> None:
    """An open circle, through which the curve and the interval stay visible; a triangle where it is censored."""
    own = optima[(optima["task"] == task) & (optima["algorithm"] == algorithm) & (optima["units"] == units)]
    loss, exponent = float(own["loss"].mean()), float(own["exponent"].mean())
    if not math.isfinite(loss):
        return
    bounds = optimum_bounds(optima, task, algorithm, units)
    if bounds is not None:
        axis.hlines(loss, bounds.low, bounds.high, color=BLACK, linewidth=1, zorder=3)
    censored = (own["ceiling"] > own["exponent"]).any()
    axis.plot(exponent, loss, color=BLACK, zorder=4, **(_CENSORED if censored else _OPTIMUM))


def _draw_optima(axis: Axes, optima: pd.DataFrame, task: str, algorithm: str, style: Style) -> None:
    own = optima[(optima["task"] == task) & (optima["algorithm"] == algorithm)]
    means = own.groupby("units")["exponent"].mean()
    axis.plot(means.index, means, color=style.color, marker=style.marker, linestyle=style.line)
    for n in widths(optima, task, algorithm):
        bounds = optimum_bounds(optima, task, algorithm, n)
        if bounds is not None:
            axis.vlines(n, bounds.low, bounds.high, color=style.color, linewidth=1.4)
    censored = own[own["ceiling"] > own["exponent"]].groupby("units")["ceiling"].max()
    axis.plot(censored.index, censored + 0.35, color=style.color, **_ARROW)


def _width_axis(axis: Axes, units: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    shown = list(units)[:: -(-len(units) // 7)]  # more numbers would touch
    axis.xaxis.set_major_locator(FixedLocator(shown))
    axis.set_xticks(shown, [str(n) for n in shown])
    axis.xaxis.set_minor_locator(NullLocator())


def _shades(units: pd.Series) -> dict[int, str]:
    """A color of the sequential map for each width, the widest one the lightest."""
    distinct = sorted({int(n) for n in units})
    return dict(zip(distinct, sns.color_palette("viridis", len(distinct)).as_hex(), strict=True))
