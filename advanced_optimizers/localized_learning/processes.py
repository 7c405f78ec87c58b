"""Localized learning in several processes, each with its own part of the batch and a copy of the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from advanced_optimizers._checks import count_processes


def several() -> bool:
    """Whether more than one process trains, whatever the model is wrapped in."""
    return count_processes() > 1


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside ``DistributedDataParallel``; any other model as it is.

    Raises:
        TypeError: ``model`` is wrapped so that no module sees the whole weights and inputs.
        ValueError: It is wrapped in ``DistributedDataParallel`` that waits for a gradient of every parameter.
    """
    if isinstance(model, nn.DataParallel):
        raise TypeError(
            "model must not be wrapped in DataParallel, because each of its copies would learn a direction of its own: "
            "pass the module itself and train it on one device, or use DistributedDataParallel"
        )
    if isinstance(model, nn.parallel.DistributedDataParallel):
        if not model.find_unused_parameters or model.static_graph:
            raise ValueError(
                "model must be wrapped in DistributedDataParallel with find_unused_parameters=True and without "
                f"static_graph, got find_unused_parameters={model.find_unused_parameters} and "
                f"static_graph={model.static_graph}: localized blocks have no gradient, for which it would wait"
            )
        model = model.module
    _refuse_sharded(model)
    return model


def _refuse_sharded(model: nn.Module) -> None:
    if not (dist.is_available() and dist.is_initialized()):
        return
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    wrapped = any(isinstance(module, FullyShardedDataParallel) for module in model.modules())
    if wrapped or any(isinstance(p, DTensor) for p in model.parameters()):
        raise TypeError(
            "model must hold its whole parameters in each process, got one that is sharded (FSDP, DTensor): a "
            "localized layer learns its whole weight; train it with DistributedDataParallel"
        )


def add_up(directions: Mapping[Tensor, Tensor], weights: Sequence[Tensor]) -> dict[Tensor, Tensor]:
    """The direction of each weight, summed over the processes; one may lack some, because it skipped their layers.

    A direction is a sum over samples, by either rule, so this sum is the direction of the whole batch.
    """
    sums = {}
    for weight in weights:
        own = directions.get(weight)
        wide = torch.promote_types(weight.dtype, torch.float32)
        sums[weight] = torch.zeros_like(weight, dtype=wide) if own is None else own.to(wide)
        sums[weight] = sums[weight].contiguous()
        dist.all_reduce(sums[weight])
    return sums


def mean(loss: float | None, device: torch.device) -> float | None:
    """The mean over the processes that know the loss; None if none does."""
    told = torch.tensor([0.0 if loss is None else loss, float(loss is not None)], dtype=torch.float64, device=device)
    dist.all_reduce(told)
    total, count = told.tolist()
    return total / count if count else None


def union(table: Tensor) -> Tensor:
    """The entries that are 1 in any process."""
    dist.all_reduce(table, dist.ReduceOp.MAX)
    return table


def check_equal(
    schedule: Sequence[float], weights: Sequence[Tensor], grads: Sequence[Tensor], device: torch.device
) -> None:
    """Raises a RuntimeError unless all processes have the same schedule, localized weights and gradients.

    Sums are compared: they are equal to the last bit if the tensors are.
    """
    ways_out = {
        "the schedule": "load the same checkpoint and end the epochs at the same steps in each of them",
        "the localized weights": "start from the same weights and leave gradients to DistributedDataParallel; models "
        "that have nothing to do with each other must not share a process group",
        "the gradients": "wrap the model in DistributedDataParallel with find_unused_parameters=True, which does not "
        "wait for the gradients of localized blocks",
    }
    own = [sum(schedule), _total(weights), _total(grads)]
    low = torch.tensor(own, dtype=torch.float64, device=device)
    high = low.clone()
    dist.all_reduce(low, dist.ReduceOp.MIN)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    for (name, way_out), least, most in zip(ways_out.items(), low.tolist(), high.tolist(), strict=True):
        if most - least > 1e-9 * max(abs(least), abs(most)):  # false for NaN
            raise RuntimeError(
                f"{name} must be the same in all {dist.get_world_size()} processes of the default group, got sums "
                f"from {least!r} to {most!r}: {way_out}"
            )


def _total(tensors: Sequence[Tensor]) -> float:
    return sum(float(t.double().sum()) for t in tensors)
