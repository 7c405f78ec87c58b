"""FER: the algorithms, study and claims of the two methods that are called FER."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.evidence.claim import (
    COURSEWORK,
    Claim,
    claimed_gain_words,
    each,
    improvement_rule,
    overhead_rule,
)
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_metric, compare_overhead
from advanced_optimizers.experiments.studies.baselines import (
    BASE_LABELS,
    BASES,
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    FLIPPING_MARGIN_WORDS,
    FLIPPING_MARGINS,
    LEARNING_RATES,
    MARGIN_WORDS,
    MARGINS,
    MNIST,
    base_and_own,
    build_base,
)
from advanced_optimizers.experiments.studies.baselines import TOPIC as BASELINES
from advanced_optimizers.experiments.studies.claims.former import FORMER
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting
from advanced_optimizers.fer_optimizer import FEROptimizer, FlippingErrorReduction, FlippingTracker

PAPER = "paper (Deng et al., AAAI 2022)"

# The coursework states 13.8 s per epoch with FER, 13.1 s without.
COURSEWORK_RATIO = 1.053
# Our reading of the paper's "negligible".
NEGLIGIBLE_RATIO = 1.05


# ---- how they train ----------------------------------------------------------------------------------------------


class FERLearner(BackpropLearner):
    """Ordinary training with FEROptimizer; it also reports how consistent the gradients were."""

    optimizer: FEROptimizer

    def __init__(self, setting: Setting, optimizer: FEROptimizer) -> None:
        super().__init__(setting, optimizer)
        self.steps_per_epoch = setting.steps_per_epoch

    def end_epoch(self) -> dict[str, float]:
        """Adds the mean cosine between gradient and memory over the epoch's steps, as far as the history goes back."""
        values = self.optimizer.consistency_history[-self.steps_per_epoch :]
        return {**super().end_epoch(), "consistency": sum(values) / len(values) if values else math.nan}


class FlippingLearner(BackpropLearner):
    """Ordinary training with the paper's loss, whose memory of each sample is part of the state."""

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer, criterion: FlippingErrorReduction) -> None:
        super().__init__(setting, optimizer)
        self.criterion = criterion

    def start_epoch(self, epoch: int) -> None:
        """Sets the weights of the loss's two terms."""
        self.criterion.set_epoch(epoch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Returns the flipping error reduction loss of a batch."""
        loss: Tensor = self.criterion(logits, batch.labels, batch.indices)
        return loss

    def end_epoch(self) -> dict[str, float]:
        """Adds the fraction of the training samples that were ever classified correctly."""
        return {**super().end_epoch(), "ever_correct": float(self.criterion.ever_correct.float().mean())}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of model, optimizer and schedule, and what the loss remembers."""
        return {**super().state_dict(), "criterion": self.criterion.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule and the memory of the loss."""
        super().load_state_dict(state_dict)
        self.criterion.load_state_dict(state_dict["criterion"])


class FlippingCurves:
    """The flipping errors on the test set, which every run records."""

    def __init__(self, num_samples: int) -> None:
        self._tracker = FlippingTracker(num_samples)

    def update(self, correct: Tensor) -> dict[str, float]:
        """Updates the memory with one epoch; returns its errors, one per curve."""
        errors = self._tracker.update(correct)
        return {
            "wrongly_flipped": float(errors.wrongly_flipped),
            "relative_flipping_error": errors.relative,
            "absolute_flipping_error": errors.absolute,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Returns which samples were ever classified correctly."""
        return self._tracker.state_dict()

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self._tracker.load_state_dict(state_dict)


def _consistency(base: str) -> Callable[[Setting], Learner]:
    def build(setting: Setting) -> Learner:
        optimizer, kwargs, own = base_and_own(setting, base)
        return FERLearner(setting, FEROptimizer(setting.model.parameters(), optimizer, kwargs, **own))

    return build


def flipping(base: str, **fixed: float) -> Callable[[Setting], Learner]:
    """Training with the paper's loss over a base optimizer; ``fixed`` values are not hyperparameters of the run."""

    def build(setting: Setting) -> Learner:
        own: dict[str, Any] = {k: v for k, v in setting.config.hyperparameters.items() if k != "lr"} | fixed
        criterion = FlippingErrorReduction(setting.num_samples, setting.num_classes, setting.config.epochs, **own)
        criterion.to(next(setting.model.parameters()).device)
        return FlippingLearner(setting, build_base(setting, base), criterion)

    return build


# ---- the algorithms ----------------------------------------------------------------------------------------------

# The coursework's table has one row for FER, and its default base optimizer is Adam.
_CLAIMED = {"fer-adam": {"mnist-mlp": 0.971, "cifar10-jpeg-convnet": 0.721}}
_CONSISTENCY_SPACE = {
    "fer_weight": Range(low=0.03, high=1.0, log=True),
    "memory_size": Range(low=10, high=1000, log=True, integer=True),
}
_FLIPPING_SPACE = {"mu": Range(low=0.3, high=1.0), "gamma": Range(low=0.1, high=0.9)}

_ALGORITHMS = {
    name: algorithm
    for base in BASES
    for name, algorithm in {
        f"fer-{base}": Algorithm(
            label=f"Gradient consistency over {BASE_LABELS[base]}",
            baseline=base,
            search_space={"lr": LEARNING_RATES[base], **_CONSISTENCY_SPACE},
            build=_consistency(base),
            options=frozenset({"consistency_threshold"}),
            claimed=_CLAIMED.get(f"fer-{base}", {}),
        ),
        f"flipping-{base}": Algorithm(
            label=f"Flipping error reduction over {BASE_LABELS[base]}",
            baseline=base,
            search_space={"lr": LEARNING_RATES[base], **_FLIPPING_SPACE},
            build=flipping(base),
            options=frozenset({"temperature", "init_epochs"}),
        ),
    }.items()
}

# ---- the claims --------------------------------------------------------------------------------------------------

TASKS = ("mnist-mlp", "cifar10-jpeg-convnet")
_FER = {"fer-sgd": "sgd", "fer-adam": "adam"}
_FLIPPING = {"flipping-sgd": "sgd", "flipping-adam": "adam"}
EACH_NOISE = (0.0, 0.2)
_FLIPPING_WORDS = (
    "the paper's loss over SGD against SGD and over Adam against Adam, on both tasks, with clean and 20 % wrong labels"
)


def _over_adam() -> tuple[Comparison, ...]:
    """Comparisons of the coursework's default, FER with Adam, with the gains that its table states."""
    stated = {base: BASELINES.algorithms[base].claimed for base in ("sgd", "adam")}
    return tuple(
        Comparison(
            task,
            "fer-adam",
            base,
            claimed=round(own - baseline[task], 4),
            claimed_from=baseline[task],
            margin=MARGINS[task],
        )
        for task, own in _CLAIMED["fer-adam"].items()
        for base, baseline in stated.items()
    )


_CLAIMS = (
    Claim(
        key="fer-beats-baselines",
        method="Gradient consistency",
        short="beats SGD and Adam",
        study="fer",
        text="FER beats SGD and Adam in accuracy on MNIST and CIFAR-10 "
        "(97.1 against 95.2 and 96.8 %, 72.1 against 68.4 and 71.2 %).",
        source=COURSEWORK,
        rule=improvement_rule(
            "test accuracy",
            "clean labels, on both tasks (cifar10-jpeg stands in for CIFAR-10): gradient consistency, the "
            "coursework's FER, over SGD against SGD, and over Adam (its default) against both Adam and SGD",
            MARGIN_WORDS,
            claimed_gain_words("over Adam"),
        ),
        decide=partial(
            compare_accuracy,
            comparisons=(*each({"fer-sgd": "sgd"}, TASKS, margins=MARGINS), *_over_adam()),
        ),
        former=FORMER["fer-beats-baselines"],
    ),
    Claim(
        key="fer-overhead",
        method="Gradient consistency",
        short="minimal overhead",
        study="fer",
        text="FER has minimal overhead (13.8 s against 13.1 s an epoch).",
        source=COURSEWORK,
        rule=overhead_rule(
            "gradient consistency over SGD and over Adam against their base on both tasks",
            COURSEWORK_RATIO,
            "13.8 / 13.1",
        ),
        decide=partial(compare_overhead, limit=COURSEWORK_RATIO, comparisons=each(_FER, TASKS)),
        former=FORMER["fer-overhead"],
    ),
    Claim(
        key="fer-reduces-rfe",
        method="Flipping error reduction",
        short="fewer flipping errors",
        study="fer",
        text="FER reduces flipping errors (RFE).",
        source=PAPER,
        rule=improvement_rule("relative flipping error", f"{_FLIPPING_WORDS}; lower is better", FLIPPING_MARGIN_WORDS),
        decide=partial(
            compare_metric,
            metric="relative_flipping_error",
            comparisons=each(_FLIPPING, TASKS, EACH_NOISE, FLIPPING_MARGINS),
        ),
        former=FORMER["fer-reduces-rfe"],
    ),
    Claim(
        key="flipping-overhead",
        method="Flipping error reduction",
        short="negligible overhead",
        study="fer",
        text="FER has negligible training overhead.",
        source=PAPER,
        rule=overhead_rule(
            "the paper's loss with SGD and with Adam against their base on both tasks",
            NEGLIGIBLE_RATIO,
            "our reading of negligible",
        ),
        decide=partial(compare_overhead, limit=NEGLIGIBLE_RATIO, comparisons=each(_FLIPPING, TASKS)),
        former=FORMER["flipping-overhead"],
    ),
    Claim(
        key="flipping-improves-accuracy",
        method="Flipping error reduction",
        short="generalizes better",
        study="fer",
        text="FER generalizes better.",
        source=PAPER,
        rule=improvement_rule("test accuracy", _FLIPPING_WORDS, MARGIN_WORDS),
        decide=partial(compare_accuracy, comparisons=each(_FLIPPING, TASKS, EACH_NOISE, MARGINS)),
        former=FORMER["flipping-improves-accuracy"],
    ),
)

TOPIC = Topic(
    title="FER",
    algorithms=_ALGORITHMS,
    studies=in_both_profiles(
        name="fer",
        title="Does FER beat SGD and Adam, and does it reduce flipping errors?",
        full=(MNIST, CIFAR),
        quick=(DIGITS, DIGITS_CONV),
        algorithms=("sgd", "adam", "fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam"),
        label_noises=(0.0, 0.2),
        metrics=("test_accuracy", "relative_flipping_error"),
        curves=("test_accuracy", "relative_flipping_error", "consistency"),
        time_limit=NEGLIGIBLE_RATIO,
    ),
    claims=_CLAIMS,
    metrics=(
        Metric("relative_flipping_error", "relative flipping error", False, best=0.0),
        Metric("absolute_flipping_error", "absolute flipping error", False, best=0.0),
        Metric("consistency", "cosine of gradient and memory", True, "", "", 1.0, 3),
    ),
    curves=(
        Curve(
            "relative_flipping_error",
            "flipping-curves",
            "relative flipping error by epoch: the share of the wrong test samples that were right at an earlier epoch",
        ),
        # Only one method reports it, so it needs no columns by base optimizer.
        Curve(
            "consistency",
            "consistency",
            "cosine between the gradient and the memory of past gradients, by epoch",
            by_base=False,
        ),
    ),
    trackers={"flipping": FlippingCurves},
)
