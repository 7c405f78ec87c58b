"""What pairing by seed gave, over all comparisons of the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from advanced_optimizers.experiments.evidence.comparisons import Comparison, Evidence
from advanced_optimizers.experiments.evidence.statistics import compare_paired
from advanced_optimizers.experiments.report.blocks.pairing import pairing_words


def evidence(name: str, correlation: float) -> Evidence:
    """A comparison over 50 seeds whose sides have the given correlation, exactly."""
    first, second = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 3)) - [[0, 0, 0]])[0][:, :2].T
    first, second = (side - side.mean() for side in (first, second))
    second -= first * (first @ second) / (first @ first)
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    own = correlation * first + np.sqrt(1 - correlation**2) * second
    paired = compare_paired(dict(enumerate(own.tolist())), dict(enumerate(first.tolist())))
    return Evidence(Comparison("t", name, "sgd"), "test_accuracy", paired.difference, "better", paired, run_ids=(name,))


def test_the_median_is_over_distinct_comparisons() -> None:
    rows = [evidence("a", -0.4), evidence("b", 0.2), evidence("c", 0.6)]
    words = pairing_words([*rows, rows[0]])  # the same runs may stand in a figure and in a verdict
    assert words == (
        "median correlation +0.20 (middle half -0.10 to +0.40) over 3 comparisons; "
        "pairing narrows the interval in 2 of them"
    )


def test_identical_runs_and_ratios_are_left_out() -> None:
    same = dict.fromkeys(range(5), 0.9) | {0: 0.8}
    identical = replace(evidence("a", 0.0), paired=compare_paired(same, dict(same)), run_ids=("i",))
    ratio = replace(evidence("a", 0.0), paired=None)
    assert "over 1 comparisons" in pairing_words([identical, ratio, evidence("b", 0.5)])
    assert pairing_words([identical, ratio]) == "no comparison yet"
