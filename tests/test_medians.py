"""Median ratios: their intervals, their test, and the pairs that are named as disturbed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from advanced_optimizers.experiments.evidence.medians import (
    MIN_PAIRS,
    coverage,
    disturbed,
    median_interval,
    ratios,
    sign_test,
)

NINE = [1.00, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.60]


def test_ratios_are_of_each_pair() -> None:
    assert ratios([[3.0, 2.0], [1.0, 4.0]]) == [1.5, 0.25]
    with pytest.raises(ValueError, match=r"pairs must be > 0.*got 0\.0"):
        ratios([[1.0, 0.0]])


def test_the_interval_of_nine_goes_from_the_second_to_the_eighth() -> None:
    interval = median_interval(NINE[::-1])
    assert (interval.estimate, interval.low, interval.high, interval.n) == (1.04, 1.01, 1.07, 9)
    assert coverage(9) == pytest.approx(1 - 2 * (1 + 9) / 2**9)


def test_six_pairs_are_the_fewest_that_cover_often_enough() -> None:
    assert coverage(MIN_PAIRS) == pytest.approx(1 - 2 / 2**6)
    assert coverage(MIN_PAIRS) > 0.95
    assert coverage(MIN_PAIRS - 1) < 0.95
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]).low == 1.0  # all that there is, and the coverage says so


@pytest.mark.parametrize("n", [6, 9, 12, 30])
def test_the_interval_is_the_longest_list_of_medians_that_the_sign_test_keeps(n: int) -> None:
    values = np.sort(np.random.default_rng(n).normal(size=n))
    interval = median_interval(values.tolist())
    just = 1e-9
    assert sign_test(values.tolist(), interval.low - just) < 0.05 <= sign_test(values.tolist(), interval.low + just)
    assert sign_test(values.tolist(), interval.high + just) < 0.05 <= sign_test(values.tolist(), interval.high - just)


def test_the_coverage_is_exact() -> None:
    samples = np.random.default_rng(0).lognormal(size=(4000, 9))
    covered = [interval.low <= 1.0 <= interval.high for interval in map(median_interval, samples)]
    assert np.mean(covered) == pytest.approx(coverage(9), abs=0.01)


def test_the_sign_test_is_a_binomial_one() -> None:
    assert sign_test(NINE, 1.005) == pytest.approx(stats.binomtest(1, 9).pvalue)
    assert sign_test(NINE, 1.0) == pytest.approx(2 / 2**8)  # the pair at the limit has no sign
    assert sign_test([2.0] * 9, 2.0) == 1.0


def test_only_what_is_far_from_the_median_is_disturbed() -> None:
    assert disturbed(NINE) == [9]
    assert disturbed(NINE[:-1]) == []
    assert disturbed([1.0] * 9) == []


def test_the_limit_is_three_scaled_absolute_deviations() -> None:
    values = [-2.0, -1.0, 0.0, 1.0, 2.0]  # the deviations' median is 1
    assert disturbed([*values, 3 * 1.4826 - 0.01, -10.0]) == [7]
    scale = stats.median_abs_deviation(NINE, scale="normal")
    limit = float(np.median(NINE)) + 3 * scale
    assert [value > limit for value in NINE] == [False] * 8 + [True]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_bad_values_are_named(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values must hold at least 2 finite numbers"):
        median_interval(values)
