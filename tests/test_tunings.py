"""How much tuning matters: its scatter, the expected best of some trials, and the rules of the claims about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData
from advanced_optimizers.experiments.evidence.tunings import (
    decide_retuning,
    decide_same_outcomes,
    decide_scatter,
    decide_trial_length,
    evidence_by_tunings,
    expected_best,
    scatter,
    score,
    tuning_values,
)
from tests.experiments_helpers import make_config, make_record

TASK, RUNS = "mnist-mlp", 3
TUNINGS = ("tuning 1", "tuning 2", "tuning 3")
AGAINST_ADAM = (Comparison(TASK, "fer-adam", "adam", margin=0.002),)
LENGTHS = ("short", "full")


def frame_of(values: Mapping[tuple[str, str], Sequence[float | None]]) -> pd.DataFrame:
    """By variant and algorithm, an accuracy per seed; None is a run that diverged."""
    rows = [
        {
            "run_id": f"{variant}-{algorithm}-{seed}",
            "variant": variant,
            "task": TASK,
            "algorithm": algorithm,
            "label_noise": 0.0,
            "split": "test",
            "seed": seed,
            "status": "diverged" if value is None else "completed",
            "test_accuracy": math.nan if value is None else value,
        }
        for (variant, algorithm), own in values.items()
        for seed, value in enumerate(own)
    ]
    return pd.DataFrame(rows)


def around(center: float, count: int, spread: float = 1e-4) -> list[float]:
    """Values with this mean, evenly apart."""
    return [center + spread * (i - (count - 1) / 2) for i in range(count)]


def tuned_three_times(gains: Sequence[float], first: float | None = None) -> pd.DataFrame:
    """Adam and a method that gains this much after each tuning; by the seeds of the first one, perhaps another gain."""
    values: dict[tuple[str, str], Sequence[float | None]] = {}
    for index, (variant, gain) in enumerate(zip(TUNINGS, gains, strict=True)):
        values[variant, "adam"] = around(0.98, 5 if index == 0 else RUNS, 0.0)
        own = around(0.98 + gain, RUNS)
        if index == 0:  # the last two seeds make the mean of five
            rest = gain if first is None else (5 * first - RUNS * gain) / 2
            own += around(0.98 + rest, 2)
        values[variant, "fer-adam"] = own
    return frame_of(values)


# --- The scatter of tuning --------------------------------------------------------------------------------------------


def test_the_scatter_of_one_algorithm_is_that_of_a_one_way_analysis_of_variance() -> None:
    groups = np.random.default_rng(0).normal(size=(4, 3)) + np.arange(4)[:, None]
    found = scatter([groups.tolist()])
    f_value = stats.f_oneway(*groups).statistic
    within = float(np.mean(groups.var(axis=1, ddof=1)))
    assert found.seeds == pytest.approx(math.sqrt(within))
    assert found.tuning == pytest.approx(math.sqrt(within * (f_value - 1) / 3))
    assert found.ratio.estimate == pytest.approx(found.tuning / found.seeds)
    high = math.sqrt((f_value / stats.f.ppf(0.025, 3, 8) - 1) / 3)
    assert (found.ratio.high, found.ratio.n) == (pytest.approx(high), 4)


def test_means_that_differ_less_than_seeds_explain_show_no_scatter_of_tuning() -> None:
    found = scatter([[[0.0, 1.0], [0.5, 0.5], [0.0, 1.0]]])
    assert found.tuning == found.ratio.low == found.ratio.estimate == 0.0
    assert found.seeds == pytest.approx(math.sqrt(1 / 3))


@pytest.mark.slow
def test_the_interval_of_the_ratio_covers_the_truth_in_95_percent() -> None:
    rng, inside = np.random.default_rng(1), 0
    for _ in range(2000):
        means = rng.normal(scale=2.0, size=(5, 3, 1))
        ratio = scatter((means + rng.normal(size=(5, 3, 3))).tolist()).ratio
        inside += ratio.low <= 2.0 <= ratio.high
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("bad", [[[[1.0, 2.0]]], [[[1.0], [2.0]]], [[[1.0, 2.0], [1.0]]]])
def test_too_few_or_uneven_tunings_are_refused(bad: list[list[list[float]]]) -> None:
    with pytest.raises(ValueError, match="at least 2 tunings with the same number of runs"):
        scatter(bad)


def test_the_first_runs_of_each_tuning_count() -> None:
    frame = frame_of({("tuning 1", "adam"): [0.1, 0.2, 0.3, 0.4], ("tuning 2", "adam"): [0.5, None, 0.7]})
    assert tuning_values(frame, TASK, "adam", 3) == {"tuning 1": [0.1, 0.2, 0.3]}
    assert tuning_values(frame, TASK, "adam", 2)["tuning 2"] == [0.5, 0.7]
    assert tuning_values(pd.DataFrame(), TASK, "adam", 3) == {}


def test_by_tunings_the_mean_of_a_tuning_is_one_value() -> None:
    frame = tuned_three_times([0.001, 0.002, 0.003])
    (row,) = evidence_by_tunings(frame, AGAINST_ADAM, RUNS)
    interval = row.interval
    assert (interval.n, interval.estimate) == (3, pytest.approx(0.002))
    assert interval.half_width == pytest.approx(stats.t.ppf(0.975, 2) * 0.001 / math.sqrt(3))


@pytest.mark.parametrize(("tunings", "runs", "share"), [(1, 5, 1 / 3), (3, 3, 0.05)])
def test_one_tuning_calls_a_third_of_true_ties_different(tunings: int, runs: int, share: float) -> None:
    # The report says so: tuning and seeds scatter equally, and neither algorithm is better.
    rng, count = np.random.default_rng(5), 20_000
    sides = [rng.normal(size=(count, tunings, 1)) + rng.normal(size=(count, tunings, runs)) for _ in range(2)]
    differences = (sides[0] - sides[1]).reshape(count, runs) if tunings == 1 else (sides[0] - sides[1]).mean(axis=2)
    assert (stats.ttest_1samp(differences, 0.0, axis=1).pvalue < 0.05).mean() == pytest.approx(share, abs=0.015)


# --- The number of trials ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scores", [[0.3], [0.5, 0.1, 0.9, 0.9, 0.2], list(np.random.default_rng(2).normal(size=8))])
def test_the_expected_best_is_the_mean_over_all_choices_of_trials(scores: list[float]) -> None:
    brute = [float(np.mean([max(c) for c in combinations(scores, k)])) for k in range(1, len(scores) + 1)]
    assert expected_best(scores) == pytest.approx(brute)


def test_the_expected_best_is_that_of_20000_draws() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=12)
    draws = rng.permuted(np.tile(scores, (20_000, 1)), axis=1)
    for k, expected in enumerate(expected_best(scores.tolist()), start=1):
        assert expected == pytest.approx(draws[:, :k].max(axis=1).mean(), abs=0.03)


def test_the_expected_best_of_no_trial_is_refused() -> None:
    with pytest.raises(ValueError, match="number of scores must be >= 1"):
        expected_best([])


def test_a_diverged_trial_scores_as_guessing() -> None:
    assert score(make_record(make_config(), "diverged", test_accuracy=0.7)) == 0.1
    assert score(make_record(make_config(), test_accuracy=0.7)) == 0.7


# --- The rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gains", "first", "status"),
    [
        ([0.01, 0.0101, 0.0099], None, "supported"),  # better both ways
        ([0.01, -0.01, 0.01], None, "inconclusive"),  # the seeds of one tuning are sure, the tunings are not
        ([0.0, 0.0001, -0.0001], 0.005, "inconclusive"),  # seeds that scatter decide nothing
        ([-0.01, -0.0101, -0.0099], None, "supported"),  # worse both ways
    ],
)
def test_outcomes_by_tunings(gains: list[float], first: float | None, status: str) -> None:
    data = RunData(tuned_three_times(gains, first))
    assert decide_retuning(data, comparisons=AGAINST_ADAM, variants=TUNINGS, runs=RUNS).status == status


def test_another_outcome_by_tunings_refutes() -> None:
    frame = tuned_three_times([0.0, 0.0, 0.0])
    first = (frame["variant"] == TUNINGS[0]) & (frame["algorithm"] == "fer-adam")
    frame.loc[first, "test_accuracy"] = [0.9801, 0.9801, 0.9801, 0.9802, 0.9802]  # better, by less than the margin
    verdict = decide_retuning(RunData(frame), comparisons=AGAINST_ADAM, variants=TUNINGS, runs=RUNS)
    assert verdict.status == "not supported"
    assert "better" in verdict.sentence
    assert "equivalent" in verdict.sentence


def test_outcomes_by_tunings_wait_for_every_run() -> None:
    frame = tuned_three_times([0.01, 0.01, 0.01])
    lost = frame[frame["run_id"] != "tuning 3-fer-adam-2"]
    verdict = decide_retuning(RunData(lost), comparisons=AGAINST_ADAM, variants=TUNINGS, runs=RUNS)
    assert verdict.status == "pending"
    assert "tuning 3 (2 of 3 seeds)" in verdict.sentence
    frame.loc[frame["run_id"] == "tuning 3-fer-adam-2", "status"] = "diverged"
    verdict = decide_retuning(RunData(frame), comparisons=AGAINST_ADAM, variants=TUNINGS, runs=RUNS)
    assert verdict.status == "inconclusive"


@pytest.mark.parametrize(
    ("gains", "status"),
    [([0.0, 0.01, 0.02], "supported"), ([0.0, 0.00004, 0.00008], "inconclusive"), ([0.0, 2e-5, -2e-5], "inconclusive")],
)
def test_the_scatter_of_tuning_against_that_of_seeds(gains: list[float], status: str) -> None:
    data = RunData(tuned_three_times(gains))
    verdict = decide_scatter(data, task=TASK, algorithms=("fer-adam",), variants=TUNINGS, runs=RUNS)
    assert verdict.status == status


def test_many_algorithms_that_tuning_does_not_scatter_refute() -> None:
    names = [f"method {i}" for i in range(12)]
    rng = np.random.default_rng(4)
    frame = frame_of({(v, name): rng.normal(0.9, 0.01, RUNS).tolist() for v in TUNINGS for name in names})
    verdict = decide_scatter(RunData(frame), task=TASK, algorithms=names, variants=TUNINGS, runs=RUNS)
    assert verdict.status == "not supported"
    waiting = decide_scatter(RunData(frame), task=TASK, algorithms=["adam"], variants=TUNINGS, runs=RUNS)
    assert waiting.status == "pending"


@pytest.mark.parametrize(
    ("gap", "status"), [(0.0001, "supported"), (-0.0003, "supported"), (-0.01, "not supported"), (0.01, "supported")]
)
def test_the_choice_of_short_trials(gap: float, status: str) -> None:
    frame = frame_of({("short", "adam"): around(0.98 + gap, 5), ("full", "adam"): around(0.98, 5, 5e-4)})
    data = RunData(frame)
    assert decide_trial_length(data, task=TASK, algorithms=("adam",), variants=LENGTHS, margin=0.002).status == status


def test_the_same_choice_costs_nothing_and_is_not_corrected_for() -> None:
    same = {(length, "adam"): around(0.98, 5, 5e-4) for length in LENGTHS}
    data = RunData(frame_of(same))
    verdict = decide_trial_length(data, task=TASK, algorithms=("adam",), variants=LENGTHS, margin=0.002)
    assert (verdict.status, "1 identical" in verdict.sentence) == ("supported", True)


def test_a_choice_that_scatters_decides_nothing() -> None:
    frame = frame_of({("short", "adam"): around(0.979, 5, 4e-3), ("full", "adam"): around(0.98, 5, -4e-3)})
    data = RunData(frame)
    decide = {"task": TASK, "variants": LENGTHS, "margin": 0.002}
    assert decide_trial_length(data, algorithms=("adam",), **decide).status == "inconclusive"  # type: ignore[arg-type]
    assert decide_trial_length(data, algorithms=("sgd",), **decide).status == "pending"  # type: ignore[arg-type]


@pytest.mark.parametrize(("after", "status"), [(0.011, "supported"), (-0.011, "not supported")])
def test_outcomes_before_and_after(after: float, status: str) -> None:
    frame = frame_of(
        {
            (variant, name): around(0.98 + gain, 5, spread)
            for variant, gains in (("stated", 0.01), ("moved", after))
            for name, gain, spread in (("adam", 0.0, 0.0), ("fer-adam", gains, 1e-4))
        }
    )
    verdict = decide_same_outcomes(RunData(frame), comparisons=AGAINST_ADAM, variants=("stated", "moved"))
    assert verdict.status == status
