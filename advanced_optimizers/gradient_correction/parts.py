"""Gradients, memories and kept gradients in few buffers, and what gradient correction does with whole rows of them.

Rows are divided into blocks. What is one number for each row of T tensors is padded to equally many rows, (T, C).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from advanced_optimizers._flat import Places, Sums, owners
from advanced_optimizers._rounding import Noise, round_stochastically
from advanced_optimizers._sharded import like, local, shards_of

# The largest block of a row; and how many sums over blocks are added at once, whatever other tensors there are.
BLOCK, FAN_IN = 64, 16


class Part:
    """The buffers of tensors whose rows have blocks of one size.

    Args:
        params: The parameters.
        block: That size.
        dtype: The precision of their gradients.
        noise: What memories in bfloat16 are rounded with; None keeps them, and the gradients that are kept for
            training, in float32 or better.
    """

    def __init__(self, params: list[Tensor], block: int, dtype: torch.dtype, noise: Noise | None) -> None:
        self.params = params
        parts = [local(p) for p in params]
        places = Places(parts, block, by_rows=True)
        self.rows = torch.tensor([max(part.shape[0], 1) for part in parts])  # a process without any has an empty one
        self.blocks_of_rows = (places.counts // self.rows).repeat_interleave(self.rows)
        wide = torch.promote_types(dtype, torch.float32)
        self.noise = None if noise is None else noise.in_blocks(params, places.counts, block)
        if noise is None:
            numbers = places.zeros(wide, 3)
            self.work, self._kept = numbers[0], numbers[1:]
        else:
            self.work, self._kept = places.zeros(wide), places.zeros(torch.bfloat16, 2)
        self.last, self.memory = self._kept.unbind()
        # Whose lengths are computed, and where they are among the products: at once in one buffer.
        self._measured = [(numbers[::2], slice(1, 4, 2))] if noise is None else [(self.work, 1), (self.memory, 3)]
        self.narrow = None if dtype == wide else places.zeros(dtype)
        self.gradients = places.views(self.work)
        self.memories, self.lasts, self.corrected = (
            [like(p, view) for p, view in zip(params, places.views(buffer), strict=True)]
            for buffer in (self.memory, self.last, self.work if self.narrow is None else self.narrow)
        )

    def use(self, of_blocks: Tensor) -> None:
        """Computes products of blocks into (4, blocks) from now on: last and gradient, and as :class:`Parts` says."""
        self._lengths = [(numbers, of_blocks[rows]) for numbers, rows in self._measured]
        # Of the gradient with the last one and with the memory, or with the memory alone.
        self._inner = {True: (self._kept, of_blocks[::2]), False: (self._kept[1:], of_blocks[2:3])}

    def multiply(self, with_last: bool) -> None:
        """The lengths of the gradient's and the memory's blocks, and the inner products."""
        for numbers, lengths in self._lengths:
            torch.linalg.vector_norm(numbers, dim=-1, dtype=lengths.dtype, out=lengths)
        others, products = self._inner[with_last]
        torch.sum(self.work * others, dim=2, out=products)

    def move(self, of_gradient: Tensor, of_memory: Tensor, rate: Tensor) -> None:
        """The memory goes toward the gradient, which then becomes the mix of both; coefficients are (blocks, 1)."""
        memory = self.memory.to(self.work.dtype)  # itself, unless it is kept in bfloat16
        memory.lerp_(torch.where(rate > 0.0, self.work, memory), rate)
        self.work.mul_(of_gradient).addcmul_(memory, of_memory)
        if self.noise is not None:
            memory = memory.float()
            round_stochastically(memory, self.noise.of_all())
            self.memory.copy_(memory)
        if self.narrow is not None:
            self.narrow.copy_(self.work)


class Parts:
    """All buffers of tensors on one device.

    Attributes:
        params: The parameters, in the order of everything else.
        memories: What is remembered of each parameter's gradients, a view of a buffer.
        lasts: The gradient that is kept for training.
        corrected: The corrected gradient.

    Args:
        params: The parameters, with at least two rows each; all are whole, or all are sharded in the same way.
        dtype: The precision of their gradients.
        noise: As for :class:`Part`.
    """

    def __init__(self, params: Sequence[Tensor], dtype: torch.dtype, noise: Noise | None = None) -> None:
        of_block: dict[int, list[Tensor]] = {}
        for p in params:
            length = p.numel() // p.shape[0]
            of_block.setdefault(min(BLOCK, length & -length), []).append(p)  # the largest power of two that divides it
        parts = self._parts = [Part(of_params, block, dtype, noise) for block, of_params in of_block.items()]
        self.params, self._gradients, self.memories, self.lasts, self.corrected = (
            [each for part in parts for each in getattr(part, name)]
            for name in ("params", "gradients", "memories", "lasts", "corrected")
        )
        self._shards = shards_of(params[0])
        self.device, self.dtype = params[0].device, parts[0].work.dtype
        self.counts = torch.tensor([p.shape[0] for p in self.params])
        own = self.counts if self._shards is None else torch.tensor([local(p).shape[0] for p in self.params])
        before = torch.zeros_like(own) if self._shards is None else self._shards.before(own.to(self.device)).cpu()
        width = int(self.counts.max())
        padded, tensor, column = _places(width, own, before)
        blocks_of_rows = torch.cat([part.blocks_of_rows for part in parts])
        self._sums = Sums(blocks_of_rows, self.device, FAN_IN, padded)
        self._of_blocks = torch.zeros(4, int(blocks_of_rows.sum()) + 1, dtype=self.dtype, device=self.device)
        sizes = [len(part.work) for part in parts]
        for part, of_part in zip(parts, self._of_blocks[:, :-1].split(sizes, dim=1), strict=True):
            part.use(of_part)
        self._lengths, self._without_last = self._of_blocks[1::2], self._of_blocks[1:]
        # Where the blocks' coefficients are in a row of (T, 2 C + 1): of the gradient, of the memory, the rate.
        row = owners(blocks_of_rows)
        places = torch.stack([column, width + column, torch.full_like(column, 2 * width)]) + tensor * (2 * width + 1)
        self._spread = torch.cat([each.flatten() for each in places[:, row].split(sizes, dim=1)])[:, None].to(
            self.device
        )
        self._sizes = [size for size in sizes for _ in range(3)]

    def take(self, grads: dict[Tensor, Tensor]) -> None:
        """Copies gradients, by parameter, of all parameters or some."""
        here = [(view, grads[p]) for view, p in zip(self._gradients, self.params, strict=True) if p in grads]
        torch._foreach_copy_([view for view, _ in here], [local(grad) for _, grad in here])

    def products(self, with_last: bool) -> tuple[Tensor, Tensor | None]:
        """Inner products of rows.

        Args:
            with_last: Whether those with the last gradient that was kept are wanted.

        Returns:
            (3, T, C): gradient with itself, with its memory; memory with itself. And, if wanted, (2, T, C), views of
            the same: gradient with the last one, with its memory.
        """
        for part in self._parts:
            part.multiply(with_last)
        self._lengths.square_()
        products = self._sums(self._of_blocks if with_last else self._without_last)
        if self._shards is not None:
            self._shards.add_up(products)
        return (products[1:], products[::2]) if with_last else (products, None)

    def keep(self, chosen: list[bool]) -> None:
        """Keeps the chosen tensors' gradients as the last ones."""
        if all(chosen):
            for part in self._parts:
                part.last.copy_(part.work)
            return
        some = [(local(last), view) for last, view, now in zip(self.lasts, self._gradients, chosen, strict=True) if now]
        torch._foreach_copy_([last for last, _ in some], [view for _, view in some])

    def move(self, coefficients: Tensor) -> None:
        """Moves the memories, then mixes them into the gradients.

        Args:
            coefficients: (T, 2 C + 1): of each gradient's rows, of the memory's rows, and the rate at which the memory
                moves to the gradient.
        """
        spread = iter(coefficients.flatten()[self._spread].split(self._sizes))
        for part, *of_part in zip(self._parts, spread, spread, spread, strict=True):
            part.move(*of_part)


def _places(width: int, own: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where padded rows come from, (T, C), and of which tensor this process's rows are, and in which place.

    Args:
        width: C.
        own: (T,), how many rows of each tensor this process has.
        before: (T,), how many of its rows are those of earlier processes.
    """
    held = own.clamp(min=1)  # an empty row where there is none, which nothing comes from
    first = held.cumsum(0) - held
    column = torch.arange(width) - before[:, None]
    padded = torch.where((column >= 0) & (column < own[:, None]), first[:, None] + column, int(held.sum()))
    tensor = owners(held)
    start = torch.where(own > 0, before, 0)
    return padded, tensor, (start - first)[tensor] + torch.arange(len(tensor))
