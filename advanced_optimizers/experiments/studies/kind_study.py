"""Comparisons of runs of another kind than training a classifier: searches, meta-learners, federations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.study import BaseStudy, MissingRunsError
from advanced_optimizers.experiments.studies.task import AnyTask
from advanced_optimizers.experiments.studies.tuning import best_trial

# The seed of the trials that choose a learning rate.
TRIAL_SEED = 100

# (algorithm, seed) -> the run.
MakeConfig = Callable[[str, int], KindConfig]


@dataclass(frozen=True, kw_only=True)
class KindTask(AnyTask):
    """A task of a kind.

    Attributes:
        task: The task that its configurations say is theirs.
        reads: The data that it is on: keys of ``data.DATASETS``.
        config: The run of an algorithm with a seed.
        protocol: What the report's table of protocols says about it: words and numbers by the name of the column.
        left_out: The algorithms of the study that are not run on it.
    """

    task: str
    reads: tuple[str, ...]
    config: MakeConfig = field(repr=False)
    protocol: Mapping[str, str | float] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """See :class:`.AnyTask`."""
        return self.task

    @property
    def datasets(self) -> tuple[str, ...]:
        """See :class:`.AnyTask`."""
        return self.reads


@dataclass(frozen=True, kw_only=True)
class KindStudy(BaseStudy):
    """Every algorithm on every task with every seed. Nothing is tuned beforehand: the tasks say what is stated.

    Attributes:
        tasks: What is done.
        metrics: The metrics in which the runs are compared: keys of ``evidence.metrics.METRICS``.
        curves: What is plotted over the points of a run: keys of ``evidence.metrics.CURVES``.
    """

    tasks: tuple[KindTask, ...]
    metrics: tuple[str, ...]
    curves: tuple[str, ...] = ()

    def final_configs(self, store: RunStore) -> list[KindConfig]:
        """Every run, seed by seed.

        Raises:
            ValueError: A configuration names another task, algorithm or seed than it was asked for.
        """
        return [
            self._config(task, algorithm, seed)
            for seed in self.seeds
            for task in self.tasks
            for algorithm in self.algorithms
            if algorithm not in task.left_out
        ]

    def _config(self, task: KindTask, algorithm: str, seed: int) -> KindConfig:
        config = task.config(algorithm, seed)
        asked, got = (task.name, algorithm, seed), (config.task, config.algorithm, config.seed)
        if asked != got:
            raise ValueError(f"config must return the run of {asked} in the study {self.name}, got that of {got}")
        return config


@dataclass(frozen=True, kw_only=True)
class RatedStudy(KindStudy):
    """A comparison in which every algorithm takes the best of the same learning rates on each task.

    A trial is the run with a seed of its own, measured on training samples that are held out: the configuration has a
    field ``held_out`` for that.

    Attributes:
        rates: The learning rates; with a single one, there are no trials.
    """

    rates: tuple[float, ...]

    def trials(self, task: KindTask, algorithm: str) -> list[KindConfig]:
        """One per rate."""
        trial: Any = self._config(task, algorithm, TRIAL_SEED)  # not every kind holds samples out; those here do
        return [replace(trial, hyperparameters={"lr": rate}, held_out=True) for rate in self.rates]

    def tuning_configs(self) -> Sequence[KindConfig]:
        """See :class:`.BaseStudy`."""
        if len(self.rates) == 1:
            return []
        return [trial for task in self.tasks for name in self.algorithms for trial in self.trials(task, name)]

    def final_configs(self, store: RunStore) -> list[KindConfig]:
        """See :class:`.BaseStudy`; each run has the rate of its algorithm's best trial on its task."""
        rates = {(task.name, name): self._rate(store, task, name) for task in self.tasks for name in self.algorithms}
        return [
            replace(config, hyperparameters={"lr": rates[config.task, config.algorithm]})
            for config in super().final_configs(store)
        ]

    def _rate(self, store: RunStore, task: KindTask, algorithm: str) -> float:
        if len(self.rates) == 1:
            return self.rates[0]
        trials = self.trials(task, algorithm)
        records = [record for trial in trials if (record := store.load(trial)) is not None]
        if len(records) < len(trials):
            raise MissingRunsError(f"trials of {algorithm} on {task.name} have no record: {self.command}")
        try:
            return float(best_trial(records).config.hyperparameters["lr"])
        except ValueError as error:
            raise MissingRunsError(f"no trial can be chosen for {algorithm} on {task.name}: {error}") from error
