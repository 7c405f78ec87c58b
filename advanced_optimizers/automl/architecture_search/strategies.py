"""Searches that only ask for the value of a cell: random, evolutionary, by REINFORCE, and TPE.

Each proposes cells one after the other and is told the value of each before the next: the same protocol for all.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

import torch

from advanced_optimizers._checks import check_integer, check_known, check_range

Cell: TypeAlias = tuple[int, ...]
Query: TypeAlias = Callable[[Cell], float]


class Space(NamedTuple):
    """Cells that are ``edges`` choices among ``options`` each."""

    edges: int
    options: int

    def draw(self, generator: random.Random) -> Cell:
        """A cell, uniformly."""
        return tuple(generator.randrange(self.options) for _ in range(self.edges))

    def mutate(self, cell: Cell, generator: random.Random) -> Cell:
        """The cell with another choice on one edge."""
        edge = generator.randrange(self.edges)
        other = (cell[edge] + generator.randrange(1, self.options)) % self.options
        return (*cell[:edge], other, *cell[edge + 1 :])


class Queried(NamedTuple):
    """A cell that was asked for, and its value."""

    cell: Cell
    value: float


def random_search(space: Space, query: Query, generator: random.Random) -> Iterator[Queried]:
    """Cells drawn uniformly, without end."""
    while True:
        cell = space.draw(generator)
        yield Queried(cell, query(cell))


def evolution(
    space: Space, query: Query, generator: random.Random, *, population: int = 30, tournament: int = 5
) -> Iterator[Queried]:
    """Regularized evolution: the best of a few is mutated, and the oldest dies.

    Real, Aggarwal, Huang, Le: Regularized Evolution for Image Classifier Architecture Search. AAAI 2019, algorithm 1.

    Args:
        space: The cells.
        query: The value of a cell, the higher the better.
        generator: Source of all draws.
        population: Cells that live at a time, >= 2; that many are drawn uniformly first.
        tournament: Cells among which the parent is the best, >= 1.
    """
    check_integer("population", population, low=2)
    check_integer("tournament", tournament, low=1)
    alive: deque[Queried] = deque(maxlen=population)
    while True:
        if len(alive) < population:
            cell = space.draw(generator)
        else:
            cell = space.mutate(max(generator.choices(alive, k=tournament), key=lambda one: one.value).cell, generator)
        alive.append(Queried(cell, query(cell)))
        yield alive[-1]


def reinforce(
    space: Space,
    query: Query,
    generator: random.Random,
    *,
    lr: float = 2.0,
    decay: float = 0.9,
    bias: Mapping[int, float] | None = None,
) -> Iterator[Queried]:
    r"""REINFORCE on independent choices: one categorical distribution per edge.

    :math:`\theta \leftarrow \theta + \eta (R - b) \nabla \log \pi(a)`, where the gradient with respect to an edge's
    logits is its one-hot choice minus its probabilities. The baseline b averages earlier rewards.

    Args:
        space: The cells.
        query: The value of a cell, in [0, 1].
        generator: Source of all draws.
        lr: :math:`\eta` > 0, per unit of the value: 2 for fractions is 0.02 for points.
        decay: Of the baseline, in [0, 1).
        bias: First logits by option, zero for all others. The official ENAS code has one toward convolutions.
    """
    check_range("lr", lr, low=0.0, high=float("inf"), open_low=True, open_high=True)
    check_range("decay", decay, low=0.0, high=1.0, open_high=True)
    logits = torch.tensor([[(bias or {}).get(o, 0.0) for o in range(space.options)]] * space.edges)
    baseline: float | None = None
    while True:
        probabilities = logits.softmax(dim=1)
        rows = probabilities.tolist()
        cell = tuple(generator.choices(range(space.options), weights=row)[0] for row in rows)
        value = query(cell)
        yield Queried(cell, value)
        baseline = value if baseline is None else baseline
        probabilities[range(space.edges), list(cell)] -= 1.0
        logits -= lr * (value - baseline) * probabilities
        baseline = decay * baseline + (1 - decay) * value


def tpe(space: Space, query: Query, generator: random.Random) -> Iterator[Queried]:
    """The tree-structured Parzen estimator of Optuna, with its default settings.

    Raises:
        ModuleNotFoundError: Optuna is not installed; the message names the extra.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("TPE needs Optuna: pip install 'advanced-optimizers[nas]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=generator.randrange(2**32))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    while True:
        trial = study.ask()
        cell = tuple(trial.suggest_categorical(str(edge), range(space.options)) for edge in range(space.edges))
        value = query(cell)
        study.tell(trial, value)
        yield Queried(cell, value)


STRATEGIES: Mapping[str, Callable[[Space, Query, random.Random], Iterator[Queried]]] = {
    "random": random_search,
    "evolution": evolution,
    "reinforce": reinforce,
    "tpe": tpe,
}


def search_table(strategy: str, space: Space, query: Query, budget: int, seed: int = 0) -> list[Queried]:
    """What a strategy asks for within a budget, in order.

    Args:
        strategy: A key of :data:`STRATEGIES`.
        space: The cells.
        query: The value of a cell, the higher the better.
        budget: Number of queries, >= 1.
        seed: Seed of the strategy.
    """
    check_known("strategy", strategy, STRATEGIES)
    proposals = STRATEGIES[strategy](space, query, random.Random(seed))
    return [next(proposals) for _ in range(check_integer("budget", budget, low=1))]
