"""The configuration of a run. It is frozen, and its hash is the run's id."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from advanced_optimizers._checks import check_integer, check_range

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("one-cycle", "constant", "cosine")
SPLITS = ("test", "validation", "none")

Hyperparameters = dict[str, float | int | bool | str]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that determines a run's outcome.

    Attributes:
        dataset: A key of ``data.DATASETS``.
        model: A key of ``training.models.MODELS``.
        algorithm: A key of ``training.algorithms.ALGORITHMS``.
        hyperparameters: The algorithm's hyperparameters, as JSON scalars.
        seed: Seed of the weights, the batches and the label noise, >= 0.
        epochs: Passes over the training set, >= 1.
        batch_size: Images per step, >= 1.
        label_noise: Fraction of the training labels that are replaced by another class, in [0, 1); of those of a
            validation split, too.
        data_fraction: Fraction of the training images used, in (0, 1].
        width: The model's width multiplier, > 0.
        precision: ``float32``, or ``bfloat16`` autocast over float32 parameters.
        schedule: ``one-cycle`` (learning rate up to ``lr`` and down to zero), ``constant``, or ``cosine`` (from ``lr``
            down to zero along half a cosine, without a warm-up).
        augment: Whether to crop and mirror the training images at random.
        split: What accuracy is measured on after each epoch: the ``test`` set; ``validation``, a part of the training
            set held out for tuning; or ``none``, which saves the time where only the training loss is needed.
    """

    dataset: str
    model: str
    algorithm: str
    hyperparameters: Hyperparameters = field(default_factory=dict)
    seed: int = 0
    epochs: int = 10
    batch_size: int = 128
    label_noise: float = 0.0
    data_fraction: float = 1.0
    width: float = 1.0
    precision: str = "float32"
    schedule: str = "one-cycle"
    augment: bool = False
    split: str = "test"

    def __post_init__(self) -> None:
        for name in ("dataset", "model", "algorithm"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string, got {getattr(self, name)!r}")
        if not isinstance(self.augment, bool):
            raise TypeError(f"augment must be True or False, got {self.augment!r}")
        check_integer("seed", self.seed, low=0)
        check_integer("epochs", self.epochs, low=1)
        check_integer("batch_size", self.batch_size, low=1)
        check_range("label_noise", self.label_noise, low=0.0, high=1.0, open_high=True)
        check_range("data_fraction", self.data_fraction, low=0.0, high=1.0, open_low=True)
        check_range("width", self.width, low=0.0, high=math.inf, open_low=True, open_high=True)
        for name in ("label_noise", "data_fraction", "width"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 0 and 0.0 are the same configuration
        object.__setattr__(self, "hyperparameters", _checked_copy(self.hyperparameters))  # the id must not change
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("schedule", self.schedule, SCHEDULES),
            ("split", self.split, SPLITS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")

    @property
    def task(self) -> str:
        """Dataset and model, as in ``mnist-mlp``."""
        return f"{self.dataset}-{self.model}"

    @cached_property  # it is asked for many times, and nothing that it depends on can change
    def run_id(self) -> str:
        """A hash of the configuration: 16 hexadecimal digits, the same on every machine."""
        content = {known.name: getattr(self, known.name) for known in fields(self)}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _checked_copy(hyperparameters: Any) -> Hyperparameters:
    if not isinstance(hyperparameters, dict):
        raise TypeError(f"hyperparameters must be a dict, got {hyperparameters!r}")
    for name, value in hyperparameters.items():
        if not isinstance(name, str) or not isinstance(value, float | int | bool | str):
            raise TypeError(f"hyperparameters must map names to numbers, booleans or strings, got {name!r}: {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"hyperparameters must be finite, got {name!r}: {value!r}")
    return dict(hyperparameters)
