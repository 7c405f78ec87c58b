"""The claims of the coursework and of the paper about FER."""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim, each, metric_rule, overhead_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_metric, compare_overhead

PAPER = "paper (Deng et al., AAAI 2022)"

# The coursework's table: test accuracy by task and algorithm. It has one row for FER, whose default
# base optimizer is Adam, and names its second data set CIFAR-10.
COURSEWORK_ACCURACY: dict[str, dict[str, float]] = {
    "mnist-mlp": {"sgd": 0.952, "adam": 0.968, "fer-adam": 0.971, "correction": 0.969},
    "cifar10-jpeg-convnet": {"sgd": 0.684, "adam": 0.712, "fer-adam": 0.721, "correction": 0.718},
}
# The coursework's 13.8 s an epoch with FER against 13.1 s without.
COURSEWORK_RATIO = 1.053
# Our reading of the paper's "negligible".
NEGLIGIBLE_RATIO = 1.05


def _over_adam() -> tuple[Comparison, ...]:
    """The coursework's default, FER over Adam, with the gains that its table states."""
    return tuple(
        Comparison(task, "fer-adam", base, claimed=round(table["fer-adam"] - table[base], 4))
        for task, table in COURSEWORK_ACCURACY.items()
        for base in ("sgd", "adam")
    )


_TASKS = tuple(COURSEWORK_ACCURACY)
_FER = {"fer-sgd": "sgd", "fer-adam": "adam"}
_FLIPPING = {"flipping-sgd": "sgd", "flipping-adam": "adam"}
_EACH_NOISE = (0.0, 0.2)
_FLIPPING_WORDS = (
    "the paper's loss over SGD against SGD and over Adam against Adam, on both tasks, with clean and 20 % wrong labels"
)

CLAIMS = (
    Claim(
        key="fer-beats-baselines",
        study="fer",
        text="FER beats SGD and Adam in accuracy on MNIST and CIFAR-10 "
        "(97.1 against 95.2 and 96.8 %, 72.1 against 68.4 and 71.2 %).",
        source=COURSEWORK,
        rule=metric_rule(
            "test accuracy",
            "clean labels, on both tasks (cifar10-jpeg stands in for CIFAR-10): gradient consistency, the "
            "coursework's FER, over SGD against SGD, and over Adam (its default) against both Adam and SGD",
            ", or it gains less over Adam than the coursework's table states (a paired "
            "t-test against that gain, with Holm's correction over the stated gains)",
        ),
        decide=partial(
            compare_accuracy,
            comparisons=(*each({"fer-sgd": "sgd"}, _TASKS), *_over_adam()),
        ),
    ),
    Claim(
        key="fer-overhead",
        study="fer",
        text="FER has minimal overhead (13.8 s against 13.1 s an epoch).",
        source=COURSEWORK,
        rule=overhead_rule(
            "gradient consistency over SGD and over Adam against their base on both tasks",
            COURSEWORK_RATIO,
            "13.8 / 13.1",
        ),
        decide=partial(compare_overhead, limit=COURSEWORK_RATIO, comparisons=each(_FER, _TASKS)),
    ),
    Claim(
        key="fer-reduces-rfe",
        study="fer",
        text="FER reduces flipping errors (RFE).",
        source=PAPER,
        rule=metric_rule(
            "relative flipping error",
            f"{_FLIPPING_WORDS}; lower is better",
        ),
        decide=partial(
            compare_metric,
            metric="relative_flipping_error",
            comparisons=each(_FLIPPING, _TASKS, _EACH_NOISE),
        ),
    ),
    Claim(
        key="flipping-overhead",
        study="fer",
        text="FER has negligible training overhead.",
        source=PAPER,
        rule=overhead_rule(
            "the paper's loss with SGD and with Adam against their base on both tasks",
            NEGLIGIBLE_RATIO,
            "our reading of negligible",
        ),
        decide=partial(compare_overhead, limit=NEGLIGIBLE_RATIO, comparisons=each(_FLIPPING, _TASKS)),
    ),
    Claim(
        key="flipping-improves-accuracy",
        study="fer",
        text="FER generalises better.",
        source=PAPER,
        rule=metric_rule(
            "test accuracy",
            _FLIPPING_WORDS,
        ),
        decide=partial(compare_accuracy, comparisons=each(_FLIPPING, _TASKS, _EACH_NOISE)),
    ),
)
