"""All verdicts at a glance: a row for each topic, a mark and a few words for each of its claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from advanced_optimizers.experiments.evidence.comparisons import Status
from advanced_optimizers.experiments.report.figures.panels import house_figure
from advanced_optimizers.experiments.report.figures.style import GRAY, GREEN, VERMILLION, WIDTH, wrapped

# The claim in a few words, its verdict, and who claims it.
ShortClaim: TypeAlias = tuple[str, Status, str]


class _Mark(NamedTuple):
    """A disk and what is drawn on it: the shape alone tells the verdict, without its color."""

    color: str
    symbol: Any = None
    stroke: Mapping[str, Any] = {}
    hollow: bool = False


_LINES = {"markerfacecolor": "none", "markeredgewidth": 1.5}
_TICK = Path([(-0.5, -0.05), (-0.12, -0.42), (0.52, 0.42)])
_MARKS: dict[Status, _Mark] = {
    "supported": _Mark(GREEN, _TICK, _LINES),
    "not supported": _Mark(VERMILLION, "x", _LINES),
    "inconclusive": _Mark(GRAY, "$?$", {"markeredgewidth": 0.3}),
    "pending": _Mark(GRAY, hollow=True),
}

# Inches.
_LINE, _GAP, _MARGIN = 0.172, 0.09, 0.08
_MARK = 0.2  # from the left end of a claim to its words
_BETWEEN = 0.14  # columns, at least
_MOST_COLUMNS = 3
_FONT_SIZE = 8.5
_TITLE_CHARACTERS = 14


def verdicts(topics: Mapping[str, Sequence[ShortClaim]]) -> Figure:
    """The verdict on every claim, by topic.

    The claims stand in as many columns as they leave room for, at most three.

    Args:
        topics: By topic: claims in a few words (up to about 30 characters), verdict, source (in a word or two, or
            empty). The order is kept.

    Raises:
        ValueError: There is no claim, a verdict is unknown, or a claim is longer than a line.
    """
    claims = [claim for own in topics.values() for claim in own]
    if not claims:
        raise ValueError("topics must hold at least one claim, got none")
    for words, status, _ in claims:
        if status not in _MARKS:
            raise ValueError(f"the verdict of {words!r} must be one of {', '.join(_MARKS)}, got {status!r}")
    titles = {topic: wrapped(topic, _TITLE_CHARACTERS).split("\n") for topic, own in topics.items() if own}
    left = _MARGIN + max(_inches(line, "bold") for title in titles.values() for line in title) + _BETWEEN
    columns = _columns(topics, left)
    lines = {topic: max(-(-len(topics[topic]) // len(columns)), len(title)) for topic, title in titles.items()}
    height = sum(_LINE * count + _GAP for count in lines.values()) + _LINE + _GAP
    with house_figure((WIDTH, height)) as figure:
        figure.set_layout_engine("none")
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        axis.axis("off")
        top = _GAP / 2
        for topic, title in titles.items():
            for index, line in enumerate(title):
                _write(axis, _MARGIN, top + _LINE * (index + 0.5), line, fontweight="bold")
            for index, claim in enumerate(topics[topic]):
                row, column = divmod(index, len(columns))
                _draw_claim(axis, columns[column], top + _LINE * (row + 0.5), claim)
            top += _LINE * lines[topic] + _GAP
            axis.axhline(top - _GAP / 2, color="#DDDDDD", linewidth=0.8)
        _draw_legend(axis, left, top + _LINE / 2, Counter(status for _, status, _ in claims))
    return figure


def _columns(topics: Mapping[str, Sequence[ShortClaim]], left: float) -> list[float]:
    """Where each column of claims starts: as many columns as there is room for.

    Raises:
        ValueError: There is no room for one.
    """
    for count in range(_MOST_COLUMNS, 0, -1):
        inches = [0.0] * count
        for claims in topics.values():
            for index, (words, _, source) in enumerate(claims):
                own = _MARK + _inches(f"{words}  {source}" if source else words)
                inches[index % count] = max(inches[index % count], own)
        slack = WIDTH - _MARGIN - left - sum(inches)
        if slack >= _BETWEEN * (count - 1):
            between = max(slack / count, _BETWEEN)
            return [left + sum(inches[:index]) + index * between for index in range(count)]
    longest = max((words for claims in topics.values() for words, _, _ in claims), key=len)
    raise ValueError(f"a claim must fit a line next to the topics' titles, got {longest!r}")


def _draw_claim(axis: Axes, x: float, y: float, claim: ShortClaim) -> None:
    words, status, source = claim
    _draw_mark(axis, x, y, status)
    _write(axis, x + _MARK, y, words)
    if source:
        _write(axis, x + _MARK + _inches(f"{words}  "), y, source, color=GRAY)


def _draw_legend(axis: Axes, x: float, y: float, counts: Mapping[Status, int]) -> None:
    for status in _MARKS:
        if counts[status]:
            words = f"{counts[status]} {status}"
            _draw_mark(axis, x, y, status)
            _write(axis, x + _MARK, y, words)
            x += _MARK + _inches(words) + 2 * _BETWEEN


def _draw_mark(axis: Axes, x: float, y: float, status: Status) -> None:
    mark, x = _MARKS[status], x + 0.07
    face = "white" if mark.hollow else mark.color
    axis.plot(x, y, "o", markersize=9.5, markerfacecolor=face, markeredgecolor=mark.color, markeredgewidth=1)
    if mark.symbol:
        axis.plot(x, y, marker=mark.symbol, markersize=4.6, color="white", **mark.stroke)


def _write(axis: Axes, x: float, y: float, words: str, **style: Any) -> None:
    axis.text(x, y, words, fontsize=_FONT_SIZE, va="center_baseline", **style)


def _inches(words: str, weight: str = "normal") -> float:
    """The width of a line of text."""
    font = FontProperties(family="DejaVu Sans", weight=weight)  # the house style's font
    # Blanks at the end have an extent only where a letter follows.
    whole, bar = (TextPath((0, 0), text, size=_FONT_SIZE, prop=font).get_extents().x1 for text in (f"{words}|", "|"))
    return float(whole - bar) / 72
