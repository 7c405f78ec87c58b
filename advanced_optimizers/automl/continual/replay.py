"""Replay: a few samples of everything seen so far, to train on again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._checks import check_integer


class ReplayBuffer:
    """A uniform sample of all that was added, of limited size.

    Of n samples that were added so far, each is held with the same probability, min(1, ``capacity`` / n), without
    knowing n beforehand: sample number n takes a random place among n, and is kept if that is one of the buffer's.

    Args:
        capacity: How many samples it holds, >= 1.
        seed: Of its random numbers, >= 0; it draws no others.

    Attributes:
        seen: How many samples were added.

    Raises:
        TypeError: An argument is not an integer.
        ValueError: A number is too small.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import ReplayBuffer
        >>> buffer = ReplayBuffer(100)
        >>> buffer.add(torch.randn(500, 4), torch.randint(3, (500,)))
        >>> inputs, labels = buffer.sample(32)
        >>> len(buffer), inputs.shape
        (100, torch.Size([32, 4]))

    References:
        Vitter, *Random Sampling with a Reservoir*, ACM Transactions on Mathematical Software 11, 1985, algorithm R.

    Limitations:
        Tasks and classes are held in proportion to their samples, so with many tasks little is left of each.
    """

    def __init__(self, capacity: int, *, seed: int = 0) -> None:
        self.capacity = check_integer("capacity", capacity, 1)
        self.seen = 0
        self._generator = torch.Generator().manual_seed(check_integer("seed", seed, 0))
        self._held: list[Tensor] = []

    def __len__(self) -> int:
        """How many samples it holds."""
        return len(self._held[0]) if self._held else 0

    def add(self, *tensors: Tensor) -> None:
        """Offers samples to the buffer, one after the other; it keeps copies.

        Args:
            tensors: Inputs, labels and whatever belongs to them, each (samples, ...); the same number and shapes each
                time.

        Raises:
            TypeError: Something is not a tensor.
            ValueError: Their lengths differ, or their number or shapes differ from those of before.
        """
        count = self._check(tensors)
        rank = self.seen + torch.arange(1, count + 1)
        place = (torch.rand(count, generator=self._generator, dtype=torch.float64) * rank).long()
        place = torch.where(rank <= self.capacity, rank - 1, place)
        taken = {int(at): i for i, at in enumerate(place) if at < self.capacity}  # of those at one place, the last one
        if not self._held:
            self._held = [tensor[:0].detach().clone() for tensor in tensors]
        free = min(self.capacity, self.seen + count) - len(self)
        slots, chosen = (
            torch.tensor(list(taken), dtype=torch.long),
            torch.tensor(list(taken.values()), dtype=torch.long),
        )
        for number, (held, tensor) in enumerate(zip(self._held, tensors, strict=True)):
            grown = torch.cat([held, held.new_zeros(free, *held.shape[1:])])
            grown[slots] = tensor.detach()[chosen].to(held)
            self._held[number] = grown
        self.seen += count

    def sample(self, count: int) -> tuple[Tensor, ...]:
        """Draws samples, with replacement.

        Args:
            count: How many, >= 1.

        Returns:
            The tensors in the order in which they were added, each (count, ...).

        Raises:
            RuntimeError: The buffer is empty.
        """
        count = check_integer("count", count, 1)
        if not len(self):
            raise RuntimeError("there is nothing to sample yet: call add with samples of the first task")
        drawn = torch.randint(len(self), (count,), generator=self._generator)
        return tuple(held[drawn] for held in self._held)

    def state_dict(self) -> dict[str, Any]:
        """Everything that it holds, and the state of its random numbers."""
        return {
            "capacity": self.capacity,
            "seen": self.seen,
            "held": list(self._held),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned."""
        self.capacity, self.seen = state["capacity"], state["seen"]
        self._held = [held.clone() for held in state["held"]]
        self._generator.set_state(state["generator"])

    def _check(self, tensors: tuple[Tensor, ...]) -> int:
        """The number of samples."""
        if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise TypeError(f"tensors must be at least one tensor, got {tensors!r}")
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if any(tensor.ndim < 1 or len(tensor) != len(tensors[0]) for tensor in tensors):
            raise ValueError(f"tensors must have one row per sample, as many in each, got shapes {shapes}")
        before = [tuple(held.shape[1:]) for held in self._held]
        if before and before != [shape[1:] for shape in shapes]:
            raise ValueError(f"tensors must have the shapes of before, {before} per sample, got shapes {shapes}")
        return len(tensors[0])
