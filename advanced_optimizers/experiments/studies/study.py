"""What a study is: tasks with a protocol, algorithms and seeds, which determine its runs. ``registry`` lists them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from advanced_optimizers.experiments.records.config import BaseConfig, Hyperparameters, RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.task import AnyTask, Task
from advanced_optimizers.experiments.studies.tuning import best_trial, sample_hyperparameters
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Range

# The seeds and the tuning budget of the full profile.
SEEDS = (0, 1, 2, 3, 4)
TRIALS = 12

_AnyStudy = TypeVar("_AnyStudy", bound="BaseStudy")


class MissingRunsError(RuntimeError):
    """The comparison cannot begin: tuning trials have no record yet, or all of them diverged."""


@dataclass(frozen=True, kw_only=True)
class BaseStudy:
    """What running and reporting need to know about a study of any kind.

    Attributes:
        name: Its name on the command line.
        title: The question that it asks.
        profile: ``quick`` or ``full``.
        tasks: What is trained.
        algorithms: Keys of ``training.algorithms.ALGORITHMS``.
        seeds: Seeds of the runs; algorithms are compared seed by seed.
        in_progress: Whether its runs are still being trained; the report is then complete without them.
        dataset: The alternative dataset that was chosen with :meth:`on`; None for the study as it was stated.
    """

    name: str
    title: str
    profile: str
    tasks: tuple[AnyTask, ...]
    algorithms: tuple[str, ...]
    seeds: tuple[int, ...]
    in_progress: bool = False
    dataset: str | None = None

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets of the tasks that have alternatives, and those alternatives."""
        chosen = [task for task in self.tasks if task.alternatives]
        return tuple(dict.fromkeys(name for task in chosen for name in (*task.datasets, *task.alternatives)))

    def on(self: _AnyStudy, dataset: str) -> _AnyStudy:
        """The same study with each task that has this alternative trained on it.

        Its name, its tasks and so its records are its own. It has no claims: those were stated, with their margins, for
        the tasks of the study itself. Tasks without this alternative stay, with the records that they have.

        Args:
            dataset: One of ``datasets``; the dataset of the study itself returns the study.

        Raises:
            ValueError: The study has no such alternative.
        """
        if not self.datasets:
            own = ", ".join(dict.fromkeys(name for task in self.tasks for name in task.datasets))
            raise ValueError(f"dataset cannot be chosen for {self.name} ({self.profile}) on {own}, got {dataset!r}")
        if dataset not in self.datasets:
            known = ", ".join(self.datasets)
            raise ValueError(f"dataset must be one of {known} for {self.name} ({self.profile}), got {dataset!r}")
        if not any(dataset in task.alternatives for task in self.tasks):
            return self
        return replace(
            self, name=f"{self.name}-{dataset}", dataset=dataset, tasks=tuple(task.on(dataset) for task in self.tasks)
        )

    def tuning_configs(self) -> Sequence[BaseConfig]:
        """The tuning runs, which have to come first; none, unless the study tunes."""
        return []

    def final_configs(self, store: RunStore) -> Sequence[BaseConfig]:
        """The runs that answer the study's question.

        Raises:
            MissingRunsError: Tuning is not finished.
        """
        raise NotImplementedError

    def stages(self) -> Iterator[tuple[str, Callable[[RunStore], Sequence[BaseConfig]]]]:
        """The parts in which the study is run: the name of each, and its runs given the records of those before."""
        yield "tuning", lambda store: self.tuning_configs()
        yield "comparison", self.final_configs

    def configs(self, store: RunStore) -> Sequence[BaseConfig]:
        """Every run that the study is based on.

        Raises:
            MissingRunsError: Tuning is not finished.
        """
        return [config for _, configs_of in self.stages() for config in configs_of(store)]

    def known_configs(self, store: RunStore) -> Sequence[BaseConfig]:
        """The runs that the study is based on, as far as they can be told before tuning is finished."""
        try:
            return self.configs(store)
        except MissingRunsError:
            return self.tuning_configs()

    @property
    def arguments(self) -> str:
        """What says on the command line which study this is."""
        if self.dataset is None:
            return f"{self.name} --profile {self.profile}"
        stated = self.name.removesuffix(f"-{self.dataset}")
        return f"{stated} --profile {self.profile} --dataset {self.dataset}"

    @property
    def command(self) -> str:
        """The command that trains the missing runs."""
        return f"python -m advanced_optimizers.experiments run {self.arguments}"


@dataclass(frozen=True, kw_only=True)
class Study(BaseStudy):
    """A comparison of algorithms over tasks, levels of label noise and seeds, with the same tuning budget for all.

    Attributes:
        tasks: What is trained.
        label_noises: Fractions of noisy training labels. Tuning is done once, on clean labels.
        trials: Tuning trials per algorithm and task.
        metrics: The metrics in which the runs are compared: keys of ``evidence.metrics.METRICS``.
        curves: What is plotted over the epochs: keys of ``evidence.metrics.CURVES``.
        left_out: Pairs of (task, algorithm) that are not run.
        protocols: By (task, algorithm), a protocol that differs from the task's: longer or wider.
        tuned_as: By algorithm, another algorithm of the study whose chosen hyperparameters it takes over; it has no
            trials of its own.
        run_batch_size: Images per step of the runs of the comparison, if not those of the trials.
        first_point: Index, in each algorithm's sequence of points, of the point of the first trial.
        trial_seed: Seed of the trials.
        tie: Validation accuracies, as fractions, that are lower than the highest by at most this are ties with it,
            which the loss breaks. The standard error of an accuracy is a reason.
        ranges: By (task, algorithm), ranges that differ from those of the algorithm's search space.
        untuned: By algorithm, hyperparameters that are given instead of tuned; it has no trials.
        targets: By task, a test accuracy in [0, 1]; the epochs until a run reaches it are counted.
        time_limit: The longest time per epoch, relative to the baseline's, with which the study's claim about time
            holds; None if it makes no such claim.
        stated_seconds: By algorithm, the seconds per epoch that a source states; the study then has a table of them.
        stated: By metric and algorithm, the values that a source states; the study then has a table of them.
        properties: Name of the file under ``results/benchmarks`` with the properties tested for one of its claims, if
            any.
        benchmarks: Names of further files there, with measurements that decide some of its claims.
    """

    tasks: tuple[Task, ...]
    label_noises: tuple[float, ...]
    trials: int
    metrics: tuple[str, ...] = ("test_accuracy",)
    curves: tuple[str, ...] = ("test_accuracy",)
    left_out: frozenset[tuple[str, str]] = frozenset()
    protocols: Mapping[tuple[str, str], Task] = field(default_factory=dict)
    tuned_as: Mapping[str, str] = field(default_factory=dict)
    run_batch_size: int | None = None
    first_point: int = 0
    trial_seed: int = 0
    tie: float = 0.0
    ranges: Mapping[tuple[str, str], Mapping[str, Range]] = field(default_factory=dict)
    untuned: Mapping[str, Hyperparameters] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
    time_limit: float | None = None
    stated_seconds: Mapping[str, float] = field(default_factory=dict)
    stated: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    properties: str | None = None
    benchmarks: tuple[str, ...] = ()

    def on(self, dataset: str) -> Study:
        """See :meth:`BaseStudy.on`; what is stated by task holds for the task on the other dataset, too."""
        study = super().on(dataset)
        if study is self:
            return self
        names = {old.name: new.name for old, new in zip(self.tasks, study.tasks, strict=True)}
        return replace(
            study,
            left_out=frozenset((names[task], algorithm) for task, algorithm in self.left_out),
            protocols={(names[task], name): other.on(dataset) for (task, name), other in self.protocols.items()},
            ranges={(names[task], algorithm): ranges for (task, algorithm), ranges in self.ranges.items()},
            targets={names.get(task, task): target for task, target in self.targets.items()},
        )

    def algorithms_on(self, task: Task) -> list[str]:
        """The algorithms that are run on a task."""
        return [name for name in self.algorithms if (task.name, name) not in self.left_out]

    def is_tuned(self, algorithm: str) -> bool:
        """Whether an algorithm has trials of its own."""
        return algorithm not in self.tuned_as and algorithm not in self.untuned

    def protocol(self, task: Task, algorithm: str) -> Task:
        """The protocol that an algorithm follows on a task.

        It has the schedule that the algorithm needs. An algorithm with several passes per step trains fewer epochs, as
        many as take the others' time.
        """
        own, row = self.protocols.get((task.name, algorithm), task), ALGORITHMS[algorithm]
        if row.schedule is not None:
            own = replace(own, schedule=row.schedule)
        return own if row.passes == 1 else own.longer(1 / row.passes)

    def trial_configs(self, task: Task, algorithm: str) -> list[RunConfig]:
        """The tuning trials of one algorithm on one task, or of the algorithm whose hyperparameters it takes over."""
        algorithm = self.tuned_as.get(algorithm, algorithm)
        points = sample_hyperparameters(self.search_space(task, algorithm), self.trials, first=self.first_point)
        own, fixed = self.protocol(task, algorithm), ALGORITHMS[algorithm].fixed
        return [own.trial(algorithm, {**fixed, **point}, self.trial_seed) for point in points]

    def trials_words(self, task: Task) -> str:
        """How many trials an algorithm has, and how long they are."""
        return f"{self.trials} trials of {task.tuning_epochs} epochs"

    def search_space(self, task: Task, algorithm: str) -> dict[str, Range]:
        """The ranges that are searched for an algorithm on a task."""
        return {**ALGORITHMS[algorithm].search_space, **self.ranges.get((task.name, algorithm), {})}

    def tuning_configs(self) -> list[RunConfig]:
        """All tuning trials."""
        return [
            config
            for task in self.tasks
            for algorithm in self.algorithms_on(task)
            if self.is_tuned(algorithm)
            for config in self.trial_configs(task, algorithm)
        ]

    def trial_records(self, store: RunStore, task: Task, algorithm: str) -> list[RunRecord]:
        """The records of :meth:`trial_configs`.

        Raises:
            MissingRunsError: A trial has no record yet.
        """
        return self.records_of(store, self.trial_configs(task, algorithm), task, algorithm)

    def records_of(self, store: RunStore, configs: Sequence[RunConfig], task: Task, algorithm: str) -> list[RunRecord]:
        """The records of trials of an algorithm on a task.

        Raises:
            MissingRunsError: A trial has no record yet.
        """
        records = [record for config in configs if (record := store.load(config)) is not None]
        if len(records) < len(configs):
            raise MissingRunsError(
                f"{len(configs) - len(records)} of {len(configs)} tuning trials of {algorithm} on {task.name} have no "
                f"record: {self.command}"
            )
        return records

    def chosen_trial(self, store: RunStore, task: Task, algorithm: str) -> RunRecord:
        """The trial whose hyperparameters the comparison uses.

        Raises:
            MissingRunsError: A trial has no record yet, or every trial diverged.
        """
        records = self.trial_records(store, task, algorithm)
        try:
            return best_trial(records, self.tie)
        except ValueError as error:
            raise MissingRunsError(f"no trial can be chosen for {algorithm} on {task.name}: {error}") from error

    def chosen(self, store: RunStore, task: Task, algorithm: str) -> Hyperparameters:
        """The hyperparameters that the comparison uses: those of the chosen trial, or those that were given.

        Raises:
            MissingRunsError: See :meth:`chosen_trial`.
        """
        if algorithm in self.untuned:
            return self.untuned[algorithm]
        return self.chosen_trial(store, task, algorithm).config.hyperparameters

    def final_configs(self, store: RunStore) -> list[RunConfig]:
        """The runs of the comparison, with the hyperparameters that tuning chose.

        Raises:
            MissingRunsError: Tuning is not finished.
        """
        everything = [(task, algorithm) for task in self.tasks for algorithm in self.algorithms_on(task)]
        return self._runs_with({pair: self.chosen(store, *pair) for pair in everything})

    def known_configs(self, store: RunStore) -> list[RunConfig]:
        """See :meth:`BaseStudy.known_configs`; the runs of an algorithm on a task are known once it is tuned there."""
        chosen = {}
        for task in self.tasks:
            for algorithm in self.algorithms_on(task):
                with suppress(MissingRunsError):
                    chosen[task, algorithm] = self.chosen(store, task, algorithm)
        return [*self.tuning_configs(), *self._runs_with(chosen)]

    def _for_runs(self, task: Task, algorithm: str) -> Task:
        own = self.protocol(task, algorithm)
        return own if self.run_batch_size is None else replace(own, batch_size=self.run_batch_size)

    def _runs_with(self, chosen: Mapping[tuple[Task, str], Hyperparameters]) -> list[RunConfig]:
        """The runs of the comparison for which hyperparameters are given."""
        # The loop over seeds is outside: an interrupted study has complete comparisons of its first seeds.
        return [
            self._for_runs(task, algorithm).run(algorithm, chosen[task, algorithm], seed, noise)
            for task in self.tasks
            for noise in self.label_noises
            for seed in self.seeds
            for algorithm in self.algorithms_on(task)
            if (task, algorithm) in chosen
        ]


def in_both_profiles(
    *,
    full: tuple[Task, ...],
    quick: tuple[Task, ...],
    label_noises: tuple[float, ...] = (0.0,),
    left_out: Collection[tuple[str, str]] = (),
    longer: Mapping[tuple[str, str], float] | None = None,
    wider: Mapping[tuple[str, str], float] | None = None,
    **fields: Any,
) -> tuple[Study, ...]:
    """Returns a study in both profiles: full with 5 seeds and 12 trials, quick with 2 seeds and 2 trials.

    Args:
        full: Tasks of the full profile.
        quick: Tasks of the quick profile; on ``digits``, so that they need no download.
        label_noises: See :class:`Study`.
        left_out: Pairs of (model, algorithm) that are not run.
        longer: For pairs of (model, algorithm), the factor by which they train longer; below 1, shorter.
        wider: For pairs of (model, algorithm), the width of their network.
        **fields: The other fields of :class:`Study`, the same in both.
    """
    studies = []
    for profile, tasks, seeds, trials in (("full", full, SEEDS, TRIALS), ("quick", quick, SEEDS[:2], 2)):
        longer_ones = {
            (task.name, name): task.longer(factor)
            for task in tasks
            for (model, name), factor in (longer or {}).items()
            if task.model == model
        }
        wider_ones = {
            (task.name, name): replace(task, width=width)
            for task in tasks
            for (model, name), width in (wider or {}).items()
            if task.model == model
        }
        studies.append(
            Study(
                profile=profile,
                tasks=tasks,
                seeds=seeds,
                trials=trials,
                label_noises=label_noises,
                left_out=frozenset(
                    (task.name, name) for task in tasks for model, name in left_out if task.model == model
                ),
                protocols={**longer_ones, **wider_ones},
                **fields,
            )
        )
    return tuple(studies)
