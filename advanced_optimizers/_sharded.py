"""Parameters that are sharded over processes, as FSDP2 does it: each process's part, and sums over the whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from advanced_optimizers._checks import is_dtensor

__all__ = ["Shards", "is_by_rows", "like", "local", "shards_of", "whole"]


class Shards(NamedTuple):
    """How a ``DTensor`` is spread over processes.

    Attributes:
        mesh: The processes, a ``DeviceMesh``.
        placements: What each dimension of the mesh does: it shards the tensor, or holds copies of it.
    """

    mesh: Any
    placements: tuple[Any, ...]

    def add_up(self, sums: Tensor) -> None:
        """Makes sums over this process's part those over the whole tensor, in place; every process must call it.

        On an accelerator the host does not wait for it.
        """
        for dimension, placement in enumerate(self.placements):
            if placement.is_shard():  # copies have the same sums already
                dist.all_reduce(sums, group=self.mesh.get_group(dimension))

    @property
    def part(self) -> int:
        """The number of this process's part; processes that hold copies have the same."""
        part = 0
        for dimension, placement in enumerate(self.placements):
            if placement.is_shard():
                part = part * self.mesh.size(dimension) + self.mesh.get_local_rank(dimension)
        return part

    def before(self, rows: Tensor) -> Tensor:
        """How many rows earlier processes have of each tensor, from how many this one has; every process must call it.

        Tensors must be sharded by rows (:func:`is_by_rows`).
        """
        (dimension,) = (i for i, placement in enumerate(self.placements) if placement.is_shard())
        group = self.mesh.get_group(dimension)
        of_processes = [torch.empty_like(rows) for _ in range(dist.get_world_size(group))]
        dist.all_gather(of_processes, rows, group=group)
        return torch.stack(of_processes)[: dist.get_rank(group)].sum(dim=0)


def shards_of(tensor: Tensor) -> Shards | None:
    """How a tensor is sharded; None for a tensor that this process has whole."""
    if not is_dtensor(tensor):
        return None
    sharded: Any = tensor
    return Shards(sharded.device_mesh, tuple(sharded.placements))


def is_by_rows(tensor: Tensor) -> bool:
    """Whether a ``DTensor`` is split into blocks of rows, along one dimension of the mesh, as FSDP2 does by default."""
    shards = shards_of(tensor)
    sharding = [placement for placement in shards.placements if placement.is_shard()] if shards else []
    return len(sharding) == 1 and type(sharding[0]).__name__ == "Shard" and sharding[0].dim == 0


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, which shares its memory; of a tensor that is not sharded, the tensor itself."""
    return tensor._local_tensor if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, sharded or not; of one that is, every process must call it."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def like(sharded: Tensor, part: Tensor) -> Tensor:
    """A ``DTensor`` of which this process has ``part``, spread over the processes as ``sharded`` is.

    A tensor that is not sharded gives ``part`` itself.
    """
    if not is_dtensor(sharded):
        return part
    from torch.distributed.tensor import DTensor

    other: Any = sharded
    return DTensor.from_local(
        _from_zero(part), other.device_mesh, other.placements, run_check=False, shape=other.shape, stride=other.stride()
    )


def _from_zero(part: Tensor) -> Tensor:
    """The same memory as a storage that begins there: of other parts, torch cannot copy or save a ``DTensor``."""
    if part.storage_offset() == 0:
        return part
    if part.numel() == 0:
        return torch.empty_like(part)
    start = part.storage_offset() * part.itemsize
    storage = part.untyped_storage()[start : start + part.numel() * part.itemsize]
    return part.new_empty(0).set_(storage, 0, part.shape, part.stride())
