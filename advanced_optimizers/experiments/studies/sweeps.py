"""Sweeps of the learning rate over a network's width: which runs show whether the best rate moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.studies import find_study
from advanced_optimizers.experiments.studies.study import BaseStudy, BaseTask
from advanced_optimizers.experiments.training.models import MLP3_UNITS

# By the number of hidden units: the lowest and the highest log2 of the learning rate.
Windows = Mapping[int, tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class SweepTask(BaseTask):
    """A dataset with the protocol of a sweep, the same for every algorithm but for the learning rates.

    Attributes:
        windows: By algorithm and number of hidden units, the learning rates: powers of two, one octave apart, between
            two of which the best one is expected. No compute goes where the loss is far from its minimum, and a
            minimum at a window's end is not taken for one (see ``optima``).
        data_fraction: Share of the training images used, in (0, 1].
    """

    windows: Mapping[str, Windows]
    data_fraction: float

    @property
    def units(self) -> list[int]:
        """The widths, as numbers of hidden units, that all algorithms are trained at; the narrowest first."""
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
            width=units / MLP3_UNITS,
            schedule="constant",
            split="none",
        )


@dataclass(frozen=True, kw_only=True)
class WidthSweep(BaseStudy):
    """The learning rate swept at each width, in two parametrisations that agree at the base width.

    The base has 64 units, as in the MLP example of the authors' package that the multipliers were tuned for; there both
    parametrisations are the same algorithm, so their curves begin at one point. A pilot (64, 256 and 512 units, one
    seed) had muP's optimum in one place from 64 units on, so a wider base would add nothing but widths below it.
    Nothing is tuned before: the sweep is the tuning.
    """

    tasks: tuple[SweepTask, ...]

    def final_configs(self, store: RunStore) -> list[RunConfig]:
        """Every run; whole sweeps of the first seeds come first, and in each the long runs."""
        return [
            task.run(algorithm, units, exponent, seed)
            for seed in self.seeds
            for task in self.tasks
            for units in reversed(task.units)
            for algorithm in self.algorithms
            for low, high in [task.windows[algorithm][units]]
            for exponent in range(low, high + 1)
        ]


def _sweep(profile: str, tasks: tuple[SweepTask, ...]) -> WidthSweep:
    return WidthSweep(
        name="mutransfer",
        title="Does the best learning rate stay where it is when the network gets wider?",
        profile=profile,
        tasks=tasks,
        algorithms=("standard-sgd", "mup-sgd"),
        seeds=(0, 1, 2),
    )


def _windows(standard: Windows, mup: Windows) -> dict[str, Windows]:
    return {"standard-sgd": standard, "mup-sgd": mup}


# Up to 512 units a run takes seconds, so there both sides of the minimum are shown.
_NARROW = (64, 128, 256, 512)
_STANDARD = dict.fromkeys(_NARROW, (-9, -3)) | {1024: (-9, -5), 2048: (-10, -6), 4096: (-10, -7)}
_CIFAR = SweepTask(
    dataset="cifar10-jpeg",
    model="mlp3",
    epochs=8,
    batch_size=64,
    data_fraction=0.2,
    windows=_windows(
        standard=_STANDARD,
        mup=dict.fromkeys(_NARROW, (-8, -2)) | dict.fromkeys((1024, 2048, 4096), (-6, -3)),
    ),
)
_MNIST = SweepTask(
    dataset="mnist",
    model="mlp3",
    epochs=5,
    batch_size=64,
    data_fraction=0.1,
    windows=_windows(
        # The first seed had its lowest loss at 2 ** -7, where the window ended; a minimum needs a run on either side.
        standard=_STANDARD | {4096: (-9, -6)},
        # On this easy task the best rates are the largest that train at all; beyond, runs end in their first steps.
        mup=dict.fromkeys(_NARROW, (-8, -2)) | dict.fromkeys((1024, 2048, 4096), (-6, -2)),
    ),
)
_DIGITS = SweepTask(
    dataset="digits",
    model="mlp3",
    epochs=6,
    batch_size=64,
    data_fraction=1.0,
    windows=_windows(standard=dict.fromkeys((64, 256, 512), (-8, -4)), mup=dict.fromkeys((64, 256, 512), (-7, -4))),
)

SWEEPS: dict[tuple[str, str], WidthSweep] = {
    (sweep.name, sweep.profile): sweep for sweep in (_sweep("full", (_MNIST, _CIFAR)), _sweep("quick", (_DIGITS,)))
}


def get_sweep(name: str, profile: str) -> WidthSweep:
    """The sweep of that name in a profile.

    Raises:
        ValueError: There is none; the nearest names are given.
    """
    return find_study(SWEEPS, name, profile)
