"""What a number of seeds can find."""

from __future__ import annotations

import numpy as np
import pytest

from advanced_optimizers.experiments.evidence.power import (
    POWER,
    detectable,
    pairs_needed,
    smallest_difference,
    t_test_power,
)
from advanced_optimizers.experiments.evidence.statistics import compare_paired


def test_five_pairs_find_large_differences_only() -> None:
    assert detectable(5) == pytest.approx(1.682, abs=1e-3)
    assert detectable(5, 0.05 / 8) == pytest.approx(2.976, abs=1e-3)


@pytest.mark.parametrize("n", [2, 3, 5, 20, 400])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 60])
def test_the_difference_found_has_the_power_asked_for(n: int, alpha: float) -> None:
    assert t_test_power(detectable(n, alpha), n, alpha) == pytest.approx(POWER)
    assert t_test_power(0.0, n, alpha) == pytest.approx(alpha, rel=0.02)


def test_as_many_simulated_differences_are_found() -> None:
    random = np.random.default_rng(0)
    samples = random.normal(detectable(5), 1.0, size=(4000, 5))
    t = samples.mean(axis=1) / (samples.std(axis=1, ddof=1) / np.sqrt(5))
    assert np.mean(np.abs(t) > 2.776445) == pytest.approx(POWER, abs=0.02)


def test_it_grows_with_the_spread_and_the_family() -> None:
    assert smallest_difference(0.002, 5) == pytest.approx(0.002 * detectable(5))
    assert smallest_difference(0.002, 5, comparisons=8) > 1.7 * smallest_difference(0.002, 5)
    assert smallest_difference(0.0, 5) == 0.0


@pytest.mark.parametrize("comparisons", [1, 8])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 7.5])
def test_the_pairs_needed_are_the_fewest(ratio: float, comparisons: int) -> None:
    n = pairs_needed(0.002 * ratio, 0.002, comparisons=comparisons)
    assert smallest_difference(0.002 * ratio, n, comparisons=comparisons) <= 0.002
    assert n == 2 or smallest_difference(0.002 * ratio, n - 1, comparisons=comparisons) > 0.002


def test_the_spread_of_a_comparison_is_what_it_takes() -> None:
    result = compare_paired({0: 0.98, 1: 0.99, 2: 0.97}, {0: 0.97, 1: 0.97, 2: 0.97})
    assert smallest_difference(result.spread, 3) == pytest.approx(0.01 * detectable(3))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="n must be >= 2, got 1"):
        detectable(1)
    with pytest.raises(ValueError, match="alpha must be"):
        detectable(5, 0.0)
    with pytest.raises(ValueError, match="comparisons must be >= 1, got 0"):
        smallest_difference(1.0, 5, comparisons=0)
    with pytest.raises(ValueError, match=r"margin must be > 0.*got 0\.0"):
        pairs_needed(1.0, 0.0)
    with pytest.raises(ValueError, match="margin must be within reach of 100000 pairs"):
        pairs_needed(1.0, 1e-6)
