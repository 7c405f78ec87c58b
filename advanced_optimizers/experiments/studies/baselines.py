"""The baselines, and the tasks and learning rates that studies of different topics share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.experiments.studies.contender import with_gaps
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting

# The optimizers that methods are built on. Weight decay is part of the protocol; the learning rate is tuned.
BASES: Mapping[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True}),
    "adam": (torch.optim.Adam, {}),
}
BASE_LABELS = {"sgd": "SGD", "adam": "Adam"}
LEARNING_RATES = {
    "sgd": Range(low=0.02, high=0.8, log=True),
    "adam": Range(low=5e-4, high=2e-2, log=True),
}

# Whoever cannot get cifar10_jpeg.zip can run the same protocol on the original, or on an archive made from it.
CIFAR_ALTERNATIVES = ("cifar10", "cifar10-jpeg-own")
MNIST = Task(dataset="mnist", model="mlp", epochs=10, tuning_epochs=3)
MNIST2 = replace(MNIST, model="mlp2")
CIFAR = Task(
    dataset="cifar10-jpeg",
    model="convnet",
    epochs=10,
    tuning_epochs=3,
    tuning_fraction=0.3,
    precision="bfloat16",
    augment=True,
    alternatives=CIFAR_ALTERNATIVES,
)
# A part of the digits: nothing is decided on them, and the notebooks train hundreds of such networks.
DIGITS = Task(
    dataset="digits",
    model="mlp",
    epochs=4,
    tuning_epochs=2,
    batch_size=64,
    tuning_fraction=0.5,
    data_fraction=0.5,
)
DIGITS_CONV = replace(DIGITS, model="convnet", tuning_fraction=0.15, data_fraction=0.15)

# The largest difference in test accuracy that does not matter, by task; on the small digits nothing is decided.
MARGINS = {task: 0.002 for task in ("mnist-mlp", "mnist-mlp2")} | {
    task: 0.005 for task in ("cifar10-jpeg-convnet", "cifar10-jpeg-vgg")
}
MARGIN_WORDS = "0.2 points on MNIST, 0.5 on cifar10-jpeg"
# Relative flipping errors are shares of the wrong samples, far more scattered; one point of them does not matter.
FLIPPING_MARGINS = dict.fromkeys(("mnist-mlp", "cifar10-jpeg-convnet"), 0.01)
FLIPPING_MARGIN_WORDS = "one point on both tasks"
MARGINS_BY_METRIC = {"test_accuracy": MARGINS, "relative_flipping_error": FLIPPING_MARGINS}


# What a wider search tunes besides the learning rate.
WIDER_SPACES: Mapping[str, Mapping[str, Range]] = {
    "sgd": {
        "weight_decay": Range(low=1e-5, high=5e-3, log=True),
        "momentum_gap": Range(low=0.02, high=0.2, log=True),
    },
    "adam": {},
}


def build_base(setting: Setting, base: str) -> torch.optim.Optimizer:
    """Builds one of ``BASES`` over all of the model's parameters, with the run's learning rate and wider settings."""
    optimizer, kwargs = BASES[base]
    given = setting.config.hyperparameters
    own = {name: given[name] for name in ("lr", *WIDER_SPACES[base]) if name in given}
    return build_optimizer(optimizer, setting.model.parameters(), **with_gaps(kwargs, own))


def base_and_own(setting: Setting, base: str) -> tuple[type[torch.optim.Optimizer], dict[str, Any], dict[str, Any]]:
    """What a wrapper of one of ``BASES`` is built from: the base, the base's arguments, and the wrapper's own."""
    optimizer, kwargs = BASES[base]
    own: dict[str, Any] = dict(setting.config.hyperparameters)
    return optimizer, {"lr": own.pop("lr"), **kwargs}, own


def plain(base: str) -> Callable[[Setting], Learner]:
    """Returns a function that builds ordinary training with one of ``BASES``."""
    return lambda setting: BackpropLearner(setting, build_base(setting, base))


# What a user calls the baseline with Nesterov's momentum.
_ALIASES = {"sgd": ("sgd-nesterov",)}

# Test accuracy by task in the coursework's table, which calls its second dataset CIFAR-10 and names no networks.
_CLAIMED = {
    "sgd": {"mnist-mlp": 0.952, "mnist-mlp2": 0.952, "cifar10-jpeg-convnet": 0.684},
    "adam": {"mnist-mlp": 0.968, "mnist-mlp2": 0.968, "cifar10-jpeg-convnet": 0.712},
}

TOPIC = Topic(
    title="Baselines",
    algorithms={
        base: Algorithm(
            label=BASE_LABELS[base],
            baseline=None,
            search_space={"lr": LEARNING_RATES[base]},
            full_space=WIDER_SPACES[base],
            build=plain(base),
            claimed=_CLAIMED[base],
            aliases=_ALIASES.get(base, ()),
        )
        for base in BASES
    },
    margins=MARGINS_BY_METRIC,
)
