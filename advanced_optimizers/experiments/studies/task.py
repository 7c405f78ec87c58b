"""What a task is: a dataset and a model with the protocol of training, the same for every algorithm of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from advanced_optimizers.experiments.records.config import Hyperparameters, RunConfig

_Own = TypeVar("_Own", bound="AnyTask")
_Trained = TypeVar("_Trained", bound="BaseTask")

# The configurations of tasks: a study asks for its thousands of trials again and again, and each is checked and hashed.
_CONFIGS: dict[tuple[Any, ...], RunConfig] = {}


@dataclass(frozen=True, kw_only=True)
class AnyTask:
    """What a study is on, whatever its runs do.

    Attributes:
        alternatives: Datasets on which the task may be done instead, with the same protocol.
    """

    alternatives: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in records and tables."""
        raise NotImplementedError

    @property
    def datasets(self) -> tuple[str, ...]:
        """Keys of ``data.DATASETS``."""
        raise NotImplementedError

    @property
    def models(self) -> tuple[str, ...]:
        """Keys of ``training.models.MODELS``, if its runs train such."""
        return ()

    def on(self: _Own, dataset: str) -> _Own:
        """The same task on another dataset if that is one of its alternatives; otherwise the task itself."""
        return self


@dataclass(frozen=True, kw_only=True)
class BaseTask(AnyTask):
    """A dataset and a model, and how long the model is trained.

    Attributes:
        dataset: A key of ``data.DATASETS``.
        model: A key of ``training.models.MODELS``.
        epochs: Epochs per run.
        batch_size: Images per step.
        alternatives: See :class:`AnyTask`.
    """

    dataset: str
    model: str
    epochs: int
    batch_size: int = 128

    @property
    def name(self) -> str:
        """Dataset and model, as in ``mnist-mlp``."""
        return f"{self.dataset}-{self.model}"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one dataset."""
        return (self.dataset,)

    @property
    def models(self) -> tuple[str, ...]:
        """The one model."""
        return (self.model,)

    def on(self: _Trained, dataset: str) -> _Trained:
        """See :meth:`AnyTask.on`."""
        return replace(self, dataset=dataset) if dataset in self.alternatives else self


@dataclass(frozen=True, kw_only=True)
class Task(BaseTask):
    """A dataset and a model with their protocol, the same for every algorithm.

    Attributes:
        tuning_epochs: Epochs per tuning trial.
        tuning_fraction: Fraction of the tuning split's training images that a trial uses.
        precision: See ``RunConfig``.
        augment: See ``RunConfig``.
        width: See ``RunConfig``.
        data_fraction: Fraction of the training images that a run of the comparison uses.
        schedule: See ``RunConfig``; trials follow it, too.
    """

    tuning_epochs: int
    tuning_fraction: float = 1.0
    precision: str = "float32"
    augment: bool = False
    width: float = 1.0
    data_fraction: float = 1.0
    schedule: str = "one-cycle"

    def longer(self, factor: float) -> Task:
        """The same task with this many times the epochs, rounded up; in its trials, too."""
        return replace(
            self, epochs=math.ceil(self.epochs * factor), tuning_epochs=math.ceil(self.tuning_epochs * factor)
        )

    def with_full_trials(self) -> Task:
        """The same task with trials as long as the runs, on as much data."""
        return replace(self, tuning_epochs=self.epochs, tuning_fraction=self.data_fraction)

    def trial(self, algorithm: str, hyperparameters: Hyperparameters, seed: int = 0) -> RunConfig:
        """One tuning trial: clean labels, and accuracy on a held-out part of the training set."""
        return self._config(
            algorithm,
            hyperparameters,
            seed,
            epochs=self.tuning_epochs,
            data_fraction=self.tuning_fraction,
            split="validation",
        )

    def run(self, algorithm: str, hyperparameters: Hyperparameters, seed: int, label_noise: float) -> RunConfig:
        """One run of the comparison, measured on the test set."""
        return self._config(
            algorithm,
            hyperparameters,
            seed,
            epochs=self.epochs,
            data_fraction=self.data_fraction,
            label_noise=label_noise,
        )

    def _config(self, algorithm: str, hyperparameters: Hyperparameters, seed: int, **fields: Any) -> RunConfig:
        # By the values as they are written: 1 and 1.0 are equal, but not the same configuration.
        key = (self, algorithm, repr(hyperparameters), seed, *fields.items())
        if key not in _CONFIGS:
            _CONFIGS[key] = RunConfig(
                dataset=self.dataset,
                model=self.model,
                algorithm=algorithm,
                hyperparameters=hyperparameters,
                seed=seed,
                batch_size=self.batch_size,
                precision=self.precision,
                augment=self.augment,
                width=self.width,
                schedule=self.schedule,
                **fields,
            )
        return _CONFIGS[key]
