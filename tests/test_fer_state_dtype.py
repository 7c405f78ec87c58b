"""Gradient consistency with its memory in bfloat16: the same up to rounding that is right on average."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.testing import assert_close

from advanced_optimizers import FEROptimizer
from benchmarks import step
from tests.test_state_dtype import BITWISE, gradients

SHAPES = ((5000,), (30, 20), (), (4, 3, 3, 3), (0,))
every_way = pytest.mark.parametrize("foreach", [False, True], ids=["one by one", "together"])


def made(
    foreach: bool, memory_size: int = 20, params: list[nn.Parameter] | None = None, **settings: Any
) -> tuple[list[nn.Parameter], FEROptimizer]:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator) for shape in SHAPES]
    if params is None:
        params = [nn.Parameter(t.to(memory_format=torch.channels_last) if t.dim() == 4 else t) for t in tensors]
    settings = {"state_dtype": torch.bfloat16, "foreach": foreach, **settings}
    return params, FEROptimizer(params, SGD, {"lr": 0.1}, 0.5, memory_size=memory_size, **settings)


def feed(params: list[nn.Parameter], optimizer: FEROptimizer, steps: list[list[Tensor | None]]) -> None:
    for grads in steps:
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        optimizer.step()


def memories(optimizer: FEROptimizer) -> list[Tensor]:
    return [state["memory"] for _, state in sorted(optimizer.state_dict()["state"].items()) if "memory" in state]


@every_way
def test_memory_and_cosines_are_those_of_float32_up_to_the_stated_error(foreach: bool):
    runs = []
    for dtype in (None, torch.bfloat16):
        params, optimizer = made(foreach, 300, state_dtype=dtype)
        feed(params, optimizer, gradients(300, SHAPES))
        runs.append((params, memories(optimizer)[0], optimizer.consistency_history, optimizer.tensor_cosines[0]))
    (exact, memory, _, cosine), (params, rounded, _, rounded_cosine) = runs
    assert (memory.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    stated = math.sqrt(300 / 12) * 2**-7.5
    assert ((rounded.float() - memory).norm() / memory.norm()).item() == pytest.approx(stated, rel=0.5)
    assert abs(rounded_cosine - cosine) < stated**2 / 2 + 5 * stated / math.sqrt(len(memory))
    moved = (exact[0] - made(foreach)[0][0]).norm()
    assert (params[0] - exact[0]).norm() < 0.5 * stated * moved  # fer_weight is 0.5


@every_way
def test_the_noise_is_new_in_each_step_and_draws_from_no_generator(foreach: bool):
    before = torch.get_rng_state()
    params, optimizer = made(foreach, 1000)
    constant = [torch.full(p.shape, 1.003) for p in params]  # a quarter of the way between two neighbors
    seen = []
    for _ in range(200):
        feed(params, optimizer, [constant])
        seen.append(memories(optimizer)[0].clone().float())
        for p in params:
            del optimizer.state[p]["memory"]
    fractions = (torch.stack(seen) - 1.0) / 2**-7
    assert set(fractions.unique().tolist()) == {0.0, 1.0}
    stated = 0.003 * 2**7
    assert fractions.mean().item() == pytest.approx(stated, abs=0.01)
    assert fractions.mean(dim=0).std().item() == pytest.approx(math.sqrt(stated * (1 - stated) / 200), rel=0.1)
    assert torch.equal(torch.get_rng_state(), before)


@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_too_large_for_the_memory_is_passed_on_and_does_not_enter(foreach: bool, dtype: torch.dtype):
    p = nn.Parameter(torch.zeros(3, dtype=dtype))
    optimizer = FEROptimizer([p], SGD, {"lr": 1.0}, foreach=foreach, state_dtype=torch.bfloat16)
    given = torch.full((3,), 1e38, dtype=dtype)  # its square is more than float32 has
    for grad in (torch.ones(3, dtype=dtype), given):
        before = p.detach().clone()
        p.grad = grad
        optimizer.step()
    assert_close(before - p.detach(), given, **BITWISE)
    assert optimizer.state[p]["memory"].tolist() == [1.0, 1.0, 1.0]


@every_way
def test_a_memory_at_the_end_of_the_range_stays_finite(foreach: bool):
    p = nn.Parameter(torch.zeros(4000))
    optimizer = FEROptimizer([p], SGD, {"lr": 0.0}, memory_size=3, foreach=foreach, state_dtype=torch.bfloat16)
    signs = torch.randn(4000, generator=torch.Generator().manual_seed(0)).sign()
    for _ in range(20):
        p.grad = 2.8e17 * signs * (1 - 1e-6 * torch.arange(4000))
        optimizer.step()
    assert optimizer.state[p]["memory"].isfinite().all()
    optimizer.state[p]["memory"].copy_(torch.finfo(torch.bfloat16).max * signs)
    p.grad = signs
    optimizer.step()
    assert optimizer.state[p]["memory"].isfinite().all()


@pytest.mark.parametrize(
    ("foreach", "dtype", "state", "transient"),
    [
        (False, None, 3.0, 0.0),
        (False, torch.bfloat16, 2.5, 0.5),
        (True, None, 3.0, 1.0),
        (True, torch.bfloat16, 2.5, 2.0),
    ],
)
def test_the_memory_is_the_stated_one(foreach: bool, dtype: torch.dtype | None, state: float, transient: float):
    contender = step.Contender("", None, None, lambda p: FEROptimizer(p, foreach=foreach, state_dtype=dtype))
    found = step.measure_memory(contender, [torch.Size((256, 256))] * 4 + [torch.Size((10,))])
    assert found.state == pytest.approx(state, abs=0.03)
    assert found.transient <= transient + 0.1


@every_way
def test_half_precision_gradients_keep_their_memory_in_bfloat16_too(foreach: bool):
    p = nn.Parameter(torch.zeros(3000, dtype=torch.bfloat16))
    optimizer = FEROptimizer([p], SGD, {"lr": 0.0}, foreach=foreach, state_dtype=torch.bfloat16)
    for value in (1.0, *[0.0] * 1000):  # rounded to the nearest, it would stay 1
        p.grad = torch.full_like(p, value)
        optimizer.step()
    memory = optimizer.state[p]["memory"]
    assert memory.dtype == torch.bfloat16
    assert memory.float().mean().item() == pytest.approx((1 - 1 / 1000) ** 1000, rel=0.02)
