"""Augmentation that helps and augmentation that hurts: statement 25 of the lecture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.demonstrations.augmentation import augmented
from advanced_optimizers.experiments.evidence.claim import Claim, each, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.studies.lecture import (
    ADAM_RATES,
    SUMMARY,
    build,
    digits_part,
    mnist_part,
    trained_with,
)
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting, StepResult


class AugmentingLearner(BackpropLearner):
    """Training with Adam on images that are moved at random, anew in every epoch; it is tested on images as they are.

    The draws come from torch's own generator, which the training loop seeds and puts into its checkpoints.
    """

    def __init__(self, setting: Setting, **moves: Any) -> None:
        super().__init__(setting, build(setting, "adam"))
        self.moves = moves

    def step(self, batch: Batch) -> StepResult:
        """Takes one step on the moved images."""
        return super().step(batch._replace(images=augmented(batch.images, **self.moves)))


_MOVES: dict[str, tuple[str, dict[str, Any]]] = {
    "lecture-shift-1": ("Shift by up to 1 pixel", {"shift": 1}),
    "lecture-shift-2": ("Shift by up to 2 pixels", {"shift": 2}),
    "lecture-shift-4": ("Shift by up to 4 pixels", {"shift": 4}),
    "lecture-shift-8": ("Shift by up to 8 pixels", {"shift": 8}),
    "lecture-rotation-10": ("Rotation by up to 10 degrees", {"degrees": 10.0}),
    "lecture-rotation-45": ("Rotation by up to 45 degrees", {"degrees": 45.0}),
    "lecture-rotation-180": ("Rotation by up to 180 degrees", {"degrees": 180.0}),
    "lecture-flip": ("Mirrored at random", {"flip": True}),
}


def _augmenting(moves: dict[str, Any]) -> Callable[[Setting], Learner]:
    return lambda setting: AugmentingLearner(setting, **moves)


PLAIN = "lecture-not-augmented"
_ALGORITHMS = {
    PLAIN: Algorithm(
        label="No augmentation",
        baseline=None,
        search_space={"lr": ADAM_RATES},
        build=trained_with("adam"),
        timed=False,
    )
} | {
    name: Algorithm(
        label=label,
        baseline=PLAIN,
        search_space={"lr": ADAM_RATES},
        build=_augmenting(moves),
        timed=False,
    )
    for name, (label, moves) in _MOVES.items()
}

TASK = "mnist-mlp128"
MODERATE = ("lecture-shift-1", "lecture-shift-2", "lecture-rotation-10")
TOO_MUCH = ("lecture-shift-8", "lecture-rotation-180", "lecture-flip")
_MARGIN = 0.005
_WORDS = "after 40 epochs on 1,000 images of MNIST, each at the learning rate that tuning chose"

_CLAIMS = (
    Claim(
        key="lecture-augmentation-helps",
        method="Lecture: augmentation",
        short="it helps",
        study="lecture-augmentation",
        text="Augmentation helps.",
        source=SUMMARY,
        rule=improvement_rule(
            "test accuracy",
            f"{_WORDS}: shifts by up to 1 and up to 2 pixels and rotations by up to 10 degrees against none",
            "half a point",
        ),
        decide=partial(
            compare_accuracy, comparisons=each(dict.fromkeys(MODERATE, PLAIN), (TASK,), margins={TASK: _MARGIN})
        ),
    ),
    Claim(
        key="lecture-augmentation-too-much",
        method="Lecture: augmentation",
        short="too much hurts",
        study="lecture-augmentation",
        text="Too much augmentation hurts.",
        source=SUMMARY,
        rule=improvement_rule(
            "test accuracy",
            f"{_WORDS}: none against shifts by up to 8 pixels, rotations by up to 180 degrees, and mirroring",
            "half a point",
        ),
        decide=partial(
            compare_accuracy,
            comparisons=tuple(Comparison(TASK, PLAIN, name, margin=_MARGIN) for name in TOO_MUCH),
        ),
    ),
)

TOPIC = Topic(
    title="Lecture: augmentation",
    algorithms=_ALGORITHMS,
    studies=in_both_profiles(
        name="lecture-augmentation",
        title="Which augmentation helps, and which hurts?",
        full=(mnist_part(1000, "mlp128", epochs=40),),
        quick=(digits_part("mlp128", epochs=10, fraction=0.2),),
        algorithms=tuple(_ALGORITHMS),
        # A low test accuracy with a high train loss is underfitting; with a low one, the labels no longer fit.
        metrics=("test_accuracy", "train_loss"),
    ),
    claims=_CLAIMS,
)
