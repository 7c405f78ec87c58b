"""Small learners on a part of the digits, and helpers that train, save and restore them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, build_learner
from advanced_optimizers.experiments.training.learners import Setting
from advanced_optimizers.experiments.training.models import build_model
from tests.experiments_helpers import FOR_ANY_MODEL, OWN_SCHEDULE, make_config

BITWISE = {"rtol": 0.0, "atol": 0.0}
SAMPLES = 240
BATCH_SIZE = 60
STEPS = SAMPLES // BATCH_SIZE

# Rows whose steps differ from a prediction: they draw at random (from torch's own generator, which the training loop
# keeps), or have batch statistics.
AUGMENTING = tuple(
    name for name in ALGORITHMS if name.startswith(("lecture-shift", "lecture-rotation", "lecture-flip"))
)
NOT_AS_PREDICTED = (*AUGMENTING, "lecture-dropout", "lecture-batch-norm")


def make_learner(algorithm: str = "sgd", seed: int = 0, **changes: Any) -> Any:
    config = make_config(algorithm=algorithm, seed=seed, **{"epochs": 4, **changes})
    torch.manual_seed(seed)
    setting = Setting(
        config=config,
        model=build_model(config.model, (1, 8, 8), 10, config.width),
        num_samples=SAMPLES,
        num_classes=10,
        image_shape=(1, 8, 8),
        steps_per_epoch=STEPS,
    )
    return build_learner(setting)


def kind_of(algorithm: str) -> tuple[Any, ...]:
    """What an algorithm is made of: the learner and its parts, layers, switches and ranges, but no numbers."""
    learner = make_learner(algorithm)
    parts = {name: (type(part), _switches(part)) for name, part in vars(learner).items()}
    base = type(getattr(getattr(learner, "optimizer", None), "base", None))
    layers = tuple(type(module) for module in learner.model.modules())
    return (
        type(learner),
        str(parts),
        base,
        layers,
        str(ALGORITHMS[algorithm].search_space),
        ALGORITHMS[algorithm].options,
    )


def make_of(algorithm: str) -> tuple[Any, ...]:
    """The classes that an algorithm's learner, its layers, its parts and their settings have."""
    learner = make_learner(algorithm)
    parts = {name: (type(part), getattr(part, "__dict__", {})) for name, part in vars(learner).items()}
    classes = {name: (kind, {key: type(value) for key, value in own.items()}) for name, (kind, own) in parts.items()}
    return type(learner), tuple(type(module) for module in learner.model.modules()), str(classes)


def _switches(part: object) -> dict[str, object]:
    settings = getattr(part, "__dict__", {})
    return {name: value if isinstance(value, (str, bool)) else type(value) for name, value in settings.items()}


def make_batches(seed: int = 0) -> data.Batches:
    digits = data.load("digits")
    images, labels = digits.images[:SAMPLES], digits.labels[:SAMPLES]
    generator = torch.Generator().manual_seed(seed)
    return data.Batches(images, labels, digits.mean, digits.std, BATCH_SIZE, generator=generator, shuffle=True)


def train_epochs(learner: Any, batches: data.Batches, first: int, last: int) -> list[Tensor]:
    losses = []
    for epoch in range(first, last + 1):
        torch.manual_seed(epoch)  # the training loop's checkpoints hold torch's generator; the learner's state does not
        learner.start_epoch(epoch)
        losses += [learner.step(batch).loss for batch in batches]
    return losses


def cross_entropy(learner: Any) -> float:
    return sum(float(F.cross_entropy(learner.predict(b.images), b.labels)) for b in make_batches()) / STEPS


def weights_of(learner: Any) -> list[Tensor]:
    return [value.clone() for value in learner.model.state_dict().values()]


def saved(learner: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(learner.state_dict(), buffer)
    return buffer.getvalue()


def loaded(content: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return state


# Algorithms that differ in a number alone need no test of their own: the first of each kind stands for the others.
OF_EACH_KIND = tuple({kind_of(name): name for name in reversed(FOR_ANY_MODEL)}.values())[::-1]
# One of each make: kinds that share all their classes go through the same code, so by default one stands for them.
OF_EACH_MAKE = tuple({make_of(name): name for name in reversed(OF_EACH_KIND)}.values())[::-1]


def _of_kinds(names: Iterable[str], *further: Any, suffix: str = "") -> list[Any]:
    """Rows of a test; those that are not the first of their make are slow."""
    slow = pytest.mark.slow
    return [
        pytest.param(name, *further, id=name + suffix, marks=() if name in OF_EACH_MAKE else slow) for name in names
    ]


every_kind = pytest.mark.parametrize("algorithm", _of_kinds(OF_EACH_KIND))
every_scheduled_kind = pytest.mark.parametrize(
    "algorithm", _of_kinds(name for name in OF_EACH_KIND if name not in OWN_SCHEDULE)
)


def every_kind_and_network(plain: dict[str, Any], convolutional: dict[str, Any]) -> pytest.MarkDecorator:
    """Runs a test for every kind with some changes of its configuration; slow: for every make with others."""
    rows = _of_kinds(OF_EACH_KIND, plain, suffix="-mlp")
    rows += [pytest.param(name, convolutional, id=f"{name}-convnet", marks=pytest.mark.slow) for name in OF_EACH_MAKE]
    return pytest.mark.parametrize(("algorithm", "changes"), rows)
