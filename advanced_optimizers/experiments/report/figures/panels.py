"""The frames of the figures: grids of panels, named rows, and legends, all in the house style."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from advanced_optimizers.experiments.evidence.metrics import Labels
from advanced_optimizers.experiments.report.figures.style import BLACK, GRAY, HOUSE_STYLE, WIDTH, Style, wrapped

_PAGE_CHARACTERS = 64
_LEGEND_CHARACTERS = 34  # of one of two entries side by side
_CHARACTERS_PER_INCH = 13
NAME_CHARACTERS = 24  # of a row's name in one line
_ABSENT = "not run"
# Percentages at which a logarithmic axis of errors is labeled.
_PERCENTAGES = (1, 2, 5, 10, 20, 50, 100)


@contextmanager
def house_figure(size: tuple[float, float]) -> Iterator[Figure]:
    """An empty figure in the house style; it is laid out before the style is left."""
    with plt.rc_context(HOUSE_STYLE):
        figure = plt.figure(figsize=size)
        try:
            yield figure
            _lay_out(figure)
            if figure.get_supylabel():
                _center_label(figure)
                _lay_out(figure)
            figure.set_layout_engine("none")  # to lay it out again would move it by some thousandths
        finally:
            plt.close(figure)  # so that a notebook shows it once, where it is returned


def _lay_out(figure: Figure) -> None:
    """Gives the panels their places, as drawing the figure would."""
    layout = figure.get_layout_engine()
    assert layout is not None, "the house style has one"
    layout.execute(figure)


def _center_label(figure: Figure) -> None:
    """Puts the figure's vertical label beside the panels; matplotlib centers it on the figure, legend included."""
    boxes = [axis.get_position() for axis in figure.axes]
    low, high = min(box.y0 for box in boxes), max(box.y1 for box in boxes)
    label, fitting = figure.get_supylabel(), int(_CHARACTERS_PER_INCH * (high - low) * figure.get_figheight())
    lines = -(-len(label) // fitting)
    characters = fitting if lines == 1 else min(fitting, len(label) // lines + 3)  # lines of about the same length
    figure.supylabel(wrapped(label, characters), y=(low + high) / 2)


@contextmanager
def panel_grid(
    count: int,
    columns: int,
    size: tuple[float, float],
    *,
    sharex: bool | Literal["col"] = False,
    sharey: bool | Literal["row", "col"] = False,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of ``count`` panels in the house style."""
    rows = -(-count // columns)
    with house_figure(size) as figure:
        grid = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
        for axis in grid.flat[count:]:
            axis.remove()
        yield figure, list(grid.flat[:count])


class Row(NamedTuple):
    """A row of a figure: its name, and whether that is the heading of the rows below."""

    name: str
    heading: bool = False


class NamedRows(NamedTuple):
    """The panels of a figure whose vertical axis lists the same names, and where each row is drawn."""

    figure: Figure
    axes: list[Axes]
    heights: list[float]


@contextmanager
def named_rows(
    count: int, rows: Sequence[Row], xlabel: str, *, most: int = 2, compact: bool = False
) -> Iterator[NamedRows]:
    """A figure of panels whose vertical axis lists the same rows from the top down.

    Args:
        count: Number of panels.
        rows: The rows.
        xlabel: What the horizontal axes show; empty if each panel says it itself.
        most: Number of panels side by side.
        compact: Whether a row is only as tall as its own name, for very many rows.
    """
    names = [wrapped(row.name, NAME_CHARACTERS) for row in rows]
    lines = [name.count("\n") + 1 for name in names]
    tallest = max(count for count, row in zip(lines, rows, strict=True) if not row.heading)
    heights = [0.08 + 0.14 * own if compact else 0.12 + 0.15 * tallest for own in lines]
    inches = [
        0.09 + 0.15 * own if row.heading else height for own, row, height in zip(lines, rows, heights, strict=True)
    ]
    centers = [sum(inches[:index]) + own / 2 for index, own in enumerate(inches)]
    columns = min(count, most)
    size = (WIDTH, 0.75 + -(-count // columns) * (0.7 + sum(inches)))
    with panel_grid(count, columns, size, sharey=True) as (figure, axes):
        for axis in axes:
            axis.set_yticks(centers, names)
            axis.set_ylim(sum(inches), 0)
            axis.tick_params(axis="y", length=0)
            axis.grid(visible=False, axis="y")
            axis.xaxis.set_major_locator(MaxNLocator(4))
            for tick, row in zip(axis.yaxis.get_major_ticks(), rows, strict=True):
                tick.label1.set_fontweight("bold" if row.heading else "normal")
        if xlabel:
            label_columns(axes, columns, xlabel)
        yield NamedRows(figure, axes, centers)


def label_columns(axes: Sequence[Axes], columns: int, xlabel: str) -> None:
    """Labels the horizontal axis of the lowest panel of each column."""
    for axis in axes[-columns:]:
        axis.set_xlabel(wrapped(xlabel, _PAGE_CHARACTERS // columns))


def mark_absence(axis: Axes, height: float | None = None) -> None:
    """Says that there are no runs: in a row, or in the middle of the panel."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    transform = axis.transAxes if height is None else axis.get_yaxis_transform()
    height = 0.5 if height is None else height
    axis.text(0.5, height, _ABSENT, transform=transform, ha="center", va="center", color=GRAY, bbox=box)


def algorithm_legend(figure: Figure, styles: Mapping[str, Style], labels: Labels) -> None:
    """One legend for all panels, below them."""
    names = {name: wrapped(labels.get(name, name), _LEGEND_CHARACTERS) for name in styles}
    handles = [
        Line2D([], [], color=style.color, marker=style.marker, linestyle=style.line, label=names[name])
        for name, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def mark_legend(figure: Figure, marks: Mapping[str, Mapping[str, Any]]) -> None:
    """A legend of what marks mean, below the panels.

    Args:
        figure: The figure.
        marks: By what it means, how a mark differs from a black line.
    """
    handles = [
        Line2D([], [], **{"color": BLACK, **mark}, label=wrapped(words, _LEGEND_CHARACTERS))
        for words, mark in marks.items()
    ]
    columns = len(handles) if sum(len(words) + 6 for words in marks) <= 80 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def percent_scale(axis: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis of percentages, labeled at round ones."""
    (axis.set_xscale if which == "x" else axis.set_yscale)("log")
    own = axis.xaxis if which == "x" else axis.yaxis
    low, high = axis.get_xlim() if which == "x" else axis.get_ylim()
    shown: list[float] = [p for p in _PERCENTAGES if min(low, high) <= p <= max(low, high)]
    if len(shown) < 2:  # a narrow range has its own round numbers
        shown = [float(p) for p in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)]
    own.set_major_locator(FixedLocator(shown))
    own.set_minor_locator(NullLocator())
    own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    (axis.set_xlim if which == "x" else axis.set_ylim)(low, high)
