"""The rules that decide claims: each derives a verdict from comparisons of runs, or from a measurement.

``comparisons`` defines the four verdicts. Every rule is called with the study's ``RunData``; its other arguments are
part of the claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import (
    MIN_SEEDS,
    Comparison,
    Evidence,
    Pair,
    RunData,
    Status,
    Verdict,
    metric_evidence,
    select_pair,
)
from advanced_optimizers.experiments.evidence.labels import label, where
from advanced_optimizers.experiments.evidence.medians import MIN_PAIRS, median_interval, ratios, sign_test
from advanced_optimizers.experiments.evidence.metrics import METRICS, first_few
from advanced_optimizers.experiments.evidence.statistics import ALPHA, Interval, holm, ratio_interval, ratio_p


def compare_metric(
    data: RunData,
    *,
    metric: str,
    comparisons: Sequence[Comparison],
) -> Verdict:
    """Decides a claim that algorithms improve a metric of the last epoch.

    Supported: every comparison is better, each at the level 0.05. Not supported: a comparison is worse, equivalent
    within its margin, or its gain is smaller than stated, after Holm's correction. Comparisons of runs that agree
    exactly in every seed are left out.

    Args:
        data: The runs of one study.
        metric: A column of the frame that is a key of ``METRICS``.
        comparisons: All comparisons that the claim needs.

    Raises:
        ValueError: Two runs share a seed.
    """
    obstacle = missing_runs(data.frame, metric, comparisons)
    if obstacle is not None:
        return obstacle
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    return _conclude(metric_evidence(data.frame, metric, comparisons), sign)


def compare_margin(
    data: RunData,
    *,
    margin: float,
    comparisons: Sequence[Comparison],
) -> Verdict:
    """Decides a claim that algorithms lose no more than a margin of test accuracy.

    Supported: in every comparison, the 95 % interval of the difference, paired by seed, lies at or above ``-margin``.
    Not supported: a loss is larger than the margin by a paired t-test against it, after Holm's correction.

    Args:
        data: The runs of one study.
        margin: Largest loss that the claim allows, as a fraction in [0, 1], for example 0.005.
        comparisons: All comparisons that the claim needs.

    Raises:
        ValueError: Two runs share a seed.
    """
    obstacle = missing_runs(data.frame, "test_accuracy", comparisons)
    if obstacle is not None:
        return obstacle
    rows = metric_evidence(data.frame, "test_accuracy", comparisons, null=-margin)
    return _conclude([row if row.outcome == "identical" else _within_loss(row, margin) for row in rows], 1.0)


def _within_loss(row: Evidence, margin: float) -> Evidence:
    p = 1.0 if row.p_holm is None else row.p_holm
    loss = Interval(-row.interval.estimate, -row.interval.high, -row.interval.low, row.interval.n)
    return replace(row, outcome=_side(loss, margin, p))


def compare_shorter(data: RunData, *, margin: float, shorter: Comparison, control: Comparison) -> Verdict:
    """Decides a claim that an algorithm does in a shorter run what its baseline does in a full one.

    The time at which a run comes to a fixed accuracy follows from the length of its schedule, so it takes runs of both
    lengths, and the baseline in the shorter run as a control.

    Supported: the 95 % interval of the algorithm's difference, paired by seed, lies at or above ``-margin``, and that
    of the control below it. Not supported: the algorithm's lies below it, or the control's at or above it, because then
    the shorter schedule alone explains the result.

    Args:
        data: The runs of one study.
        margin: Largest loss of test accuracy that does not matter, as a fraction in [0, 1].
        shorter: The algorithm in the shorter run against the baseline in the full one.
        control: The baseline in the shorter run against the baseline in the full one.

    Raises:
        ValueError: Two runs share a seed.
    """
    comparisons = (shorter, control)
    obstacle = missing_runs(data.frame, "test_accuracy", comparisons)
    if obstacle is not None:
        return obstacle
    rows = metric_evidence(data.frame, "test_accuracy", comparisons)
    own, base = (replace(row, outcome=_side_of_loss(row.interval, margin)) for row in rows)
    status: Status = "inconclusive"
    if own.outcome == "above" or base.outcome == "within":
        status = "not supported"
    elif own.outcome == "within" and base.outcome == "above":
        status = "supported"
    sentence = "; ".join(
        f"{row.comparison}: {row.estimate} (n = {row.interval.n}), {_LOSSES[row.outcome]}" for row in (own, base)
    )
    explained = " The baseline itself does with the shorter schedule." if base.outcome == "within" else ""
    return Verdict(status, f"{sentence}.{explained}", (own, base))


def _side_of_loss(difference: Interval, margin: float) -> str:
    """On which side of the margin the interval of a difference lies."""
    if difference.low >= -margin:
        return "within"
    return "above" if difference.high < -margin else "unclear"


_LOSSES = {"within": "within the margin", "above": "a loss beyond the margin", "unclear": "on both sides of the margin"}


def compare_epochs(
    data: RunData,
    *,
    limit: float,
    comparisons: Sequence[Comparison],
) -> Verdict:
    """Decides a claim that algorithms reach a target accuracy in fewer epochs.

    Supported: the interval of every ratio of epochs, paired by seed, ends at or below the limit. Not supported: one is
    above it by a t-test of its logarithm, after Holm's correction. A run that did not reach the target counts with its
    length, a lower bound on what it needed. If the algorithm has such runs, the ratio is a lower bound and can only
    refute the claim; if the baseline has them, it is an upper bound and can only support the claim; if both have them,
    it decides nothing.

    Args:
        data: The runs of one study, in a frame that was built with targets.
        limit: Largest ratio that the claim allows, for example 0.8.
        comparisons: All comparisons that the claim needs.

    Raises:
        ValueError: Two runs share a seed.
    """
    obstacle = missing_runs(data.frame, "test_accuracy", comparisons)
    if obstacle is not None:
        return obstacle
    runs = [select_pair(data.frame, c) for c in comparisons]
    pairs = [list(zip(_least_epochs(own), _least_epochs(base), strict=True)) for own, base in runs]
    p_values = holm([ratio_p(own, limit) for own in pairs])
    evidence = []
    for c, (own, base), counts, p in zip(comparisons, runs, pairs, p_values, strict=True):
        ratio = ratio_interval(counts)
        side = _side(ratio, limit, p)
        impossible = {"within"} if own["epochs_to_target"].isna().any() else set()
        impossible |= {"above"} if base["epochs_to_target"].isna().any() else set()
        outcome = "unclear" if side in impossible else side
        run_ids = tuple(sorted([*own["run_id"], *base["run_id"]]))
        evidence.append(Evidence(c, "ratio", ratio, outcome, p_holm=p, family=len(pairs), run_ids=run_ids))
    return _conclude(evidence, sign=-1.0)


def _least_epochs(runs: pd.DataFrame) -> list[float]:
    """By seed, the epochs that a run took to reach its target, or a lower bound on them."""
    by_seed = runs.sort_index()
    return by_seed["epochs_to_target"].fillna(by_seed["epochs"]).astype(float).tolist()


def compare_accuracy(
    data: RunData,
    *,
    comparisons: Sequence[Comparison],
) -> Verdict:
    """Applies ``compare_metric`` to the test accuracy of the last epoch."""
    return compare_metric(data, metric="test_accuracy", comparisons=comparisons)


def compare_overhead(
    data: RunData,
    *,
    limit: float,
    comparisons: Sequence[Comparison],
) -> Verdict:
    """Decides a claim that algorithms cost little time.

    Supported: the interval of every median ratio ends at or below the limit. Not supported: a median is above it by the
    sign test, after Holm's correction.

    Args:
        data: Its measurements are ``{"measurements": [{"task", "algorithm", "baseline", "pairs"}, ...]}``, where a
            pair is ``[seconds of the algorithm, seconds of the baseline]`` of two epochs that ran one after the other
            in one process. The recorded runs are timed separately, but a ratio needs epochs measured side by side.
        limit: Largest ratio that the claim allows, for example 1.05.
        comparisons: All ratios that the claim needs.
    """
    rows = [] if data.measurements is None else data.measurements["measurements"]
    pairs = {(row["task"], row["algorithm"], row["baseline"]): row["pairs"] for row in rows}
    measured = {c: ratios(pairs.get((c.task, c.algorithm, c.baseline), [])) for c in comparisons}
    waiting = [
        f"{c} ({len(own)} of {MIN_PAIRS} pairs of epochs)" for c, own in measured.items() if len(own) < MIN_PAIRS
    ]
    if waiting:
        return Verdict("pending", f"Waiting for measured epochs: {first_few(waiting)}.")
    p_values = holm([sign_test(own, limit) for own in measured.values()])
    evidence = []
    for (c, own), p in zip(measured.items(), p_values, strict=True):
        ratio = median_interval(own)
        evidence.append(Evidence(c, "ratio", ratio, _side(ratio, limit, p), p_holm=p, family=len(measured)))
    return _conclude(evidence, sign=-1.0)


def compare_memory(
    data: RunData,
    *,
    limit: float,
    comparisons: Sequence[Comparison],
) -> Verdict:
    """Decides a claim about the memory of a training step. It is counted, not sampled, so there is no interval.

    Supported: every ratio is at most the limit. Otherwise not supported.

    Args:
        data: As for :func:`compare_overhead`; a row holds ``peak_bytes``, ``[algorithm, baseline]``.
        limit: Largest ratio that the claim allows.
        comparisons: All ratios that the claim needs.
    """
    rows = [] if data.measurements is None else data.measurements["measurements"]
    counted = {(r["task"], r["algorithm"], r["baseline"]): r["peak_bytes"] for r in rows if "peak_bytes" in r}
    waiting = [str(c) for c in comparisons if (c.task, c.algorithm, c.baseline) not in counted]
    if waiting:
        return Verdict("pending", f"Waiting for counted memory: {first_few(waiting)}.")
    evidence = []
    for c in comparisons:
        own, base = counted[c.task, c.algorithm, c.baseline]
        ratio = Interval(own / base, own / base, own / base, 1)
        evidence.append(Evidence(c, "ratio", ratio, "within" if own / base <= limit else "above"))
    return _conclude(evidence, sign=-1.0)


def check_properties(data: RunData) -> Verdict:
    """Decides a claim that is a list of properties, each tested on a network.

    Supported: all of them hold. Not supported: one does not.

    Args:
        data: Its measurements hold, under ``"properties"``, a list of ``{"property", "holds"}``.
    """
    rows = [] if data.measurements is None else data.measurements.get("properties", [])
    if not rows:
        return Verdict("pending", "Waiting for the test of the properties.")
    failing = [row["property"] for row in rows if not row["holds"]]
    tally = f"{len(rows) - len(failing)} of {len(rows)} properties hold"
    if not failing:
        return Verdict("supported", f"{tally}.")
    return Verdict("not supported", f"{tally}. Not: {'; '.join(failing)}.")


def missing_runs(frame: pd.DataFrame, metric: str, comparisons: Sequence[Comparison]) -> Verdict | None:
    """The verdict if runs are missing or unusable; None if the comparisons can be made."""
    pairs = {c: select_pair(frame, c) for c in comparisons}
    waiting = [note for c, pair in pairs.items() for note in _missing(c, pair)]
    if waiting:
        return Verdict("pending", f"Waiting for runs: {first_few(waiting)}.")
    unusable = [note for pair in pairs.values() for note in _unusable(pair, metric)]
    if unusable:
        text = f"Runs that diverged or hold no {METRICS[metric].name}: {first_few(unusable)}."
        return Verdict("inconclusive", text)
    return None


def _side(interval: Interval, limit: float, p_holm: float) -> str:
    """On which side of a limit a ratio or a loss lies.

    All must be within, so there each interval stands alone; one above refutes, so its p-value is corrected.
    """
    if interval.high <= limit:
        return "within"
    return "above" if interval.estimate > limit and p_holm < ALPHA else "unclear"


def _missing(c: Comparison, pair: Pair) -> list[str]:
    """What prevents a comparison: too few seeds, or seeds on one side only."""
    wanted = max(MIN_SEEDS, len(pair[0].index.union(pair[1].index)))
    return [
        f"{label(algorithm)} on {where(c.task, c.label_noise)} ({len(runs)} of {wanted} seeds)"
        for algorithm, runs in zip((c.algorithm, c.baseline), pair, strict=True)
        if len(runs) < wanted
    ]


def _unusable(pair: Pair, metric: str) -> list[str]:
    both = pd.concat(pair)
    bad = both[(both["status"] != "completed") | both[metric].isna()]
    return [f"{run.algorithm} on {run.task}, run {run.run_id}" for run in bad.itertuples()]


def _conclude(evidence: Sequence[Evidence], sign: float) -> Verdict:
    """The verdict that follows from the comparisons; ``sign`` is the sign of a favorable difference.

    Pairs whose runs are identical were not compared: the sentence names them, and they do not count.
    """
    compared = [row for row in evidence if row.outcome != "identical"]
    same = [str(row.comparison) for row in evidence if row.outcome == "identical"]
    named = f"Identical in every seed: {first_few(same)}." if same else ""
    if not compared:
        return Verdict("inconclusive", f"Nothing was compared. {named}", tuple(evidence))
    if any(row.contradicts for row in compared):
        status: Status = "not supported"
    elif all(row.outcome in ("better", "within") for row in compared):
        status = "supported"
    else:
        status = "inconclusive"
    counts = Counter(row.outcome for row in compared)
    short = sum(row.falls_short for row in compared)
    tally = [f"{count} {outcome}" for outcome, count in sorted(counts.items())]
    tally += [f"{short} smaller than claimed"] if short else []
    least = min(compared, key=lambda row: sign * row.interval.estimate)
    counted = f"Of {len(compared)} comparisons: {', '.join(tally)}."
    sentence = f"{counted} Least in favor: {least.comparison}, {least.result}. {_needed(compared)}{named}".rstrip()
    return Verdict(status, sentence, tuple(evidence))


def _needed(evidence: Sequence[Evidence]) -> str:
    """How many seeds the undecided comparisons would take."""
    seeds = [row.seeds_needed for row in evidence if row.seeds_needed is not None]
    if not seeds:
        return ""
    words = f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    return f"To find a difference as large as the margin, what is undecided would take n = {words}. "
