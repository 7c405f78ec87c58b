"""Runs of tasks that are learned one after the other: what an earlier task loses to the later ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advanced_optimizers.automl.continual import ElasticWeightConsolidation, ReplayBuffer
from advanced_optimizers.automl.continual.fisher import diagonal_fisher
from advanced_optimizers.experiments.data.task_sequences import Stage, stages_of
from advanced_optimizers.experiments.studies.learning_runs import (
    Importance,
    accuracy,
    batch_mean_fisher,
    batches_of,
    flattened,
    network,
    shuffled,
)
from advanced_optimizers.experiments.studies.tuned_kind import TunedConfig

# What sums up the tasks so far, when one has been learned.
SUMMARY = ("test_accuracy", "worst_task", "forgetting", "first_forgotten", "learned")
RATE = 1e-3
# The strengths of a sweep are 10 to the power of 1, 2, ...
POWERS = 5


@dataclass(frozen=True, kw_only=True)
class ContinualRun(TunedConfig):
    """Tasks that are learned one after the other by one network, with Adam, which starts afresh for each.

    A hyperparameter ``lambda`` is the strength of a penalty.

    Attributes:
        dataset: Whose images it is about.
        scenario: How they become tasks, see :func:`.stages_of`.
        tasks: How many.
        images: Training images of a task, or of all tasks where they are split by classes.
        epochs: Passes over the training images of each task.
        batch_size: Images per step.
        hidden: Units of each of the two hidden layers.
        shrink: By how much each side of an image is divided.
        fisher_images: Images from which Fisher information is computed.
        held_out: Whether it is a trial, measured on training images that are held out.
    """

    kind = "continual"

    scenario: str = "permuted"
    tasks: int = 3
    images: int = 20_000
    epochs: int = 3
    batch_size: int = 128
    hidden: int = 256
    shrink: int = 2
    fisher_images: int = 300

    @property
    def task(self) -> str:
        """Dataset and scenario."""
        return f"{self.dataset}-{self.scenario}"

    @property
    def points(self) -> int:
        """One per epoch."""
        return self.tasks * self.epochs

    @property
    def extent(self) -> str:
        """Tasks, images and epochs."""
        return f"{self.tasks} tasks, {self.images} images, {self.epochs} epochs each"

    @property
    def stages(self) -> list[Stage]:
        """The tasks' images: the seed draws them, and algorithms share them."""
        return stages_of(self.dataset, self.scenario, self.tasks, self.images, self.shrink, self.held_out, self.seed)

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Learns task by task; measures the first task after each epoch, and all so far when one has been learned."""
        if self.algorithm == "continual-joint":
            yield from _jointly(self)
        else:
            yield from Sequence(self, float(self.hyperparameters.get("lambda", 0.0))).measured()


@dataclass(frozen=True, kw_only=True)
class StrengthRun(ContinualRun):
    """The same with one strength after the other, 10 to the power of 1, 2, ...; each point is measured at the end."""

    kind = "continual-strengths"

    @property
    def task(self) -> str:
        """Dataset and scenario."""
        return f"{self.dataset}-{self.scenario}-strengths"

    @property
    def points(self) -> int:
        """One per strength."""
        return POWERS

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Learns all tasks with each strength; without a penalty, once."""
        penalized = bool(ARMS[self.algorithm].estimator)
        row: dict[str, float] = {}
        for power in range(1, POWERS + 1):
            if penalized or not row:
                row = self._learned(10.0**power)
            yield row

    def _learned(self, strength: float) -> dict[str, float]:
        sequence = Sequence(self, strength)
        *_, last = sequence.measured()
        each = [last[f"task{number}_accuracy"] for number in range(1, self.tasks + 1)]
        return {
            "test_accuracy": last["test_accuracy"],
            "train_loss": last["train_loss"],
            "old_tasks": sum(each[:-1]) / (self.tasks - 1),
            "new_tasks": sum(sequence.learned[1:]) / (self.tasks - 1),
        }


# ---- algorithms ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """What an algorithm does against forgetting.

    Attributes:
        estimator: Of the Fisher information; empty if there is no penalty.
        becomes: What is made of it.
        online: Whether there is one penalty for all tasks.
        replay: Samples of earlier tasks that are kept.
    """

    estimator: str = ""
    becomes: Callable[[Importance, torch.Generator], Importance] | None = None
    online: bool = False
    replay: int = 0


ARMS = {
    "continual-finetuning": Arm(),
    "continual-ewc": Arm("exact"),
    "continual-ewc-sampled": Arm("sampled"),
    "continual-ewc-empirical": Arm("empirical"),
    "continual-ewc-online": Arm("exact", online=True),
    "continual-ewc-batch-mean": Arm("batch-mean"),
    "continual-l2": Arm("exact", flattened),
    "continual-shuffled": Arm("exact", shuffled),
    "continual-replay-200": Arm(replay=200),
    "continual-replay-1000": Arm(replay=1000),
}


# ---- learning -----------------------------------------------------------------------------------------------------


class Sequence:
    """A network that learns the tasks of a run one after the other.

    Attributes:
        learned: The accuracy of each task so far when it had been learned.
        seconds: CPU time of training so far, and of the Fisher information. The first task is the same for all
            algorithms of a seed, so it is trained once; its time counts for each of them.
    """

    def __init__(self, run: ContinualRun, strength: float) -> None:
        self.run, self.stages, self.arm = run, run.stages, ARMS[run.algorithm]
        self.model = network(self.stages[0].inputs.shape[1], run.hidden, self.stages[0].outputs)
        self.ewc = ElasticWeightConsolidation(self.model, strength, online=self.arm.online)
        self.buffer = ReplayBuffer(self.arm.replay, seed=run.seed) if self.arm.replay else None
        self.table = torch.stack([stage.classes for stage in self.stages])
        self.generator = torch.Generator().manual_seed(run.seed)
        self.learned: list[float] = []
        self.seconds = 0.0

    def measured(self) -> Iterator[dict[str, float]]:
        """After each epoch, the accuracy of the first task; of all tasks so far when one has been learned."""
        first = first_task(self.run)
        for epoch, (state, train_loss, seconds) in enumerate(first.epochs, start=1):
            self.model.load_state_dict(state)
            self.seconds += seconds
            yield self._row(0, train_loss, learned=epoch == self.run.epochs)
        for number in range(1, len(self.stages)):
            self._keep(number - 1)
            optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE, fused=True)
            for epoch in range(1, self.run.epochs + 1):
                begun = time.process_time()
                train_loss = self._epoch(number, optimizer)
                self.seconds += time.process_time() - begun
                yield self._row(number, train_loss, learned=epoch == self.run.epochs)

    def _row(self, number: int, train_loss: float, *, learned: bool) -> dict[str, float]:
        count = len(self.stages)
        seen = self.stages[: number + 1] if learned else self.stages[:1]
        now = [accuracy(self.model, stage) for stage in seen]
        row = {"train_loss": train_loss, **_each(now, count), "learning_seconds": self.seconds}
        if not learned:
            return {**row, **dict.fromkeys(SUMMARY, math.nan)}
        self.learned.append(now[-1])
        lost = [before - after for before, after in zip(self.learned, now, strict=True)]
        return {
            **row,
            "test_accuracy": sum(now) / len(now),
            "worst_task": min(now),
            "forgetting": sum(lost) / max(number, 1),  # the newest has lost nothing
            "first_forgotten": lost[0],
            "learned": sum(self.learned) / len(self.learned),
        }

    def _keep(self, number: int) -> None:
        """What is kept of a task that has been learned."""
        stage = self.stages[number]
        if self.buffer is not None:
            self.buffer.add(stage.inputs, stage.labels, torch.full_like(stage.labels, number))
        if self.arm.estimator:
            importance, seconds = self._importance(number)
            self.seconds += seconds
            self.ewc.consolidate(
                importance if self.arm.becomes is None else self.arm.becomes(importance, self.generator)
            )

    def _importance(self, number: int) -> tuple[Importance, float]:
        if number == 0:
            return first_task(self.run).importance(self.model, self.arm.estimator)
        return importance_of(self.model, self.stages[number], self.arm.estimator, self.run)

    def _epoch(self, number: int, optimizer: torch.optim.Optimizer) -> float:
        stage, losses = self.stages[number], []
        # Of its own, so that all algorithms see the same batches.
        generator = torch.Generator().manual_seed(1000 * self.run.seed + 10 * number + len(self.learned))
        for batch in batches_of(len(stage.inputs), self.run.batch_size, generator):
            loss = cross_entropy(self.model(stage.inputs[batch])[:, stage.classes], stage.labels[batch])
            losses.append(loss.item())
            if self.buffer is not None:
                loss = (loss + self._replayed()) / 2
            if self.arm.estimator:
                loss = self.ewc.ewc_loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return sum(losses) / len(losses)

    def _replayed(self) -> Tensor:
        """The loss of as many samples of earlier tasks as a step has images."""
        assert self.buffer is not None  # asked for where there is one
        inputs, labels, numbers = self.buffer.sample(self.run.batch_size)
        return cross_entropy(self.model(inputs).gather(1, self.table[numbers]), labels)


def importance_of(model: nn.Module, stage: Stage, estimator: str, run: ContinualRun) -> tuple[Importance, float]:
    """The Fisher information of a task by an estimator, and its CPU time."""
    begun = time.process_time()
    if estimator == "batch-mean":
        found = batch_mean_fisher(model, stage, run.fisher_images)
    else:
        found = diagonal_fisher(
            model,
            [(stage.inputs, stage.labels)],
            estimator,
            max_samples=run.fisher_images,
            logits=lambda output: output[:, stage.classes],
            generator=torch.Generator().manual_seed(run.seed),
        )
    return found, time.process_time() - begun


def _each(now: list[float], count: int) -> dict[str, float]:
    absent = [math.nan] * (count - len(now))
    return {f"task{number}_accuracy": value for number, value in enumerate([*now, *absent], start=1)}


# ---- what algorithms share ----------------------------------------------------------------------------------------


class FirstTask:
    """The first task, which is the same for all algorithms but the joint one.

    Attributes:
        epochs: After each, the network's state, the mean training loss, and the CPU time.
    """

    def __init__(self, run: ContinualRun) -> None:
        self.run, self.stage = run, run.stages[0]
        self.epochs: list[tuple[dict[str, Tensor], float, float]] = []
        self._importances: dict[str, tuple[Importance, float]] = {}
        torch.manual_seed(run.seed)
        model = network(self.stage.inputs.shape[1], run.hidden, self.stage.outputs)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
        generator = torch.Generator().manual_seed(run.seed)
        for _ in range(run.epochs):
            begun, losses = time.process_time(), []
            for batch in batches_of(len(self.stage.inputs), run.batch_size, generator):
                loss = cross_entropy(model(self.stage.inputs[batch])[:, self.stage.classes], self.stage.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            state = {name: value.clone() for name, value in model.state_dict().items()}
            self.epochs.append((state, sum(losses) / len(losses), time.process_time() - begun))

    def importance(self, model: nn.Module, estimator: str) -> tuple[Importance, float]:
        """Of the network that has learned it, which ``model`` must be."""
        if estimator not in self._importances:
            self._importances[estimator] = importance_of(model, self.stage, estimator, self.run)
        return self._importances[estimator]


def first_task(run: ContinualRun) -> FirstTask:
    """The first task of a run."""
    own = ("kind", "algorithm", "hyperparameters")
    return _first_task(**{name: value for name, value in run.content.items() if name not in own})


@lru_cache(maxsize=4)  # the algorithms of a seed run one after the other
def _first_task(**shared: Any) -> FirstTask:
    return FirstTask(ContinualRun(algorithm="continual-finetuning", **shared))


def _jointly(run: ContinualRun) -> Iterator[dict[str, float]]:
    """All tasks at once, with as many steps: each of the points is an equal part of them."""
    stages = run.stages
    torch.manual_seed(run.seed)
    model = network(stages[0].inputs.shape[1], run.hidden, stages[0].outputs)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    generator = torch.Generator().manual_seed(run.seed)
    inputs, labels = (torch.cat([getattr(stage, name) for stage in stages]) for name in ("inputs", "labels"))
    numbers = torch.cat([torch.full_like(stage.labels, number) for number, stage in enumerate(stages)])
    table = torch.stack([stage.classes for stage in stages])
    steps = [len(stage.inputs) // run.batch_size for stage in stages for _ in range(run.epochs)]
    seconds, left = 0.0, torch.empty(0, dtype=torch.int64)
    for count in steps:
        begun, losses = time.process_time(), []
        for _ in range(count):
            if len(left) < run.batch_size:
                left = torch.cat([left, torch.randperm(len(inputs), generator=generator)])
            batch, left = left[: run.batch_size], left[run.batch_size :]
            loss = cross_entropy(model(inputs[batch]).gather(1, table[numbers[batch]]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        seconds += time.process_time() - begun
        now = [accuracy(model, stage) for stage in stages]
        yield {
            "train_loss": sum(losses) / len(losses),
            **_each(now, len(now)),
            "learning_seconds": seconds,
            **dict.fromkeys(SUMMARY, math.nan),
            "test_accuracy": sum(now) / len(now),
            "worst_task": min(now),
        }
