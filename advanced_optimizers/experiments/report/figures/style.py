"""The house style of the figures: fonts, colors, and how an algorithm is drawn.

The fonts and the palette for color-blind readers are seaborn's. How an algorithm looks follows from its role, which the
table of algorithms knows, and from its place in its study. No algorithm is named here:

- A baseline is black or gray. Its line (solid, dashed, ...) says which base optimizer it is.
- A method has a hue, and the line of its baseline. The first methods over each baseline share the first hue, and so on.
- A control has a muted hue and a dotted line.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import seaborn as sns
from matplotlib.colors import to_hex
from matplotlib.typing import LineStyleType

from advanced_optimizers.experiments.evidence.metrics import Labels, noise_words, ordered
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

WIDTH = 6.5  # inches, the report's text width
DPI = 150
FONT_SIZE = 9
# Up to this many algorithms share a panel of curves; of more, each has a row of its own.
MAX_LINES = 5

BLACK, GRAY, LIGHT_GRAY = "#000000", "#666666", "#C8C8C8"
# How the curves of the other algorithms are drawn, behind that of a row or panel.
OTHERS: dict[str, Any] = {"color": LIGHT_GRAY, "linewidth": 0.8}
_NO_BREAK = "\u00a0"
_PALETTE = sns.color_palette("colorblind")
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, TAN, SKY = (to_hex(_PALETTE[i]) for i in (0, 1, 2, 3, 4, 5, 9))

HOUSE_STYLE: Any = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    # matplotlib brings this font along: the same letters, and the same bytes, on every machine.
    "font.sans-serif": ["DejaVu Sans"],
    **{
        f"{part}size": FONT_SIZE
        for part in (
            *("font.", "axes.title", "axes.label", "xtick.label", "ytick.label"),
            *("legend.font", "legend.title_font", "figure.title", "figure.label"),
        )
    },
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "figure.dpi": DPI,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
}


class Style(NamedTuple):
    """How an algorithm is drawn."""

    color: str
    marker: str
    line: LineStyleType


class _Role(NamedTuple):
    """What a role's algorithms are drawn with; no two roles share a marker."""

    colors: tuple[str, ...]
    markers: str
    lines: tuple[LineStyleType, ...]


_BASE_LINES: tuple[LineStyleType, ...] = ("-", "--", "-.", (0, (6, 1, 1, 1, 1, 1)))
_HUES = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, TAN)
_BASELINES = _Role((BLACK, "#555555", "#8A8A8A"), "osDp", _BASE_LINES)
_METHODS = _Role(_HUES, "^v<>dh", _BASE_LINES)
_CONTROLS = _Role(tuple(to_hex(sns.desaturate(hue, 0.35)) for hue in _HUES), "XP*H8", (":", (0, (1, 2.5))))


def arrange(algorithms: Iterable[str]) -> list[str]:
    """Each baseline with what is compared with it below; otherwise the order stays."""
    names = list(dict.fromkeys(algorithms))
    return [
        name
        for base in dict.fromkeys(group_of(name) for name in names)
        for name in sorted((name for name in names if group_of(name) == base), key=lambda name: name != base)
    ]


def make_styles(algorithms: Iterable[str]) -> dict[str, Style]:
    """How each algorithm of a study is drawn, by name; in the order in which figures list them.

    No two share color, marker and line. An algorithm that is not in the table of algorithms is a method.

    Args:
        algorithms: All algorithms of the study, so that each looks the same in all of its figures.
    """
    styles: dict[str, Style] = {}
    roles: Counter[_Role] = Counter()
    places: Counter[tuple[_Role, str]] = Counter()
    arranged = arrange(algorithms)
    bases = list(dict.fromkeys(group_of(name) for name in arranged if name in ALGORITHMS))
    for name in arranged:
        role, base = _role(name), group_of(name)
        color = roles[role] if role is _BASELINES else places[role, base]
        line = bases.index(base) if base and role is not _CONTROLS else 0
        choices = itertools.product(
            _from(role.lines, line), _from(role.colors, color), _from(role.markers, roles[role])
        )
        taken = set(styles.values())
        combinations = [Style(color, marker, line) for line, color, marker in choices]
        styles[name] = next((style for style in combinations if style not in taken), combinations[0])
        roles[role] += 1
        places[role, base] += 1
    return styles


def drawn_styles(present: Iterable[str], algorithms: Sequence[str] | None, labels: Labels) -> dict[str, Style]:
    """The styles of the algorithms that a figure shows, in its order.

    Args:
        present: The algorithms that it shows.
        algorithms: All algorithms of the study in its order; None takes those that are shown, in the labels' order.
        labels: Names for display.
    """
    shown = set(present)
    styles = make_styles([*(algorithms or ()), *ordered(sorted(shown), labels)])
    return {name: style for name, style in styles.items() if name in shown}


def group_of(algorithm: str) -> str:
    """The baseline that an algorithm is drawn with: a baseline itself; nothing for one that the table lacks."""
    row = ALGORITHMS.get(algorithm)
    return "" if row is None else row.baseline or algorithm


def condition_words(conditions: Sequence[tuple[str, float]], labels: Labels) -> list[tuple[str, str]]:
    """Titles for panels of task and label noise, in two parts; the second is empty where no panel has noise."""
    noisy = any(noise for _, noise in conditions)
    return [(labels.get(task, task), noise_words(noise) if noisy else "") for task, noise in conditions]


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most ``width`` characters; a number stays with the word before it."""
    lines = textwrap.wrap(re.sub(r" (?=\d)", _NO_BREAK, text), width, break_on_hyphens=False)
    return "\n".join(lines).replace(_NO_BREAK, " ")


def _role(name: str) -> _Role:
    row = ALGORITHMS.get(name)
    if row is None:
        return _METHODS
    if row.control:
        return _CONTROLS
    return _METHODS if row.baseline else _BASELINES


def _from(items: Sequence[Any], start: int) -> Iterator[Any]:
    """The items from one of them on, around to the one before it."""
    return (items[(start + step) % len(items)] for step in range(len(items)))
