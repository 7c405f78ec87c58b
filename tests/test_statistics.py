from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from advanced_optimizers.experiments.evidence.judgments import judge_within
from advanced_optimizers.experiments.evidence.statistics import (
    Interval,
    bootstrap_interval,
    compare_paired,
    holm,
    mean,
    mean_interval,
    ratio_interval,
    ratio_p,
    std,
)

TREATMENT = {0: 0.981, 1: 0.979, 2: 0.984, 3: 0.980, 4: 0.983}
BASELINE = {0: 0.978, 1: 0.979, 2: 0.980, 3: 0.976, 4: 0.981}


def shifted(by: float) -> dict[int, float]:
    return {seed: value + by for seed, value in BASELINE.items()}


def test_mean_and_std_by_hand() -> None:
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert std([1.0, 2.0, 6.0]) == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert mean([7.0]) == 7.0


def test_mean_interval_by_hand() -> None:
    # t(0.975, 4) = 2.776445, std = sqrt(2.5), so the half-width is 2.776445 * sqrt(2.5 / 5).
    interval = mean_interval([1, 2, 3, 4, 5])
    assert interval.estimate == 3.0
    assert interval.half_width == pytest.approx(1.963243, abs=1e-6)
    assert (interval.low, interval.high) == pytest.approx((1.036757, 4.963243), abs=1e-6)
    assert interval.n == 5


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_mean_interval_is_that_of_scipy(confidence: float) -> None:
    values = [0.3, 0.1, 0.4, 0.15]
    interval = mean_interval(values, confidence)
    expected = stats.t.interval(confidence, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)


def test_t_interval_covers_the_mean_as_often_as_it_says() -> None:
    samples = np.random.default_rng(0).normal(10.0, 2.0, size=(2000, 5))
    covered = [i.low <= 10.0 <= i.high for i in map(mean_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_bootstrap_is_repeatable_and_close_to_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(size=200).tolist()
    first, second = bootstrap_interval(values), bootstrap_interval(values)
    assert first == second
    normal = 1.96 * np.std(values) / math.sqrt(200)
    assert first.half_width == pytest.approx(normal, rel=0.05)
    assert first.estimate == pytest.approx(np.mean(values))
    assert bootstrap_interval(values, seed=1) != first


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(2).normal(size=30)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval
    ours = bootstrap_interval(values.tolist())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_ratio_interval_by_hand() -> None:
    interval = ratio_interval([(2.0, 1.0), (1.0, 2.0)])
    half = 12.706205 * math.sqrt(2) * math.log(2) / math.sqrt(2)  # t(0.975, 1) * std / sqrt(2)
    assert interval.estimate == pytest.approx(1.0)
    assert math.log(interval.high) == pytest.approx(half, rel=1e-6)
    assert interval.low == pytest.approx(1 / interval.high)


def test_paired_comparison_is_that_of_scipy() -> None:
    result = compare_paired(TREATMENT, BASELINE)
    t_test = stats.ttest_rel(list(TREATMENT.values()), list(BASELINE.values()))
    assert result.p == pytest.approx(t_test.pvalue)
    interval = t_test.confidence_interval(0.95)
    assert (result.difference.low, result.difference.high) == pytest.approx((interval.low, interval.high))
    assert result.difference.estimate == pytest.approx(0.0026)
    # One seed ties exactly, and the other four are all positive: exact two-sided p = 2 / 2^4.
    assert result.p_wilcoxon == pytest.approx(0.125)
    assert result.bootstrap.estimate == pytest.approx(0.0026)
    assert not result.identical


def test_pairing_is_by_seed_and_not_by_order() -> None:
    reordered = dict(reversed(TREATMENT.items()))
    assert compare_paired(reordered, BASELINE) == compare_paired(TREATMENT, BASELINE)


def test_pairing_removes_what_the_seeds_share() -> None:
    luck = {seed: 10.0 * seed for seed in range(5)}
    treatment = {seed: luck[seed] + 0.1 + 0.001 * seed for seed in luck}
    assert compare_paired(treatment, luck).p < 1e-4
    assert stats.ttest_ind(list(treatment.values()), list(luck.values())).pvalue > 0.9


def test_wilcoxon_cannot_reach_five_percent_with_five_seeds() -> None:
    assert compare_paired({s: float(s) + 1 for s in range(5)}, dict.fromkeys(range(5), 0.0)).p_wilcoxon == 0.0625


def test_null_moves_the_tests_and_not_the_interval() -> None:
    plain, moved = compare_paired(TREATMENT, BASELINE), compare_paired(TREATMENT, BASELINE, null=0.0026)
    assert moved.difference == plain.difference
    assert moved.p == pytest.approx(1.0)
    expected = stats.ttest_1samp([TREATMENT[s] - BASELINE[s] for s in BASELINE], 0.001).pvalue
    assert compare_paired(TREATMENT, BASELINE, null=0.001).p == pytest.approx(expected)


def test_comparison_without_any_spread() -> None:
    same = compare_paired(BASELINE, dict(BASELINE))
    assert (same.p, same.p_wilcoxon, same.identical) == (1.0, 1.0, True)
    ones, zeros = dict.fromkeys(range(5), 1.0), dict.fromkeys(range(5), 0.0)
    constant = compare_paired(ones, zeros)
    assert constant.p == 0.0
    assert constant.difference == Interval(1.0, 1.0, 1.0, 5)
    assert not constant.identical


def test_holm_by_hand() -> None:
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1 raised to the value before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_value_and_bonferroni(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, p_holm in zip(p_values, corrected, strict=True):
        assert p <= p_holm <= min(1.0, len(p_values) * p) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-1, 1), min_size=5, max_size=5, unique=True), min_size=1, max_size=4))
def test_what_no_test_finds_has_an_interval_with_zero_at_the_corrected_level(differences: list[list[float]]) -> None:
    zeros = dict.fromkeys(range(5), 0.0)
    family = [compare_paired(dict(enumerate(d)), zeros) for d in differences]
    judgments = judge_within(family, [None] * len(family), higher_is_better=True, all_needed=False)
    for values, comparison, judged in zip(differences, family, judgments, strict=True):
        if abs(judged.p_holm - 0.05) < 1e-6 or comparison.p < 1e-9:
            continue  # at the edge, rounding decides
        interval = mean_interval(values, 1 - 0.05 * comparison.p / judged.p_holm)
        assert (interval.low <= 0 <= interval.high) == (judged.outcome == "undecided")


def test_a_p_value_at_the_level_is_undecided() -> None:
    comparison = compare_paired(TREATMENT, BASELINE)
    at, above = (
        judge_within([comparison], [None], higher_is_better=True, alpha=comparison.p + extra) for extra in (0.0, 1e-9)
    )
    assert (at[0].outcome, above[0].outcome) == ("undecided", "better")


def test_the_direction_of_the_metric_says_which_is_better() -> None:
    higher, lower = (
        judge_within([compare_paired(shifted(0.01), BASELINE)], [None], higher_is_better=higher)[0].outcome
        for higher in (True, False)
    )
    assert (higher, lower) == ("better", "worse")


def test_the_correlation_by_seed_and_the_unpaired_interval_show_what_pairing_gives() -> None:
    luck = {seed: 0.1 * seed for seed in range(5)}
    result = compare_paired({seed: value + 0.001 * seed for seed, value in luck.items()}, luck)
    assert result.correlation == pytest.approx(1.0)
    assert result.unpaired.half_width > 50 * result.difference.half_width
    assert result.unpaired.estimate == pytest.approx(result.difference.estimate)
    assert result.p_unpaired > 0.9 > 0.05 > result.p
    assert math.isnan(compare_paired(luck, dict.fromkeys(luck, 1.0)).correlation)


def test_the_spread_is_that_of_the_differences() -> None:
    differences = [TREATMENT[seed] - BASELINE[seed] for seed in BASELINE]
    assert compare_paired(TREATMENT, BASELINE).spread == pytest.approx(std(differences))


def test_a_ratio_is_tested_on_its_logarithm() -> None:
    pairs = [(1.0, 1.1), (2.0, 2.5), (0.9, 1.0), (3.0, 3.3)]
    logs = [math.log(first / second) for first, second in pairs]
    assert ratio_p(pairs, 0.95) == pytest.approx(stats.ttest_1samp(logs, math.log(0.95)).pvalue)
    assert ratio_p([(2.0, 1.0)] * 5, 2.0) == 1.0
    assert ratio_p([(2.0, 1.0)] * 5, 1.9) == 0.0


def test_intervals_print() -> None:
    interval = Interval(0.0123, 0.0100, 0.0146, 5)
    assert interval.plus_minus(100) == "1.23 ± 0.23"
    assert interval.bracket(100, signed=True) == "+1.23 [+1.00, +1.46]"
    assert interval.bracket(digits=3) == "0.012 [0.010, 0.015]"


@pytest.mark.parametrize("values", [[], [1.0]])
def test_one_value_has_no_interval(values: list[float]) -> None:
    for function in (mean_interval, bootstrap_interval, std):
        with pytest.raises(ValueError, match="values must hold at least 2"):
            function(values)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="values must be finite, got nan"):
        mean_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="values must hold at least 1"):
        mean([])
    with pytest.raises(ValueError, match=r"confidence must be .* got 1.0"):
        mean_interval([1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match="resamples must be >= 1, got 0"):
        bootstrap_interval([1.0, 2.0], resamples=0)
    with pytest.raises(ValueError, match=r"pairs must be .* got 0.0"):
        ratio_interval([(1.0, 0.0), (1.0, 1.0)])
    with pytest.raises(ValueError, match=r"p_values must be .* got 1.5"):
        holm([1.5])
    with pytest.raises(ValueError, match=r"same seeds, got \[4, 9\] in only one"):
        compare_paired(BASELINE, {**{s: 0.0 for s in range(4)}, 9: 0.0})
    with pytest.raises(ValueError, match="treatment must hold at least 2"):
        compare_paired({0: 1.0}, {0: 1.0})
    with pytest.raises(ValueError, match="treatment must be finite"):
        compare_paired({**BASELINE, 0: math.inf}, BASELINE)
