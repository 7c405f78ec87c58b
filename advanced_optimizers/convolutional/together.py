"""Smoothing of all tensors of a device at once: the number of operations does not depend on theirs.

Of a tensor whose rows are sharded over processes, each handles its own; the kernels never see beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advanced_optimizers._flat import Layout, State, precise
from advanced_optimizers._sharded import like, local, shards_of
from advanced_optimizers.convolutional.lines import Lines
from advanced_optimizers.convolutional.smoothing import Seen, permuted


class Member(NamedTuple):
    """A parameter that is handled together with others.

    Attributes:
        param: The parameter.
        seen: How the kernels see this process's part of it.
        order: The order of each smoothed axis, one after the other; None for their own.
    """

    param: Tensor
    seen: Seen
    order: Tensor | None


class Together:
    """The gradients of tensors on one device, smoothed along equally many axes, in one buffer.

    A tensor that has no gradient in a step keeps its place.

    Args:
        members: The parameters; all are whole, or all are sharded in the same way, and all have an order or none.
        dtype: The precision of the gradients.
        radius: How far the kernels reach.
    """

    def __init__(self, members: Sequence[Member], dtype: torch.dtype, radius: int) -> None:
        self.params = [member.param for member in members]
        self._strides = [p.stride() for p in self.params]
        self._shards = shards_of(self.params[0])
        self._layout = Layout([local(p) for p in self.params])
        self._work = self._layout.zeros(torch.promote_types(dtype, torch.float32))
        self._gradients = self._layout.views(self._work)
        narrow = self._work if dtype == self._work.dtype else self._layout.zeros(dtype)
        self._out = narrow
        self.smoothed = [like(p, part) for p, part in zip(self.params, self._layout.views(narrow), strict=True)]
        self._order = _Order(members, self._layout) if members[0].order is not None else None
        self.axes = len(members[0].seen.axes)
        self._lines = [_lines(members, axis, self._layout, radius) for axis in range(self.axes)]
        # What the parameters' states share with this object.
        self._shared: list[dict[str, Tensor]] = [
            {} if member.order is None else {"order": member.order} for member in members
        ]

    def has_changed(self, state: State) -> bool:
        """Whether a parameter has another layout, or its state was replaced, as loading and copying do."""
        return any(
            p.stride() != stride or any(state.get(p, {}).get(name) is not value for name, value in shared.items())
            for p, stride, shared in zip(self.params, self._strides, self._shared, strict=True)
        )

    def settle(self, state: State) -> None:
        """Nothing is to be done: what is in the states is always true."""

    # ---- one step ------------------------------------------------------------------------------------------------

    def step(self, grads: dict[Tensor, Tensor], kernels: Tensor, keep_length: bool) -> None:
        """Smooths gradients, by parameter, of all parameters or some, into :attr:`smoothed`.

        Args:
            grads: The gradients.
            kernels: (tensors, axes, r + 1), from the center outward.
            keep_length: Whether the results get the lengths of the gradients.
        """
        self._give(self._smooth(self._taken(grads), kernels, keep_length))

    def _taken(self, grads: dict[Tensor, Tensor]) -> Tensor:
        """The gradients as the kernels see them, (blocks, block)."""
        into = [gradient for p, gradient in zip(self.params, self._gradients, strict=True) if p in grads]
        torch._foreach_copy_(into, [local(grads[p]) for p in self.params if p in grads])
        return self._work if self._order is None else self._order.forward(self._work)

    def _smooth(self, x: Tensor, kernels: Tensor, keep_length: bool) -> Tensor:
        y = x
        for lines, theta in reversed(list(zip(self._lines, kernels.unbind(1), strict=True))):
            y = lines.smooth(y, theta)
        if keep_length:
            (scale,) = self._layout.spread(self._relative_lengths(x, y).to(y.dtype))
            y = y.mul_(scale)
        return y

    def _relative_lengths(self, x: Tensor, y: Tensor) -> Tensor:
        """|x| / |y| of each tensor, (1, tensors); 1 where y is zero or one of them is not finite."""
        of_blocks = torch.stack([torch.linalg.vector_norm(each, dim=1) for each in (x, y)])
        squares = self._summed(of_blocks.to(precise(x.device)).square_())
        ratio = (squares[:1] / squares[1:]).sqrt_()
        return torch.where(ratio.isfinite(), ratio, 1.0)

    def _summed(self, of_blocks: Tensor) -> Tensor:
        """The sums over each whole tensor, (rows, tensors) from (rows, blocks)."""
        sums = self._layout.sums(of_blocks)
        if self._shards is not None:
            self._shards.add_up(sums)
        return sums

    def _give(self, y: Tensor) -> None:
        self._out.copy_(y if self._order is None else self._order.back(y))


class _Order:
    """The axes of tensors in another order, as indexes of a buffer; what lies between the tensors stays."""

    def __init__(self, members: Sequence[Member], layout: Layout) -> None:
        size = layout.blocks * layout.block
        self._forward = torch.arange(size, device=layout.device)
        for member, place in zip(members, _places(members, layout), strict=True):
            assert member.order is not None
            self._forward[place] = permuted(place, member.order, member.seen)
        self._back = torch.empty_like(self._forward)
        self._back[self._forward] = torch.arange(size, device=layout.device)

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1).index_select(0, self._forward).view_as(x)

    def back(self, x: Tensor) -> Tensor:
        return x.view(-1).index_select(0, self._back).view_as(x)


def _lines(members: Sequence[Member], axis: int, layout: Layout, radius: int) -> Lines:
    """The lines along the smoothed axis in that place."""
    dims = [member.seen.axes[axis] for member in members]
    lengths = [member.seen.shape[dim] for member, dim in zip(members, dims, strict=True)]
    shapes = [(math.prod(member.seen.shape) // n, n) for member, n in zip(members, lengths, strict=True)]
    places = zip(_places(members, layout), dims, shapes, strict=True)
    return Lines(shapes, (place.movedim(dim, -1).reshape(shape) for place, dim, shape in places), layout, radius)


def _places(members: Sequence[Member], layout: Layout) -> Iterator[Tensor]:
    """Of each tensor, where its elements are in a buffer, in the shape that the kernels see."""
    for member, (shape, stride), start in zip(members, layout.shapes, layout.starts, strict=True):
        memory = torch.arange(start, start + math.prod(shape), device=layout.device)
        yield memory.as_strided(shape, stride).reshape(member.seen.shape)
