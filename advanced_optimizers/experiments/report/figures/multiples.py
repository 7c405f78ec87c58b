"""Small multiples: a panel for each algorithm, with its name, before the anchors and all the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from advanced_optimizers.experiments.evidence.metrics import Labels
from advanced_optimizers.experiments.report.figures.families import Families
from advanced_optimizers.experiments.report.figures.panels import label_columns, mark_legend, panel_grid, percent_scale
from advanced_optimizers.experiments.report.figures.style import OTHERS, WIDTH, wrapped

_COLUMNS = 4
_TITLE_CHARACTERS = 18
_BAND = "#EFEFEF"


class Line(NamedTuple):
    """A curve of an algorithm, and the band around it, where there is one."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Trials(NamedTuple):
    """The trials of an algorithm: the rates in octaves from the middle of the range, and the scores in points.

    ``good`` is the range of rates that lose little, in octaves, and ``chosen`` are the rates that the tunings chose.
    """

    octaves: Sequence[float]
    points: Sequence[float]
    good: tuple[float, float]
    chosen: Sequence[float]


def line_multiples(
    lines: Mapping[str, Line],
    families: Families,
    *,
    labels: Labels,
    xlabel: str,
    ylabel: str,
    percent: str = "y",
    reverse: bool = False,
) -> Figure:
    """A panel for each algorithm: its curve, those of the anchors in black, and those of all others in gray.

    Args:
        lines: The curve of each algorithm.
        families: Their families, which say the color and the order.
        labels: Names for display.
        xlabel: What x is.
        ylabel: What y is.
        percent: The axes that are percentages on a logarithmic scale: any of ``x`` and ``y``.
        reverse: Whether x falls from left to right.

    Raises:
        ValueError: There is no curve.
    """
    names = families.arranged(lines)
    if not names:
        raise ValueError("lines must hold curves, got none; run the study first")

    def draw(axis: Axes, name: str) -> None:
        others = [lines[other] for other in names if other != name and other not in families.anchors]
        paths = [list(zip(line.x, line.y, strict=True)) for line in others if line.x]
        axis.add_collection(LineCollection(paths, colors=OTHERS["color"], linewidths=OTHERS["linewidth"]))
        for anchor in families.anchors:
            if anchor in names and anchor != name:
                axis.plot(lines[anchor].x, lines[anchor].y, **families.anchor_line(anchor))
        own, color = lines[name], families.color(name)
        axis.fill_between(own.x[: len(own.low)], own.low, own.high, color=color, alpha=0.2, linewidth=0)
        axis.plot(own.x, own.y, color=color, linewidth=1.8)

    def finish(axes: Sequence[Axes]) -> None:
        for which in percent:
            percent_scale(axes[0], "x" if which == "x" else "y")
        if "x" not in percent:
            axes[0].xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], integer=True))
        if "y" not in percent:
            axes[0].yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], integer=True))
        if reverse:
            axes[0].invert_xaxis()

    marks = families.marks(names, labels)
    return _panels(names, families, draw, finish, labels=labels, xlabel=xlabel, ylabel=ylabel, marks=marks)


def rate_multiples(trials: Mapping[str, Trials], families: Families, *, labels: Labels, lowest: float) -> Figure:
    """A panel for each algorithm: the score of each trial by its rate, and a band of what loses at most a point.

    Args:
        trials: The trials of each algorithm.
        families: Their families.
        labels: Names for display.
        lowest: The lowest score that is shown, in points below the best; a triangle there stands for one below it.

    Raises:
        ValueError: There is no trial.
    """
    names = families.arranged(trials)
    if not names:
        raise ValueError("trials must hold tunings, got none; run the study first")

    def draw(axis: Axes, name: str) -> None:
        own, color = trials[name], families.color(name)
        axis.axhspan(-1.0, 0.0, color=_BAND, zorder=0)
        shown = [max(points, lowest) for points in own.points]
        for marker, below in (("o", False), ("v", True)):
            some = [(x, y) for x, y, p in zip(own.octaves, shown, own.points, strict=True) if (p < lowest) == below]
            if some:
                axis.plot(*zip(*some, strict=True), linestyle="", marker=marker, markersize=3, color=color, alpha=0.7)
        axis.plot(own.good, [0.7, 0.7], color=color, linewidth=2.4, solid_capstyle="butt")
        axis.plot(own.chosen, [1.5] * len(own.chosen), linestyle="", marker="|", markersize=6, color=color)

    def finish(axes: Sequence[Axes]) -> None:
        axes[0].set_ylim(lowest - 0.5, 2.3)
        axes[0].xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
        axes[0].yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))

    marks: dict[str, Any] = {
        **families.marks(names, labels, lines=False),
        "within a point": {"linewidth": 2.4},
        "chosen": {"linestyle": "", "marker": "|", "markersize": 6},
        "lower than shown": {"linestyle": "", "marker": "v"},
    }
    xlabel, ylabel = "Rate (octaves)", "Validation accuracy, points from the best trial"
    return _panels(names, families, draw, finish, labels=labels, xlabel=xlabel, ylabel=ylabel, marks=marks)


def _panels(
    names: Sequence[str],
    families: Families,
    draw: Callable[[Axes, str], None],
    finish: Callable[[Sequence[Axes]], None],
    *,
    labels: Labels,
    xlabel: str,
    ylabel: str,
    marks: Mapping[str, Mapping[str, Any]],
) -> Figure:
    titles = [wrapped(labels.get(name, name), _TITLE_CHARACTERS) for name in names]
    columns = min(_COLUMNS, len(names))
    tall = [max(title.count("\n") + 1 for title in titles[i : i + columns]) for i in range(0, len(names), columns)]
    size = (WIDTH, 1.2 + sum(0.82 + 0.15 * lines for lines in tall))
    with panel_grid(len(names), columns, size, sharex=True, sharey=True) as (figure, axes):
        for name, title, axis in zip(names, titles, axes, strict=True):
            draw(axis, name)
            axis.set_title(title, loc="left", color=families.color(name))
        finish(axes)
        for axis in axes[-columns:]:  # a column may end above the last row
            axis.tick_params(axis="x", labelbottom=True)
        label_columns(axes, columns, xlabel)
        figure.supylabel(ylabel)
        mark_legend(figure, marks)
    return figure
