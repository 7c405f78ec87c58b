"""The convolutional optimizers as their published code has them, written from its formulas, for its own numbers.

They differ from the description in the same README and from the package; ``advanced_optimizers.convolutional`` names
the departures. Everything is float64 and slow. :class:`AsPublished` trains a torch model with one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

Array = NDArray[np.float64]

DIFFERENCE = 1e-4  # the step of numerical derivatives
SMALL = 1e-8  # a norm below it counts as zero


def mirrored(g: Array, w: Array) -> Array:
    """A tensor as one line, correlated with the taps; whole-sample mirror padding, d c b | a b c d | c b a."""
    if g.size < len(w):
        return g
    return ndimage.correlate1d(g.reshape(-1), w, mode="mirror").reshape(g.shape)


def cosine(a: Array, b: Array) -> float:
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    return 1.0 if min(lengths) < SMALL else float(np.vdot(a, b) / (lengths[0] * lengths[1]))


class PublishedTransform(Protocol):
    def transform(self, grads: list[Array | None]) -> list[Array | None]: ...

    def hear(self, loss: float) -> None: ...


class PublishedConvolutionalSGD:
    """One kernel, starting as the box. No kernel is kept from turning a gradient around."""

    def __init__(self, kernel_size: int = 3, adaptive_kernel: bool = True, kernel_lr: float = 0.001) -> None:
        self.w = np.full(kernel_size, 1.0 / kernel_size)
        self.adaptive_kernel, self.kernel_lr = adaptive_kernel, kernel_lr
        self.last: float | None = None
        self.history = [self.w.copy()]

    def transform(self, grads: list[Array | None]) -> list[Array | None]:
        return [None if g is None else mirrored(g, self.w) for g in grads]

    def hear(self, loss: float) -> None:
        """A loss that fell sharpens the kernel; one that did not blends it with the box, which smooths more."""
        if self.adaptive_kernel and self.last is not None:
            if loss < self.last:
                self.w = self.w + self.kernel_lr * (np.arange(len(self.w)) == len(self.w) // 2)
            else:
                self.w = 0.9 * self.w + 0.1 / len(self.w)
            self.w = self.w / self.w.sum()
            self.history.append(self.w.copy())
        self.last = loss


class PublishedLocalLossConvSGD:
    """A kernel for each tensor: central differences of -cos + lambda Var(y), the variance in the gradient's units."""

    def __init__(self, kernel_size: int = 3, local_lr: float = 0.001, smoothness_weight: float = 0.1) -> None:
        self.size, self.local_lr, self.smoothness_weight = kernel_size, local_lr, smoothness_weight
        self.kernels: dict[int, Array] = {}
        self.losses: dict[int, list[float]] = {}

    def transform(self, grads: list[Array | None]) -> list[Array | None]:
        return [None if g is None else self._smooth(i, g) for i, g in enumerate(grads)]

    def _smooth(self, i: int, g: Array) -> Array:
        if g.size < self.size:
            return g
        w = self.kernels.setdefault(i, np.full(self.size, 1.0 / self.size))
        y = mirrored(g, w)
        self.losses.setdefault(i, []).append(self.loss(g, w))
        slopes = [
            (self.loss(g, w + DIFFERENCE * e) - self.loss(g, w - DIFFERENCE * e)) / (2 * DIFFERENCE)
            for e in np.eye(self.size)
        ]
        moved = np.maximum(w - self.local_lr * np.array(slopes), 0.0)
        self.kernels[i] = moved / moved.sum() if moved.any() else np.full(self.size, 1.0 / self.size)
        return y

    def loss(self, g: Array, w: Array) -> float:
        y = mirrored(g, w / w.sum())
        return -cosine(g, y) + self.smoothness_weight * float(y.var(ddof=1))

    def hear(self, loss: float) -> None:
        """Nothing depends on it."""


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


class PublishedConvolutionalSGDv2:
    """One kernel of one axis and one of two, shared by all tensors, as the softmax of free values.

    They start as the values of a normalized Gaussian, whose softmax is nearly a box. On every fifth gradient of a
    tensor they descend MSE(y, s) - cos(y, g) / 2 by central differences, one value after the other, tensor after
    tensor; s is the average of the gradients including the present one. From filters nothing is learned.
    """

    EVERY = 5
    DIFFERENCE = 1e-3

    def __init__(self, kernel_size: int = 3, kernel_lr: float = 0.01, noise_estimation_momentum: float = 0.99) -> None:
        self.size = kernel_size + (kernel_size % 2 == 0)  # even sizes are enlarged without a word
        self.kernel_lr, self.beta = kernel_lr, noise_estimation_momentum
        line = np.exp(-0.5 * ((np.arange(self.size) - self.size // 2) / (self.size / 4)) ** 2)
        self.values = {1: line / line.sum(), 2: np.outer(line, line) / line.sum() ** 2}
        self.signals: dict[int, Array] = {}
        self.steps: dict[int, int] = {}

    def kernel(self, axes: int) -> Array:
        values = self.values[axes]
        return softmax(values.reshape(-1)).reshape(values.shape)

    def transform(self, grads: list[Array | None]) -> list[Array | None]:
        return [None if g is None else self._smooth(i, g) for i, g in enumerate(grads)]

    def _smooth(self, i: int, g: Array) -> Array:
        self.steps[i] = self.steps.get(i, 0) + 1
        old = self.signals.get(i)
        self.signals[i] = g.copy() if old is None else self.beta * old + (1 - self.beta) * g
        axes = self.axes_of(g)
        if axes == 0:
            return g
        y = self.smooth(g, axes)
        if self.steps[i] % self.EVERY == 0 and (axes == 1 or g.ndim == 2):
            self._learn(g, self.signals[i], axes)
        return y

    def axes_of(self, g: Array) -> int:
        """Two for a matrix, and for filters no smaller than the kernel; so never for 3 x 3 filters and five taps."""
        sides = g.shape if g.ndim == 2 else g.shape[2:] if g.ndim == 4 else ()
        if sides and min(sides) >= self.size:
            return 2
        return 1 if g.size >= self.size else 0

    def smooth(self, g: Array, axes: int) -> Array:
        if axes == 1:
            return mirrored(g, self.kernel(1))
        planes = g.reshape(-1, *g.shape[-2:])
        smoothed = np.stack([ndimage.correlate(plane, self.kernel(2), mode="mirror") for plane in planes])
        return smoothed.reshape(g.shape)

    def loss(self, g: Array, s: Array, axes: int) -> float:
        y = self.smooth(g, axes)
        return float(np.square(y - s).mean()) - 0.5 * cosine(y, g)

    def _learn(self, g: Array, s: Array, axes: int) -> None:
        values = self.values[axes].reshape(-1)
        for k in range(values.size):
            here = values[k]
            values[k] = here + self.DIFFERENCE
            above = self.loss(g, s, axes)
            values[k] = here - self.DIFFERENCE
            below = self.loss(g, s, axes)
            values[k] = here - self.kernel_lr * (above - below) / (2 * self.DIFFERENCE)

    def hear(self, loss: float) -> None:
        """Nothing depends on it."""


class AsPublished(torch.optim.SGD):
    """SGD with gradients that one of the transforms above has smoothed.

    Args:
        params: A model's parameters.
        transform: One of the classes above, with its settings.
        lr: The published default.
        momentum: The published default.
    """

    def __init__(
        self, params: Iterable[Tensor], transform: PublishedTransform, lr: float = 0.01, momentum: float = 0.9
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum)
        self.transform = transform

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; the loss that the closure returns is heard after it."""
        loss = math.nan
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params = [p for group in self.param_groups for p in group["params"]]
        kept = [p.grad for p in params]
        smoothed = self.transform.transform([None if g is None else g.double().numpy() for g in kept])
        for p, y in zip(params, smoothed, strict=True):
            p.grad = None if y is None else torch.from_numpy(np.ascontiguousarray(y)).to(p.dtype)
        super().step()
        for p, g in zip(params, kept, strict=True):
            p.grad = g
        if closure is not None:
            self.transform.hear(float(loss))
        return None if closure is None else loss
