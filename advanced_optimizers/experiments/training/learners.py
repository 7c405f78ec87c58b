"""Learners: the interface through which the training loop runs any algorithm, and ordinary backpropagation.

The training loop knows nothing about algorithms; topics bring their own learners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.training.precision import autocast_of
from advanced_optimizers.experiments.training.schedules import make_scheduler


class StepResult(NamedTuple):
    """The loss of one batch (scalar) and how many of its samples were classified correctly (int64 scalar)."""

    loss: Tensor
    correct: Tensor


class Learner(Protocol):
    """One algorithm training one model."""

    def start_epoch(self, epoch: int) -> None:
        """Announces the epoch that begins, counted from 1."""

    def step(self, batch: Batch) -> StepResult:
        """Trains on one batch."""

    def predict(self, images: Tensor) -> Tensor:
        """Returns the logits (B, num_classes) in evaluation mode, without learning anything."""

    def end_epoch(self) -> dict[str, float]:
        """Returns the algorithm's own diagnostics of the epoch, one value per curve."""

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the next step depends on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a learner is built from.

    Attributes:
        config: The run's configuration.
        model: The network, seeded and on its device.
        num_samples: Size of the training set.
        num_classes: Number of classes.
        image_shape: (C, H, W) of an image.
        steps_per_epoch: Batches per epoch.
    """

    config: RunConfig
    model: nn.Module
    num_samples: int
    num_classes: int
    image_shape: tuple[int, int, int]
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch


class BackpropLearner:
    """Ordinary training: forward, loss, backward, optimizer step, schedule step.

    Args:
        setting: The model and the run.
        optimizer: Any torch optimizer over the model's parameters.
    """

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer) -> None:
        self.model = setting.model
        self.optimizer = optimizer
        self.scheduler = make_scheduler(setting.config.schedule, optimizer, setting.total_steps)
        self.autocast = autocast_of(setting.config.precision, next(setting.model.parameters()).device)

    def start_epoch(self, epoch: int) -> None:
        """Does nothing."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy of a batch."""
        return F.cross_entropy(logits, batch.labels)

    def step(self, batch: Batch) -> StepResult:
        """Takes one step of the optimizer and of its schedule."""
        result = self.backward(batch)
        self.update(result.loss)
        self.scheduler.step()
        return result

    def backward(self, batch: Batch) -> StepResult:
        """Computes the gradients of a batch's loss in training mode; they replace those of the last one."""
        self.model.train()
        with self.autocast():
            logits = self.model(batch.images)
        logits = logits.float()
        loss = self.loss(logits, batch)
        self.optimizer.zero_grad()
        loss.backward()
        return StepResult(loss.detach(), (logits.detach().argmax(dim=1) == batch.labels).sum())

    def update(self, loss: Tensor) -> None:
        """Takes one step of the optimizer with the gradients of a loss."""
        self.optimizer.step()

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Returns the logits in evaluation mode."""
        self.model.eval()
        with self.autocast():
            logits: Tensor = self.model(images)
        return logits.float()

    def end_epoch(self) -> dict[str, float]:
        """Returns the learning rate that the schedule has reached at the end of the epoch."""
        return {"lr": float(self.scheduler.get_last_lr()[0])}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of model, optimizer and schedule."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer and schedule."""
        self.model.load_state_dict(state_dict["model"])
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.scheduler.load_state_dict(state_dict["scheduler"])


def known_mean(values: Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
