"""What was searched for each algorithm, and how long its tuning trials were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pandas as pd

from advanced_optimizers.experiments.data.datasets import VALIDATION_FRACTION
from advanced_optimizers.experiments.evidence.metrics import Labels, ordered
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Range


class _Lengths(NamedTuple):
    """How an algorithm is tuned and trained on a task."""

    task: str
    trials: int
    trial_epochs: int
    fraction: float
    epochs: int
    run_fraction: float

    @property
    def steps_ratio(self) -> float:
        """The steps of a run over those of a trial, each on its part of the images."""
        trial = self.trial_epochs * self.fraction * (1 - VALIDATION_FRACTION)
        return self.epochs * self.run_fraction / trial


def search_spaces_table(studies: Iterable[Study], *, labels: Labels) -> pd.DataFrame:
    """The ranges that were searched, one row per search space, with the algorithms that share it."""
    spaces: dict[str, list[str]] = {}
    tuned = (name for study in studies for name in study.algorithms if name not in {*study.tuned_as, *study.untuned})
    for name in ordered(tuned, labels):
        space = ALGORITHMS[name].search_space
        words = "; ".join(f"`{parameter}` {_range_words(own)}" for parameter, own in space.items())
        spaces.setdefault(words, []).append(name)
    by_dimension = sorted(spaces.items(), key=lambda item: item[0].count(";"))
    return pd.DataFrame({"Searched": words, "Algorithms": _listed(names, labels)} for words, names in by_dimension)


def trials_table(studies: Iterable[Study], *, labels: Labels) -> pd.DataFrame:
    """How long trials and runs are, one row per task and pair of lengths; the most frequent pair is the first."""
    lengths: dict[_Lengths, set[str]] = {}
    for own, name in _tuned(studies):
        lengths.setdefault(own, set()).add(name)
    usual = {own.task: own for own in sorted(lengths, key=lambda own: len(lengths[own]))}
    alone = {task for task in usual if sum(own.task == task for own in lengths) == 1}
    place = {task: index for index, task in enumerate(ordered(usual, labels))}
    return pd.DataFrame(
        {
            "Task": labels.get(own.task, own.task),
            "Algorithms": "all"
            if own.task in alone
            else "all others"
            if own == usual[own.task]
            else _listed(lengths[own], labels),
            "Trials": own.trials,
            "Trial (epochs)": own.trial_epochs,
            "Its share of the images": f"{100 * own.fraction:.3g} %",
            "Run (epochs)": own.epochs,
            "Steps of a run over those of a trial": f"{own.steps_ratio:.1f}",
        }
        for own in sorted(lengths, key=lambda own: (place[own.task], own != usual[own.task], own))
    )


def _tuned(studies: Iterable[Study]) -> Iterator[tuple[_Lengths, str]]:
    for study in studies:
        for task in study.tasks:
            for name in study.algorithms_on(task):
                if name not in study.tuned_as and name not in study.untuned:
                    own = study.protocol(task, name)
                    lengths = own.tuning_epochs, own.tuning_fraction, own.epochs, own.data_fraction
                    yield _Lengths(task.name, study.trials, *lengths), name


def _listed(names: Iterable[str], labels: Labels) -> str:
    return "; ".join(labels.get(name, name) for name in ordered(names, labels))


def _range_words(space: Range) -> str:
    return f"{space.low:g} to {space.high:g}{' (log)' if space.log else ''}"
