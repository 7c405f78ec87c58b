"""The convolutional optimizers and their controls: the rows of the studies, and the networks of the published tests.

Every row is plain SGD with momentum 0.9, as in the source, and not the baseline of other topics with Nesterov's
momentum and weight decay. The studies themselves are in ``convolutional_stress``, ``convolutional_batches``,
``convolutional_clean`` and ``convolutional_filters``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.convolutional import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.studies.convolutional_controls import Centered, PixelGrid, PublishedVersion2
from advanced_optimizers.experiments.studies.convolutional_training import AlignmentLearner, SmoothingLearner
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import Learner, Setting
from advanced_optimizers.experiments.training.models import ImageShape, Model, scaled

# ---- the published test networks -------------------------------------------------------------------------------------

# What the published IllConditionedNet multiplies the initial weights of its three layers with.
_ILL_CONDITIONED = (10.0, 0.1, 5.0)


def _dense(inputs: int, hidden: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Linear layers with ReLU between them, on images as vectors."""
    sizes = [inputs, *hidden]
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], num_classes))


def _of_hidden_layers(
    image_shape: ImageShape, num_classes: int, width: float, *, hidden: tuple[int, ...]
) -> nn.Sequential:
    return _dense(math.prod(image_shape), tuple(scaled(units, width) for units in hidden), num_classes)


def _ill_conditioned(image_shape: ImageShape, num_classes: int, width: float) -> nn.Sequential:
    """Two hidden layers of about a third and a sixth of the inputs, with initial weights of unlike scales."""
    inputs = math.prod(image_shape)
    hidden = (min(256, max(64, inputs // 3)), min(128, max(32, inputs // 6)))
    model = _of_hidden_layers(image_shape, num_classes, width, hidden=hidden)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, scale in zip(linear, _ILL_CONDITIONED, strict=True):
            layer.weight.mul_(scale)
    return model


MODELS = {
    "simplenet": Model(label="SimpleNet", build=partial(_of_hidden_layers, hidden=(128, 128))),
    "deepnet": Model(label="DeepNet", build=partial(_of_hidden_layers, hidden=(64,) * 6)),
    "illconditioned": Model(label="IllConditionedNet", build=_ill_conditioned),
}


# ---- the rows --------------------------------------------------------------------------------------------------------

_SGD: dict[str, Any] = {"momentum": 0.9, "fused": True}
_WRAPPED: dict[str, Any] = {"base_optimizer": torch.optim.SGD, "base_optimizer_kwargs": {"fused": True}}
_FIXED = {"adaptive_kernel": False}
# Within it lies the grid of each study.
RATES = Range(low=1e-4, high=0.2048, log=True)
BASE = "conv-momentum"

# (setting, learning rate) -> the optimizer of a run.
MakeOptimizer = Callable[[Setting, float], Optimizer]


def _plain(setting: Setting, lr: float) -> Optimizer:
    return build_optimizer(torch.optim.SGD, setting.model.parameters(), lr=lr, **_SGD)


def _adam(setting: Setting, lr: float) -> Optimizer:
    return build_optimizer(torch.optim.Adam, setting.model.parameters(), lr=lr, fused=True)


def _ours(optimizer: Callable[..., Optimizer], **settings: Any) -> MakeOptimizer:
    """One of the package's classes, with five taps."""

    def make(setting: Setting, lr: float) -> Optimizer:
        return optimizer(setting.model.parameters(), lr=lr, momentum=0.9, kernel_size=5, **settings, **_WRAPPED)

    return make


def _permuted(optimizer: Callable[..., Optimizer], **settings: Any) -> MakeOptimizer:
    """The same, whose kernels see the axes in a random order, another one for each seed of the study."""
    return lambda setting, lr: _ours(optimizer, permute_axes=setting.config.seed, **settings)(setting, lr)


def _control(optimizer: Callable[..., Optimizer], setting: Setting, lr: float, **settings: Any) -> Optimizer:
    return optimizer(setting.model.parameters(), torch.optim.SGD, {"lr": lr, **_SGD}, **settings)


def _centered(setting: Setting, lr: float) -> Optimizer:
    return _control(Centered, setting, lr)


def _grid(setting: Setting, lr: float) -> Optimizer:
    return _control(PixelGrid, setting, lr, image_shape=setting.image_shape)


def _published(setting: Setting, lr: float) -> Optimizer:
    given = setting.config.hyperparameters
    return _control(PublishedVersion2, setting, lr, kernel_lr=float(given.get("kernel_lr", 0.01)))


def _row(
    label: str,
    make: MakeOptimizer,
    learner: Callable[[Setting, Optimizer], Learner] = SmoothingLearner,
    *,
    control: bool = False,
    options: frozenset[str] = frozenset(),
    baseline: str | None = BASE,
) -> Algorithm:
    def build(setting: Setting) -> Learner:
        return learner(setting, make(setting, float(setting.config.hyperparameters["lr"])))

    return Algorithm(
        label=label,
        baseline=baseline,
        search_space={"lr": RATES},
        build=build,
        options=options,
        timed=False,
        control=control,
    )


# Version 1 is adaptive as published: with the package's default ``min_gain`` its rule would change nothing. The learned
# kernels learn at every tenth step, with a step that is ten times as long, for the time it takes.
_GAUSS = {"kernel_lr": 0.0}
ALGORITHMS = {
    BASE: _row("SGD, momentum 0.9", _plain, AlignmentLearner, baseline=None),
    "conv-adam": _row("Adam, gradients recorded", _adam),
    "conv-sgd": _row("ConvolutionalSGD", _ours(ConvolutionalSGD, min_gain=-1.0)),
    "conv-local": _row("LocalLossConvSGD", _ours(LocalLossConvSGD, local_lr=0.05, kernel_every=10)),
    "conv-v2": _row("ConvolutionalSGDv2", _ours(ConvolutionalSGDv2, kernel_lr=0.05, kernel_every=10)),
    "conv-v2-published": _row("ConvolutionalSGDv2, published code", _published, options=frozenset({"kernel_lr"})),
    "conv-box": _row("Fixed box, flat", _ours(ConvolutionalSGD, **_FIXED), control=True),
    "conv-box-last": _row("Fixed box, last axis", _ours(ConvolutionalSGD, axes=(-1,), **_FIXED), control=True),
    "conv-box-permuted": _row(
        "Fixed box, last axis permuted", _permuted(ConvolutionalSGD, axes=(-1,), **_FIXED), control=True
    ),
    "conv-gauss": _row("Fixed Gaussian, both axes", _ours(ConvolutionalSGDv2, **_GAUSS), control=True),
    "conv-gauss-permuted": _row(
        "Fixed Gaussian, both axes permuted", _permuted(ConvolutionalSGDv2, **_GAUSS), control=True
    ),
    "conv-gauss-length": _row(
        "Fixed Gaussian, length kept", _ours(ConvolutionalSGDv2, norm_preserving=True, **_GAUSS), control=True
    ),
    "conv-grid": _row("Fixed Gaussian, pixel grid", _grid, control=True),
    "conv-centered": _row("Gradient centralization", _centered, control=True),
    # What is left of a step along white axes: the center of the box, and of the box of two dimensions.
    "conv-momentum-fifth": _row("SGD at a fifth of the rate", _plain, control=True),
    "conv-momentum-25th": _row("SGD at a 25th of the rate", _plain, control=True),
}

TOPIC = Topic(
    title="Convolutional optimizers",
    algorithms=ALGORITHMS,
    models=MODELS,
    metrics=(
        Metric("best_test_accuracy", "test accuracy of the best epoch", True, best=1.0),
        Metric("gradient_norm", "mean length of the gradient", False, "", "", 1.0, 3),
        Metric("gradient_norm_spread", "spread of the epochs' mean gradient lengths", False, "", "", 1.0, 3),
        Metric("gradient_norm_cv", "relative spread of the gradient's length in the last epoch", False, "", "", 1.0, 3),
        Metric("smoothed_length", "length of the smoothed over the raw gradient", True, "", "", 1.0, 3),
        Metric("smoothed_cosine", "cosine of the smoothed and the raw gradient", True, "", "", 1.0, 3),
        Metric("least_cosine", "lowest cosine of the smoothed and the raw gradient", True, "", "", 1.0, 3),
        Metric("ascending", "share of tensors smoothed out of descent", False, "%", "points", 100.0, 2),
        Metric("kernel_center", "center tap of the second layer's kernel", True, "", "", 1.0, 3),
        Metric("right_accuracy", "accuracy on training images with right labels", True),
        Metric("memorized", "share of wrong labels memorized", False),
        Metric("aligned_pixels", "gain of alignment, smoothed along pixels", True, "", "", 1.0, 4),
        Metric("aligned_units", "gain of alignment, smoothed along hidden units", True, "", "", 1.0, 4),
    ),
    curves=(
        Curve("memorized", "memorized", "share of the wrong labels that are memorized, by epoch", by_base=False),
        Curve("gradient_norm", "gradient-norm", "mean length of the raw gradient, by epoch", by_base=False),
        Curve("kernel_center", "kernel-center", "center tap of the second layer's kernel, by epoch", by_base=False),
    ),
)
