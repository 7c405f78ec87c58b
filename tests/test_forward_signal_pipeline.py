"""SigPropPipeline: the same weights as one batch at a time, errors that reach the caller, and threads that end."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.testing import assert_close

from advanced_optimizers import (
    FEROptimizer,
    SigPropNet,
    SigPropOptimizer,
    SigPropPipeline,
    SigPropSequential,
    create_sigprop_optimizer,
)
from advanced_optimizers.forward_signal.pipeline import split_by_cost
from tests.forward_signal_models import conv_model, image_batches, labels
from tests.harness import BITWISE

pytestmark = pytest.mark.filterwarnings("error")
EVEN = [1.0] * 4


def network(**options: Any) -> SigPropSequential:
    return SigPropSequential(conv_model(), (1, 8, 8), 3, **options)


def one_cycle(optimizer: SigPropOptimizer) -> LRScheduler:
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=40)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# ---- the same as one batch at a time -----------------------------------------------------------------------------


@pytest.mark.parametrize("queue_length", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("stages", [1, 2, 4])
@pytest.mark.parametrize("costs", [None, EVEN], ids=["measured", "given"])
@pytest.mark.parametrize("output", ["classifier", "targets"])
def test_equals_learning_batch_by_batch_bit_for_bit(stages, queue_length, costs, output, rng):
    if output == "targets":
        costs = costs and [1.0] * 5
    net = network(output=output)
    twin = copy.deepcopy(net)
    batches = image_batches(rng, 16)
    optimizer, sequential = create_sigprop_optimizer(net), create_sigprop_optimizer(twin)
    scheduler, other = one_cycle(optimizer), one_cycle(sequential)
    with SigPropPipeline(optimizer, stages, queue_length=queue_length, costs=costs) as pipeline:
        futures = []
        for x, y in batches:
            futures.append(pipeline.submit(x, y))
            scheduler.step()
    expected = []
    for x, y in batches:
        expected.append(sequential.learn(x, y))
        other.step()
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)
    assert_close(optimizer.state_dict(), sequential.state_dict(), **BITWISE)
    for future, result in zip(futures, expected, strict=True):
        assert_close(future.result(timeout=0)._asdict(), result._asdict(), **BITWISE)
    assert len(pipeline.costs) == len(net.units())


def test_equals_learning_in_bfloat16_with_another_base_optimizer(rng):
    net = network()
    twin = copy.deepcopy(net)
    batches = image_batches(rng, 8)
    optimizer, sequential = (SigPropOptimizer(model, base_optimizer=FEROptimizer) for model in (net, twin))
    with torch.autocast("cpu", torch.bfloat16), SigPropPipeline(optimizer, 3, costs=EVEN) as pipeline:
        for i, (x, y) in enumerate(batches):
            optimizer.param_groups[0]["fer_weight"] = 0.1 * i
            pipeline.submit(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        for i, (x, y) in enumerate(batches):
            sequential.param_groups[0]["fer_weight"] = 0.1 * i
            sequential.learn(x, y)
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)


def test_waits_for_all_batches_and_goes_on_with_the_optimizer_used_in_between(rng):
    net = network()
    twin = copy.deepcopy(net)
    batches = image_batches(rng, 9)
    optimizer, sequential = create_sigprop_optimizer(net), create_sigprop_optimizer(twin)
    for x, y in batches:
        sequential.learn(x, y)
    with SigPropPipeline(optimizer, 2, costs=EVEN) as pipeline:
        for x, y in batches[:4]:
            pipeline.submit(x, y)
        pipeline.wait()
        optimizer.learn(*batches[4])
        saved = copy.deepcopy(optimizer.state_dict())
        for x, y in batches[5:]:
            pipeline.submit(x, y)
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)
    assert saved["bases"][0]["state"][0]["step"] == 5
    with pipeline:  # a second time
        pipeline.submit(*batches[0])
    sequential.learn(*batches[0])
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)


def test_stages_work_at_the_same_time(rng):
    """The first layer's second batch and the second layer's first batch each wait for the other to begin."""
    begun = {"first": threading.Event(), "second": threading.Event()}

    class Meeting(nn.Linear):
        waits_for: tuple[int, str, str] | None = None
        batches = 0

        def forward(self, x: Tensor) -> Tensor:
            self.batches += len(x) == 5  # the batch, not the targets
            if self.waits_for is not None and len(x) == 5 and self.batches == self.waits_for[0]:
                _, own, other = self.waits_for
                begun[own].set()
                assert begun[other].wait(timeout=20)
            return super().forward(x)

    first, second = Meeting(4, 6), Meeting(6, 6)
    net = SigPropSequential(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(6, 3)), (4,), 3)
    first.waits_for, second.waits_for = (2, "first", "second"), (1, "second", "first")
    with SigPropPipeline(create_sigprop_optimizer(net), 2, costs=[2, 1, 1]) as pipeline:
        futures = [pipeline.submit(torch.randn(5, 4, generator=rng), labels(rng, 5, 3)) for _ in range(2)]
    assert all(future.exception() is None for future in futures)


def test_settings_belong_to_the_caller_again_afterwards(rng):
    optimizer = create_sigprop_optimizer(network())
    groups = optimizer.param_groups
    with SigPropPipeline(optimizer, 2) as pipeline:
        for x, y in image_batches(rng, 5):
            pipeline.submit(x, y)
            optimizer.param_groups[1]["lr"] *= 0.5
    assert optimizer.param_groups is groups
    assert groups[1]["lr"] == 1e-3 / 32
    assert all(a is b for a, b in zip(groups, (g for base in optimizer.bases for g in base.param_groups), strict=True))
    assert torch.get_num_threads() == 1


# ---- cutting -----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=8), st.integers(1, 8))
def test_cut_is_the_best_of_all(costs, stages):
    stages = min(stages, len(costs))

    def highest_cost(ends: tuple[int, ...]) -> float:
        return max(sum(costs[a:b]) for a, b in itertools.pairwise((0, *ends, len(costs))))

    parts = split_by_cost(costs, stages)
    assert len(parts) == stages
    assert all(parts)
    assert list(itertools.chain(*parts)) == list(range(len(costs)))
    best = min(highest_cost(ends) for ends in itertools.combinations(range(1, len(costs)), stages - 1))
    assert max(sum(costs[i] for i in part) for part in parts) == pytest.approx(best)


def test_measured_costs_find_the_slow_layer(rng):
    net = SigPropNet(64, [512, 8, 8, 8], 3)
    pipeline = SigPropPipeline(create_sigprop_optimizer(net), 2)
    with pipeline:
        for _ in range(4):
            pipeline.submit(torch.randn(256, 64, generator=rng), labels(rng, 256, 3))
    assert pipeline.costs.index(max(pipeline.costs)) in (0, 1)


# ---- errors ------------------------------------------------------------------------------------------------------


class Fragile(nn.Linear):
    """Fails on batches of seven."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 7:
            raise ArithmeticError("seven")
        return super().forward(x)


def fragile_optimizer() -> SigPropOptimizer:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Fragile(6, 6), nn.ReLU(), nn.Linear(6, 3))
    return create_sigprop_optimizer(SigPropSequential(model, (4,), 3))


def submit(pipeline: SigPropPipeline, size: int) -> Any:
    return pipeline.submit(torch.randn(size, 4), torch.zeros(size, dtype=torch.int64))


def submit_all(pipeline: SigPropPipeline, sizes: Iterable[int], futures: list[Future[Any]]) -> None:
    with pipeline:
        for size in sizes:
            futures.append(submit(pipeline, size))


def test_error_in_a_stage_reaches_the_caller_and_no_thread_hangs():
    pipeline = SigPropPipeline(fragile_optimizer(), 3, queue_length=1, costs=[1, 1, 1])
    futures: list[Future[Any]] = []
    endless = itertools.chain((5, 5, 7), itertools.repeat(5))  # refused sooner or later, and nobody waits forever
    with pytest.raises(RuntimeError, match="batch 3 was not learned: seven") as raised:
        submit_all(pipeline, endless, futures)
    assert isinstance(raised.value.__cause__, ArithmeticError)
    assert [future.exception() for future in futures[:2]] == [None, None]
    assert isinstance(futures[2].exception(), ArithmeticError)
    assert all(isinstance(future.exception(), RuntimeError) for future in futures[3:])


def test_error_that_nobody_asked_for_is_raised_at_the_end():
    pipeline = SigPropPipeline(fragile_optimizer(), 2, costs=[1, 1, 1])
    with pytest.raises(RuntimeError, match="batch 2 was not learned: seven"):
        submit_all(pipeline, (5, 7), [])
    with pipeline:  # its failure is forgotten
        assert submit(pipeline, 5).result(timeout=20)
        submit(pipeline, 5)
        pipeline.wait()


def test_error_reaches_who_waits():
    pipeline = SigPropPipeline(fragile_optimizer(), 2, costs=[1, 1, 1])

    def wait_for_seven() -> None:
        with pipeline:
            submit(pipeline, 7)
            pipeline.wait()
            raise AssertionError("it waited for nothing")

    with pytest.raises(RuntimeError, match="batch 1 was not learned: seven"):
        wait_for_seven()


def test_error_of_the_caller_is_not_replaced_and_the_batches_are_learned():
    def sizes() -> Iterator[int]:
        yield from (5, 5, 5, 5)
        raise KeyError("mine")

    futures: list[Future[Any]] = []
    with pytest.raises(KeyError, match="mine"):
        submit_all(SigPropPipeline(fragile_optimizer(), 2, costs=[1, 1, 1]), sizes(), futures)
    assert [future.exception(timeout=0) for future in futures] == [None] * 4


def test_batch_that_does_not_fit_is_refused_at_once_and_the_others_are_learned(rng):
    with SigPropPipeline(fragile_optimizer(), 2, costs=[1, 1, 1]) as pipeline:
        good = submit(pipeline, 5)
        with pytest.raises(ValueError, match=r"y must contain labels from 0 to num_classes - 1 = 2, got 3"):
            pipeline.submit(torch.randn(2, 4), torch.tensor([0, 3]))
    assert good.result(timeout=0)


def test_error_while_measuring_reaches_the_caller():
    with pytest.raises(ArithmeticError, match="seven"), SigPropPipeline(fragile_optimizer(), 2) as pipeline:
        submit(pipeline, 7)


def test_must_be_open_and_only_once():
    pipeline = SigPropPipeline(fragile_optimizer(), 2)
    with pytest.raises(RuntimeError, match="must be opened with 'with'"):
        submit(pipeline, 5)
    with pipeline, pytest.raises(RuntimeError, match="already open"):
        pipeline.__enter__()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"stages": 0}, ValueError, "stages must be >= 1.*got 0"),
        ({"stages": 4}, ValueError, "stages must be at most 3, one per layer and one for the output, got 4"),
        ({"stages": 1.5}, TypeError, r"stages must be an integer, got 1\.5"),
        ({"queue_length": 0}, ValueError, "queue_length must be >= 1.*got 0"),
        ({"threads": 0}, ValueError, "threads must be >= 1.*got 0"),
        ({"costs": [1, 2]}, ValueError, r"costs must have one number for each of the 3 units, got \[1, 2\]"),
        ({"costs": [1, 2, -3]}, ValueError, "costs must be >= 0.*got -3"),
    ],
)
def test_refuses_bad_values(arguments, error, match):
    with pytest.raises(error, match=match):
        SigPropPipeline(fragile_optimizer(), **arguments)
