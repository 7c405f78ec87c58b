"""Learning to learn, written as plainly as its formulas: one task, one example, one class at a time.

Nothing here imports the package. Meta-gradients of quadratic tasks are closed forms; those of a network come from a
loop of ``torch.autograd.grad`` that keeps its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

Array = NDArray[np.float64]


# ---- quadratic tasks: L(theta) = 1/2 (theta - c)' A (theta - c), A symmetric --------------------------------------


def contraction(a: Array, rate: float, steps: int) -> Array:
    """(I - rate A)^steps, by which steps shrink the distance to the minimum."""
    return np.linalg.matrix_power(np.eye(len(a)) - rate * a, steps)


def maml_gradient(theta: Array, c: Array, a: Array, rate: float, steps: int) -> Array:
    shrink = contraction(a, rate, steps)
    return shrink @ a @ shrink @ (theta - c)


def first_order_gradient(theta: Array, c: Array, a: Array, rate: float, steps: int) -> Array:
    return a @ contraction(a, rate, steps) @ (theta - c)


def reptile_direction(theta: Array, c: Array, a: Array, rate: float, steps: int) -> Array:
    """theta - W, what Reptile takes for a gradient."""
    return (theta - c) - contraction(a, rate, steps) @ (theta - c)


# ---- any network, given as a function of a list of tensors --------------------------------------------------------


def query_loss(
    loss: Callable[[Sequence[torch.Tensor], torch.Tensor, torch.Tensor], torch.Tensor],
    weights: Sequence[torch.Tensor],
    support: tuple[torch.Tensor, torch.Tensor],
    query: tuple[torch.Tensor, torch.Tensor],
    rates: Sequence[float],
    steps: int,
    *,
    first_order: bool = False,
) -> torch.Tensor:
    """The loss of one task after steps, to be differentiated with respect to the weights."""
    own = list(weights)
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(own, *support), own, create_graph=not first_order)
        own = [w - rate * g for w, g, rate in zip(own, gradients, rates, strict=True)]
    return loss(own, *query)


# ---- few examples -------------------------------------------------------------------------------------------------


def prototype_probabilities(support: Array, labels: Sequence[int], queries: Array, num_classes: int) -> Array:
    """softmax of minus squared distances to the means of classes, one query and one class at a time."""
    means = [
        np.mean([row for row, y in zip(support, labels, strict=True) if y == k], axis=0) for k in range(num_classes)
    ]
    return np.array([softmax([-np.sum((q - mean) ** 2) for mean in means]) for q in queries])


def matching_probabilities(
    support: Array, labels: Sequence[int], queries: Array, num_classes: int, temperature: float
) -> Array:
    """Attention by the cosine, summed over the examples of each class."""
    found = np.zeros((len(queries), num_classes))
    for i, q in enumerate(queries):
        cosines = [q @ s / np.linalg.norm(q) / np.linalg.norm(s) for s in support]
        for attention, y in zip(softmax(temperature * np.array(cosines)), labels, strict=True):
            found[i, y] += attention
    return found
