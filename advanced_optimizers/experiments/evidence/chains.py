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

from advanced_optimizers.experiments.evidence.comparisons import Comparison, Evidence, RunData, Verdict
from advanced_optimizers.experiments.evidence.medians import MIN_PAIRS, median_interval, ratios, sign_test
from advanced_optimizers.experiments.evidence.metrics import first_few
from advanced_optimizers.experiments.evidence.rules import _conclude, _side
from advanced_optimizers.experiments.evidence.statistics import Interval, holm, t_quantile, t_tail
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

Rows = Sequence[Mapping[str, Any]]


class Tested(NamedTuple):
    """A ratio with its 95 % interval, and the two-sided p-value that it is 1."""

    ratio: Interval
    p: float


class _Mean(NamedTuple):
    """A mean of logarithms: its estimate, the variance of that, and its degrees of freedom."""

    estimate: float
    variance: float
    degrees: int


def chained_ratio(links: Sequence[tuple[int, Sequence[float]]]) -> Tested:
    """The product of independent geometric means, each to the power of 1 or -1.

    Its logarithm is a sum of means, whose t-interval has the degrees of freedom of Welch and Satterthwaite. n is that
    of the link with the fewest values.

    Args:
        links: For each, the power, and at least two positive values.
    """
    means = [(power, _log_mean(values)) for power, values in links]
    center = sum(power * mean.estimate for power, mean in means)
    total = sum(mean.variance for _, mean in means)
    fewest = min(len(values) for _, values in links)
    if total == 0.0:
        exact = math.exp(center)
        return Tested(Interval(exact, exact, exact, fewest), float(center == 0.0))
    error, degrees = math.sqrt(total), total**2 / sum(mean.variance**2 / mean.degrees for _, mean in means)
    half = t_quantile(0.95, degrees) * error
    ratio = Interval(math.exp(center), math.exp(center - half), math.exp(center + half), fewest)
    return Tested(ratio, 2 * t_tail(abs(center) / error, degrees))


def compare_fastest(data: RunData, *, task: str, algorithm: str, others: Sequence[str]) -> Verdict:
    """Decides a claim that an epoch of an algorithm takes less time than one of each of the others.

    With its own base it was timed in turns, and the ratio is the median, as in ``rules.compare_overhead``; with the
    others it is a chain. Supported: every ratio's interval ends at or below 1. Not supported: one is above it by its
    test, after Holm's correction.

    Args:
        data: Its measurements hold, under ``epoch_overhead``, the epochs of all studies, as for
            ``rules.compare_overhead``.
        task: The task on which all of them were timed.
        algorithm: The algorithm that the claim is about.
        others: The algorithms that it is compared with.
    """
    rows = [] if data.measurements is None else data.measurements.get("epoch_overhead", [])
    timed = [row for row in rows if row["task"] == task and len(row["pairs"]) >= MIN_PAIRS]
    links = {Comparison(task, algorithm, other): _links(timed, algorithm, other) for other in others}
    waiting = [str(c) for c, chain in links.items() if chain is None]
    if waiting:
        return Verdict("pending", f"Waiting for measured epochs: {first_few(waiting)}.")
    tested = {c: _test(chain) for c, chain in links.items() if chain is not None}
    p_values = holm([test.p for test in tested.values()])
    evidence = [
        Evidence(c, "ratio", test.ratio, _side(test.ratio, 1.0, p), p_holm=p, family=len(tested))
        for (c, test), p in zip(tested.items(), p_values, strict=True)
    ]
    return _conclude(evidence, sign=-1.0)


def _test(links: Sequence[tuple[int, Sequence[float]]]) -> Tested:
    if len(links) > 1:
        return chained_ratio(links)
    ((_, values),) = links
    return Tested(median_interval(values), sign_test(values, 1.0))


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
    return [ratio for row in rows if row["algorithm"] == algorithm for ratio in ratios(row["pairs"])]


def _base_seconds(rows: Rows, base: str) -> list[float]:
    """The geometric mean of a base's seconds in each measurement of a method over it."""
    return [math.exp(fmean(math.log(pair[1]) for pair in row["pairs"])) for row in rows if row["baseline"] == base]


def _log_mean(values: Sequence[float]) -> _Mean:
    logs = [math.log(value) for value in values]
    return _Mean(fmean(logs), variance(logs) / len(logs), len(logs) - 1)
