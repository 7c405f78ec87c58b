r"""Symmetric kernels with sum 1: how they start, when they keep a direction of descent, and how they are made to.

A kernel of size :math:`k = 2r + 1` is kept as :math:`\theta = (w_0, w_1, \dots, w_r)`, from the center outward, since
only the symmetric part of a kernel decides about descent. Tensors hold many of them, as (..., r + 1). The transform
:math:`\hat w(\omega) = w_0 + 2 \sum_m w_m \cos m\omega` is what a kernel multiplies the frequency :math:`\omega` with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from advanced_optimizers._checks import check_iterable, check_range, unknown_name

# How many frequencies are looked at for kernels of more than five taps, whose least gain has no simple closed form.
FREQUENCIES = 512
# How far the sum of a given kernel may be from 1, and its two halves from each other.
TOLERANCE = 1e-6


def counts(theta: Tensor) -> Tensor:
    """How many taps each number of a kernel stands for: (r + 1,), one center and two of every other."""
    n = torch.full_like(theta[(0,) * (theta.dim() - 1)], 2.0)
    n[0] = 1.0
    return n


def total(theta: Tensor) -> Tensor:
    """The sum of all taps, (..., 1)."""
    return 2.0 * theta.sum(dim=-1, keepdim=True) - theta[..., :1]


def all_taps(theta: Tensor) -> Tensor:
    """The kernel from its left end to its right, (..., k)."""
    return torch.cat([theta[..., 1:].flip(-1), theta], dim=-1)


# ---- where a kernel starts ---------------------------------------------------------------------------------------


def uniform(size: int) -> tuple[float, ...]:
    """The box: ``size`` equal taps."""
    return (1.0 / size,) * (size // 2 + 1)


def gaussian(size: int) -> tuple[float, ...]:
    """A sampled Gaussian of standard deviation size / 5: at five taps 1.0, below the limit of 1.2011 for descent."""
    values = [math.exp(-0.5 * (5.0 * m / size) ** 2) for m in range(size // 2 + 1)]
    scale = 2.0 * sum(values) - values[0]
    return tuple(value / scale for value in values)


def identity(size: int) -> tuple[float, ...]:
    """The kernel that changes nothing."""
    return (1.0, *[0.0] * (size // 2))


NAMED = {"uniform": uniform, "gaussian": gaussian, "identity": identity}


def start_of(kernel: str | Sequence[float] | None, size: int, default: str) -> tuple[float, ...]:
    """The kernel to start with, from the center outward.

    Args:
        kernel: One of ``NAMED``, or all taps from left to right; None stands for ``default``.
        size: The number of taps, odd.
        default: One of ``NAMED``.

    Raises:
        TypeError: ``kernel`` is neither a name nor a list of numbers.
        ValueError: The name is unknown; or the taps are not ``size`` in number, not symmetric, negative, or do not sum
            to 1.
    """
    if kernel is None or isinstance(kernel, str):
        name = default if kernel is None else kernel
        if name not in NAMED:
            raise unknown_name("kernel", name, NAMED)
        return NAMED[name](size)
    taps = kernel.tolist() if isinstance(kernel, Tensor) and kernel.dim() == 1 else kernel
    taps = [check_range("kernel", tap, low=0.0) for tap in check_iterable("kernel", taps, "taps")]
    if len(taps) != size:
        raise ValueError(f"kernel must have kernel_size={size} taps, got {len(taps)}: {kernel!r}")
    if any(abs(left - right) > TOLERANCE for left, right in zip(taps, reversed(taps), strict=True)):
        raise ValueError(f"kernel must be symmetric, got {kernel!r}")
    if not abs(sum(taps) - 1.0) <= TOLERANCE:
        raise ValueError(f"kernel must have the sum 1, got {sum(taps)!r} for {kernel!r}")
    return tuple(taps[size // 2 :])


@lru_cache(maxsize=256)
def constant(theta: tuple[float, ...], min_gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A starting kernel as a tensor (r + 1,), kept a descent kernel; nobody may write to it."""
    with torch.inference_mode(False):
        wide = torch.tensor(theta, dtype=torch.float64)
        return with_least_gain(wide, min_gain).to(device=device, dtype=dtype)


# ---- descent -----------------------------------------------------------------------------------------------------


def least_gain(theta: Tensor) -> Tensor:
    r""":math:`\min_\omega \hat w(\omega)`, (...,): :math:`\langle g, Wg \rangle > 0` for every g iff it is positive.

    Up to five taps in closed form. With :math:`c = \cos\omega`, five taps give
    :math:`\hat w = w_0 - 2 w_2 + 2 w_1 c + 4 w_2 c^2`: the least of its values at :math:`c = \pm 1` and, where that
    lies between them, at :math:`c = -w_1 / 4 w_2`.
    """
    radius = theta.shape[-1] - 1
    if radius > 2:
        return _gains(radius, theta.dtype, theta.device).matmul(theta.unsqueeze(-1)).squeeze(-1).amin(dim=-1)
    low = theta[..., 0] - 2.0 * theta[..., 1] if radius else theta[..., 0]
    if radius == 2:
        w0, w1, w2 = theta.unbind(-1)
        low = low + 2.0 * w2
        has_middle = (w2 > 0.0) & (w1.abs() < 4.0 * w2)
        middle = w0 - 2.0 * w2 - w1.square() / (4.0 * torch.where(has_middle, w2, 1.0))
        low = torch.where(has_middle, torch.minimum(low, middle), low)
    return torch.minimum(low, total(theta).squeeze(-1))


@lru_cache(maxsize=32)
def _gains(radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    omega = torch.linspace(0.0, math.pi, FREQUENCIES, dtype=torch.float64)
    gains = torch.cos(torch.outer(omega, torch.arange(radius + 1, dtype=torch.float64)))
    gains[:, 1:] *= 2.0
    return gains.to(device=device, dtype=dtype)


def with_least_gain(theta: Tensor, min_gain: float) -> Tensor:
    r"""The kernel, blended with the identity just enough for :math:`\hat w \ge` ``min_gain`` everywhere.

    The blend :math:`(1 - t)\theta + t\delta` has the transform :math:`(1 - t)\hat w + t`, so
    :math:`t = (\epsilon - \min\hat w) / (1 - \min\hat w)` is the least t that suffices. A kernel that needs none is
    returned as it is, bit for bit. Every kernel of non-negative taps with sum 1 has a least gain of at least -1.
    """
    if min_gain <= -1.0:
        return theta
    least = least_gain(theta).unsqueeze(-1)
    short = least < min_gain
    t = torch.where(short, (min_gain - least) / torch.where(short, 1.0 - least, 1.0), 0.0)
    blended = theta * (1.0 - t)
    blended[..., :1] += t
    return torch.where(short, blended, theta)


def onto_simplex(theta: Tensor) -> Tensor:
    """Taps below 0 become 0 and the sum becomes 1; where no tap is left, the box."""
    taps = theta.clamp(min=0.0)
    of_all = total(taps)
    size = 2 * theta.shape[-1] - 1
    return torch.where(of_all > 0.0, taps / torch.where(of_all > 0.0, of_all, 1.0), 1.0 / size)
