"""What the coursework concludes from its one table of accuracies and seconds, over the methods of several topics.

The study has no runs of its own: each of its runs is one of another study's, found by the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim, each, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison, Evidence, RunData, Status, Verdict
from advanced_optimizers.experiments.evidence.medians import MIN_PAIRS, median_interval, ratios, sign_test
from advanced_optimizers.experiments.evidence.metrics import first_few
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.evidence.statistics import ALPHA, Interval, holm
from advanced_optimizers.experiments.studies.baselines import (
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    MARGIN_WORDS,
    MARGINS,
    MNIST,
    MNIST2,
)
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

# The rows of the coursework's table, with its seconds per epoch. Its accuracies stand with the algorithms.
SECONDS = {"sgd": 12.3, "adam": 13.1, "fer-adam": 13.8, "correction": 14.2, "localized-static": 11.7}

# Localized learning runs on the network with two hidden layers on MNIST, the other methods on that with one.
_TASKS = {
    "fer-adam": ("mnist-mlp", "cifar10-jpeg-convnet"),
    "correction": ("mnist-mlp", "cifar10-jpeg-convnet"),
    "localized-static": ("mnist-mlp2", "cifar10-jpeg-convnet"),
}


def compare_order(data: RunData, *, comparisons: Sequence[Comparison]) -> Verdict:
    """Decides a claim about which of two algorithms takes longer per epoch, for each of several pairs.

    Supported: the interval of every median ratio starts above 1. Not supported: a median is below 1 by the sign test,
    after Holm's correction.

    Args:
        data: As for ``rules.compare_overhead``.
        comparisons: In each, ``algorithm`` is claimed to take longer than ``baseline``.
    """
    rows = [] if data.measurements is None else data.measurements["measurements"]
    measured = {(row["task"], row["algorithm"], row["baseline"]): ratios(row["pairs"]) for row in rows}
    values = {c: _ratios(measured, c) for c in comparisons}
    waiting = [f"{c} ({len(own)} of {MIN_PAIRS} pairs of epochs)" for c, own in values.items() if len(own) < MIN_PAIRS]
    if waiting:
        return Verdict("pending", f"Waiting for measured epochs: {first_few(waiting)}.")
    p_values = holm([sign_test(own, 1.0) for own in values.values()])
    evidence = tuple(
        Evidence(c, "ratio", ratio, _order(ratio, p), p_holm=p, family=len(values))
        for (c, ratio), p in zip({c: median_interval(own) for c, own in values.items()}.items(), p_values, strict=True)
    )
    outcomes = [row.outcome for row in evidence]
    status: Status = "inconclusive"
    if "reversed" in outcomes:
        status = "not supported"
    elif "unclear" not in outcomes:
        status = "supported"
    least = min(evidence, key=lambda row: row.interval.estimate)
    sentence = (
        f"Of {len(evidence)} pairs: {outcomes.count('in order')} in the coursework's order, "
        f"{outcomes.count('reversed')} reversed, {outcomes.count('unclear')} unclear. "
        f"Least in favor: {least.comparison}, {least.result}."
    )
    return Verdict(status, sentence, evidence)


def _order(ratio: Interval, p_holm: float) -> str:
    """Whether the slower takes longer: all must, so the interval stands alone; one that does not is enough against."""
    if ratio.low > 1:
        return "in order"
    return "reversed" if ratio.estimate < 1 and p_holm < ALPHA else "unclear"


def _ratios(measured: Mapping[tuple[str, str, str], list[float]], c: Comparison) -> list[float]:
    """The slower's times over the faster's, from epochs run in turn; empty if they were not measured.

    Two algorithms that were each measured against the same base are compared by their ratios to it.
    """
    if (direct := (c.task, c.algorithm, c.baseline)) in measured:
        return measured[direct]
    if (inverse := (c.task, c.baseline, c.algorithm)) in measured:
        return [1.0 / ratio for ratio in measured[inverse]]
    base = ALGORITHMS[c.algorithm].baseline or c.algorithm
    slower, faster = (measured.get((c.task, name, base), []) for name in (c.algorithm, c.baseline))
    return [own / other for own, other in zip(slower, faster, strict=False)]


def _against(baseline: str, algorithms: Sequence[str] = tuple(_TASKS)) -> tuple[Comparison, ...]:
    return tuple(chain.from_iterable(each({name: baseline}, _TASKS[name], margins=MARGINS) for name in algorithms))


_ALL = (*_against("sgd"), *_against("adam"))
_FER = (
    *(c for c in _ALL if c.algorithm == "fer-adam"),
    *each({"fer-adam": "correction"}, _TASKS["fer-adam"], margins=MARGINS),
    *each({"fer-adam": "localized-static"}, ("cifar10-jpeg-convnet",), margins=MARGINS),
)
_SLOWER = (
    *each({"sgd": "localized-static"}, _TASKS["localized-static"]),
    *each({"fer-adam": "adam"}, _TASKS["fer-adam"]),
    *each({"correction": "fer-adam"}, _TASKS["correction"]),
)

_CLAIMS = (
    Claim(
        key="coursework-all-beat-baselines",
        method="All methods",
        short="all beat SGD and Adam",
        study="coursework-table",
        text="All algorithms beat SGD and Adam. (The coursework's own table contradicts it: LocalLearning has 96.3 % "
        "on MNIST and 70.5 % on CIFAR-10, Adam 96.8 and 71.2 %.)",
        source=COURSEWORK,
        rule=improvement_rule(
            "test accuracy",
            "clean labels, on both tasks: gradient consistency over Adam, gradient correction over Adam, and localized "
            "learning with the static transition (the better of its two modes), each against SGD and against Adam",
            MARGIN_WORDS,
        ),
        decide=partial(compare_accuracy, comparisons=_ALL),
    ),
    Claim(
        key="coursework-fer-most-accurate",
        method="All methods",
        short="FER is the most accurate",
        study="coursework-table",
        text="FER is the most accurate on both datasets (97.1 and 72.1 %).",
        source=COURSEWORK,
        rule=improvement_rule(
            "test accuracy",
            "clean labels: gradient consistency over Adam against SGD, Adam and gradient correction over Adam on both "
            "tasks, and against localized learning with the static transition on cifar10-jpeg, where both train the "
            "same network",
            MARGIN_WORDS,
        ),
        decide=partial(compare_accuracy, comparisons=_FER),
    ),
    Claim(
        key="coursework-order-of-seconds",
        method="All methods",
        short="order of the seconds",
        study="coursework-table",
        text="From the fastest epoch to the slowest: LocalLearning 11.7 s, SGD 12.3 s, Adam 13.1 s, FER 13.8 s, "
        "gradient correction 14.2 s.",
        source=COURSEWORK,
        rule="The ratio of the seconds of an epoch, the slower by the coursework's order against the faster, on both "
        "tasks: SGD against localized learning with the static transition, gradient consistency over Adam against "
        "Adam, and gradient correction over Adam against gradient consistency (by their ratios to Adam); the median "
        f"over pairs of epochs run in turn in one process (at least {MIN_PAIRS}), with its order-statistic interval of "
        "at least 95 %. Adam and SGD were not measured side by side. Supported: every interval starts above 1; all "
        "must, so none is corrected. Not supported: a median is below 1 by the sign test, with Holm's correction over "
        "all of the claim's comparisons. Otherwise inconclusive.",
        decide=partial(compare_order, comparisons=_SLOWER),
    ),
)

TOPIC = Topic(
    title="The coursework's table",
    algorithms={},
    studies=in_both_profiles(
        name="coursework-table",
        title="Do the conclusions hold that the coursework draws from its table? (It uses the runs of other studies.)",
        full=(MNIST, MNIST2, CIFAR),
        quick=(DIGITS, DIGITS_CONV),
        algorithms=tuple(SECONDS),
        left_out=(("mlp", "localized-static"), ("mlp2", "fer-adam"), ("mlp2", "correction")),
        curves=(),
        stated_seconds=SECONDS,
    ),
    claims=_CLAIMS,
)
