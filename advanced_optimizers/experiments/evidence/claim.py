"""Claims, and the wording of the rules that decide them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.medians import DEVIATIONS, MIN_PAIRS, coverage

COURSEWORK = "coursework"

_IDENTICAL = "Pairs whose runs agree exactly in every seed were not compared: they are named and left out."


@dataclass(frozen=True)
class FormerRule:
    """A rule that was changed after its runs had been seen; the report lists it with what it had said.

    Attributes:
        rule: The rule in words, as it was.
        verdict: What it had said.
        result: The sentence that went with the verdict.
        why: What was wrong with it.
    """

    rule: str
    verdict: str
    result: str
    why: str


@dataclass(frozen=True)
class Claim:
    """A claim, its source, and the rule that decides it.

    Attributes:
        key: Its name in the report's markers.
        study: The study whose runs decide it.
        text: The claim as its source puts it.
        source: Who claims it.
        rule: The rule in words.
        decide: ``decide(data)`` applies the rule.
        method: What the claim is about, for a figure of all verdicts.
        short: The claim in two to five words, for a figure of all verdicts.
        former: The rule that the present one replaced, if the runs had been seen by then.
    """

    key: str
    study: str
    text: str
    source: str
    rule: str
    decide: Callable[[RunData], Verdict]
    method: str
    short: str
    former: FormerRule | None = None


def at_the_end(rule: str, last: str) -> str:
    """A rule in words, for runs that count something else than epochs, such as ``step``."""
    return rule.replace(" of the last epoch", f" after the last {last}")


def improvement_rule(metric: str, compared: str, margins: str, size: str = "") -> str:
    """Puts ``rules.compare_metric`` into words.

    Args:
        metric: The name of the metric.
        compared: What is compared with what, on which tasks.
        margins: The largest differences that do not matter, in words; empty where equivalence is not tested.
        size: What else refutes the claim, beginning with a comma; empty if nothing does.
    """
    equivalent = f", or equivalent within the margin by two one-sided tests ({margins})" if margins else ""
    return (
        f"The {metric} of the last epoch on the test set, {compared}, paired by seed (at least {MIN_SEEDS}), by a "
        "paired t-test at the level 0.05. Supported: every comparison is better; all of them must be (an "
        f"intersection-union test), so none is corrected. Not supported: a comparison is worse{equivalent}{size}; "
        "one is enough, so each kind of test has Holm's correction over all of the claim's comparisons. Otherwise, and "
        f"whenever a run diverged, inconclusive. {_IDENTICAL}"
    )


def claimed_gain_words(over: str) -> str:
    """What the rule of a claim with stated gains adds to ``improvement_rule``, as its ``size``.

    Args:
        over: Which gains are stated, for example ``over Adam``.
    """
    return (
        f", or it gains less {over} than the source's table states (a paired t-test against that gain, with Holm's "
        "correction over the stated gains; where the scale cannot hold the gain, because it is more than the baseline "
        "here leaves to 100 %, the ratio of the errors is tested instead, on a log scale, against the one in the "
        "source's table)"
    )


def overhead_rule(compared: str, limit: float, reason: str) -> str:
    """Puts ``rules.compare_overhead`` into words."""
    return (
        f"The ratio of the seconds of an epoch, {compared}, from epochs run in turn in one process, technical repeats "
        f"on one machine (at least {MIN_PAIRS} pairs): the median over the pairs, with its order-statistic interval of "
        f"at least 95 % ({100 * coverage(9):.1f} % for 9 pairs). Supported: every interval ends at or below {limit:g} "
        f"({reason}); all must, so none is corrected. Not supported: a median is above it by the sign test, with "
        "Holm's correction over all of the claim's comparisons. Otherwise inconclusive. Pairs whose ratio lies more "
        f"than {DEVIATIONS:g} scaled median absolute deviations from the median are named as disturbed and stay in."
    )


def margin_rule(compared: str, margin: float, reason: str) -> str:
    """Puts ``rules.compare_margin`` into words."""
    return (
        f"The difference in test accuracy of the last epoch, {compared}, paired by seed (at least {MIN_SEEDS}), with "
        f"its 95 % interval. Supported: every interval lies above a loss of {100 * margin:g} points ({reason}); all "
        "must, so none is corrected. Not supported: a loss is larger by a paired t-test against it, with Holm's "
        "correction over all of the claim's comparisons. Otherwise, and whenever a run diverged, inconclusive. "
        f"{_IDENTICAL}"
    )


def epochs_rule(compared: str, limit: float, reason: str, targets: Mapping[str, float]) -> str:
    """Puts ``rules.compare_epochs`` into words."""
    listed = ", ".join(f"{100 * target:g} % on {task}" for task, target in targets.items())
    return (
        f"The ratio of the epochs to a fixed test accuracy ({listed}), {compared}, paired by seed (at least "
        f"{MIN_SEEDS}), with the 95 % interval of its geometric mean. Accuracy is measured after each epoch and taken "
        "to be linear in between: a run's count is where that line first meets the target, a fraction of an epoch "
        "included, or 1 if the first epoch ends above it. A run that does not reach it counts with its "
        "length, and the ratio then only against the claim (the method's run) or only for it (the baseline's). "
        f"Supported: every interval ends at or below {limit:g} ({reason}); all must, so none is corrected. Not "
        "supported: a ratio is above it by a t-test of its logarithm, with Holm's correction over all of the claim's "
        "comparisons. Otherwise, and whenever a run diverged, inconclusive."
    )


def shorter_rule(compared: str, control: str, where: str, margin: float) -> str:
    """Puts ``rules.compare_shorter`` into words."""
    return (
        f"The difference in test accuracy of the last epoch on {where}, {compared}, paired by seed (at least "
        f"{MIN_SEEDS}), with its 95 % interval, and as a control that of {control}. Supported: the method's interval "
        f"lies at or above a loss of {100 * margin:g} points, and the control's below it. Not supported: the method's "
        "lies below it, or the control's at or above it, because then the shorter schedule alone explains the result. "
        "Otherwise, and whenever a run diverged, inconclusive."
    )


def memory_rule(compared: str, limit: float, reason: str) -> str:
    """Puts ``rules.compare_memory`` into words."""
    return (
        f"The most bytes of tensors that a training step makes and holds at once, {compared} on both tasks, counted. "
        f"Supported: every ratio is at most {limit:g} ({reason}). Otherwise not supported."
    )


def each(
    algorithms: Mapping[str, str],
    tasks: Sequence[str],
    label_noises: Sequence[float] = (0.0,),
    margins: Mapping[str, float] | None = None,
) -> tuple[Comparison, ...]:
    """Comparisons of each algorithm with its baseline, on each task and at each level of label noise.

    Args:
        algorithms: The baseline of each algorithm.
        tasks: Names of tasks.
        label_noises: Fractions of noisy training labels, in [0, 1].
        margins: By task, the largest difference that does not matter; None where equivalence is not tested.
    """
    return tuple(
        Comparison(task, algorithm, baseline, noise, margin=None if margins is None else margins[task])
        for task in tasks
        for noise in label_noises
        for algorithm, baseline in algorithms.items()
    )
