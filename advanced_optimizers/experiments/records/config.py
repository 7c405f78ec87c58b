"""The configuration of a run. It is frozen, and its hash is the run's id.

Most runs train a classifier, and have a :class:`RunConfig`. A run of another kind (a search, a meta-learner, a
federation) has a :class:`KindConfig` of its own. What is done with records asks only for what all kinds share, which is
:class:`BaseConfig`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

from advanced_optimizers._checks import check_integer, check_range

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("one-cycle", "constant", "cosine")
SPLITS = ("test", "validation", "none")

Hyperparameters = dict[str, float | int | bool | str]


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """What every run is known by, whatever it does.

    Attributes:
        algorithm: A key of ``training.algorithms.ALGORITHMS``.
        hyperparameters: The algorithm's hyperparameters, as JSON scalars.
        seed: Seed of everything that is drawn, >= 0.
    """

    # Runs that train a classifier were there first, so their ids know of no kind.
    kind: ClassVar[str] = ""

    algorithm: str
    hyperparameters: Hyperparameters = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.algorithm, str):
            raise TypeError(f"algorithm must be a string, got {self.algorithm!r}")
        check_integer("seed", self.seed, low=0)
        object.__setattr__(self, "hyperparameters", _checked_copy(self.hyperparameters))  # the id must not change

    @property
    def task(self) -> str:
        """What is done, on which data: the folder of the record, and a row of tables."""
        raise NotImplementedError

    @property
    def points(self) -> int:
        """The number of values of each curve of a completed run: epochs, or whatever the kind counts."""
        raise NotImplementedError

    @property
    def extent(self) -> str:
        """How long and how large the run is, in words."""
        return f"{self.points} points"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data that the run reads: keys of ``data.DATASETS``."""
        raise NotImplementedError

    @property
    def label_noise(self) -> float:
        """The fraction of noisy training labels."""
        return 0.0

    @property
    def split(self) -> str:
        """``validation`` for a tuning trial; what the runs of a comparison are measured on, otherwise."""
        return "test"

    @property
    def content(self) -> dict[str, Any]:
        """All fields by name, and the kind if there is one: what is kept in a record, and what the id is a hash of."""
        named = {"kind": self.kind} if self.kind else {}
        return {**named, **{known.name: getattr(self, known.name) for known in fields(self)}}

    @cached_property  # it is asked for many times, and nothing that it depends on can change
    def run_id(self) -> str:
        """A hash of the configuration: 16 hexadecimal digits, the same on every machine."""
        canonical = json.dumps(self.content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class RunConfig(BaseConfig):
    """Everything that determines the outcome of a run that trains a classifier.

    Attributes:
        algorithm: See :class:`BaseConfig`.
        hyperparameters: See :class:`BaseConfig`.
        seed: Seed of the weights, the batches and the label noise, >= 0.
        dataset: A key of ``data.DATASETS``.
        model: A key of ``training.models.MODELS``.
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
        super().__post_init__()
        for name in ("dataset", "model"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string, got {getattr(self, name)!r}")
        if not isinstance(self.augment, bool):
            raise TypeError(f"augment must be True or False, got {self.augment!r}")
        check_integer("epochs", self.epochs, low=1)
        check_integer("batch_size", self.batch_size, low=1)
        check_range("label_noise", self.label_noise, low=0.0, high=1.0, open_high=True)
        check_range("data_fraction", self.data_fraction, low=0.0, high=1.0, open_low=True)
        check_range("width", self.width, low=0.0, high=math.inf, open_low=True, open_high=True)
        for name in ("label_noise", "data_fraction", "width"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 0 and 0.0 are the same configuration
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

    @property
    def points(self) -> int:
        """One value per epoch."""
        return self.epochs

    @property
    def extent(self) -> str:
        """The width, if it is not 1, and the epochs."""
        width = f"width {self.width:g}, " if self.width != 1.0 else ""
        return f"{width}{self.epochs} epochs"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one dataset."""
        return (self.dataset,)


@dataclass(frozen=True, kw_only=True)
class KindConfig(BaseConfig):
    """The configuration of a run of another kind than training a classifier.

    A subclass is a frozen dataclass that names its kind and says how the run goes. Its records are read wherever its
    module is imported, so a topic's module has it, and the names of kind and fields never change. A run of a kind is
    not resumed: one that was killed starts over.

    Attributes:
        kind: Its name, a class variable.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        other = _KINDS.setdefault(cls.kind, cls)
        if not cls.kind or (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"kind must be a name that no other configuration has, got {cls.kind!r}")

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """The run: yields what it measures ``points`` times, the same quantities each time, the last ones being final.

        Random numbers are seeded before it is called. A ``train_loss`` that is not finite ends it as diverged.

        Args:
            device: Where to compute, such as ``cpu`` or ``cuda``.
        """
        raise NotImplementedError


_KINDS: dict[str, type[KindConfig]] = {}


def config_from(content: Any) -> BaseConfig:
    """The configuration that a record keeps as :attr:`BaseConfig.content`.

    Raises:
        TypeError: It is not a mapping, or a field is missing or unknown.
        ValueError: A field has an impossible value, or no module that is imported has a configuration of that kind.
    """
    if not isinstance(content, Mapping):
        raise TypeError(f"config must be a mapping of fields to values, got {content!r}")
    kind = content.get("kind", RunConfig.kind)
    if kind == RunConfig.kind:
        return RunConfig(**content)
    if kind not in _KINDS:
        raise ValueError(f"its kind {kind!r} is unknown: load the topic that it belongs to (--topic FILE)")
    return _KINDS[kind](**{name: value for name, value in content.items() if name != "kind"})


def _checked_copy(hyperparameters: Any) -> Hyperparameters:
    if not isinstance(hyperparameters, dict):
        raise TypeError(f"hyperparameters must be a dict, got {hyperparameters!r}")
    for name, value in hyperparameters.items():
        if not isinstance(name, str) or not isinstance(value, float | int | bool | str):
            raise TypeError(f"hyperparameters must map names to numbers, booleans or strings, got {name!r}: {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"hyperparameters must be finite, got {name!r}: {value!r}")
    return dict(hyperparameters)
