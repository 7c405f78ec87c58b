"""Does a search by gradient find better cells than chance at equal cost? DARTS and the controls that unmask it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import mean, median
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from advanced_optimizers.automl.architecture_search import (
    OPERATIONS,
    CellNetwork,
    Genotype,
    SearchNetwork,
    Shape,
    accuracy,
    discretize,
    edges_of,
    search_architecture,
    training,
)
from advanced_optimizers.automl.architecture_search.operations import make_operation
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.studies.architecture_runs import FULL, QUICK, CellTraining, Parts, cells_task
from advanced_optimizers.experiments.studies.claims.architecture_search import CELLS, MARGIN, SEARCH_CLAIMS
from advanced_optimizers.experiments.studies.kind_study import KindStudy
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm

NODES = 3
# The published rate of 3e-4 is for 20,000 steps. In the 155 steps of this search it could move no weight visibly.
_ALPHA_RATE = 3e-3
_EDGES = edges_of(NODES)
_HAND_MADE = {
    "all-conv3x3": Genotype(_EDGES, ("conv_3x3",) * len(_EDGES)),
    "all-skip": Genotype(_EDGES, ("identity",) * len(_EDGES)),
}
_ORDERS = {"darts-first": "first", "darts-second": "second"}
# Random search with early stopping: so many cells start or go on, for so many epochs. Together they are 22 epochs of a
# cell's training, which take as long as a first-order search: 29 CPU seconds in our trial, 1.4 for such an epoch.
_ROUNDS = ((10, 1), (4, 2), (2, 2))
_CANDIDATES = 500  # random cells among which those of the nearest size are taken


@dataclass(frozen=True, kw_only=True)
class CellSearch(CellTraining):
    """One search for a cell, and what the cell is worth when it is trained from scratch.

    Attributes:
        alpha_lr: Adam's rate for the architecture.
        rounds: Of random search: cells that start or go on, and epochs of each; together at most ``epochs``.

    Raises:
        ValueError: Random search would need more epochs than that.
    """

    kind = "cell-search"

    alpha_lr: float = _ALPHA_RATE
    rounds: tuple[tuple[int, int], ...] = field(default=_ROUNDS)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rounds", tuple((int(count), int(epochs)) for count, epochs in self.rounds))
        needed = sum(epochs for _, epochs in self.rounds)
        if self.algorithm == "random-search" and needed > self.epochs:
            raise ValueError(
                f"rounds must have no more epochs than training, {self.epochs}, got {self.rounds}, with {needed}: "
                "shorten a round, or raise epochs"
            )

    @property
    def points(self) -> int:
        """The epochs of a search by gradient; 1 for all others."""
        return self.search_epochs if self.algorithm in _ORDERS else 1

    @property
    def extent(self) -> str:
        """Epochs of the search and of the training."""
        return f"{self.points} epochs of search, {self.epochs} of training"

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """See :class:`.KindConfig`."""
        parts, begun = self.parts(), time.process_time()
        if self.algorithm in _ORDERS:
            yield from self._by_gradient(parts)
            return
        if self.algorithm == "random-cells":
            cells = [random_cell() for _ in range(self.cells)]
            yield {"test_accuracy": mean(self.trained(cell, parts) for cell in cells), **_described(cells, self.shape)}
            return
        cell = self._by_chance(parts) if self.algorithm == "random-search" else _HAND_MADE[self.algorithm]
        seconds = time.process_time() - begun
        worth = mean(self.trained(cell, parts) for _ in range(self.repeats))
        yield {"test_accuracy": worth, "search_seconds": seconds, **_described([cell], self.shape)}

    def _by_gradient(self, parts: Parts) -> Iterator[Mapping[str, float]]:
        model, begun, rows = SearchNetwork(self.shape, num_nodes=NODES), time.process_time(), []
        overhead = 0.0

        def note(epoch: int, network: SearchNetwork) -> None:
            nonlocal overhead
            paused = time.process_time()
            rows.append(self._state(network, parts))
            network.train()
            overhead += time.process_time() - paused

        search_architecture(
            parts.weights,
            parts.architecture,
            self.search_epochs,
            model=model,
            order=_ORDERS[self.algorithm],
            alpha_lr=self.alpha_lr,
            on_epoch=note,
        )
        seconds = time.process_time() - begun - overhead
        importance = weight_importance(model, parts)
        found = model.genotype()
        worth = mean(self.trained(found, parts) for _ in range(self.repeats))
        others = median(self.trained(cell, parts) for cell in nearest_in_size(found, self.shape, self.cells))
        last = {
            "test_accuracy": worth,
            "above_median": worth - others,
            "weight_importance": importance,
            "search_seconds": seconds,
            **_described([found], self.shape),
        }
        for row in rows[:-1]:
            yield {**row, **dict.fromkeys(last, math.nan)}
        yield {**rows[-1], **last}

    def _state(self, model: SearchNetwork, parts: Parts) -> dict[str, float]:
        """What a search has come to after an epoch."""
        found = model.genotype()
        mixture = accuracy(model, parts.architecture, model.weights.detach())
        discrete = accuracy(model, parts.architecture, model.one_hot(found))
        return {
            "skips": found.skip_share,
            "parameter_free": found.parameter_free_share,
            "mixture_accuracy": mixture,
            "discrete_accuracy": discrete,
            "discretization_gap": mixture - discrete,
        }

    def _by_chance(self, parts: Parts) -> Genotype:
        """Random search with early stopping: the better half goes on, by its accuracy on the other half's images."""
        shape = self.shape
        cells = [random_cell() for _ in range(self.rounds[0][0])]
        running = [(cell, training(cell, parts.weights, 2 * self.epochs, shape=shape)) for cell in cells]
        for count, epochs in self.rounds:
            scored = []
            for cell, epoch_by_epoch in running[:count]:
                for _ in range(2 * epochs):  # of half the images
                    network = next(epoch_by_epoch)
                scored.append((accuracy(network, parts.architecture), cell, epoch_by_epoch))
            scored.sort(key=lambda row: -row[0])
            running = [(cell, epoch_by_epoch) for _, cell, epoch_by_epoch in scored]
        return running[0][0]


def random_cell() -> Genotype:
    """A cell of the form that a search ends in, with operations and edges left out drawn uniformly."""
    return discretize(torch.rand(len(_EDGES), len(OPERATIONS)), _EDGES, OPERATIONS)


def nearest_in_size(found: Genotype, shape: Shape, count: int) -> list[Genotype]:
    """The random cells whose number of parameters is nearest to that of another cell, which is not among them."""
    size = parameters(found, shape)
    drawn = {random_cell() for _ in range(_CANDIDATES)} - {found}
    by_size = {cell: abs(parameters(cell, shape) - size) for cell in drawn}
    return sorted(by_size, key=lambda cell: (by_size[cell], cell.operations))[:count]


def parameters(cell: Genotype, shape: Shape) -> int:
    """The number of parameters of a network of such cells."""
    widths = [shape.channels * 2 ** sum(at <= number for at in shape.reductions) for number in range(shape.num_cells)]
    return _size_of_frame(shape) + sum(_size(name, channels) for name in cell.operations for channels in widths)


@lru_cache(maxsize=10)
def _size_of_frame(shape: Shape) -> int:
    with torch.device("meta"):  # counted, not drawn: the run's random numbers must not depend on what was counted
        return sum(p.numel() for p in CellNetwork(_HAND_MADE["all-skip"], shape).parameters())


@lru_cache(maxsize=100)
def _size(operation: str, channels: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in make_operation(operation, channels).parameters())


@torch.no_grad()
def weight_importance(model: SearchNetwork, parts: Parts) -> float:
    """Spearman's correlation of the weights with the rise of the loss when an operation is taken out.

    The others on the edge then share its weight in proportion. One batch of validation images.
    """
    images, labels, _ = next(iter(parts.architecture))
    weights = model.weights.detach()
    rises = torch.zeros_like(weights)
    for edge, operation in [(e, o) for e in range(weights.shape[0]) for o in range(weights.shape[1])]:
        without = weights.clone()
        without[edge, operation] = 0.0
        without[edge] /= without[edge].sum()
        rises[edge, operation] = cross_entropy(model(images, without), labels)
    ranks = torch.stack([values.flatten().argsort().argsort().double() for values in (weights, rises)])
    return float(torch.corrcoef(ranks)[0, 1])


def _described(cells: list[Genotype], shape: Shape) -> dict[str, float]:
    return {
        "skip_share": mean(cell.skip_share for cell in cells),
        "parameters": mean(float(parameters(cell, shape)) for cell in cells),
    }


def _study(profile: str, settings: Mapping[str, Any], seeds: tuple[int, ...]) -> KindStudy:
    return KindStudy(
        name="architecture-search",
        title="Does a search by gradient find better cells than chance at equal cost?",
        profile=profile,
        tasks=(cells_task(CellSearch, tuple(_ROWS), settings),),
        algorithms=tuple(_ROWS),
        seeds=seeds,
        metrics=("test_accuracy", "above_median", "weight_importance", "discretization_gap", "parameters", *_COST),
        curves=("skips", "parameter_free", "mixture_accuracy", "discrete_accuracy"),
    )


_COST = ("search_seconds",)
_ROWS = {
    "random-cells": Algorithm(label="Random cells", baseline=None),
    "random-search": Algorithm(label="Random search", baseline="random-cells"),
    "darts-first": Algorithm(label="DARTS, first order", baseline="random-cells"),
    "darts-second": Algorithm(label="DARTS, second order", baseline="random-cells"),
    "all-conv3x3": Algorithm(label="All 3x3 convolutions", baseline="random-cells", control=True),
    "all-skip": Algorithm(label="All skips", baseline="random-cells", control=True),
}
TOPIC = Topic(
    title="Architecture search by gradient",
    tasks={
        "cifar10-jpeg-cells": "cifar10-jpeg, cells",
    },
    algorithms=_ROWS,
    studies=(_study("quick", {**QUICK, "rounds": ((4, 1), (2, 2))}, (0, 1)), _study("full", FULL, SEEDS)),
    claims=SEARCH_CLAIMS,
    metrics=(
        Metric("above_median", "accuracy above the median random cell of equal size", True, "points"),
        Metric("weight_importance", "rank correlation of weight and importance", True, "", "", 1.0, 2, best=1.0),
        Metric("discretization_gap", "accuracy lost by discretization", False, "points"),
        Metric("parameters", "parameters", False, "", "", 1.0, 0),
        Metric("search_seconds", "CPU time of the search", False, "s", "s", 1.0, 1),
        Metric("skips", "share of skips", False),
        Metric("parameter_free", "share of edges without weights", False),
        Metric("mixture_accuracy", "validation accuracy of the mixture", True, best=1.0),
        Metric("discrete_accuracy", "validation accuracy of the discrete cell, shared weights", True, best=1.0),
    ),
    curves=(
        Curve("skips", "skips", "share of skips by epoch", by_base=False),
        Curve("parameter_free", "parameter-free", "share of edges without weights by epoch", by_base=False),
        Curve("mixture_accuracy", "mixture", "accuracy of the mixture by epoch", by_base=False),
        Curve("discrete_accuracy", "discrete", "accuracy of the discrete cell by epoch", by_base=False),
    ),
    margins={"test_accuracy": {CELLS: MARGIN}},
)
