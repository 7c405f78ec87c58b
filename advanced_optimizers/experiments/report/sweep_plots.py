"""The figures of a sweep of the learning rate over the width, and that of a coordinate check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from advanced_optimizers.experiments.evidence.metrics import Labels, ordered
from advanced_optimizers.experiments.evidence.optima import find_optima, optimum_interval, widths
from advanced_optimizers.experiments.report.figure_style import (
    BLACK,
    WIDTH,
    algorithm_legend,
    caption,
    count_words,
    get_style,
    panel_grid,
)
from advanced_optimizers.zero_shot_transfer import CoordinateRow

# The lightest end of the colour map is hard to see on white.
_SHADES = (0.0, 0.88)
# Of log losses: the initial loss over ten classes, which a network that does not learn keeps, and some room above it.
_HIGHEST_LOSS = 3.0


def loss_by_rate(points: pd.DataFrame, *, labels: Labels) -> Figure:
    """Training loss by log2 of the learning rate, one line a width: a row of panels a task, a panel an algorithm.

    Args:
        points: From ``optima.sweep_points``.
        labels: Names for display, of algorithms and tasks.

    Raises:
        ValueError: There is no run.
    """
    if points.empty:
        raise ValueError("points must hold runs, got none; run the study first")
    tasks, algorithms = ordered(points["task"], labels), ordered(points["algorithm"], labels)
    shades = _shades(points["units"])
    size = (WIDTH, 1.5 + 2.3 * len(tasks))
    panels = [(task, algorithm) for task in tasks for algorithm in algorithms]
    with panel_grid(len(panels), len(algorithms), size, sharey="row") as (figure, axes):
        optima = find_optima(points)
        for index, ((task, algorithm), axis) in enumerate(zip(panels, axes, strict=True)):
            on_task = points[points["task"] == task]
            panel = on_task[on_task["algorithm"] == algorithm]
            for units in sorted(set(panel["units"])):
                _draw_sweep(axis, panel[panel["units"] == units], shades[units])
                _mark_optimum(axis, optima, task, algorithm, units, shades[units])
            _mark_diverged(axis, panel, shades)
            if np.isfinite(panel["loss"]).any():
                axis.set_yscale("log")
            axis.yaxis.set_minor_locator(NullLocator())
            # The interval of few seeds may be wider than all learning rates tried; a task's panels share their range.
            axis.set_xlim(on_task["exponent"].min() - 0.5, on_task["exponent"].max() + 0.5)
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axis.set_title(f"{labels.get(task, task)}\n{labels.get(algorithm, algorithm)}", loc="left")
            if index % len(algorithms) == 0:
                axis.set_ylabel("Training loss (nats)")
            if index + len(algorithms) >= len(panels):
                axis.set_xlabel("log2 of the learning rate")
        for axis in axes:  # once all are drawn: a limit set before would hide lower losses of the next panel in the row
            if axis.get_yscale() == "log":
                axis.set_ylim(top=_HIGHEST_LOSS)
        handles = [Line2D([], [], color=color, linewidth=2.5, label=str(units)) for units, color in shades.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(shades), frameon=False, title="Units")
        note = (
            f"Last epoch, mean and range (band) of the seeds ({count_words(_seeds(points))}). Circle: the optimum, its "
            "95 % interval as a bar. Crosses at the top: learning rates at which runs diverged."
        )
        caption(figure, "Training loss by learning rate and width", note)
    return figure


def optimum_by_width(optima: pd.DataFrame, *, labels: Labels) -> Figure:
    """log2 of the best learning rate by width, both parametrisations in a panel a task.

    Args:
        optima: From ``optima.find_optima``.
        labels: Names for display, of algorithms and tasks.

    Raises:
        ValueError: There is no optimum.
    """
    if optima.empty:
        raise ValueError("optima must hold optima, got none; run the study first")
    tasks, algorithms = ordered(optima["task"], labels), ordered(optima["algorithm"], labels)
    with panel_grid(len(tasks), min(len(tasks), 2), (WIDTH, 3.2), sharey=True) as (figure, axes):
        for index, (task, axis) in enumerate(zip(tasks, axes, strict=True)):
            for algorithm in algorithms:
                _draw_optima(axis, optima, task, algorithm)
            _width_axis(axis, widths(optima, task, algorithms[0]))
            axis.set_title(labels.get(task, task), loc="left")
            if index == 0:
                axis.set_ylabel("log2 of the best learning rate")
        algorithm_legend(figure, algorithms, labels)
        note = (
            f"Mean and 95 % interval over the seeds ({count_words(_seeds(optima))}). The learning rates tried are one "
            "octave apart; between them the optimum is read off a parabola."
        )
        caption(figure, "Best learning rate by width", note)
    return figure


def coordinate_sizes(
    checks: Mapping[str, Sequence[CoordinateRow]], modules: Mapping[str, str], *, title: str = "Coordinate check"
) -> Figure:
    """The size of modules' outputs by width, before and after training: one panel a parametrisation.

    Args:
        checks: The panels' titles and rows of ``coordinate_check``, all with the same steps.
        modules: Names of the modules to draw, and what the legend calls them.
        title: The figure's title.

    Raises:
        ValueError: There is no check, or a check has no row of the modules.
    """
    if not checks:
        raise ValueError("checks must hold at least one check, got none")
    frames = {name: pd.DataFrame(rows, columns=CoordinateRow._fields) for name, rows in checks.items()}
    for name, frame in frames.items():
        if not frame["module"].isin(modules).any():
            raise ValueError(
                f"checks must hold rows of {', '.join(modules)}, {name!r} has {sorted(set(frame['module']))}"
            )
    last = max(int(frame["step"].max()) for frame in frames.values())
    shades = dict(zip(modules, _colors(len(modules)), strict=True))
    with panel_grid(len(frames), len(frames), (WIDTH, 3.4), sharey="row") as (figure, axes):
        for (name, frame), axis in zip(frames.items(), axes, strict=True):
            for step, line in ((1, ":"), (last, "-")):
                for module, color in shades.items():
                    chosen = frame[(frame["step"] == step) & (frame["module"] == module)]
                    sizes = chosen.groupby("width")["size"].mean()
                    sizes = sizes[(sizes > 0) & np.isfinite(sizes)]  # an output that starts at zero has no logarithm
                    axis.plot(sizes.index, sizes, color=color, linestyle=line, marker="o")
            axis.set_yscale("log")
            _width_axis(axis, sorted(set(frame["width"])))
            axis.set_title(name, loc="left")
        axes[0].set_ylabel("Mean absolute output")
        handles = [Line2D([], [], color=shades[module], marker="o", label=words) for module, words in modules.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        seeds = count_words(frame["seed"].nunique() for frame in frames.values())
        note = f"Means over the seeds ({seeds}). Dotted: untrained, where not zero; solid: at step {last} on one batch."
        caption(figure, title, note)
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
            axis.plot(exponent, height, "x", color=shades[units], markersize=5, transform=axis.get_xaxis_transform())


def _mark_optimum(axis: Axes, optima: pd.DataFrame, task: str, algorithm: str, units: int, color: str) -> None:
    own = optima[(optima["task"] == task) & (optima["algorithm"] == algorithm) & (optima["units"] == units)]
    loss, exponent = float(own["loss"].mean()), float(own["exponent"].mean())
    if not math.isfinite(loss):
        return
    interval = optimum_interval(optima, task, algorithm, units)
    if interval is not None:
        axis.hlines(loss, interval.low, interval.high, color=BLACK, linewidth=1.2, zorder=3)
    axis.plot(exponent, loss, marker="o", markersize=6, color=color, markeredgecolor=BLACK, zorder=4)


def _draw_optima(axis: Axes, optima: pd.DataFrame, task: str, algorithm: str) -> None:
    style = get_style(algorithm)
    units = widths(optima, task, algorithm)
    own = optima[(optima["task"] == task) & (optima["algorithm"] == algorithm)]
    means = own.groupby("units")["exponent"].mean()
    axis.plot(means.index, means, color=style.color, marker=style.marker, linestyle=style.line, markersize=5)
    for n in units:
        interval = optimum_interval(optima, task, algorithm, n)
        if interval is not None:
            axis.vlines(n, interval.low, interval.high, color=style.color, linewidth=1.4)


def _width_axis(axis: Axes, units: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(list(units)))
    axis.set_xticks(list(units), [str(n) for n in units], rotation=45 if len(units) > 5 else 0)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("Units")


def _shades(units: pd.Series) -> dict[int, str]:
    """A colour of the sequential map for each width, the widest one the lightest."""
    distinct = sorted({int(n) for n in units})
    return dict(zip(distinct, _colors(len(distinct)), strict=True))


def _colors(count: int) -> list[str]:
    return [to_hex(plt.get_cmap("viridis")(x)) for x in np.linspace(*_SHADES, max(count, 2))[:count]]


def _seeds(frame: pd.DataFrame) -> list[int]:
    return frame.groupby(["task", "algorithm", "units"])["seed"].nunique().tolist()
