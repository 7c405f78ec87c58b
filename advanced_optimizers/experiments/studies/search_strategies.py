"""Searches for hyperparameters: which points are tried, for how many epochs, given what earlier trials gave.

A search is a generator that asks for one trial after the other, with ``query``, and never ends: who runs it stops it
when its budget of epochs is spent. A trial is trained from its beginning with a schedule of its own length, since a run
that is stopped inside its schedule is judged at its highest rate (see ``halving``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuning import best_trials, sample_hyperparameters, value_at
from advanced_optimizers.experiments.training.algorithms import Range

Space = Mapping[str, Range]
# (hyperparameters, epochs) -> the record of that trial.
Query = Callable[[Hyperparameters, int], RunRecord]
Strategy = Callable[[Space, Query, random.Random], Iterator[RunRecord]]

# Epochs of the rungs, and which share of the trials of a rung goes on to the next.
RUNGS, KEPT = (1, 3, 9), 3
LONGEST = RUNGS[-1]


def drawn(space: Space, generator: random.Random) -> Hyperparameters:
    """A point drawn evenly, on each range's own scale."""
    return {name: value_at(own, generator.random()) for name, own in sorted(space.items())}


def random_search(space: Space, query: Query, generator: random.Random) -> Iterator[RunRecord]:
    """Whole trials of points that are drawn."""
    while True:
        yield query(drawn(space, generator), LONGEST)


def spread(space: Space, query: Query, generator: random.Random) -> Iterator[RunRecord]:
    """Whole trials of points that are spread evenly, as the studies of this project have them."""
    seed = generator.randrange(2**31)
    for first in count():
        yield query(sample_hyperparameters(space, 1, seed, first)[0], LONGEST)


def tpe(space: Space, query: Query, generator: random.Random, startup: int = 3) -> Iterator[RunRecord]:
    """Whole trials of points that Optuna's tree-structured Parzen estimator asks for, after a few that are drawn."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=generator.randrange(2**32), n_startup_trials=startup)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    while True:
        trial = study.ask()
        point: Hyperparameters = {
            name: trial.suggest_float(name, own.low, own.high, log=own.log) for name, own in sorted(space.items())
        }
        record = query(point, LONGEST)
        study.tell(trial, record.final["test_accuracy"] if record.status == "completed" else 0.0)
        yield record


def halving(space: Space, query: Query, generator: random.Random) -> Iterator[RunRecord]:
    """Successive halving: nine points for one epoch, the best three of them for three, the best one for nine; again."""
    while True:
        points = [drawn(space, generator) for _ in range(LONGEST)]
        for epochs in RUNGS:
            records = []
            for point in points:
                records.append(query(point, epochs))
                yield records[-1]
            points = [record.config.hyperparameters for record in promising(records, len(records) // KEPT)]


def asynchronous_halving(space: Space, query: Query, generator: random.Random) -> Iterator[RunRecord]:
    """ASHA: whenever a worker is free, the longest trial that is due, and a new point for one epoch if none is.

    A trial is due for the next rung if it is among the best third of those that its rung has by now.
    """
    rungs: list[list[RunRecord]] = [[] for _ in RUNGS]
    begun: list[set[str]] = [set() for _ in RUNGS]
    while True:
        for rung in reversed(range(len(RUNGS) - 1)):
            due = promising(rungs[rung], len(rungs[rung]) // KEPT)
            new = [record for record in due if record.run_id not in begun[rung]]
            if new:
                begun[rung].add(new[0].run_id)
                record = query(new[0].config.hyperparameters, RUNGS[rung + 1])
                rungs[rung + 1].append(record)
                break
        else:
            record = query(drawn(space, generator), RUNGS[0])
            rungs[0].append(record)
        yield record


def promising(records: list[RunRecord], number: int) -> list[RunRecord]:
    """The best so many of the trials; none where all diverged."""
    completed = [record for record in records if record.status == "completed"]
    return best_trials(completed, number) if completed and number else []


STRATEGIES: Mapping[str, Strategy] = {
    "search-random": random_search,
    "search-spread": spread,
    "search-tpe": tpe,
    "search-halving": halving,
    "search-asynchronous": asynchronous_halving,
}

# Its algorithms, studies and claims are those of ``hyperparameter_search``.
TOPIC = Topic(title="Searches for hyperparameters", algorithms={})
