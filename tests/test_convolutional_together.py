"""The convolutional optimizers on many tensors together: as one by one, in a bounded number of operations."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from advanced_optimizers import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
from tests.harness import BITWISE
from tests.test_together import READS, feed, must_not_read, of_one_step, parameters, train_with_graph

SHAPES = ((), (3,), (5, 7), (0,), (5000,), (90, 70), (4, 3, 3, 3), (6, 4, 5), (8, 4, 1, 1), (2, 3, 20, 20), (1, 9))
FILTERS = 6
AXES = (None, (-1,), (-2,), (-2, -1))
OPTIONS: dict[str, dict[str, Any]] = {
    "three taps": {"kernel_size": 3},
    "five taps, kept length": {"kernel_size": 5, "norm_preserving": True},
    "seven taps, as they are": {"kernel_size": 7, "min_gain": -1.0, "kernel": [0.02, 0.08, 0.2, 0.4, 0.2, 0.08, 0.02]},
    "permuted": {"kernel_size": 5, "permute_axes": 3},
    "the identity": {"kernel_size": 3, "kernel": "identity"},
    "one tap": {"kernel_size": 1},
}
LEARNING: dict[type, dict[str, Any]] = {
    ConvolutionalSGD: {},
    LocalLossConvSGD: {"local_lr": 0.1},
    ConvolutionalSGDv2: {"kernel_lr": 0.1, "noise_estimation_momentum": 0.8, "kernel_every": 2},
}
# What a step dispatches besides the base: where nothing is learned, and where something is.
OPERATIONS: dict[tuple[type, Any], list[int]] = {
    (ConvolutionalSGD, None): [26, 26],
    (ConvolutionalSGD, (-2, -1)): [46, 46],
    (LocalLossConvSGD, None): [262, 262],
    (LocalLossConvSGD, (-2, -1)): [378, 378],
    (ConvolutionalSGDv2, None): [25, 306],
    (ConvolutionalSGDv2, (-2, -1)): [45, 428],
    (ConvolutionalSGDv2, "bfloat16"): [56, 440],
}

every_kind = pytest.mark.parametrize("kind", LEARNING)


def build(kind: Any, params: Any, **settings: Any) -> Any:
    return kind(params, 0.1, **{**LEARNING[kind], **settings})


def gradients(params: list[nn.Parameter]) -> list[list[Tensor | None]]:
    """Eight steps' random gradients; now and then one is missing or zero."""
    rng = torch.Generator().manual_seed(1)
    found: list[list[Tensor | None]] = [[torch.randn(p.shape, generator=rng).to(p) for p in params] for _ in range(8)]
    for step, place in ((0, 2), (1, 2), (5, 2), (4, 5), (2, FILTERS)):
        found[step][place] = None
    for step in (0, 1, 6):
        found[step][4] = torch.zeros_like(params[4])
    return found


def wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


def states_of(optimizer: Any) -> dict[int, dict[str, Any]]:
    return {
        i: {name: value for name, value in state.items() if name != "base"}
        for i, state in optimizer.state_dict()["state"].items()
    }


@every_kind
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    "dtype", [torch.float64, *(pytest.param(each, marks=pytest.mark.slow) for each in (torch.float32, torch.bfloat16))]
)
def test_together_equals_one_by_one(kind: Any, axes: Any, options: dict[str, Any], dtype: torch.dtype):
    runs = []
    for foreach in (False, True):
        params = parameters(dtype, SHAPES)
        optimizer = build(kind, params, axes=axes, foreach=foreach, **options)
        feed(optimizer, params, gradients(params))
        runs.append((params, states_of(optimizer)))
    eps = torch.finfo(dtype).eps
    assert_close(runs[1][0], runs[0][0], rtol=64 * eps, atol=64 * eps)
    of_state = 512 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    assert_close(runs[1][1], runs[0][1], rtol=of_state, atol=of_state)


@every_kind
@pytest.mark.parametrize("keep_length", [False, True])
@pytest.mark.parametrize("axes", [None, (-2, -1)])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_in_its_tensor_and_near_its_place(kind: Any, axes: Any, keep_length: bool, bad: float):
    runs = []
    for foreach in (False, True):
        params = parameters(torch.float64, SHAPES)
        optimizer = build(kind, params, axes=axes, foreach=foreach, norm_preserving=keep_length)
        steps = gradients(params)
        for step, place in ((1, 4), (3, 5), (4, FILTERS)):
            steps[step][place].view(-1)[:1] = bad
            steps[step][place].view(-1)[-1:] = bad
        feed(optimizer, params, steps)
        runs.append(params)
    for alone, together in zip(*runs, strict=True):
        finite = alone.isfinite()
        assert_close(together[finite], alone[finite], rtol=1e-12, atol=1e-12)  # nor is it anywhere else
    assert all(not p.isfinite().all() for p in (runs[1][place] for place in (4, 5, FILTERS)))


@pytest.mark.parametrize(("kind", "of"), OPERATIONS)
def test_operations_do_not_grow_with_the_tensors_and_none_waits(kind: Any, of: Any, monkeypatch: pytest.MonkeyPatch):
    settings = {"axes": (-2, -1), "state_dtype": torch.bfloat16} if of == "bfloat16" else {"axes": of}
    counts = []
    for count in (3, 20):
        params = parameters(torch.float32, [(8, 4, 3, 3), (16, 10), (7,)] * count)
        optimizer = build(kind, params, kernel_size=5, foreach=True, **settings)
        rng = torch.Generator().manual_seed(0)
        grads = [[torch.randn(p.shape, generator=rng) for p in params] for _ in range(8)]
        feed(optimizer, params, grads[:4])
        with monkeypatch.context() as patch:
            for read in READS:
                patch.setattr(Tensor, read, must_not_read)
            counts.append([of_one_step(optimizer, params, each) for each in grads[4:6]])
    assert counts[0] == counts[1]
    assert [step.total() for step in counts[0]] == OPERATIONS[kind, of]


@every_kind
def test_parameter_groups_keep_their_own_settings_and_may_change_them(kind: Any):
    runs = []
    for foreach in (False, True):
        params = parameters(torch.float64, SHAPES)
        groups = [
            {"params": params[:3], "kernel_size": 5},
            {"params": params[3:5], "axes": (-1,), "min_gain": 0.3},
            {"params": params[5:], "axes": (-2, -1), "norm_preserving": True},
        ]
        optimizer = build(kind, groups, foreach=foreach)
        steps = gradients(params)
        feed(optimizer, params, steps[:4])
        optimizer.param_groups[1]["min_gain"] = 0.1
        optimizer.param_groups[2]["norm_preserving"] = False
        feed(optimizer, params, steps[4:])
        runs.append((params, states_of(optimizer)))
    assert_close(*runs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("change", [{"kernel_size": 5}, {"axes": (-1,)}])
def test_a_kernel_that_is_not_learned_may_change_its_shape(change: dict[str, Any]):
    runs = []
    for foreach in (False, True):
        params = parameters(torch.float64, SHAPES)
        optimizer = ConvolutionalSGD(params, foreach=foreach)
        steps = gradients(params)
        feed(optimizer, params, steps[:4])
        optimizer.param_groups[0].update(change)
        feed(optimizer, params, steps[4:])
        runs.append(params)
    assert_close(*runs, rtol=1e-12, atol=1e-12)


def test_a_kernel_follows_the_loss():
    runs = []
    for foreach in (False, True):
        params = parameters(torch.float64, SHAPES)
        optimizer = ConvolutionalSGD(params, 0.1, kernel_size=5, kernel_lr=1.0, kernel="identity", foreach=foreach)
        for loss, grads in zip([1.0, 0.5, 0.2, 0.7, 0.1, 0.3, 0.2, 0.1], gradients(params), strict=True):
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            optimizer.step(lambda loss=loss: loss)
        runs.append(params)
        assert optimizer.get_kernel()[2] < 0.999
    assert_close(*runs, rtol=1e-12, atol=1e-12)


@every_kind
def test_gradients_that_come_in_turns_do_not_move_the_buffers(kind: Any):
    params = parameters(torch.float32, [(20, 10)] * 4)
    optimizer = build(kind, params, foreach=True)
    rng = torch.Generator().manual_seed(0)
    grads = [torch.randn(p.shape, generator=rng) for p in params]
    feed(optimizer, params, [grads])
    (buffers,) = optimizer._gathered._found.values()
    feed(optimizer, params, [[*grads[:2], None, None], [None, None, *grads[2:]]] * 2)
    assert list(optimizer._gathered._found.values()) == [buffers]


# ---- checkpoints and copies ----------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("options", [{}, {"permute_axes": 3}], ids=["in order", "permuted"])
@pytest.mark.parametrize("way", [(True, False), (False, True)], ids=["to one by one", "to together"])
def test_checkpoints_are_interchangeable(kind: Any, options: dict[str, Any], way: tuple[bool, bool]):
    runs = []
    for first, then in ((False, False), way):
        params = parameters(torch.float64, SHAPES)
        steps = gradients(params)
        optimizer = build(kind, params, axes=(-2, -1), foreach=first, **options)
        feed(optimizer, params, steps[:5])
        resumed = build(kind, params, axes=(-2, -1), foreach=then, **options)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        feed(resumed, params, steps[5:])
        runs.append((params, states_of(resumed)))
    assert_close(*runs, rtol=1e-11, atol=1e-11)


@every_kind
@pytest.mark.parametrize("options", [{}, {"permute_axes": 3}], ids=["in order", "permuted"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_and_a_loaded_twin_go_on_bit_for_bit_and_leave_the_original_alone(
    kind: Any, options: dict[str, Any], duplicate: Callable[[Any], Any]
):
    params = parameters(torch.float32, SHAPES)
    steps = gradients(params)
    optimizer = build(kind, params, axes=(-2, -1), foreach=True, **options)
    feed(optimizer, params, steps[:5])
    saved = copy.deepcopy(optimizer.state_dict())
    copied_params, copied = duplicate((params, optimizer))
    twins = [nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in params]
    loaded = build(kind, twins, axes=(-2, -1), foreach=True, **options)
    loaded.load_state_dict(saved)
    for each, its_params in ((optimizer, params), (copied, copied_params), (loaded, twins)):
        feed(each, its_params, steps[5:])
    assert_close(copied_params, params, **BITWISE)
    assert_close(twins, params, **BITWISE)
    assert_close(states_of(copied), states_of(optimizer), **BITWISE)
    assert_close(states_of(loaded), states_of(optimizer), **BITWISE)


@every_kind
def test_what_was_loaded_goes_back_and_measures_the_same(kind: Any):
    stats = []
    for foreach in (False, True):
        params = parameters(torch.float64, SHAPES)
        optimizer = build(kind, params, axes=(-2, -1), foreach=foreach)
        feed(optimizer, params, gradients(params))
        stats.append(optimizer.get_stats())
    assert_close(*stats, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.gpu
def test_a_captured_step_of_a_kernel_that_stays_is_the_step():
    shapes = [(8, 4, 3, 3), (16, 10), (7,)] * 2
    params = [nn.Parameter(p.detach().cuda()) for p in parameters(torch.float32, shapes)]
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    optimizer, plain = (ConvolutionalSGD(each, axes=(-2, -1), norm_preserving=True) for each in (params, twins))
    train_with_graph(optimizer, params, plain, twins)
    assert_close(params, twins)
