"""Comparisons whose tuning halves its trials over whole schedules.

Whoever stops a run inside its schedule prefers low rates: a one-cycle run is at its highest rate when it is judged.
Here the trials of each rung are trained from scratch, with a schedule of that rung's length, and are ordinary runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.study import MissingRunsError, Study
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.studies.tuning import best_trials


@dataclass(frozen=True)
class Rung:
    """One rung: how many points are trained, each with a whole schedule of so many epochs."""

    trials: int
    epochs: int


@dataclass(frozen=True, kw_only=True)
class HalvingStudy(Study):
    """A comparison whose hyperparameters are chosen in rungs; the last rung makes the choice.

    For an algorithm with two passes per step, rungs of one and of two epochs are the same runs.

    Attributes:
        rungs: From many short trials to a few long ones. The first has all points.
    """

    rungs: tuple[Rung, ...]

    def __post_init__(self) -> None:
        trials = [rung.trials for rung in self.rungs]
        if trials[:1] != [self.trials] or any(after >= before or after < 1 for before, after in pairwise(trials)):
            raise ValueError(f"rungs must fall from {self.trials} trials to at least 1, got {trials}")
        if len(trials) > 1 and 3 * trials[1] < trials[0]:
            raise ValueError(f"rungs must keep at least a third of the first trials: short ones mislead, got {trials}")

    def stages(self) -> Iterator[tuple[str, Callable[[RunStore], list[RunConfig]]]]:
        """One stage per rung, then the comparison."""
        for index, rung in enumerate(self.rungs):
            yield f"rung of {rung.trials} x {rung.epochs} epochs", partial(self.rung_configs, index)
        yield "comparison", self.final_configs

    def trials_words(self, task: Task) -> str:
        """How many trials each rung has, and how long they are."""
        first, *others = self.rungs
        kept = "".join(f", the best {rung.trials} of them for {rung.epochs}" for rung in others)
        return f"{first.trials} trials of {first.epochs} epoch{'s' if first.epochs > 1 else ''}{kept},"

    def rung_configs(self, index: int, store: RunStore) -> list[RunConfig]:
        """The trials of one rung, of all algorithms on all tasks.

        Raises:
            MissingRunsError: The rung before is not finished.
        """
        tuned = [(task, name) for task in self.tasks for name in self.algorithms_on(task) if self.is_tuned(name)]
        return [config for pair in tuned for config in self._trials(store, *pair, index)]

    def _trials(self, store: RunStore, task: Task, algorithm: str, index: int) -> list[RunConfig]:
        """The trials of one rung: all points in the first, and then the best ones of the rung before."""
        if index == 0:
            return self.trial_configs(task, algorithm)
        records = self._records(store, task, algorithm, index - 1)
        protocol = self.protocol(self._at(task, index), self.tuned_as.get(algorithm, algorithm))
        kept = best_trials(records, self.rungs[index].trials, self.tie)
        return [protocol.trial(r.config.algorithm, r.config.hyperparameters, self.trial_seed) for r in kept]

    def trial_configs(self, task: Task, algorithm: str) -> list[RunConfig]:
        """The trials of the first rung."""
        return super().trial_configs(self._at(task, 0), algorithm)

    def trial_records(self, store: RunStore, task: Task, algorithm: str) -> list[RunRecord]:
        """The records of the last rung, among which the choice is made.

        Raises:
            MissingRunsError: A trial has no record yet, or every trial of a rung diverged.
        """
        return self._records(store, task, algorithm, len(self.rungs) - 1)

    def _records(self, store: RunStore, task: Task, algorithm: str, index: int) -> list[RunRecord]:
        try:
            configs = self._trials(store, task, algorithm, index)
        except ValueError as error:
            raise MissingRunsError(f"no trial can be kept for {algorithm} on {task.name}: {error}") from error
        return self.records_of(store, configs, task, algorithm)

    def _at(self, task: Task, index: int) -> Task:
        return replace(task, tuning_epochs=self.rungs[index].epochs)

    def known_trials(self, store: RunStore) -> list[RunConfig]:
        """The trials of every rung, as far as those before them are finished."""
        known: list[RunConfig] = []
        for task in self.tasks:
            for algorithm in self.algorithms_on(task):
                for index in range(len(self.rungs)) if self.is_tuned(algorithm) else ():
                    with suppress(MissingRunsError, ValueError):
                        known += self._trials(store, task, algorithm, index)
        return known

    def known_configs(self, store: RunStore) -> list[RunConfig]:
        """See :meth:`.BaseStudy.known_configs`."""
        own = {config.run_id for config in self.tuning_configs()}
        rest = [config for config in super().known_configs(store) if config.run_id not in own]
        return [*self.known_trials(store), *rest]
