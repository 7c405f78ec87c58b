"""How many operations a step dispatches: the same on every machine.

On an accelerator a small operation costs what its launch costs, some microseconds. That can be counted without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode

from advanced_optimizers import (
    ConvolutionalSGD,
    ConvolutionalSGDv2,
    FEROptimizer,
    GradientCorrectionOptimizer,
    LocalLossConvSGD,
)
from benchmarks.result import Result, Rows, cpu_environment

# A period of all contenders: gradient correction trains its predictors at every fourth step.
STEPS = 4

Shapes = list[tuple[int, ...]]
Build = Callable[[list[nn.Parameter]], Any]

CONTENDERS: dict[str, Build] = {
    "Adam, for loop": lambda p: Adam(p, foreach=False),
    "Adam, foreach": lambda p: Adam(p, foreach=True),
    "Adam, fused": lambda p: Adam(p, fused=True),
    "FER over Adam, one by one": lambda p: FEROptimizer(p, foreach=False),
    "FER over Adam, together": lambda p: FEROptimizer(p, foreach=True),
    "FER in bfloat16 over Adam, together": lambda p: FEROptimizer(p, foreach=True, state_dtype=torch.bfloat16),
    "Correction over Adam, one by one": lambda p: GradientCorrectionOptimizer(p, foreach=False),
    "Correction over Adam, together": lambda p: GradientCorrectionOptimizer(p, foreach=True),
    "Correction in bfloat16 over Adam, together": lambda p: GradientCorrectionOptimizer(
        p, foreach=True, state_dtype=torch.bfloat16
    ),
    **{
        f"{kind.__name__}, {way}": partial(kind, foreach=together, base_optimizer_kwargs={"fused": True})
        for kind in (ConvolutionalSGD, LocalLossConvSGD, ConvolutionalSGDv2)
        for way, together in (("one by one", False), ("together", True))
    },
    "ConvolutionalSGDv2 in bfloat16, together": lambda p: ConvolutionalSGDv2(
        p, foreach=True, base_optimizer_kwargs={"fused": True}, state_dtype=torch.bfloat16
    ),
}


class Operations(TorchDispatchMode):
    """Counts what is dispatched while it is entered, by name, without the profiler's marks."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not str(func).startswith("profiler"):
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def run(quick: bool) -> Result:
    """Counts over the tensors of ResNet-18 and of ResNet-50; the quick profile makes them narrow."""
    of_models = [resnet_shapes(deep, 8 if quick else 64) for deep in (False, True)]
    measurements = []
    for name, build in CONTENDERS.items():
        counted = {f"{len(shapes)} tensors": count(build, shapes) for shapes in of_models}
        operations = {tensors: round(counts.total() / STEPS) for tensors, counts in counted.items()}
        measurements.append({"optimizer": name, "operations": operations})
    return Result(
        name="operations",
        caption=(
            f"Dispatched operations in a step, views included, a mean of {STEPS} steps, over the parameter tensors of "
            "ResNet-18 and of ResNet-50."
        ),
        rows=_rows(measurements),
        measurements=measurements,
        environment=cpu_environment(),
    )


def count(build: Build, shapes: Shapes) -> Counter[str]:
    """What is dispatched in :data:`STEPS` steps, once everything is set up."""
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    optimizer = build(params)
    gradients = [[torch.randn(p.shape, generator=generator) for p in params] for _ in range(2)]
    for step in range(STEPS):
        _step(optimizer, params, gradients[step % 2])
    with Operations() as operations:
        for step in range(STEPS):
            _step(optimizer, params, gradients[step % 2])
    return operations.counts


def _step(optimizer: Any, params: list[nn.Parameter], gradients: list[Tensor]) -> None:
    for p, grad in zip(params, gradients, strict=True):
        p.grad = grad
    optimizer.step()


def resnet_shapes(deep: bool, width: int) -> Shapes:
    """The shapes of the parameters of ResNet-18 or, ``deep``, of ResNet-50, for images of 224 pixels."""
    shapes: Shapes = [(width, 3, 7, 7), (width,), (width,)]
    inputs, expansion = width, 4 if deep else 1
    for stage, blocks in enumerate((3, 4, 6, 3) if deep else (2, 2, 2, 2)):
        inner = width * 2**stage
        for _ in range(blocks):
            outputs = inner * expansion
            convolutions = [(inner, inputs, 1), (inner, inner, 3), (outputs, inner, 1)]
            for to, from_, side in convolutions if deep else [(inner, inputs, 3), (inner, inner, 3)]:
                shapes += [(to, from_, side, side), (to,), (to,)]
            if inputs != outputs:  # the shortcut
                shapes += [(outputs, inputs, 1, 1), (outputs,), (outputs,)]
            inputs = outputs
    return [*shapes, (1000, inputs), (1000,)]


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    return [
        {"Optimizer": m["optimizer"], **{tensors: str(operations) for tensors, operations in m["operations"].items()}}
        for m in measurements
    ]
