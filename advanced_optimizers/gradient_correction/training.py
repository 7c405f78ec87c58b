"""One training step of the predictors of gradient correction, for a batch of tensors with equally many rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advanced_optimizers.gradient_correction.history import CorrectionRecord, TensorStep, unit_rows
from advanced_optimizers.gradient_correction.predictor import (
    Mix,
    NextGradient,
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
    rows, next_gradient, applied = _compare_with_previous(batch)
    known = has_direction(rows, next_gradient)
    nothing = torch.full_like(next_gradient.length, math.nan)
    measured = dict.fromkeys(CorrectionRecord._fields, nothing)
    measured["plain_cosine"] = torch.where(known, cosine(unchanged(rows), rows, next_gradient), nothing)
    measured["corrected_cosine"] = torch.where(known, cosine(applied, rows, next_gradient), nothing)
    for predictor in predictors:
        trained, loss = train_predictor(predictor, load_states(batch, predictor), rows, next_gradient, lr)
        for step, values, steps in zip(batch, trained.values, trained.steps, strict=True):
            step.state[predictor.name].copy_(values)
            step.state[f"{predictor.name}_steps"].copy_(steps)
        measured[f"{predictor.name}_loss"] = loss
        measured[f"{predictor.name}_gate"] = trained.values[:, 0, -1:]
    return torch.cat([measured[field] for field in CorrectionRecord._fields], dim=1).double().cpu()


def _compare_with_previous(batch: list[TensorStep]) -> tuple[Rows, NextGradient, Mix]:
    """The previous step's rows, this step's gradient as seen from there, and the mix that was applied there."""
    previous = [step.previous for step in batch if step.previous is not None]
    rows, g, m = unit_rows([each.products for each in previous])
    length = torch.stack([step.products[0].sum() for step in batch]).sqrt()[:, None]
    with_gradient = ratio(torch.stack([each.with_gradient for each in previous]), g * length)
    with_memory = ratio(torch.stack([each.with_memory for each in previous]), m * length)
    applied = Mix(*torch.stack([each.mix for each in previous], dim=1))
    return rows, NextGradient(length, with_gradient, with_memory), applied
