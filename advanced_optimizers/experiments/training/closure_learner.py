"""Training with optimizers that evaluate the loss again within a step, such as SAM."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.training.learners import BackpropLearner, Setting, StepResult
from advanced_optimizers.experiments.training.normalization import frozen_statistics


class ClosureLearner(BackpropLearner):
    """Training that gives the optimizer a closure: it computes loss and gradients of the same batch anew.

    Only the first evaluation of a step counts for BatchNorm's running statistics and for the training loss: the others
    are made at weights that the run never has.

    Args:
        setting: The model and the run.
        optimizer: A torch optimizer whose ``step`` takes a closure.
        gradients_first: Whether the optimizer expects the gradients at its weights before ``step``, as SAM does, and
            evaluates elsewhere; if not, its first evaluation is the one at its weights, as torch's LBFGS has it.
    """

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer, *, gradients_first: bool) -> None:
        super().__init__(setting, optimizer)
        self.gradients_first = gradients_first

    def step(self, batch: Batch) -> StepResult:
        """Takes one step, with as many forward and backward passes as the optimizer asks for."""
        results: list[StepResult] = []

        def closure() -> Tensor:
            with torch.enable_grad(), frozen_statistics(self.model) if results else nullcontext():
                results.append(self.backward(batch))
            return results[-1].loss

        if self.gradients_first:
            closure()
        self.optimizer.step(closure)  # type: ignore[arg-type]
        if not results:
            raise RuntimeError(f"{type(self.optimizer).__name__}.step() never called its closure: use BackpropLearner")
        self.scheduler.step()
        return results[0]
