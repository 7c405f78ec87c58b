"""How easy an algorithm is to tune: what few trials reach, which rates are good, and what one picked blindly costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from advanced_optimizers._checks import check_range
from advanced_optimizers.experiments.evidence.statistics import Interval, bootstrap_interval
from advanced_optimizers.experiments.evidence.tunings import expected_best


def expected_best_of_tunings(scores: Sequence[Sequence[float]]) -> list[Interval]:
    """The expected best of ``k`` trials, for ``k`` from 1 to all: the mean over tunings.

    The 95 % interval is a bootstrap over the tunings, since the trials of one are spread evenly and not independent.
    With one tuning there is none, and its ends are NaN.

    Args:
        scores: For each tuning, the scores of its trials; as many in each.

    Raises:
        ValueError: There is no tuning, or their numbers of trials differ.
    """
    counts = {len(own) for own in scores}
    if len(counts) != 1:
        raise ValueError(f"scores must hold tunings with the same number of trials, got {sorted(counts)}")
    by_number = zip(*(expected_best(own) for own in scores), strict=True)
    return [_over_tunings(values) for values in by_number]


def _over_tunings(values: Sequence[float]) -> Interval:
    return bootstrap_interval(values) if len(values) > 1 else Interval(values[0], math.nan, math.nan, 1)


def trials_needed(expected: Sequence[Interval], margin: float) -> int:
    """The least number of trials whose expected best is within a margin of that of all trials.

    Args:
        expected: From :func:`expected_best_of_tunings`.
        margin: In the unit of the scores, >= 0.
    """
    check_range("margin", margin, 0.0)
    last = expected[-1].estimate
    return next(k for k, value in enumerate(expected, start=1) if value.estimate >= last - margin)


@dataclass(frozen=True)
class GoodRange:
    """The rates around the best one that lose little.

    Attributes:
        low: The lowest of them.
        high: The highest.
        open_low: Whether it reaches the lowest rate that was tried, and so may begin below it.
        open_high: Whether it reaches the highest.
    """

    low: float
    high: float
    open_low: bool
    open_high: bool

    @property
    def octaves(self) -> float:
        """Its length, at least."""
        return math.log2(self.high / self.low)

    def __str__(self) -> str:
        return f"{'≥ ' if self.open_low or self.open_high else ''}{self.octaves:.1f}"


def good_range(rates: Sequence[float], scores: Sequence[float], loss: float = 0.01) -> GoodRange:
    """The contiguous rates around the best one whose scores are at most ``loss`` below its score.

    Scores are smoothed first by a running median of three neighbors: on raw ones, a single lucky trial can make the
    range empty. The two ends, which have one neighbor, are the mean with it. Between the last rate within and the first
    one without, the score is taken to be linear in the logarithm of the rate.

    Args:
        rates: The rates of all trials, > 0, in any order, at least three different ones.
        scores: The score of each; higher is better.
        loss: In the unit of the scores, >= 0; a point of accuracy by default.

    Raises:
        ValueError: The numbers of rates and scores differ, or there are too few.
    """
    check_range("loss", loss, 0.0)
    if len(rates) != len(scores) or len(set(rates)) < 3:
        raise ValueError(
            f"rates must hold at least 3 different ones, as many as scores, got {len(set(rates))} different of "
            f"{len(rates)}, and {len(scores)} scores"
        )
    order = np.argsort(rates, kind="stable")
    places = np.log2(np.asarray(rates, dtype=float)[order])
    smooth = _running_median(np.asarray(scores, dtype=float)[order])
    best = int(np.argmax(smooth))
    least = float(smooth[best]) - loss
    low, open_low = _reach(places[best::-1], smooth[best::-1], least)
    high, open_high = _reach(places[best:], smooth[best:], least)
    return GoodRange(2.0**low, 2.0**high, open_low, open_high)


def _running_median(values: np.ndarray) -> np.ndarray:
    middle = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    return np.concatenate([[values[:2].mean()], middle, [values[-2:].mean()]])


def _reach(places: np.ndarray, scores: np.ndarray, least: float) -> tuple[float, bool]:
    """How far scores from the best outward stay at or above the least, and whether to the end."""
    below = np.flatnonzero(scores < least)
    if not below.size:
        return float(places[-1]), True
    first = int(below[0])
    inside, outside = scores[first - 1], scores[first]
    share = (inside - least) / (inside - outside)
    return float(places[first - 1] + share * (places[first] - places[first - 1])), False


def rate_sensitivity(
    rates: Sequence[float], scores: Sequence[float], low: float, high: float, floor: float = 0.0
) -> float:
    """What a rate that is picked blindly from a range costs: the mean of ``best - score`` over the range.

    The mean is over the logarithm of the rate. A score below the floor counts as the floor, so that a rate at which
    runs diverge costs no more than one at which nothing is learned; between two trials the score is taken to be linear
    in the logarithm of the rate, and beyond the outermost ones constant. Source: Wortsman et al., ICLR 2024, who take
    losses and cap them at that of the initial network.

    Args:
        rates: The rates of the trials, in any order, at least one, in [low, high].
        scores: The score of each; higher is better.
        low: The lowest rate of the range, > 0.
        high: The highest.
        floor: The least score that counts, such as that of guessing.

    Returns:
        At least 0, in the unit of the scores.

    Raises:
        ValueError: There is no trial, the numbers of rates and scores differ, or a rate is outside the range.
    """
    check_range("low", low, 0.0, high, open_low=True, open_high=True)
    if not rates or len(rates) != len(scores) or min(rates) < low or max(rates) > high:
        raise ValueError(
            f"rates must hold as many rates as scores, at least one, in [{low}, {high}], got {list(rates)} and "
            f"{len(scores)} scores"
        )
    order = np.argsort(rates, kind="stable")
    places = np.log(np.concatenate([[low], np.asarray(rates, dtype=float)[order], [high]]))
    capped = np.pad(np.maximum(np.asarray(scores, dtype=float)[order], floor), 1, mode="edge")
    mean = np.trapezoid(capped, places) / (places[-1] - places[0])
    return float(capped.max() - mean)
