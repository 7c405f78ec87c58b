"""One training step of the predictors of gradient correction, for a batch of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advanced_optimizers.gradient_correction.derivatives import cosines_and_derivative
from advanced_optimizers.gradient_correction.history import TensorStep
from advanced_optimizers.gradient_correction.mixing import or_infinity
from advanced_optimizers.gradient_correction.predictor import (
    BETA1,
    BETA2,
    EPS,
    GCODE,
    GCW,
    Batch,
    Predictor,
    Theta,
    as_theta,
    predict,
    unit_rows,
)


class Learned(NamedTuple):
    """What predictors learned for each of T tensors.

    Attributes:
        values: (T, 3, size), one predictor after the other: the parameters and Adam's two moments, as
            :meth:`~advanced_optimizers.gradient_correction.predictor.Predictor.initial_values` returns them.
        steps: (T, K), the number of training steps of each predictor so far.
    """

    values: Tensor
    steps: Tensor

    def of_each(self, predictors: Sequence[Predictor]) -> dict[str, tuple[Tensor, Tensor]]:
        """The values and steps of each predictor by its name, (T, 3, its size) and (T, 1)."""
        values = self.values.split([predictor.size for predictor in predictors], dim=2)
        pairs = zip(values, self.steps.split(1, dim=1), strict=True)
        return dict(zip([predictor.name for predictor in predictors], pairs, strict=True))


class Comparison(NamedTuple):
    """A step, and the next gradient as seen from there.

    Attributes:
        rows: (3, T, C), the step's inner products at unit length.
        target: (2, T, C), the inner products of the next gradient's rows with those of gradient and memory, all at unit
            length.
        applied: (2, T, C), the coefficients of the corrected gradient.
        known: (T, 1), whether neither gradient is zero. One of zeros has no direction, so it trains nothing.
    """

    rows: Tensor
    target: Tensor
    applied: Tensor
    known: Tensor


def load_learned(steps: Sequence[TensorStep], predictors: Sequence[Predictor]) -> Learned:
    """What the predictors of each tensor learned; new tensors start with the initial values."""
    for state in (step.state for step in steps):
        for predictor in predictors:
            if predictor.name not in state:
                values = predictor.initial_values(state["products"].dtype, state["products"].device)
                state[predictor.name], state[f"{predictor.name}_steps"] = values, values.new_zeros(1)
    names = [predictor.name for predictor in predictors]
    return Learned(
        torch.cat([torch.stack([step.state[name] for step in steps]) for name in names], dim=2),
        torch.cat([torch.stack([step.state[f"{name}_steps"] for step in steps]) for name in names], dim=1),
    )


def train_predictors(
    comparison: Comparison, steps: Sequence[TensorStep], predictors: Sequence[Predictor], batch: Batch, lr: float
) -> Tensor:
    """Trains the predictors of tensors that are handled one by one, and measures how close the previous steps came.

    Args:
        comparison: Of these steps' gradients with the previous steps.
        steps: Of T tensors whose previous step was kept.
        predictors: The predictors to train.
        batch: Of the tensors.
        lr: Learning rate of their Adam.

    Returns:
        (T, 6), float64 on the CPU: one column for each field of :class:`CorrectionRecord`.
    """
    learned = load_learned(steps, predictors)
    measured = trained(comparison, learned, as_theta(learned.values[:, 0], predictors), predictors, batch, lr)
    for name, (values, counts) in learned.of_each(predictors).items():
        for step, own, count in zip(steps, values, counts, strict=True):
            step.state[name].copy_(own)
            step.state[f"{name}_steps"].copy_(count)
    return measured.double().cpu()


def compared(previous: Tensor, applied: Tensor, squared: Tensor, inner: Tensor) -> Comparison:
    """Compares a step with the one before.

    Args:
        previous: (3, T, C), the products of the previous step.
        applied: (2, T, C), the coefficients of its corrected gradient.
        squared: (T, 1), the squared length of this step's gradient; 0 trains and measures nothing.
        inner: (2, T, C), the inner products of this step's rows with the previous gradient and the previous memory.
    """
    rows, _, inverse = unit_rows(previous)
    scale = inverse * or_infinity(squared).rsqrt()
    return Comparison(rows, inner * scale, applied, scale[0] > 0.0)


def trained(
    comparison: Comparison,
    learned: Learned,
    theta: Mapping[str, Theta],
    predictors: Sequence[Predictor],
    batch: Batch,
    lr: float,
) -> Tensor:
    """One step of Adam on the squared distances of unit vectors, predictions and the next gradient: 2 - 2 cos.

    Args:
        comparison: The step that was predicted from, and what followed.
        learned: What the predictors learned; it is updated in place.
        theta: The parameters by predictor, views of that.
        predictors: The predictors.
        batch: Of the tensors.
        lr: Learning rate of Adam.

    Returns:
        (T, 6), one column for each field of :class:`CorrectionRecord`: the gates after the step, the others before it.
    """
    rows, target, applied, known = comparison
    prediction = predict(theta, rows, batch, target.unbind())
    cosines, derivative = cosines_and_derivative(theta, prediction)
    is_trained = known & (torch.linalg.vector_norm(derivative, math.inf, dim=1, keepdim=True) < math.inf)
    learned.steps.add_(is_trained)
    sizes = zip(learned.steps.split(1, dim=1), predictors, strict=True)
    counts = torch.cat([each.expand(-1, predictor.size) for each, predictor in sizes], dim=1)
    new = adam_step(learned.values, -2.0 * derivative, counts, lr)
    torch.where(is_trained[..., None], new, learned.values, out=learned.values)
    plain = prediction.target[:, 0]
    unused = {each.name: torch.full_like(plain, math.nan) for each in (GCW, GCODE) if each not in predictors}
    names = [predictor.name for predictor in predictors]
    losses = unused | dict(zip(names, (2.0 - 2.0 * cosines).unbind(dim=1), strict=True))
    gates = unused | {name: theta[name][-1][:, 0] for name in names}
    corrected = (applied * target).sum(dim=(0, 2))[:, None]  # the corrected gradient is as long as the gradient
    measured = torch.cat([losses[GCW.name], losses[GCODE.name], plain, corrected], dim=1)
    measured.masked_fill_(~is_trained, math.nan)
    return torch.cat([measured, gates[GCW.name], gates[GCODE.name]], dim=1)


def adam_step(values: Tensor, gradient: Tensor, steps: Tensor, lr: float) -> Tensor:
    """The ``steps``-th step of Adam on stacked (parameters, first, second moments), shape (..., 3, size)."""
    theta, first, second = values.unbind(dim=-2)
    first = torch.lerp(first, gradient, 1.0 - BETA1)
    second = torch.lerp(second, gradient * gradient, 1.0 - BETA2)
    corrections = [-torch.expm1(steps * math.log(beta)) for beta in (BETA1, BETA2)]  # 1 - beta^steps
    root = (second / corrections[1]).sqrt() + EPS
    theta = torch.addcdiv(theta, first / corrections[0], root, value=-lr)
    return torch.stack([theta, first, second], dim=-2)
