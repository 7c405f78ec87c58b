"""The house style of the figures: colours, markers, fonts, the grid of panels, captions and legends.

The colours are those of Okabe and Ito, which stay apart for colour-blind readers. An algorithm looks the same
everywhere: its colour says the method, its line the base optimizer, and in a study its marker is its own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import LineStyleType

from advanced_optimizers.experiments.evidence.metrics import Labels

WIDTH = 6.5  # inches, the report's text width
DPI = 150

BLACK, ORANGE, GREEN, VERMILLION = "#000000", "#E69F00", "#009E73", "#D55E00"
SKY, BLUE, PURPLE = "#56B4E9", "#0072B2", "#CC79A7"
GRAY = "#666666"


class Style(NamedTuple):
    """How an algorithm is drawn."""

    color: str
    marker: str
    line: LineStyleType


STYLES: dict[str, Style] = {
    "sgd": Style(BLACK, "o", "-"),
    "adam": Style(BLACK, "s", "--"),
    "fer-sgd": Style(ORANGE, "^", "-"),
    "fer-adam": Style(ORANGE, "v", "--"),
    "flipping-sgd": Style(GREEN, "D", "-"),
    "flipping-adam": Style(GREEN, "h", "--"),
    "correction": Style(BLUE, "^", "--"),
    "correction-hidden": Style(PURPLE, "v", "--"),
    "adam-longer": Style(VERMILLION, "p", ":"),
    "adam-longest": Style(ORANGE, "P", ":"),
    "adam-wider": Style(GREEN, "X", ":"),
    "sigprop": Style(BLUE, "P", "--"),
    "readout": Style(VERMILLION, "p", ":"),
    "localized-static": Style(SKY, "<", "-"),
    "localized-static-half": Style(BLUE, "P", "-"),
    "localized-static-two": Style(GREEN, "^", "-"),
    "localized-dynamic": Style(PURPLE, ">", "-"),
    "localized-frozen": Style(VERMILLION, "X", ":"),
    "localized-frozen-half": Style(GREEN, "D", ":"),
    "localized-frozen-two": Style(VERMILLION, "v", ":"),
    "localized-random": Style(ORANGE, "*", ":"),
    "standard-sgd": Style(VERMILLION, "d", "--"),
    "mup-sgd": Style(BLUE, "H", "-"),
}

HOUSE_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
}


def get_style(algorithm: str) -> Style:
    """How an algorithm is drawn, the same in every figure.

    Raises:
        ValueError: The algorithm has no row in ``STYLES``.
    """
    if algorithm not in STYLES:
        raise ValueError(f"algorithm must have a row in figure_style.STYLES, got {algorithm!r}; give it a style there")
    return STYLES[algorithm]


@contextmanager
def panel_grid(
    count: int, columns: int, size: tuple[float, float], *, sharey: bool | Literal["row"]
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of ``count`` panels in the house style; it is laid out before the style is left."""
    rows = -(-count // columns)
    with plt.rc_context(HOUSE_STYLE):
        figure, grid = plt.subplots(rows, columns, figsize=size, sharey=sharey, squeeze=False)
        for axis in grid.flat[count:]:
            axis.remove()
        try:
            yield figure, list(grid.flat[:count])
            figure.draw_without_rendering()
        finally:
            plt.close(figure)  # so that a notebook shows it once, where it is returned


@contextmanager
def named_rows(count: int, names: Sequence[str]) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of ``count`` panels, two a line, whose vertical axis lists the same names from the top down."""
    wraps = [wrapped(name, 24) for name in names]
    row_height = 0.12 + 0.15 * max(text.count("\n") + 1 for text in wraps)
    columns = min(count, 2)
    size = (WIDTH, 0.7 + -(-count // columns) * (0.85 + row_height * len(names)))
    with panel_grid(count, columns, size, sharey=True) as (figure, axes):
        for axis in axes:
            axis.set_yticks(range(len(names)), wraps)
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.tick_params(axis="y", length=0)
            axis.grid(visible=False, axis="y")
            axis.xaxis.set_major_locator(MaxNLocator(4))
        yield figure, axes


def algorithm_legend(figure: Figure, algorithms: Sequence[str], labels: Labels) -> None:
    """One legend for all panels, below them."""
    handles = [
        Line2D([], [], color=style.color, marker=style.marker, linestyle=style.line, label=labels.get(name, name))
        for name, style in ((name, get_style(name)) for name in algorithms)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def caption(figure: Figure, title: str, note: str) -> None:
    """The title, and under it what the marks and bands mean."""
    figure.suptitle(f"{title[0].upper()}{title[1:]}\n{wrapped(note, 92)}")


def count_words(counts: Iterable[int]) -> str:
    """One n, or the smallest and the largest."""
    low, high = min(known := list(counts)), max(known)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most ``width`` characters."""
    return "\n".join(textwrap.wrap(text, width))
