"""Architecture search on a table: five strategies on NAS-Bench-201, whose cells were all trained beforehand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from advanced_optimizers.automl.architecture_search import NASBench201, Space
from advanced_optimizers.automl.architecture_search.strategies import (
    Queried,
    Query,
    evolution,
    random_search,
    reinforce,
    tpe,
)
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.claims.architecture_search import TABLE_CLAIMS, TABLE_MARGIN, TABLES
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm

BUDGETS = (10, 50, 100, 200, 500)
# The logits that the official ENAS code gives its two separable convolutions from the start, after its squashing: 0.44,
# and a constant of 0.25 for the normal cell. Here they go to the two convolutions, options 2 and 3.
_BIAS = {2: 0.69, 3: 0.69}
_STRATEGIES: Mapping[str, Callable[[Space, Query, random.Random], Iterator[Queried]]] = {
    "table-random": random_search,
    "table-evolution": evolution,
    "table-reinforce": reinforce,
    "table-reinforce-biased": partial(reinforce, bias=_BIAS),
    "table-tpe": tpe,
}


@dataclass(frozen=True, kw_only=True)
class TableSearch(KindConfig):
    """Repeated searches on a table of NAS-Bench-201. A query is one of a cell's trainings, drawn at random.

    What a search has found is the cell with the best query so far, and its regret is what the mean accuracy of that
    cell lacks to the best cell's.

    Attributes:
        table: ``cifar10``, ``cifar100`` or ``imagenet16-120``.
        queries: Of each search.
        repeats: Searches, each with draws of its own; what is measured is their mean.
        every: Queries per point.
    """

    kind = "table-search"

    table: str = "cifar10"
    queries: int = 500
    repeats: int = 20
    every: int = 10

    @property
    def task(self) -> str:
        """As in ``nasbench201-cifar10``."""
        return f"nasbench201-{self.table}"

    @property
    def points(self) -> int:
        """One per ``every`` queries."""
        return self.queries // self.every

    @property
    def extent(self) -> str:
        """Searches and queries."""
        return f"{self.repeats} searches of {self.queries} queries"

    @property
    def datasets(self) -> tuple[str, ...]:
        """None: the table is not one of images, and its checksum is part of the code."""
        return ()

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """See :class:`.KindConfig`."""
        table = NASBench201(self.table)
        searches = [self._search(table, repeat) for repeat in range(self.repeats)]
        best: list[Queried] = [Queried((), 0.0)] * self.repeats
        frozen: dict[str, float] = {}
        for point in range(1, self.points + 1):
            for repeat, search in enumerate(searches):
                best[repeat] = max([best[repeat], *islice(search, self.every)], key=lambda found: found.value)
            regret = table.best - sum(table.mean(found.cell) for found in best) / self.repeats
            for budget in BUDGETS:
                if point * self.every <= budget <= self.queries:
                    frozen[f"regret_{budget}"] = regret
            yield {"regret": regret, **frozen}

    def _search(self, table: NASBench201, repeat: int) -> Iterator[Queried]:
        generator = random.Random(f"{self.seed}/{repeat}")
        space = Space(table.edges, len(table.operations))
        return _STRATEGIES[self.algorithm](space, lambda cell: table.query(cell, generator), generator)


def _task(table: str, *, queries: int, repeats: int) -> KindTask:
    def config(algorithm: str, seed: int) -> TableSearch:
        # TPE's cost grows with the square of its queries: 500 of them would take as long as all the rest together.
        own = min(queries, 200) if algorithm == "table-tpe" else queries
        return TableSearch(algorithm=algorithm, seed=seed, table=table, queries=own, repeats=repeats)

    return KindTask(
        task=f"nasbench201-{table}",
        reads=(),
        config=config,
        protocol={"Cells": 15_625, "Queries": queries, "Queries, TPE": min(queries, 200), "Searches per seed": repeats},
    )


def _study(profile: str, tables: tuple[str, ...], seeds: tuple[int, ...], *, queries: int, repeats: int) -> KindStudy:
    return KindStudy(
        name="architecture-table",
        title="Which search finds the best cell of NAS-Bench-201 in the fewest queries?",
        profile=profile,
        tasks=tuple(_task(table, queries=queries, repeats=repeats) for table in tables),
        algorithms=tuple(_STRATEGIES),
        seeds=seeds,
        metrics=tuple(f"regret_{budget}" for budget in BUDGETS if budget <= queries),
        curves=("regret",),
    )


TOPIC = Topic(
    title="Search on a table",
    tasks={
        "nasbench201-cifar10": "NAS-Bench-201, CIFAR-10",
        "nasbench201-cifar100": "NAS-Bench-201, CIFAR-100",
        "nasbench201-imagenet16-120": "NAS-Bench-201, ImageNet16-120",
    },
    algorithms={
        "table-random": Algorithm(label="Random search, table", baseline=None),
        "table-evolution": Algorithm(label="Regularized evolution", baseline="table-random"),
        "table-reinforce": Algorithm(label="REINFORCE", baseline="table-random"),
        "table-reinforce-biased": Algorithm(
            label="REINFORCE, biased to convolutions", baseline="table-random", control=True
        ),
        "table-tpe": Algorithm(label="TPE", baseline="table-random"),
    },
    studies=(
        _study("quick", ("cifar10",), (0, 1), queries=50, repeats=5),
        _study("full", ("cifar10", "cifar100", "imagenet16-120"), SEEDS, queries=500, repeats=20),
    ),
    claims=TABLE_CLAIMS,
    metrics=(
        Metric("regret", "regret", False, best=0.0),
        *(Metric(f"regret_{budget}", f"regret after {budget} queries", False, best=0.0) for budget in BUDGETS),
    ),
    curves=(Curve("regret", "regret", "regret by queries", by_base=False, over="ten queries"),),
    margins={f"regret_{budget}": dict.fromkeys(TABLES, TABLE_MARGIN) for budget in BUDGETS},
)
