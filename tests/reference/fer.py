"""The two methods called FER, written as plainly as their formulas: one tensor, one sample, one number at a time.

Nothing here imports the package. The projection onto the cone is found by a search, not from the closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


# ---- gradient-consistency FER: tensor by tensor, float64 ---------------------------------------------------------


def cosine(a: Array, b: Array) -> float:
    """cos(a, b); nan where one of them is zero."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.vdot(a, b) / norms) if norms > 0 else math.nan


def project_on_cone(v: Array, axis: Array, threshold: float) -> Array:
    """The nearest point to v among {u : cos(u, axis) >= threshold} and 0, by a search over the angle to the axis.

    The cone is symmetric around its axis, so the nearest point lies in the plane of v and the axis. There it is
    r (cos phi, sin phi) with phi in [0, arccos threshold]. The search uses a grid over phi, then finer and finer grids.
    """
    unit = axis / np.linalg.norm(axis)
    along = float(np.vdot(v, unit))
    off_axis = v - along * unit
    across = float(np.linalg.norm(off_axis))
    if along >= threshold * math.hypot(along, across):
        return v
    normal = off_axis / across if across > 0 else np.zeros_like(v)

    def nearest_on_ray(phi: float) -> tuple[float, float]:
        x, y = math.cos(phi), math.sin(phi)
        r = max(0.0, along * x + across * y)
        return r * x, r * y

    def squared_distance(phi: float) -> float:
        x, y = nearest_on_ray(phi)
        return (along - x) ** 2 + (across - y) ** 2

    low, high = 0.0, math.acos(threshold)
    for _ in range(14):
        grid = np.linspace(low, high, 33)
        best = int(np.argmin([squared_distance(phi) for phi in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 32)]
    x, y = nearest_on_ray(min((low, high), key=squared_distance))
    return x * unit + y * normal


def consistency_regularizer(theta: Array, start: Array, grad: Array, memory: Array, threshold: float) -> float:
    """R(theta) = 1/2 dist^2(start - (theta - grad), C), with grad and memory held constant."""
    displacement = start - (theta - grad)
    gap = displacement - project_on_cone(displacement, memory, threshold)
    return 0.5 * float(np.vdot(gap, gap))


@dataclass
class ConsistencyFER:
    """g -> g' for a list of tensors, each with its own memory."""

    fer_weight: float = 0.1
    consistency_threshold: float = 0.9
    memory_size: int = 1000
    memories: dict[int, Array] = field(default_factory=dict)
    consistency_history: list[float] = field(default_factory=list)

    def transform(self, grads: list[Array | None]) -> list[Array | None]:
        """The corrected gradients of one step; None stays None."""
        cosines: list[float] = []
        corrected = [None if g is None else self._correct(i, g, cosines) for i, g in enumerate(grads)]
        if cosines:
            self.consistency_history.append(sum(cosines) / len(cosines))
            self.consistency_history = self.consistency_history[-self.memory_size :]
        return corrected

    def _correct(self, i: int, g: Array, cosines: list[float]) -> Array:
        if not np.isfinite(g).all():
            return g
        if i not in self.memories:
            self.memories[i] = g.copy()
            return g
        m = self.memories[i]
        self.memories[i] = (1 - 1 / self.memory_size) * m + (1 / self.memory_size) * g
        c = cosine(g, m)
        if math.isnan(c):
            return g
        cosines.append(c)
        if c >= self.consistency_threshold:
            return g
        return g + self.fer_weight * (project_on_cone(g, m, self.consistency_threshold) - g)


# ---- flipping error reduction (Deng et al., AAAI 2022): sample by sample -----------------------------------------


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    top = max(logits)
    powers = [math.exp((z - top) / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


@dataclass
class FlippingErrorReduction:
    """The loss and the state update of the paper, in Python floats."""

    num_samples: int
    num_classes: int
    total_epochs: int
    temperature: float = 5.0
    gamma: float = 0.1
    mu: float = 1.0
    init_epochs: int = 1

    def __post_init__(self) -> None:
        self.q = [[0.0] * self.num_classes for _ in range(self.num_samples)]
        self.s = [0] * self.num_samples

    def weights(self, epoch: int) -> tuple[float, float]:
        """ce_w falls from about 1 to gamma over the epochs, kd_w rises from about 0 to 1 - gamma."""
        ce_w = self.gamma + (1 - epoch / self.total_epochs) * (1 - self.gamma)
        kd_w = (epoch / self.total_epochs) * (1 - self.gamma)
        return ce_w, kd_w

    def loss(self, epoch: int, logits: list[list[float]], labels: list[int], indices: list[int]) -> float:
        """The batch's loss, with the state from before the batch; then updates the state."""
        ce_w, kd_w = self.weights(epoch)
        total = 0.0
        for z, y, i in zip(logits, labels, indices, strict=True):
            ce = -math.log(softmax(z)[y])
            if epoch > self.init_epochs and self.s[i] == 1:
                soft = softmax(z, self.temperature)
                kd = -sum(self.q[i][c] * math.log(soft[c]) for c in range(self.num_classes))
                total += ce_w * ce + kd_w * self.temperature**2 * kd
            else:
                total += ce
        if epoch >= self.init_epochs:  # the authors' code: in plain training only `if epoch == opt.init`, then always
            for z, y, i in zip(logits, labels, indices, strict=True):
                self._remember(z, y, i)
        return total / len(logits)

    def _remember(self, z: list[float], y: int, i: int) -> None:
        if z.index(max(z)) != y:
            return
        self.s[i] = 1
        w = 1 - math.exp(-self.mu * softmax(z)[y])
        soft = softmax(z, self.temperature)
        self.q[i] = [(1 - w) * self.q[i][c] + w * soft[c] for c in range(self.num_classes)]


# ---- flipping errors over epochs ---------------------------------------------------------------------------------


def flipping_errors(correct_by_epoch: list[list[bool]]) -> tuple[int, float, float]:
    """WFS, RFE and the absolute error after the last of the given epochs."""
    last, earlier = correct_by_epoch[-1], correct_by_epoch[:-1]
    wrong = [i for i, correct in enumerate(last) if not correct]
    flipped = [i for i in wrong if any(epoch[i] for epoch in earlier)]
    relative = len(flipped) / len(wrong) if wrong else math.nan
    return len(flipped), relative, len(flipped) / len(last)
