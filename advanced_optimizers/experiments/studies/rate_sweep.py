"""Sweeps of the learning rate: the same few rates for every algorithm, task and seed, each run to its end."""

from __future__ import annotations

from dataclasses import dataclass

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.study import BaseStudy
from advanced_optimizers.experiments.studies.task import BaseTask


@dataclass(frozen=True, kw_only=True)
class RateTask(BaseTask):
    """A dataset and a model with the protocol of a sweep, the same for every algorithm.

    Attributes:
        data_fraction: Fraction of the training images used, in (0, 1].
    """

    data_fraction: float = 1.0

    def run(self, algorithm: str, rate: float, seed: int) -> RunConfig:
        """One run at a constant learning rate, measured on the test set."""
        return RunConfig(
            dataset=self.dataset,
            model=self.model,
            algorithm=algorithm,
            hyperparameters={"lr": rate},
            seed=seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            data_fraction=self.data_fraction,
            schedule="constant",
        )


@dataclass(frozen=True, kw_only=True)
class RateSweep(BaseStudy):
    """Every algorithm on every task at every learning rate of one grid; nothing is tuned beforehand.

    Attributes:
        tasks: What is trained.
        rates: The learning rates, ascending and about evenly spaced in their logarithms.
        marked: Learning rates that somebody recommends; figures mark them.
    """

    tasks: tuple[RateTask, ...]
    rates: tuple[float, ...]
    marked: tuple[float, ...] = ()

    def final_configs(self, store: RunStore) -> list[RunConfig]:
        """Every run, seed by seed."""
        return [
            task.run(algorithm, rate, seed)
            for seed in self.seeds
            for task in self.tasks
            for algorithm in self.algorithms
            for rate in self.rates
        ]
