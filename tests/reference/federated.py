"""Federated averaging, slow and literal: softmax regression by its closed-form gradient, in NumPy, client by client.

Nothing here imports the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Samples (n, d) and classes (n,) of a batch.
Batch = tuple[Array, NDArray[np.int64]]


def gradient(w: Array, x: Array, y: NDArray[np.int64]) -> Array:
    """The gradient of the mean cross-entropy of softmax(x w), (d, c)."""
    scores = np.exp(x @ w)
    p = scores / scores.sum(axis=1, keepdims=True)
    total = np.zeros_like(w)
    for i in range(len(x)):
        total += np.outer(x[i], p[i] - np.eye(w.shape[1])[y[i]])
    return total / len(x)


def client_update(w_t: Array, batches: Sequence[Batch], epochs: int, lr: float, mu: float) -> Array:
    """ClientUpdate of Algorithm 1, with FedProx's step w -= lr (g + mu (w - w_t))."""
    w = w_t.copy()
    for _ in range(epochs):
        for x, y in batches:
            w = w - lr * (gradient(w, x, y) + mu * (w - w_t))
    return w


def server_round(
    w_t: Array, clients: Sequence[Sequence[Batch]], epochs: int, lr: float, mu: float, weights: Sequence[float]
) -> Array:
    """The weighted sum over clients, divided by the sum of the weights."""
    total = np.zeros_like(w_t)
    for batches, weight in zip(clients, weights, strict=True):
        total += weight * client_update(w_t, batches, epochs, lr, mu)
    return total / sum(weights)
