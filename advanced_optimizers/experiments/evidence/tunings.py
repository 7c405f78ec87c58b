"""How much the choice of hyperparameters matters: several tunings, trials of other lengths, and the number of trials.

The frames are those of a study of variants: one row per run and variant, with the variant's name in ``variant``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # loads its parts when they are first used, which most processes never do

from advanced_optimizers._checks import check_integer
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
from advanced_optimizers.experiments.evidence.judgments import judge_within
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.metrics import first_few
from advanced_optimizers.experiments.evidence.statistics import Interval, PairedComparison, compare_paired
from advanced_optimizers.experiments.records.record import RunRecord

_METRIC = "test_accuracy"
_DECIDED = ("better", "worse", "equivalent")


# ---- the scatter of tuning ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scatter:
    """How far results scatter because of tuning, and because of seeds.

    Attributes:
        tuning: Standard deviation of tuning, in the unit of the values; 0 if the means of the tunings differ no more
            than seeds explain.
        seeds: Standard deviation of seeds.
        ratio: ``tuning / seeds`` with its 95 % interval from the F distribution, and n, the number of means.
    """

    tuning: float
    seeds: float
    ratio: Interval


def scatter(algorithms: Sequence[Sequence[Sequence[float]]]) -> Scatter:
    """Variance components of a one-way random effects model, pooled over algorithms.

    ``sd_tuning^2 = max(0, (MS_between - MS_within) / R)`` with ``MS_between = R var(means of the tunings)`` and
    ``MS_within`` the variance of a tuning's ``R`` runs, each the mean over the algorithms.

    Args:
        algorithms: For each algorithm, for each of its tunings, one value per run; two tunings at least, each with the
            same number of runs, two at least.

    Raises:
        ValueError: The numbers of runs differ, or there are too few of them.
    """
    counts = {len(runs) for tunings in algorithms for runs in tunings}
    if len(counts) != 1 or min(counts) < 2 or any(len(tunings) < 2 for tunings in algorithms):
        raise ValueError(
            f"algorithms must have at least 2 tunings with the same number of runs, at least 2, got {sorted(counts)}"
        )
    (runs,) = counts
    means = [[float(np.mean(values)) for values in tunings] for tunings in algorithms]
    within = float(np.mean([np.var(values, ddof=1) for tunings in algorithms for values in tunings]))
    between = runs * float(np.mean([np.var(own, ddof=1) for own in means]))
    degrees = sum(len(own) - 1 for own in means), sum(len(own) * (runs - 1) for own in means)
    ratio, low, high = (
        math.sqrt(max(0.0, (between / within / quantile - 1) / runs)) if within > 0 else math.inf
        for quantile in (1.0, scipy.stats.f.ppf(0.975, *degrees), scipy.stats.f.ppf(0.025, *degrees))
    )
    tuning = math.sqrt(max(0.0, (between - within) / runs))
    return Scatter(tuning, math.sqrt(within), Interval(ratio, low, high, sum(len(own) for own in means)))


def tuning_values(frame: pd.DataFrame, task: str, algorithm: str, runs: int) -> dict[str, list[float]]:
    """By tuning, the test accuracies of its first runs in the order of their seeds; tunings with fewer are left out."""
    values = {}
    for variant, rows in frame.groupby("variant", sort=False) if not frame.empty else []:
        known = by_seed(select_runs(rows, task, algorithm, 0.0), _METRIC)
        if len(known) >= runs:
            values[str(variant)] = [known[seed] for seed in sorted(known)[:runs]]
    return values


def evidence_by_tunings(frame: pd.DataFrame, comparisons: Sequence[Comparison], runs: int) -> list[Evidence]:
    """Each comparison with the tuning as the unit: the mean of a tuning's runs is one value, paired by tuning.

    Args:
        frame: The runs of several tunings.
        comparisons: What to compare, each with a margin; those with fewer than two tunings are left out.
        runs: The number of runs per tuning, >= 1.
    """
    results: dict[Comparison, PairedComparison] = {}
    for c in comparisons:
        own, base = (tuning_values(frame, c.task, name, runs) for name in (c.algorithm, c.baseline))
        common = [variant for variant in own if variant in base]
        if len(common) > 1:
            sides = ({i: float(np.mean(side[v])) for i, v in enumerate(common)} for side in (own, base))
            results[c] = compare_paired(*sides)
    judgments = judge_within(list(results.values()), [_margin(c) for c in results], higher_is_better=True)
    return [
        Evidence(c, _METRIC, result.difference, judgment.outcome, result, judgment.p_holm)
        for (c, result), judgment in zip(results.items(), judgments, strict=True)
    ]


def evidence_by_seeds(frame: pd.DataFrame, comparisons: Sequence[Comparison], variant: str) -> list[Evidence]:
    """Each comparison with the seeds of one variant as the units."""
    return metric_evidence(_of(frame, variant), _METRIC, comparisons)


# ---- the number of trials -------------------------------------------------------------------------------------------


def score(trial: RunRecord) -> float:
    """The validation accuracy of a trial's last epoch; of one that diverged, that of guessing."""
    accuracy = trial.final.get("test_accuracy")
    return trial.guessing if trial.status == "diverged" or accuracy is None else accuracy


def expected_best(scores: Sequence[float]) -> list[float]:
    """The expected best of ``k`` of the trials, for ``k`` from 1 to all: unbiased, drawn without replacement.

    With the scores sorted ascending, ``E_k = sum_{j=k..n} v_j C(j-1, k-1) / C(n, k)``: ``v_j`` is the best of ``k`` if
    it is drawn and the other ``k - 1`` are from the ``j - 1`` below it.

    Args:
        scores: The score of each trial, at least one; higher is better.
    """
    check_integer("number of scores", len(scores), low=1)
    ordered, n = sorted(scores), len(scores)
    return [
        sum(ordered[j - 1] * math.comb(j - 1, k - 1) for j in range(k, n + 1)) / math.comb(n, k)
        for k in range(1, n + 1)
    ]


# ---- the rules ------------------------------------------------------------------------------------------------------


def decide_retuning(data: RunData, *, comparisons: Sequence[Comparison], variants: Sequence[str], runs: int) -> Verdict:
    """Decides whether outcomes stay as they are with the tuning as the unit.

    Supported: every comparison that the seeds of the first tuning decide has the same outcome by tunings. Not
    supported: one has another outcome by tunings. A comparison that the tunings leave undecided is neither.

    Args:
        data: The runs of several tunings.
        comparisons: All comparisons that the claim needs, each with a margin.
        variants: The names of the tunings; the seeds of the first one decide alone what is compared.
        runs: The number of runs per tuning.
    """
    obstacle = _obstacle(data.frame, comparisons, {name: runs for name in variants} | {variants[0]: MIN_SEEDS})
    if obstacle is not None:
        return obstacle
    seeds = evidence_by_seeds(data.frame, comparisons, variants[0])
    tunings = evidence_by_tunings(data.frame, comparisons, runs)
    decided = [(a, b) for a, b in zip(seeds, tunings, strict=True) if a.outcome in _DECIDED]
    same = [(a, b) for a, b in decided if a.outcome == b.outcome]
    other = [(a, b) for a, b in decided if a.outcome != b.outcome and b.outcome in _DECIDED]
    status: Status = "inconclusive"
    if other:
        status = "not supported"
    elif decided and len(same) == len(decided):
        status = "supported"
    sentence = (
        f"Of {len(comparisons)} comparisons the seeds decide {len(decided)}: of these, the tunings agree in "
        f"{len(same)}, decide {len(other)} otherwise, and leave {len(decided) - len(same) - len(other)} undecided."
    )
    return Verdict(status, f"{sentence}{_changes(other)}")


def decide_scatter(
    data: RunData, *, task: str, algorithms: Sequence[str], variants: Sequence[str], runs: int
) -> Verdict:
    """Decides whether tuning scatters at least as much as seeds do, pooled over algorithms.

    Supported: the 95 % interval of ``sd of tuning / sd of seeds`` lies at or above 1. Not supported: it lies below 1.

    Args:
        data: The runs of several tunings.
        task: The task.
        algorithms: The algorithms over which the variances are pooled.
        variants: The names of the tunings.
        runs: The number of runs per tuning.
    """
    found = {name: tuning_values(data.frame, task, name, runs) for name in algorithms}
    waiting = [label(name) for name, values in found.items() if set(values) != set(variants)]
    if waiting:
        return Verdict("pending", f"Waiting for runs: {first_few(waiting)}.")
    result = scatter([list(values.values()) for values in found.values()])
    ratio = result.ratio
    status: Status = "supported" if ratio.low >= 1 else "not supported" if ratio.high < 1 else "inconclusive"
    return Verdict(
        status,
        f"Standard deviation of tuning {100 * result.tuning:.2f} points, of seeds {100 * result.seeds:.2f} points: "
        f"{ratio.bracket()} times (n = {ratio.n} tunings of {len(found)} algorithms with {runs} runs each).",
    )


def compare_variants(
    frame: pd.DataFrame, task: str, algorithms: Sequence[str], variants: tuple[str, str], margin: float
) -> dict[str, Evidence]:
    """By algorithm, its test accuracy in the first variant against that in the second, paired by seed.

    Where both are the same runs, the outcome is ``identical``, and there is nothing to correct for.

    Args:
        frame: The runs of the variants.
        task: The task.
        algorithms: The family of comparisons; those with fewer than two common seeds are left out.
        variants: The two variants.
        margin: The largest difference that does not matter, as a fraction.
    """
    results: dict[str, PairedComparison] = {}
    for name in algorithms:
        own, base = (by_seed(select_runs(_of(frame, v), task, name, 0.0), _METRIC) for v in variants)
        common = sorted(own.keys() & base.keys())
        if len(common) > 1:
            results[name] = compare_paired({s: own[s] for s in common}, {s: base[s] for s in common})
    tested = {name: result for name, result in results.items() if not result.identical}
    judgments = judge_within(list(tested.values()), [margin] * len(tested), higher_is_better=True)
    judged = dict(zip(tested, judgments, strict=True))
    return {
        name: Evidence(
            Comparison(task, name, name, margin=margin),
            _METRIC,
            result.difference,
            judged[name].outcome if name in judged else "identical",
            result,
            judged[name].p_holm if name in judged else None,
        )
        for name, result in results.items()
    }


def decide_trial_length(
    data: RunData, *, task: str, algorithms: Sequence[str], variants: tuple[str, str], margin: float
) -> Verdict:
    """Decides whether what short trials choose is as good as what full-length trials choose.

    Supported: for every algorithm, the short trials' choice is equivalent within the margin, better, or the same.
    Not supported: for one of them it is worse.

    Args:
        data: The runs of both choices.
        task: The task.
        algorithms: The algorithms that were tuned both ways.
        variants: The names of the two ways, the short trials first.
        margin: The largest difference that does not matter, as a fraction.
    """
    both = [Comparison(task, name, name) for name in algorithms]
    obstacle = _obstacle(data.frame, both, dict.fromkeys(variants, MIN_SEEDS))
    if obstacle is not None:
        return obstacle
    rows = compare_variants(data.frame, task, algorithms, variants, margin)
    outcomes = Counter(row.outcome for row in rows.values())
    status: Status = "inconclusive"
    if outcomes["worse"]:
        status = "not supported"
    elif not outcomes["undecided"]:
        status = "supported"
    tally = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    worst = min(rows, key=lambda name: rows[name].interval.estimate)
    sentence = (
        f"Of {len(rows)} choices of short trials: {tally}. Most is lost for {label(worst)}: {rows[worst].result}."
    )
    return Verdict(status, sentence)


def same_outcomes_rule(comparisons: Sequence[Comparison], margin: str) -> str:
    """The rule that :func:`decide_same_outcomes` follows for moved ranges; ``margin`` is in words."""
    return (
        "A range whose edge tuning chose is moved by an octave in that direction, with as many new trials, which "
        "replace the old ones; what else is compared stays. The test accuracy of the last epoch "
        f"({'; '.join(f'{c.algorithm} against {c.baseline}' for c in comparisons)}), paired by seed, is judged "
        f"before and after as better, worse, equivalent within the margin ({margin}) or undecided. "
        "Supported: every outcome stays. Not supported: one changes. Inconclusive: a run diverged."
    )


def decide_same_outcomes(data: RunData, *, comparisons: Sequence[Comparison], variants: tuple[str, str]) -> Verdict:
    """Decides whether comparisons have the same outcome in two variants.

    Supported: every one has. Not supported: one has another.

    Args:
        data: The runs of both variants.
        comparisons: All comparisons that the claim needs, each with a margin.
        variants: The two variants.
    """
    obstacle = _obstacle(data.frame, comparisons, dict.fromkeys(variants, MIN_SEEDS))
    if obstacle is not None:
        return obstacle
    before, after = (evidence_by_seeds(data.frame, comparisons, variant) for variant in variants)
    other = [pair for pair in zip(before, after, strict=True) if pair[0].outcome != pair[1].outcome]
    kept = len(comparisons) - len(other)
    results = "; ".join(
        f"{a.comparison}: {a.outcome}, {a.estimate}, then {b.outcome}, {b.estimate}"
        for a, b in zip(before, after, strict=True)
    )
    return Verdict(
        "not supported" if other else "supported",
        f"{kept} of {len(comparisons)} comparisons keep their outcome. {results}.",
    )


def _obstacle(frame: pd.DataFrame, comparisons: Sequence[Comparison], wanted: Mapping[str, int]) -> Verdict | None:
    """The verdict if runs are missing or unusable; None if the comparisons can be made."""
    waiting, unusable = [], []
    for variant, count in wanted.items():
        for c in comparisons:
            for name in dict.fromkeys((c.algorithm, c.baseline)):
                runs = select_runs(_of(frame, variant), c.task, name, c.label_noise)
                if len(runs) < count:
                    waiting.append(f"{label(name)}, {variant} ({len(runs)} of {count} seeds)")
                elif len(by_seed(runs, _METRIC)) < len(runs):
                    unusable.append(f"{label(name)}, {variant}")
    if waiting:
        return Verdict("pending", f"Waiting for runs: {first_few(list(dict.fromkeys(waiting)))}.")
    if unusable:
        return Verdict("inconclusive", f"Runs that diverged: {first_few(list(dict.fromkeys(unusable)))}.")
    return None


def _changes(pairs: Sequence[tuple[Evidence, Evidence]]) -> str:
    listed = [
        f"{a.comparison}: {a.outcome}, {a.estimate}, by seeds, {b.outcome}, {b.estimate}, by tunings" for a, b in pairs
    ]
    return f" {'; '.join(listed)}." if listed else ""


def _of(frame: pd.DataFrame, variant: str) -> pd.DataFrame:
    return frame if frame.empty else frame[frame["variant"] == variant]


def _margin(c: Comparison) -> float:
    if c.margin is None:
        raise ValueError(f"comparisons must have a margin, got none for {c}")
    return c.margin
