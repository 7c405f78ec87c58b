"""What gradient consistency computes of one tensor, in as few passes over memory as torch allows."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["as_numbers", "combine", "inner_products"]


def inner_products(g: Tensor, m: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The inner products (g, m), (g, g) and (m, m); without a memory those with m are 0."""
    if m is None:
        flat = _vector(g)
        gg = torch.dot(flat, flat)
        return torch.zeros_like(gg), gg, torch.zeros_like(gg)
    if g.dim() == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in (g, m)):
        g, m = g.permute(0, 2, 3, 1), m.permute(0, 2, 3, 1)  # flattens without a copy
    g, m = _vector(g), _vector(m)
    return torch.dot(g, m), torch.dot(g, g), torch.dot(m, m)


def as_numbers(products: list[tuple[Tensor, Tensor, Tensor]]) -> list[list[float]]:
    """The products of several tensors of one device as Python's numbers, for which it is waited once."""
    if products[0][0].device.type == "cpu":  # nothing to wait for, so nothing to gather
        return [[product.item() for product in of_tensor] for of_tensor in products]
    numbers: list[list[float]] = torch.stack([torch.stack(of_tensor) for of_tensor in products]).tolist()
    return numbers


def combine(g: Tensor, a: float, m: Tensor, b: float, *, out: Tensor) -> None:
    """Writes ``a * g + b * m`` into ``out``: in one pass where all three are contiguous, else in two."""
    if g.is_contiguous() and m.is_contiguous() and out.is_contiguous():
        # The outer product with a one, because addr is torch's only operation with a factor for both terms.
        torch.addr(g.view(-1, 1), _vector(m), m.new_ones(1), beta=a, alpha=b, out=out.view(-1, 1))
    else:
        torch.mul(g, a, out=out).add_(m, alpha=b)


def _vector(t: Tensor) -> Tensor:
    return t if t.dim() == 1 else t.reshape(-1)
