"""Gradient correction. Its paper was withdrawn, so we study our reconstruction of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from advanced_optimizers.experiments.evidence.claim import (
    COURSEWORK,
    Claim,
    each,
    epochs_rule,
    metric_rule,
    overhead_rule,
)
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_epochs, compare_overhead
from advanced_optimizers.experiments.studies.baselines import (
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    LEARNING_RATES,
    MNIST,
    base_and_own,
    plain,
)
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting, known_mean
from advanced_optimizers.gradient_correction import GradientCorrectionOptimizer

PAPER = "paper (Li et al., arXiv 2203.08345, withdrawn)"
CONTROL = "our control"

# Test accuracies that Adam's runs in the first study reach after about two thirds of their epochs.
TARGETS = {"mnist-mlp": 0.98, "cifar10-jpeg-convnet": 0.75}
# We read "about 20 % fewer" as at least 15 % fewer.
EPOCHS_RATIO = 0.85
# The coursework states 14.2 s per epoch, and 13.1 s for Adam.
COURSEWORK_RATIO = 1.084


# ---- how they train -------------------------------------------------------------------------------------------------


class GradientCorrectionLearner(BackpropLearner):
    """Ordinary training with GradientCorrectionOptimizer; it also reports how well the next gradient was predicted.

    The optimizer may have hooks on the model that correct hidden states. They stay as long as the model exists.
    """

    optimizer: GradientCorrectionOptimizer

    def __init__(self, setting: Setting, optimizer: GradientCorrectionOptimizer) -> None:
        super().__init__(setting, optimizer)
        self.lessons = max(1, setting.steps_per_epoch // max(g["train_every"] for g in optimizer.param_groups))

    def end_epoch(self) -> dict[str, float]:
        """Adds the mean cosine of gradients with the next gradient, and what the correction adds to that cosine."""
        records = self.optimizer.history[-self.lessons :]
        plain, corrected = (
            known_mean([getattr(record, name) for record in records]) for name in ("plain_cosine", "corrected_cosine")
        )
        return {**super().end_epoch(), "plain_cosine": plain, "prediction_gain": corrected - plain}


def _correction(hidden: bool) -> Callable[[Setting], Learner]:
    def build(setting: Setting) -> Learner:
        optimizer, kwargs, own = base_and_own(setting, "adam")
        if hidden:
            device = next(setting.model.parameters()).device
            own |= {"model": setting.model, "example_input": torch.zeros(2, *setting.image_shape, device=device)}
        corrected = GradientCorrectionOptimizer(setting.model.parameters(), optimizer, kwargs, **own)
        return GradientCorrectionLearner(setting, corrected)

    return build


# ---- the algorithms -------------------------------------------------------------------------------------------------

_STRENGTH = Range(low=0.03, high=1.0, log=True)


def _corrected(label: str, hidden: bool, claimed: Mapping[str, float]) -> Algorithm:
    return Algorithm(
        label=label,
        baseline="adam",
        search_space={"lr": LEARNING_RATES["adam"], "gcw_strength": _STRENGTH, "gcode_strength": _STRENGTH},
        build=_correction(hidden),
        options=frozenset({"history_decay", "min_cosine", "predictor_lr", "train_every"}),
        claimed=claimed,
    )


def _adam_control(label: str) -> Algorithm:
    """Adam with a protocol of its own, which the study defines."""
    return Algorithm(
        label=label,
        baseline="adam",
        search_space={"lr": LEARNING_RATES["adam"]},
        build=plain("adam"),
        timed=False,
        control=True,
    )


_ALGORITHMS = {
    "correction": _corrected(
        "Gradient correction, Adam", hidden=False, claimed={"mnist-mlp": 0.969, "cifar10-jpeg-convnet": 0.718}
    ),
    "correction-hidden": _corrected("Gradient and hidden correction, Adam", hidden=True, claimed={}),
    "adam-longer": _adam_control("Adam, longer (control)"),
    "adam-longest": _adam_control("Adam, longest (control)"),
    "adam-wider": _adam_control("Adam, wider (control)"),
}

# ---- the claims -----------------------------------------------------------------------------------------------------

_TASKS = tuple(TARGETS)
_HIDDEN_TASKS = _TASKS[1:]  # the MLP has no downsampling layer


def _against(baseline: str, hidden_baseline: str) -> tuple[Comparison, ...]:
    return (
        *each({"correction": baseline}, _TASKS),
        *each({"correction-hidden": hidden_baseline}, _HIDDEN_TASKS),
    )


_WORDS = (
    "gradient correction over Adam, of weight gradients on both tasks and of hidden states too on the ConvNet, against "
)

_CLAIMS = (
    Claim(
        key="correction-epochs",
        method="Gradient correction",
        short="20 % fewer epochs",
        study="gradient-correction",
        text="Gradient correction needs about 20 % fewer epochs.",
        source=PAPER,
        rule=epochs_rule(f"{_WORDS}Adam", EPOCHS_RATIO, "at least 15 % fewer", TARGETS),
        decide=partial(compare_epochs, limit=EPOCHS_RATIO, comparisons=_against("adam", "adam")),
    ),
    Claim(
        key="correction-accuracy",
        method="Gradient correction",
        short="a stable improvement",
        study="gradient-correction",
        text="Gradient correction is a stable improvement (96.9 % on MNIST, 71.8 % on CIFAR-10).",
        source=COURSEWORK,
        rule=metric_rule("test accuracy", f"{_WORDS}Adam"),
        decide=partial(compare_accuracy, comparisons=_against("adam", "adam")),
    ),
    Claim(
        key="correction-time",
        method="Gradient correction",
        short="8 % more time",
        study="gradient-correction",
        text="An epoch with gradient correction takes 14.2 s where Adam takes 13.1 s.",
        source=COURSEWORK,
        rule=overhead_rule(f"{_WORDS}Adam", COURSEWORK_RATIO, "14.2 / 13.1"),
        decide=partial(compare_overhead, limit=COURSEWORK_RATIO, comparisons=_against("adam", "adam")),
    ),
    Claim(
        key="correction-equal-cost",
        method="Gradient correction",
        short="better at equal cost",
        study="gradient-correction",
        text="Gradient correction is worth its cost: better than Adam with as many more seconds, and with as many more "
        "parameters.",
        source=CONTROL,
        rule=metric_rule(
            "test accuracy",
            f"{_WORDS}Adam trained for as many more epochs as take at least as long, and Adam on a network wider by at "
            "least as many parameters",
        ),
        decide=partial(
            compare_accuracy,
            comparisons=(*_against("adam-longer", "adam-longest"), *_against("adam-wider", "adam-wider")),
        ),
    ),
)

TOPIC = Topic(
    title="Gradient correction",
    algorithms=_ALGORITHMS,
    studies=in_both_profiles(
        name="gradient-correction",
        title="Does gradient correction train in fewer epochs, and is it worth its cost?",
        full=(MNIST, CIFAR),
        quick=(DIGITS, DIGITS_CONV),
        algorithms=("adam", *_ALGORITHMS),
        curves=("test_accuracy", "cpu_seconds", "prediction_gain"),
        # Hidden states are corrected before downsampling layers, and the MLP has none.
        left_out=(("mlp", "correction-hidden"), ("mlp", "adam-longest")),
        # The time per epoch relative to Adam's, measured side by side; the number of epochs is rounded up.
        longer={
            ("mlp", "adam-longer"): 2.65,
            ("convnet", "adam-longer"): 1.14,
            ("convnet", "adam-longest"): 1.85,
        },
        # The narrowest networks that add at least as many parameters as the correction: 240, 6600 with hidden states.
        wider={("mlp", "adam-wider"): 513 / 512, ("convnet", "adam-wider"): 1.05},
        targets={**TARGETS, "digits-mlp": 0.9, "digits-convnet": 0.9},
        time_limit=COURSEWORK_RATIO,
    ),
    claims=_CLAIMS,
    metrics=(Metric("prediction_gain", "cosine gained toward the next gradient", True, "", "", 1.0, 3),),
    curves=(
        Curve(
            "prediction_gain",
            "prediction",
            "what the correction adds to the cosine of a gradient with the next one, by epoch",
            by_base=False,
        ),
    ),
)
