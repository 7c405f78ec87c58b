"""Chains of ratios: a product of means with its interval, and the claim that an algorithm is the fastest of all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from advanced_optimizers.experiments.evidence.chains import chained_ratio, compare_fastest
from advanced_optimizers.experiments.evidence.comparisons import RunData, Verdict
from advanced_optimizers.experiments.report.results.study_results import StudyResults
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study

TASK = "cifar10-jpeg-convnet"
SPREAD = (0.99, 1.0, 1.01, 0.995, 1.005, 1.0)


def row(algorithm: str, baseline: str, ratio: float, seconds: float = 10.0, task: str = TASK) -> dict[str, Any]:
    """Pairs of an algorithm and its base whose ratio scatters by a percent; the base always takes as long."""
    pairs = [[seconds * ratio * share, seconds] for share in SPREAD]
    return {"task": task, "algorithm": algorithm, "baseline": baseline, "pairs": pairs}


def decide(rows: Sequence[dict[str, Any]], others: Sequence[str]) -> Verdict:
    data = RunData(pd.DataFrame(), {"measurements": [], "epoch_overhead": list(rows)})
    return compare_fastest(data, task=TASK, algorithm="localized-static", others=others)


class TestChainedRatio:
    def test_one_link_is_the_t_interval_of_the_logarithm(self) -> None:
        values = [0.8, 0.85, 0.78, 0.82, 0.81]
        logs = np.log(values)
        low, high = stats.t.interval(0.95, 4, logs.mean(), stats.sem(logs))
        found, p = chained_ratio([(1, values)])
        assert p == pytest.approx(stats.ttest_1samp(logs, 0.0).pvalue)
        assert (found.estimate, found.low, found.high) == pytest.approx(tuple(np.exp([logs.mean(), low, high])))
        assert found.n == 5

    def test_two_links_are_welchs_interval(self) -> None:
        first, second = [0.8, 0.85, 0.78, 0.82, 0.81], [1.2, 1.5, 1.1, 1.3, 1.25, 1.4]
        test = stats.ttest_ind(np.log(first), np.log(second), equal_var=False)
        welch = test.confidence_interval(0.95)
        found, p = chained_ratio([(1, first), (-1, second)])
        assert p == pytest.approx(test.pvalue)
        assert (found.low, found.high) == pytest.approx((math.exp(welch.low), math.exp(welch.high)))

    def test_links_multiply_and_their_inverses_divide(self) -> None:
        found, _ = chained_ratio([(1, [2.0, 2.0]), (1, [3.0, 3.0]), (-1, [4.0, 4.0])])
        assert (found.estimate, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))

    def test_the_interval_covers_as_often_as_it_says(self) -> None:
        rng = np.random.default_rng(0)
        hits = 0
        for _ in range(1000):
            links = [(power, np.exp(rng.normal(0.1, sd, n)).tolist()) for power, sd, n in ((1, 0.02, 9), (-1, 0.1, 5))]
            found = chained_ratio(links).ratio
            hits += found.low <= 1.0 <= found.high
        assert 930 <= hits <= 970


class TestFastest:
    def test_directly_against_the_own_base(self) -> None:
        verdict = decide([row("localized-static", "sgd", 0.8)], ["sgd"])
        assert verdict.status == "supported"
        assert verdict.evidence[0].interval.estimate == pytest.approx(0.8, rel=1e-3)

    def test_over_the_same_base(self) -> None:
        verdict = decide([row("localized-static", "sgd", 1.2), row("fer-sgd", "sgd", 1.5)], ["fer-sgd"])
        assert verdict.evidence[0].interval.estimate == pytest.approx(0.8, rel=1e-3)
        assert decide([row("localized-static", "sgd", 1.5), row("fer-sgd", "sgd", 1.2)], ["fer-sgd"]).status == (
            "not supported"
        )

    def test_over_another_base(self) -> None:
        rows = [
            row("localized-static", "sgd", 0.9, seconds=10.0),
            row("fer-sgd", "sgd", 1.0, seconds=10.1),
            row("fer-adam", "adam", 1.1, seconds=12.0),
            row("correction", "adam", 1.3, seconds=12.1),
        ]
        verdict = decide(rows, ["adam", "fer-adam", "correction"])
        found = {e.comparison.baseline: e.interval.estimate for e in verdict.evidence}
        base = math.sqrt(10.0 * 10.1) / math.sqrt(12.0 * 12.1)
        assert found == pytest.approx(
            {"adam": 0.9 * base, "fer-adam": 0.9 * base / 1.1, "correction": 0.9 * base / 1.3}, rel=1e-3
        )
        assert verdict.status == "supported"

    def test_bases_whose_times_scatter_decide_nothing(self) -> None:
        rows = [
            row("localized-static", "sgd", 0.9, seconds=10.0),
            row("fer-sgd", "sgd", 1.0, seconds=20.0),
            row("fer-adam", "adam", 1.1, seconds=10.0),
            row("correction", "adam", 1.3, seconds=20.0),
        ]
        assert decide(rows, ["adam"]).status == "inconclusive"

    def test_one_measurement_of_a_base_says_nothing_of_its_drift(self) -> None:
        rows = [row("localized-static", "sgd", 0.9), row("fer-sgd", "sgd", 1.0), row("fer-adam", "adam", 1.1)]
        assert decide(rows, ["fer-adam"]).status == "pending"

    def test_another_network_does_not_count(self) -> None:
        rows = [row("localized-static", "sgd", 0.9), row("fer-sgd", "sgd", 1.5, task="mnist-mlp")]
        verdict = decide(rows, ["sgd", "fer-sgd"])
        assert verdict.status == "pending"
        assert "Gradient consistency over SGD" in verdict.sentence

    def test_the_claims_read_the_measurements_of_all_studies(self, tmp_path: Path) -> None:
        rows = [
            row("localized-static", "sgd", 0.9),
            row("fer-sgd", "sgd", 1.0),
            row("fer-adam", "adam", 1.1, seconds=12.0),
            row("correction", "adam", 1.3, seconds=12.1),
        ]
        folder = tmp_path / "results" / "benchmarks"
        folder.mkdir(parents=True)
        (folder / "epoch_overhead.json").write_text(json.dumps({"measurements": rows}))
        results = StudyResults(get_study("localized", "full"), tmp_path)
        assert results.measurements is not None
        assert [r["algorithm"] for r in results.measurements["measurements"]] == ["localized-static"]
        verdict = CLAIMS["localized-fastest-of-all"].decide(RunData(pd.DataFrame(), results.measurements))
        assert verdict.status == "supported"
        assert len(verdict.evidence) == 4
