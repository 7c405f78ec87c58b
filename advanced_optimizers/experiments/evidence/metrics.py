"""The recorded quantities: which direction is better, and how each is printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd

from advanced_optimizers.experiments.evidence.statistics import Interval

# Display names of algorithms and tasks, in the order of rows, panels and legends.
Labels: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class Metric:
    """A recorded quantity and how to print it.

    Attributes:
        column: Its column in the frames of ``records.frames``.
        name: Its name in a sentence.
        higher_is_better: Whether a higher value is better.
        unit: Unit of a printed value.
        difference_unit: Unit of a printed difference.
        scale: What a recorded value is multiplied by for printing.
        digits: Digits after the decimal point.
        best: The best value that the scale allows, as recorded; None if there is none.
    """

    column: str
    name: str
    higher_is_better: bool
    unit: str = "%"
    difference_unit: str = "points"
    scale: float = 100.0
    digits: int = 2
    best: float | None = None

    @property
    def label(self) -> str:
        """Name and unit, for an axis or a column."""
        return f"{self.name[0].upper()}{self.name[1:]}" + (f" ({self.unit})" if self.unit else "")

    def value(self, interval: Interval) -> str:
        """A mean as text, for example ``97.10 ± 0.12 %``."""
        return f"{interval.plus_minus(self.scale, self.digits)} {self.unit}".rstrip()

    def difference(self, interval: Interval) -> str:
        """A difference as text, for example ``+0.12 [+0.05, +0.19] points``."""
        text = interval.bracket(self.scale, self.digits, signed=True)
        return f"{text} {self.difference_unit}".rstrip()

    def difference_words(self, difference: float) -> str:
        """One signed difference as text, for example ``+0.20 points``."""
        return f"{self.scale * difference:+.{self.digits}f} {self.difference_unit}".rstrip()

    def size(self, difference: float) -> str:
        """The size of a difference as text, for example ``0.20 points``."""
        return f"{self.scale * difference:.{self.digits}f} {self.difference_unit}".rstrip()


@dataclass(frozen=True)
class Curve:
    """How a recorded quantity is plotted over a run.

    Attributes:
        column: Its column in the frames.
        name: The end of the figure's file name.
        words: What the figure shows, for its caption.
        by_base: Whether methods with different base optimizers get columns of their own.
        over: What the points of a run are: the name of the horizontal axis.
        log: Whether the vertical axis is logarithmic.
    """

    column: str
    name: str
    words: str
    by_base: bool = True
    over: str = "epoch"
    log: bool = False


# Recorded by every run. Topics add what their algorithms report.
METRICS: dict[str, Metric] = {
    metric.column: metric
    for metric in (
        Metric("test_accuracy", "test accuracy", True, best=1.0),
        Metric("train_accuracy", "train accuracy", True, best=1.0),
        Metric("test_loss", "test loss", False, "nats", "nats", 1.0, 4),
        Metric("train_loss", "train loss", False, "nats", "nats", 1.0, 4),
        Metric("seconds_per_epoch", "time an epoch", False, "s", "s", 1.0, 2),
    )
}


CURVES: dict[str, Curve] = {
    curve.column: curve
    for curve in (
        Curve("test_accuracy", "learning-curves", "test accuracy by epoch"),
        Curve("cpu_seconds", "accuracy-over-time", "test accuracy by CPU time", by_base=False),
    )
}


def noise_words(label_noise: float) -> str:
    """A level of label noise, in [0, 1], in words."""
    return f"{100 * label_noise:g} % wrong labels" if label_noise else "clean labels"


def p_words(p: float) -> str:
    """A p-value as text, for example ``p = 0.012``; below 0.001 it is only bounded."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def ordered(names: Iterable[str], labels: Labels) -> list[str]:
    """The distinct names: those with a label first, in the order of the labels."""
    present = list(dict.fromkeys(names))
    return [n for n in labels if n in present] + [n for n in present if n not in labels]


def conditions(frame: pd.DataFrame, labels: Labels) -> list[tuple[str, float]]:
    """The pairs of task and label noise that the frame has runs for."""
    pairs = {(str(t), float(noise)) for t, noise in zip(frame["task"], frame["label_noise"], strict=True)}
    return [
        (task, noise)
        for task in ordered(frame["task"], labels)
        for noise in sorted({noise for name, noise in pairs if name == task})
    ]


def first_few(notes: Iterable[str], limit: int = 4, separator: str = "; ") -> str:
    """The first distinct notes in one line, and how many more there are."""
    unique = list(dict.fromkeys(notes))
    more = f"{separator}and {len(unique) - limit} more" if len(unique) > limit else ""
    return separator.join(unique[:limit]) + more
