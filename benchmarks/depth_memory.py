"""The memory of a training step as depth grows: signal propagation layer by layer, all at once, and backpropagation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.optim import SGD

from advanced_optimizers import SigPropConvNet, SigPropNet, SigPropOptimizer, SigPropSequential
from benchmarks.memory import AllocationTrace
from benchmarks.result import Result, Rows, cpu_environment

DEPTHS = (4, 8, 16, 32)
MEBIBYTE = 2**20
_CLASSES = 10
_DENSE_WIDTH, _CHANNELS, _SIDE = 256, 16, 16

Step = Callable[[SigPropOptimizer, torch.Tensor, torch.Tensor], object]


def run(quick: bool) -> Result:
    """Counts the bytes of every way to train on every network; the quick profile uses a small batch."""
    batch_size = 16 if quick else 256
    measurements = [
        {
            "network": network,
            "training": training,
            "depths": DEPTHS,
            "peak_bytes": [peak_bytes(step, build(depth), batch_size) for depth in DEPTHS],
        }
        for network, build in NETWORKS.items()
        for training, step in TRAININGS.items()
    ]
    return Result(
        name="depth_memory",
        caption=(
            f"Peak memory of a training step, in MiB, by number of hidden layers: batch {batch_size}, float32, SGD. "
            "Counted are all tensors that the step makes (activations, gradients, what operations take and give back), "
            f"not the weights. Dense layers have {_DENSE_WIDTH} units; convolutions have {_CHANNELS} channels of "
            f"{_SIDE}x{_SIDE} with BatchNorm. Growth: from {DEPTHS[0]} to {DEPTHS[-1]} layers."
        ),
        rows=_rows(measurements),
        measurements=measurements,
        environment=cpu_environment(),
    )


def peak_bytes(step: Step, net: SigPropSequential, batch_size: int) -> int:
    """Returns the most bytes of new tensors that a training step holds, after a first step has allocated what stays."""
    optimizer = SigPropOptimizer(net, lr=0.01, base_optimizer=SGD)
    x = torch.randn(batch_size, *net.input_shape, generator=torch.Generator().manual_seed(0))
    y = torch.arange(batch_size) % _CLASSES
    step(optimizer, x, y)
    optimizer.zero_grad()
    with AllocationTrace() as trace:
        step(optimizer, x, y)
    return trace.peak


def dense(depth: int) -> SigPropNet:
    """Returns a dense network whose layers all have the same width."""
    return SigPropNet(_DENSE_WIDTH, [_DENSE_WIDTH] * depth, _CLASSES)


def convolutional(depth: int) -> SigPropConvNet:
    """Returns a convolutional network of one stage, so that all its layers have the same size."""
    return SigPropConvNet((3, _SIDE, _SIDE), [_CHANNELS], _CLASSES, convolutions_per_stage=depth)


def learn(optimizer: SigPropOptimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    """Updates each layer as soon as it is reached."""
    optimizer.learn(x, y)


def local_losses(optimizer: SigPropOptimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    """Builds the graphs of all layers, then computes their gradients."""
    optimizer.zero_grad()
    torch.stack(optimizer.net.local_losses(x, y)).sum().backward()
    optimizer.step()


def backpropagation(optimizer: SigPropOptimizer, x: torch.Tensor, y: torch.Tensor) -> None:
    """Trains the same network like an ordinary one."""
    optimizer.zero_grad()
    F.cross_entropy(optimizer.net(x), y).backward()
    optimizer.step()


NETWORKS: dict[str, Callable[[int], SigPropSequential]] = {"dense": dense, "convolutional": convolutional}
TRAININGS: dict[str, Step] = {
    "SigProp, layer by layer": learn,
    "SigProp, all layers": local_losses,
    "backpropagation": backpropagation,
}


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    return [
        {
            "Training": m["training"],
            "Network": m["network"],
            **{f"{d} layers": f"{peak / MEBIBYTE:.2f}" for d, peak in zip(m["depths"], m["peak_bytes"], strict=True)},
            "Growth": f"{m['peak_bytes'][-1] / m['peak_bytes'][0]:.2f}",
        }
        for m in measurements
    ]
