"""One training step of the predictors of gradient correction, for a batch of tensors with equally many rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from advanced_optimizers.gradient_correction.history import CorrectionRecord, TensorStep, unit_rows
from advanced_optimizers.gradient_correction.predictor import (
    Mix,
    NextGradient,
    Padding,
    Predictor,
    PredictorState,
    Rows,
    cosine,
    has_direction,
    ratio,
    train_predictor,
    unchanged,
)


def load_states(batch: list[TensorStep], predictor: Predictor) -> PredictorState:
    """A predictor's state for each tensor of the batch; new tensors start with the initial one."""
    name, counter = predictor.name, f"{predictor.name}_steps"
    for state in (step.state for step in batch):
        if name not in state:
            state[name] = predictor.initial_values(state["memory"].dtype, state["memory"].device)
            state[counter] = state[name].new_zeros(1)
    return PredictorState(
        torch.stack([step.state[name] for step in batch]), torch.stack([step.state[counter] for step in batch])
    )


def train_predictors(batch: list[TensorStep], predictors: list[Predictor], lr: float) -> Tensor:
    """Trains the predictors on this step's gradients, and measures how close the previous step came to them.

    Args:
        batch: Steps of T tensors whose previous step was kept.
        predictors: The predictors to train.
        lr: Learning rate of their Adam.

    Returns:
        (T, 6), float64 on the CPU: one column for each field of :class:`CorrectionRecord`.
    """
    states = {predictor.name: load_states(batch, predictor) for predictor in predictors}
    new, measured = trained(_compare_with_previous(batch), states, predictors, lr)
    for name, state in new.items():
        for step, values, steps in zip(batch, state.values, state.steps, strict=True):
            step.state[name].copy_(values)
            step.state[f"{name}_steps"].copy_(steps)
    return measured.double().cpu()


class Comparison(NamedTuple):
    """The previous step's rows, this step's gradient as seen from there, and the mix that was applied there."""

    rows: Rows
    next_gradient: NextGradient
    applied: Mix


def trained(
    comparison: Comparison, states: dict[str, PredictorState], predictors: list[Predictor], lr: float
) -> tuple[dict[str, PredictorState], Tensor]:
    """One training step of each predictor: its new state by name, and the measurements (T, 6) from before."""
    rows, next_gradient, applied = comparison
    known = has_direction(rows, next_gradient)
    nothing = torch.full_like(next_gradient.length, math.nan)
    measured = dict.fromkeys(CorrectionRecord._fields, nothing)
    measured["plain_cosine"] = torch.where(known, cosine(unchanged(rows), rows, next_gradient), nothing)
    measured["corrected_cosine"] = torch.where(known, cosine(applied, rows, next_gradient), nothing)
    new = {}
    for predictor in predictors:
        name = predictor.name
        new[name], loss = train_predictor(predictor, states[name], rows, next_gradient, lr)
        measured[f"{name}_loss"] = loss
        measured[f"{name}_gate"] = new[name].values[:, 0, -1:]
    return new, torch.cat([measured[field] for field in CorrectionRecord._fields], dim=1)


def compared(
    previous: Tensor, mix: Tensor, length: Tensor, with_gradient: Tensor, with_memory: Tensor, padding: Padding | None
) -> Comparison:
    """Compares a step with the one before.

    Args:
        previous: (3, T, C), the products of the previous step.
        mix: (2, T, C), the coefficients of its corrected gradient.
        length: (T, 1), of this step's gradient; 0 trains and measures nothing.
        with_gradient: (T, C), the inner products of this step's rows with the previous gradient.
        with_memory: (T, C), the same with the previous memory.
        padding: Of tensors with unequally many rows.
    """
    rows, g, m = unit_rows(previous, padding)
    next_gradient = NextGradient(length, ratio(with_gradient, g * length), ratio(with_memory, m * length))
    return Comparison(rows, next_gradient, Mix(*mix))


def _compare_with_previous(batch: list[TensorStep]) -> Comparison:
    previous = [step.previous for step in batch if step.previous is not None]
    return compared(
        torch.stack([each.products for each in previous], dim=1),
        torch.stack([each.mix for each in previous], dim=1),
        torch.stack([step.products[0].sum() for step in batch]).sqrt()[:, None],
        torch.stack([each.with_gradient for each in previous]),
        torch.stack([each.with_memory for each in previous]),
        None,
    )
