"""What the contract tests share: made-up gradients, a small model, twins to compare with."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.case import Case

SHAPES = ((), (3,), (5, 7), (5, 7), (33, 65), (4, 3, 3, 3))  # two alike: what one keeps is not the other's
BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0, "equal_nan": True}
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))

Gradients = list[list[Tensor]]


def every(cases: Iterable[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def every_variant(cases: Iterable[Case]) -> pytest.MarkDecorator:
    pairs = [pytest.param(c, s, id=f"{c.name}, {name}") for c in cases for name, s in c.variants.items()]
    return pytest.mark.parametrize(("case", "settings"), pairs)


def make_params(
    rng: torch.Generator, dtype: torch.dtype = torch.float32, shapes: Sequence[tuple[int, ...]] = SHAPES
) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape, generator=rng).to(dtype)) for shape in shapes]


def make_gradients(rng: torch.Generator, params: Sequence[Tensor], steps: int) -> Gradients:
    """Gradients that share a direction, so that some agree with the past ones and some do not."""
    drift = [torch.randn(p.shape, generator=rng) for p in params]
    noise = [[torch.randn(p.shape, generator=rng) for p in params] for _ in range(steps)]
    return [[(d + n).to(p) for d, n, p in zip(drift, ns, params, strict=True)] for ns in noise]


def feed(optimizer: Optimizer, params: Sequence[Tensor], gradients: Iterable[Sequence[Tensor | None]]) -> None:
    for grads in gradients:
        for p, g in zip(params, grads, strict=True):
            p.grad = None if g is None else g.clone(memory_format=torch.preserve_format)
        optimizer.step()


def twins(params: Sequence[Tensor]) -> list[nn.Parameter]:
    return [nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in params]


def make_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def make_batches(rng: torch.Generator, count: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(6, 1, 8, 8, generator=rng), torch.randint(3, (6,), generator=rng)) for _ in range(count)]


def train(model: nn.Module, optimizer: Optimizer, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def lr_of(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a checkpoint brings it back, read as data only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
