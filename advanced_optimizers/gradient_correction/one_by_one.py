"""Gradient correction whose passes over gradients take one tensor after the other, which stays in a CPU's cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from advanced_optimizers._rounding import Rounded
from advanced_optimizers.gradient_correction.history import (
    TensorStep,
    keep_for_training,
    moved_memory,
    squares,
    update_memory,
)
from advanced_optimizers.gradient_correction.predictor import Batch, as_theta, batch_of, unit_rows
from advanced_optimizers.gradient_correction.together import Settings, buckets, corrected_rows
from advanced_optimizers.gradient_correction.training import Comparison, compared, load_learned, train_predictors

# How many rows of zeros may be added to handle the predictors of tensors together, and how many batches are remembered.
FEW, BATCHES = 2**11, 64

Output = Callable[[Tensor, Tensor], Tensor]


class OneByOne:
    """The tensors of an optimizer that are not handled together. Their predictors are, since these cost little else.

    Args:
        rounded: How memories are kept in bfloat16; None keeps them in float32 or better.
    """

    def __init__(self, rounded: Rounded | None) -> None:
        self._rounded = rounded
        self._batches: dict[object, Batch] = {}

    def correct(
        self,
        grads: dict[Tensor, Tensor],
        settings: Settings,
        states: MutableMapping[Tensor, dict[str, Any]],
        output: Output,
    ) -> tuple[dict[Tensor, Tensor], list[Tensor]]:
        """Corrects gradients by parameter, and trains the predictors where it is time.

        Args:
            grads: The gradients.
            settings: The hyperparameters.
            states: The optimizer's.
            output: ``output(p, grad)``, memory for the corrected gradient of ``p``.

        Returns:
            The gradients that change, by parameter, and measurements (tensors, 6).
        """
        found = [(p, grad, squares(grad)) for p, grad in grads.items()]
        lengths = torch.stack([gg.sum() for _, _, gg in found])
        if self._rounded is not None:
            lengths = lengths.float()  # which has to hold what the memory is rounded from
        finite = lengths.isfinite().tolist()  # one device sync
        steps: dict[object, dict[Tensor, TensorStep]] = {}
        for p, grad, gg in itertools.compress(found, finite):
            scratch = output(p, grad) if grad.dtype == gg.dtype else None
            step = update_memory(p, grad, gg, states[p], settings.decay, scratch, self._rounded)
            if step is not None:
                steps.setdefault((gg.dtype, gg.device), {})[p] = step
        corrected: dict[Tensor, Tensor] = {}
        measured = []
        for of_kind in steps.values():
            for params in buckets(list(of_kind), FEW):
                bucket = [of_kind[p] for p in params]
                due = [step for step in bucket if step.previous is not None]
                if due:
                    predictors = [predictor for predictor, _ in settings.predictors]
                    batch = self._batch(due)
                    measured.append(train_predictors(_compared(due), due, predictors, batch, settings.lr))
                corrected |= self._correct(bucket, settings, output)
        return corrected, measured

    def _correct(self, steps: list[TensorStep], settings: Settings, output: Output) -> dict[Tensor, Tensor]:
        rows, lengths, inverse = unit_rows(_padded([step.products for step in steps]))
        used = [predictor for predictor, _ in settings.predictors]
        batch = self._batch(steps)
        mix = corrected_rows(as_theta(load_learned(steps, used).values[:, 0], used), rows, batch, settings)
        changed = (mix != batch.gradient).flatten(1).any(dim=1).tolist()
        of_gradient, of_memory = mix.unbind(dim=2)
        of_memory = of_memory * (lengths[0] * inverse[1])
        corrected = {}
        for i, step in enumerate(steps):
            count = len(step.param)
            memory = step.state["memory"]
            if self._rounded is not None:
                memory = moved_memory(step, settings.decay, self._rounded)
            if changed[i]:
                corrected[step.param] = _mix_rows(step, memory, of_gradient[i, :count], of_memory[i, :count], output)
            if self._rounded is not None:
                self._rounded.keep(step.state, "memory", memory, step.param)
            if (int(step.state["seen"]) + 1) % settings.every == 0:
                keep_for_training(step, mix[i, :count])
        return corrected

    def _batch(self, steps: list[TensorStep]) -> Batch:
        """What is the same at every step of these tensors."""
        products = steps[0].products
        counts = [len(step.param) for step in steps]
        key = (*counts, products.dtype, products.device)
        if key not in self._batches:
            if len(self._batches) == BATCHES:
                self._batches.clear()
            self._batches[key] = batch_of(torch.tensor(counts), products.dtype, products.device)
        return self._batches[key]


def _mix_rows(step: TensorStep, memory: Tensor, of_gradient: Tensor, of_memory: Tensor, output: Output) -> Tensor:
    """The corrected gradient, from the coefficients (C,) of the gradient's rows and of the memory's rows."""
    grad = step.grad
    a, b = (coefficients.view(-1, *[1] * (grad.dim() - 1)) for coefficients in (of_gradient, of_memory))
    out = output(step.param, grad)
    wide = out if grad.dtype == memory.dtype else torch.empty_like(memory)
    torch.mul(grad, a, out=wide).addcmul_(memory, b)
    return out if wide is out else out.copy_(wide)


def _compared(steps: list[TensorStep]) -> Comparison:
    previous = [step.previous for step in steps if step.previous is not None]
    return compared(
        _padded([each.products for each in previous]),
        _padded([each.mix for each in previous]),
        torch.stack([step.products[0].sum() for step in steps])[:, None],
        torch.stack(
            [_padded([each.with_gradient for each in previous]), _padded([each.with_memory for each in previous])]
        ),
    )


def _padded(of_rows: Sequence[Tensor]) -> Tensor:
    """(..., T, C), with zeros where a tensor has fewer rows, from (..., rows) of each."""
    width = max(each.shape[-1] for each in of_rows)
    return torch.stack([F.pad(each, (0, width - each.shape[-1])) for each in of_rows], dim=-2)
