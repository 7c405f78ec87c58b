"""How an algorithm trains a model: the Learner that the training loop sees, and one for each way of training.

The training loop knows nothing of algorithms; ``algorithms`` is the table of those that there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.fer_optimizer import FEROptimizer
from advanced_optimizers.fer_optimizer.flipping import FlippingErrorReduction
from advanced_optimizers.forward_signal import SigPropOptimizer
from advanced_optimizers.gradient_correction import GradientCorrectionOptimizer
from advanced_optimizers.localized_learning import LocalizedOptimizer


class StepResult(NamedTuple):
    """The loss of one batch (scalar) and how many of its samples were classified correctly (int64 scalar)."""

    loss: Tensor
    correct: Tensor


class Learner(Protocol):
    """One algorithm training one model."""

    def start_epoch(self, epoch: int) -> None:
        """Says which epoch begins, from 1."""

    def step(self, batch: Batch) -> StepResult:
        """Learns from one batch."""

    def predict(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) in evaluation mode; learns nothing."""

    def end_epoch(self) -> dict[str, float]:
        """The algorithm's own diagnostics of the epoch, one curve each."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a learner is built for.

    Attributes:
        config: The run.
        model: The network, seeded and on its device.
        num_samples: Size of the training set.
        num_classes: Number of classes.
        image_shape: (C, H, W) of an image.
        steps_per_epoch: Batches an epoch.
    """

    config: RunConfig
    model: nn.Module
    num_samples: int
    num_classes: int
    image_shape: tuple[int, int, int]
    steps_per_epoch: int


class BackpropLearner:
    """Ordinary training: forward, loss, backward, optimizer step, schedule step.

    Args:
        setting: Model and run.
        optimizer: Any torch optimizer over the model's parameters.
    """

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer) -> None:
        self.model = setting.model
        self.optimizer = optimizer
        self.scheduler = _schedule(setting, optimizer)
        self.autocast = _autocast(setting)

    def start_epoch(self, epoch: int) -> None:
        """Nothing to prepare."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch."""
        return F.cross_entropy(logits, batch.labels)

    def step(self, batch: Batch) -> StepResult:
        """One step of the optimizer and of its schedule."""
        self.model.train()
        with self.autocast():
            logits = self.model(batch.images)
        logits = logits.float()
        loss = self.loss(logits, batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return StepResult(loss.detach(), (logits.detach().argmax(dim=1) == batch.labels).sum())

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Logits in evaluation mode."""
        self.model.eval()
        with self.autocast():
            logits: Tensor = self.model(images)
        return logits.float()

    def end_epoch(self) -> dict[str, float]:
        """The learning rate that the schedule has reached at the end of the epoch."""
        return {"lr": float(self.scheduler.get_last_lr()[0])}

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer and schedule."""
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


class FERLearner(BackpropLearner):
    """Ordinary training with FEROptimizer, which also reports how consistent the gradients were."""

    optimizer: FEROptimizer

    def __init__(self, setting: Setting, optimizer: FEROptimizer) -> None:
        super().__init__(setting, optimizer)
        self.steps_per_epoch = setting.steps_per_epoch

    def end_epoch(self) -> dict[str, float]:
        """Mean cosine between gradient and memory, over the epoch's steps that are still kept."""
        values = self.optimizer.consistency_history[-self.steps_per_epoch :]
        return {**super().end_epoch(), "consistency": sum(values) / len(values) if values else math.nan}


class GradientCorrectionLearner(BackpropLearner):
    """Ordinary training with GradientCorrectionOptimizer, which also reports how well the next gradient was predicted.

    The correction of hidden states belongs to this learner's optimizer, so its hooks stay as long as the model does.
    """

    optimizer: GradientCorrectionOptimizer

    def __init__(self, setting: Setting, optimizer: GradientCorrectionOptimizer) -> None:
        super().__init__(setting, optimizer)
        self.lessons = max(1, setting.steps_per_epoch // max(g["train_every"] for g in optimizer.param_groups))

    def end_epoch(self) -> dict[str, float]:
        """Mean cosine of gradients with the next one, and what the correction adds, over the epoch's lessons."""
        records = self.optimizer.history[-self.lessons :]
        plain, corrected = (
            _known_mean([getattr(record, name) for record in records]) for name in ("plain_cosine", "corrected_cosine")
        )
        return {**super().end_epoch(), "plain_cosine": plain, "prediction_gain": corrected - plain}


class FlippingLearner(BackpropLearner):
    """Ordinary training with the paper's loss, whose memory of each sample is part of the state."""

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer, criterion: FlippingErrorReduction) -> None:
        super().__init__(setting, optimizer)
        self.criterion = criterion

    def start_epoch(self, epoch: int) -> None:
        """Sets the weights of the loss's two terms."""
        self.criterion.set_epoch(epoch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Flipping error reduction."""
        loss: Tensor = self.criterion(logits, batch.labels, batch.indices)
        return loss

    def end_epoch(self) -> dict[str, float]:
        """Share of the training samples that were ever classified correctly."""
        return {**super().end_epoch(), "ever_correct": float(self.criterion.ever_correct.float().mean())}

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer, schedule, and what the loss remembers."""
        return {**super().state_dict(), "criterion": self.criterion.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule and memory."""
        super().load_state_dict(state_dict)
        self.criterion.load_state_dict(state_dict["criterion"])


class LocalizedLearner(BackpropLearner):
    """Ordinary training with LocalizedOptimizer, whose transition moves with the epoch's training loss."""

    optimizer: LocalizedOptimizer

    def __init__(self, setting: Setting, optimizer: LocalizedOptimizer) -> None:
        super().__init__(setting, optimizer)
        self.losses: list[Tensor] = []  # of the epoch so far

    def step(self, batch: Batch) -> StepResult:
        """One step of the optimizer and of its schedule."""
        result = super().step(batch)
        self.losses.append(result.loss)
        return result

    def end_epoch(self) -> dict[str, float]:
        """How many blocks were localized in the epoch, and the direction of their updates; then both may change."""
        curves = {
            **super().end_epoch(),
            "transition": float(self.optimizer.transition),
            "localized_direction": self.optimizer.localized_direction,
        }
        self.optimizer.end_epoch(float(torch.stack(self.losses).mean()))
        self.losses = []
        return curves

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer, schedule, and the losses of the epoch so far."""
        return {**super().state_dict(), "losses": [float(loss) for loss in self.losses]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule and losses."""
        super().load_state_dict(state_dict)
        self.losses = [torch.tensor(loss) for loss in state_dict["losses"]]


class SigPropLearner(BackpropLearner):
    """Training in the forward pass: each layer learns as soon as it is reached, and the loss is the classifier's."""

    optimizer: SigPropOptimizer

    def step(self, batch: Batch) -> StepResult:
        """Every layer's update, then a step of the schedule."""
        self.model.train()
        with self.autocast():
            losses, scores = self.optimizer.learn(batch.images, batch.labels)
        self.scheduler.step()
        return StepResult(losses[-1], (scores.argmax(dim=1) == batch.labels).sum())


def _known_mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _schedule(setting: Setting, optimizer: torch.optim.Optimizer) -> LRScheduler:
    config = setting.config
    if config.schedule == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    max_lr = [group["lr"] for group in optimizer.param_groups]
    total_steps = config.epochs * setting.steps_per_epoch + 1  # the last step still learns
    return OneCycleLR(optimizer, max_lr, total_steps=total_steps, pct_start=0.3, cycle_momentum=False)


def _autocast(setting: Setting) -> Callable[[], AbstractContextManager[Any]]:
    device = next(setting.model.parameters()).device.type
    enabled = setting.config.precision == "bfloat16"
    return lambda: torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)
