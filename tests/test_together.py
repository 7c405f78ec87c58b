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

from advanced_optimizers import FEROptimizer, GradientCorrectionOptimizer
from advanced_optimizers._flat import BLOCK, KeptSums, Layout, Ring

BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0, "equal_nan": True}
SHAPES = ((), (3,), (5, 7), (0,), (2 * BLOCK,), (90, 70), (4, 3, 3, 3))
# What reads a number out of a tensor, and so waits for the device.
READS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__")

Build = Callable[..., Any]
BUILDS: dict[str, Build] = {
    "fer": lambda params, **settings: FEROptimizer(params, SGD, {"lr": 0.1}, 0.7, memory_size=4, **settings),
    "fer in bfloat16": lambda params, **settings: BUILDS["fer"](params, state_dtype=torch.bfloat16, **settings),
    "correction": lambda params, **settings: GradientCorrectionOptimizer(
        params, SGD, {"lr": 0.1}, train_every=2, predictor_lr=0.1, **settings
    ),
    "correction in bfloat16": lambda params, **settings: BUILDS["correction"](
        params, state_dtype=torch.bfloat16, **settings
    ),
}
HISTORIES: dict[type, Callable[[Any], Any]] = {
    FEROptimizer: lambda optimizer: optimizer.consistency_history,
    GradientCorrectionOptimizer: lambda optimizer: [tuple(record) for record in optimizer.history],
}
# How many tensors have a memory after so many steps.
MEMORIES = {
    (FEROptimizer, 1): 5,
    (FEROptimizer, 4): 7,
    (GradientCorrectionOptimizer, 1): 2,
    (GradientCorrectionOptimizer, 4): 3,
}
# What a step dispatches besides the base: where nothing is trained, and where it is.
OPERATIONS = {
    "fer": (38, 38),
    "fer in bfloat16": (49, 49),
    "correction": (145, 352),
    "correction in bfloat16": (169, 376),
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


def gradients(params: Sequence[Tensor], steps: int, *, finite: bool = False) -> list[list[Tensor | None]]:
    """Gradients that mostly agree with the past ones; now and then one is missing, zero or not finite."""
    rng = torch.Generator().manual_seed(1)
    drift = [torch.randn(p.shape, generator=rng) for p in params]
    found: list[list[Tensor | None]] = [
        [(0.5 * d + torch.randn(p.shape, generator=rng)).to(p) for p, d in zip(params, drift, strict=True)]
        for _ in range(steps)
    ]
    for step, place in ((0, 2), (1, 2), (5, 2), (4, 5)):
        found[step][place] = None
    for step, place, bad in ((0, 1, math.inf), (3, 6, math.nan)) if not finite else ():
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
        # What is not finite costs corrections of several tensors their common schedule of training.
        feed(optimizer, params, gradients(params, 9, finite="correction" in type(optimizer).__module__))
        state = optimizer.state_dict()["state"]
        runs.append((params, [state[i] for i in sorted(state)], HISTORIES[type(optimizer)](optimizer)))
    tolerance = {"rtol": 64 * torch.finfo(dtype).eps, "atol": 64 * torch.finfo(dtype).eps, "equal_nan": True}
    assert_close(runs[1], runs[0], **tolerance)


def of_size(count: int) -> list[tuple[int, ...]]:
    return [(8, 4, 3, 3), (16, 10), (7,)] * count


@pytest.mark.parametrize("name", BUILDS)
def test_operations_do_not_grow_with_the_tensors_and_none_waits(name: str, monkeypatch: pytest.MonkeyPatch):
    counts = []
    for count in (3, 20):
        params = parameters(torch.float32, of_size(count))
        optimizer = BUILDS[name](params, foreach=True)
        rng = torch.Generator().manual_seed(0)
        grads = [[torch.randn(p.shape, generator=rng) for p in params] for _ in range(8)]
        feed(optimizer, params, grads[:4])
        with monkeypatch.context() as patch:
            for read in READS:
                patch.setattr(Tensor, read, must_not_read)
            counts.append([of_one_step(optimizer, params, each) for each in grads[4:6]])
    assert counts[0] == counts[1]
    assert tuple(step.total() for step in counts[0]) <= OPERATIONS[name]


def must_not_read(*arguments: Any) -> Any:
    raise AssertionError("a step must not wait for the device")


def of_one_step(optimizer: Any, params: Sequence[Tensor], grads: Sequence[Tensor]) -> Counter[str]:
    """What the transform dispatches in a step, without its base."""
    with Operations() as whole:
        feed(optimizer, params, [grads])
    with Operations() as base:
        optimizer.base.step()
    return whole.counts - base.counts


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


@every_build
@pytest.mark.parametrize("before", [1, 4])
def test_a_copy_and_a_loaded_twin_go_on_bit_for_bit_and_leave_the_original_alone(build: Build, before: int):
    params = parameters(torch.float32)
    steps = gradients(params, 9)
    optimizer = build(params, foreach=True)
    feed(optimizer, params, steps[:before])  # after one, one has had no gradient, and one none that was finite
    saved = copy.deepcopy(optimizer.state_dict())
    assert len([state for state in saved["state"].values() if "memory" in state]) == MEMORIES[type(optimizer), before]
    copied_params, copied = copy.deepcopy((params, optimizer))
    twins = [nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in params]
    loaded = build(twins, foreach=True)
    loaded.load_state_dict(saved)
    for each, its_params in ((optimizer, params), (copied, copied_params), (loaded, twins)):
        feed(each, its_params, steps[before:])
    assert_close(copied_params, params, **BITWISE)
    assert_close(twins, params, **BITWISE)
    history = HISTORIES[type(optimizer)]
    assert_close(history(copied), history(optimizer), **BITWISE)
    assert_close(history(loaded), history(optimizer), **BITWISE)


# ---- compiled, and in a graph --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # dynamo warns about what it does not trace
@pytest.mark.parametrize("way", ["step", "fer's own"])
@every_build
def test_nothing_is_compiled_again_after_the_second_step(build: Build, way: str):
    if way == "fer's own" and build in (BUILDS["correction"], BUILDS["correction in bfloat16"]):
        pytest.skip("gradient correction has nothing of its own to compile")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    runs, compiled = [], []
    for is_compiled in (False, True):
        params = parameters(torch.float32, of_size(2))
        optimizer = build(params, foreach=True)
        step = optimizer.step
        if is_compiled and way == "step":
            step = torch.compile(step, backend="eager")
        elif is_compiled:
            optimizer.compile(backend="eager")
        rng = torch.Generator().manual_seed(0)
        for _ in range(6):
            for p in params:
                p.grad = torch.randn(p.shape, generator=rng)
            step()
            compiled.append(torch._dynamo.utils.counters["frames"]["total"])
        runs.append(params)
    assert compiled[7] == compiled[-1] > compiled[5] == 0
    assert_close(*runs, **BITWISE)


def train_with_graph(optimizer: Any, params: Sequence[nn.Parameter], plain: Any, twins: Sequence[nn.Parameter]) -> None:
    """Five steps of both on an accelerator with the same gradients: of the first, three are replays of a graph."""
    rng = torch.Generator().manual_seed(0)
    grads = [[torch.randn(p.shape, generator=rng).cuda() for p in params] for _ in range(5)]
    feed(plain, twins, grads)
    feed(optimizer, params, grads[:2])
    given = [grad.clone() for grad in grads[2]]
    for p, grad in zip(params, given, strict=True):
        p.grad = grad
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # records, and does nothing yet
        optimizer.step()
    for each in grads[2:]:
        torch._foreach_copy_(given, each)
        graph.replay()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["fer", "fer in bfloat16"])
def test_a_captured_step_is_the_step(name: str):
    params = [nn.Parameter(p.detach().cuda()) for p in parameters(torch.float32, of_size(2))]
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    optimizer, plain = BUILDS[name](params), BUILDS[name](twins)
    train_with_graph(optimizer, params, plain, twins)
    assert_close(params, twins)
    assert_close(optimizer.consistency_history, plain.consistency_history)


# ---- the buffer --------------------------------------------------------------------------------------------------


def test_the_sums_and_views_of_a_layout():
    rng = torch.Generator().manual_seed(0)
    tensors = [torch.randn(n, generator=rng, dtype=torch.float64) for n in (1, 0, BLOCK, BLOCK + 1, 1100 * BLOCK)]
    layout = Layout(tensors)
    buffer = layout.zeros(torch.float64)
    torch._foreach_copy_(layout.views(buffer), tensors)
    (sums,) = layout.sums(buffer.sum(dim=1)[None])
    assert_close(sums, torch.stack([t.sum() for t in tensors]))
    several = KeptSums(layout, 2, torch.float64)
    several.of_blocks.copy_(torch.stack([buffer.sum(dim=1), buffer.square().sum(dim=1)]))
    several()
    assert_close(several.of_tensors, torch.stack([sums, torch.stack([t.square().sum() for t in tensors])]))
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
