"""Exponential smoothing, and Adam as two of them: statements 8 and 9 of the lecture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from advanced_optimizers._checks import check_range


def smoothed(signal: Tensor, beta: float, *, corrected: bool = False) -> Tensor:
    r"""The exponential average :math:`v_t = \beta v_{t-1} + (1 - \beta) x_t`, :math:`v_0 = 0`, along the first axis.

    Args:
        signal: x_1, x_2, ...
        beta: In [0, 1).
        corrected: Divide by :math:`1 - \beta^t`, as Adam does, so that a constant signal stays what it is.
    """
    check_range("beta", beta, low=0.0, high=1.0, open_high=True)
    average, values = torch.zeros_like(signal[0]), []
    for step, value in enumerate(signal, start=1):
        average = beta * average + (1 - beta) * value
        values.append(average / (1 - beta**step) if corrected else average)
    return torch.stack(values)


def half_life(beta: float) -> float:
    """After how many steps a value weighs half as much, for beta in (0, 1)."""
    check_range("beta", beta, low=0.0, high=1.0, open_low=True, open_high=True)
    return math.log(2) / -math.log(beta)


def window(beta: float) -> float:
    """The mean age of what is averaged, plus one: 1 / (1 - beta)."""
    check_range("beta", beta, low=0.0, high=1.0, open_high=True)
    return 1 / (1 - beta)


def variance_factor(beta: float) -> float:
    """What smoothing leaves of the variance of independent noise in the long run: (1 - beta) / (1 + beta)."""
    check_range("beta", beta, low=0.0, high=1.0, open_high=True)
    return (1 - beta) / (1 + beta)


def adam_by_hand(
    gradients: Sequence[Tensor],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    *,
    corrected: bool = True,
) -> Tensor:
    """Where Adam's formula leads from zero: a smoothed gradient over the root of a smoothed squared gradient.

    Args:
        gradients: Of every step, at least one.
        lr: The learning rate.
        betas: Of the two averages.
        eps: Added to the root.
        corrected: Whether the averages are corrected for their start at zero.
    """
    stacked = torch.stack(list(gradients))
    first = smoothed(stacked, betas[0], corrected=corrected)
    second = smoothed(stacked.square(), betas[1], corrected=corrected)
    return -(lr * first / (second.sqrt() + eps)).sum(dim=0)
