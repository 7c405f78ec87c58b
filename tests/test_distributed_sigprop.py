"""SigPropOptimizer in two processes: equal to one process with the whole batch, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing import assert_close

from tests import distributed_sigprop as cases
from tests.harness import BITWISE
from tests.two_processes import together

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"
)
LOSSES = ("label_direct", "squared_distance", "cosine")
EVEN, UNEVEN = (6, 6), (9, 3)
BOTH = pytest.mark.parametrize("way", ["learn", "loop"])


def values(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    outcomes = together(function, *arguments)
    assert [outcome.error for outcome in outcomes] == ["", ""]
    return [outcome.value for outcome in outcomes]


def assert_equals_one_process(name: str, options: dict[str, Any], way: str, sizes: Any, adam: bool = False) -> None:
    first, second = values(cases.train, name, options, way, sizes, adam)
    assert_close(first, second, **BITWISE)
    whole = cases.train(name, options, way, sizes, adam)
    assert_close(first, whole, rtol=0.0, atol=1e-6)
    start = cases.tensors_of(cases.network(name, **options))
    assert max((a - b).abs().max() for a, b in zip(start, whole, strict=True)) > 1e-2  # it has learned


@BOTH
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["dense", "images", "instance norm", "attached"])
def test_two_processes_equal_one_with_the_whole_batch(name, loss, way):
    assert_equals_one_process(name, {"loss": loss}, way, EVEN)


@BOTH
@pytest.mark.parametrize("options", [{"output": "targets"}, {"output": "neutral"}, {"fixed_signal": True}], ids=str)
def test_every_output_and_a_fixed_signal(options, way):
    assert_equals_one_process("attached", options, way, EVEN)


@pytest.mark.parametrize("way", ["learn", "loop", "closure"])
@pytest.mark.parametrize("loss", LOSSES)
def test_uneven_parts_are_weighted_by_their_samples(loss, way):
    assert_equals_one_process("attached", {"loss": loss}, way, UNEVEN)


@pytest.mark.parametrize("way", ["accumulation", "ddp"])
def test_accumulated_gradients_and_those_that_ddp_has_averaged(way):
    assert_equals_one_process("dense", {}, way, EVEN)


@pytest.mark.parametrize("sizes", [EVEN, UNEVEN])
def test_an_overflow_in_one_process_skips_the_step_in_both(sizes):
    assert_equals_one_process("dense", {}, "scaler", sizes)


@BOTH
@pytest.mark.parametrize("name", ["channels last", "sometimes"])
def test_layout_in_memory_and_gradients_that_one_process_lacks(name, way):
    assert_equals_one_process(name, {}, way, UNEVEN)


@BOTH
def test_the_default_base_optimizer(way):
    assert_equals_one_process("double", {}, way, UNEVEN, adam=True)


def test_frozen_batch_norm_is_accepted():
    first, second = values(cases.accept_batch_norm_in_evaluation)
    assert_close(first, second, **BITWISE)


@pytest.mark.parametrize("by_pipeline", [False, True], ids=["learn", "pipeline"])
def test_a_group_of_its_own_lets_each_process_train_another_network(by_pipeline):
    alone = values(cases.learn_alone, by_pipeline)
    for rank, found in enumerate(alone):
        torch.manual_seed(rank)
        net = cases.SigPropNet(64, [16, 8], 3)
        optimizer = cases.SigPropOptimizer(net)
        for x, y in cases.batches():
            optimizer.learn(x, y)
        assert_close(found, cases.tensors_of(net), **BITWISE)


@pytest.fixture
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@BOTH
def test_a_group_of_one_process_changes_nothing(way, one_process):
    options = {"loss": "target_topk"}
    found = cases.train("attached", options, way, (cases.SAMPLES,))
    dist.destroy_process_group()
    expected: list[Tensor] = cases.train("attached", options, way, (cases.SAMPLES,))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    assert_close(found, expected, **BITWISE)


# ---- what is refused ---------------------------------------------------------------------------------------------


def assert_refused(match: str, function: Callable[..., Any], *arguments: Any) -> None:
    for message in values(function, *arguments):
        with pytest.raises(ValueError, match=match):
            raise ValueError(message)


@BOTH
@pytest.mark.parametrize("loss", ["target_max_all", "target_max", "target_topk"])
def test_losses_over_the_batch(loss, way):
    assert_refused(
        f"^the local loss '{loss}' compares .*'label_direct'", cases.refuse_loss_or_norm, {"loss": loss}, way
    )


@BOTH
def test_norms_over_the_batch(way):
    match = r"^layers\.0\.block\.1 is a BatchNorm2d, .*norm='instance'"
    assert_refused(match, cases.refuse_loss_or_norm, {"norm": "batch"}, way)
    assert_refused(r"^layers\.0\.block\.1 is a InstanceNorm2d, which keeps", cases.refuse_running_statistics, way)


@BOTH
def test_networks_that_differ_from_the_start(way):
    match = r"^net must be equal in all processes, but layers\.0\.block\.1\.weight is not: .*manual_seed.*process_group"
    assert_refused(match, cases.refuse_other_weights, way)
    assert_refused("^net must be the same network in all processes", cases.refuse_other_shapes)


@pytest.mark.parametrize(("what", "name"), [("buffer", "mean"), ("lr", r"layers\.0\.block\.1\.weight")])
def test_networks_that_the_first_update_leaves_different(what, name):
    assert_refused(f"^net must be equal in all processes, but .*{name} is not", cases.refuse_drift, what)


def test_accumulation_over_uneven_batches():
    match = r"^batches whose gradients are accumulated .*batches of \[6, [57]\] samples.*\[13, 11\]"
    assert_refused(match, cases.refuse_uneven_accumulation)


def test_the_pipeline():
    assert_refused("^SigPropPipeline learns in threads of one process", cases.refuse_pipeline)


def test_a_wrapped_network_and_another_group():
    assert_refused("got DistributedDataParallel: pass the network inside it", cases.refuse_wrapped)
    assert_refused("^process_group must be a torch.distributed.ProcessGroup that contains", cases.refuse_group)


@pytest.mark.parametrize("when", ["before", "after"])
def test_sharded_networks(when):
    match = r"^net must have whole parameters, but layers\.0\.block\.1\.weight .* is a DTensor: .*fully_shard"
    assert_refused(match, cases.refuse_sharded, when)
