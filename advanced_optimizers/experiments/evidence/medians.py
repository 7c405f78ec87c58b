"""Ratios of times: their median, its interval, its test, and which pairs were disturbed.

Seconds are disturbed in one direction and seldom: another process takes the core for a while. A median of ratios does
not follow a few such pairs. Its interval and its test need no distribution, only independent pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy  # loads its parts when they are first used, which most processes never do

from advanced_optimizers._checks import check_range
from advanced_optimizers.experiments.evidence.statistics import Interval

# Below 6 pairs, even the interval from the smallest to the largest ratio covers the median less often than 95 %.
MIN_PAIRS = 6
# A pair is called disturbed beyond this many scaled median absolute deviations from the median.
DEVIATIONS = 3.0
# Makes the median absolute deviation of normal values their standard deviation.
_SCALE = 1.4826


def ratios(pairs: Sequence[Sequence[float]]) -> list[float]:
    """``first / second`` of each pair.

    Raises:
        ValueError: A number is not positive and finite.
    """
    for pair in pairs:
        for value in pair:
            check_range("pairs", float(value), 0.0, math.inf, open_low=True, open_high=True)
    return [first / second for first, second in pairs]


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median, from the k-th smallest to the k-th largest value, with the largest k that still covers it.

    The coverage is exact for continuous values: it is the probability that at least k of n values lie on either side
    of the median (:func:`coverage`). With fewer than 6 values it stays below 95 % even for the whole range.
    Source: Thompson, Annals of Mathematical Statistics, 1936.

    Args:
        values: At least two finite values.
        confidence: Least coverage, in (0, 1).

    Raises:
        ValueError: There are fewer than two values, one is not finite, or ``confidence`` is outside its range.
    """
    data = np.sort(np.asarray(values, dtype=np.float64))
    if data.size < 2 or not np.isfinite(data).all():
        raise ValueError(f"values must hold at least 2 finite numbers, got {list(values)}; measure more pairs")
    k = _rank(data.size, confidence)
    return Interval(float(np.median(data)), float(data[k - 1]), float(data[-k]), data.size)


def coverage(n: int, confidence: float = 0.95) -> float:
    """The exact probability with which :func:`median_interval` covers the median of n values, n >= 2."""
    return 1.0 - 2.0 * _at_most(_rank(n, confidence) - 1, n)


def sign_test(values: Sequence[float], null: float) -> float:
    """Two-sided p-value of the sign test that the median is ``null``; the test that belongs to the interval."""
    above, below = (sum(value > null for value in values), sum(value < null for value in values))
    if above + below == 0:
        return 1.0
    return float(scipy.stats.binomtest(min(above, below), above + below, 0.5).pvalue)


def disturbed(values: Sequence[float]) -> list[int]:
    """The places, counted from 1, of the values beyond ``DEVIATIONS`` scaled absolute deviations from the median.

    They are named, not left out: few as they are, the median does not follow them.
    """
    data = np.asarray(values, dtype=np.float64)
    distances = np.abs(data - np.median(data))
    limit = DEVIATIONS * _SCALE * float(np.median(distances))
    return [index + 1 for index, distance in enumerate(distances) if limit > 0 and distance > limit]


def _rank(n: int, confidence: float) -> int:
    """The largest k whose interval, from the k-th smallest to the k-th largest of n values, covers the median."""
    check_range("n", n, 2)
    check_range("confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    tail = (1.0 - confidence) / 2
    return max(1, sum(_at_most(k - 1, n) <= tail for k in range(1, n // 2 + 1)))


def _at_most(heads: int, tosses: int) -> float:
    """The exact probability of at most so many heads."""
    return sum(math.comb(tosses, k) for k in range(heads + 1)) / 2**tosses
