"""What the two processes run in the tests of signal propagation on shards of a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import SGD

from advanced_optimizers import SigPropConvNet, SigPropNet, SigPropOptimizer, SigPropPipeline, SigPropSequential

STEPS, SAMPLES = 10, 12


def attached() -> nn.Sequential:
    """Each kind of module that belongs to the layer before it, but those that use statistics of the batch."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(36, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 8), nn.RMSNorm(8), nn.Tanh()),
        nn.Linear(8, 3),
    )


class Sometimes(nn.Module):
    """Adds a branch to the samples above a threshold: without one in its part of the batch, a process has no gradient.

    The targets, of which there are three, do not pass through the branch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.always, self.branch = nn.Linear(64, 8), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        x, out = x.flatten(1), self.always(x.flatten(1))
        chosen = (x[:, 0] > 5.0).nonzero()[:, 0]
        return out.index_add(0, chosen, self.branch(x[chosen])) if len(chosen) else out


def shared(net: SigPropSequential) -> SigPropOptimizer:
    return SigPropOptimizer(net, 0.1, 0.05, base_optimizer=SGD, base_optimizer_kwargs={"momentum": 0.9})


NETWORKS: dict[str, Callable[..., SigPropSequential]] = {
    "dense": lambda **options: SigPropNet(64, [16, 8], 3, **options),
    "images": lambda **options: SigPropConvNet((1, 8, 8), (4, 8), 3, norm=None, **options),
    "instance norm": lambda **options: SigPropConvNet((1, 8, 8), (4, 8), 3, norm="instance", **options),
    "attached": lambda **options: SigPropSequential(attached(), (1, 8, 8), 3, **options),
    "channels last": lambda **options: NETWORKS["images"](**options).to(memory_format=torch.channels_last),
    "double": lambda **options: NETWORKS["attached"](**options).double(),
    "sometimes": lambda **options: SigPropSequential(
        nn.Sequential(Sometimes(), nn.ReLU(), nn.Linear(8, 3)), (1, 8, 8), 3, **options
    ),
}


def network(name: str, **options: Any) -> SigPropSequential:
    torch.manual_seed(0)
    return NETWORKS[name](**options)


def batches(dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(STEPS):
        x, y = torch.randn(SAMPLES, 1, 8, 8, generator=rng), torch.randint(3, (SAMPLES,), generator=rng)
        x[-1, 0, 0, 0] = 6.0  # for Sometimes, in the last part only
        batches.append((x.to(dtype), y))
    return batches


def part(tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """This process's part; the whole in the test's own process."""
    return tensor.split(sizes)[dist.get_rank()] if dist.is_initialized() else tensor


def tensors_of(net: nn.Module) -> list[Tensor]:
    return [t.detach() for t in (*net.parameters(), *net.buffers())]


def train(name: str, options: dict[str, Any], way: str, sizes: tuple[int, ...], adam: bool = False) -> list[Tensor]:
    """Trains on this process's part of each batch; returns parameters and buffers."""
    net = network(name, **options)
    optimizer = SigPropOptimizer(net, 1e-2) if adam else shared(net)
    for x, y in batches(next(net.parameters()).dtype):
        WAYS[way](optimizer, part(x, sizes), part(y, sizes))
    return tensors_of(net)


def by_learn(optimizer: SigPropOptimizer, x: Tensor, y: Tensor) -> None:
    optimizer.learn(x, y)
    assert all(p.grad is None for p in optimizer.net.parameters())


def by_loop(optimizer: SigPropOptimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    sum(optimizer.net.local_losses(x, y)).backward()
    optimizer.step()


def by_closure(optimizer: SigPropOptimizer, x: Tensor, y: Tensor) -> None:
    def closure() -> Tensor:
        losses = sum(optimizer.net.local_losses(x, y))
        optimizer.zero_grad()
        losses.backward()
        return losses

    optimizer.step(closure)


def by_accumulation(optimizer: SigPropOptimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    for _ in range(2):
        sum(optimizer.net.local_losses(x, y)).backward()
        with torch.no_grad():
            optimizer.net.local_losses(x[: 1 + dist.is_initialized()], y[: 1 + dist.is_initialized()])
    optimizer.step()


class Losses(nn.Module):
    """For ``DistributedDataParallel``, which averages the gradients of what its module returns."""

    def __init__(self, net: SigPropSequential) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack(self.net.local_losses(x, y)).sum()


def by_ddp(optimizer: SigPropOptimizer, x: Tensor, y: Tensor) -> None:
    model: nn.Module = Losses(optimizer.net)
    if dist.is_initialized():
        model = nn.parallel.DistributedDataParallel(model)
    optimizer.zero_grad()
    model(x, y).backward()
    optimizer.step()


def by_scaler(optimizer: SigPropOptimizer, x: Tensor, y: Tensor) -> None:
    """With a GradScaler; the third batch overflows, in two processes only in the one with the last sample."""
    kept = vars(optimizer)
    scaler = kept.setdefault("scaler", torch.amp.GradScaler("cpu", 1024.0))
    kept["count"] = kept.get("count", 0) + 1
    if kept["count"] == 3 and x[-1, 0, 0, 0] == 6.0:
        x = x * torch.inf
    optimizer.zero_grad()
    scaler.scale(sum(optimizer.net.local_losses(x, y))).backward()
    if kept["count"] % 2:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


WAYS = {
    "scaler": by_scaler,
    "learn": by_learn,
    "loop": by_loop,
    "closure": by_closure,
    "accumulation": by_accumulation,
    "ddp": by_ddp,
}


# ---- what is refused ---------------------------------------------------------------------------------------------


def refusal(call: Callable[[], Any], net: nn.Module) -> str:
    """The error of a call that must fail and leave the network's parameters as they were."""
    before = copy.deepcopy(list(net.parameters()))
    try:
        call()
    except (RuntimeError, ValueError, TypeError) as error:
        unchanged = all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
        return str(error) if unchanged else f"the network changed: {error}"
    return "accepted"


def refuse_loss_or_norm(options: dict[str, Any], way: str) -> str:
    norm = options.pop("norm", None)
    net = SigPropConvNet((1, 8, 8), (4, 8), 3, norm=norm, **options)
    return refusal(lambda: WAYS[way](shared(net), *batches()[0]), net)


def refuse_running_statistics(way: str) -> str:
    norm = nn.InstanceNorm2d(4, track_running_stats=True)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(144, 3))
    net = SigPropSequential(model, (1, 8, 8), 3)
    return refusal(lambda: WAYS[way](shared(net), *batches()[0]), net)


def accept_batch_norm_in_evaluation() -> list[Tensor]:
    net = SigPropConvNet((1, 8, 8), (4, 8), 3).eval()
    shared(net).learn(*(part(t, (6, 6)) for t in batches()[0]))
    return tensors_of(net)


def refuse_other_weights(way: str) -> str:
    torch.manual_seed(dist.get_rank())
    net = SigPropNet(64, [8], 3)
    return refusal(lambda: WAYS[way](shared(net), *batches()[0]), net)


def refuse_other_shapes() -> str:
    net = SigPropNet(64, [8 + dist.get_rank()], 3)
    return refusal(lambda: shared(net).learn(*batches()[0]), net)


class RunningMean(nn.Module):
    """Keeps a statistic of its batch in a buffer, which no check knows by its type."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.lerp_(x.mean(), 0.1)
        return x


def refuse_drift(what: str) -> str:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), RunningMean() if what == "buffer" else nn.ReLU())
    net = SigPropSequential(model.append(nn.Linear(8, 3)), (1, 8, 8), 3)
    optimizer = SigPropOptimizer(net, lr=0.1 * (1 + dist.get_rank()) if what == "lr" else 0.1)
    own = [part(t, (6, 6)) for t in batches()[0]]
    optimizer.learn(*own)
    return refusal(lambda: optimizer.learn(*own), net)


def refuse_uneven_accumulation() -> str:
    net = network("dense")
    optimizer = shared(net)
    for (x, y), sizes in zip(batches(), ((6, 6), (7, 5)), strict=False):
        sum(net.local_losses(part(x, sizes), part(y, sizes))).backward()
    return refusal(optimizer.step, net)


def refuse_pipeline() -> str:
    net = network("dense")
    with SigPropPipeline(shared(net), 2) as pipeline:
        return refusal(lambda: pipeline.submit(*batches()[0]), net)


def refuse_wrapped() -> str:
    net = network("dense")
    return refusal(lambda: SigPropOptimizer(nn.parallel.DistributedDataParallel(net)), net)


def refuse_group() -> str:
    other = [dist.new_group([0]), dist.new_group([1])][1 - dist.get_rank()]
    net = network("dense")
    return refusal(lambda: SigPropOptimizer(net, process_group=other), net)


def refuse_sharded(when: str) -> str:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net = network("dense")
    optimizer = shared(net)
    fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
    if when == "before":
        return refusal(lambda: SigPropOptimizer(net), nn.Module())
    return refusal(lambda: optimizer.learn(*(part(t, (6, 6)) for t in batches()[0])), nn.Module())


def learn_alone(by_pipeline: bool) -> list[Tensor]:
    """Each process trains a network of its own, in a group of its own; returns that of rank 0's seed."""
    group, _ = dist.new_subgroups(group_size=1)
    torch.manual_seed(dist.get_rank())
    net = SigPropNet(64, [16, 8], 3)
    optimizer = SigPropOptimizer(net, process_group=group)
    if by_pipeline:
        with SigPropPipeline(optimizer, 2) as pipeline:
            for x, y in batches():
                pipeline.submit(x, y)
    else:
        for x, y in batches():
            optimizer.learn(x, y)
    return tensors_of(net)
