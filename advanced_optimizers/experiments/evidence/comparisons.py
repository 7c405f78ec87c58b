"""Comparisons of recorded runs, their results, and verdicts; ``rules`` derives verdicts from comparisons.

There are four verdicts:

- ``supported``: every comparison that the claim needs came out in its favor;
- ``not supported``: at least one comparison contradicts the claim;
- ``inconclusive``: neither, or a run diverged;
- ``pending``: runs or the measurement are missing.

All comparisons of one claim form one family for Holm's correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd

from advanced_optimizers.experiments.evidence.labels import label, labels, where
from advanced_optimizers.experiments.evidence.metrics import METRICS, conditions, noise_words, ordered, p_words
from advanced_optimizers.experiments.evidence.statistics import (
    ALPHA,
    Interval,
    Judgement,
    PairedComparison,
    compare_paired,
    holm,
    judge,
    judge_within,
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


# The number of seeds, or of pairs of epochs, below which nothing is decided.
MIN_SEEDS = 5


@dataclass(frozen=True)
class Comparison:
    """A comparison of two algorithms on one task.

    Attributes:
        task: Dataset and model, for example ``mnist-mlp``.
        algorithm: The algorithm that the claim is about.
        baseline: The algorithm that it is compared with.
        label_noise: Fraction of noisy training labels, in [0, 1].
        claimed: The gain that the source states: positive, in the unit in which the metric is recorded.
        margin: The largest difference that does not matter, in the unit in which the metric is recorded; None where
            equivalence is not tested.
    """

    task: str
    algorithm: str
    baseline: str
    label_noise: float = 0.0
    claimed: float | None = None
    margin: float | None = None

    def __str__(self) -> str:
        """The comparison in words."""
        return f"{label(self.algorithm)} against {label(self.baseline)} on {where(self.task, self.label_noise)}"


@dataclass(frozen=True)
class Evidence:
    """One comparison with its result.

    Attributes:
        comparison: What was compared.
        quantity: What the interval measures: the column of a metric, or ``ratio``.
        interval: The estimate with its 95 % interval (not corrected), and n.
        outcome: ``better``, ``worse`` or ``tie`` for a metric (after Holm's correction), or ``better``, ``worse``,
            ``equivalent`` or ``undecided`` where the comparison has a margin (see ``statistics.judge_within``);
            ``within``, ``above`` or ``unclear`` for a ratio or a loss of accuracy and its limit; ``identical`` where
            the runs agree exactly in every seed, so that nothing was compared.
        paired: The paired comparison of a metric, not corrected.
        p_holm: Its p-value after Holm's correction over the claim's comparisons.
        falls_short: Whether the gain is smaller than the source states, by a t-test against the
            stated gain with Holm's correction over all gains that the claim states.
        run_ids: The runs that it is based on, sorted.
    """

    comparison: Comparison
    quantity: str
    interval: Interval
    outcome: str
    paired: PairedComparison | None = None
    p_holm: float | None = None
    falls_short: bool = False
    run_ids: tuple[str, ...] = ()

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
        """The estimate with its interval, n and, for a metric, the corrected p-value, as text."""
        corrected = "" if self.p_holm is None else f", {p_words(self.p_holm)} after Holm"
        return f"{self.estimate} (n = {self.interval.n}{corrected})"


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
    chosen = frame[
        (frame["task"] == task)
        & (frame["algorithm"] == algorithm)
        & (frame["label_noise"] == label_noise)
        & (frame["split"] == "test")
    ]
    repeated = chosen[chosen["seed"].duplicated(keep=False)]
    if not repeated.empty:
        raise ValueError(
            f"frame must hold one run per seed for {algorithm} on {task} with "
            f"{noise_words(label_noise)}, got {sorted(repeated['run_id'])}; "
            "pass the runs of one study only"
        )
    return chosen.set_index("seed").sort_index()


def by_seed(runs: pd.DataFrame, column: str) -> dict[int, float]:
    """A column of the completed runs of ``select_runs``, as a dictionary from seed to value."""
    if runs.empty:
        return {}
    usable = runs[(runs["status"] == "completed") & runs[column].notna()]
    return dict(zip(usable.index.tolist(), usable[column].astype(float).tolist(), strict=True))


def baseline_comparisons(frame: pd.DataFrame) -> list[Comparison]:
    """Comparisons of every algorithm in the frame with its baseline, on each task and at each level of label noise."""
    known = labels()
    return [
        Comparison(task, algorithm, baseline, noise)
        for task, noise in conditions(frame, known)
        for algorithm in ordered(frame["algorithm"], known)
        if (baseline := ALGORITHMS[algorithm].baseline) is not None
    ]


def metric_evidence(frame: pd.DataFrame, metric: str, comparisons: Sequence[Comparison]) -> list[Evidence]:
    """The result of each comparison, paired by seed; all of them share one Holm correction.

    Only the seeds that both algorithms completed are compared, and n is their number. A comparison with fewer than two
    such seeds is left out. Runs that agree exactly in every seed did the same thing: they are reported as identical,
    without a test, and are no part of the family.

    Args:
        frame: The runs of one study, one row per run, from ``frames.records_frame``.
        metric: A column of the frame that is a key of ``METRICS``.
        comparisons: What to compare.

    Raises:
        ValueError: Two runs share a seed, or only some of the comparisons have a margin.
    """
    kind = METRICS[metric]
    pairs = {c: select_pair(frame, c) for c in comparisons}
    values = {c: sides for c, pair in pairs.items() if len((sides := _common_seeds(pair, metric))[0]) > 1}
    results = {c: compare_paired(*sides) for c, sides in values.items()}
    tested = {c: result for c, result in results.items() if not result.identical}
    judgements = _judged(tested, higher_is_better=kind.higher_is_better)
    short = _falling_short({c: values[c] for c in tested}, sign=1.0 if kind.higher_is_better else -1.0)
    return [
        Evidence(
            comparison=c,
            quantity=metric,
            interval=result.difference,
            outcome=judgements[c].outcome if c in judgements else "identical",
            paired=result,
            p_holm=judgements[c].p_holm if c in judgements else None,
            falls_short=c in short,
            run_ids=tuple(sorted(run_id for runs in pairs[c] for run_id in runs.loc[list(values[c][0]), "run_id"])),
        )
        for c, result in results.items()
    ]


def _judged(results: Mapping[Comparison, PairedComparison], *, higher_is_better: bool) -> dict[Comparison, Judgement]:
    margins = [c.margin for c in results if c.margin is not None]
    if margins and len(margins) < len(results):
        raise ValueError(f"comparisons must all have a margin or none, got {len(margins)} margins of {len(results)}")
    if margins:
        judgements = judge_within(list(results.values()), margins, higher_is_better=higher_is_better)
    else:
        judgements = judge(list(results.values()), higher_is_better=higher_is_better)
    return dict(zip(results, judgements, strict=True))


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


def _falling_short(values: Mapping[Comparison, Sequence[Mapping[int, float]]], sign: float) -> set[Comparison]:
    """The comparisons whose gain is smaller than the source states; their tests form a family of their own."""
    gains = {c: c.claimed for c in values if c.claimed is not None}
    results = [compare_paired(*values[c], null=sign * gain) for c, gain in gains.items()]
    p_values = holm([result.p for result in results])
    return {
        c
        for (c, gain), result, p in zip(gains.items(), results, p_values, strict=True)
        if p < ALPHA and sign * result.difference.estimate < gain
    }
