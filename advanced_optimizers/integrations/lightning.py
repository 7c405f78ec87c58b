"""A callback for Lightning, whose Trainer knows nothing of a local learner's epochs or of a loss that counts them."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from advanced_optimizers.integrations._epochs import begin_epoch, check_run, local_optimizers

__all__ = ["EpochCallback"]


class EpochCallback(Callback):
    """Ends a local learner's epochs with their training loss, and tells a loss that remembers samples the epoch.

    - Each :class:`~advanced_optimizers.LocalizedOptimizer` among the trainer's optimizers gets
      ``end_epoch(training loss)`` after the last step of an epoch, before validation and before a checkpoint is
      written. The loss is the mean over the epoch's batches, and over the processes. It is part of the checkpoint, so
      that a run that is resumed in the middle of an epoch goes on as if nothing had happened.
    - Each :class:`~advanced_optimizers.FlippingErrorReduction` that is a submodule of the ``LightningModule`` gets
      ``set_epoch`` at the start of an epoch. Its memory is then a part of the module's state, so of every checkpoint.
      :class:`~advanced_optimizers.integrations.IndexedDataset` gives it the samples' indices.

    Raises:
        RuntimeError: At the end of an epoch: a local learner needs the loss, but ``training_step`` returned none.
        ValueError: When the fit starts: it has more epochs than a loss was built for.

    Warns:
        UserWarning: When the fit starts: there is neither such an optimizer nor such a loss.

    Limitations:
        With the package ``pytorch_lightning`` instead of ``lightning``, both must be installed; its Trainer takes the
        callback as it is.
    """

    def __init__(self) -> None:
        self._sum: Tensor | float = 0.0  # of the losses of the epoch so far
        self._batches = 0
        self._epoch: int | None = None  # the last one that was told

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch = None
        epochs = trainer.max_epochs
        check_run(pl_module, trainer.optimizers, epochs if epochs is not None and epochs > 0 else None)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # on_train_epoch_start is not called after a resume from a checkpoint of an epoch's last step.
        if trainer.current_epoch != self._epoch:
            self._epoch = trainer.current_epoch
            begin_epoch(pl_module, self._epoch + 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            # Lightning divides the loss by the number of batches whose gradients it accumulates.
            self._sum = self._sum + loss.detach().float() * trainer.accumulate_grad_batches
            self._batches += 1
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._end_epoch(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._batches:  # the epoch was cut short
            self._end_epoch(trainer, pl_module)

    def _end_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        optimizers = local_optimizers(trainer.optimizers)
        if optimizers and not self._batches:
            raise RuntimeError(
                f"the training_step of {type(pl_module).__name__} must return the loss, got None: LocalizedOptimizer "
                "needs the training loss at the end of an epoch"
            )
        if optimizers:
            mean = trainer.strategy.reduce(self._sum / self._batches, reduce_op="mean")
            for optimizer in optimizers:
                optimizer.end_epoch(float(mean))
        self._sum, self._batches = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        return {"sum": float(self._sum), "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sum, self._batches = state_dict["sum"], state_dict["batches"]
