"""Learning-rate sweeps at several widths of a network, whose runs show whether the best rate moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.study import BaseStudy
from advanced_optimizers.experiments.studies.task import BaseTask

# By number of hidden units, the lowest and the highest log2 of the learning rate.
Windows = Mapping[int, tuple[int, int]]
# By number of hidden units, single values of it.
Exponents = Mapping[int, tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class SweepTask(BaseTask):
    """A dataset with the protocol of a sweep, the same for every algorithm except for the learning rates.

    Attributes:
        windows: The learning rates, by algorithm and number of hidden units: powers of two, one octave apart, around
            the expected optimum, so that no time is spent far from it. A minimum at the end of a window does not count
            as an optimum (see ``evidence.optima``).
        data_fraction: Fraction of the training images used, in (0, 1].
        base_units: Hidden units of the network at width 1.
        further_rates: By algorithm, log2 of further learning rates, which were added once the windows had been seen:
            half octaves where an optimum stands next to a rate at which runs diverge, and rates that were chosen at
            another width.
        further_seeds: Seeds beside those of the study, by number of hidden units.
    """

    windows: Mapping[str, Windows]
    data_fraction: float
    base_units: int
    further_rates: Mapping[str, Exponents] = field(default_factory=dict)
    further_seeds: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def units(self) -> list[int]:
        """The widths at which all algorithms are trained, as numbers of hidden units; the narrowest first."""
        return sorted(set.intersection(*(set(window) for window in self.windows.values())))

    def exponents(self, algorithm: str, units: int) -> list[float]:
        """log2 of the learning rates at one width, the lowest first."""
        low, high = self.windows[algorithm][units]
        further = self.further_rates.get(algorithm, {}).get(units, ())
        return sorted({*map(float, range(low, high + 1)), *further})

    def run(self, algorithm: str, units: int, exponent: float, seed: int) -> RunConfig:
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
        octaves: An optimum that stays within this many octaves has not moved.
        loss_factor: A learning rate carries over if the loss that it gives is at most this many times the lowest one.
    """

    tasks: tuple[SweepTask, ...]
    transferring: str
    octaves: float
    loss_factor: float

    @property
    def base_units(self) -> int:
        """Hidden units of the network at width 1."""
        return self.tasks[0].base_units

    def seeds_at(self, task: SweepTask, units: int) -> tuple[int, ...]:
        """The seeds that are trained at one width of a task."""
        return (*self.seeds, *task.further_seeds.get(units, ()))

    def final_configs(self, store: RunStore) -> list[RunConfig]:
        """Every run, seed by seed; within a seed, the widest networks of each task come first."""
        return [
            task.run(algorithm, units, exponent, seed)
            for seed in sorted({s for task in self.tasks for units in task.units for s in self.seeds_at(task, units)})
            for task in self.tasks
            for units in reversed(task.units)
            if seed in self.seeds_at(task, units)
            for algorithm in self.algorithms
            for exponent in task.exponents(algorithm, units)
        ]
