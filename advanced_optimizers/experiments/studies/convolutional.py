"""The convolutional optimizers and what they are compared with first: the rows of their studies.

Every row is plain SGD with momentum 0.9, as in the source, and not the baseline of other topics with Nesterov's
momentum and weight decay. ``convolutional_controls`` has the rows that say why, ``convolutional_training`` the networks
and what a run records; the studies are in ``convolutional_stress``, ``convolutional_batches``, ``convolutional_clean``
and ``convolutional_filters``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.convolutional import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
from advanced_optimizers.experiments.studies.convolutional_training import AlignmentLearner, SmoothingLearner
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import Learner, Setting

PLAIN_SGD: dict[str, Any] = {"momentum": 0.9, "fused": True}
_WRAPPED: dict[str, Any] = {"base_optimizer": torch.optim.SGD, "base_optimizer_kwargs": {"fused": True}}
# Within it lies the grid of each study.
RATES = Range(low=1e-4, high=0.2048, log=True)
BASE = "conv-momentum"

# (setting, learning rate) -> the optimizer of a run.
MakeOptimizer = Callable[[Setting, float], Optimizer]


def plain(setting: Setting, lr: float) -> Optimizer:
    """SGD with momentum."""
    return build_optimizer(torch.optim.SGD, setting.model.parameters(), lr=lr, **PLAIN_SGD)


def _adam(setting: Setting, lr: float) -> Optimizer:
    return build_optimizer(torch.optim.Adam, setting.model.parameters(), lr=lr, fused=True)


def ours(optimizer: Callable[..., Optimizer], **settings: Any) -> MakeOptimizer:
    """One of the package's classes, with five taps."""

    def make(setting: Setting, lr: float) -> Optimizer:
        return optimizer(setting.model.parameters(), lr=lr, momentum=0.9, kernel_size=5, **settings, **_WRAPPED)

    return make


def row(
    label: str,
    make: MakeOptimizer,
    learner: Callable[[Setting, Optimizer], Learner] = SmoothingLearner,
    **fields: Any,
) -> Algorithm:
    """A row of the table of algorithms; ``fields`` are further ones of ``Algorithm``."""

    def build(setting: Setting) -> Learner:
        return learner(setting, make(setting, float(setting.config.hyperparameters["lr"])))

    return Algorithm(label=label, search_space={"lr": RATES}, build=build, timed=False, **{"baseline": BASE, **fields})


# Version 1 is adaptive as published: with the package's default ``min_gain`` its rule would change nothing. The learned
# kernels learn at every tenth step, with a step that is ten times as long, for the time it takes.
TOPIC = Topic(
    title="Convolutional optimizers",
    algorithms={
        BASE: row("SGD, momentum 0.9", plain, AlignmentLearner, baseline=None),
        "conv-adam": row("Adam, gradients recorded", _adam),
        "conv-sgd": row("ConvolutionalSGD", ours(ConvolutionalSGD, min_gain=-1.0)),
        "conv-local": row("LocalLossConvSGD", ours(LocalLossConvSGD, local_lr=0.05, kernel_every=10)),
        "conv-v2": row("ConvolutionalSGDv2", ours(ConvolutionalSGDv2, kernel_lr=0.05, kernel_every=10)),
    },
)
