"""Verdicts on algorithms against an anchor, with several tunings: better, worse, equivalent, undecided or invalid.

A run that diverged stays in, with the accuracy of guessing, and so does one that learned nothing. What is compared is
the mean of a tuning's runs; with one tuning, its runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.experiments.evidence.comparisons import Comparison, select_runs
from advanced_optimizers.experiments.evidence.judgments import Judgment, judge_within
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.evidence.power import pairs_needed
from advanced_optimizers.experiments.evidence.statistics import Interval, UnpairedComparison, compare_unpaired

_METRIC = METRICS["test_accuracy"]
# From this share of runs that learned nothing on, an algorithm is not judged.
_INVALID = 1 / 3
# From here on, a probability of being better counts as meaningful (Bouthillier et al., 2021).
MEANINGFUL = 0.75

Values = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Ruling:
    """The verdict on one algorithm against its anchor.

    Attributes:
        comparison: What was compared, with its margin.
        verdict: ``better``, ``worse``, ``equivalent``, ``undecided`` or ``invalid``; ``withheld`` without a margin.
        result: The comparison of the units.
        p_holm: The p-value of a difference after Holm's correction over the family.
        family: Number of comparisons in it.
        superiority: The probability that a run of the algorithm is better than one of the anchor.
        unit: What a unit is: ``tunings`` or ``seeds``.
    """

    comparison: Comparison
    verdict: str
    result: UnpairedComparison
    p_holm: float
    family: int
    superiority: Interval
    unit: str

    @property
    def needed(self) -> int | None:
        """If it is undecided for want of units, how many find a difference as large as the margin, after Holm."""
        if self.verdict != "undecided" or self.comparison.margin is None:
            return None
        found = pairs_needed(self.result.spread, self.comparison.margin, comparisons=self.family, paired=False)
        return found if found > self.result.difference.n else None

    @property
    def words(self) -> str:
        """The verdict in words, with what it needs to be read: a small difference, or how many units are missing."""
        margin, interval = self.comparison.margin, self.result.difference
        if self.needed is not None:
            return f"undecided (would need n = {self.needed} {self.unit})"
        if self.verdict in ("better", "worse") and margin is not None and max(-interval.low, interval.high) < margin:
            return f"{self.verdict} by less than the margin"
        return self.verdict


def accuracies(frame: pd.DataFrame, task: str, algorithm: str, variants: Sequence[str]) -> dict[str, list[float]]:
    """By variant, the test accuracies of an algorithm's runs in the order of their seeds, on clean labels.

    Args:
        frame: One row per run and variant; see ``tunings``.
        task: The task.
        algorithm: The algorithm.
        variants: The variants; one without runs is left out.
    """
    found = {}
    for variant in variants if not frame.empty else ():
        runs = select_runs(frame[frame["variant"] == variant], task, algorithm, 0.0)
        if len(runs):
            found[variant] = [accuracy_of(row) for _, row in runs.iterrows()]
    return found


def accuracy_of(row: pd.Series) -> float:
    """The test accuracy of a run's row; of one that diverged, that of guessing."""
    known = row["status"] == "completed" and pd.notna(row[_METRIC.column])
    return float(row[_METRIC.column] if known else row["guessing"])


def rule_family(frame: pd.DataFrame, family: Sequence[Comparison], tunings: Sequence[str]) -> list[Ruling]:
    """The ruling on each comparison of a family, which shares Holm's corrections.

    The order is fixed: invalid, better or worse, equivalent, undecided. Tests of a difference and of equivalence are
    corrected apart. A comparison of which units are missing is left out, and counts in both corrections as one that
    found nothing: once it is there, no verdict of "better" or "worse" on another is taken back.

    Args:
        frame: One row per run and variant.
        family: The algorithms of one group against one anchor on one task.
        tunings: The variants that are the units; if it is one, its seeds are.

    Raises:
        ValueError: Two runs of a variant share a seed.
    """
    values = {
        c: (_units(frame, c.task, c.algorithm, tunings), _units(frame, c.task, c.baseline, tunings)) for c in family
    }
    whole = {c: pair for c, pair in values.items() if pair[0].keys() == pair[1].keys() and len(pair[0]) > 1}
    results = {c: compare_unpaired(*map(_means, pair)) for c, pair in whole.items()}
    judgments = judge_within(
        list(results.values()),
        [c.margin for c in results],
        higher_is_better=True,
        all_needed=False,
        missing=len(family) - len(results),
    )
    unit = "tunings" if len(tunings) > 1 else "seeds"
    return [
        Ruling(
            comparison=c,
            verdict=_verdict(frame, c, judgment, tunings),
            result=result,
            p_holm=judgment.p_holm,
            family=len(family),
            superiority=superiority(list(whole[c][0].values()), list(whole[c][1].values())),
            unit=unit,
        )
        for (c, result), judgment in zip(results.items(), judgments, strict=True)
    ]


def _verdict(frame: pd.DataFrame, c: Comparison, judgment: Judgment, tunings: Sequence[str]) -> str:
    if c.margin is None:
        return "withheld"
    sides = (unlearnt_share(frame, c.task, name, tunings) for name in (c.algorithm, c.baseline))
    return "invalid" if max(sides) >= _INVALID else judgment.outcome


def unlearnt_share(frame: pd.DataFrame, task: str, algorithm: str, tunings: Sequence[str]) -> float:
    """The share of an algorithm's runs on clean labels that diverged or ended at the loss of guessing."""
    own = frame[frame["variant"].isin(list(tunings)) & (frame["task"] == task) & (frame["algorithm"] == algorithm)]
    clean = own[(own["label_noise"] == 0.0) & (own["split"] == "test")]
    return float(clean["unlearnt"].mean()) if len(clean) else 0.0


def unit_means(frame: pd.DataFrame, task: str, algorithm: str, tunings: Sequence[str]) -> list[float]:
    """The value of each unit of an algorithm: the mean of a tuning's runs, or with one tuning, its runs."""
    return _means(_units(frame, task, algorithm, tunings))


def _units(frame: pd.DataFrame, task: str, algorithm: str, tunings: Sequence[str]) -> dict[str, list[float]]:
    """The values of each unit: the runs of a tuning, or one seed's."""
    found = accuracies(frame, task, algorithm, tunings)
    if len(tunings) > 1:
        return found
    return {str(place): [value] for own in found.values() for place, value in enumerate(own)}


def _means(units: Values) -> list[float]:
    return [float(np.mean(values)) for values in units.values()]


def superiority(
    own: Sequence[Sequence[float]], base: Sequence[Sequence[float]], *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The probability that a run of one algorithm beats one of another, ``U / (n m)``; ties count as half.

    The 95 % interval is a percentile bootstrap over the units of each, whose runs stay together. Source: Mann and
    Whitney, 1947; its use for benchmarks: Bouthillier et al., MLSys 2021.

    Args:
        own: The algorithm's values by unit, at least one; as many in each.
        base: The other algorithm's.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    check_integer("units", min(len(own), len(base)), low=1)
    wins = np.array([[_wins(a, b) for b in base] for a in own])
    rng = np.random.default_rng(seed)
    rows, columns = (rng.integers(size, size=(resamples, size)) for size in wins.shape)
    drawn = wins[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(wins.mean()), float(low), float(high), len(own))


def _wins(own: Sequence[float], base: Sequence[float]) -> float:
    difference = np.subtract.outer(np.asarray(own), np.asarray(base))
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def binomial_error(accuracy: float, images: int) -> float:
    """By how much another test set of the same size would change an accuracy: its binomial standard error.

    Intervals over seeds do not contain it, since all runs share one test set. For a difference between two algorithms
    it is less than sqrt(2) times this, since they err on many of the same images; how much less would take predictions,
    which records do not keep.

    Args:
        accuracy: As a fraction in [0, 1].
        images: Size of the test set, >= 1.
    """
    check_range("accuracy", accuracy, 0.0, 1.0)
    check_integer("images", images, low=1)
    return math.sqrt(accuracy * (1 - accuracy) / images)


def ruling_rule(margins: str) -> str:
    """Puts :func:`rule_family` into words; ``margins`` are the largest differences that do not matter, in words."""
    return (
        "The test accuracy of the last epoch; a run that diverged counts as guessing. The mean of a tuning's runs is "
        "one value; with one tuning, each run is. A family is all algorithms of a group (plain ones, those of today, "
        "this project's) against one anchor on one task. Invalid: at least a third of the runs of either side "
        "diverged or learned nothing. Better or worse: Welch's t-test at the level 0.05 after Holm's correction over "
        f"the family. Equivalent: neither, and two one-sided t-tests within the margin ({margins}), with a Holm "
        "correction of their own. Otherwise undecided, with the number of tunings, or seeds, that would find a "
        "difference as large as the margin with a probability of 0.8. Nothing is ranked."
    )
