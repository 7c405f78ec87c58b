"""What a number of seeds can find: the smallest difference, and the seeds that a margin would take."""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np
import scipy  # loads its parts when they are first used, which most processes never do

from advanced_optimizers._checks import check_range
from advanced_optimizers.experiments.evidence.statistics import ALPHA, t_quantile

POWER = 0.8
_MOST = 10_000_000
_QUANTILES = 4000


@cache
def detectable(n: int, alpha: float = ALPHA, power: float = POWER, *, paired: bool = True) -> float:
    """The smallest mean difference that a t-test finds, in standard deviations of the differences.

    The test is two-sided. With 5 pairs, it finds a difference of 1.7 standard deviations with a probability of 0.8, and
    at the first step of Holm's correction over 8 comparisons, ``alpha / 8``, one of 3.

    Args:
        n: Number of pairs, at least 2.
        alpha: Level of the test, in (0, 1).
        paired: See :func:`t_test_power`.
        power: Probability of finding the difference, in (alpha, 1).

    Raises:
        ValueError: An argument is outside its range.
    """
    check_range("n", n, 2)
    check_range("alpha", alpha, 0.0, 1.0, open_low=True, open_high=True)
    check_range("power", power, alpha, 1.0, open_low=True, open_high=True)
    high = 1.0
    while t_test_power(high, n, alpha, paired=paired) < power:
        high *= 2
    return float(scipy.optimize.brentq(lambda effect: t_test_power(effect, n, alpha, paired=paired) - power, 0.0, high))


def t_test_power(effect: float, n: int, alpha: float = ALPHA, *, paired: bool = True) -> float:
    """The probability that a two-sided t-test finds a difference of ``effect`` standard deviations.

    It is that of a noncentral t beyond the critical values. Given the sample's standard deviation, which is a chi
    variable over the root of its degrees of freedom, the probability is a normal one; the mean is taken over its
    quantiles, since the library's noncentral t has no value for many tails. Source: Cohen, Statistical Power Analysis
    for the Behavioral Sciences, 1988, chapter 2.

    Args:
        effect: The mean difference over the standard deviation of the differences.
        n: Number of pairs, at least 2.
        alpha: Level of the test, in (0, 1).
        paired: Whether the test is on the n differences; otherwise on n values of each of two samples with one
            spread, which has twice the degrees of freedom.
    """
    degrees = (1 if paired else 2) * (n - 1)
    critical = t_quantile(1 - alpha, degrees) * _sample_spreads(degrees)
    shift = effect * math.sqrt(n)
    return float((scipy.special.ndtr(shift - critical) + scipy.special.ndtr(-shift - critical)).mean())


@cache
def _sample_spreads(degrees: int) -> np.ndarray:
    """Evenly spaced quantiles of the standard deviation of normal values, in units of the true one."""
    return scipy.stats.chi.ppf((np.arange(_QUANTILES) + 0.5) / _QUANTILES, degrees) / math.sqrt(degrees)


def smallest_difference(spread: float, n: int, *, comparisons: int = 1, paired: bool = True) -> float:
    """The smallest mean difference that n pairs find with a probability of 0.8, in the unit of ``spread``.

    Args:
        spread: Standard deviation of the differences, at least 0; usually an estimate from as many pairs.
        n: Number of pairs, at least 2.
        comparisons: Number of comparisons that Holm's correction is over. Its first step is assumed, the strictest.
        paired: See :func:`t_test_power`.
    """
    check_range("spread", spread, 0.0, math.inf, open_high=True)
    check_range("comparisons", comparisons, 1)
    return spread * detectable(n, ALPHA / comparisons, paired=paired)


def pairs_needed(spread: float, margin: float, *, comparisons: int = 1, paired: bool = True) -> int:
    """The smallest n whose :func:`smallest_difference` is at most ``margin``.

    Args:
        spread: Standard deviation of the differences, at least 0.
        margin: The difference that must be found, > 0, in the same unit.
        comparisons: Number of comparisons that Holm's correction is over.
        paired: See :func:`t_test_power`.

    Raises:
        ValueError: An argument is outside its range, or more than ten million pairs would be needed.
    """
    check_range("margin", margin, 0.0, math.inf, open_low=True, open_high=True)
    check_range("spread", spread, 0.0, math.inf, open_high=True)
    check_range("comparisons", comparisons, 1)
    effect = margin / spread if spread else math.inf
    power_with = partial(t_test_power, effect, alpha=ALPHA / comparisons, paired=paired)
    low, high = 1, 2
    while power_with(high) < POWER:
        low, high = high, 2 * high
        if low > _MOST:
            raise ValueError(f"margin must be within reach of {_MOST} pairs, got {margin} for a spread of {spread}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power_with(middle) < POWER else (low, middle)
    return high
