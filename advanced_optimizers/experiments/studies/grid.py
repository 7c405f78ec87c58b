"""Comparisons whose tuning is one grid of learning rates, the same for every algorithm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.studies.study import SEEDS, Study
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import Range


@dataclass(frozen=True, kw_only=True)
class GridStudy(Study):
    """A comparison of algorithms whose learning rate alone is tuned, on one grid, with labels as noisy as the runs'.

    With noisy labels, the held-out images of a trial are part of the noisy training set: whoever tunes has no others.
    All runs have the same label noise.

    Attributes:
        rates: The learning rates, ascending and about evenly spaced in their logarithms; one trial for each.
    """

    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.label_noises) != 1 or self.trials != len(self.rates):
            raise ValueError(
                "label_noises must be one and trials the number of rates, got "
                f"{self.label_noises}, {self.trials} trials and {len(self.rates)} rates"
            )

    def trial_configs(self, task: Task, algorithm: str) -> list[RunConfig]:
        """The trials of one algorithm on one task, or of the algorithm whose hyperparameters it takes over."""
        algorithm = self.tuned_as.get(algorithm, algorithm)
        protocol, (noise,) = self.protocol(task, algorithm), self.label_noises
        trials = [protocol.trial(algorithm, {"lr": rate}, self.trial_seed) for rate in self.rates]
        return [replace(trial, label_noise=noise) for trial in trials]

    def search_space(self, task: Task, algorithm: str) -> dict[str, Range]:
        """The range of the grid."""
        return {"lr": Range(low=self.rates[0], high=self.rates[-1], log=True)}


def octaves(lowest: float, count: int = 8) -> tuple[float, ...]:
    """A grid of learning rates, each twice the one before."""
    return tuple(float(f"{lowest * 2.0**k:.6g}") for k in range(count))


def grid_in_both_profiles(
    *,
    full: tuple[Task, ...],
    quick: tuple[Task, ...],
    rates: tuple[float, ...],
    label_noise: float = 0.0,
    **fields: Any,
) -> tuple[GridStudy, ...]:
    """Returns a comparison in both profiles: full with 5 seeds and the whole grid, quick with 2 seeds and two rates.

    Args:
        full: Tasks of the full profile.
        quick: Tasks of the quick profile; on ``digits``, so that they need no download.
        rates: See :class:`GridStudy`.
        label_noise: Fraction of noisy training labels, in trials and runs.
        **fields: The other fields of :class:`Study`, the same in both.
    """
    middle = len(rates) // 2
    return tuple(
        GridStudy(
            profile=profile,
            tasks=tasks,
            seeds=seeds,
            rates=grid,
            trials=len(grid),
            label_noises=(label_noise,),
            **fields,
        )
        for profile, tasks, seeds, grid in (
            ("full", full, SEEDS, rates),
            ("quick", quick, SEEDS[:2], rates[middle : middle + 2]),
        )
    )
