"""Rules for numbers that a source states: a difference, a value, and a sign that must never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import (
    MIN_SEEDS,
    Comparison,
    Evidence,
    RunData,
    Status,
    Verdict,
    by_seed,
    metric_evidence,
    select_runs,
)
from advanced_optimizers.experiments.evidence.labels import label, where
from advanced_optimizers.experiments.evidence.metrics import METRICS, first_few
from advanced_optimizers.experiments.evidence.rules import missing_runs
from advanced_optimizers.experiments.evidence.statistics import Interval, mean_interval

# What decides, in the three rules, where an interval lies.
_STATUS: dict[str, Status] = {"within": "supported", "above": "not supported", "unclear": "inconclusive"}


def compare_stated(data: RunData, *, metric: str, comparison: Comparison, stated: float, margin: float) -> Verdict:
    """Decides whether a difference is the one that a source states.

    Supported: the 95 % interval of the difference, paired by seed, lies within ``margin`` of ``stated``. Not supported:
    it lies outside, on one side. Otherwise, and whenever a run diverged, inconclusive.

    Args:
        data: The runs of one study.
        metric: A column of the frame that is a key of ``METRICS``.
        comparison: What is compared.
        stated: The stated difference, in the unit in which the metric is recorded.
        margin: How far from it a difference still counts as the same, > 0.

    Raises:
        ValueError: Two runs share a seed.
    """
    obstructed = missing_runs(data.frame, metric, (comparison,))
    if obstructed is not None:
        return obstructed
    (row,) = metric_evidence(data.frame, metric, (comparison,), null=stated)
    outcome = _place(row.interval, stated - margin, stated + margin)
    kind = METRICS[metric]
    sentence = f"{row.comparison}, {kind.name}: {row.estimate}; stated {kind.difference_words(stated)}."
    named = Evidence(
        replace(comparison, claimed=stated),
        metric,
        row.interval,
        outcome,
        paired=row.paired,
        p_holm=row.p_holm,
        null=stated,
        run_ids=row.run_ids,
    )
    return Verdict(_STATUS[outcome], sentence, (named,))


def value_within(
    data: RunData, *, metric: str, task: str, algorithm: str, low: float, high: float, label_noise: float = 0.0
) -> Verdict:
    """Decides whether an algorithm's mean of a metric lies in a range.

    Supported: its 95 % interval over the seeds (at least five) lies in the range. Not supported: it lies outside, on
    one side. Otherwise, and whenever a run diverged, inconclusive.

    Args:
        data: The runs of one study.
        metric: A column of the frame that is a key of ``METRICS``.
        task: Dataset and model.
        algorithm: The algorithm.
        low: The lower end, in the unit in which the metric is recorded.
        high: The upper end.
        label_noise: Fraction of noisy training labels.

    Raises:
        ValueError: Two runs share a seed.
    """
    runs = {algorithm: select_runs(data.frame, task, algorithm, label_noise)}
    obstructed = _missing(runs, task, label_noise, metric)
    if obstructed is not None:
        return obstructed
    interval = mean_interval(list(by_seed(runs[algorithm], metric).values()))
    kind = METRICS[metric]
    sentence = (
        f"{label(algorithm)} on {where(task, label_noise)}, {kind.name}: {kind.value(interval)} (n = {interval.n})."
    )
    return Verdict(_STATUS[_place(interval, low, high)], sentence)


def always_positive(
    data: RunData, *, metric: str, task: str, algorithms: Sequence[str], label_noise: float = 0.0
) -> Verdict:
    """Decides a claim that something never happens, from the least value that each run recorded.

    Supported: it is positive in every run (at least five per algorithm). Not supported: it is not in one; one suffices.

    Args:
        data: The runs of one study.
        metric: A column of the frame that is a key of ``METRICS``, the least value of a run.
        task: Dataset and model.
        algorithms: The algorithms.
        label_noise: Fraction of noisy training labels.

    Raises:
        ValueError: Two runs share a seed.
    """
    runs = {name: select_runs(data.frame, task, name, label_noise) for name in algorithms}
    obstructed = _missing(runs, task, label_noise, metric)
    if obstructed is not None:
        return obstructed
    least = {name: min(by_seed(own, metric).values()) for name, own in runs.items()}
    kind = METRICS[metric]
    words = [f"{label(name)} {value:.{kind.digits}f}" for name, value in least.items()]
    status: Status = "supported" if all(value > 0.0 for value in least.values()) else "not supported"
    return Verdict(status, f"The {kind.name} of any run: {'; '.join(words)}.")


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim with several parts: the least that one of them has; pending while one is.

    Args:
        verdicts: On the parts.
    """
    found = {verdict.status for verdict in verdicts}
    order: tuple[Status, ...] = ("pending", "not supported", "inconclusive", "supported")
    return Verdict(next(s for s in order if s in found), " ".join(verdict.sentence for verdict in verdicts))


def _place(interval: Interval, low: float, high: float) -> str:
    """Where an interval lies: within a range, outside of it on one side, or neither."""
    if low <= interval.low and interval.high <= high:
        return "within"
    return "above" if interval.high < low or interval.low > high else "unclear"


def _missing(runs: dict[str, pd.DataFrame], task: str, label_noise: float, metric: str) -> Verdict | None:
    """The verdict if runs are missing or unusable; None otherwise."""
    waiting = [
        f"{label(name)} on {where(task, label_noise)} ({len(own)} of {MIN_SEEDS} seeds)"
        for name, own in runs.items()
        if len(own) < MIN_SEEDS
    ]
    if waiting:
        return Verdict("pending", f"Waiting for runs: {first_few(waiting)}.")
    lost = [f"{label(name)}" for name, own in runs.items() if len(by_seed(own, metric)) < len(own)]
    if lost:
        return Verdict("inconclusive", f"Runs that diverged or hold no {METRICS[metric].name}: {first_few(lost)}.")
    return None


# ---- the rules in words ----------------------------------------------------------------------------------------------


def stated_rule(metric: str, compared: str, stated: str, margin: str, reason: str) -> str:
    """Puts :func:`compare_stated` into words."""
    return (
        f"The difference in {metric}, {compared}, paired by seed (at least {MIN_SEEDS}), with its 95 % interval. "
        f"Supported: the interval lies within {margin} of the stated {stated} ({reason}). Not supported: it lies "
        "outside, on one side. Otherwise, and whenever a run diverged, inconclusive."
    )


def value_rule(quantity: str, supported: str) -> str:
    """Puts :func:`value_within` into words."""
    return (
        f"{quantity}, a mean over the seeds (at least {MIN_SEEDS}) with its 95 % interval. Supported: the interval "
        f"lies {supported}. Not supported: it lies outside, on one side. Otherwise, and whenever a run diverged, "
        "inconclusive."
    )
