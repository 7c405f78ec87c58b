"""The convolutional optimizers: their algorithms, and the networks of the published tests. Studies come later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advanced_optimizers.convolutional import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
from advanced_optimizers.experiments.studies.baselines import LEARNING_RATES, base_and_own
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting
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


# ---- how they train --------------------------------------------------------------------------------------------------


class FollowedLearner(BackpropLearner):
    """Ordinary training whose optimizer also hears each batch's loss, as the published demonstrations tell it."""

    def update(self, loss: Tensor) -> None:
        """Takes one step of the optimizer with the gradients of a loss."""
        self.optimizer.step(lambda: loss)  # type: ignore[arg-type, return-value]


def _build(optimizer: Callable[..., Optimizer], settings: Mapping[str, Any]) -> Callable[[Setting], Learner]:
    """Ordinary training over the baseline's SGD, so with its Nesterov momentum and weight decay."""

    def build(setting: Setting) -> Learner:
        base, kwargs, own = base_and_own(setting, "sgd")
        made = optimizer(
            setting.model.parameters(), base_optimizer=base, base_optimizer_kwargs=kwargs, **{**settings, **own}
        )
        return FollowedLearner(setting, made)

    return build


def _algorithm(label: str, optimizer: Callable[..., Optimizer], **settings: Any) -> Algorithm:
    return Algorithm(
        label=label,
        baseline="sgd",
        search_space={"lr": LEARNING_RATES["sgd"]},
        build=_build(optimizer, {"kernel_size": 5, **settings}),
    )


TOPIC = Topic(
    title="Convolutional optimizers",
    algorithms={
        "conv-sgd": _algorithm("ConvolutionalSGD", ConvolutionalSGD),
        "conv-local": _algorithm("LocalLossConvSGD", LocalLossConvSGD),
        "conv-v2": _algorithm("ConvolutionalSGDv2", ConvolutionalSGDv2),
    },
    models=MODELS,
)
