"""GC-ODE on a hidden state as its formulas say: convolutions as sums over offsets, the adjoint by hand, float64.

Nothing here imports the package. Everything also works with complex numbers, for derivatives by complex steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.reference.gradient_correction import (
    BETA1,
    BETA2,
    EPS,
    Array,
    complex_step,
    make_safe,
    norm,
    of_length,
    squared_distance_of_directions,
)

OFFSETS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def shifted(h: Array, i: int, j: int) -> Array:
    """h(y + i, x + j), zero outside; h is (N, C, H, W)."""
    out = np.zeros_like(h)
    height, width = h.shape[2:]
    for y in range(height):
        for x in range(width):
            if 0 <= y + i < height and 0 <= x + j < width:
                out[:, :, y, x] = h[:, :, y + i, x + j]
    return out


@dataclass
class Field:
    """f(h) = gate P tanh(D h), with D (C, 3, 3) acting per channel and P (C, C) acting per position."""

    depthwise: Array
    pointwise: Array
    gate: Any

    @classmethod
    def of(cls, theta: Array, channels: int) -> Field:
        d, p = channels * 9, channels * channels
        shapes = theta[:d].reshape(channels, 3, 3), theta[d : d + p].reshape(channels, channels)
        return cls(*shapes, theta[-1])

    def d(self, h: Array) -> Array:
        return sum(self.depthwise[None, :, i + 1, j + 1, None, None] * shifted(h, i, j) for i, j in OFFSETS)

    def d_transposed(self, u: Array) -> Array:
        return sum(self.depthwise[None, :, i + 1, j + 1, None, None] * shifted(u, -i, -j) for i, j in OFFSETS)

    def __call__(self, h: Array) -> Array:
        return self.gate * np.einsum("oc,ncyx->noyx", self.pointwise, np.tanh(self.d(h)))

    def transposed_jacobian(self, h: Array, u: Array) -> Array:
        """(df/dh)^T u."""
        slope = 1 - np.tanh(self.d(h)) ** 2
        return self.gate * self.d_transposed(slope * np.einsum("oc,noyx->ncyx", self.pointwise, u))


def solution(field: Field, h: Array) -> Array:
    """h(1), by one Euler step."""
    return h + field(h)


def adjoint(field: Field, h: Array, delta: Array) -> Array:
    """a(0): the chain rule through h(1) = h + f(h)."""
    return delta + field.transposed_jacobian(h, delta)


@dataclass
class HiddenCorrection:
    """delta -> delta' for one hidden state, batch after batch."""

    channels: int
    strength: float
    min_cosine: float
    lr: float
    every: int

    def __post_init__(self) -> None:
        c = self.channels
        self.theta = np.concatenate([np.full(c * 9, 1 / 9), np.eye(c).ravel(), [0.0]])
        self.m, self.v, self.t, self.seen = np.zeros_like(self.theta), np.zeros_like(self.theta), 0, 0
        self.target: Array | None = None
        self.losses: list[float] = []

    def correct(self, h: Array, delta: Array) -> Array:
        """Corrects one batch's gradient, then trains on the batch."""
        predicted = of_length(adjoint(Field.of(self.theta, self.channels), h, delta), norm(delta))
        corrected = make_safe(delta + self.strength * (predicted - delta), delta, self.min_cosine)
        self.seen += 1
        if self.target is not None:
            self._train(h, delta, self.target)
        self.target = delta.sum(axis=0) if (self.seen + 1) % self.every == 0 else None
        return corrected

    def _train(self, h: Array, delta: Array, target: Array) -> None:
        def loss(theta: Array) -> Any:
            total = adjoint(Field.of(theta, self.channels), h, delta).sum(axis=0)
            return squared_distance_of_directions(total, target)

        derivative = complex_step(loss, self.theta)
        self.losses.append(float(loss(self.theta)))
        self.t += 1
        self.m = BETA1 * self.m + (1 - BETA1) * derivative
        self.v = BETA2 * self.v + (1 - BETA2) * derivative**2
        m_hat, v_hat = self.m / (1 - BETA1**self.t), self.v / (1 - BETA2**self.t)
        self.theta = self.theta - self.lr * m_hat / (np.sqrt(v_hat) + EPS)


def backward(
    stages: Sequence[Callable[[Tensor], Tensor]],
    corrections: Sequence[HiddenCorrection],
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
) -> None:
    """A backward pass in pieces: ``corrections[k]`` acts on the hidden state between stages k and k + 1."""
    states, inputs = [], [x]
    for stage in stages:
        states.append(stage(inputs[-1]))
        inputs.append(states[-1].detach().requires_grad_())
    loss(inputs[-1]).backward()
    for k in reversed(range(len(stages))):
        delta = inputs[k + 1].grad
        assert delta is not None
        if k < len(corrections):
            delta = torch.from_numpy(corrections[k].correct(states[k].detach().numpy(), delta.numpy()))
        states[k].backward(delta)
