"""Training with optimizers whose weights differ between training and evaluation, such as the schedule-free ones."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import torch
from torch import Tensor

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.training.learners import BackpropLearner, Setting, StepResult
from advanced_optimizers.experiments.training.normalization import has_batch_norm, reestimate

# As many batches as the authors of the schedule-free optimizers use.
_BATCHES = 50


class HasModes(Protocol):
    """An optimizer that moves the weights between the point of the gradients and the point that is evaluated."""

    def train(self) -> None:
        """Moves the weights to the point where gradients are taken."""

    def eval(self) -> None:
        """Moves them to the point that is evaluated and saved."""


class ModeLearner(BackpropLearner):
    """Training that calls the optimizer's ``train()`` before a step, and ``eval()`` before evaluating and saving.

    Both modes have the same weights in memory, so whoever forgets one gets plausible numbers of the wrong network.
    BatchNorm's statistics belong to the point of the gradients: at the evaluated point they are computed again, from
    the last batches of the epoch, at most 50. A learner that is restored within an epoch has fewer of them; the
    training loop saves between epochs.

    Args:
        setting: The model and the run.
        optimizer: A torch optimizer with ``train()`` and ``eval()``.

    Raises:
        TypeError: The optimizer has no such methods.
    """

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer) -> None:
        missing = [name for name in ("train", "eval") if not callable(getattr(optimizer, name, None))]
        if missing:
            raise TypeError(
                f"optimizer must have train() and eval(), {type(optimizer).__name__} lacks {' and '.join(missing)}: "
                "use BackpropLearner"
            )
        super().__init__(setting, optimizer)
        self.modes: HasModes = optimizer  # type: ignore[assignment]
        self._normalizes = has_batch_norm(self.model)
        self._recent: deque[Tensor] = deque(maxlen=_BATCHES)
        self._stale = False  # whether steps were taken since BatchNorm's statistics were those of the evaluated point
        self.modes.eval()

    def start_epoch(self, epoch: int) -> None:
        """Forgets the batches of the last epoch, so that a run that is resumed here goes on in the same way."""
        self._recent.clear()

    def step(self, batch: Batch) -> StepResult:
        """Takes one step in training mode."""
        self.modes.train()
        result = super().step(batch)
        if self._normalizes:
            self._recent.append(batch.images)
        self._stale = True
        return result

    def predict(self, images: Tensor) -> Tensor:
        """Returns the logits at the evaluated point."""
        self._settle()
        return super().predict(images)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state at the evaluated point."""
        self._settle()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned: the evaluated point."""
        super().load_state_dict(state_dict)
        self._recent.clear()
        self._stale = False

    def _settle(self) -> None:
        """Moves to the evaluated point, with BatchNorm's statistics of that point."""
        self.modes.eval()
        if self._stale and self._normalizes:
            with self.autocast():
                reestimate(self.model, self._recent)
        self._stale = False
