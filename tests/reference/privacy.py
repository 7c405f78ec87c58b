"""Differential privacy, slow and literal: an integral for delta, and loops over samples and clients.

Nothing here imports the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn


def delta_by_integral(epsilon: float, s: float) -> float:
    """The integral of max(0, p - e^epsilon q) for the densities of N(1, s^2) and N(0, s^2)."""
    x = np.linspace(-12 * s, 1 + 12 * s, 400_001)
    p, q = (np.exp(-((x - mean) ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi)) for mean in (1.0, 0.0))
    return float(np.maximum(0.0, p - math.exp(epsilon) * q).sum() * (x[1] - x[0]))


def gradient_of_each(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Callable) -> list[list[Tensor]]:
    """By sample, its gradients of all parameters."""
    return [
        list(torch.autograd.grad(loss(model(x[None]), y[None]), list(model.parameters())))
        for x, y in zip(inputs, targets, strict=True)
    ]


def clipped(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """What one sample (or client) contributes."""
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    return [g * min(1.0, max_norm / norm) if norm else g for g in gradients]


def clipped_sum(gradients: Sequence[Sequence[Tensor]], max_norm: float) -> list[Tensor]:
    """The sum over samples, by parameter."""
    return [sum(parts) for parts in zip(*(clipped(own, max_norm) for own in gradients), strict=True)]


def dp_sgd(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss: Callable, *, max_norm: float, lr: float, steps: int
) -> None:
    """Steps without noise in which every sample takes part."""
    for _ in range(steps):
        totals = clipped_sum(gradient_of_each(model, inputs, targets, loss), max_norm)
        with torch.no_grad():
            for p, total in zip(model.parameters(), totals, strict=True):
                p -= lr * total / len(inputs)


def averaged(start: Sequence[Tensor], clients: Sequence[Sequence[Tensor]], max_norm: float, count: float) -> list:
    """The global parameters after a round of DP-FedAvg without noise."""
    updates = [[w - w0 for w, w0 in zip(own, start, strict=True)] for own in clients]
    return [w0 + total / count for w0, total in zip(start, clipped_sum(updates, max_norm), strict=True)]


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """By counting pairs."""
    won = sum((m < o) + 0.5 * (m == o) for m in members for o in others)
    return won / (len(members) * len(others))
