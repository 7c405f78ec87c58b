"""Seconds an epoch of each study task, an algorithm and its base taking turns over the same batches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import torch

from advanced_optimizers.experiments import data
from advanced_optimizers.experiments.algorithms import ALGORITHM_LABELS, ALGORITHMS, build_learner
from advanced_optimizers.experiments.learners import Setting
from advanced_optimizers.experiments.machine import threads
from advanced_optimizers.experiments.models import build_model
from advanced_optimizers.experiments.runs import Hyperparameters, RunConfig
from advanced_optimizers.experiments.statistics import ratio_interval
from advanced_optimizers.experiments.studies import Task, get_study
from advanced_optimizers.experiments.training import seed_everything
from benchmarks.result import Result, Rows, cpu_environment
from benchmarks.timing import block_sums, interleaved

STUDY = "fer"
THREADS = 1  # as in a study, whose runs have a core each
# A pair is made of short turns. Their number is odd, so that of two pairs each learner goes first in as many turns.
TURNS_PER_PAIR = 5


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        pairs: Pairs for each task and algorithm.
        pair_seconds: Least length of a learner's half of a pair, unless that is more than a quarter of an epoch.
        warm_up: Batches of each of two rounds before the clock starts.
    """

    pairs: int
    pair_seconds: float
    warm_up: int


FULL = Plan(pairs=8, pair_seconds=2.0, warm_up=10)
QUICK = Plan(pairs=2, pair_seconds=0.05, warm_up=2)


def run(quick: bool) -> Result:
    """Measures every algorithm of the study that has a baseline, on every task of it.

    Raises:
        DataError: A task's data files are missing.
    """
    plan = QUICK if quick else FULL
    study = get_study(STUDY, "quick" if quick else "full")
    with threads(THREADS):
        measurements = [
            measure_pairs(task, algorithm, baseline, plan)
            for task in study.tasks
            for algorithm in study.algorithms
            if (baseline := ALGORITHMS[algorithm].baseline) is not None
        ]
        return Result(
            name="epoch_overhead",
            caption=(
                f"Seconds of a training epoch, batches included: {plan.pairs} pairs of an algorithm and its base over "
                f"the same batches, in {TURNS_PER_PAIR} turns a pair, {THREADS} thread, scaled to an epoch; medians. "
                "Ratio: geometric mean of the pairs' ratios to the base, with its 95 % interval. From the second epoch "
                "on, when every term of each method is at work."
            ),
            rows=_rows(measurements),
            measurements=measurements,
            environment=cpu_environment(),
        )


def measure_pairs(task: Task, algorithm: str, baseline: str, plan: Plan) -> dict[str, Any]:
    """Measures pairs of an algorithm and its baseline: ``[seconds of the algorithm, of the baseline]`` an epoch."""
    lr = ALGORITHMS[algorithm].search_space["lr"]
    middle: Hyperparameters = {"lr": math.sqrt(lr.low * lr.high)}
    trainers = {name: Trainer(task.run(name, middle, seed=0, label_noise=0.0)) for name in (algorithm, baseline)}
    for _ in range(2):  # the first time pays for what later batches find ready
        warm_up = {name: trainer.warm_up(plan.warm_up) for name, trainer in trainers.items()}
    epoch = len(trainers[baseline].batches)
    turn = batches_per_turn(plan, task.epochs, epoch, warm_up[baseline] / plan.warm_up)
    turns = {name: partial(trainer.train, turn) for name, trainer in trainers.items()}
    seconds = interleaved(turns, plan.pairs * TURNS_PER_PAIR)
    batches = turn * TURNS_PER_PAIR
    scaled = {name: [s * epoch / batches for s in block_sums(v, TURNS_PER_PAIR)] for name, v in seconds.items()}
    return {
        "task": task.name,
        "algorithm": algorithm,
        "baseline": baseline,
        "pairs": [list(pair) for pair in zip(scaled[algorithm], scaled[baseline], strict=True)],
        "batches_per_pair": batches,
        "batches_per_epoch": epoch,
    }


def batches_per_turn(plan: Plan, epochs: int, batches_per_epoch: int, seconds_per_batch: float) -> int:
    """How many batches a turn has, within the epochs that the learning rate's schedule is made for."""
    wanted = min(plan.pair_seconds / seconds_per_batch, batches_per_epoch / 4) / TURNS_PER_PAIR
    available = (epochs - 1) * batches_per_epoch // (plan.pairs * TURNS_PER_PAIR)
    if available < 1:
        raise ValueError(f"plan.pairs must leave a batch for each turn of {epochs} epochs, got {plan.pairs}")
    return min(math.ceil(wanted), available)


class Trainer:
    """One run of a study, set up as the training loop sets it up, and trained some batches at a time."""

    def __init__(self, config: RunConfig) -> None:
        dataset = data.load(config.dataset)
        self.epochs = config.epochs
        self.batches = data.Batches(
            dataset.images,
            dataset.labels,
            dataset.mean,
            dataset.std,
            config.batch_size,
            generator=torch.Generator().manual_seed(config.seed),
            shuffle=True,
            augment=config.augment,
        )
        seed_everything(config.seed)
        model = build_model(config.model, dataset.image_shape, dataset.num_classes, config.width)
        self.learner = build_learner(
            Setting(
                config=config,
                model=model.to(memory_format=torch.channels_last),
                num_samples=len(dataset.labels),
                num_classes=dataset.num_classes,
                steps_per_epoch=len(self.batches),
            )
        )
        self._later_batches = self._from_second_epoch()

    def warm_up(self, count: int) -> float:
        """Trains on some batches as the first epoch, in which flipping error reduction only watches; gives seconds."""
        self.learner.start_epoch(1)
        return self._train(islice(self.batches, count))

    def train(self, count: int) -> float:
        """Trains on the next batches, counting epochs from the second one; gives the seconds that it took."""
        return self._train(islice(self._later_batches, count))

    def _train(self, batches: Iterator[data.Batch]) -> float:
        started = time.perf_counter()
        for batch in batches:
            self.learner.step(batch)
        return time.perf_counter() - started

    def _from_second_epoch(self) -> Iterator[data.Batch]:
        for epoch in range(2, self.epochs + 1):
            self.learner.start_epoch(epoch)
            yield from self.batches


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    rows = []
    for m in measurements:
        own, base = zip(*m["pairs"], strict=True)
        ratio = ratio_interval([(a, b) for a, b in m["pairs"]])
        rows.append(
            {
                "Task": m["task"],
                "Algorithm": ALGORITHM_LABELS[m["algorithm"]],
                "s an epoch": f"{median(own):.2f}",
                "Its base": f"{median(base):.2f}",
                "Ratio": f"{ratio.estimate:.3f} ({ratio.low:.3f}-{ratio.high:.3f})",
                "Batches a pair": f"{m['batches_per_pair']} of {m['batches_per_epoch']}",
            }
        )
    return rows
