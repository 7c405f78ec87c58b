"""One training step of the predictors of gradient correction, for a batch of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advanced_optimizers.gradient_correction.history import CorrectionRecord, TensorStep
from advanced_optimizers.gradient_correction.mixing import or_infinity
from advanced_optimizers.gradient_correction.predictor import (
    BETA1,
    BETA2,
    EPS,
    GCODE,
    GCW,
    Batch,
    Prediction,
    Predictor,
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
                values = predictor.initial_values(state["memory"].dtype, state["memory"].device)
                state[predictor.name], state[f"{predictor.name}_steps"] = values, values.new_zeros(1)
    names = [predictor.name for predictor in predictors]
    return Learned(
        torch.cat([torch.stack([step.state[name] for step in steps]) for name in names], dim=2),
        torch.cat([torch.stack([step.state[f"{name}_steps"] for step in steps]) for name in names], dim=1),
    )


def train_predictors(steps: Sequence[TensorStep], predictors: Sequence[Predictor], batch: Batch, lr: float) -> Tensor:
    """Trains the predictors on these steps' gradients, and measures how close the previous steps came to them.

    Args:
        steps: Of T tensors whose previous step was kept.
        predictors: The predictors to train.
        batch: Of the tensors.
        lr: Learning rate of their Adam.

    Returns:
        (T, 6), float64 on the CPU: one column for each field of :class:`CorrectionRecord`.
    """
    new, measured = trained(_compare_with_previous(steps), load_learned(steps, predictors), predictors, batch, lr)
    for name, (values, counts) in new.of_each(predictors).items():
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


def _compare_with_previous(steps: Sequence[TensorStep]) -> Comparison:
    previous = [step.previous for step in steps if step.previous is not None]
    return compared(
        torch.stack([each.products for each in previous], dim=1),
        torch.stack([each.mix for each in previous], dim=1),
        torch.stack([step.products[0].sum() for step in steps])[:, None],
        torch.stack([torch.stack([each.with_gradient, each.with_memory]) for each in previous], dim=1),
    )


def cosines(prediction: Prediction) -> Tensor:
    """(T, K, 1), between predictions and the next gradient."""
    mixes, (gram, *_), _, target = prediction
    squared = (torch.bmm(mixes, gram) * mixes).sum(dim=2, keepdim=True)
    return torch.bmm(mixes, target) * or_infinity(squared).rsqrt()


def trained(
    comparison: Comparison, learned: Learned, predictors: Sequence[Predictor], batch: Batch, lr: float
) -> tuple[Learned, Tensor]:
    r"""One step of Adam on the squared distances of unit vectors, predictions and the next gradient: 2 - 2 cos.

    Returns:
        The new state, and the measurements (T, 6) from before.
    """
    rows, target, applied, known = comparison
    with torch.enable_grad():
        theta = learned.values[:, 0].detach().requires_grad_()
        prediction = predict(as_theta(theta, predictors), rows, batch, target.unbind())
        found = cosines(prediction)
        (gradient,) = torch.autograd.grad(found, theta, torch.full_like(found, -2.0))
    is_trained = known & (torch.linalg.vector_norm(gradient, math.inf, dim=1, keepdim=True) < math.inf)
    steps = learned.steps + is_trained
    sizes = zip(steps.split(1, dim=1), predictors, strict=True)
    counts = torch.cat([each.expand(-1, predictor.size) for each, predictor in sizes], dim=1)
    values = torch.where(is_trained[..., None], adam_step(learned.values, gradient, counts, lr), learned.values)
    learned = Learned(values, steps)
    (plain,) = prediction.target.detach()[:, :1].unbind(dim=1)  # of a gradient of length 1
    corrected = (applied * target).sum(dim=(0, 2))[:, None]  # of one that is as long
    losses = (2.0 - 2.0 * found.detach()).unbind(dim=1)
    nothing = torch.full_like(plain, math.nan)
    columns = {"plain_cosine": plain, "corrected_cosine": corrected}
    columns |= {f"{each.name}_loss": loss for each, loss in zip(predictors, losses, strict=True)}
    measured = torch.cat([columns.get(field, nothing) for field in CorrectionRecord._fields[:4]], dim=1)
    gates = {name: own[:, 0, -1:] for name, (own, _) in learned.of_each(predictors).items()}
    return learned, torch.cat(
        [measured.masked_fill(~is_trained, math.nan), *(gates.get(each.name, nothing) for each in (GCW, GCODE))], dim=1
    )


def adam_step(values: Tensor, gradient: Tensor, steps: Tensor, lr: float) -> Tensor:
    """The ``steps``-th step of Adam on stacked (parameters, first, second moments), shape (..., 3, size)."""
    theta, first, second = values.unbind(dim=-2)
    first = torch.lerp(first, gradient, 1.0 - BETA1)
    second = torch.lerp(second, gradient * gradient, 1.0 - BETA2)
    corrections = [-torch.expm1(steps * math.log(beta)) for beta in (BETA1, BETA2)]  # 1 - beta^steps
    root = (second / corrections[1]).sqrt() + EPS
    theta = torch.addcdiv(theta, first / corrections[0], root, value=-lr)
    return torch.stack([theta, first, second], dim=-2)
