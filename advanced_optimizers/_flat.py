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

__all__ = ["Gathered", "Layout", "Ring", "precise", "runs_together"]

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


class Layout:
    """Where each of several tensors lies in a flat buffer of (blocks, block) numbers.

    A tensor's numbers are in the same order as in the tensor's own memory, so a view of the buffer has its strides.
    Sums are the same bit for bit every time: nothing is added by atomic operations.

    Args:
        tensors: At least one, all on one device.
        segments: Into how many equal parts along its first dimension each tensor is divided, each of which has a sum
            and a coefficient of its own. Default: a tensor is one segment, of all its blocks.
        block: The numbers of a block; of more than one segment, each must have a whole number of blocks.
    """

    def __init__(self, tensors: Sequence[Tensor], segments: Sequence[int] | None = None, block: int = BLOCK) -> None:
        self.device = tensors[0].device
        dense = [torch.empty_like(t, device="meta") for t in tensors]  # without gaps, where the tensor has some
        if segments is not None:  # which must not be interleaved, as they are in a transposed matrix
            dense = [t if t.stride(0) * t.shape[0] == t.numel() else t.contiguous() for t in dense]
        self.shapes = [(t.shape, t.stride()) for t in dense]
        self.block = block
        of_tensors = torch.tensor([max(1, math.ceil(t.numel() / block)) for t in dense])
        self.starts = [0, *(of_tensors.cumsum(0) * block).tolist()][: len(dense)]
        self.blocks = int(of_tensors.sum())
        divided = torch.tensor([1] * len(dense) if segments is None else segments)
        counts = (of_tensors // divided).repeat_interleave(divided)
        owner = torch.arange(len(counts)).repeat_interleave(counts)
        self._owner = owner.unsqueeze(1).to(self.device)  # of each block, (blocks, 1)
        self._levels = [index.to(self.device) for index in _levels(counts)]

    def zeros(self, dtype: torch.dtype, *buffers: int) -> Tensor:
        """One or several buffers, (..., blocks, block)."""
        return torch.zeros(*buffers, self.blocks, self.block, dtype=dtype, device=self.device)

    def views(self, buffer: Tensor) -> list[Tensor]:
        """Each tensor's part of a buffer (blocks, block), with its shape and strides."""
        start = buffer.storage_offset()
        places = zip(self.shapes, self.starts, strict=True)
        return [buffer.as_strided(shape, stride, start + place) for (shape, stride), place in places]

    def sums(self, of_blocks: Tensor) -> Tensor:
        """The sum over each segment's blocks, (rows, segments) from (rows, blocks)."""
        of_blocks = functional.pad(of_blocks, (0, 1))  # what the groups of partial sums are filled up with
        for index in self._levels:
            of_blocks = of_blocks[:, index].sum(dim=2)
        return of_blocks

    def spread(self, of_segments: Tensor) -> tuple[Tensor, ...]:
        """Each row of (rows, segments) as (blocks, 1), to be used with a buffer."""
        return of_segments[:, self._owner].unbind()


def _levels(counts: Tensor) -> list[Tensor]:
    """Which partial sums are added to which at each level of a tree, (groups, fan-in) each; the last partial sum is 0.

    Args:
        counts: How many partial sums each segment has at first.
    """
    levels = []
    fan_in = min(FAN_IN, int(counts.max()))
    is_last = False
    while not is_last:
        groups = (counts + fan_in - 1) // fan_in
        is_last = bool((groups == 1).all())
        nothing = int(counts.sum())
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)[:-1]])
        segment = torch.arange(len(counts)).repeat_interleave(groups)
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
        former = {p for each in found for p in each.params}
        if not set(params) <= former or any(each.has_changed(state) for each in found):
            for each in found:
                each.settle(state)
            kept = {*params, *(p for p in former if self._name is None or self._name in state.get(p, {}))}
            found = self._found[key] = build([p for p in order if p in kept])
        return found

    def settle(self, state: State) -> None:
        """Brings everything into the state that is saved and copied; waits for the device."""
        for each in (each for found in self._found.values() for each in found):
            each.settle(state)
