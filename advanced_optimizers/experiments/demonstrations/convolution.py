r"""Symmetric kernels along a line: what they do to each frequency, where the rules for them lead, and what that needs.

A kernel has an odd number k of taps, from left to right, of sum 1. On a long line it multiplies the frequency
:math:`\omega` with :math:`\hat w(\omega) = w_0 + 2 \sum_m w_m \cos m\omega`. Along an axis on which a gradient is
white, with the same power at all frequencies, everything follows from two numbers: :math:`w_0` and :math:`|w|`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize_scalar

from advanced_optimizers._checks import check_integer, check_range

Array = NDArray[np.float64]

# What a kernel moves toward the box after a loss that did not fall.
_TOWARD_BOX = 0.1


def gain(taps: Sequence[float], frequencies: Array) -> Array:
    r""":math:`\hat w(\omega)` of a symmetric kernel, for frequencies from 0 to pi."""
    w = np.asarray(taps, dtype=np.float64)
    distances = np.arange(len(w)) - len(w) // 2
    return np.cos(np.outer(frequencies, distances)) @ w


def box(size: int) -> Array:
    """Equal taps."""
    return np.full(size, 1.0 / size)


def softmax_of_a_gaussian(size: int, sigma: float) -> Array:
    """The softmax of the *values* of a normalized Gaussian: since these are all small, nearly a box."""
    values = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    powers = np.exp(values / values.sum())
    return powers / powers.sum()


def least_eigenvalue(taps: Sequence[float], n: int, padding: str) -> float:
    """The least of <g, Wg> / <g, g> on a line of n elements: where it is negative, W turns some gradient around.

    Args:
        taps: A kernel.
        n: The length of the line.
        padding: A mode of ``scipy.ndimage``: ``reflect`` is half-sample symmetric, ``mirror`` is torch's ``reflect``.
    """
    matrix = ndimage.correlate1d(np.eye(check_integer("n", n, low=1)), taps, axis=0, mode=padding)
    return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[0])


class OnWhite(NamedTuple):
    """What a kernel does to a white gradient, on the average.

    Attributes:
        length: |Wg| / |g| = |w|.
        cosine: cos(g, Wg) = w_0 / |w|.
        useful: The product of both, w_0: how far along g the step still goes.
    """

    length: float
    cosine: float
    useful: float


def on_white(taps: Sequence[float]) -> OnWhite:
    """The three numbers of a kernel of one axis; for two axes each is the product of both axes' numbers."""
    w = np.asarray(taps, dtype=np.float64)
    center, norm = float(w[len(w) // 2]), float(np.linalg.norm(w))
    return OnWhite(length=norm, cosine=center / norm, useful=center)


# ---- where the rules lead ------------------------------------------------------------------------------------------


def white_side_tap(smoothness: float, size: int = 5) -> float:
    r"""The side taps u that minimize :math:`-\cos(g, Wg) + \lambda \mathrm{Var}(Wg) / \mathrm{Var}(g)` for a white g.

    For a given center, |w| is least with equal side taps, so the kernel is (..., u, 1 - (k - 1) u, u, ...), and the
    loss is :math:`-w_0 / |w| + \lambda |w|^2`.

    Args:
        smoothness: lambda >= 0.
        size: k, odd.
    """
    check_range("smoothness", smoothness, low=0.0)
    sides = check_integer("size", size, low=3) - 1

    def loss(u: float) -> float:
        center = 1.0 - sides * u
        squares = center**2 + sides * u**2
        return float(-center / np.sqrt(squares) + smoothness * squares)

    found = minimize_scalar(loss, bounds=(0.0, 1.0 / size), method="bounded", options={"xatol": 1e-10})
    return float(found.x)


def expected_center(kernel_lr: float, size: int = 5, fell: float = 0.5) -> float:
    r"""Where the center of a kernel settles that follows the loss: the fixed point of its rule's expectation.

    The center c becomes :math:`(c + \kappa) / (1 + \kappa)` with the probability p that the loss fell, and
    :math:`0.9\, c + 0.1 / k` otherwise.

    Args:
        kernel_lr: kappa >= 0.
        size: k, odd.
        fell: p, in [0, 1].
    """
    check_range("kernel_lr", kernel_lr, low=0.0)
    check_range("fell", fell, low=0.0, high=1.0)
    rises, kept = fell / (1.0 + kernel_lr), (1.0 - fell) * (1.0 - _TOWARD_BOX)
    if rises + kept >= 1.0:
        raise ValueError(f"kernel_lr={kernel_lr!r} never moves the center when fell={fell!r}")
    return (rises * kernel_lr + (1.0 - fell) * _TOWARD_BOX / size) / (1.0 - rises - kept)


def needed_share(center: float, kernel_lr: float, size: int = 5) -> float:
    """The share of losses that must fall for the center to settle at a value in [1 / size, 1]; see above."""
    check_range("center", center, low=1.0 / size, high=1.0)
    up = kernel_lr * (1.0 - center) / (1.0 + kernel_lr)
    down = _TOWARD_BOX * (center - 1.0 / size)
    return down / (up + down)
