"""Intervals, paired tests and corrections: how the studies tell a difference from chance.

Algorithms are compared seed by seed. With the same seed, both algorithms have the same initial weights,
batches and noisy labels, so the difference per seed cancels what they share. How much that is differs: the correlation
by seed and the unpaired interval say it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy  # loads its parts when they are first used, which most processes never do

from advanced_optimizers._checks import check_range

ALPHA = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The point estimate, in the unit of the values.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of values that it is computed from.
    """

    estimate: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interval's length; the ``±`` of a symmetric interval."""
        return (self.high - self.low) / 2

    def plus_minus(self, scale: float = 1.0, digits: int = 2) -> str:
        """The interval as ``estimate ± half-width``, for a symmetric one."""
        return f"{scale * self.estimate:.{digits}f} ± {scale * self.half_width:.{digits}f}"

    def bracket(self, scale: float = 1.0, digits: int = 2, *, signed: bool = False) -> str:
        """The interval as ``estimate [low, high]``; ``signed`` writes a plus, for differences."""
        form = f"{'+' if signed else ''}.{digits}f"
        low, high = format(scale * self.low, form), format(scale * self.high, form)
        return f"{scale * self.estimate:{form}} [{low}, {high}]"


@dataclass(frozen=True)
class PairedComparison:
    """A comparison of two algorithms, paired by seed.

    Attributes:
        difference: Mean of ``treatment - baseline`` with its 95 % t-interval.
        bootstrap: The same mean with its 95 % bootstrap interval, a check that does not assume normality.
        p: Two-sided p-value of the paired t-test.
        p_wilcoxon: Two-sided p-value of Wilcoxon's signed-rank test, a check that does not assume
            normality. With 5 seeds it cannot fall below 0.0625.
        unpaired: The same mean with the 95 % interval that ignores the seeds (Welch's), for what pairing gives.
        p_unpaired: Two-sided p-value of Welch's t-test.
        correlation: Pearson's correlation of the two by seed; NaN if one of them does not vary.
        identical: Whether the two agree exactly in every seed.
    """

    difference: Interval
    bootstrap: Interval
    p: float
    p_wilcoxon: float
    unpaired: Interval
    p_unpaired: float
    correlation: float
    identical: bool

    @property
    def degrees(self) -> float:
        """The degrees of freedom of the paired t-test."""
        return self.difference.n - 1

    @property
    def spread(self) -> float:
        """The sample standard deviation of the differences by seed."""
        return self.difference.half_width * math.sqrt(n := self.difference.n) / t_quantile(0.95, n - 1)


@dataclass(frozen=True)
class UnpairedComparison:
    """A comparison of two algorithms whose values belong to no pairs.

    Attributes:
        difference: Difference of the means with its 95 % interval (Welch's); n is that of each side.
        p: Two-sided p-value of Welch's t-test.
        degrees: Its degrees of freedom, between n - 1 and 2 (n - 1); infinite if nothing varies.
        spread: Standard deviation of a difference of two values, one of each side.
    """

    difference: Interval
    p: float
    degrees: float
    spread: float


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one finite value.

    Raises:
        ValueError: There is no value, or one of them is not finite.
    """
    return float(_checked("values", values, at_least=1).mean())


def std(values: Sequence[float]) -> float:
    """Sample standard deviation (``n - 1`` in the denominator) of at least two finite values.

    Raises:
        ValueError: There are fewer than 2 values, or one of them is not finite.
    """
    return float(_checked("values", values).std(ddof=1))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's t-interval of the mean, ``mean ± t_{n-1} * std / sqrt(n)``.

    Args:
        values: At least two finite values, for example one accuracy per seed.
        confidence: Coverage, in (0, 1).

    Raises:
        ValueError: There are fewer than 2 values, one of them is not finite, or ``confidence`` lies
            outside (0, 1).
    """
    check_range("confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    data = _checked("values", values)
    center, n = float(data.mean()), data.size
    half = t_quantile(confidence, n - 1) * float(data.std(ddof=1)) / math.sqrt(n)
    return Interval(center, center - half, center + half, n)


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean. With few values it is too narrow: use it only as a check.

    Args:
        values: At least two finite values.
        confidence: Coverage, in (0, 1).
        resamples: Number of resamples, at least 1.
        seed: Seed of the resampling, so that the same values always have the same interval.

    Raises:
        ValueError: There are fewer than 2 values, one of them is not finite, ``confidence`` lies
            outside (0, 1), or ``resamples`` is below 1.
    """
    check_range("confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    check_range("resamples", resamples, 1)
    data = _checked("values", values)
    chosen = np.random.default_rng(seed).integers(data.size, size=(resamples, data.size))
    tail = (1 - confidence) / 2
    low, high = np.quantile(data[chosen].mean(axis=1), [tail, 1 - tail])
    return Interval(float(data.mean()), float(low), float(high), data.size)


def ratio_interval(pairs: Sequence[tuple[float, float]], confidence: float = 0.95) -> Interval:
    """Geometric mean of ``first / second``, with an interval from the t-interval of its logarithm.

    A ratio of 2 and one of 1/2 cancel in the logarithm, so no side is favored.

    Args:
        pairs: At least two pairs of positive numbers measured side by side, for example seconds.
        confidence: Coverage, in (0, 1).

    Raises:
        ValueError: There are fewer than 2 pairs, or a number is not positive and finite.
    """
    for pair in pairs:
        for value in pair:
            check_range("pairs", float(value), 0.0, math.inf, open_low=True, open_high=True)
    logs = mean_interval([math.log(first / second) for first, second in pairs], confidence)
    return Interval(math.exp(logs.estimate), math.exp(logs.low), math.exp(logs.high), logs.n)


def ratio_p(pairs: Sequence[tuple[float, float]], limit: float) -> float:
    """Two-sided p-value of the t-test whose interval is :func:`ratio_interval`, against a ratio of ``limit`` > 0."""
    check_range("limit", limit, 0.0, math.inf, open_low=True, open_high=True)
    return _t_test(_checked("pairs", [math.log(first / second) for first, second in pairs]) - math.log(limit))


def compare_paired(
    treatment: Mapping[int, float], baseline: Mapping[int, float], *, null: float = 0.0
) -> PairedComparison:
    """Compares two algorithms seed by seed.

    Args:
        treatment: The algorithm's value by seed.
        baseline: The other algorithm's value by seed; the same seeds.
        null: The mean difference under the null hypothesis of all tests, in the unit of the values.

    Raises:
        ValueError: The seeds differ, there are fewer than 2, or a value is not finite.
    """
    if treatment.keys() != baseline.keys():
        lonely = sorted(treatment.keys() ^ baseline.keys())
        raise ValueError(
            f"treatment and baseline must have the same seeds, got {lonely} in only one of them; "
            "run the missing seeds or compare the common ones"
        )
    seeds = sorted(treatment)
    treated = _checked("treatment", [treatment[seed] for seed in seeds])
    based = _checked("baseline", [baseline[seed] for seed in seeds])
    differences = treated - based
    welch = _welch(treated, based, null)
    return PairedComparison(
        difference=mean_interval(differences.tolist()),
        bootstrap=bootstrap_interval(differences.tolist()),
        p=_t_test(differences - null),
        p_wilcoxon=_wilcoxon(*(differences - null).tolist()),
        unpaired=welch.difference,
        p_unpaired=welch.p,
        correlation=_correlation(treated, based),
        identical=bool((differences == 0).all()),
    )


def compare_unpaired(treatment: Sequence[float], baseline: Sequence[float]) -> UnpairedComparison:
    """Compares two algorithms whose values belong to no pairs.

    Args:
        treatment: The algorithm's values.
        baseline: The other algorithm's; as many.

    Raises:
        ValueError: Their numbers differ, there are fewer than 2, or a value is not finite.
    """
    treated, based = _checked("treatment", treatment), _checked("baseline", baseline)
    if treated.size != based.size:
        raise ValueError(f"treatment and baseline must hold as many values, got {treated.size} and {based.size}")
    return _welch(treated, based, 0.0)


def holm(p_values: Sequence[float], missing: int = 0) -> list[float]:
    """Holm's step-down correction, which bounds the probability of any false finding in the family.

    The i-th smallest of m p-values is multiplied by ``m - i + 1``. A corrected value is at least as
    large as that of any smaller p-value, and at most 1. Source: Holm, Scandinavian Journal of
    Statistics, 1979.

    Args:
        p_values: The p-values of one family, each in [0, 1].
        missing: Number of its p-values that are not known yet. They count as 1, so that whatever they turn out to be,
            no corrected value grows.

    Returns:
        The corrected p-values, in the order given.

    Raises:
        ValueError: A p-value lies outside [0, 1].
    """
    for p in p_values:
        check_range("p_values", float(p), 0.0, 1.0)
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, (len(p_values) + missing - rank) * p_values[index])
        corrected[index] = min(1.0, largest)
    return corrected


def _checked(name: str, values: Sequence[float], at_least: int = 2) -> np.ndarray:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size < at_least:
        raise ValueError(f"{name} must hold at least {at_least} number(s), got {data.size}; run more seeds")
    if not np.isfinite(data).all():
        raise ValueError(f"{name} must be finite, got {data[~np.isfinite(data)][0]}")
    return data


def t_quantile(confidence: float, degrees: float) -> float:
    """The half-width of a t-interval of that coverage, in standard errors."""
    return float(scipy.special.stdtrit(degrees, (1 + confidence) / 2))  # in scipy.stats, a hundred times as slow


def t_tail(value: float, degrees: float) -> float:
    """The probability that a t-distributed number is larger."""
    return float(scipy.special.stdtr(degrees, -value))


def _t_test(differences: np.ndarray) -> float:
    """p-value of a two-sided one-sample t-test against 0."""
    error = float(differences.std(ddof=1)) / math.sqrt(differences.size)
    return _two_sided(float(differences.mean()), error, differences.size - 1)


def _two_sided(center: float, error: float, degrees: float) -> float:
    """p-value of a t-test of a center with its standard error against 0; its limit if nothing varies."""
    if error == 0:
        return 1.0 if center == 0 else 0.0
    return 2 * t_tail(abs(center / error), degrees)


def _welch(treated: np.ndarray, based: np.ndarray, null: float) -> UnpairedComparison:
    """The difference of two means with its unpaired 95 % interval, tested against ``null``.

    Source: Welch, Biometrika, 1947.
    """
    variances = np.array([treated.var(ddof=1), based.var(ddof=1)]) / treated.size
    center, error = float(treated.mean() - based.mean()), math.sqrt(float(variances.sum()))
    degrees = float((treated.size - 1) * variances.sum() ** 2 / (variances**2).sum()) if error > 0 else math.inf
    half = t_quantile(0.95, degrees) * error
    return UnpairedComparison(
        difference=Interval(center, center - half, center + half, treated.size),
        p=_two_sided(center - null, error, degrees),
        degrees=degrees,
        spread=error * math.sqrt(treated.size),
    )


def _correlation(treated: np.ndarray, based: np.ndarray) -> float:
    if treated.std() == 0 or based.std() == 0:
        return math.nan
    return float(np.corrcoef(treated, based)[0, 1])


@cache  # a table, a figure and a claim ask the same
def _wilcoxon(*differences: float) -> float:
    signed = [difference for difference in differences if difference != 0]  # an exact tie has no sign
    return float(scipy.stats.wilcoxon(signed).pvalue) if signed else 1.0  # if all tie, there is nothing to test
