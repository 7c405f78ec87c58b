"""A callback for Hugging Face's Trainer, and a classifier that has the flipping loss inside."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from advanced_optimizers.fer_optimizer import FlippingErrorReduction
from advanced_optimizers.integrations._epochs import begin_epoch, check_run, local_optimizers

__all__ = ["EpochCallback", "FlippingErrorClassifier"]


class EpochCallback(TrainerCallback):
    """Ends a local learner's epochs with their training loss, and tells a loss that remembers samples the epoch.

    - A :class:`~advanced_optimizers.LocalizedOptimizer` that was passed as ``Trainer(optimizers=(optimizer, None))``
      gets ``end_epoch(training loss)`` after each epoch. The loss is the mean of what the Trainer logs, over all
      processes and accumulated batches. For this the callback asks for one more log entry at the end of each epoch
      (and one before each checkpoint), so the loss is there whatever ``logging_strategy`` is.
    - Each :class:`~advanced_optimizers.FlippingErrorReduction` among the model's modules gets ``set_epoch`` at the
      start of an epoch. See :class:`FlippingErrorClassifier`.

    The callback has no state of its own: what it needs is in the Trainer's log and in the optimizer, and so in every
    checkpoint.

    Raises:
        ValueError: When training starts: it has more epochs than a loss was built for.

    Warns:
        UserWarning: When training starts: there is neither such an optimizer nor such a loss.

    Limitations:
        Versions of the Trainer before 5 round the loss in their log to four digits.
    """

    def __init__(self) -> None:
        self._ended_before = 0  # epochs that the local learner had before this run
        self._epoch_is_over = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        epochs = state.num_train_epochs  # the largest integer for a dataset without a length
        check_run(kwargs["model"], [kwargs["optimizer"]], None if epochs == sys.maxsize else epochs)
        for optimizer in local_optimizers([kwargs["optimizer"]]):
            self._ended_before = max(0, len(optimizer.loss_history) - _epoch(state))

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._end_epoch(state, kwargs["optimizer"])  # of a checkpoint that was written after the last step of an epoch
        begin_epoch(kwargs["model"], _epoch(state) + 1)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # The Trainer doesn't save the loss since its last log entry.
        control.should_log = control.should_log or control.should_save

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if _last_logged_step(state) == state.global_step:
            self._end_epoch(state, kwargs["optimizer"])
        else:
            self._epoch_is_over = control.should_log = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._epoch_is_over:
            self._epoch_is_over = False
            self._end_epoch(state, kwargs["optimizer"])

    def _end_epoch(self, state: TrainerState, optimizer: Any) -> None:
        for local in local_optimizers([optimizer]):
            epoch = len(local.loss_history) - self._ended_before  # the one to end, from 0
            if epoch < _epoch(state):
                local.end_epoch(_mean_loss(state, epoch))


def _epoch(state: TrainerState) -> int:
    """The number of epochs that are complete."""
    return int(state.epoch or 0)


def _losses(state: TrainerState) -> list[tuple[float, int, float]]:
    """The entries of the log with a training loss, as (epoch, step, loss)."""
    return [(entry["epoch"], entry["step"], entry["loss"]) for entry in state.log_history if "loss" in entry]


def _last_logged_step(state: TrainerState) -> int:
    return max((step for _, step, _ in _losses(state)), default=0)


def _mean_loss(state: TrainerState, epoch: int) -> float:
    """The mean over an epoch's steps; an entry of the log is the mean over the steps since the entry before."""
    total, steps, before = 0.0, 0, 0
    for at, step, loss in _losses(state):
        if epoch < at <= epoch + 1:
            total += loss * (step - before)
            steps += step - before
        before = step
    return total / steps


class FlippingErrorClassifier(nn.Module):
    """A classifier with flipping error reduction as its loss, as Hugging Face's Trainer takes it.

    The loss is a part of the model, so the Trainer switches it between training and evaluation, moves it, and saves its
    memory with every checkpoint; :class:`EpochCallback` tells it the epoch. The samples' indices come in the column
    ``index``, which :class:`~advanced_optimizers.integrations.IndexedDataset` adds. Pass
    ``remove_unused_columns=False`` to ``TrainingArguments``: the Trainer cannot see which columns the model inside
    takes.

    Args:
        model: Gives an output with ``logits``, (B, num_classes), from the inputs besides ``labels`` and ``index``.
        criterion: The loss.

    Raises:
        TypeError: ``model`` is not a module, or ``criterion`` is not a FlippingErrorReduction.
        ValueError: When called in training: there are labels but no ``index``.
    """

    # The loss is a mean over the batch, which the Trainer must divide when it accumulates gradients.
    accepts_loss_kwargs = False

    def __init__(self, model: nn.Module, criterion: FlippingErrorReduction) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
        if not isinstance(criterion, FlippingErrorReduction):
            raise TypeError(f"criterion must be a FlippingErrorReduction, got {criterion!r}")
        super().__init__()
        self.model = model
        self.criterion = criterion

    def forward(self, labels: Tensor | None = None, index: Tensor | None = None, **inputs: Any) -> dict[str, Tensor]:
        """Returns ``logits``, and with labels the ``loss``.

        Args:
            labels: (B,) int64.
            index: (B,) int64, the samples' positions in the training set. In evaluation it is not used, since the loss
                is plain cross-entropy then.
            **inputs: Passed to the model.
        """
        logits = self.model(**inputs).logits
        if labels is None:
            return {"logits": logits}
        if not self.training:
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
        if index is None:
            raise ValueError(
                "index must be given in training, got None: wrap the training set in IndexedDataset, and pass "
                "remove_unused_columns=False to TrainingArguments"
            )
        return {"loss": self.criterion(logits, labels, index), "logits": logits}
