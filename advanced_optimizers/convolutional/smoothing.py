r"""Smoothing of a gradient along one or two of its axes: :math:`y = Wg` with half-sample symmetric padding.

.. math::
    y_i = \sum_m \theta_m (B_m g)_i, \qquad B_0 = I, \quad (B_m g)_i = g_{i-m} + g_{i+m}

where an index beyond an end is reflected there, ... c b a | a b c | c b a ... (``reflect`` in SciPy, ``symmetric`` in
NumPy). Of the usual paddings this one alone makes W symmetric, keeps constants and the mean, and has no eigenvalue
below the least of the kernel's transform: a cosine transform (DCT-II) diagonalizes it. Zeros lose what is near the
ends; reflection about the last element itself (``reflect`` in torch) makes W unsymmetric, and then a kernel with
:math:`\hat w > 0` need not keep a direction of descent.

Coefficients are tensors, so nothing here waits for the device.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

# Filters of at most this many numbers are smoothed by one product with a matrix of that size.
LARGEST_FILTER = 256
# The product is slow for matrices narrower than this, so several filters are put side by side.
NARROW = 16

Axes = tuple[int, ...] | None


class Seen(NamedTuple):
    """How the kernels see a tensor.

    Attributes:
        shape: (n,) for a tensor taken as one line, (rows, columns) for a matrix, (filters, height, width) for filters.
        axes: The axes of that shape along which it is smoothed.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def are_filters(self) -> bool:
        """Whether one small matrix smooths all filters."""
        return len(self.shape) == 3 and self.shape[1] * self.shape[2] <= LARGEST_FILTER


@lru_cache(maxsize=4096)
def seen_by_kernels(shape: torch.Size, axes: Axes, kernel_size: int) -> Seen | None:
    """How a tensor of a shape is seen, or None where its gradient is left as it is.

    Args:
        shape: The tensor's.
        axes: -2, -1 or both: the rows' axis and the columns' axis of a matrix (output units, input units), or the
            height and width of a convolution's filters. A tensor of fewer than two dimensions has none, and one of
            three (``Conv1d``) only the last. None takes every tensor as one line, the last axis running fastest.
        kernel_size: A line of fewer elements is left as it is.
    """
    numel = math.prod(shape)
    if kernel_size == 1 or numel == 0:
        return None
    if axes is None:
        return Seen((numel,), (0,)) if numel >= max(kernel_size, 2) else None
    if len(shape) < 2:
        return None
    height = 1 if len(shape) == 3 else shape[-2]
    sides = (height, shape[-1])
    seen = sides if len(shape) == 2 else (numel // math.prod(sides), *sides)
    kept = tuple(len(seen) + axis for axis in sorted(axes) if seen[axis] > 1)
    return Seen(seen, kept) if kept else None


def permuted(x: Tensor, order: Tensor, seen: Seen, *, back: bool = False) -> Tensor:
    """The tensor with its smoothed axes in another order, or back in its own."""
    for axis, of_axis in zip(seen.axes, order.split([seen.shape[axis] for axis in seen.axes]), strict=True):
        x = x.index_select(axis, of_axis.argsort() if back else of_axis)
    return x


# ---- one axis ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def neighbor_matrices(n: int, order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    r""":math:`B_0, \dots, B_{order}` on n elements, (order + 1, n, n); nobody may write to it."""
    with torch.inference_mode(False):
        i = torch.arange(n)
        matrices = torch.zeros(order + 1, n, n, dtype=torch.float64)
        for m in range(order + 1):
            for neighbor in (i,) if m == 0 else (i - m, i + m):
                place = neighbor % (2 * n)  # the padded line repeats after 2 n elements, the second half backward
                place = torch.minimum(place, 2 * n - 1 - place)
                matrices[m].index_put_((i, place), torch.ones(n, dtype=torch.float64), accumulate=True)
        return matrices.to(device=device, dtype=dtype)


def smooth_axis(x: Tensor, theta: Tensor, dim: int, out: Tensor) -> Tensor:
    """Smooths ``x`` along ``dim`` into ``out``, which must not share its memory, by shifted slices.

    Args:
        x: Any shape.
        theta: (r + 1,), the kernel from the center outward.
        dim: The axis, >= 0, of n >= 1 elements.
        out: Of the shape of ``x``.
    """
    n = x.shape[dim]
    weights = theta.unbind()
    if n < len(weights) - 1:  # an element's neighbors would be reflected at both ends
        matrix = torch.tensordot(theta, neighbor_matrices(n, len(weights) - 1, x.dtype, x.device), dims=1)
        return out.copy_(torch.tensordot(matrix, x, dims=([1], [dim])).movedim(0, dim))
    torch.mul(x, weights[0], out=out)
    for m, weight in enumerate(weights[1:], start=1):
        if n > m:
            out.narrow(dim, m, n - m).addcmul_(x.narrow(dim, 0, n - m), weight)
            out.narrow(dim, 0, n - m).addcmul_(x.narrow(dim, m, n - m), weight)
        for end in (0, n - m):
            out.narrow(dim, end, m).addcmul_(x.narrow(dim, end, m).flip(dim), weight)
    return out


def smooth_axes(x: Tensor, kernel: Tensor, axes: tuple[int, ...], out: Tensor, between: Tensor | None) -> Tensor:
    """Smooths ``x`` along one axis or two into ``out``.

    Args:
        x: Any shape.
        kernel: (axes, r + 1).
        axes: One or two.
        out: Of the shape of ``x``.
        between: Memory of that shape for the tensor that is smoothed along the second axis alone.
    """
    if len(axes) == 1:
        return smooth_axis(x, kernel[0], axes[0], out)
    half = smooth_axis(x, kernel[1], axes[1], torch.empty_like(x) if between is None else between)
    return smooth_axis(half, kernel[0], axes[0], out)


# ---- filters -----------------------------------------------------------------------------------------------------


def filter_matrices(kernels: Tensor, seen: Seen) -> Tensor:
    """The small matrix of each tensor of filters: (tensors, hw, hw) from the kernels (tensors, axes, r + 1)."""
    _, height, width = seen.shape
    rows, columns = side_matrices(kernels, seen)
    return torch.einsum("tij,tkl->tikjl", rows, columns).reshape(-1, height * width, height * width)


def side_matrices(kernels: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """The matrices of height (tensors, h, h) and of width (tensors, w, w); the identity for an axis left alone."""
    of_axis = dict(zip(seen.axes, kernels.unbind(1), strict=True))
    sides = []
    for dim in (1, 2):
        n = seen.shape[dim]
        if dim in of_axis:
            basis = neighbor_matrices(n, kernels.shape[-1] - 1, kernels.dtype, kernels.device)
            sides.append(torch.tensordot(of_axis[dim], basis, dims=1))
        else:
            one = torch.eye(n, dtype=kernels.dtype, device=kernels.device)
            sides.append(one.expand(len(kernels), n, n))
    return sides[0], sides[1]


def side_by_side(filters: int, numbers: int) -> int:
    """How many filters of so many numbers to put side by side, so that a matrix product over them is not narrow."""
    wanted = -(-NARROW // numbers)
    return wanted if filters % wanted == 0 else 1


def smooth_filters(x: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """Smooths filters (filters, h, w) into ``out`` by their matrix (hw, hw)."""
    together = side_by_side(len(x), len(matrix))
    if together > 1:
        matrix = torch.block_diag(*[matrix] * together)
    torch.mm(x.view(-1, len(matrix)), matrix, out=out.view(-1, len(matrix)))
    return out
