"""Continual learning, slow and literal: Fisher information by a backward pass per sample and label, and in closed form.

Nothing here imports the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def fisher_by_loop(model: nn.Module, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
    """Squares of the gradient of each sample's log-probability; over all labels, or at those of the data."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for n, x in enumerate(inputs):
        log_p = model(x[None])[0].log_softmax(dim=0)
        for y in range(len(log_p)) if labels is None else [int(labels[n])]:
            weight = float(log_p[y].detach().exp()) if labels is None else 1.0
            gradients = torch.autograd.grad(log_p[y], list(model.parameters()), retain_graph=True)
            for (_, value), g in zip(total.items(), gradients, strict=True):
                value += weight * g**2 / len(inputs)
    return total


def softmax_fisher(weight: np.ndarray, bias: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of softmax regression: E[p_k (1 - p_k) x_j^2] for the weights, E[p_k (1 - p_k)] for the biases."""
    z = inputs @ weight.T + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    spread = p * (1 - p)
    return spread.T @ inputs**2 / len(inputs), spread.mean(axis=0)


def penalty(
    tasks: Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]], now: dict[str, Tensor], strength: float
) -> float:
    """lambda / 2 times the sum over tasks and numbers of F (theta - theta*)^2."""
    total = 0.0
    for fisher, anchor in tasks:
        for name, f in fisher.items():
            for a, b, c in zip(f.flatten(), now[name].flatten(), anchor[name].flatten(), strict=True):
                total += strength / 2 * float(a) * (float(b) - float(c)) ** 2
    return total


def progressive_forward(
    x: np.ndarray,
    columns: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    laterals: Sequence[Sequence[Sequence[np.ndarray]]],
) -> list[np.ndarray]:
    """The output of each column.

    Args:
        x: (batch, features).
        columns: By column and layer, W and b.
        laterals: By column, layer from the second on, and earlier column, U.
    """
    hidden: list[list[np.ndarray]] = []
    for k, layers in enumerate(columns):
        own = [x]
        for i, (w, b) in enumerate(layers):
            z = own[i] @ w.T + b
            for j in range(k if i else 0):
                z = z + hidden[j][i] @ laterals[k][i - 1][j].T
            own.append(np.maximum(z, 0.0) if i + 1 < len(layers) else z)
        hidden.append(own)
    return [own[-1] for own in hidden]
