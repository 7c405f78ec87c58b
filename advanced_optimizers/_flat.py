"""Many tensors in one buffer, so that a step's number of operations does not depend on how many they are.

``torch._foreach_*`` has no fast path for a coefficient of each tensor that is on the device, and no inner product. In a
flat buffer a coefficient of each tensor is a vector that is spread over the blocks of each tensor, and an inner product
is a sum over blocks. Nothing here waits for the device, and nothing depends on values, so a step can be captured in a
graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Gathered", "KeptSums", "Layout", "Places", "Ring", "Sums", "owners", "precise", "runs_together"]

# The numbers of a block. Each tensor starts at a whole block, so it wastes half a block on average.
BLOCK = 4096
# How many partial sums are added at once. One such sum does for a tensor of 4 million numbers.
FAN_IN = 1024


def runs_together(foreach: bool | None, device: torch.device) -> bool:
    """Whether all tensors of a device are handled at once: ``foreach``, or by default everywhere but on the CPU.

    On the CPU a tensor at a time stays in the cache, and an operation costs little; there that is the faster way.
    """
    return device.type != "cpu" if foreach is None else foreach


def precise(device: torch.device) -> torch.dtype:
    """The precision for numbers of which there is one for each tensor: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


class Places:
    """Where each of several tensors lies in a flat buffer of (blocks, block) numbers.

    A tensor's numbers are in the same order as in the tensor's own memory, so a view of the buffer has its strides.

    Args:
        tensors: At least one, all on one device.
        block: The numbers of a block; each tensor starts at a whole one.
        by_rows: Whether each row, along the first dimension, is to be in one piece, which it is not in a transposed
            matrix.
    """

    def __init__(self, tensors: Sequence[Tensor], block: int, by_rows: bool = False) -> None:
        self.device = tensors[0].device
        dense = [torch.empty_like(t, device="meta") for t in tensors]  # without gaps, where the tensor has some
        if by_rows:
            dense = [t if t.stride(0) * t.shape[0] == t.numel() else t.contiguous() for t in dense]
        self.shapes = [(t.shape, t.stride()) for t in dense]
        self.block = block
        self.counts = torch.tensor([max(1, math.ceil(t.numel() / block)) for t in dense])  # each tensor's blocks
        self.starts = [0, *(self.counts.cumsum(0) * block).tolist()][: len(dense)]
        self.blocks = int(self.counts.sum())

    def zeros(self, dtype: torch.dtype, *buffers: int) -> Tensor:
        """One or several buffers, (..., blocks, block)."""
        return torch.zeros(*buffers, self.blocks, self.block, dtype=dtype, device=self.device)

    def views(self, buffer: Tensor) -> list[Tensor]:
        """Each tensor's part of a buffer (blocks, block), with its shape and strides."""
        start = buffer.storage_offset()
        places = zip(self.shapes, self.starts, strict=True)
        return [buffer.as_strided(shape, stride, start + place) for (shape, stride), place in places]


class Layout(Places):
    """Tensors in a flat buffer, with a sum and a coefficient for each.

    Args:
        tensors: At least one, all on one device.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__(tensors, BLOCK)
        self._owner = owners(self.counts).to(self.device)  # of each block
        self._owners = self._owner[:, None]
        self._sums = Sums(self.counts, self.device, min(FAN_IN, int(self.counts.max())))

    def sums(self, of_blocks: Tensor) -> Tensor:
        """The sum over each tensor's blocks, (rows, tensors) from (rows, blocks)."""
        return self._sums(functional.pad(of_blocks, (0, 1)))

    def spread(self, of_tensors: Tensor) -> tuple[Tensor, ...]:
        """Each row of (rows, tensors) as (blocks, 1), to be used with a buffer."""
        return of_tensors[:, self._owners].unbind()

    def spread_into(self, of_blocks: Tensor, of_tensors: Tensor) -> None:
        """The same into rows that are there already, (rows, blocks) from (rows, tensors)."""
        torch.index_select(of_tensors, 1, self._owner, out=of_blocks)


def owners(counts: Tensor) -> Tensor:
    """To which of several segments each of their parts belongs, from how many each has."""
    return torch.arange(len(counts)).repeat_interleave(counts)


class Sums:
    """Sums over segments of partial sums, the same bit for bit every time: nothing is added by atomic operations.

    Args:
        counts: How many partial sums each segment has, one segment after the other.
        device: Where they are.
        fan_in: How many are added at once, in as many levels of sums as it takes.
        order: Of any shape, the segments whose sums are wanted; their number stands for a sum of zero. Default: all.
    """

    def __init__(self, counts: Tensor, device: torch.device, fan_in: int = FAN_IN, order: Tensor | None = None) -> None:
        levels = _levels(counts, fan_in)
        if order is not None:
            nothing = torch.full((1, fan_in), len(levels[-2]) - 1 if levels[1:] else int(counts.sum()))
            levels[-1] = torch.cat([levels[-1], nothing])[order]
        self._levels = [index.to(device) for index in levels]

    def __call__(self, partial: Tensor) -> Tensor:
        """(k, ...) from (k, partial sums and a last one that is 0)."""
        for index in self._levels:
            partial = partial[:, index].sum(dim=-1)
        return partial


class KeptSums:
    """Sums over each tensor's blocks of several quantities, from buffers and into buffers that stay where they are.

    Attributes:
        of_blocks: (rows, blocks), to be written to.
        of_tensors: (rows, tensors), the sums of the last call.

    Args:
        layout: The blocks and tensors.
        rows: The number of quantities.
        dtype: Of the quantities; sums are in :func:`precise`.
    """

    def __init__(self, layout: Layout, rows: int, dtype: torch.dtype) -> None:
        counts = layout.counts.repeat(rows)
        self._levels = [index.to(layout.device) for index in _levels(counts, min(FAN_IN, int(counts.max())))]
        self._flat = torch.zeros(int(counts.sum()) + 1, dtype=dtype, device=layout.device)  # the last one stays 0
        self._sums = torch.zeros(len(counts), dtype=precise(layout.device), device=layout.device)
        self.of_blocks, self.of_tensors = self._flat[:-1].view(rows, -1), self._sums.view(rows, -1)

    def __call__(self) -> None:
        """Adds up what :attr:`of_blocks` holds."""
        *levels, last = self._levels
        partial = self._flat
        for index in levels:
            partial = partial[index].sum(dim=1, dtype=self._sums.dtype)
        torch.sum(partial[last], dim=1, dtype=self._sums.dtype, out=self._sums)


def _levels(counts: Tensor, fan_in: int) -> list[Tensor]:
    """Which partial sums are added to which at each level of a tree, (groups, fan-in) each; the last partial sum is 0.

    Args:
        counts: How many partial sums each segment has at first.
        fan_in: How many are added at once.
    """
    levels = []
    is_last = False
    while not is_last:
        groups = (counts + fan_in - 1) // fan_in
        is_last = bool((groups == 1).all())
        nothing = int(counts.sum())
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)[:-1]])
        segment = owners(groups)
        first_group = torch.cat([groups.new_zeros(1), groups.cumsum(0)[:-1]])
        within = (torch.arange(len(segment)) - first_group[segment])[:, None] * fan_in + torch.arange(fan_in)
        index = torch.where(within < counts[segment, None], starts[segment, None] + within, nothing)
        if not is_last:
            index = torch.cat([index, torch.full((1, fan_in), nothing)])  # the next level's zero
        levels.append(index)
        counts = groups
    return levels


class Ring:
    """The last rows of numbers of a step, kept on the device until somebody asks.

    Args:
        width: The numbers of a row.
        rows: How many rows are kept.
        dtype: Of the numbers.
        device: Where they are.
    """

    def __init__(self, width: int, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._rows = torch.full((rows, width), math.nan, dtype=dtype, device=device)
        self._next = torch.zeros(1, dtype=torch.int64, device=device)

    @property
    def width(self) -> int:
        """The numbers of a row."""
        return self._rows.shape[1]

    def append(self, row: Tensor) -> None:
        """Keeps a row (1, width) in the place of the oldest."""
        self._rows.index_copy_(0, self._next, row)
        self._next.add_(1).remainder_(len(self._rows))

    def take(self) -> Tensor:
        """The rows so far, the oldest first, and none after that; waits for the device. Rows of NaN are left out."""
        rows = self._rows.roll(-int(self._next), 0).cpu()
        self._rows.fill_(math.nan)
        return rows[~rows.isnan().all(dim=1)]


State = Mapping[Tensor, dict[str, Any]]


class Together(Protocol):
    """What an optimizer keeps of several tensors in buffers, of which what is in ``state[p]`` are views."""

    params: list[Tensor]

    def has_changed(self, state: State) -> bool:
        """Whether the state or the layout of a parameter was replaced, as loading a checkpoint does."""

    def settle(self, state: State) -> None:
        """Makes the state what it is where tensors are handled one by one."""


T = TypeVar("T", bound=Together)


class Gathered(Generic[T]):
    """The buffers of an optimizer, by whatever keeps tensors apart, such as their device.

    Args:
        name: What the state of a parameter has as long as its place must be kept. None keeps every place.
    """

    def __init__(self, name: str | None = "memory") -> None:
        self._name = name
        self._found: dict[object, list[T]] = {}

    def find(
        self,
        key: object,
        params: Sequence[Tensor],
        state: State,
        order: Sequence[Tensor],
        build: Callable[[list[Tensor]], list[T]],
    ) -> list[T]:
        """The buffers that hold the parameters, and others that were with them before.

        Args:
            key: What they have in common.
            params: The parameters.
            state: The optimizer's.
            order: All parameters of the optimizer.
            build: Makes the buffers for parameters, anew where they hold others than before or the state was replaced.
        """
        found = self._found.get(key, [])
        former = {id(p): p for each in found for p in each.params}  # a tensor's own hash takes several times as long
        if any(id(p) not in former for p in params) or any(each.has_changed(state) for each in found):
            for each in found:
                each.settle(state)
            kept = {id(p) for p in former.values() if self._name is None or self._name in state.get(p, {})}
            kept |= {id(p) for p in params}
            found = self._found[key] = build([p for p in order if id(p) in kept])
        return found

    def settle(self, state: State) -> None:
        """Brings everything into the state that is saved and copied; waits for the device."""
        for each in (each for found in self._found.values() for each in found):
            each.settle(state)
