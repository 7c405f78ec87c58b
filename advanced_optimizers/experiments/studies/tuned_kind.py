"""Comparisons of runs of another kind whose hyperparameters are tuned, by as many trials for each algorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from advanced_optimizers.experiments.records.config import Hyperparameters, KindConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask
from advanced_optimizers.experiments.studies.study import MissingRunsError
from advanced_optimizers.experiments.studies.tuning import best_trial

TRIAL_SEED = 100


@dataclass(frozen=True, kw_only=True)
class TunedConfig(KindConfig):
    """A run on one dataset that may be a trial.

    Attributes:
        dataset: A key of ``data.DATASETS``.
        held_out: Whether it is a trial, measured on training samples that are held out.
    """

    kind = "tuned"

    dataset: str = "mnist"
    held_out: bool = False

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one dataset."""
        return (self.dataset,)

    @property
    def split(self) -> str:
        """What it is measured on."""
        return "validation" if self.held_out else "test"


@dataclass(frozen=True, kw_only=True)
class TunedKindStudy(KindStudy):
    """A comparison in which every algorithm takes the best of its points by trials.

    A trial is the run with a seed of its own, measured on training data that are held out: its configuration is a
    :class:`TunedConfig`.

    Attributes:
        points: By algorithm that is tuned, the hyperparameters that are tried; with a single point there are no trials.
        tuned_as: By algorithm that is not, the one whose hyperparameters it takes over.
        tuned_on: The task of all trials; None tunes on each task by itself.
    """

    points: Mapping[str, tuple[Hyperparameters, ...]] = field(default_factory=dict)
    tuned_as: Mapping[str, str] = field(default_factory=dict)
    tuned_on: KindTask | None = None

    def points_of(self, algorithm: str) -> tuple[Hyperparameters, ...]:
        """What is tried for an algorithm that is tuned."""
        return self.points[algorithm]

    def trials(self, task: KindTask, algorithm: str) -> list[KindConfig]:
        """One per point, of an algorithm that is tuned."""
        trial: Any = self._config(task, algorithm, TRIAL_SEED)
        return [replace(trial, hyperparameters=point, held_out=True) for point in self.points_of(algorithm)]

    def tuning_configs(self) -> Sequence[KindConfig]:
        """See :class:`.BaseStudy`."""
        tuned = [
            self._tuned(task, algorithm)
            for task in self.tasks
            for algorithm in self.algorithms
            if algorithm not in task.left_out
        ]
        once = {(task.name, algorithm): task for task, algorithm in tuned if len(self.points_of(algorithm)) > 1}
        return [trial for (_, algorithm), task in once.items() for trial in self.trials(task, algorithm)]

    def final_configs(self, store: RunStore) -> list[KindConfig]:
        """See :class:`.BaseStudy`; each run has the hyperparameters of the best trial."""
        runs = super().final_configs(store)
        tasks = {task.name: task for task in self.tasks}
        pairs = dict.fromkeys((run.task, run.algorithm) for run in runs)
        chosen = {pair: self._chosen(store, tasks[pair[0]], pair[1]) for pair in pairs}
        return [replace(run, hyperparameters=chosen[run.task, run.algorithm]) for run in runs]

    def _tuned(self, task: KindTask, algorithm: str) -> tuple[KindTask, str]:
        return self.tuned_on or task, self.tuned_as.get(algorithm, algorithm)

    def _chosen(self, store: RunStore, task: KindTask, algorithm: str) -> Hyperparameters:
        task, algorithm = self._tuned(task, algorithm)
        points = self.points_of(algorithm)
        if len(points) == 1:
            return points[0]
        trials = self.trials(task, algorithm)
        records = [record for trial in trials if (record := store.load(trial)) is not None]
        if len(records) < len(trials):
            raise MissingRunsError(f"trials of {algorithm} on {task.name} have no record: {self.command}")
        try:
            return best_trial(records).config.hyperparameters
        except ValueError as error:
            raise MissingRunsError(f"no trial can be chosen for {algorithm} on {task.name}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class RatedStudy(TunedKindStudy):
    """A comparison in which every algorithm takes the best of the same learning rates on each task.

    Attributes:
        rates: The learning rates; with a single one, there are no trials.
    """

    rates: tuple[float, ...]

    def points_of(self, algorithm: str) -> tuple[Hyperparameters, ...]:
        """See :class:`TunedKindStudy`."""
        return tuple({"lr": rate} for rate in self.rates)
