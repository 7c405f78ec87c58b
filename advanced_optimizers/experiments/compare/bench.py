"""Where an algorithm is tried before it is compared: one batch of the task, and networks that all begin alike."""

from __future__ import annotations

import math
import time
from statistics import median

import torch
from torch import Tensor, nn

from advanced_optimizers.experiments.compare.code import CompareError
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.records.config import Hyperparameters, RunConfig
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.learners import Learner, Setting
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.experiments.training.seeding import seed_everything

STEPS = 20
_SMALL_BATCH = 32


class Bench:
    """One batch of a task, and networks that all begin alike.

    Args:
        task: The task.
        device: Where the networks are.
    """

    def __init__(self, task: Task, device: str = "cpu") -> None:
        self.task, self.device = task, torch.device(device)
        self.dataset = data.load(task.dataset)
        generator = torch.Generator().manual_seed(0)
        dataset = self.dataset
        batches = data.Batches(
            dataset.images,
            dataset.labels,
            dataset.mean,
            dataset.std,
            min(task.batch_size, len(dataset.labels)),
            generator=generator,
            shuffle=True,
            device=self.device,
        )
        self.batches = len(batches)
        self.batch = next(iter(batches))

    def model(self, precision: torch.dtype = torch.float32) -> nn.Module:
        """The task's network, seeded.

        Raises:
            CompareError: It has no parameters, or does not give logits.
        """
        dataset = self.dataset
        seed_everything(0)
        model = build_model(self.task.model, dataset.image_shape, dataset.num_classes, self.task.width)
        return model.to(self.device, precision)

    def check_model(self) -> None:
        """Checks that the network gives logits, and can be trained.

        Raises:
            CompareError: It cannot.
        """
        model, name = self.model(), self.task.model.removeprefix("user:").partition("@")[0]
        if not any(p.requires_grad for p in model.parameters()):
            raise CompareError(f"the network {name} has no parameters that can be trained")
        try:
            logits = model(self.batch.images)
        except Exception as error:
            shape = tuple(self.batch.images.shape)
            raise CompareError(
                f"the network {name} fails on images {shape}: {type(error).__name__}: {error}"
            ) from error
        wanted = (len(self.batch.labels), self.dataset.num_classes)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise CompareError(f"the network {name} must return logits of shape {wanted}, it returned {found}")

    def setting(self, algorithm: str, hyperparameters: Hyperparameters, model: nn.Module) -> Setting:
        """A run of twenty steps, with a whole schedule in them."""
        row, dataset = ALGORITHMS[algorithm], self.dataset
        config = RunConfig(
            dataset=self.task.dataset,
            model=self.task.model,
            algorithm=algorithm,
            hyperparameters={**row.fixed, **hyperparameters},
            epochs=1,
            batch_size=self.task.batch_size,
            schedule=row.schedule or self.task.schedule,
            width=self.task.width,
        )
        return Setting(
            config=config,
            model=model,
            num_samples=len(dataset.labels),
            num_classes=dataset.num_classes,
            image_shape=dataset.image_shape,
            steps_per_epoch=STEPS,
        )

    def small_batch(self) -> data.Batch:
        """A part of the batch in double precision, in which every change can be seen."""
        images, labels, indices = (part[:_SMALL_BATCH] for part in self.batch)
        return data.Batch(images.double(), labels, indices)


def steps(learner: Learner, batch: data.Batch, shown: str) -> tuple[list[float], float]:
    """The losses of twenty steps, or of those up to the first that is not finite, and the median of their seconds.

    Seconds are of the processor, which other programs change little; of an accelerator, they are of the clock.

    Raises:
        CompareError: A step fails.
    """
    learner.start_epoch(1)
    losses: list[float] = []
    spent = []
    while len(losses) < STEPS and all(map(math.isfinite, losses[-1:])):
        try:
            loss, seconds = _step(learner, batch)
        except Exception as error:
            raise CompareError(f"step {len(losses) + 1} of {shown} raised {type(error).__name__}: {error}") from error
        losses.append(loss)
        spent.append(seconds)
    return losses, median(spent)


def relative_cost(learner: Learner, reference: Learner, batch: data.Batch) -> float:
    """What a step costs, divided by the reference's: in turns, as other programs disturb both alike."""
    for each in (learner, reference):
        each.start_epoch(1)
    rounds = [(_step(learner, batch)[1], _step(reference, batch)[1]) for _ in range(STEPS)]
    own, others = zip(*rounds, strict=True)
    return median(own) / median(others)


def _step(learner: Learner, batch: data.Batch) -> tuple[float, float]:
    """The loss of a step, and its seconds."""
    clock = time.process_time if batch.images.device.type == "cpu" else time.perf_counter
    started = clock()
    loss = float(learner.step(batch).loss)
    return loss, clock() - started
