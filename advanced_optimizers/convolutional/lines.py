"""Smoothing along an axis of many tensors at once: their lines in one buffer, each with its padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from advanced_optimizers._flat import Layout

# From here on, places in a buffer need 64 bits.
LARGEST_INT32 = 2**31 - 1


class Lines:
    """The lines along an axis of several tensors, one after the other, each continued at both ends by its reflection.

    Then a shift of the whole buffer shifts every line, and no line sees another. Two indexes, of 32-bit integers unless
    the buffer is too long, say which number of the tensors each of the buffer's is, and where those are in the buffer.

    Args:
        shapes: Of each tensor, how many lines of how many elements it has.
        places: Of each tensor, where its lines' elements are in a buffer of ``layout``, (lines, n); read once.
        layout: Where the tensors are.
        radius: How far the kernels reach.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], places: Iterable[Tensor], layout: Layout, radius: int
    ) -> None:
        device = layout.device
        one = torch.zeros(1, device=device)
        self._radius = radius
        self._padded = Layout([one.expand(lines * (n + 2 * radius)) for lines, n in shapes])
        size, numbers = self._padded.blocks * self._padded.block, layout.blocks * layout.block
        dtype = torch.int32 if max(size + 2 * radius, numbers) <= LARGEST_INT32 else torch.int64
        self._into = torch.zeros(size + 2 * radius, dtype=dtype, device=device)
        self._back = torch.full((numbers,), size, dtype=dtype, device=device)  # a zero, for what lies between tensors
        ends = [*self._padded.starts[1:], size]
        for (lines, n), place, own, start, end in zip(
            shapes, places, layout.starts, self._padded.starts, ends, strict=True
        ):
            padded = place[:, reflected(n, radius, device)]
            self._into[radius + start : radius + end] = own  # what fills up the last block, and is not taken back
            self._into[radius + start : radius + start + padded.numel()] = padded.flatten()
            of_padded = torch.arange(start, start + padded.numel(), dtype=dtype, device=device)
            self._back[place] = of_padded.view(lines, n + 2 * radius)[:, radius : radius + n]

    def smooth(self, x: Tensor, theta: Tensor) -> Tensor:
        """What the kernels make of the tensors.

        Args:
            x: A buffer of the tensors' layout, (blocks, block).
            theta: (tensors, r + 1), the kernel of each from the center outward.
        """
        center, neighbors = self._shifted(x)
        of_center, *weights = self._padded.spread(theta.t())
        flat, y = self._empty(x)
        torch.mul(center, of_center, out=y)
        for (left, right), weight in zip(neighbors, weights, strict=True):
            y.addcmul_(left, weight).addcmul_(right, weight)
        return flat.index_select(0, self._back).view_as(x)

    def neighbors(self, x: Tensor) -> list[Tensor]:
        """:math:`B_1 x, ..., B_r x`, in the layout of ``x``: the sums of the two neighbors at each distance."""
        _, neighbors = self._shifted(x)
        found = []
        for left, right in neighbors:
            flat, y = self._empty(x)
            torch.add(left, right, out=y)
            found.append(flat.index_select(0, self._back).view_as(x))
        return found

    def _shifted(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The lines, (blocks, block), and their neighbors to the left and to the right at each distance."""
        flat = x.view(-1).index_select(0, self._into)
        shape, radius = (self._padded.blocks, self._padded.block), self._radius
        at = [flat.as_strided(shape, (shape[1], 1), start) for start in range(2 * radius + 1)]
        return at[radius], [(at[radius - m], at[radius + m]) for m in range(1, radius + 1)]

    def _empty(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Memory for the lines as (blocks, block), and the same memory with a zero behind it, as one line."""
        flat = x.new_zeros(self._padded.blocks * self._padded.block + 1)
        return flat, flat[:-1].view(-1, self._padded.block)


def reflected(n: int, radius: int, device: torch.device) -> Tensor:
    """The indexes of a line of n elements that is continued by ``radius`` elements at both ends, (n + 2 radius,)."""
    place = torch.arange(-radius, n + radius, device=device) % (2 * n)  # it repeats, the second half backward
    return torch.minimum(place, 2 * n - 1 - place)
