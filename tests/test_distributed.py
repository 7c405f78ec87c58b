"""The optimizers in two processes: DistributedDataParallel, ZeroRedundancyOptimizer and FSDP2 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing import assert_close

from tests import distributed_optimizers as cases
from tests.harness import BITWISE
from tests.two_processes import together

pytestmark = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo"
)
HIDDEN = "correction of hidden states"
CONVOLUTIONS = ["convolution", "local convolution", "convolution v2"]
WRAPPERS = ["fer", "fer over sgd", "correction", "fer over correction", *CONVOLUTIONS]
WITHIN_ROWS = [f"{name} within rows" for name in CONVOLUTIONS]
SHARDED = ["fer", "fer over sgd", "correction", "fer over correction", *WITHIN_ROWS]
SCALED = ["mu sgd", "mu adam", "mu adamw", "mu transfer"]
whole = cache(cases.train_whole)


def values(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    outcomes = together(function, *arguments)
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert [outcome.warnings for outcome in outcomes] == [(), ()]
    return [outcome.value for outcome in outcomes]


def assert_equals_one_process(name: str, function: Callable[..., Any], *arguments: Any) -> None:
    first, second = values(function, *arguments)
    assert_close(first, second, **BITWISE)
    assert_close(first, whole(name), rtol=0.0, atol=1e-6)
    assert distance(whole(name), cases.parameters_of(cases.model_of(name))) > 5e-3  # it has learned


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(some, others, strict=True))


# ---- DistributedDataParallel -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", *WRAPPERS, *SCALED])
def test_ddp_equals_one_process_with_the_whole_batch(name):
    assert_equals_one_process(name, cases.train_ddp, name)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_state_is_the_same_in_both_processes(name):
    first, second = values(cases.train_and_save, name)
    assert_close(first["state"], second["state"], **BITWISE)


def test_a_kernel_that_follows_the_loss_follows_the_mean_over_the_processes():
    first, second = values(cases.follow_losses, [[1.0, 0.5, 0.9], [1.0, 1.2, 0.2]])
    assert_close(first, second, **BITWISE)
    assert_close(first[0], first[1], **BITWISE)  # as in one process that hears the means


def test_corrections_of_hidden_states_keep_the_parameters_equal_but_learn_from_their_own_part():
    outcomes = together(cases.train_ddp, HIDDEN)
    first, second = (outcome.value for outcome in outcomes)
    assert_close(first, second, **BITWISE)
    assert all(["in several processes" in text for text in outcome.warnings].count(True) == 1 for outcome in outcomes)
    assert 0.0 < distance(first, whole(HIDDEN)) < 0.5 * distance(whole(HIDDEN), whole("correction"))


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "chunk", lambda tensor, chunks: [tensor])


@pytest.mark.parametrize("name", [*WRAPPERS, HIDDEN, *SCALED])
def test_a_group_of_one_process_changes_nothing(name, whole_batches, one_process):
    assert_close(cases.train_ddp(name), whole(name), **BITWISE)


# ---- ZeroRedundancyOptimizer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", cases.ZERO)
def test_zero_equals_one_process_with_the_whole_batch(way):
    assert_equals_one_process(cases.ZERO[way][0], cases.train_zero, way)


@pytest.mark.parametrize(
    "way", ["muP over zero", "fer bound to its settings", "fer's class", "correction's class", "convolution's class"]
)
def test_zero_resumes_from_a_checkpoint(way):
    assert_equals_one_process(cases.ZERO[way][0], cases.resume_zero, way)


def test_zero_cannot_build_mup_s_optimizer():
    assert all(message.startswith("MuSGD takes the model") for message in values(cases.refuse_mu_class))


# ---- FSDP2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", *SHARDED, *SCALED])
def test_fsdp2_equals_one_process_with_the_whole_batch(name):
    assert_equals_one_process(name, cases.train_sharded, name)


@pytest.mark.parametrize(
    ("name", "by_torch"),
    [
        ("fer over correction", False),
        ("fer", True),
        ("correction", True),
        ("convolution v2 within rows", False),
        ("convolution v2 within rows", True),
        ("local convolution within rows", True),
    ],
)
def test_fsdp2_goes_on_from_its_state(name, by_torch):
    assert_equals_one_process(name, cases.resume_sharded, name, by_torch)


@pytest.mark.parametrize("by_torch", [False, True])
@pytest.mark.parametrize("name", cases.IN_BFLOAT16)
def test_fsdp2_goes_on_bit_for_bit_with_its_memory_in_bfloat16(name, by_torch):
    assert values(cases.resume_sharded_in_bfloat16, name, by_torch) == [(True, True)] * 2


def test_processes_see_the_same_cosines_and_parts_may_be_empty():
    first, second = values(cases.watch_sharded)
    assert first == second
    model = cases.model_of("fer")
    optimizer = cases.OPTIMIZERS["fer"][1](model)
    cases.run(model, optimizer)
    assert first == pytest.approx(optimizer.consistency_history, abs=1e-6)
    assert len(first) == cases.STEPS - 1


@pytest.mark.parametrize("name", WITHIN_ROWS)
def test_what_kernels_make_of_sharded_gradients_is_what_they_make_of_whole_ones(name):
    first, second = values(cases.measure_sharded, name)
    assert_close(first, second, **BITWISE)
    model = cases.model_of(name)
    optimizer: Any = cases.OPTIMIZERS[name][1](model)
    cases.run(model, optimizer)
    assert_close(first, optimizer.get_stats(), rtol=0.0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", [*CONVOLUTIONS, HIDDEN, "fer over convolution"])
def test_fsdp2_is_refused_by_name_and_nothing_changes(name):
    optimizer = cases.OPTIMIZERS[name][1](cases.model_of(name))
    owner = type(optimizer.base if name.startswith("fer over") else optimizer).__name__
    first = "(16, 128)" if name == "convolution v2" else "(4, 1, 3, 3)"  # filters have all their neighbors
    for message, stayed, states in values(cases.refuse_sharded, name):
        assert message.startswith(f"{owner} does not support sharded gradients, got a DTensor of shape {first}: ")
        assert stayed
        assert states == 0
        if name in CONVOLUTIONS:
            axes = optimizer.param_groups[0]["axes"]
            assert f"with axes={axes} its kernels run across rows" in message
            assert f"axes={(-1,) if name == 'convolution v2' else (-2, -1)}" in message


def test_nothing_is_imported_to_recognize_a_sharded_tensor(rng):
    from advanced_optimizers._checks import is_dtensor

    assert not is_dtensor(torch.randn(2, generator=rng))
