"""Three outcomes and "undecided": differences, equivalence within a margin, and claims that need both."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData
from advanced_optimizers.experiments.evidence.judgments import equivalence_p, judge_within
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.evidence.statistics import PairedComparison, compare_paired, mean_interval
from advanced_optimizers.experiments.records.frames import records_frame
from tests.synthetic_runs import make_config, make_record

NOISE = [-0.001, 0.0, 0.0005, 0.001, -0.0005]


def paired(differences: list[float]) -> PairedComparison:
    return compare_paired(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))


@pytest.mark.parametrize("center", [-0.004, -0.001, 0.0, 0.0007, 0.002, 0.01])
@pytest.mark.parametrize("margin", [0.0005, 0.002, 0.005])
def test_equivalence_is_the_larger_of_two_one_sided_tests(center: float, margin: float):
    differences = [center + noise for noise in NOISE]
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    assert equivalence_p(mean_interval(differences), margin) == pytest.approx(max(above, below), rel=1e-9)


@pytest.mark.parametrize("center", np.linspace(-0.003, 0.003, 13).tolist())
def test_it_is_the_same_as_a_90_percent_interval_inside_the_margin(center: float):
    differences = [center + noise for noise in NOISE]
    inside = mean_interval(differences, confidence=0.9)
    is_inside = inside.low > -0.002 and inside.high < 0.002
    assert (equivalence_p(mean_interval(differences), 0.002) < 0.05) == is_inside


def test_without_any_spread_the_distance_decides():
    assert equivalence_p(mean_interval([0.001] * 5), 0.002) == 0.0
    assert equivalence_p(mean_interval([0.003] * 5), 0.002) == 1.0


@pytest.mark.parametrize(
    ("center", "outcome"), [(0.01, "better"), (-0.01, "worse"), (0.0, "equivalent"), (0.0018, "better")]
)
def test_a_difference_or_its_absence_is_found(center: float, outcome: str):
    (judgment,) = judge_within([paired([center + noise for noise in NOISE])], [0.002], higher_is_better=True)
    assert judgment.outcome == outcome


def test_what_is_neither_is_undecided():
    (judgment,) = judge_within([paired([-0.01, 0.012, 0.004, -0.006, 0.002])], [0.002], higher_is_better=True)
    assert judgment.outcome == "undecided"


def test_better_is_not_corrected_and_worse_is():
    # p = 0.03 alone: of four comparisons, a conjunction may use it, and a disjunction may not.
    weak = [0.001 * value for value in (1.0, 0.2, 1.5, 0.4, 1.1)]
    assert 0.0125 < paired(weak).p < 0.05
    better = judge_within([paired(weak)] * 4, [1e-5] * 4, higher_is_better=True)
    worse = judge_within([paired(weak)] * 4, [1e-5] * 4, higher_is_better=False)
    assert {judgment.outcome for judgment in better} == {"better"}
    assert {judgment.outcome for judgment in worse} == {"undecided"}


def verdict(*centers: float) -> str:
    """The verdict on a claim with one comparison for each center of the differences."""
    records = []
    tasks = ("mnist-mlp", "cifar10-jpeg-convnet")[: len(centers)]
    for task, center in zip(tasks, centers, strict=True):
        for seed, noise in enumerate(NOISE):
            records.append(make_record(make_config(task, "fer-adam", seed), 0.9 + center + noise))
            records.append(make_record(make_config(task, "adam", seed), 0.9))
    comparisons = [Comparison(task, "fer-adam", "adam", margin=0.002) for task in tasks]
    return compare_accuracy(RunData(records_frame(records)), comparisons=comparisons).status


@pytest.mark.parametrize(
    ("centers", "status"),
    [
        ((0.01, 0.01), "supported"),
        ((0.01, -0.01), "not supported"),
        ((0.01, 0.0), "not supported"),  # equivalent is not better
        ((0.0,), "not supported"),
        ((-0.01, -0.01), "not supported"),
    ],
)
def test_a_claim_of_improvement_needs_every_comparison(centers: tuple[float, ...], status: str):
    assert verdict(*centers) == status


def test_a_comparison_without_a_margin_is_never_equivalent():
    close = paired(NOISE)
    with_margin, without = judge_within([close, close], [0.002, None], higher_is_better=True)
    assert (with_margin.outcome, without.outcome) == ("equivalent", "undecided")


def test_equivalence_is_corrected_over_the_comparisons_with_a_margin():
    close = paired(NOISE)
    margin = float(stats.t.isf(0.03, 4) * stats.sem(NOISE))  # p = 0.03 alone
    outcomes = [
        {judgment.outcome for judgment in judge_within([close] * len(margins), margins, higher_is_better=True)}
        for margins in ([margin], [margin] * 4)
    ]
    assert outcomes == [{"equivalent"}, {"undecided"}]
    assert judge_within([close] * 4, [margin, None, None, None], higher_is_better=True)[0].outcome == "equivalent"


def test_where_each_comparison_is_read_by_itself_better_is_corrected_too():
    weak = paired([0.001 * value for value in (1.0, 0.2, 1.5, 0.4, 1.1)])
    needed, alone = (
        {j.outcome for j in judge_within([weak] * 4, [None] * 4, higher_is_better=True, all_needed=all_needed)}
        for all_needed in (True, False)
    )
    assert (needed, alone) == ({"better"}, {"undecided"})
