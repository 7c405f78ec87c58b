"""The studies: which runs answer which question."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from advanced_optimizers.experiments.algorithms import ALGORITHMS
from advanced_optimizers.experiments.claims_correction import TARGETS
from advanced_optimizers.experiments.paths import check_profile
from advanced_optimizers.experiments.runs import Hyperparameters, RunConfig, RunRecord, RunStore
from advanced_optimizers.experiments.tuning import best_trial, sample_hyperparameters


class MissingRunsError(RuntimeError):
    """The comparison cannot begin: tuning trials have no record yet, or all of them diverged."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A dataset and a model with their protocol, the same for every algorithm.

    Attributes:
        dataset: A name of ``data.DATASETS``.
        model: A name of ``models.MODELS``.
        epochs: Length of a run.
        tuning_epochs: Length of a tuning trial.
        tuning_fraction: Share of the tuning split's training images that a trial uses.
        batch_size: Images a step.
        precision: See ``RunConfig``.
        augment: See ``RunConfig``.
        width: See ``RunConfig``.
    """

    dataset: str
    model: str
    epochs: int
    tuning_epochs: int
    tuning_fraction: float = 1.0
    batch_size: int = 128
    precision: str = "float32"
    augment: bool = False
    width: float = 1.0

    def longer(self, factor: float) -> Task:
        """The same for more epochs, rounded up, in trials too."""
        return replace(
            self, epochs=math.ceil(self.epochs * factor), tuning_epochs=math.ceil(self.tuning_epochs * factor)
        )

    @property
    def name(self) -> str:
        """Dataset and model, as in ``mnist-mlp``."""
        return f"{self.dataset}-{self.model}"

    def trial(self, algorithm: str, hyperparameters: Hyperparameters) -> RunConfig:
        """One tuning trial: clean labels, accuracy on a part of the training set that is held out."""
        return RunConfig(
            dataset=self.dataset,
            model=self.model,
            algorithm=algorithm,
            hyperparameters=hyperparameters,
            epochs=self.tuning_epochs,
            data_fraction=self.tuning_fraction,
            batch_size=self.batch_size,
            precision=self.precision,
            augment=self.augment,
            width=self.width,
            split="validation",
        )

    def run(self, algorithm: str, hyperparameters: Hyperparameters, seed: int, label_noise: float) -> RunConfig:
        """One run of the comparison, measured on the test set."""
        return RunConfig(
            dataset=self.dataset,
            model=self.model,
            algorithm=algorithm,
            hyperparameters=hyperparameters,
            seed=seed,
            epochs=self.epochs,
            label_noise=label_noise,
            batch_size=self.batch_size,
            precision=self.precision,
            augment=self.augment,
            width=self.width,
        )


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison of algorithms over tasks, label noises and seeds, after a tuning budget that is the same for all.

    Attributes:
        name: What the command line calls it.
        title: What it asks.
        profile: ``quick`` or ``full``.
        tasks: What is trained.
        algorithms: Names of ``algorithms.ALGORITHMS``.
        label_noises: Shares of wrong training labels. Tuning is done once, on clean labels.
        seeds: Seeds of the runs; algorithms are compared seed by seed.
        trials: Tuning trials for each algorithm and task.
        metrics: What the runs are compared in: columns of the records that ``metrics.METRICS`` knows.
        curves: What is drawn over the epochs: keys of ``study_results.CURVES``.
        left_out: Pairs of (task, algorithm) that are not run.
        protocols: Of pairs of (task, algorithm) whose protocol is another than the task's: longer, or wider.
        targets: By task, the test accuracy that a run's epochs are counted to, in [0, 1]; none are counted without.
        reported: Whether the report tells it; not while its runs are being trained.
    """

    name: str
    title: str
    profile: str
    tasks: tuple[Task, ...]
    algorithms: tuple[str, ...]
    label_noises: tuple[float, ...]
    seeds: tuple[int, ...]
    trials: int
    metrics: tuple[str, ...] = ("test_accuracy",)
    curves: tuple[str, ...] = ("test_accuracy",)
    left_out: frozenset[tuple[str, str]] = frozenset()
    protocols: Mapping[tuple[str, str], Task] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    reported: bool = True

    def algorithms_on(self, task: Task) -> list[str]:
        """The algorithms that are run on a task."""
        return [name for name in self.algorithms if (task.name, name) not in self.left_out]

    def protocol(self, task: Task, algorithm: str) -> Task:
        """The protocol of an algorithm on a task."""
        return self.protocols.get((task.name, algorithm), task)

    def trial_configs(self, task: Task, algorithm: str) -> list[RunConfig]:
        """The tuning trials of one algorithm on one task."""
        points = sample_hyperparameters(ALGORITHMS[algorithm].search_space, self.trials)
        return [self.protocol(task, algorithm).trial(algorithm, point) for point in points]

    def tuning_configs(self) -> list[RunConfig]:
        """All tuning trials."""
        return [c for task in self.tasks for a in self.algorithms_on(task) for c in self.trial_configs(task, a)]

    def chosen_trial(self, store: RunStore, task: Task, algorithm: str) -> RunRecord:
        """The trial whose hyperparameters the comparison uses.

        Raises:
            MissingRunsError: A trial has no record yet, or every trial diverged.
        """
        configs = self.trial_configs(task, algorithm)
        records = [record for config in configs if (record := store.load(config)) is not None]
        if len(records) < len(configs):
            raise MissingRunsError(
                f"{len(configs) - len(records)} of {len(configs)} tuning trials of {algorithm} on {task.name} have no "
                f"record: {self.command}"
            )
        try:
            return best_trial(records)
        except ValueError as error:
            raise MissingRunsError(f"there is no trial to choose for {algorithm} on {task.name}: {error}") from error

    def final_configs(self, store: RunStore) -> list[RunConfig]:
        """The runs of the comparison, with the hyperparameters that tuning chose.

        Raises:
            MissingRunsError: Tuning is not finished.
        """
        chosen = {
            (task, algorithm): self.chosen_trial(store, task, algorithm).config.hyperparameters
            for task in self.tasks
            for algorithm in self.algorithms_on(task)
        }
        # Seeds outside algorithms: an interrupted study still has whole comparisons of its first seeds.
        return [
            self.protocol(task, algorithm).run(algorithm, chosen[task, algorithm], seed, noise)
            for task in self.tasks
            for noise in self.label_noises
            for seed in self.seeds
            for algorithm in self.algorithms_on(task)
        ]

    def configs(self, store: RunStore) -> list[RunConfig]:
        """Every run that the study rests on: tuning trials and comparison."""
        return [*self.tuning_configs(), *self.final_configs(store)]

    @property
    def command(self) -> str:
        """The command that trains what is missing."""
        return f"python -m advanced_optimizers.experiments run {self.name} --profile {self.profile}"


_SEEDS = (0, 1, 2, 3, 4)
_TRIALS = 12

_MNIST = Task(dataset="mnist", model="mlp", epochs=10, tuning_epochs=3)
_MNIST2 = replace(_MNIST, model="mlp2")
_CIFAR = Task(
    dataset="cifar10-jpeg",
    model="convnet",
    epochs=10,
    tuning_epochs=3,
    tuning_fraction=0.3,
    precision="bfloat16",
    augment=True,
)
_DIGITS = Task(dataset="digits", model="mlp", epochs=6, tuning_epochs=3, batch_size=64)
_DIGITS_CONV = Task(dataset="digits", model="convnet", epochs=4, tuning_epochs=2, batch_size=64)


def _profiles(
    *,
    full: tuple[Task, ...],
    quick: tuple[Task, ...],
    label_noises: tuple[float, ...] = (0.0,),
    left_out: Collection[tuple[str, str]] = (),
    longer: Mapping[tuple[str, str], float] | None = None,
    wider: Mapping[tuple[str, str], float] | None = None,
    **fields: Any,
) -> Iterator[Study]:
    """A study in both profiles; the quick one has other tasks, two seeds and two trials.

    Pairs are of (model, algorithm) here: those left out, those that train longer by a factor, and those of another
    width.
    """
    for profile, tasks, seeds, trials in (("full", full, _SEEDS, _TRIALS), ("quick", quick, _SEEDS[:2], 2)):
        yield Study(
            profile=profile,
            tasks=tasks,
            seeds=seeds,
            trials=trials,
            label_noises=label_noises,
            left_out=frozenset((task.name, name) for task in tasks for model, name in left_out if task.model == model),
            protocols={
                (task.name, name): changed
                for task in tasks
                for model, name, changed in (
                    *((model, name, task.longer(factor)) for (model, name), factor in (longer or {}).items()),
                    *((model, name, replace(task, width=width)) for (model, name), width in (wider or {}).items()),
                )
                if task.model == model
            },
            **fields,
        )


STUDIES: dict[tuple[str, str], Study] = {
    (study.name, study.profile): study
    for study in (
        *_profiles(
            name="fer",
            title="Does FER beat SGD and Adam, and does it reduce flipping errors?",
            full=(_MNIST, _CIFAR),
            quick=(_DIGITS, _DIGITS_CONV),
            algorithms=("sgd", "adam", "fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam"),
            label_noises=(0.0, 0.2),
            metrics=("test_accuracy", "relative_flipping_error"),
            curves=("test_accuracy", "relative_flipping_error", "consistency"),
        ),
        *_profiles(
            name="gradient-correction",
            title="Does gradient correction train in fewer epochs, and is it worth its cost?",
            full=(_MNIST, _CIFAR),
            quick=(_DIGITS, _DIGITS_CONV),
            algorithms=("adam", "correction", "correction-hidden", "adam-longer", "adam-longest", "adam-wider"),
            curves=("test_accuracy", "cpu_seconds", "prediction_gain"),
            # The MLP has no down-sampling layer, before which hidden states would be corrected.
            left_out=(("mlp", "correction-hidden"), ("mlp", "adam-longest")),
            # What an epoch with the correction takes, measured beside Adam's, and then rounded up to whole epochs.
            longer={
                ("mlp", "adam-longer"): 2.65,
                ("convnet", "adam-longer"): 1.14,
                ("convnet", "adam-longest"): 1.85,
            },
            # The narrowest networks with as many more parameters as the correction has: 240, and 6600 on hidden states.
            wider={("mlp", "adam-wider"): 513 / 512, ("convnet", "adam-wider"): 1.05},
            targets={**TARGETS, "digits-mlp": 0.9, "digits-convnet": 0.9},
            reported=False,
        ),
        *_profiles(
            name="sigprop",
            title="Does forward signal propagation learn as well as backpropagation, in less time and memory?",
            full=(_MNIST2, replace(_CIFAR, model="vgg", epochs=20)),
            quick=(replace(_DIGITS, model="mlp2"), replace(_DIGITS_CONV, model="vgg")),
            algorithms=("adam", "sigprop", "readout"),
            curves=("test_accuracy", "cpu_seconds"),
        ),
        *_profiles(
            name="localized",
            title="Does localized learning train faster than SGD, and is it more than freezing?",
            full=(_MNIST2, _CIFAR),
            quick=(replace(_DIGITS, model="mlp2"), _DIGITS_CONV),
            algorithms=(
                "sgd",
                "localized-static",
                "localized-static-half",
                "localized-dynamic",
                "localized-frozen",
                "localized-frozen-half",
                "localized-random",
            ),
            curves=("test_accuracy", "cpu_seconds", "transition"),
            # Of three blocks no schedule localizes more than one.
            left_out=(("mlp2", "localized-static-half"), ("mlp2", "localized-frozen-half")),
        ),
    )
}


def study_names() -> list[str]:
    """The studies' names."""
    return sorted({name for name, _ in STUDIES})


def get_study(name: str, profile: str) -> Study:
    """The study of that name in a profile.

    Raises:
        ValueError: There is none; the nearest names are given.
    """
    check_profile(profile)
    if (name, profile) not in STUDIES:
        near = difflib.get_close_matches(name, study_names(), n=3, cutoff=0.3) or study_names()
        raise ValueError(f"no study is named {name!r}; did you mean {' or '.join(near)}?")
    return STUDIES[name, profile]
