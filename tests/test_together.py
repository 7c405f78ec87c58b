"""Many tensors handled together: as one by one up to rounding, in a number of operations that does not grow."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from advanced_optimizers import FEROptimizer
from advanced_optimizers._flat import BLOCK, Layout, Ring

BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0, "equal_nan": True}
SHAPES = ((), (3,), (5, 7), (0,), (2 * BLOCK,), (90, 70), (4, 3, 3, 3))
SYNC = "aten._local_scalar_dense.default"

Build = Callable[..., Any]
BUILDS: dict[str, Build] = {
    "fer": lambda params, **settings: FEROptimizer(params, SGD, {"lr": 0.1}, 0.7, memory_size=4, **settings)
}
every_build = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


class Operations(TorchDispatchMode):
    """Counts what is dispatched while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def parameters(dtype: torch.dtype, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=rng).to(dtype) for shape in shapes]
    return [nn.Parameter(t.to(memory_format=torch.channels_last) if t.dim() == 4 else t) for t in tensors]


def gradients(params: Sequence[Tensor], steps: int) -> list[list[Tensor | None]]:
    """Gradients that mostly agree with the past ones; now and then one is missing, zero or not finite."""
    rng = torch.Generator().manual_seed(1)
    drift = [torch.randn(p.shape, generator=rng) for p in params]
    found: list[list[Tensor | None]] = [
        [(0.5 * d + torch.randn(p.shape, generator=rng)).to(p) for p, d in zip(params, drift, strict=True)]
        for _ in range(steps)
    ]
    for step, place in ((0, 2), (1, 2), (5, 2), (4, 5)):
        found[step][place] = None
    for step, place, bad in ((0, 1, math.inf), (3, 6, math.nan)):
        found[step][place][(0,) * params[place].dim()] = bad
    for step in (0, 1, 6):
        found[step][4].zero_()
    return found


def feed(optimizer: Any, params: Sequence[Tensor], steps: Sequence[Sequence[Tensor | None]]) -> None:
    for grads in steps:
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        optimizer.step()


@every_build
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_together_equals_one_by_one(build: Build, dtype: torch.dtype):
    runs = []
    for foreach in (False, True):
        params = parameters(dtype)
        optimizer = build(params, foreach=foreach)
        feed(optimizer, params, gradients(params, 9))
        runs.append((params, [optimizer.state[p] for p in params], optimizer.consistency_history))
    tolerance = {"rtol": 16 * torch.finfo(dtype).eps, "atol": 16 * torch.finfo(dtype).eps, "equal_nan": True}
    assert_close(runs[1], runs[0], **tolerance)


def of_size(count: int) -> list[tuple[int, ...]]:
    return [(8, 4, 3, 3), (16, 10), (7,)] * count


@every_build
def test_operations_do_not_grow_with_the_tensors_and_none_waits(build: Build):
    counts = []
    for count in (3, 20):
        params = parameters(torch.float32, of_size(count))
        optimizer = build(params, foreach=True)
        rng = torch.Generator().manual_seed(0)
        grads = [[torch.randn(p.shape, generator=rng) for p in params] for _ in range(8)]
        feed(optimizer, params, grads[:4])
        with Operations() as operations:
            feed(optimizer, params, grads[4:])
        own = Counter({name: n for name, n in operations.counts.items() if "profiler" not in name})
        counts.append(own - Counter({name: n for name, n in base_operations(optimizer, params).items()}))
    assert counts[0] == counts[1]
    assert counts[0][SYNC] == 0
    assert counts[0].total() / 4 <= 46


def base_operations(optimizer: Any, params: Sequence[Tensor]) -> Counter[str]:
    """What four steps of the base alone dispatch."""
    with Operations() as operations:
        for _ in range(4):
            optimizer.base.step()
    return operations.counts


def test_parameter_groups_keep_their_own_settings_together():
    runs = []
    for foreach in (False, True):
        params = parameters(torch.float64)
        groups = [{"params": params[:3], "fer_weight": 1.0}, {"params": params[3:], "memory_size": 2}]
        optimizer = FEROptimizer(groups, Adam, {"lr": 0.1}, consistency_threshold=0.5, foreach=foreach)
        steps = gradients(params, 9)
        feed(optimizer, params, steps[:5])
        optimizer.param_groups[1]["fer_weight"] = 0.3
        optimizer.param_groups[0]["consistency_threshold"] = -1.0
        feed(optimizer, params, steps[5:])
        runs.append(params)
    assert_close(*runs, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_a_copy_and_a_loaded_twin_go_on_bit_for_bit_and_leave_the_original_alone():
    params = parameters(torch.float32)
    steps = gradients(params, 9)
    optimizer = BUILDS["fer"](params, foreach=True)
    feed(optimizer, params, steps[:1])  # one has had no gradient, and one none that was finite
    saved = copy.deepcopy(optimizer.state_dict())
    assert [sorted(state) for _, state in sorted(saved["state"].items())].count(["memory"]) == len(SHAPES) - 2
    copied_params, copied = copy.deepcopy((params, optimizer))
    twins = [nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in params]
    loaded = BUILDS["fer"](twins, foreach=False)
    loaded.load_state_dict(saved)
    loaded._foreach = True
    for each, its_params in ((optimizer, params), (copied, copied_params), (loaded, twins)):
        feed(each, its_params, steps[1:])
    assert_close(copied_params, params, **BITWISE)
    assert_close(twins, params, **BITWISE)
    assert copied.consistency_history == optimizer.consistency_history == loaded.consistency_history


# ---- the buffer --------------------------------------------------------------------------------------------------


def test_the_sums_and_views_of_a_layout():
    rng = torch.Generator().manual_seed(0)
    tensors = [torch.randn(n, generator=rng, dtype=torch.float64) for n in (1, 0, BLOCK, BLOCK + 1, 1100 * BLOCK)]
    layout = Layout(tensors)
    buffer = layout.zeros(torch.float64)
    torch._foreach_copy_(layout.views(buffer), tensors)
    (sums,) = layout.sums(buffer.sum(dim=1)[None])
    assert_close(sums, torch.stack([t.sum() for t in tensors]))
    (doubled,) = layout.spread(torch.arange(5.0)[None])
    assert [view.unique().tolist() for view in layout.views(doubled * torch.ones_like(buffer))] == [
        [0.0], [], [2.0], [3.0], [4.0]
    ]  # fmt: skip


def test_a_ring_gives_its_last_rows_once_in_order():
    ring = Ring(2, 3, torch.float64, torch.device("cpu"))
    for value in (1.0, 2.0, math.nan, 4.0, 5.0):
        ring.append(torch.tensor([[value, math.nan]], dtype=torch.float64))
    assert ring.take()[:, 0].tolist() == [4.0, 5.0]
    assert ring.take().tolist() == []
