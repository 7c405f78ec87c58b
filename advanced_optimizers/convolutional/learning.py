r"""How a kernel learns: its loss and the gradient of that in closed form, from a few inner products of each tensor.

For a gradient g, the smoothed y and the average s of past gradients, the kernel's loss is

.. math::
    L = -\cos(g, y) + \lambda \frac{\mathrm{Var}(y)}{\mathrm{Var}(g)} - \rho \cos(s, y)

It does not change when gradients are scaled. With x the tensor that the kernel smooths (g itself, or g smoothed along
the other axis with that axis' kernel held fixed), :math:`M_{mn} = \langle B_m x, B_n x\rangle`,
:math:`c_m = \langle g, B_m x\rangle`, :math:`e_m = \langle s, B_m x\rangle` and :math:`N = \theta' M \theta = |y|^2`:

.. math::
    \frac{dL}{d\theta} = -\frac{c}{|g|\sqrt N} + \frac{(c'\theta)\, M\theta}{|g| N^{3/2}}
    + \frac{2\lambda}{\mathrm{Var}(g)} \Big(\frac{M\theta}{n} - \bar y\, b\Big)
    - \rho \Big(\frac{e}{|s|\sqrt N} - \frac{(e'\theta)\, M\theta}{|s| N^{3/2}}\Big)

where :math:`b_m` is the mean of :math:`B_m x`: with half-sample padding the mean of g itself, or twice that for
:math:`m \ge 1`. On the padded line :math:`B_m` is :math:`2\cos m\omega`, so :math:`B_m B_n = B_{m+n} + B_{|m-n|}` (with
:math:`B_0 = 2I` here), and M needs no more than the 2r + 1 numbers :math:`a_j = \langle x, B_j x\rangle`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advanced_optimizers.convolutional.kernels import counts, onto_simplex, total, with_least_gain
from advanced_optimizers.convolutional.smoothing import (
    Seen,
    neighbor_matrices,
    side_by_side,
    side_matrices,
    smooth_axis,
)


class Products(NamedTuple):
    r"""The inner products from which kernels learn; each row is one axis of one tensor.

    Attributes:
        auto: (rows, 2 r + 1), :math:`\langle x, B_j x\rangle`.
        with_gradient: (rows, r + 1), :math:`\langle g, B_m x\rangle`.
        with_signal: (rows, r + 1), :math:`\langle s, B_m x\rangle`; 0 where there is no s yet.
        gradient: (rows,), :math:`|g|^2`.
        signal: (rows,), :math:`|s|^2`.
        mean: (rows,), the share of the mean in :math:`|g|^2`, :math:`n \bar g^2 / |g|^2`: 1 for a constant gradient.
    """

    auto: Tensor
    with_gradient: Tensor
    with_signal: Tensor
    gradient: Tensor
    signal: Tensor
    mean: Tensor


# ---- the products of one tensor ----------------------------------------------------------------------------------


def products_along(a: Tensor, b: Tensor, dim: int, order: int) -> Tensor:
    r""":math:`\langle a, B_j b\rangle` along one axis for j = 0, ..., ``order``, as (order + 1,).

    Args:
        a: Any shape, contiguous.
        b: The same shape, contiguous; where it is ``a`` itself, half of the work suffices.
        dim: The axis, >= 0.
        order: The largest distance.
    """
    n = a.shape[dim]
    a, b = (t.view(math.prod(t.shape[:dim]), n, -1) for t in (a, b))
    if n < order:
        moments = torch.einsum("oni,omi->nm", a, b)
        return torch.einsum("jnm,nm->j", neighbor_matrices(n, order, a.dtype, a.device), moments)
    found = [torch.dot(a.view(-1), b.view(-1))]
    for j in range(1, order + 1):
        inside = _shifted_dot(a, b, j)
        inside = 2.0 * inside if a is b or a.data_ptr() == b.data_ptr() else inside + _shifted_dot(b, a, j)
        found.append(inside + _ends(a[:, :j], b[:, :j]) + _ends(a[:, n - j :], b[:, n - j :]))
    return torch.stack(found)


def _shifted_dot(a: Tensor, b: Tensor, j: int) -> Tensor:
    """The sum of a[:, i + j] b[:, i]: over all of memory, less what runs from one line into the next."""
    shift, n = j * a.shape[2], a.shape[1]
    size = a.numel() - shift
    whole = torch.dot(a.view(-1)[shift:], b.view(-1)[:size])
    if len(a) == 1:
        return whole
    return whole - (a[1:, :j] * b[:-1, n - j :]).sum()


def _ends(a: Tensor, b: Tensor) -> Tensor:
    return (a * b.flip(1)).sum()


def of_slices(g: Tensor, signal: Tensor | None, kernel: Tensor, seen: Seen) -> Products:
    """The products of a tensor that is smoothed by slices; one row for each of its axes."""
    radius = kernel.shape[1] - 1
    signal = None if signal is None else signal.to(g.dtype)
    auto, with_gradient, with_signal = [], [], []
    for i, dim in enumerate(seen.axes):
        x = g
        if len(seen.axes) == 2:
            x = smooth_axis(g, kernel[1 - i], seen.axes[1 - i], torch.empty_like(g))
        auto.append(products_along(x, x, dim, 2 * radius))
        with_gradient.append(auto[-1][: radius + 1] if x is g else products_along(g, x, dim, radius))
        zero = torch.zeros_like(with_gradient[-1])
        with_signal.append(zero if signal is None else products_along(signal, x, dim, radius))
    rows = [torch.stack(each) for each in (auto, with_gradient, with_signal)]
    return _with_sizes(rows, g, signal)


def of_filters(g: Sequence[Tensor], signals: Sequence[Tensor | None], kernels: Tensor, seen: Seen) -> Products:
    """The products of tensors with filters of one size, from the second moments of the filters' numbers.

    Args:
        g: The gradients, each (filters, h, w).
        signals: The averages, of the same shapes; each is widened alone where they are narrower.
        kernels: (tensors, axes, r + 1).
        seen: How one of them is seen; the others may have other numbers of filters.

    Returns:
        The axes of the first tensor, then those of the second, and so on.
    """
    _, height, width = seen.shape
    order = kernels.shape[2] - 1
    shape = (len(g), height, width, height, width)
    own = torch.stack([_moments(each, each) for each in g]).view(shape)
    crossed = torch.stack(
        [
            _moments(s.to(each.dtype), each) if s is not None else torch.zeros_like(own[0]).view(height * width, -1)
            for s, each in zip(signals, g, strict=True)
        ]
    ).view(shape)
    rows, columns = side_matrices(kernels, seen)
    auto, with_gradient, with_signal = [], [], []
    for dim in seen.axes:
        other, equation = (columns, "jab,tcd,tacbd->tj") if dim == 1 else (rows, "jcd,tab,tacbd->tj")
        basis = neighbor_matrices(seen.shape[dim], 2 * order, kernels.dtype, kernels.device)
        auto.append(torch.einsum(equation, basis, other @ other, own))
        with_gradient.append(torch.einsum(equation, basis[: order + 1], other, own))
        with_signal.append(torch.einsum(equation, basis[: order + 1], other, crossed))
    stacked = [torch.stack(each, dim=1) for each in (auto, with_gradient, with_signal)]
    each_tensor = [
        _with_sizes([of_axes[i] for of_axes in stacked], x, s) for i, (x, s) in enumerate(zip(g, signals, strict=True))
    ]
    return joined(each_tensor)


def _moments(a: Tensor, b: Tensor) -> Tensor:
    """The sum over filters of the outer product of their numbers, (hw, hw)."""
    numbers = a.shape[1] * a.shape[2]
    together = side_by_side(len(a), numbers)
    moments = torch.mm(a.view(-1, together * numbers).t(), b.view(-1, together * numbers))
    return moments.view(together, numbers, together, numbers).diagonal(dim1=0, dim2=2).sum(-1)


def _with_sizes(rows: list[Tensor], g: Tensor, signal: Tensor | None) -> Products:
    """Adds what all axes of a tensor share."""
    gg = torch.dot(g.view(-1), g.view(-1))
    s = torch.zeros_like(gg) if signal is None else signal.to(g.dtype).view(-1)
    ss = s if signal is None else torch.dot(s, s)
    mean = g.sum().square() / (g.numel() * gg)
    auto, with_gradient, with_signal = rows
    gradient, signals, means = (each.expand(len(auto)) for each in (gg, ss, mean))
    return Products(auto, with_gradient, with_signal, gradient, signals, means)


def joined(parts: Sequence[Products]) -> Products:
    """The rows of all of them, one after the other."""
    return Products(*(torch.cat(each) for each in zip(*parts, strict=True)))


# ---- the kernel's loss, its gradient, its step -------------------------------------------------------------------


class Weights(NamedTuple):
    """What the terms of a kernel's loss weigh: lambda for the variance, rho for the signal."""

    smoothness: float
    signal: float


def gram(auto: Tensor) -> Tensor:
    """M, (rows, r + 1, r + 1), from the 2 r + 1 numbers of ``Products.auto``."""
    radius = auto.shape[-1] // 2
    m = torch.arange(radius + 1, device=auto.device)
    doubled = torch.cat([2.0 * auto[..., :1], auto[..., 1:]], dim=-1)  # as if B_0 were 2 I
    scale = torch.ones_like(auto[..., : radius + 1])
    scale[..., 0] = 0.5
    products = doubled[..., m[:, None] + m] + doubled[..., (m[:, None] - m).abs()]
    return scale.unsqueeze(-1) * products * scale.unsqueeze(-2)


def loss_and_gradient(theta: Tensor, products: Products, weights: Weights) -> tuple[Tensor, Tensor]:
    """The kernels' losses (rows,) and their gradients by theta, (rows, r + 1).

    Both are not finite where a gradient is zero or constant.
    """
    gg = products.gradient.unsqueeze(-1)
    mean = products.mean.unsqueeze(-1)
    n = counts(theta)
    m_theta = (gram(products.auto / gg.clamp(min=_tiny(theta))) @ theta.unsqueeze(-1)).squeeze(-1)
    yy = (theta * m_theta).sum(dim=-1, keepdim=True)  # |y|^2 / |g|^2
    y = yy.sqrt()

    def cosine(inner: Tensor) -> tuple[Tensor, Tensor]:
        value = (inner * theta).sum(dim=-1, keepdim=True) / y
        return value, inner / y - value * m_theta / yy

    loss, gradient = (-each for each in cosine(products.with_gradient / gg))
    variance = (yy - mean * total(theta).square()) / (1.0 - mean)
    loss = loss + weights.smoothness * variance
    gradient = gradient + 2.0 * weights.smoothness * (m_theta - mean * total(theta) * n) / (1.0 - mean)
    if weights.signal:
        ss = products.signal.unsqueeze(-1)
        has_signal = ss > 0.0
        lengths = torch.where(has_signal, gg.sqrt() * ss.sqrt(), 1.0)
        value, slope = cosine(products.with_signal / lengths)
        loss = loss - weights.signal * torch.where(has_signal, value, 0.0)
        gradient = gradient - weights.signal * torch.where(has_signal, slope, 0.0)
    return loss.squeeze(-1), gradient


def _tiny(t: Tensor) -> float:
    return torch.finfo(t.dtype).tiny


def learned(
    theta: Tensor, products: Products, weights: Weights, lr: float, min_gain: float, through_normalization: bool
) -> tuple[Tensor, Tensor]:
    """The kernels after one step down their loss, and that loss before it.

    Each tap is a variable of its own, so a number that stands for two taps moves by half of its derivative. Then the
    taps come back to what a kernel must be: not negative, of sum 1, with a transform of at least ``min_gain``. A kernel
    stays as it is where the gradient is zero, constant or not finite.

    Args:
        theta: (rows, r + 1).
        products: Of these rows.
        weights: Of the terms of the loss.
        lr: The step, >= 0.
        min_gain: See :func:`with_least_gain`.
        through_normalization: Whether a tap's derivative is that of the loss after normalization of the sum, as in the
            published rule of ``LocalLossConvSGD``. Otherwise the sum is kept by taking the mean off the derivatives.
    """
    loss, gradient = loss_and_gradient(theta, products, weights)
    n = counts(theta)
    of_taps = gradient / n
    share = n * theta if through_normalization else n / n.sum()
    moved = onto_simplex(theta - lr * (of_taps - (share * of_taps).sum(dim=-1, keepdim=True)))
    # Below this, what is left of the variance is rounding error.
    varies = 1.0 - products.mean > 64.0 * torch.finfo(theta.dtype).eps
    can_learn = varies & (products.gradient > 0.0) & gradient.isfinite().all(dim=-1)
    new = torch.where(can_learn.unsqueeze(-1), with_least_gain(moved, min_gain), theta)
    return new, torch.where(can_learn, loss, torch.nan)
