"""Each claim of the papers and of the coursework, and the rule that decides it.

A rule is written before the runs that decide it, and reads only recorded runs or, where the claim
is about time, a committed measurement. ``evidence`` says what the four verdicts mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from advanced_optimizers.experiments.evidence import (
    MIN_SEEDS,
    Comparison,
    Measurements,
    Verdict,
    compare_accuracy,
    compare_metric,
    compare_overhead,
)

COURSEWORK = "coursework"
FER_PAPER = "paper (Deng et al., AAAI 2022)"

# The coursework's table: test accuracy by task and algorithm. It has one row for FER, whose default
# base optimizer is Adam, and names its second data set CIFAR-10.
COURSEWORK_ACCURACY: dict[str, dict[str, float]] = {
    "mnist-mlp": {"sgd": 0.952, "adam": 0.968, "fer-adam": 0.971},
    "cifar10-jpeg-convnet": {"sgd": 0.684, "adam": 0.712, "fer-adam": 0.721},
}
# The coursework's 13.8 s an epoch with FER against 13.1 s without.
COURSEWORK_RATIO = 1.053
# Our reading of the paper's "negligible".
NEGLIGIBLE_RATIO = 1.05


@dataclass(frozen=True)
class Claim:
    """A claim, where it is from, and the rule that decides it.

    Attributes:
        key: Its name in the report's markers.
        study: The study whose runs decide it.
        text: The claim as its source puts it.
        source: Who claims it.
        rule: The rule in words.
        decide: ``decide(frame, measurements)`` applies the rule to the frame of
            ``runs.records_frame`` and to a measurement file's content (None where there is none).
    """

    key: str
    study: str
    text: str
    source: str
    rule: str
    decide: Callable[[pd.DataFrame, Measurements | None], Verdict]


def _metric_rule(metric: str, compared: str, size: str = "") -> str:
    return (
        f"The {metric} of the last epoch on the test set, {compared}, paired by seed (at least "
        f"{MIN_SEEDS}), by a paired t-test at the level 0.05 with Holm's correction over all of "
        "the claim's comparisons. Supported: every comparison is better. Not supported: a "
        f"comparison is worse or exactly equal in every seed{size}. Otherwise, and whenever a run "
        "diverged, inconclusive."
    )


def _overhead_rule(compared: str, limit: float, reason: str) -> str:
    return (
        f"The ratio of the seconds of an epoch, {compared} on both tasks, from epochs run in turn "
        f"in one process (at least {MIN_SEEDS} pairs), with the 95 % interval of its geometric "
        f"mean. Supported: every interval ends at or below {limit:g} ({reason}). Not supported: "
        "an interval starts above it. Otherwise inconclusive."
    )


def _each(algorithms: Mapping[str, str], label_noises: Sequence[float] = (0.0,)) -> tuple[Comparison, ...]:
    """Each algorithm against its base, on both tasks and with each share of wrong labels."""
    return tuple(
        Comparison(task, algorithm, baseline, noise)
        for task in COURSEWORK_ACCURACY
        for noise in label_noises
        for algorithm, baseline in algorithms.items()
    )


def _over_adam() -> tuple[Comparison, ...]:
    """The coursework's default, FER over Adam, with the gains that its table states."""
    return tuple(
        Comparison(task, "fer-adam", base, claimed=round(table["fer-adam"] - table[base], 4))
        for task, table in COURSEWORK_ACCURACY.items()
        for base in ("sgd", "adam")
    )


_FER = {"fer-sgd": "sgd", "fer-adam": "adam"}
_FLIPPING = {"flipping-sgd": "sgd", "flipping-adam": "adam"}
_EACH_NOISE = (0.0, 0.2)
_FLIPPING_WORDS = (
    "the paper's loss over SGD against SGD and over Adam against Adam, on both tasks, with clean and 20 % wrong labels"
)

CLAIMS: dict[str, Claim] = {
    claim.key: claim
    for claim in (
        Claim(
            key="fer-beats-baselines",
            study="fer",
            text="FER beats SGD and Adam in accuracy on MNIST and CIFAR-10 "
            "(97.1 against 95.2 and 96.8 %, 72.1 against 68.4 and 71.2 %).",
            source=COURSEWORK,
            rule=_metric_rule(
                "test accuracy",
                "clean labels, on both tasks (cifar10-jpeg stands in for CIFAR-10): gradient consistency, the "
                "coursework's FER, over SGD against SGD, and over Adam (its default) against both Adam and SGD",
                ", or it gains less over Adam than the coursework's table states (a paired "
                "t-test against that gain, with Holm's correction over the stated gains)",
            ),
            decide=partial(
                compare_accuracy,
                comparisons=(*_each({"fer-sgd": "sgd"}), *_over_adam()),
            ),
        ),
        Claim(
            key="fer-overhead",
            study="fer",
            text="FER has minimal overhead (13.8 s against 13.1 s an epoch).",
            source=COURSEWORK,
            rule=_overhead_rule(
                "gradient consistency over SGD and over Adam against their base", COURSEWORK_RATIO, "13.8 / 13.1"
            ),
            decide=partial(compare_overhead, limit=COURSEWORK_RATIO, comparisons=_each(_FER)),
        ),
        Claim(
            key="fer-reduces-rfe",
            study="fer",
            text="FER reduces flipping errors (RFE).",
            source=FER_PAPER,
            rule=_metric_rule(
                "relative flipping error",
                f"{_FLIPPING_WORDS}; lower is better",
            ),
            decide=partial(
                compare_metric,
                metric="relative_flipping_error",
                comparisons=_each(_FLIPPING, _EACH_NOISE),
            ),
        ),
        Claim(
            key="flipping-overhead",
            study="fer",
            text="FER has negligible training overhead.",
            source=FER_PAPER,
            rule=_overhead_rule(
                "the paper's loss with SGD and with Adam against their base",
                NEGLIGIBLE_RATIO,
                "our reading of negligible",
            ),
            decide=partial(compare_overhead, limit=NEGLIGIBLE_RATIO, comparisons=_each(_FLIPPING)),
        ),
        Claim(
            key="flipping-improves-accuracy",
            study="fer",
            text="FER generalises better.",
            source=FER_PAPER,
            rule=_metric_rule(
                "test accuracy",
                _FLIPPING_WORDS,
            ),
            decide=partial(compare_accuracy, comparisons=_each(_FLIPPING, _EACH_NOISE)),
        ),
    )
}


def decide_claims(study: str, frame: pd.DataFrame, measurements: Measurements | None = None) -> dict[str, Verdict]:
    """Applies the rules of a study's claims to its runs; the verdicts by the claims' keys."""
    return {key: claim.decide(frame, measurements) for key, claim in CLAIMS.items() if claim.study == study}
