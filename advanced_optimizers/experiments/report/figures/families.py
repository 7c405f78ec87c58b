"""How a comparison of very many algorithms is drawn: a color for each family, and the anchors in black.

Thirty colors cannot be told apart. Here an algorithm has a row or a panel with its name, and its color says which
family it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.typing import LineStyleType

from advanced_optimizers.experiments.report.figures.style import BLACK, BLUE, GREEN, OTHERS, PURPLE, VERMILLION

_HUES = (BLUE, VERMILLION, GREEN, PURPLE)
_ANCHOR_LINES: tuple[LineStyleType, ...] = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Families:
    """The families of a comparison's algorithms.

    Attributes:
        groups: By the family's name, its algorithms, at most four families.
        anchors: The algorithms that all others are compared with, at most four.
    """

    groups: Mapping[str, Sequence[str]]
    anchors: Sequence[str]

    def color(self, algorithm: str) -> str:
        """Black for an anchor, and for one that is in no family; otherwise the family's hue."""
        hues = dict(zip(self.groups, _HUES, strict=False))
        families = [group for group, members in self.groups.items() if algorithm in members]
        return hues[families[0]] if families and algorithm not in self.anchors else BLACK

    def anchor_line(self, anchor: str) -> dict[str, Any]:
        """How an anchor's curve is drawn in the panel of another algorithm."""
        return {"color": BLACK, "linewidth": 0.9, "linestyle": _ANCHOR_LINES[list(self.anchors).index(anchor)]}

    def present(self, algorithms: Iterable[str]) -> dict[str, list[str]]:
        """The families of which algorithms are present, with those, in the order in which they are given."""
        names = list(dict.fromkeys(algorithms))
        found = {group: [name for name in names if name in members] for group, members in self.groups.items()}
        return {group: members for group, members in found.items() if members}

    def arranged(self, algorithms: Iterable[str]) -> list[str]:
        """The algorithms, family by family, in the order of each family."""
        names = set(algorithms)
        return [name for members in self.groups.values() for name in members if name in names]

    def marks(self, algorithms: Sequence[str], labels: Mapping[str, str], *, lines: bool = True) -> dict[str, Any]:
        """What a legend says: the families, and, if curves are drawn, the anchors and the others."""
        mark: dict[str, Any] = {"linewidth": 1.6} if lines else {"linestyle": "", "marker": "o"}
        found = {
            group: {**mark, "color": self.color(own)}
            for group, members in self.present(algorithms).items()
            for own in [name for name in members if name not in self.anchors][:1]
        }
        if not lines:
            return found
        anchors = {labels.get(name, name): self.anchor_line(name) for name in self.anchors if name in algorithms}
        return {**found, **anchors, "all others": OTHERS}
