"""The convolutional optimizers, written as plainly as their formulas: explicit matrices, one tensor at a time.

Nothing here imports the package. W is a dense matrix, built element by element from half-sample symmetric padding. The
kernel's gradient goes through dL/dy, an array as large as the gradient.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


# ---- kernels, as theta = (w0, w1, ..., wr), from the center outward ----------------------------------------------


def counts(theta: Array) -> Array:
    """How many taps each number stands for: one center, two of every other."""
    return np.array([1.0] + [2.0] * (len(theta) - 1))


def uniform(size: int) -> Array:
    return np.full(size // 2 + 1, 1.0 / size)


def gaussian(size: int) -> Array:
    """Sampled with standard deviation size / 5, sum 1."""
    theta = np.exp(-0.5 * (np.arange(size // 2 + 1) / (size / 5)) ** 2)
    return theta / (counts(theta) @ theta)


def gain(theta: Array, omega: float) -> float:
    """The kernel's Fourier transform at a frequency."""
    return float(sum(n * w * math.cos(m * omega) for m, (n, w) in enumerate(zip(counts(theta), theta, strict=True))))


def least_gain(theta: Array) -> float:
    """By looking at many frequencies, then at many near the best; past five taps at 512, as the definition says."""
    n, taps = counts(theta), len(theta)

    def gains(omega: Array) -> Array:
        return sum((c * w * np.cos(m * omega) for m, (c, w) in enumerate(zip(n, theta, strict=True))), 0 * omega)

    omega = np.linspace(0.0, math.pi, 512 if taps > 3 else 2001)
    for _ in range(0 if taps > 3 else 8):
        best = int(np.argmin(gains(omega)))
        omega = np.linspace(omega[max(best - 1, 0)], omega[min(best + 1, len(omega) - 1)], 101)
    return float(gains(omega).min())


def with_least_gain(theta: Array, wanted: float) -> Array:
    """The least blend with the identity whose transform is nowhere below ``wanted``."""
    least = least_gain(theta)
    if wanted <= -1.0 or least >= wanted:
        return theta
    t = (wanted - least) / (1.0 - least)
    identity = np.zeros_like(theta)
    identity[0] = 1.0
    return (1.0 - t) * theta + t * identity


# ---- smoothing ---------------------------------------------------------------------------------------------------


def reflected(j: int, n: int) -> int:
    """The index within 0..n-1 that half-sample symmetric padding (c b a | a b c | c b a) shows at place j."""
    while not 0 <= j < n:
        j = -1 - j if j < 0 else 2 * n - 1 - j
    return j


@functools.cache
def neighbors(n: int, m: int) -> Array:
    """B_m: the sum of the elements m to the left and m to the right; B_0 is the identity."""
    b = np.zeros((n, n))
    for i in range(n):
        for j in {i - m, i + m} if m else {i}:
            b[i, reflected(j, n)] += 1.0
    return b


def smoothing_matrix(n: int, theta: Array) -> Array:
    return sum((w * neighbors(n, m) for m, w in enumerate(theta)), np.zeros((n, n)))


def along(matrix: Array, x: Array, axis: int) -> Array:
    return np.moveaxis(np.tensordot(matrix, x, axes=(1, axis)), 0, axis)


def smoothed_axes(shape: tuple[int, ...], axes: tuple[int, ...] | None, size: int) -> tuple[int, ...] | None:
    """Which axes of a tensor are smoothed, () for all of it as one line, None for a tensor that is left as it is."""
    numel = math.prod(shape)
    if size == 1 or numel == 0:
        return None
    if axes is None:
        return () if numel >= max(size, 2) else None
    wanted = [axis for axis in axes if len(shape) >= 2 and not (len(shape) == 3 and axis == -2)]
    kept = tuple(axis for axis in wanted if shape[axis] > 1)
    return kept or None


def smooth(x: Array, axes: tuple[int, ...], thetas: list[Array]) -> Array:
    if axes == ():
        return (smoothing_matrix(x.size, thetas[0]) @ x.reshape(-1)).reshape(x.shape)
    for axis, theta in zip(axes, thetas, strict=True):
        x = along(smoothing_matrix(x.shape[axis], theta), x, axis)
    return x


# ---- the kernel's loss -------------------------------------------------------------------------------------------


def cosine(a: Array, b: Array) -> float:
    return float(np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def kernel_loss(g: Array, y: Array, s: Array | None, smoothness: float, signal: float) -> float:
    """-cos(g, y) + lambda Var(y) / Var(g) - rho cos(s, y)."""
    loss = -cosine(g, y) + smoothness * y.var() / g.var()
    return loss if s is None or not s.any() else loss - signal * cosine(s, y)


def loss_gradient(g: Array, y: Array, s: Array | None, smoothness: float, signal: float) -> Array:
    """dL/dy, element by element."""

    def of_cosine(a: Array) -> Array:
        length = np.linalg.norm(y)
        return a / (np.linalg.norm(a) * length) - cosine(a, y) * y / length**2

    grad = -of_cosine(g) + smoothness * 2 * (y - y.mean()) / (y.size * g.var())
    return grad if s is None or not s.any() else grad - signal * of_cosine(s)


def kernel_gradients(
    g: Array, s: Array | None, axes: tuple[int, ...], thetas: list[Array], smoothness: float, signal: float
) -> list[Array]:
    """dL/dtheta for each axis, with the other axis' kernel held: the sum over elements of dL/dy (B_m x)."""
    upstream = loss_gradient(g, smooth(g, axes, thetas), s, smoothness, signal)
    found = []
    for i, theta in enumerate(thetas):
        if axes == ():
            x, up, axis = g.reshape(-1), upstream.reshape(-1), 0
        else:
            others = axes[:i] + axes[i + 1 :]
            x = smooth(g, others, thetas[:i] + thetas[i + 1 :]) if others else g
            up, axis = upstream, axes[i]
        found.append(np.array([np.vdot(up, along(neighbors(x.shape[axis], m), x, axis)) for m in range(len(theta))]))
    return found


def stepped(theta: Array, gradient: Array, lr: float, least: float, through_normalization: bool) -> Array:
    """One step of the taps, back to non-negative taps with sum 1, and to a descent kernel."""
    n = counts(theta)
    taps = gradient / n
    taps = taps - ((n * theta) @ taps if through_normalization else (n @ taps) / n.sum())
    w = np.maximum(theta - lr * taps, 0.0)
    w = w / (n @ w) if w.any() else uniform(int(n.sum()))
    return with_least_gain(w, least)


# ---- the transforms ----------------------------------------------------------------------------------------------


@dataclass
class ConvolutionalSGD:
    """Smoothing with one kernel, which moves with the loss where there is one."""

    kernel_size: int = 3
    adaptive_kernel: bool = True
    kernel_lr: float = 0.001
    kernel: list[float] | None = None
    axes: tuple[int, ...] | None = None
    min_gain: float = 0.01
    norm_preserving: bool = False
    last: float = math.nan

    def __post_init__(self) -> None:
        self.theta = (
            uniform(self.kernel_size) if self.kernel is None else np.array(self.kernel[self.kernel_size // 2 :])
        )

    def transform(self, grads: list[Array | None]) -> list[Array | None]:
        theta = with_least_gain(self.theta, self.min_gain)
        return [None if g is None else self.smooth(g, theta) for g in grads]

    def smooth(self, g: Array, theta: Array) -> Array:
        axes = smoothed_axes(g.shape, self.axes, self.kernel_size)
        if axes is None:
            return g
        y = smooth(g, axes, [theta] * max(1, len(axes)))
        return y * np.linalg.norm(g) / np.linalg.norm(y) if self.norm_preserving and y.any() else y

    def hear(self, loss: float) -> None:
        """The published rule: sharper after a loss that fell, toward the box after one that did not."""
        if not (math.isnan(loss) or math.isnan(self.last)):
            if loss < self.last:
                self.theta = self.theta + self.kernel_lr * (np.arange(len(self.theta)) == 0)
            else:
                self.theta = 0.9 * self.theta + 0.1 / self.kernel_size
            self.theta = self.theta / (counts(self.theta) @ self.theta)
        self.last = self.last if math.isnan(loss) else loss


@dataclass
class LearnedKernels:
    """Smoothing with kernels of each tensor's own, which descend their loss. Local: one line, no signal."""

    kernel_size: int = 3
    kernel_lr: float = 0.001
    smoothness_weight: float = 0.1
    signal_weight: float = 0.0
    noise_estimation_momentum: float | None = None
    kernel_every: int = 1
    kernel: list[float] | None = None
    axes: tuple[int, ...] | None = None
    min_gain: float = 0.01
    norm_preserving: bool = False
    through_normalization: bool = True
    start: str = "uniform"
    kernels: dict[int, list[Array]] = field(default_factory=dict)
    signals: dict[int, Array] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)

    def transform(self, grads: list[Array | None]) -> list[Array | None]:
        return [None if g is None else self._smooth(i, g) for i, g in enumerate(grads)]

    def _smooth(self, i: int, g: Array) -> Array:
        axes = smoothed_axes(g.shape, self.axes, self.kernel_size)
        if axes is None:
            return g
        if i not in self.kernels:
            self.kernels[i] = [self._first()] * max(1, len(axes))
        y = smooth(g, axes, self.kernels[i])
        self.seen[i] = self.seen.get(i, 0) + 1
        s = self.signals.get(i)
        if self.kernel_lr > 0 and self.seen[i] % self.kernel_every == 0 and g.var() > 1e-14 * np.square(g).mean():
            gradients = kernel_gradients(g, s, axes, self.kernels[i], self.smoothness_weight, self.signal_weight)
            self.kernels[i] = [
                stepped(theta, d, self.kernel_lr, self.min_gain, self.through_normalization)
                for theta, d in zip(self.kernels[i], gradients, strict=True)
            ]
        beta = self.noise_estimation_momentum
        if beta is not None and self.kernel_lr > 0:
            self.signals[i] = g.copy() if s is None else beta * s + (1 - beta) * g
        return y * np.linalg.norm(g) / np.linalg.norm(y) if self.norm_preserving and y.any() else y

    def _first(self) -> Array:
        if self.kernel is not None:
            theta = np.array(self.kernel[self.kernel_size // 2 :])
        else:
            theta = gaussian(self.kernel_size) if self.start == "gaussian" else uniform(self.kernel_size)
        return with_least_gain(theta, self.min_gain)

    def state(self, i: int) -> dict[str, Array]:
        """What the optimizer must hold of a tensor."""
        own = {"kernel": np.array(self.kernels[i])} if i in self.kernels and self.kernel_lr > 0 else {}
        return {**own, **({"signal": self.signals[i]} if i in self.signals else {})}


def local_loss(local_lr: float = 0.001, **settings: object) -> LearnedKernels:
    """LocalLossConvSGD's settings."""
    return LearnedKernels(kernel_lr=local_lr, **settings)  # type: ignore[arg-type]


def version_2(**settings: object) -> LearnedKernels:
    """ConvolutionalSGDv2's settings."""
    defaults = {
        "kernel_lr": 0.01,
        "noise_estimation_momentum": 0.99,
        "signal_weight": 1.0,
        "kernel_every": 4,
        "axes": (-2, -1),
        "through_normalization": False,
        "start": "gaussian",
    }
    return LearnedKernels(**{**defaults, **settings})  # type: ignore[arg-type]
