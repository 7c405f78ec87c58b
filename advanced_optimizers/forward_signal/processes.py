"""SigProp in several processes: each learns from its part of a batch, with the gradients of the whole batch.

A local loss is a mean over samples, so the gradient of the whole batch is the average of the parts' gradients, weighted
by their numbers of samples. That is exact only where a sample's loss does not depend on the other samples of its batch;
everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from advanced_optimizers._checks import count_processes, is_dtensor
from advanced_optimizers.forward_signal.layers import SigPropLayer
from advanced_optimizers.forward_signal.losses import LOSSES_OF_SAMPLES

if TYPE_CHECKING:  # a torch built without distributed has no such class
    from torch.distributed import ProcessGroup

__all__ = [
    "average_gradients",
    "check_equal",
    "check_exact",
    "check_sharding",
    "share_of_samples",
]


def check_sharding(net: nn.Module) -> None:
    """Raises a ValueError that names the parameter if one is spread over processes, as FSDP2's are."""
    for name, p in net.named_parameters():
        if is_dtensor(p):
            raise ValueError(
                f"net must have whole parameters, but {name} of shape {tuple(p.shape)} is a DTensor: SigPropOptimizer "
                "averages gradients over processes by itself, so leave out fully_shard"
            )


def check_exact(net: nn.Module) -> None:
    """Raises a RuntimeError that names the layer or the loss unless averaging gradients equals the whole batch."""
    for name, module in net.named_modules():
        if isinstance(module, SigPropLayer) and module.loss.name not in LOSSES_OF_SAMPLES:
            raise RuntimeError(
                f"the local loss {module.loss.name!r} compares a sample with its whole batch, of which each process "
                f"has only a part: in several processes use {' or '.join(map(repr, LOSSES_OF_SAMPLES))}"
            )
        if _learns_from_its_batch(module):
            raise RuntimeError(
                f"{name} is a {type(module).__name__}, which keeps or uses statistics of its batch, of which each "
                "process has only a part: in several processes use norms of single samples (GroupNorm, InstanceNorm; "
                "norm='instance' in SigPropConvNet) or, on GPUs, nn.SyncBatchNorm.convert_sync_batchnorm"
            )


def _learns_from_its_batch(module: nn.Module) -> bool:
    if isinstance(module, nn.SyncBatchNorm):
        return False
    if isinstance(module, _BatchNorm):
        return module.training or module.running_mean is None
    return isinstance(module, _InstanceNorm) and module.training and module.track_running_stats


@torch.no_grad()
def check_equal(net: nn.Module, group: ProcessGroup | None) -> None:
    """Raises a RuntimeError that names the first parameter or buffer that differs between the processes."""
    tensors = dict(chain(net.named_parameters(), net.named_buffers()))
    shapes = [(name, tuple(t.shape)) for name, t in tensors.items()]
    everyones: list[object] = [None] * count_processes(group)
    dist.all_gather_object(everyones, shapes, group=group)
    if any(other != shapes for other in everyones):
        raise RuntimeError(
            "net must be the same network in all processes, but the names or shapes of its tensors are not"
        )
    differs = torch.stack([_differs_from_largest(t, group) for t in tensors.values()])
    dist.all_reduce(differs, dist.ReduceOp.MAX, group=group)
    for (name, _), different in zip(shapes, differs.tolist(), strict=True):
        if different:
            raise RuntimeError(
                f"net must be equal in all processes, but {name} is not: build it after the same torch.manual_seed, or "
                "load the same checkpoint, and give all optimizers the same settings. A layer that keeps statistics of "
                "its batch drifts apart as well. For a network of its own in each process, pass process_group, such as "
                "the first result of torch.distributed.new_subgroups(group_size=1)"
            )


def _differs_from_largest(tensor: Tensor, group: ProcessGroup | None) -> Tensor:
    own = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double()
    largest = own.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
    return (own != largest).any().int()


def share_of_samples(sizes: Sequence[int], device: torch.device, group: ProcessGroup | None) -> float:
    """Returns the share of all samples that this process has, from the sizes of its batches since the last update.

    Raises:
        RuntimeError: Gradients of several batches were accumulated, and their sizes differ between the processes.
    """
    mine = torch.tensor([len(sizes), sum(sizes), hash(tuple(sizes))], device=device)
    everyones = [torch.empty_like(mine) for _ in range(count_processes(group))]
    dist.all_gather(everyones, mine, group=group)
    batches, samples, patterns = torch.stack(everyones, dim=1).tolist()
    if len(set(patterns)) == 1:
        return 1.0 / len(samples)
    if set(batches) != {1}:
        raise RuntimeError(
            "batches whose gradients are accumulated must have equal sizes in all processes, but this process has "
            f"batches of {list(sizes)} samples, and all processes have {samples}: drop the last, uneven batch, or "
            "evaluate local_losses under torch.no_grad()"
        )
    return sizes[0] / sum(samples)


@torch.no_grad()
def average_gradients(params: Iterable[Tensor], share: float, group: ProcessGroup | None) -> None:
    """Replaces each gradient with the sum of all processes' gradients, each multiplied by that process's share.

    A gradient that only other processes have counts as zero here.
    """
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for p in params:
        by_dtype.setdefault(p.dtype, []).append(p)
    for members in by_dtype.values():
        parts = [torch.zeros_like(p) if p.grad is None else p.grad * share for p in members]
        found = parts[0].new_tensor([float(p.grad is not None) for p in members])
        flat = torch.cat([*(part.flatten() for part in parts), found])
        dist.all_reduce(flat, group=group)
        *averages, found = flat.split([p.numel() for p in members] + [len(members)])
        for i, (p, average) in enumerate(zip(members, averages, strict=True)):
            if p.grad is None and found[i] > 0:
                p.grad = torch.empty_like(p)
            if p.grad is not None:  # keeps its layout in memory
                p.grad.copy_(average.view(p.shape))
