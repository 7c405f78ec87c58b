"""Figures of a comparison against anchors with a row for each algorithm: the verdicts, and what changes cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from advanced_optimizers.experiments.evidence.contests import Ruling
from advanced_optimizers.experiments.evidence.metrics import Labels
from advanced_optimizers.experiments.evidence.statistics import Interval
from advanced_optimizers.experiments.report.figures.families import Families
from advanced_optimizers.experiments.report.figures.panels import Row, mark_legend, named_rows
from advanced_optimizers.experiments.report.figures.style import BLACK, GRAY, wrapped

_BAND = "#E4E4E4"
# Differences of more margins than this are drawn at the panel's edge, with their value.
SHOWN_MARGINS = 6
_OPEN = ("undecided", "withheld", "invalid")
_MARKERS = "osD^v"


def forest(rulings: Sequence[Ruling], families: Families, *, labels: Labels) -> Figure:
    """The difference of each algorithm to each anchor: a panel per anchor, a row per algorithm, and the verdict.

    Rows are sorted by the estimate within their families, which is the same order in each panel.

    Args:
        rulings: The rulings on one task.
        families: The families of the algorithms.
        labels: Names for display.

    Raises:
        ValueError: There is no ruling, or they are on several tasks.
    """
    tasks = {ruling.comparison.task for ruling in rulings}
    if len(tasks) != 1:
        raise ValueError(f"rulings must be on one task, got {sorted(tasks)}; run the study first")
    found = {(r.comparison.baseline, r.comparison.algorithm): r for r in rulings}
    anchors = [anchor for anchor in families.anchors if any(anchor == base for base, _ in found)]
    estimates = {name: r.result.difference.estimate for (base, name), r in found.items() if base == anchors[0]}
    names = dict.fromkeys(name for _, name in found)  # ties stay in their order, which that of a set is not
    ranked = sorted(names, key=lambda name: -estimates.get(name, 0.0))
    rows = _rows(families, ranked, labels)
    margin = max((r.comparison.margin or 0.0 for r in rulings), default=0.0)
    xlabel = "Difference in test accuracy (points)"
    with named_rows(len(anchors), [row for row, _ in rows], xlabel, compact=True) as drawn:
        for anchor, axis in zip(anchors, drawn.axes, strict=True):
            if margin:
                axis.axvspan(-100 * margin, 100 * margin, color=_BAND, linewidth=0, zorder=0)
            axis.axvline(0.0, color=BLACK, linewidth=1)
            _limit(axis, [r for (base, _), r in found.items() if base == anchor], margin)
            for (_, name), y in zip(rows, drawn.heights, strict=True):
                if name == anchor:
                    axis.text(0.0, y, "the anchor", ha="center", va="center", color=GRAY, backgroundcolor="white")
                elif (anchor, name) in found:
                    _draw_ruling(axis, y, found[anchor, name], families.color(name))
            axis.set_title(wrapped(f"against {labels.get(anchor, anchor)}", 30), loc="left")
        marks = _marks({ruling.verdict for ruling in rulings})
        if margin:
            unit = "point" if margin == 0.01 else "points"
            marks[f"margin of {100 * margin:g} {unit}"] = {"color": _BAND, "linewidth": 6}
        mark_legend(drawn.figure, marks)
    return drawn.figure


def _marks(verdicts: set[str]) -> dict[str, Any]:
    """What the legend explains: a full mark is a decision, an empty one is none."""
    full: dict[str, Any] = {"linestyle": "", "marker": "o"}
    empty = ", ".join(verdict for verdict in _OPEN if verdict in verdicts)
    marks = {"decided": full} if verdicts - set(_OPEN) else {}
    return marks | ({empty: {**full, "markerfacecolor": "white"}} if empty else {})


def _rows(families: Families, names: Sequence[str], labels: Labels) -> list[tuple[Row, str]]:
    """The rows by family, below headings if there are several; with each row the algorithm, none for a heading."""
    rows: list[tuple[Row, str]] = []
    present = families.present(names)
    for group, members in present.items():
        if len(present) > 1:
            rows.append((Row(group[:1].upper() + group[1:], heading=True), ""))
        rows += [(Row(labels.get(name, name)), name) for name in members]
    return rows


def _limit(axis: Axes, rulings: Sequence[Ruling], margin: float) -> None:
    ends = [100 * end for r in rulings for end in (r.result.difference.low, r.result.difference.high)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    if margin:
        most = 100 * SHOWN_MARGINS * margin
        low, high = max(-most, min(low, -150 * margin)), min(most, max(high, 150 * margin))
    room = 0.05 * (high - low)
    axis.set_xlim(low - room, high + room)
    axis.xaxis.set_major_locator(MaxNLocator(3))


def _draw_ruling(axis: Axes, y: float, ruling: Ruling, color: str) -> None:
    difference = ruling.result.difference
    low, high = axis.get_xlim()
    estimate = 100 * difference.estimate
    face = "white" if ruling.verdict in _OPEN else color
    if low <= estimate <= high:
        axis.hlines(y, max(low, 100 * difference.low), min(high, 100 * difference.high), color=color, linewidth=1.6)
        axis.plot(estimate, y, marker="o", markersize=5, color=color, markerfacecolor=face, markeredgewidth=1.3)
    else:
        edge, side = (low, "left") if estimate < low else (high, "right")
        marker = "<" if estimate < low else ">"
        axis.plot(edge, y, marker=marker, markersize=6, color=color, markerfacecolor=face, clip_on=False)
        axis.text(edge, y, f"   {estimate:+.1f}   ", ha=side, va="center", color=color)
    words: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "ha": "left", "va": "center"}
    axis.text(1.03, y, short_words(ruling), color=GRAY if ruling.verdict in _OPEN else BLACK, **words)


def short_words(ruling: Ruling) -> str:
    """The verdict in at most two words: with the number of tunings that an undecided one would need."""
    if ruling.needed is not None:
        return f"undecided ({ruling.needed})"
    return "small " + ruling.verdict if ruling.words.endswith("by less than the margin") else ruling.verdict


@dataclass(frozen=True)
class Change:
    """One panel of the figure of robustness.

    Attributes:
        title: What was changed.
        xlabel: What the horizontal axis shows.
        values: By what the legend calls it, the value of each algorithm in points; several share the panel.
    """

    title: str
    xlabel: str
    values: Mapping[str, Mapping[str, Interval]]


def robustness(changes: Sequence[Change], families: Families, *, labels: Labels) -> Figure:
    """What a change of the setting does to each algorithm: a panel per kind of change, a row per algorithm.

    Args:
        changes: The panels, at least one of which has values.
        families: The families of the algorithms, which say the color and the order.
        labels: Names for display.

    Raises:
        ValueError: There is no value.
    """
    names = families.arranged(name for change in changes for own in change.values.values() for name in own)
    if not names:
        raise ValueError("changes must hold values, got none; run the study first")
    rows = _rows(families, names, labels)
    marks: dict[str, Any] = {}
    with named_rows(len(changes), [row for row, _ in rows], "", most=3, compact=True) as drawn:
        for change, axis in zip(changes, drawn.axes, strict=True):
            axis.axvline(0.0, color=BLACK, linewidth=0.8)
            for index, (words, values) in enumerate(change.values.items()):
                look = {"marker": _MARKERS[len(marks)], "markersize": 4.5, "linestyle": ""}
                offset = 0.07 * (index - (len(change.values) - 1) / 2)
                for (_, name), y in zip(rows, drawn.heights, strict=True):
                    if name in values:
                        _draw_change(axis, y + offset, values[name], families.color(name), look, hollow=index > 0)
                marks[words] = {**look, **({"markerfacecolor": "white"} if index else {})}
            axis.set_title(wrapped(change.title, 22), loc="left")
            axis.set_xlabel(wrapped(change.xlabel, 20))
            axis.xaxis.set_major_locator(MaxNLocator(3))
        mark_legend(drawn.figure, marks)
    return drawn.figure


def _draw_change(axis: Axes, y: float, value: Interval, color: str, look: Mapping[str, Any], *, hollow: bool) -> None:
    axis.hlines(y, value.low, value.high, color=color, linewidth=1.1)
    axis.plot(value.estimate, y, color=color, markerfacecolor="white" if hollow else color, **look)
