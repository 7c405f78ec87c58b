"""What the two processes run in the tests of the other optimizers: DDP, ZeRO and FSDP2."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from advanced_optimizers import (
    ConvolutionalSGD,
    ConvolutionalSGDv2,
    FEROptimizer,
    GradientCorrectionOptimizer,
    LocalLossConvSGD,
    MuAdam,
    MuAdamW,
    MuReadout,
    MuSGD,
    create_mu_transfer_optimizer,
    set_base_shapes,
)

STEPS, SAMPLES = 10, 12
MOMENTUM = {"lr": 0.05, "momentum": 0.9}


def plain(width: int = 16, readout: Callable[..., nn.Module] = nn.Linear) -> nn.Module:
    """A convolution that down-samples, a norm of single samples, dense layers; in double precision."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(128, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
        readout(width, 3),
    ).double()


def scaled() -> nn.Module:
    return set_base_shapes(plain(16, MuReadout), plain(4, MuReadout), delta=plain(8, MuReadout))


def mlp(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)
    ).double()


def transferred(model: nn.Module) -> Optimizer:
    tuned = {"lr": 1e-2, "weight_decay": 0.1}
    return create_mu_transfer_optimizer(model, {"width": 8}, {"width": 32}, tuned)


def correction(params: Iterable[Tensor], **more: Any) -> GradientCorrectionOptimizer:
    strengths = {"gcw_strength": 1.0, "gcode_strength": 1.0, "train_every": 1}
    return GradientCorrectionOptimizer(params, SGD, MOMENTUM, **strengths, **more)


def convolution(kind: Callable[..., Optimizer], **settings: Any) -> Callable[[nn.Module], Optimizer]:
    return lambda model: kind(model.parameters(), 0.1, kernel_size=5, **settings)


def within_rows(kind: Callable[..., Optimizer], **settings: Any) -> Callable[[nn.Module], Optimizer]:
    """Filters along height and width, matrices along their rows."""

    def build(model: nn.Module) -> Optimizer:
        params = list(model.parameters())
        filters, others = [p for p in params if p.dim() == 4], [p for p in params if p.dim() != 4]
        groups = [{"params": filters, "axes": (-2, -1)}, {"params": others, "axes": (-1,)}]
        return kind(groups, 0.1, kernel_size=5, **settings)

    return build


# A name, its model and its optimizer.
OPTIMIZERS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Optimizer]]] = {
    "adam": (plain, lambda model: Adam(model.parameters())),
    "fer": (plain, lambda model: FEROptimizer(model.parameters(), fer_weight=0.5)),
    "fer over sgd": (plain, lambda model: FEROptimizer(model.parameters(), SGD, MOMENTUM, 0.5, 0.9, 10)),
    "correction": (plain, lambda model: correction(model.parameters())),
    "correction of hidden states": (
        plain,
        lambda model: correction(model.parameters(), model=model, example_input=torch.ones(2, 1, 8, 8).double()),
    ),
    "fer over correction": (plain, lambda model: FEROptimizer(model.parameters(), correction, {}, 0.5)),
    "fer over convolution": (plain, lambda model: FEROptimizer(model.parameters(), ConvolutionalSGD, MOMENTUM)),
    "convolution": (plain, convolution(ConvolutionalSGD)),
    "local convolution": (plain, convolution(LocalLossConvSGD, kernel_every=2)),
    "convolution v2": (plain, convolution(ConvolutionalSGDv2, kernel_every=2)),
    "convolution within rows": (plain, within_rows(ConvolutionalSGD, norm_preserving=True, permute_axes=3)),
    "local convolution within rows": (plain, within_rows(LocalLossConvSGD, local_lr=0.1, kernel_every=2)),
    "convolution v2 within rows": (
        plain,
        within_rows(ConvolutionalSGDv2, kernel_lr=0.1, kernel_every=2, noise_estimation_momentum=0.8),
    ),
    "mu sgd": (scaled, lambda model: MuSGD(model, **MOMENTUM)),
    "mu adam": (scaled, lambda model: MuAdam(model, lr=1e-2)),
    "mu adamw": (scaled, lambda model: MuAdamW(model, lr=1e-2, weight_decay=0.1)),
    "mu transfer": (lambda: mlp(32), transferred),
}

IN_BFLOAT16: dict[str, Callable[[nn.Module], Optimizer]] = {
    "fer": lambda model: FEROptimizer(model.parameters(), fer_weight=0.5, memory_size=10, state_dtype=torch.bfloat16),
    "correction": lambda model: correction(model.parameters(), state_dtype=torch.bfloat16),
    "convolution v2 within rows": within_rows(
        ConvolutionalSGDv2, kernel_lr=0.1, kernel_every=2, noise_estimation_momentum=0.8, state_dtype=torch.bfloat16
    ),
}


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return OPTIMIZERS[name][0]()


def batches() -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(STEPS):
        x = torch.randn(SAMPLES, 1, 8, 8, generator=rng, dtype=torch.float64)
        batches.append((x, torch.randint(3, (SAMPLES,), generator=rng)))
    return batches


def run(model: nn.Module, optimizer: Optimizer, steps: slice = slice(None)) -> None:
    """Trains on this process's half of each batch, on whole batches in the test's own process."""
    for batch in batches()[steps]:
        x, y = (t.chunk(2)[dist.get_rank()] if dist.is_initialized() else t for t in batch)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def parameters_of(model: nn.Module) -> list[Tensor]:
    return [(p.full_tensor() if hasattr(p, "full_tensor") else p).detach() for p in model.parameters()]


def train_whole(name: str) -> list[Tensor]:
    model = model_of(name)
    run(model, OPTIMIZERS[name][1](model))
    return parameters_of(model)


def train_ddp(name: str) -> list[Tensor]:
    model = model_of(name)
    optimizer = OPTIMIZERS[name][1](model)
    run(nn.parallel.DistributedDataParallel(model), optimizer)
    return parameters_of(model)


def train_and_save(name: str) -> dict[str, Any]:
    """The state of this process's optimizer after training under DDP."""
    model = model_of(name)
    optimizer = OPTIMIZERS[name][1](model)
    run(nn.parallel.DistributedDataParallel(model), optimizer)
    return optimizer.state_dict()


def follow_losses(losses: list[list[float]]) -> tuple[Tensor, Tensor]:
    """The kernel after this process's losses, and one that heard the means of all processes' losses."""
    p = nn.Parameter(torch.zeros(8))
    p.grad = torch.ones(8)
    followed = ConvolutionalSGD([p], kernel_size=5, kernel_lr=0.1)
    for loss in losses[dist.get_rank()]:
        followed.step(lambda loss=loss: loss)
    of_means = torch.tensor(losses, dtype=torch.float64).mean(dim=0).tolist()
    expected = ConvolutionalSGD([p], kernel_size=5, kernel_lr=0.1)
    for mean in of_means:
        expected.step(lambda mean=mean: mean)
    return followed.get_kernel(), expected.get_kernel()


# ---- ZeroRedundancyOptimizer: each process steps and keeps the state of a part of the parameters --------------------


def zero(params: Iterable[Any], optimizer_class: Callable[..., Optimizer], **settings: Any) -> Optimizer:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(params, optimizer_class=optimizer_class, **settings)


def zero_sgd(params: Iterable[Any], **settings: Any) -> Optimizer:
    return zero(params, SGD, **settings)


OVER_SGD: dict[str, Any] = {"base_optimizer": SGD, "base_optimizer_kwargs": MOMENTUM}
FER = {"fer_weight": 0.5, "consistency_threshold": 0.9, "memory_size": 10}
CORRECTION = {"gcw_strength": 1.0, "gcode_strength": 1.0, "train_every": 1}
# The way to call it, and the row of OPTIMIZERS that it must equal.
ZERO: dict[str, tuple[str, Callable[[nn.Module], Optimizer]]] = {
    "fer's defaults": ("fer", lambda model: zero(model.parameters(), FEROptimizer, fer_weight=0.5)),
    "fer's class": ("fer over sgd", lambda model: zero(model.parameters(), FEROptimizer, **OVER_SGD, **FER)),
    "correction's class": (
        "correction",
        lambda model: zero(model.parameters(), GradientCorrectionOptimizer, **OVER_SGD, **CORRECTION),
    ),
    "convolution's class": (
        "convolution v2",
        lambda model: zero(model.parameters(), ConvolutionalSGDv2, lr=0.1, kernel_size=5, kernel_every=2),
    ),
    "fer bound to its settings": (
        "fer over sgd",
        lambda model: zero(model.parameters(), partial(FEROptimizer, **OVER_SGD, **FER)),
    ),
    "two groups": (
        "fer over sgd",
        lambda model: zero([{"params": [p]} for p in model.parameters()], partial(FEROptimizer, **OVER_SGD, **FER)),
    ),
    "fer over zero": ("fer over sgd", lambda model: FEROptimizer(model.parameters(), zero_sgd, MOMENTUM, **FER)),
    "muP over zero": ("mu sgd", lambda model: MuSGD(model, impl=zero_sgd, **MOMENTUM)),
}


def train_zero(way: str) -> list[Tensor]:
    name, build = ZERO[way]
    model = model_of(name)
    run(nn.parallel.DistributedDataParallel(model), build(model))
    return parameters_of(model)


def resume_zero(way: str) -> list[Tensor]:
    """Like :func:`train_zero`, but with a checkpoint in the middle, which rank 0 collects and both load."""
    name, build = ZERO[way]
    model = model_of(name)
    optimizer = build(model)
    spread = nn.parallel.DistributedDataParallel(model)
    run(spread, optimizer, slice(5))
    optimizer.consolidate_state_dict()
    saved: list[Any] = [optimizer.state_dict() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(saved)
    resumed = build(model)
    resumed.load_state_dict(saved[0])
    run(spread, resumed, slice(5, None))
    return parameters_of(model)


def refuse_mu_class() -> str:
    model = scaled()
    try:
        zero(model.parameters(), MuSGD, **MOMENTUM)
    except TypeError as error:
        return str(error)
    return "accepted"


# ---- FSDP2: each parameter is a DTensor, of which each process has a part -------------------------------------------


def sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        if next(layer.parameters(), None) is not None:
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def train_sharded(name: str) -> list[Tensor]:
    model = sharded(model_of(name))
    run(model, OPTIMIZERS[name][1](model))
    return parameters_of(model)


def resume_sharded(name: str, by_torch: bool) -> list[Tensor]:
    """Half of the steps, then the rest with an optimizer that loaded the state of the first."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    model = sharded(model_of(name))
    first = OPTIMIZERS[name][1](model)
    run(model, first, slice(STEPS // 2))
    second = OPTIMIZERS[name][1](model)
    if by_torch:
        set_optimizer_state_dict(model, second, deepcopy(get_optimizer_state_dict(model, first)))
    else:
        second.load_state_dict(deepcopy(first.state_dict()))
    run(model, second, slice(STEPS // 2, None))
    return parameters_of(model)


def resume_sharded_in_bfloat16(name: str, by_torch: bool) -> tuple[bool, bool]:
    """Whether halves of a run make the whole one bit for bit, and whether the memories are in bfloat16."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    ends = []
    for is_resumed in (False, True):
        model = sharded(model_of(name))
        optimizer = IN_BFLOAT16[name](model)
        run(model, optimizer, slice(STEPS // 2))
        if is_resumed:
            first, optimizer = optimizer, IN_BFLOAT16[name](model)
            if by_torch:
                set_optimizer_state_dict(model, optimizer, deepcopy(get_optimizer_state_dict(model, first)))
            else:
                optimizer.load_state_dict(deepcopy(first.state_dict()))
        run(model, optimizer, slice(STEPS // 2, None))
        ends.append(parameters_of(model))
    kept = {
        state[large].dtype
        for state in optimizer.state.values()
        for large in ("memory", "last", "signal")
        if large in state
    }
    return all(map(torch.equal, *ends)), kept == {torch.bfloat16}


def watch_sharded() -> list[float]:
    """The cosines, which are of whole tensors; the last bias has three numbers, so parts differ in size."""
    model = sharded(model_of("fer"))
    optimizer = OPTIMIZERS["fer"][1](model)
    assert isinstance(optimizer, FEROptimizer)
    run(model, optimizer)
    return optimizer.consistency_history


def measure_sharded(name: str) -> dict[str, dict[int, float]]:
    """What the kernels make of the last gradients."""
    model = sharded(model_of(name))
    optimizer: Any = OPTIMIZERS[name][1](model)
    run(model, optimizer)
    stats: dict[str, dict[int, float]] = optimizer.get_stats()
    return stats


def refuse_sharded(name: str) -> tuple[str, bool, int]:
    """The error at the first step, whether the parameters stayed, and how many have a state."""
    model = sharded(model_of(name))
    before = [p.clone() for p in parameters_of(model)]
    optimizer = OPTIMIZERS[name][1](model)
    message = "accepted"
    try:
        run(model, optimizer)
    except ValueError as error:
        message = str(error)
    stayed = all(torch.equal(a, b) for a, b in zip(parameters_of(model), before, strict=True))
    return message, stayed, len(optimizer.state)
