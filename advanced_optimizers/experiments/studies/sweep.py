"""Learning-rate sweeps at several widths of a network, whose runs show whether the best rate moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.study import BaseStudy, BaseTask

# By number of hidden units, the lowest and the highest log2 of the learning rate.
Windows = Mapping[int, tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class SweepTask(BaseTask):
    """A dataset with the protocol of a sweep, the same for every algorithm except for the learning rates.

    Attributes:
        windows: The learning rates, by algorithm and number of hidden units: powers of two, one octave apart, around
            the expected optimum, so that no time is spent far from it. A minimum at the end of a window does not count
            as an optimum (see ``evidence.optima``).
        data_fraction: Fraction of the training images used, in (0, 1].
        base_units: Hidden units of the network at width 1.
    """

    windows: Mapping[str, Windows]
    data_fraction: float
    base_units: int

    @property
    def units(self) -> list[int]:
        """The widths at which all algorithms are trained, as numbers of hidden units; the narrowest first."""
        return sorted(set.intersection(*(set(window) for window in self.windows.values())))

    def run(self, algorithm: str, units: int, exponent: int, seed: int) -> RunConfig:
        """One run, with the constant learning rate ``2 ** exponent``."""
        return RunConfig(
            dataset=self.dataset,
            model=self.model,
            algorithm=algorithm,
            hyperparameters={"lr": 2.0**exponent},
            seed=seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            data_fraction=self.data_fraction,
            width=units / self.base_units,
            schedule="constant",
            split="none",
        )


@dataclass(frozen=True, kw_only=True)
class WidthSweep(BaseStudy):
    """A learning-rate sweep at each width, in two parametrizations that agree at the base width.

    Nothing is tuned beforehand: the sweep is the tuning.

    Attributes:
        tasks: What is trained.
        transferring: The algorithm whose best learning rate is claimed to be the same at every width.
        from_units: The width from which a move of the optimum is counted: narrower networks are too far from the
            infinite-width limit that the claim is about.
    """

    tasks: tuple[SweepTask, ...]
    transferring: str
    from_units: int

    @property
    def base_units(self) -> int:
        """Hidden units of the network at width 1."""
        return self.tasks[0].base_units

    def final_configs(self, store: RunStore) -> list[RunConfig]:
        """Every run, seed by seed; within a seed, the widest networks of each task come first."""
        return [
            task.run(algorithm, units, exponent, seed)
            for seed in self.seeds
            for task in self.tasks
            for units in reversed(task.units)
            for algorithm in self.algorithms
            for low, high in [task.windows[algorithm][units]]
            for exponent in range(low, high + 1)
        ]
