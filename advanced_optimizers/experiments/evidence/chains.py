"""Ratios of times that were not measured side by side, as chains of ratios that were.

Every method is timed in turns with its base. Two methods over one base are compared by the ratio of their ratios. If
their bases differ, one more link is needed, from base to base: bases were never timed in turns, but each was timed once
for every method over it, and how much those times scatter says how far the machine had drifted in between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import Any, NamedTuple

from scipy import stats

from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Comparison, Evidence, RunData, Verdict
from advanced_optimizers.experiments.evidence.metrics import first_few
from advanced_optimizers.experiments.evidence.rules import _conclude, _side
from advanced_optimizers.experiments.evidence.statistics import Interval
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

Rows = Sequence[Mapping[str, Any]]


class _Mean(NamedTuple):
    """A mean of logarithms: its estimate, the variance of that, and its degrees of freedom."""

    estimate: float
    variance: float
    degrees: int


def chained_ratio(links: Sequence[tuple[int, Sequence[float]]], confidence: float = 0.95) -> Interval:
    """The product of independent geometric means, each to the power of 1 or -1, with its interval.

    Its logarithm is a sum of means, whose interval has the degrees of freedom of Welch and Satterthwaite. With one link
    it is the interval of ``statistics.ratio_interval``.

    Args:
        links: For each, the power, and at least two positive values.
        confidence: Coverage, in (0, 1).
    """
    means = [(power, _log_mean(values)) for power, values in links]
    center = sum(power * mean.estimate for power, mean in means)
    total = sum(mean.variance for _, mean in means)
    if total == 0.0:
        half = 0.0
    else:
        degrees = total**2 / sum(mean.variance**2 / mean.degrees for _, mean in means)
        half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * math.sqrt(total)
    fewest = min(len(values) for _, values in links)
    return Interval(math.exp(center), math.exp(center - half), math.exp(center + half), fewest)


def compare_fastest(data: RunData, *, task: str, algorithm: str, others: Sequence[str]) -> Verdict:
    """Decides a claim that an epoch of an algorithm takes less time than one of each of the others.

    Supported: every ratio's interval ends at or below 1. Not supported: one starts above it.

    Args:
        data: Its measurements hold, under ``epoch_overhead``, the epochs of all studies, as for
            ``rules.compare_overhead``.
        task: The task on which all of them were timed.
        algorithm: The algorithm that the claim is about.
        others: The algorithms that it is compared with.
    """
    rows = [] if data.measurements is None else data.measurements.get("epoch_overhead", [])
    timed = [row for row in rows if row["task"] == task and len(row["pairs"]) >= MIN_SEEDS]
    links = {other: _links(timed, algorithm, other) for other in others}
    waiting = [f"{Comparison(task, algorithm, other)}" for other, chain in links.items() if chain is None]
    if waiting:
        return Verdict("pending", f"Waiting for measured epochs: {first_few(waiting)}.")
    ratios = {other: chained_ratio(chain) for other, chain in links.items() if chain is not None}
    return _conclude(
        [
            Evidence(Comparison(task, algorithm, other), "ratio", ratio, _side(ratio.high, ratio.low, 1.0))
            for other, ratio in ratios.items()
        ],
        sign=-1.0,
    )


def _links(rows: Rows, algorithm: str, other: str) -> list[tuple[int, Sequence[float]]] | None:
    """The chain from one algorithm to another over their bases; None if a link was not measured."""
    own_base, other_base = (ALGORITHMS[name].baseline or name for name in (algorithm, other))
    links: list[tuple[int, Sequence[float]]] = [] if algorithm == own_base else [(1, _ratios(rows, algorithm))]
    if own_base != other_base:
        links += [(1, _base_seconds(rows, own_base)), (-1, _base_seconds(rows, other_base))]
    links += [] if other == other_base else [(-1, _ratios(rows, other))]
    return links if links and all(len(values) > 1 for _, values in links) else None


def _ratios(rows: Rows, algorithm: str) -> list[float]:
    """An algorithm's seconds over those of its base, in epochs run in turn."""
    return [own / base for row in rows if row["algorithm"] == algorithm for own, base in row["pairs"]]


def _base_seconds(rows: Rows, base: str) -> list[float]:
    """The geometric mean of a base's seconds in each measurement of a method over it."""
    return [math.exp(fmean(math.log(pair[1]) for pair in row["pairs"])) for row in rows if row["baseline"] == base]


def _log_mean(values: Sequence[float]) -> _Mean:
    logs = [math.log(value) for value in values]
    return _Mean(fmean(logs), variance(logs) / len(logs), len(logs) - 1)
