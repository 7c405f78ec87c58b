"""Regularizers side by side, on few and on more images: dropout, batch normalization, L1, L2, decay and max-norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.evidence.claim import Claim, each, improvement_rule
from advanced_optimizers.experiments.evidence.metrics import Metric
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.studies.lecture import (
    ADAM_RATES,
    SUMMARY,
    build,
    digits_part,
    layers_of,
    mnist_part,
)
from advanced_optimizers.experiments.studies.study import Study, in_both_profiles
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting, StepResult

# Weights below this size are called small: training with a penalty by autograd leaves them there, but never at zero.
SMALL_WEIGHT = 1e-3


class RegularizedLearner(BackpropLearner):
    """Training that also reports how many weights of the first layer are small, and how many are zero.

    Args:
        setting: The model and the run.
        optimizer: Over the model's parameters.
        power: 1 or 2 adds ``strength * sum |w|^power`` over the weight matrices to the loss; None adds nothing.
        largest: After each step, the largest norm that a unit's incoming weights keep.
    """

    def __init__(
        self,
        setting: Setting,
        optimizer: torch.optim.Optimizer,
        power: int | None = None,
        largest: float = math.inf,
    ) -> None:
        super().__init__(setting, optimizer)
        self.strength = float(setting.config.hyperparameters.get("strength", 0.0))
        self.power = power
        self.largest = largest
        self.weights = [layer.weight for layer in self.model.modules() if isinstance(layer, nn.Linear)]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy of a batch and the penalty."""
        loss = super().loss(logits, batch)
        if self.power is None:
            return loss
        return loss + self.strength * torch.stack([w.abs().pow(self.power).sum() for w in self.weights]).sum()

    def step(self, batch: Batch) -> StepResult:
        """Takes one step, then shortens the weights that have become too long."""
        result = super().step(batch)
        if math.isfinite(self.largest):
            with torch.no_grad():
                for w in self.weights:
                    w.copy_(torch.renorm(w, p=2, dim=0, maxnorm=self.largest))
        return result

    def end_epoch(self) -> dict[str, float]:
        """Adds the shares of small and of zero weights."""
        first = self.weights[0].detach()
        shares = {
            "small_weights": float((first.abs() < SMALL_WEIGHT).double().mean()),
            "zero_weights": float((first == 0).double().mean()),
        }
        return {**super().end_epoch(), **shares}


def _strength(setting: Setting) -> float:
    return float(setting.config.hyperparameters["strength"])


def with_layers(setting: Setting, after: type[nn.Module], make: Callable[[nn.Module], nn.Module]) -> Setting:
    """The setting with a layer more after each hidden layer of a kind.

    Args:
        setting: Its model is a sequence.
        after: The kind; the last layer of the network gets none.
        make: ``make(layer)`` builds what follows the layer.
    """
    layers = layers_of(setting.model)
    added = [
        [layer, make(layer)] if isinstance(layer, after) and layer is not layers[-1] else [layer] for layer in layers
    ]
    return replace(setting, model=nn.Sequential(*(layer for pair in added for layer in pair)))


def _dropout(setting: Setting) -> Learner:
    changed = with_layers(setting, nn.ReLU, lambda layer: nn.Dropout(_strength(setting)))
    return RegularizedLearner(changed, build(changed, "adam"))


def _batch_norm(setting: Setting) -> Learner:
    def norm(layer: nn.Module) -> nn.Module:
        assert isinstance(layer, nn.Linear)
        return nn.BatchNorm1d(layer.out_features)

    changed = with_layers(setting, nn.Linear, norm)
    return RegularizedLearner(changed, build(changed, "adam"))


def _penalty(setting: Setting, power: int) -> Learner:
    return RegularizedLearner(setting, build(setting, "adam"), power=power)


def _decoupled(setting: Setting) -> Learner:
    lr = setting.config.hyperparameters["lr"]
    decay = {"lr": lr, "weight_decay": _strength(setting)}
    return RegularizedLearner(setting, build_optimizer(torch.optim.AdamW, setting.model.parameters(), **decay))


def _max_norm(setting: Setting) -> Learner:
    return RegularizedLearner(setting, build(setting, "adam"), largest=_strength(setting))


def _plain(setting: Setting) -> Learner:
    return RegularizedLearner(setting, build(setting, "adam"))


PLAIN = "lecture-unregularized"
# Label, learner, and the range of its strength.
_ROWS: dict[str, tuple[str, Callable[[Setting], Learner], Range | None]] = {
    PLAIN: ("No regularization", _plain, None),
    "lecture-dropout": ("Dropout", _dropout, Range(low=0.1, high=0.8)),
    "lecture-l2": ("L2 penalty", partial(_penalty, power=2), Range(low=1e-5, high=1e-2, log=True)),
    "lecture-l1": ("L1 penalty", partial(_penalty, power=1), Range(low=1e-6, high=1e-3, log=True)),
    "lecture-decoupled": ("Decoupled weight decay (AdamW)", _decoupled, Range(low=1e-3, high=1.0, log=True)),
    "lecture-max-norm": ("Max-norm", _max_norm, Range(low=0.5, high=4.0, log=True)),
    "lecture-batch-norm": ("Batch normalization", _batch_norm, None),
}
_ALGORITHMS = {
    name: Algorithm(
        label=label,
        baseline=None if name == PLAIN else PLAIN,
        search_space={"lr": ADAM_RATES, **({} if strength is None else {"strength": strength})},
        build=make,
        timed=False,
    )
    for name, (label, make, strength) in _ROWS.items()
}

# The summary presents batch normalization as normalization; the others are its means against overfitting.
AGAINST_OVERFITTING = tuple(name for name in _ALGORITHMS if name not in (PLAIN, "lecture-batch-norm"))
TASK = "mnist-mlp"


def _claim(key: str, study: str, short: str, images: str, epochs: int, margin: float, words: str) -> Claim:
    return Claim(
        key=key,
        method="Lecture: regularization",
        short=short,
        study=study,
        text=f"Regularization reduces overfitting ({images} images).",
        source=SUMMARY,
        rule=improvement_rule(
            "test accuracy",
            f"after {epochs} epochs on {images} images of MNIST: dropout, L2, L1, decoupled weight decay and max-norm "
            "against Adam without any of them, each with the learning rate and strength that tuning chose",
            words,
        ),
        decide=partial(
            compare_accuracy,
            comparisons=each(dict.fromkeys(AGAINST_OVERFITTING, PLAIN), (TASK,), margins={TASK: margin}),
        ),
    )


def _studies(name: str, title: str, full: Task, quick: Task) -> tuple[Study, ...]:
    return in_both_profiles(
        name=name,
        title=title,
        full=(full,),
        quick=(quick,),
        algorithms=tuple(_ALGORITHMS),
        metrics=("test_accuracy", "train_accuracy", "small_weights"),
    )


TOPIC = Topic(
    title="Lecture: regularization",
    algorithms=_ALGORITHMS,
    studies=(
        *_studies(
            "lecture-regularizers-300",
            "Which regularizer helps with 300 images?",
            mnist_part(300, "mlp", epochs=60),
            digits_part("mlp128", epochs=10, fraction=0.15),  # no last batch of one image
        ),
        *_studies(
            "lecture-regularizers",
            "Which regularizer helps with 5,000 images?",
            mnist_part(5000, "mlp", epochs=20),
            digits_part("mlp128", epochs=4),
        ),
    ),
    claims=(
        _claim(
            "lecture-regularizers-few",
            "lecture-regularizers-300",
            "helps with 300 images",
            "300",
            60,
            0.01,
            "one point",
        ),
        _claim(
            "lecture-regularizers-many",
            "lecture-regularizers",
            "helps with 5,000 images",
            "5,000",
            20,
            0.005,
            "half a point",
        ),
    ),
    metrics=(
        Metric("small_weights", "share of small weights in the first layer", True, "%", "points", 100.0, 1),
        Metric("zero_weights", "share of zero weights in the first layer", True, "%", "points", 100.0, 1),
    ),
)
