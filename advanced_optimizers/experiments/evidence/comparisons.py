"""Comparisons of recorded runs, their results, and verdicts; ``rules`` derives verdicts from comparisons.

There are four verdicts:

- ``supported``: every comparison that the claim needs came out in its favor;
- ``not supported``: at least one comparison contradicts the claim;
- ``inconclusive``: neither, or a run diverged;
- ``pending``: runs or the measurement are missing.

A claim that every comparison is better is an intersection-union test, and "better" needs no correction. One comparison
that is worse, equivalent or beyond a limit is enough to refute the claim, so these are corrected by Holm: all
comparisons of one claim form one family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from advanced_optimizers.experiments.evidence.judgments import judge_within
from advanced_optimizers.experiments.evidence.labels import label, labels, where
from advanced_optimizers.experiments.evidence.metrics import (
    METRICS,
    Metric,
    conditions,
    noise_words,
    ordered,
    p_words,
)
from advanced_optimizers.experiments.evidence.power import pairs_needed, smallest_difference
from advanced_optimizers.experiments.evidence.statistics import (
    ALPHA,
    Interval,
    PairedComparison,
    compare_paired,
    holm,
    mean,
    ratio_interval,
    ratio_p,
)
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

Status: TypeAlias = Literal["supported", "not supported", "inconclusive", "pending"]
Measurements: TypeAlias = Mapping[str, Any]
Pair: TypeAlias = tuple[pd.DataFrame, pd.DataFrame]


class RunData(NamedTuple):
    """The data from which a rule decides.

    Attributes:
        frame: The runs of one study, one row per run, from ``frames.records_frame``.
        measurements: The content of a measurement file, or None if there is none.
    """

    frame: pd.DataFrame
    measurements: Measurements | None = None


# The number of seeds below which nothing is decided.
MIN_SEEDS = 5


@dataclass(frozen=True)
class Comparison:
    """A comparison of two algorithms on one task.

    Attributes:
        task: Dataset and model, for example ``mnist-mlp``.
        algorithm: The algorithm that the claim is about.
        baseline: The algorithm that it is compared with.
        label_noise: Fraction of noisy training labels, in [0, 1].
        claimed: The gain that the source states, in the unit in which the metric is recorded: positive, except where
            the claim is that number itself (``stated.compare_stated``).
        margin: The largest difference that does not matter, in the unit in which the metric is recorded; None where
            equivalence is not tested.
        claimed_from: The baseline's value in the source's own table. It turns a gain that the scale cannot hold here
            into the ratio of errors that the source's table implies.
    """

    task: str
    algorithm: str
    baseline: str
    label_noise: float = 0.0
    claimed: float | None = None
    margin: float | None = None
    claimed_from: float | None = None

    def __str__(self) -> str:
        """The comparison in words."""
        return f"{label(self.algorithm)} against {label(self.baseline)} on {where(self.task, self.label_noise)}"


@dataclass(frozen=True)
class ClaimedGain:
    """How a gain compares with the one that its source states.

    Attributes:
        falls_short: Whether it is smaller, by a t-test paired by seed with Holm's correction over all gains that the
            claim states.
        error_ratio: The algorithm's error over the baseline's, where the stated gain is larger than the baseline's
            whole error here, so that only a reduction of the error can be compared.
        claimed_ratio: That ratio in the source's own table.
    """

    falls_short: bool
    error_ratio: Interval | None = None
    claimed_ratio: float | None = None


@dataclass(frozen=True)
class Evidence:
    """One comparison with its result.

    Attributes:
        comparison: What was compared.
        quantity: What the interval measures: the column of a metric, or ``ratio``.
        interval: The estimate with its 95 % interval (not corrected), and n.
        outcome: ``better``, ``worse``, ``equivalent`` or ``undecided`` for a metric (see ``statistics.judge_within``);
            ``within``, ``above`` or ``unclear`` for a ratio or a loss of accuracy and its limit; ``identical`` where
            the runs agree exactly in every seed, so that nothing was compared.
        paired: The paired comparison of a metric, not corrected.
        p_holm: The p-value after Holm's correction over the claim's comparisons: of a metric's difference, or of a
            ratio against its limit.
        family: The number of comparisons that were corrected together.
        null: The difference that the p-values are against, in the metric's recorded unit.
        claimed: How the gain compares with the one that the source states, if it states one.
        run_ids: The runs that it is based on, sorted.
    """

    comparison: Comparison
    quantity: str
    interval: Interval
    outcome: str
    paired: PairedComparison | None = None
    p_holm: float | None = None
    family: int = 1
    null: float = 0.0
    claimed: ClaimedGain | None = None
    run_ids: tuple[str, ...] = ()

    @property
    def falls_short(self) -> bool:
        """Whether the gain is smaller than the source states."""
        return self.claimed is not None and self.claimed.falls_short

    @property
    def contradicts(self) -> bool:
        """Whether this comparison alone refutes a claim."""
        return self.outcome in ("worse", "above", "equivalent") or self.falls_short

    @property
    def estimate(self) -> str:
        """The estimate with its interval, as text."""
        if self.quantity == "ratio":
            return f"{self.interval.bracket(digits=3)} times"
        return METRICS[self.quantity].difference(self.interval)

    @property
    def result(self) -> str:
        """The estimate with its interval, n and the p-value that decided, as text; only "better" is not corrected."""
        p = ""
        if self.outcome == "better" and self.paired is not None:
            p = f", {p_words(self.paired.p)}"
        elif self.p_holm is not None and self.outcome != "within":
            p = f", {p_words(self.p_holm)} after Holm"
        return f"{self.estimate} (n = {self.interval.n}{p})"

    @property
    def seeds_needed(self) -> int | None:
        """If it is undecided within a margin, the n that finds a difference as large as the margin, after Holm."""
        margin = self.comparison.margin
        if self.outcome != "undecided" or self.paired is None or margin is None:
            return None
        return pairs_needed(self.paired.spread, margin, comparisons=self.family)

    def smallest_difference(self, *, corrected: bool) -> float | None:
        """The smallest difference that n would find with a probability of 0.8, in the metric's recorded unit.

        Args:
            corrected: Whether the test is the first of Holm's, over all comparisons of the family, or stands alone.
        """
        if self.paired is None or self.paired.identical:
            return None
        comparisons = self.family if corrected else 1
        return smallest_difference(self.paired.spread, self.interval.n, comparisons=comparisons)


@dataclass(frozen=True)
class Verdict:
    """A claim's verdict, its reason in one or two sentences, and the evidence."""

    status: Status
    sentence: str
    evidence: tuple[Evidence, ...] = ()

    @property
    def run_ids(self) -> list[str]:
        """The runs that the verdict is based on, sorted."""
        return sorted({run_id for row in self.evidence for run_id in row.run_ids})


def select_runs(frame: pd.DataFrame, task: str, algorithm: str, label_noise: float) -> pd.DataFrame:
    """The runs of one algorithm on one task that were evaluated on the test set, indexed by seed.

    Raises:
        ValueError: Two runs share a seed, so it is unclear which one counts.
    """
    if frame.empty:  # without runs there are no columns
        return frame
    # As arrays, not as columns: this is asked thousands of times.
    wanted = {"task": task, "algorithm": algorithm, "label_noise": label_noise, "split": "test"}
    of_these = np.logical_and.reduce([frame[column].to_numpy() == value for column, value in wanted.items()])
    chosen = frame[of_these].set_index("seed").sort_index()
    if not chosen.index.is_unique:
        repeated = chosen.loc[chosen.index.duplicated(keep=False), "run_id"]
        raise ValueError(
            f"frame must hold one run per seed for {algorithm} on {task} with {noise_words(label_noise)}, "
            f"got {sorted(repeated)}; pass the runs of one study only"
        )
    return chosen


def by_seed(runs: pd.DataFrame, column: str) -> dict[int, float]:
    """A column of the completed runs of ``select_runs``, as a dictionary from seed to value."""
    if runs.empty:
        return {}
    usable = ((runs["status"] == "completed") & runs[column].notna()).to_numpy()
    values = runs[column].to_numpy()[usable].astype(float)
    return dict(zip(runs.index[usable].tolist(), values.tolist(), strict=True))


def baseline_comparisons(frame: pd.DataFrame, margins: Mapping[str, float] | None = None) -> list[Comparison]:
    """Comparisons of every algorithm in the frame with its baseline, on each task and at each level of label noise.

    Args:
        frame: The runs of one study, one row per run, from ``frames.records_frame``.
        margins: By task, the largest difference that does not matter; equivalence is not tested on the other tasks.
    """
    known = labels()
    return [
        Comparison(task, algorithm, baseline, noise, margin=(margins or {}).get(task))
        for task, noise in conditions(frame, known)
        for algorithm in ordered(frame["algorithm"], known)
        if (baseline := ALGORITHMS[algorithm].baseline) is not None
    ]


def metric_evidence(
    frame: pd.DataFrame,
    metric: str,
    comparisons: Sequence[Comparison],
    *,
    null: float = 0.0,
    all_needed: bool = True,
) -> list[Evidence]:
    """The result of each comparison, paired by seed; all of them share one Holm correction.

    Only the seeds that both algorithms completed are compared, and n is their number. A comparison with fewer than two
    such seeds is left out. Runs that agree exactly in every seed did the same thing: they are reported as identical,
    without a test, and are no part of the family.

    Args:
        frame: The runs of one study, one row per run, from ``frames.records_frame``.
        metric: A column of the frame that is a key of ``METRICS``.
        comparisons: What to compare.
        null: The difference that is tested against, in the metric's recorded unit.
        all_needed: Whether a "better" counts only if every comparison is better, so that it needs no correction.

    Raises:
        ValueError: Two runs share a seed, or a claimed gain that the scale cannot hold has no ``claimed_from``.
    """
    kind = METRICS[metric]
    pairs = {c: select_pair(frame, c) for c in comparisons}
    values = {c: sides for c, pair in pairs.items() if len((sides := _common_seeds(pair, metric))[0]) > 1}
    results = {c: compare_paired(*sides, null=null) for c, sides in values.items()}
    tested = {c: result for c, result in results.items() if not result.identical}
    judgments = judge_within(
        list(tested.values()),
        [c.margin for c in tested],
        higher_is_better=kind.higher_is_better,
        all_needed=all_needed,
    )
    judged = dict(zip(tested, judgments, strict=True))
    gains = _claimed_gains({c: values[c] for c in tested}, kind)
    return [
        Evidence(
            comparison=c,
            quantity=metric,
            interval=result.difference,
            outcome=judged[c].outcome if c in judged else "identical",
            paired=result,
            p_holm=judged[c].p_holm if c in judged else None,
            family=len(tested),
            null=null,
            claimed=gains.get(c),
            run_ids=tuple(sorted(run_id for runs in pairs[c] for run_id in runs.loc[list(values[c][0]), "run_id"])),
        )
        for c, result in results.items()
    ]


def select_pair(frame: pd.DataFrame, c: Comparison) -> Pair:
    """The runs of a comparison's algorithm and of its baseline, as returned by ``select_runs``."""
    return (
        select_runs(frame, c.task, c.algorithm, c.label_noise),
        select_runs(frame, c.task, c.baseline, c.label_noise),
    )


def _common_seeds(pair: Pair, metric: str) -> tuple[dict[int, float], dict[int, float]]:
    """The metric of both algorithms by seed, for the seeds that both completed."""
    treatment, baseline = by_seed(pair[0], metric), by_seed(pair[1], metric)
    common = sorted(treatment.keys() & baseline.keys())
    return {seed: treatment[seed] for seed in common}, {seed: baseline[seed] for seed in common}


def _claimed_gains(
    values: Mapping[Comparison, tuple[dict[int, float], dict[int, float]]], kind: Metric
) -> dict[Comparison, ClaimedGain]:
    """How each stated gain compares; one that falls short refutes the claim, so their tests form a Holm family."""
    sign = 1.0 if kind.higher_is_better else -1.0
    tests: dict[Comparison, tuple[float, ClaimedGain]] = {}
    for c, (own, base) in values.items():
        if c.claimed is None:
            continue
        ratio = _claimed_ratio(c, mean(list(base.values())), kind)
        if ratio is None:
            result = compare_paired(own, base, null=sign * c.claimed)
            tests[c] = result.p, ClaimedGain(sign * result.difference.estimate < c.claimed)
        else:
            errors = [(_error(own[s], kind), _error(base[s], kind)) for s in own]
            interval = ratio_interval(errors)
            tests[c] = ratio_p(errors, ratio), ClaimedGain(interval.estimate > ratio, interval, ratio)
    corrected = holm([p for p, _ in tests.values()])
    return {
        c: replace(gain, falls_short=gain.falls_short and p < ALPHA)
        for (c, (_, gain)), p in zip(tests.items(), corrected, strict=True)
    }


def _claimed_ratio(c: Comparison, baseline: float, kind: Metric) -> float | None:
    """The ratio of errors in the source's own table, if the gain that it states is more than is left here."""
    if kind.best is None or c.claimed is None or c.claimed <= abs(kind.best - baseline):
        return None
    if c.claimed_from is None or abs(kind.best - c.claimed_from) <= c.claimed:
        raise ValueError(
            f"claimed_from must be the source's own value for {label(c.baseline)}, with more than the claimed gain of "
            f"{c.claimed:g} left to {kind.best:g}, got {c.claimed_from} for {c}: here {baseline:g} leaves too little"
        )
    error = abs(kind.best - c.claimed_from)
    return (error - c.claimed) / error


def _error(value: float, kind: Metric) -> float:
    """What is left to the best value that the scale allows."""
    assert kind.best is not None  # the caller has asked
    return abs(kind.best - value)
