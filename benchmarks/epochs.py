"""Seconds per epoch and memory per step for each study task; algorithm and base take turns over the same batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import torch

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.evidence.medians import coverage, median_interval, ratios
from advanced_optimizers.experiments.records.config import Hyperparameters, RunConfig
from advanced_optimizers.experiments.records.machine import threads
from advanced_optimizers.experiments.studies.registry import STUDIES
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, build_learner
from advanced_optimizers.experiments.training.learners import Setting
from advanced_optimizers.experiments.training.loop import dataset_of
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.experiments.training.seeding import seed_everything
from benchmarks.memory import AllocationTrace
from benchmarks.result import Result, Rows, cpu_environment
from benchmarks.timing import interleaved

THREADS = 1  # as in a study, where each run has one core


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        pairs: Number of pairs for each task and algorithm; odd, so that each learner goes first in half of a pair's
            turns.
        epochs: Number of epochs, evenly spread over the run, in which each pair has a turn: a method may cost less in
            later ones.
        pair_seconds: Minimum duration of a learner's half of a pair, unless that is more than a quarter of an epoch.
        warm_up: Number of batches in each of two rounds before the clock starts.
    """

    pairs: int
    epochs: int
    pair_seconds: float
    warm_up: int


FULL = Plan(pairs=9, epochs=10, pair_seconds=1.0, warm_up=10)
QUICK = Plan(pairs=3, epochs=3, pair_seconds=0.02, warm_up=1)


def run(quick: bool) -> Result:
    """Measures every algorithm of the studies that has a baseline, on every task.

    Raises:
        DataError: The data files of a task are missing.
    """
    plan = QUICK if quick else FULL
    with threads(THREADS):
        measurements = [measure_pairs(*compared, plan) for compared in comparisons("quick" if quick else "full")]
        return Result(
            name="epoch_overhead",
            caption=caption(plan),
            rows=_rows(measurements),
            measurements=measurements,
            environment=cpu_environment(),
        )


def caption(plan: Plan) -> str:
    """Returns what the table shows."""
    return (
        "Seconds of a training epoch, batches included, and the most memory that a step's tensors take: "
        f"{plan.pairs} pairs of an algorithm and its base over the same batches, technical repeats on one machine, "
        f"each pair spread over {plan.epochs} of the run's epochs, in turns, {THREADS} thread, scaled to an epoch. "
        "Ratio: median of the pairs' ratios to the base, with its order-statistic interval (exact coverage "
        f"{100 * coverage(plan.pairs):.1f} %). Its base: median; s an epoch: that times the ratio. Memory: in the last "
        "epoch."
    )


def comparisons(profile: str) -> list[tuple[Task, str, str]]:
    """Returns the distinct (task, algorithm, baseline) of a profile's studies whose time can be measured like this."""
    found = {
        (task.name, algorithm): (task, algorithm, row.baseline)
        for (_, of_profile), study in STUDIES.items()
        if of_profile == profile and isinstance(study, Study)
        for task in study.tasks
        for algorithm in study.algorithms_on(task)
        if (row := ALGORITHMS[algorithm]).baseline is not None and row.timed
    }
    return [(task, algorithm, baseline) for task, algorithm, baseline in found.values() if baseline is not None]


@dataclass(frozen=True)
class InTurn:
    """What was measured of algorithms that took turns.

    Attributes:
        seconds: By algorithm, the seconds of an epoch, one value per pair.
        trainers: The algorithms' runs.
        batches: Number of batches behind each value.
        batches_per_epoch: Number of batches in an epoch.
    """

    seconds: dict[str, list[float]]
    trainers: dict[str, Trainer]
    batches: int
    batches_per_epoch: int

    def pairs(self, algorithm: str, baseline: str) -> list[list[float]]:
        """Returns pairs ``[seconds of the algorithm, of the baseline]`` per epoch."""
        return [list(pair) for pair in zip(self.seconds[algorithm], self.seconds[baseline], strict=True)]


def measure_pairs(task: Task, algorithm: str, baseline: str, plan: Plan) -> dict[str, Any]:
    """Measures an algorithm and its baseline in pairs ``[seconds of the algorithm, of the baseline]`` per epoch."""
    measured = measure_in_turn(task, (algorithm, baseline), baseline, plan)
    return {
        "task": task.name,
        "algorithm": algorithm,
        "baseline": baseline,
        "pairs": measured.pairs(algorithm, baseline),
        "peak_bytes": [measured.trainers[name].peak_bytes() for name in (algorithm, baseline)],
        "batches_per_pair": measured.batches,
        "batches_per_epoch": measured.batches_per_epoch,
    }


def measure_in_turn(
    task: Task,
    algorithms: Sequence[str],
    baseline: str,
    plan: Plan,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> InTurn:
    """Measures algorithms over the same batches, spread over the epochs of a run.

    Args:
        task: What they train.
        algorithms: All of them, with the baseline. One with a schedule of its own follows that.
        baseline: The one that says how many batches a turn has.
        plan: How much is measured.
        clock: What tells the time, in seconds.
    """
    trainers = {name: Trainer(_run_of(task, name), clock) for name in algorithms}
    for _ in range(2):  # the first round pays the one-time costs
        warm_up = {name: trainer.train(plan.warm_up) for name, trainer in trainers.items()}
    epoch_length = len(trainers[baseline].batches)
    measured = spread_epochs(task.epochs, plan.epochs)
    turn = batches_per_turn(plan, len(measured), epoch_length, warm_up[baseline] / plan.warm_up)
    totals = {name: [0.0] * plan.pairs for name in trainers}
    for epoch in range(1, task.epochs + 1):
        for trainer in trainers.values():
            trainer.learner.start_epoch(epoch)
        if epoch in measured:
            turns = {name: partial(trainer.train, turn) for name, trainer in trainers.items()}
            for name, seconds in interleaved(turns, plan.pairs).items():
                totals[name] = [total + own for total, own in zip(totals[name], seconds, strict=True)]
        else:
            for trainer in trainers.values():
                trainer.train(1)  # an epoch cannot end without the loss of a batch
        if epoch < task.epochs:
            for trainer in trainers.values():
                trainer.learner.end_epoch()
    batches = turn * len(measured)
    scaled = {name: [total * epoch_length / batches for total in values] for name, values in totals.items()}
    return InTurn(scaled, trainers, batches, epoch_length)


def _run_of(task: Task, algorithm: str) -> RunConfig:
    own = replace(task, schedule=ALGORITHMS[algorithm].schedule or task.schedule)
    return own.run(algorithm, middle_of(algorithm), seed=0, label_noise=0.0)


def middle_of(algorithm: str) -> Hyperparameters:
    """Returns the middle of an algorithm's learning rates, for runs whose outcome does not matter."""
    row = ALGORITHMS[algorithm]
    return {
        name: math.sqrt(space.low * space.high)
        for name, space in row.search_space.items()
        if name == row.rate or name.endswith("lr")
    }


def spread_epochs(epochs: int, count: int) -> list[int]:
    """Returns at most ``count`` epochs from 1 to ``epochs``, evenly spread, including the last one."""
    count = min(count, epochs)
    return [round((i + 1) * epochs / count) for i in range(count)]


def batches_per_turn(plan: Plan, epochs: int, batches_per_epoch: int, seconds_per_batch: float) -> int:
    """Returns the number of batches in a turn, if each pair has one turn in each of ``epochs`` epochs.

    Raises:
        ValueError: All turns together are longer than those epochs, for which the learning rate schedule is made.
    """
    wanted = math.ceil(min(plan.pair_seconds / seconds_per_batch, batches_per_epoch / 4) / epochs)
    available = (epochs * batches_per_epoch - 2 * plan.warm_up - 1) // (plan.pairs * epochs)
    if available < 1:
        raise ValueError(f"plan.pairs must leave a batch for each turn of {epochs} epochs, got {plan.pairs}")
    return min(wanted, available)


class Trainer:
    """One run of a study, set up as the training loop does it, that trains a given number of batches at a time."""

    def __init__(self, config: RunConfig, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        dataset = dataset_of(config)
        self.batch_size = config.batch_size
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
                image_shape=dataset.image_shape,
                steps_per_epoch=len(self.batches),
            )
        )
        self.learner.start_epoch(1)
        self._stream = self._endless()

    def train(self, count: int) -> float:
        """Trains on the next batches; returns the seconds that it took."""
        batches = islice(self._stream, count)
        started = self.clock()
        for batch in batches:
            self.learner.step(batch)
        return self.clock() - started

    def peak_bytes(self) -> int:
        """Returns the most bytes that the tensors of one step take at any time, not counting the batch."""
        batch = next(batch for batch in self._stream if len(batch.labels) == self.batch_size)
        with AllocationTrace() as trace:
            self.learner.step(batch)
        return trace.peak

    def _endless(self) -> Iterator[data.Batch]:
        while True:
            yield from self.batches


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    rows = []
    for m in measurements:
        base, ratio = median(seconds for _, seconds in m["pairs"]), median_interval(ratios(m["pairs"]))
        rows.append(
            {
                "Task": m["task"],
                "Algorithm": ALGORITHMS[m["algorithm"]].label,
                "s an epoch": f"{base * ratio.estimate:.2f}",
                "Its base": f"{base:.2f}",
                "Ratio": f"{ratio.estimate:.3f} ({ratio.low:.3f}-{ratio.high:.3f})",
                "MiB a step": f"{m['peak_bytes'][0] / 2**20:.1f}",
                "Its base's": f"{m['peak_bytes'][1] / 2**20:.1f}",
                "Batches a pair": f"{m['batches_per_pair']} of {m['batches_per_epoch']}",
            }
        )
    return rows
