"""The studies: which runs answer which question."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from advanced_optimizers.experiments.algorithms import ALGORITHMS
from advanced_optimizers.experiments.paths import check_profile
from advanced_optimizers.experiments.runs import Hyperparameters, RunConfig, RunRecord, RunStore
from advanced_optimizers.experiments.tuning import best_trial, sample_hyperparameters


class MissingRunsError(RuntimeError):
    """The comparison cannot begin: tuning trials have no record yet, or all of them diverged."""


@dataclass(frozen=True, kw_only=True)
class BaseTask:
    """A dataset and a model, and how long the model is trained.

    Attributes:
        dataset: A name of ``data.DATASETS``.
        model: A name of ``models.MODELS``.
        epochs: Length of a run.
        batch_size: Images a step.
    """

    dataset: str
    model: str
    epochs: int
    batch_size: int = 128

    @property
    def name(self) -> str:
        """Dataset and model, as in ``mnist-mlp``."""
        return f"{self.dataset}-{self.model}"


@dataclass(frozen=True, kw_only=True)
class BaseStudy:
    """What running and recording need of a study of any kind.

    Attributes:
        name: What the command line calls it.
        title: What it asks.
        profile: ``quick`` or ``full``.
        tasks: What is trained.
        algorithms: Names of ``algorithms.ALGORITHMS``.
        seeds: Seeds of the runs; algorithms are compared seed by seed.
    """

    name: str
    title: str
    profile: str
    tasks: tuple[BaseTask, ...]
    algorithms: tuple[str, ...]
    seeds: tuple[int, ...]

    def tuning_configs(self) -> list[RunConfig]:
        """The runs that have to come first: none, unless the study tunes."""
        return []

    def final_configs(self, store: RunStore) -> list[RunConfig]:
        """The runs that answer the question.

        Raises:
            MissingRunsError: Tuning is not finished.
        """
        raise NotImplementedError

    def configs(self, store: RunStore) -> list[RunConfig]:
        """Every run that the study rests on.

        Raises:
            MissingRunsError: Tuning is not finished.
        """
        return [*self.tuning_configs(), *self.final_configs(store)]

    @property
    def command(self) -> str:
        """The command that trains what is missing."""
        return f"python -m advanced_optimizers.experiments run {self.name} --profile {self.profile}"


@dataclass(frozen=True, kw_only=True)
class Task(BaseTask):
    """A dataset and a model with their protocol, the same for every algorithm.

    Attributes:
        tuning_epochs: Length of a tuning trial.
        tuning_fraction: Share of the tuning split's training images that a trial uses.
        precision: See ``RunConfig``.
        augment: See ``RunConfig``.
    """

    tuning_epochs: int
    tuning_fraction: float = 1.0
    precision: str = "float32"
    augment: bool = False

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
        )


@dataclass(frozen=True, kw_only=True)
class Study(BaseStudy):
    """A comparison of algorithms over tasks, label noises and seeds, after a tuning budget that is the same for all.

    Attributes:
        tasks: What is trained.
        label_noises: Shares of wrong training labels. Tuning is done once, on clean labels.
        trials: Tuning trials for each algorithm and task.
        metrics: What the runs are compared in: columns of the records that ``metrics.METRICS`` knows.
        curves: What is drawn over the epochs: keys of ``study_results.CURVES``.
        left_out: Conditions that are not run, as (task, label noise, algorithm).
    """

    tasks: tuple[Task, ...]
    label_noises: tuple[float, ...]
    trials: int
    metrics: tuple[str, ...] = ("test_accuracy",)
    curves: tuple[str, ...] = ("test_accuracy",)
    left_out: frozenset[tuple[str, float, str]] = frozenset()

    def trial_configs(self, task: Task, algorithm: str) -> list[RunConfig]:
        """The tuning trials of one algorithm on one task."""
        points = sample_hyperparameters(ALGORITHMS[algorithm].search_space, self.trials)
        return [task.trial(algorithm, point) for point in points]

    def tuning_configs(self) -> list[RunConfig]:
        """All tuning trials."""
        return [c for task in self.tasks for a in self.algorithms for c in self.trial_configs(task, a)]

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
            for algorithm in self.algorithms
        }
        # Seeds outside algorithms: an interrupted study still has whole comparisons of its first seeds.
        return [
            task.run(algorithm, chosen[task, algorithm], seed, noise)
            for task in self.tasks
            for noise in self.label_noises
            for seed in self.seeds
            for algorithm in self.algorithms
            if (task.name, noise, algorithm) not in self.left_out
        ]


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
    left_out: frozenset[tuple[str, float, str]] = frozenset(),
    **fields: Any,
) -> tuple[Study, Study]:
    """A study in both profiles: the quick one has other tasks, two seeds and two trials, and leaves nothing out."""
    return (
        Study(
            profile="full",
            tasks=full,
            label_noises=label_noises,
            seeds=_SEEDS,
            trials=_TRIALS,
            left_out=left_out,
            **fields,
        ),
        Study(profile="quick", tasks=quick, label_noises=label_noises, seeds=_SEEDS[:2], trials=2, **fields),
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
            algorithms=("sgd", "localized-static", "localized-dynamic", "localized-frozen", "localized-random"),
            curves=("test_accuracy", "cpu_seconds", "transition"),
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
    return find_study(STUDIES, name, profile)


_AnyStudy = TypeVar("_AnyStudy", bound=BaseStudy)


def find_study(registry: Mapping[tuple[str, str], _AnyStudy], name: str, profile: str) -> _AnyStudy:
    """As :func:`get_study`, in a registry of studies of any kind."""
    check_profile(profile)
    if (name, profile) not in registry:
        names = sorted({known for known, _ in registry})
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
        raise ValueError(f"no study is named {name!r}; did you mean {' or '.join(near)}?")
    return registry[name, profile]
