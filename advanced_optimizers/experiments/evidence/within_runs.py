"""Rules for a ratio of two algorithms' results, and for quantities that are measured on the same runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from advanced_optimizers.experiments.evidence.comparisons import (
    MIN_SEEDS,
    Comparison,
    Evidence,
    RunData,
    Status,
    Verdict,
    by_seed,
    select_pair,
    select_runs,
)
from advanced_optimizers.experiments.evidence.judgments import judge_within
from advanced_optimizers.experiments.evidence.labels import label, where
from advanced_optimizers.experiments.evidence.metrics import METRICS, p_words
from advanced_optimizers.experiments.evidence.rules import missing_runs
from advanced_optimizers.experiments.evidence.statistics import ALPHA, compare_paired, ratio_interval, ratio_p


def compare_ratio(data: RunData, *, metric: str, limit: float, comparison: Comparison) -> Verdict:
    """Decides a claim that an algorithm's value is at most a part of its baseline's.

    Supported: the 95 % interval of the ratio, paired by seed, ends at or below the limit. Not supported: the ratio is
    above it by a t-test of its logarithm.

    Args:
        data: The runs of one study.
        metric: A column of the frame that is a key of ``METRICS``, with positive values.
        limit: Largest ratio that the claim allows, > 0.
        comparison: What is divided by what.

    Raises:
        ValueError: Two runs share a seed.
    """
    obstacle = missing_runs(data.frame, metric, (comparison,))
    if obstacle is not None:
        return obstacle
    own, base = select_pair(data.frame, comparison)
    first, second = by_seed(own, metric), by_seed(base, metric)
    pairs = [(first[seed], second[seed]) for seed in sorted(first)]
    ratio, p = ratio_interval(pairs), ratio_p(pairs, limit)
    outcome = "within" if ratio.high <= limit else "unclear"
    if ratio.estimate > limit and p < ALPHA:
        outcome = "above"
    status: dict[str, Status] = {"within": "supported", "above": "not supported", "unclear": "inconclusive"}
    row = Evidence(
        comparison, "ratio", ratio, outcome, p_holm=p, run_ids=tuple(sorted([*own["run_id"], *base["run_id"]]))
    )
    return Verdict(status[outcome], f"{comparison}, {METRICS[metric].name}: {row.result}; limit {limit:g}.", (row,))


def compare_columns(
    data: RunData, *, metrics: Sequence[str], task: str, algorithms: Sequence[str], margin: float
) -> Verdict:
    """Decides a claim that one quantity of a run is better than another, as with more steps than with fewer.

    Each metric is compared with the one before it on the same runs, paired by seed (at least five). Supported: every
    later one is better, each at the level 0.05. Not supported: one is worse, or equivalent within the margin, after
    Holm's correction over all of them.

    Args:
        data: The runs of one study.
        metrics: Columns of the frame that are keys of ``METRICS``, of one unit, in the order that is claimed.
        task: The task.
        algorithms: The algorithms whose runs are looked at.
        margin: The largest difference that does not matter, in the unit in which the metrics are recorded.

    Raises:
        ValueError: Two runs share a seed.
    """
    steps = list(pairwise(metrics))
    pairs = [(algorithm, *step) for algorithm in algorithms for step in steps]
    runs = {name: select_runs(data.frame, task, name, 0.0) for name in algorithms}
    waiting = [f"{label(name)} ({len(own)} of {MIN_SEEDS} seeds)" for name, own in runs.items() if len(own) < MIN_SEEDS]
    if waiting:
        return Verdict("pending", f"Waiting for runs: {'; '.join(waiting)}.")
    results = [compare_paired(by_seed(runs[name], later), by_seed(runs[name], first)) for name, first, later in pairs]
    better = METRICS[metrics[0]].higher_is_better
    judgments = judge_within(results, [margin] * len(results), higher_is_better=better)
    outcomes = [judgment.outcome for judgment in judgments]
    status: Status = "supported" if set(outcomes) == {"better"} else "inconclusive"
    if {"worse", "equivalent"} & set(outcomes):
        status = "not supported"
    words = [
        f"{label(name)}, {METRICS[later].name} against {METRICS[first].name}: "
        f"{METRICS[later].difference(result.difference)} ({p_words(judgment.p_holm)} after Holm), {judgment.outcome}"
        for (name, first, later), result, judgment in zip(pairs, results, judgments, strict=True)
    ]
    return Verdict(status, f"On {where(task, 0.0)}, n = {results[0].difference.n}. {'; '.join(words)}.")
