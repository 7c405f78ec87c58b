"""Verdicts with the tuning as the unit, and how easy an algorithm is to tune, against brute force and scipy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.contests import (
    Ruling,
    accuracies,
    binomial_error,
    rule_family,
    superiority,
    unlearnt_share,
)
from advanced_optimizers.experiments.evidence.tunability import (
    expected_best_of_tunings,
    good_range,
    trials_needed,
)
from advanced_optimizers.experiments.evidence.tunings import expected_best
from advanced_optimizers.experiments.report.figures.contest_plots import forest
from advanced_optimizers.experiments.report.figures.families import Families

TASK = "mnist-mlp"
TUNINGS = ("tuning 1", "tuning 2", "tuning 3", "tuning 4")
Runs = Mapping[str, Sequence[Sequence[float | None]]]


def frame_of(runs: Runs, unlearnt: Sequence[str] = ()) -> pd.DataFrame:
    """By algorithm, the accuracies of each tuning's runs; None is a run that diverged."""
    return pd.DataFrame(
        {
            "run_id": f"{name}-{tuning}-{r}",
            "variant": TUNINGS[tuning],
            "task": TASK,
            "algorithm": name,
            "label_noise": 0.0,
            "split": "test",
            "seed": 100 * (tuning + 1) + r,
            "status": "diverged" if value is None else "completed",
            "unlearnt": value is None or name in unlearnt,
            "guessing": 0.1,
            "test_accuracy": math.nan if value is None else value,
        }
        for name, tunings in runs.items()
        for tuning, own in enumerate(tunings)
        for r, value in enumerate(own)
    )


def around(mean: float, offsets: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> list[list[float]]:
    """Three runs for each of four tunings, whose means are the mean plus the offsets."""
    return [[mean + offset - 1e-3, mean + offset, mean + offset + 1e-3] for offset in offsets]


WOBBLE = (2e-4, -1e-4, -2e-4, 1e-4)
WIDE = (6e-3, -5e-3, 2e-3, -3e-3)
RUNS: Runs = {
    "adamw": around(0.98, WOBBLE[::-1]),
    "lion": around(0.99, WOBBLE),
    "adan": around(0.97, WOBBLE),
    "adam": around(0.98, WOBBLE),
    "mars": around(0.98, WIDE),
    "soap": around(0.981, WOBBLE),
}


def rulings(runs: Runs, margin: float | None = 0.002, unlearnt: Sequence[str] = ()) -> dict[str, Ruling]:
    family = [Comparison(TASK, name, "adamw", margin=margin) for name in runs if name != "adamw"]
    return {r.comparison.algorithm: r for r in rule_family(frame_of(runs, unlearnt), family, TUNINGS)}


def corrected(p_values: Sequence[float]) -> list[float]:
    """Holm's correction, from its definition: the largest (m - j) p over all p that are not larger."""
    m, ordered = len(p_values), sorted(p_values)
    return [min(1.0, max((m - j) * q for j, q in enumerate(ordered) if q <= p)) for p in p_values]


def power(n: int, effect: float, alpha: float) -> float:
    """That of a two-sided t-test of two samples with one spread, from the noncentral t distribution."""
    degrees = 2 * (n - 1)
    critical, shift = stats.t.isf(alpha / 2, degrees), effect * math.sqrt(n)
    return float(stats.nct.sf(critical, degrees, shift) + stats.nct.cdf(-critical, degrees, shift))


def welch(own: np.ndarray, base: np.ndarray, null: float = 0.0, alternative: str = "two-sided") -> Any:
    return stats.ttest_ind(own - null, base, equal_var=False, alternative=alternative)


def test_verdicts_are_those_of_scipy_on_the_means_of_tunings() -> None:
    found = rulings(RUNS)
    means = {name: np.mean(values, axis=1) for name, values in RUNS.items()}
    names = list(found)
    different = corrected([welch(means[n], means["adamw"]).pvalue for n in names])
    equal = corrected(
        [
            max(
                welch(means[n], means["adamw"], -0.002, "greater").pvalue,
                welch(means[n], means["adamw"], 0.002, "less").pvalue,
            )
            for n in names
        ]
    )
    for name, p, p_equal in zip(names, different, equal, strict=True):
        expected = "undecided"
        if p < 0.05:
            expected = "better" if means[name].mean() > means["adamw"].mean() else "worse"
        elif p_equal < 0.05:
            expected = "equivalent"
        assert (found[name].verdict, found[name].p_holm) == (expected, pytest.approx(p))
        interval = welch(means[name], means["adamw"]).confidence_interval(0.95)
        assert (found[name].result.difference.low, found[name].result.difference.high) == pytest.approx(interval)
    assert [r.verdict for r in found.values()] == ["better", "worse", "equivalent", "undecided", "better"]


def test_words_say_that_a_difference_is_small_and_how_many_tunings_are_missing() -> None:
    found = rulings(RUNS)
    assert found["lion"].words == "better"
    assert found["soap"].words == "better by less than the margin"
    spread = found["mars"].result.spread
    n = next(n for n in range(2, 1000) if power(n, 0.002 / spread, 0.05 / 5) >= 0.8)
    assert found["mars"].words == f"undecided (would need n = {n} tunings)"


def test_without_a_margin_no_verdict_is_given() -> None:
    assert {r.words for r in rulings(RUNS, None).values()} == {"withheld"}


@pytest.mark.parametrize(
    ("margin", "explained"),
    [(0.002, ["decided", "undecided", "margin of 0.2 points"]), (None, ["withheld"])],
)
def test_the_legend_explains_the_marks_that_there_are(margin: float | None, explained: list[str]) -> None:
    families = Families({"compared": list(RUNS)}, ["adamw"])
    figure = forest(list(rulings(RUNS, margin).values()), families, labels={})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == explained
    names = [text.get_text() for axis in figure.axes for text in axis.get_yticklabels()]
    assert "Compared" not in names  # a single family needs no heading
    assert set(RUNS) - {"adamw"} <= set(names)
    plt.close(figure)


def test_rows_of_one_estimate_stay_in_the_order_of_the_study() -> None:
    tied = ["soap", "adan", "mars", "lion", "prodigy", "adopt-adam", "nadamw", "radam"]  # neither sorted nor reversed
    runs: Runs = {"adamw": around(0.98), **{name: around(0.97) for name in tied}, "adam": around(0.99)}
    figure = forest(list(rulings(runs, 0.002).values()), Families({"compared": list(runs)}, ["adamw"]), labels={})
    axis = figure.axes[0]
    heights = dict(zip((text.get_text() for text in axis.get_yticklabels()), axis.get_yticks(), strict=True))
    shown = sorted((name for name in heights if name != "adamw"), key=lambda name: -heights[name])
    assert shown[:: 1 if shown[0] == "adam" else -1] == ["adam", *tied]
    plt.close(figure)


def test_a_third_of_runs_that_learned_nothing_makes_a_verdict_invalid() -> None:
    lost: Runs = {
        "adamw": around(0.98),
        "lion": [[None, 0.98, 0.99]] * 4,
        "adan": [[None, 0.98, 0.99], *around(0.98)[1:]],
    }
    found = rulings(lost)
    assert found["lion"].words == "invalid"
    assert found["adan"].verdict != "invalid"
    assert unlearnt_share(frame_of(lost), TASK, "adan", TUNINGS) == pytest.approx(1 / 12)
    assert accuracies(frame_of(lost), TASK, "lion", TUNINGS)["tuning 1"] == [0.1, 0.98, 0.99]
    assert {r.words for r in rulings(RUNS, unlearnt=["adamw"]).values()} == {"invalid"}


def test_with_one_tuning_the_seeds_are_the_units() -> None:
    frame = frame_of({"adamw": [[0.97, 0.98, 0.99]], "lion": [[0.98, 0.98, 0.985]]})
    (ruling,) = rule_family(frame, [Comparison(TASK, "lion", "adamw", margin=0.01)], TUNINGS[:1])
    assert (ruling.result.difference.n, ruling.unit) == (3, "seeds")
    assert rule_family(frame, [Comparison(TASK, "lion", "adamw")], TUNINGS) == []  # three tunings are missing


@pytest.mark.slow
def test_one_true_tie_in_twenty_is_called_different() -> None:
    rng, false = np.random.default_rng(0), 0
    for _ in range(200):
        own, base = (0.9 + 1e-3 * (rng.normal(size=(4, 1)) + rng.normal(size=(4, 3))) for _ in range(2))
        found = rulings({"adamw": base.tolist(), "lion": own.tolist()})
        false += found["lion"].verdict in ("better", "worse")
    assert stats.binomtest(false, 200, 0.05).pvalue > 0.01


# ---- superiority and the test set -----------------------------------------------------------------------------------


def test_superiority_is_mann_and_whitneys_u() -> None:
    rng = np.random.default_rng(1)
    own, base = rng.integers(0, 5, size=(4, 3)).tolist(), rng.integers(0, 5, size=(4, 3)).tolist()
    found = superiority(own, base)
    u = stats.mannwhitneyu(np.ravel(own), np.ravel(base)).statistic
    assert (found.estimate, found.n) == (pytest.approx(u / 144), 4)
    pairs = list(product(np.ravel(own), np.ravel(base)))
    assert found.estimate == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))
    assert found.low <= found.estimate <= found.high
    assert superiority([[2.0]], [[1.0]]).estimate == 1.0


def test_the_band_of_superiority_keeps_the_runs_of_a_tuning_together() -> None:
    own, base = [[1.0] * 3, [3.0] * 3], [[2.0] * 3, [2.0] * 3]  # of two tunings, one always wins
    found = superiority(own, base)
    assert (found.low, found.estimate, found.high) == (0.0, 0.5, 1.0)


def test_another_test_set_changes_an_accuracy_by_the_binomial_error() -> None:
    assert binomial_error(0.98, 10_000) == pytest.approx(stats.binom(10_000, 0.98).std() / 10_000)
    with pytest.raises(ValueError, match="images must be >= 1, got 0"):
        binomial_error(0.9, 0)


# ---- trials and rates -----------------------------------------------------------------------------------------------


def test_the_expected_best_is_the_mean_over_tunings_with_a_band_over_them() -> None:
    scores = np.random.default_rng(2).normal(size=(4, 8)).tolist()
    found = expected_best_of_tunings(scores)
    each = np.array([expected_best(own) for own in scores])
    assert [value.estimate for value in found] == pytest.approx(each.mean(axis=0).tolist())
    assert all(low.min() <= f.low <= f.estimate <= f.high <= low.max() for f, low in zip(found, each.T, strict=True))
    assert math.isnan(expected_best_of_tunings(scores[:1])[0].low)
    assert trials_needed(found, 0.0) == 8
    assert trials_needed(found, 10.0) == 1
    with pytest.raises(ValueError, match=r"same number of trials, got \[1, 2\]"):
        expected_best_of_tunings([[1.0], [1.0, 2.0]])


RATES = [2.0**k for k in range(8)]


def test_the_good_range_is_contiguous_and_interpolated() -> None:
    scores = [0.90, 0.94, 0.97, 0.98, 0.975, 0.95, 0.90, 0.80]  # a running median keeps what is unimodal
    found = good_range(RATES, scores)
    # Smooth at 2^2..2^4: .97 .975 .97, with .95 beyond both ends: .965 is three quarters of the way inside.
    smooth = [0.92, 0.94, 0.97, 0.975, 0.975, 0.95, 0.90, 0.85]
    least = max(smooth) - 0.01
    low = 1 + (least - smooth[1]) / (smooth[2] - smooth[1])
    high = 4 + (smooth[4] - least) / (smooth[4] - smooth[5])
    assert (math.log2(found.low), math.log2(found.high)) == (pytest.approx(low), pytest.approx(high))
    assert found.octaves == pytest.approx(high - low)
    assert (found.open_low, found.open_high) == (False, False)
    shuffled = np.random.default_rng(0).permutation(8)
    assert good_range([RATES[i] for i in shuffled], [scores[i] for i in shuffled]) == found


def test_a_lucky_trial_does_not_make_the_good_range_empty() -> None:
    scores = [0.5, 0.97, 0.97, 1.0, 0.97, 0.97, 0.5, 0.5]
    assert good_range(RATES, scores).octaves > 3


def test_a_good_range_at_an_edge_is_at_least_as_long() -> None:
    found = good_range(RATES, [0.5, 0.5, 0.6, 0.9, 0.95, 0.96, 0.97, 0.975])
    assert (found.open_low, found.open_high, found.high) == (False, True, RATES[-1])
    assert str(found).startswith("≥ ")
    assert good_range(RATES, [0.9] * 8).octaves == 7.0
    with pytest.raises(ValueError, match="at least 3 different ones"):
        good_range([1.0, 1.0, 2.0], [0.1, 0.2, 0.3])
