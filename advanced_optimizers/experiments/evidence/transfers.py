"""What it costs to tune a narrow network and train a wide one once, instead of tuning the wide one, and what it loses.

Every seed is a trial of the whole procedure: the learning rate with the lowest training loss at the narrow width is
used at the wide one. The rates are whole octaves, the same grid on both sides.

The ratio of the times says little on its own: with k rates tried it is 1 / k, plus k times the ratio of a narrow run to
a wide one. Whether the rate is any good at the wide width is in the ratio of the losses, which is at least 1 for every
seed, since the transferred rate is one of those that the wide network was tuned over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import pandas as pd

from advanced_optimizers.experiments.evidence.optima import whole_octaves
from advanced_optimizers.experiments.evidence.statistics import Interval, ratio_interval

# "unclear": the interval has values on both sides of the limit.
Side: TypeAlias = Literal["within", "beyond", "unclear"]


class Transfer(NamedTuple):
    """One narrow and one wide width; each list has one entry per seed.

    Attributes:
        units: The narrow width.
        target: The wide width.
        rates: How many learning rates are tried: as many as at the base width, on both sides.
        exponents: log2 of the rate that is best at the narrow width.
        seconds: CPU seconds of (tuning narrow and training wide once, tuning wide).
        losses: The wide network's loss (at the transferred rate, at the best rate); infinite if that run diverged.
    """

    units: int
    target: int
    rates: int
    exponents: list[float]
    seconds: list[tuple[float, float]]
    losses: list[tuple[float, float]]

    @property
    def time_ratio(self) -> Interval:
        """The ratio of the seconds, geometric mean over the seeds with its interval."""
        return ratio_interval(self.seconds)

    @property
    def diverged(self) -> int:
        """How many seeds diverge at the transferred rate."""
        return sum(math.isinf(loss) for loss, _ in self.losses)

    @property
    def loss_ratio(self) -> Interval | None:
        """The ratio of the losses as above; None if a transferred run diverged."""
        return None if self.diverged else ratio_interval(self.losses)

    def judge_loss(self, factor: float) -> Side:
        """Whether the transferred rate's loss is at most ``factor`` times the best one; beyond if a run diverges."""
        ratio = self.loss_ratio
        return "beyond" if ratio is None else judge_ratio(ratio, factor)

    @property
    def loss_words(self) -> str:
        """The ratio of the losses, or how many runs diverged."""
        ratio = self.loss_ratio
        return f"diverged ({self.diverged} of {len(self.losses)})" if ratio is None else ratio.bracket()


def judge_ratio(ratio: Interval, limit: float) -> Side:
    """On which side of a limit a ratio's interval lies."""
    return "within" if ratio.high <= limit else "beyond" if ratio.low > limit else "unclear"


def find_transfer(points: pd.DataFrame, task: str, algorithm: str, units: int) -> Transfer | None:
    """The transfer from one width to the greatest one.

    Args:
        points: From ``optima.sweep_points``.
        task: The task.
        algorithm: The algorithm.
        units: The narrow width.

    Returns:
        The transfer, or None if fewer than two seeds have all its runs: the rate that is best at the narrow width may
        not have been tried at the wide one.
    """
    own = whole_octaves(points[(points["task"] == task) & (points["algorithm"] == algorithm)])
    target = int(own["units"].max()) if not own.empty else 0
    if units >= target:
        return None
    rates = int(own[own["units"] == own["units"].min()]["exponent"].nunique())
    losses = own.set_index(["units", "seed", "exponent"])["loss"].sort_index()
    # The median is that of a run of full length on the machine of most runs; a diverged one is short.
    seconds = own.groupby(["units", "seed"])["seconds"].median()
    found: list[tuple[float, tuple[float, float], tuple[float, float]]] = []
    for seed in sorted(set(own[own["units"] == units]["seed"]) & set(own[own["units"] == target]["seed"])):
        chosen = float(losses[units, seed].idxmin())
        wide, once = losses[target, seed], float(seconds[target, seed])
        if chosen in wide:
            times = (rates * float(seconds[units, seed]) + once, rates * once)
            found.append((chosen, times, (float(wide[chosen]), float(wide.min()))))
    if len(found) < 2:
        return None
    exponents, times_by_seed, losses_by_seed = (list(column) for column in zip(*found, strict=True))
    return Transfer(units, target, rates, exponents, times_by_seed, losses_by_seed)


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive numbers; infinite if one of them is."""
    return math.exp(sum(map(math.log, values)) / len(values))
