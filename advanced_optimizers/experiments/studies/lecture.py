"""The lecture's toolbox: the networks and the plain training that its studies share.

The source is an automatic summary of a lecture. Its words are quoted as the summary's: mistakes may be the
summarizer's, and are not the lecturer's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting
from advanced_optimizers.experiments.training.models import Model, mlp

SUMMARY = "summary of a lecture"

# 60,000 images of MNIST; a tenth is held out for tuning. Trials and runs train on the same number of images.
_MNIST, _MNIST_TUNING = 60_000, 54_000

# It divides 300, 1,000 and 5,000. A last batch of a few images at the same rate can undo an epoch of gradient descent,
# just before the network is tested: see the studies with batches of 64 in ``lecture_optimizers``.
BATCH_SIZE = 50


def mnist_part(images: int, model: str, epochs: int, batch_size: int = BATCH_SIZE) -> Task:
    """A part of MNIST at a constant learning rate; trials are as long as runs, and all test images are used.

    Args:
        images: Number of training images.
        model: A key of ``training.models.MODELS``.
        epochs: Epochs per run and per trial.
        batch_size: Images per step; without a remainder, every step has as little noise as the others.
    """
    return Task(
        dataset="mnist",
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        tuning_epochs=epochs,
        tuning_fraction=images / _MNIST_TUNING,
        data_fraction=images / _MNIST,
        schedule="constant",
    )


def digits_part(model: str, epochs: int, fraction: float = 1.0, batch_size: int = BATCH_SIZE) -> Task:
    """The same for the quick profile, on the digits."""
    return Task(
        dataset="digits",
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        tuning_epochs=epochs,
        tuning_fraction=fraction,
        data_fraction=fraction,
        schedule="constant",
    )


# What an optimizer may be told by a study; momentum as in the summary's example.
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, object]]] = {
    "gd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adadelta": (torch.optim.Adadelta, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adam": (torch.optim.Adam, {}),
}


def build(setting: Setting, name: str) -> torch.optim.Optimizer:
    """One of ``OPTIMIZERS`` over the model's parameters, with the run's learning rate."""
    optimizer, kwargs = OPTIMIZERS[name]
    return build_optimizer(optimizer, setting.model.parameters(), lr=setting.config.hyperparameters["lr"], **kwargs)


def trained_with(name: str) -> Callable[[Setting], Learner]:
    """Returns a function that builds ordinary training with one of ``OPTIMIZERS``."""
    return lambda setting: BackpropLearner(setting, build(setting, name))


ADAM_RATES = Range(low=3e-4, high=1e-2, log=True)

TOPIC = Topic(
    title="Lecture",
    algorithms={},
    models={
        "linear": Model(label="linear model", build=partial(mlp, hidden=())),
        "mlp128": Model(label="MLP of 128", build=partial(mlp, hidden=(128,))),
        "deep256": Model(label="MLP of 6 x 256", build=partial(mlp, hidden=(256,) * 6)),
    },
)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of one of the networks above, or of any other sequence."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"model must be a Sequential, got {type(model).__name__}")
    return list(model)
