"""Gradient correction as its formulas say: whole gradients as vectors, one tensor at a time, float64.

Nothing here imports the package. Where the package works with inner products of rows, this module computes the
predicted gradients themselves. Where the package writes derivatives out, this module uses complex steps,
f'(x) = Im f(x + ih) / h, which are exact up to rounding. So the formulas below must work for complex parameters: no
absolute values, no conjugates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]

WIDTH, TOKENS, KEYS, HIDDEN = 8, 3, 64, 8
BETA1, BETA2, EPS = 0.9, 0.999, 1e-4
COMPLEX_STEP = 1e-30


def norm(v: Array) -> Any:
    """The length of a real vector, extended to complex ones: sqrt(sum v^2)."""
    return np.sqrt((v * v).sum())


def cosine(u: Array, v: Array) -> float:
    lengths = norm(u) * norm(v)
    return float((u * v).sum() / lengths) if lengths > 0 else 0.0


def relative(size: float, typical: float) -> float:
    return (size - typical) / (size + typical) if typical > 0 else -1.0


def of_length(v: Array, length: float) -> Array:
    return v * (length / norm(v))


def complex_step(f: Callable[[Array], Any], x: Array) -> Array:
    """The derivative of f at x, one entry after the other."""
    derivative = np.zeros(len(x))
    for k in range(len(x)):
        moved = x.astype(complex)
        moved[k] += 1j * COMPLEX_STEP
        derivative[k] = np.imag(f(moved)) / COMPLEX_STEP
    return derivative


def squared_distance_of_directions(u: Array, v: Array) -> Any:
    gap = u / norm(u) - v / norm(v)
    return (gap * gap).sum()


# ---- GC-W: rows attend to rows -----------------------------------------------------------------------------------


@dataclass
class Past:
    """What is known about one tensor at one step: its gradient and memory, as (rows, entries)."""

    gradient: Array
    memory: Array

    @cached_property
    def tokens(self) -> Array:
        """(rows, 3): each row compared with its past and with the other rows."""
        rows = len(self.gradient)
        typical = [float(norm(m)) / math.sqrt(rows) for m in (self.gradient, self.memory)]
        return np.array(
            [
                [relative(norm(g), typical[0]), relative(norm(m), typical[1]), cosine(g, m)]
                for g, m in zip(self.gradient, self.memory, strict=True)
            ]
        )

    @cached_property
    def seen(self) -> Array:
        """(keys, 3): what the rows attend to."""
        return averages_over_blocks(self.tokens)

    def scaled_memory(self) -> Array:
        """The memory, scaled to the length of the gradient."""
        length = norm(self.memory)
        return self.memory * (norm(self.gradient) / length) if length > 0 else self.memory


def averages_over_blocks(tokens: Array) -> Array:
    """At most KEYS tokens, each the mean over a block of neighboring rows (blocks share a row where they have to)."""
    rows = len(tokens)
    count = min(rows, KEYS)
    blocks = [range(i * rows // count, -((i + 1) * rows // -count)) for i in range(count)]
    return np.array([tokens[list(block)].mean(axis=0) for block in blocks])


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.real.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cut(theta: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    pieces, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        pieces.append(theta[start : start + size].reshape(shape))
        start += size
    assert start == len(theta)
    return pieces


ATTENTION = [(TOKENS, WIDTH), (WIDTH,), (TOKENS, WIDTH), (TOKENS, 2), (TOKENS, 2), (2,), (1,)]


def attention_offset(theta: Array, past: Past) -> Array:
    """The direction in which GC-W expects the next gradient to differ, scaled to the length of the gradient."""
    w_q, b_q, w_k, w_s, w_v, b_v, _ = cut(theta, ATTENTION)
    x = past.tokens
    seen = past.seen
    attention = softmax((x @ w_q + b_q) @ (seen @ w_k).T / math.sqrt(WIDTH))
    c = x @ w_s + attention @ (seen @ w_v + b_v)
    delta = c[:, :1] * past.gradient + c[:, 1:] * past.scaled_memory()
    return of_length(delta, norm(past.gradient)) if norm(delta) != 0 else delta


def predict_with_attention(theta: Array, past: Past) -> Array:
    gate = theta[-1]
    return of_length(past.gradient + gate * attention_offset(theta, past), norm(past.gradient))


# ---- GC-ODE: an ordinary differential equation in the plane of gradient and memory -------------------------------

ODE = [(3, HIDDEN), (HIDDEN,), (HIDDEN, 2), (1,)]


def midpoint(velocity: Callable[[Array], Array], y: Array) -> Array:
    """y(1) of dy/dtau = velocity(y), y(0) = y, by one step of the explicit midpoint rule."""
    halfway = y + 0.5 * velocity(y)
    return y + velocity(halfway)


def predict_with_ode(theta: Array, past: Past) -> Array:
    w_1, b_1, w_2, gate = cut(theta, ODE)
    known = [cosine(past.gradient, past.memory)]
    y = midpoint(lambda y: gate * (np.tanh(np.concatenate([y, known]) @ w_1 + b_1) @ w_2), np.array([1.0, 0.0]))
    return of_length(y[0] * past.gradient + y[1] * past.scaled_memory(), norm(past.gradient))


# ---- training, safety, and the complete method -------------------------------------------------------------------


def starting_point(shapes: list[tuple[int, ...]]) -> Array:
    """Matrices (inputs, outputs) drawn in order from N(0, 1 / inputs) with torch's generator, seed 0; the rest is 0."""
    rng = torch.Generator().manual_seed(0)
    pieces = [
        torch.randn(shape, generator=rng, dtype=torch.float64) / math.sqrt(shape[0])
        if len(shape) == 2
        else torch.zeros(shape, dtype=torch.float64)
        for shape in shapes
    ]
    return np.concatenate([piece.numpy().ravel() for piece in pieces])


@dataclass
class TrainedPredictor:
    """A predictor's parameters, trained by an Adam of their own to predict the next step's gradient."""

    predict: Callable[[Array, Past], Array]
    theta: Array
    lr: float
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.m, self.v, self.t = np.zeros_like(self.theta), np.zeros_like(self.theta), 0

    def train(self, past: Past, next_gradient: Array) -> None:
        if norm(past.gradient) == 0 or norm(next_gradient) == 0:
            return  # no direction to train on
        loss = lambda theta: squared_distance_of_directions(self.predict(theta, past), next_gradient)  # noqa: E731
        derivative = complex_step(loss, self.theta)
        self.losses.append(float(loss(self.theta)))
        self.t += 1
        self.m = BETA1 * self.m + (1 - BETA1) * derivative
        self.v = BETA2 * self.v + (1 - BETA2) * derivative**2
        m_hat, v_hat = self.m / (1 - BETA1**self.t), self.v / (1 - BETA2**self.t)
        self.theta = self.theta - self.lr * m_hat / (np.sqrt(v_hat) + EPS)


def make_safe(corrected: Array, g: Array, min_cosine: float) -> Array:
    """Scaled to the length of g, and turned back toward g in their common plane if their angle is too wide."""
    length = float(norm(g))
    if length == 0 or norm(corrected) == 0 or not np.isfinite(corrected).all():
        return g
    c = cosine(corrected, g)
    if c >= min_cosine:
        return of_length(corrected, length)
    across = corrected - c * norm(corrected) * g / length
    if 1 - c * c <= 8 * np.finfo(float).eps:
        return g
    return length * (min_cosine * g / length + math.sqrt(1 - min_cosine**2) * across / norm(across))


@dataclass
class GradientCorrection:
    """g -> g' for a list of tensors, each with its memory and its own predictors."""

    gcw_strength: float = 0.1
    gcode_strength: float = 0.1
    history_decay: float = 0.9
    min_cosine: float = 0.5
    predictor_lr: float = 0.01
    train_every: int = 4
    memories: dict[int, Array] = field(default_factory=dict)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    kept: dict[int, Past] = field(default_factory=dict)
    gcw: dict[int, TrainedPredictor] = field(default_factory=dict)
    gcode: dict[int, TrainedPredictor] = field(default_factory=dict)
    plain_cosines: list[float] = field(default_factory=list)
    corrected_cosines: list[float] = field(default_factory=list)

    def transform(self, grads: list[Any]) -> list[Any]:
        """The corrected gradients of one step; None stays None."""
        return [None if g is None else self._correct(i, g) for i, g in enumerate(grads)]

    def _correct(self, i: int, grad: Array) -> Array:
        if grad.ndim < 2 or len(grad) < 2 or not np.isfinite(grad).all():
            return grad
        if self.gcw_strength == 0 and self.gcode_strength == 0:
            return grad
        g = grad.reshape(len(grad), -1)
        self.seen[i] = self.seen.get(i, 0) + 1
        if self.seen[i] == 1:
            self.memories[i], self.shapes[i] = g, grad.shape
            self.gcw[i] = TrainedPredictor(predict_with_attention, starting_point(ATTENTION), self.predictor_lr)
            self.gcode[i] = TrainedPredictor(predict_with_ode, starting_point(ODE), self.predictor_lr)
            return grad
        if self.seen[i] % self.train_every == 0 and i in self.kept:
            self._train(i, g)
        self.memories[i] = self.history_decay * self.memories[i] + (1 - self.history_decay) * g
        past = Past(g, self.memories[i])
        if (self.seen[i] + 1) % self.train_every == 0:
            self.kept[i] = past
        return self._corrected(i, past).reshape(grad.shape)

    def _train(self, i: int, next_gradient: Array) -> None:
        """Trains the predictors on this gradient, which they predicted from the previous one."""
        past = self.kept[i]
        if norm(past.gradient) > 0 and norm(next_gradient) > 0:
            self.plain_cosines.append(cosine(past.gradient, next_gradient))
            self.corrected_cosines.append(cosine(self._corrected(i, past), next_gradient))
        if self.gcw_strength > 0:
            self.gcw[i].train(past, next_gradient)
        if self.gcode_strength > 0:
            self.gcode[i].train(past, next_gradient)

    def _corrected(self, i: int, past: Past) -> Array:
        """g' = g + alpha GC_W(g) + beta GC_ODE(g), made safe."""
        g = past.gradient
        if norm(g) == 0:
            return g
        gc_w = predict_with_attention(self.gcw[i].theta, past) - g
        gc_ode = predict_with_ode(self.gcode[i].theta, past) - g
        return make_safe(g + self.gcw_strength * gc_w + self.gcode_strength * gc_ode, g, self.min_cosine)

    def state(self, i: int) -> dict[str, Array]:
        """What the optimizer must hold in its state for tensor i."""
        if self.seen.get(i, 0) < 2:
            return {}
        state: dict[str, Array] = {"memory": self.memories[i].reshape(self.shapes[i])}
        if i in self.kept:
            state["last"] = self.kept[i].gradient.reshape(self.shapes[i])
        for name, strength in (("gcw", self.gcw_strength), ("gcode", self.gcode_strength)):
            if strength > 0:
                predictor = getattr(self, name)[i]
                state[name] = np.stack([predictor.theta, predictor.m, predictor.v])
                state[f"{name}_steps"] = np.array([float(predictor.t)])
        return state
