"""muP, written as literally as its tables: one formula per tensor, one layer at a time, in float64.

Nothing here imports the package. The tables are the paper's (arXiv 2203.03466), as functions of fan-in and fan-out;
what counts is their ratio to the same formula in the base model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Formula = Callable[[float, float], float]  # of fan-in and fan-out


class Row(NamedTuple):
    multiplier: Formula
    variance: Formula
    sgd: Formula
    adam: Formula


def constant(fan_in: float, fan_out: float) -> float:
    return 1.0


STANDARD = Row(constant, lambda fan_in, fan_out: 1 / fan_in, constant, constant)

HIDDEN = Row(constant, lambda fan_in, fan_out: 1 / fan_in, constant, lambda fan_in, fan_out: 1 / fan_in)

TABLES: dict[int, dict[str, Row]] = {
    3: {
        "input": Row(constant, lambda fan_in, fan_out: 1 / fan_in, lambda fan_in, fan_out: fan_out, constant),
        "output": Row(
            constant,
            lambda fan_in, fan_out: 1 / fan_in**2,
            lambda fan_in, fan_out: 1 / fan_in,
            lambda fan_in, fan_out: 1 / fan_in,
        ),
        "hidden": HIDDEN,
    },
    8: {
        "input": Row(constant, lambda fan_in, fan_out: 1 / fan_in, lambda fan_in, fan_out: fan_out, constant),
        "output": Row(lambda fan_in, fan_out: 1 / fan_in, constant, lambda fan_in, fan_out: fan_in, constant),
        "hidden": HIDDEN,
    },
    9: {
        "input": Row(
            lambda fan_in, fan_out: math.sqrt(fan_out),
            lambda fan_in, fan_out: 1 / fan_out,
            constant,
            lambda fan_in, fan_out: 1 / math.sqrt(fan_out),
        ),
        "output": Row(
            lambda fan_in, fan_out: 1 / math.sqrt(fan_in),
            lambda fan_in, fan_out: 1 / fan_in,
            constant,
            lambda fan_in, fan_out: 1 / math.sqrt(fan_in),
        ),
        "hidden": HIDDEN,
    },
}


@dataclass
class Parameter:
    """One tensor, with what the tables say about it."""

    kind: str  # input, output or hidden; a bias is an input weight with fan-in 1
    fans: tuple[float, float]  # fan-in and fan-out
    base_fans: tuple[float, float]
    value: Array
    grad: Array = field(default_factory=lambda: np.zeros(()))
    memory: dict[str, Array] = field(default_factory=dict)

    def ratio(self, row: Row, column: str) -> float:
        formula: Formula = getattr(row, column)
        return formula(*self.fans) / formula(*self.base_fans)


class SlowMLP:
    """d -> n -> ... -> n -> c with biases and ReLU, in muP; started from the numbers of standard parametrization.

    Args:
        weights: Weight (fan-out, fan-in) and bias of each layer, drawn with variance 1 / fan-in.
        base_sizes: The sizes (d, n0, ..., n0, c) of the base model.
        table: 3, 8 or 9.
    """

    def __init__(self, weights: list[tuple[Array, Array]], base_sizes: list[int], table: int) -> None:
        self.table = table
        self.layers: list[tuple[Parameter, Parameter]] = []
        for i, (weight, bias) in enumerate(weights):
            kind = "input" if i == 0 else "output" if i == len(weights) - 1 else "hidden"
            fan_out, fan_in = weight.shape
            base_in, base_out = base_sizes[i : i + 2]
            w = Parameter(kind, (fan_in, fan_out), (base_in, base_out), weight.copy())
            b = Parameter("input", (1, fan_out), (1, base_out), bias.copy())
            for p in (w, b):
                standard = STANDARD.variance(fan_in, fan_out) / STANDARD.variance(base_in, base_out)
                p.value *= math.sqrt(p.ratio(self.row(p), "variance") / standard)
            self.layers.append((w, b))

    def row(self, p: Parameter) -> Row:
        return TABLES[self.table][p.kind]

    def seen(self, p: Parameter) -> Array:
        """What the forward pass multiplies with."""
        return p.ratio(self.row(p), "multiplier") * p.value

    def loss(self, x: Array, labels: NDArray[np.int64]) -> float:
        """Mean cross-entropy; leaves every parameter's gradient in ``grad``."""
        inputs, before = [], []
        h = x
        for i, (w, b) in enumerate(self.layers):
            inputs.append(h)
            z = h @ self.seen(w).T + self.seen(b)
            before.append(z)
            h = np.maximum(z, 0.0) if i < len(self.layers) - 1 else z
        shifted = h - h.max(axis=1, keepdims=True)
        probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        delta = probabilities.copy()
        delta[rows, labels] -= 1.0
        delta /= len(labels)
        for i in reversed(range(len(self.layers))):
            w, b = self.layers[i]
            w.grad = w.ratio(self.row(w), "multiplier") * (delta.T @ inputs[i])
            b.grad = b.ratio(self.row(b), "multiplier") * delta.sum(axis=0)
            if i > 0:
                delta = (delta @ self.seen(w)) * (before[i - 1] > 0)
        return float(-np.log(probabilities[rows, labels]).mean())

    def parameters(self) -> list[Parameter]:
        return [p for layer in self.layers for p in layer]

    def sgd(self, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        for p in self.parameters():
            own_lr = lr * p.ratio(self.row(p), "sgd")
            own_decay = lr * weight_decay / own_lr  # their product is the same for all
            g = p.grad + own_decay * p.value
            p.memory["momentum"] = momentum * p.memory.get("momentum", np.zeros_like(g)) + g
            p.value = p.value - own_lr * p.memory["momentum"]

    def adam(self, lr: float, t: int, weight_decay: float = 0.0, eps: float = 1e-8, decoupled: bool = False) -> None:
        """Step t, from 1, of Adam with L2 decay, or of AdamW (``decoupled``)."""
        for p in self.parameters():
            own_lr = lr * p.ratio(self.row(p), "adam")
            # Gradients carry this table's multiplier instead of table 8's, so what is compared with them must too.
            units = p.ratio(self.row(p), "multiplier") / p.ratio(TABLES[8][p.kind], "multiplier")
            g = p.grad
            if decoupled:
                p.value = p.value * (1 - lr * weight_decay)
            else:
                g = g + weight_decay / p.ratio(TABLES[8][p.kind], "adam") * units**2 * p.value
            m = p.memory["m"] = 0.9 * p.memory.get("m", np.zeros_like(g)) + 0.1 * g
            v = p.memory["v"] = 0.999 * p.memory.get("v", np.zeros_like(g)) + 0.001 * g * g
            m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
            p.value = p.value - own_lr * m_hat / (np.sqrt(v_hat) + eps * units)
