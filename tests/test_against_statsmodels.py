"""The statistics against those of another library, and the rates of false findings by simulation."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import stats

from advanced_optimizers.experiments.evidence.judgments import equivalence_p, judge_within
from advanced_optimizers.experiments.evidence.medians import sign_test
from advanced_optimizers.experiments.evidence.power import detectable, pairs_needed, t_test_power
from advanced_optimizers.experiments.evidence.statistics import PairedComparison, compare_paired, holm, mean_interval

SAMPLES = [np.random.default_rng([seed, 5]).normal([0.98, 0.979], 0.002, size=(5, 2)) for seed in range(5)]
SAMPLES += [np.random.default_rng([seed, 9]).normal([0.8, 0.81], [0.004, 0.02], size=(9, 2)) for seed in range(3)]


def compared(pair: np.ndarray, null: float = 0.0) -> PairedComparison:
    own, base = (dict(enumerate(column.tolist())) for column in pair.T)
    return compare_paired(own, base, null=null)


class TestAnotherLibrary:
    """Reads everything from statsmodels, which is part of the development extra."""

    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("statsmodels", reason="statsmodels is not installed; it is in the dev extra")

    @pytest.mark.parametrize("pair", SAMPLES)
    def test_intervals_and_paired_tests(self, pair: np.ndarray) -> None:
        from statsmodels.stats.weightstats import DescrStatsW

        theirs = DescrStatsW(pair[:, 0] - pair[:, 1])
        ours = compared(pair)
        assert (ours.difference.low, ours.difference.high) == pytest.approx(theirs.tconfint_mean(0.05))
        assert ours.p == pytest.approx(theirs.ttest_mean(0.0)[1])
        assert compared(pair, -0.005).p == pytest.approx(theirs.ttest_mean(-0.005)[1])
        assert ours.spread == pytest.approx(theirs.std_ddof(1))
        wide = mean_interval((pair[:, 0] - pair[:, 1]).tolist(), 0.99)
        assert (wide.low, wide.high) == pytest.approx(theirs.tconfint_mean(0.01))

    @pytest.mark.parametrize("pair", SAMPLES)
    def test_unpaired_intervals_and_tests(self, pair: np.ndarray) -> None:
        from statsmodels.stats.weightstats import CompareMeans

        theirs = CompareMeans.from_data(pair[:, 0], pair[:, 1])
        ours = compared(pair, 0.001)
        assert (ours.unpaired.low, ours.unpaired.high) == pytest.approx(theirs.tconfint_diff(0.05, usevar="unequal"))
        assert ours.p_unpaired == pytest.approx(theirs.ttest_ind(usevar="unequal", value=0.001)[1])

    @pytest.mark.parametrize("pair", SAMPLES)
    @pytest.mark.parametrize("margin", [0.002, 0.005, 0.02])
    def test_equivalence(self, pair: np.ndarray, margin: float) -> None:
        from statsmodels.stats.weightstats import ttost_paired

        p, _, _ = ttost_paired(pair[:, 0], pair[:, 1], -margin, margin)
        assert equivalence_p(compared(pair).difference, margin) == pytest.approx(p)

    @pytest.mark.parametrize("seed", range(10))
    def test_holm(self, seed: int) -> None:
        from statsmodels.stats.multitest import multipletests

        p_values = (np.random.default_rng(seed).random(8) ** 3).round(3)  # rounded, so that some are equal
        assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])

    @pytest.mark.parametrize("n", [5, 10, 40])
    @pytest.mark.parametrize("comparisons", [1, 8])
    def test_power_and_the_smallest_difference_found(self, n: int, comparisons: int) -> None:
        from statsmodels.stats.power import TTestPower

        alpha = 0.05 / comparisons
        for effect in (0.1, 0.5, 1.5):
            # Theirs has no value where the lower tail of the noncentral t has none.
            theirs = TTestPower().power(effect, n, alpha)
            assert np.isnan(theirs) or t_test_power(effect, n, alpha) == pytest.approx(theirs, abs=2e-4)
        found = TTestPower().solve_power(nobs=n, alpha=alpha, power=0.8)
        assert detectable(n, alpha) == pytest.approx(found, rel=1e-4)

    @pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
    def test_the_pairs_needed(self, ratio: float) -> None:
        from statsmodels.stats.power import TTestPower

        n = TTestPower().solve_power(effect_size=1 / ratio, alpha=0.05, power=0.8)
        assert pairs_needed(ratio, 1.0) == int(np.ceil(n))

    @pytest.mark.parametrize("pair", SAMPLES)
    def test_the_sign_test(self, pair: np.ndarray) -> None:
        from statsmodels.stats.descriptivestats import sign_test as theirs

        ratios = pair[:, 0] / pair[:, 1]
        assert sign_test(ratios.tolist(), 1.0) == pytest.approx(theirs(ratios, 1.0)[1])


FAMILIES, SIZE = 800, 4


@cache
def families(difference: float) -> list[list[PairedComparison]]:
    """Comparisons of two methods on five seeds, without the bootstrap, which takes most of the time."""
    pairs = np.random.default_rng(0).normal([difference, 0.0], 1.0, size=(FAMILIES, SIZE, 5, 2))
    differences = pairs[..., 0] - pairs[..., 1]
    p_values = stats.ttest_1samp(differences, 0.0, axis=-1).pvalue
    return [
        [_quick(*of_one) for of_one in zip(*of_family, strict=True)]
        for of_family in zip(differences, p_values, strict=True)
    ]


def _quick(differences: np.ndarray, p: float) -> PairedComparison:
    interval = mean_interval(differences.tolist())
    return PairedComparison(interval, interval, float(p), 1.0, interval, float(p), correlation=0.0, identical=False)


@pytest.mark.slow
class TestRates:
    """How often families of comparisons are called what they are not; 800 families of four, five seeds each."""

    def rates(self, difference: float, margin: float, outcome: str, *, all_needed: bool = True) -> tuple[float, float]:
        """The shares of families with any and with only comparisons of an outcome."""
        any_of_them = all_of_them = 0
        for family in families(difference):
            judged = judge_within(family, [margin] * SIZE, higher_is_better=True, all_needed=all_needed)
            own = [judgment.outcome == outcome for judgment in judged]
            any_of_them, all_of_them = any_of_them + any(own), all_of_them + all(own)
        return any_of_them / FAMILIES, all_of_them / FAMILIES

    def test_equal_methods_are_seldom_called_different(self) -> None:
        # "Worse" is one side of a two-sided test at 0.05, so any of the family is below 0.025, plus chance.
        assert self.rates(0.0, 0.01, "worse")[0] <= 0.025 + 0.012
        assert self.rates(0.0, 0.01, "better", all_needed=False)[0] <= 0.025 + 0.012

    def test_better_is_uncorrected_and_still_the_claim_is_seldom_supported(self) -> None:
        any_of_them, all_of_them = self.rates(0.0, 0.01, "better")
        assert any_of_them > 0.06  # each alone has 0.025: why one "better" is no finding
        assert all_of_them <= 0.005

    def test_methods_that_differ_by_the_margin_are_seldom_called_equivalent(self) -> None:
        any_of_them, _ = self.rates(1.5, 1.5, "equivalent")
        assert any_of_them <= 0.05 + 0.017
