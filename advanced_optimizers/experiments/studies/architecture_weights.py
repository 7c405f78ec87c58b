"""Does a trained controller sample better cells than a uniform one? ENAS and its control, with shared weights both."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch

from advanced_optimizers.automl.architecture_search import ENAS, OPERATIONS, Genotype, accuracy, train_enas
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.studies.architecture_runs import FULL, QUICK, CellTraining, Parts, cells_task
from advanced_optimizers.experiments.studies.architecture_search import NODES
from advanced_optimizers.experiments.studies.claims.architecture_search import MARGIN, WEIGHTS, WEIGHTS_CLAIMS
from advanced_optimizers.experiments.studies.kind_study import KindStudy
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm


@dataclass(frozen=True, kw_only=True)
class SharedWeights(CellTraining):
    """A search with shared weights, and what the cells that its controller samples are worth.

    Attributes:
        controller_steps: Of the controller, per epoch of the shared weights.
        samples: Architectures per step of the controller.
        controller_lr: Adam's rate.
        decay: Of the baseline. The published rate of 0.0035 and decay of 0.99 are for 45,000 samples; here there are
            a few hundred.
    """

    kind = "shared-weights"

    controller_steps: int = 10
    samples: int = 5
    controller_lr: float = 0.02
    decay: float = 0.9

    @property
    def task(self) -> str:
        """As in ``digits-shared-weights``."""
        return f"{self.dataset}-shared-weights"

    @property
    def points(self) -> int:
        """The epochs of the shared weights."""
        return self.search_epochs

    @property
    def extent(self) -> str:
        """Epochs of the shared weights and of the training."""
        return f"{self.points} epochs of shared weights, {self.epochs} of training"

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """See :class:`.KindConfig`."""
        parts, begun = self.parts(), time.process_time()
        model = ENAS(NODES, shape=self.shape, wiring="dense", uniform=self.algorithm == "enas-uniform")
        rows: list[dict[str, float]] = []
        train_enas(
            model,
            parts.weights,
            parts.architecture,
            self.search_epochs,
            controller_steps=self.controller_steps,
            samples=self.samples,
            controller_lr=self.controller_lr,
            decay=self.decay,
            on_epoch=lambda epoch, reward: rows.append(_state(model)),
        )
        seconds = time.process_time() - begun
        last = {"search_seconds": seconds, **self._worth(model, parts)}
        for row in rows[:-1]:
            yield {**row, **dict.fromkeys(last, math.nan)}
        yield {**rows[-1], **last}

    def _worth(self, model: ENAS, parts: Parts) -> dict[str, float]:
        """The accuracies of sampled cells, with the shared weights and trained from scratch."""
        sampled = [model.sample_architecture() for _ in range(self.cells)]
        shared = [accuracy(model.network, parts.architecture, model.weights_of(cell)) for cell in sampled]
        cells: list[Genotype] = [model.genotype_of(cell) for cell in sampled]
        own = [self.trained(cell, parts) for cell in cells]
        return {
            "test_accuracy": mean(own),
            "derived_accuracy": own[max(range(len(own)), key=lambda one: shared[one])],
            "shared_accuracy": mean(shared),
            "kendall_tau": kendall_tau(shared, own),
            "skip_share": mean(cell.skip_share for cell in cells),
        }


def kendall_tau(first: list[float], second: list[float]) -> float:
    """Kendall's tau-a: concordant minus discordant pairs, over all pairs. A tie counts for neither."""
    pairs = [(i, j) for j in range(len(first)) for i in range(j)]
    signs = [_sign(first[i] - first[j]) * _sign(second[i] - second[j]) for i, j in pairs]
    return sum(signs) / len(pairs)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


@torch.no_grad()
def _state(model: ENAS) -> dict[str, float]:
    """The entropy of the controller over that of a uniform one, and how often it chooses a skip."""
    drawn = model.policy.sample(200, generator=torch.Generator().manual_seed(0))
    most = model.policy.steps * math.log(model.policy.options)
    skips = (drawn.choices == OPERATIONS.index("identity")).float().mean()
    return {"controller_entropy": float(drawn.entropies.mean()) / most, "sampled_skips": float(skips)}


_ROWS = {
    "enas-uniform": Algorithm(label="Shared weights, uniform", baseline=None),
    "enas-controller": Algorithm(label="Shared weights, controller", baseline="enas-uniform"),
}


def _study(profile: str, settings: Mapping[str, Any], seeds: tuple[int, ...]) -> KindStudy:
    return KindStudy(
        name="architecture-weights",
        title="Does a trained controller sample better cells than a uniform one?",
        profile=profile,
        tasks=(cells_task(SharedWeights, tuple(_ROWS), settings, cells="Cells"),),
        algorithms=tuple(_ROWS),
        seeds=seeds,
        metrics=("test_accuracy", "derived_accuracy", "shared_accuracy", "kendall_tau", "search_seconds"),
        curves=("controller_entropy", "sampled_skips"),
    )


# A step with one cell's weights is an eighth of one with the mixture: twice as many epochs are still cheap.
_FULL = {**FULL, "search_epochs": 10, "cells": 8}
_QUICK = {**QUICK, "controller_steps": 3, "samples": 3}
TOPIC = Topic(
    title="Architecture search with shared weights",
    tasks={
        "cifar10-jpeg-shared-weights": "cifar10-jpeg, shared weights",
    },
    algorithms=_ROWS,
    studies=(_study("quick", _QUICK, (0, 1)), _study("full", _FULL, SEEDS)),
    claims=WEIGHTS_CLAIMS,
    metrics=(
        Metric("derived_accuracy", "test accuracy of the derived cell", True, best=1.0),
        Metric("shared_accuracy", "validation accuracy with shared weights", True, best=1.0),
        Metric("kendall_tau", "Kendall's tau of shared and own accuracy", True, "", "", 1.0, 2, best=1.0),
        Metric("controller_entropy", "entropy of the controller, of a uniform one's", False),
        Metric("sampled_skips", "share of skips in sampled cells", False),
    ),
    curves=(
        Curve("controller_entropy", "entropy", "entropy of the controller by epoch", by_base=False),
        Curve("sampled_skips", "sampled-skips", "share of skips in sampled cells by epoch", by_base=False),
    ),
    margins={"test_accuracy": {WEIGHTS: MARGIN}},
)
