"""Flipping error reduction in two processes: the memory, the loss and the model are those of one process."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils.data import DistributedSampler

from advanced_optimizers import FlippingErrorReduction
from tests.two_processes import WORLD_SIZE, together

SAMPLES, CLASSES, EPOCHS, BATCH = 64, 4, 4, 8


class WithLoss(nn.Module):
    """A classifier that holds its loss, so that what wraps the one wraps the other."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, CLASSES))
        self.criterion = FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS, **settings)

    def forward(self, x: Tensor, y: Tensor, i: Tensor) -> Tensor:
        return self.criterion(self.net(x), y, i)


def data() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    y = torch.randint(CLASSES, (SAMPLES,), generator=rng)
    return torch.randn(SAMPLES, 6, generator=rng) + 0.7 * F.one_hot(y, 6), y


def samplers(num_samples: int = SAMPLES) -> list[DistributedSampler[int]]:
    return [DistributedSampler(range(num_samples), WORLD_SIZE, rank, shuffle=True) for rank in range(WORLD_SIZE)]


def batches(epoch: int) -> Iterator[list[Tensor]]:
    """The indices of each step, a tensor for each process."""
    shards = []
    for sampler in samplers():
        sampler.set_epoch(epoch)
        shards.append(torch.tensor(list(sampler)).split(BATCH))
    yield from (list(step) for step in zip(*shards, strict=True))


def train(rank: int | None, wrapped: bool, settings: dict[str, Any]) -> tuple[dict[str, Tensor], list[float]]:
    """Trains on one process's samples, or on those of both if ``rank`` is None; returns the state and the losses."""
    x, y = data()
    model = WithLoss(**settings)
    ddp = DistributedDataParallel(model if wrapped else model.net) if rank is not None else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        model.criterion.set_epoch(epoch)
        for shards in batches(epoch):
            i = torch.cat(shards) if rank is None else shards[rank]
            optimizer.zero_grad()
            if ddp is None:
                loss = model(x[i], y[i], i)
            else:
                loss = ddp(x[i], y[i], i) if wrapped else model.criterion(ddp(x[i]), y[i], i)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return model.state_dict(), losses


def train_here(wrapped: bool, settings: dict[str, Any]) -> tuple[dict[str, Tensor], list[float]]:
    return train(dist.get_rank(), wrapped, settings)


@pytest.mark.parametrize("wrapped", [True, False], ids=["criterion inside", "criterion outside"])
@pytest.mark.parametrize("settings", [{}, {"init_epochs": 0}, {"init_epochs": 3}], ids=str)
def test_two_processes_with_a_shuffling_sampler_equal_one(wrapped, settings):
    outcomes = together(train_here, wrapped, settings)
    assert [outcome.error for outcome in outcomes] == ["", ""]
    (first, first_losses), (second, second_losses) = (outcome.value for outcome in outcomes)
    assert_close(first, second, rtol=0, atol=0)
    alone, losses = train(None, wrapped, settings)
    assert alone["criterion.ever_correct"].sum() > SAMPLES // 2
    assert first["criterion.ever_correct"].equal(alone["criterion.ever_correct"])
    assert_close(first, alone, rtol=1e-4, atol=1e-5)
    assert_close((torch.tensor(first_losses) + torch.tensor(second_losses)) / 2, torch.tensor(losses))


# ---- the exchange itself -----------------------------------------------------------------------------------------


def call_with(logits: list[Tensor], labels: list[Tensor], indices: list[Tensor]) -> dict[str, Tensor]:
    criterion = FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)
    criterion.set_epoch(1)
    mine = dist.get_rank()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        criterion(logits[mine], labels[mine], indices[mine])
    return criterion.state_dict()


@pytest.mark.parametrize("sizes", [(5, 5), (7, 1)], ids=str)
@pytest.mark.parametrize("right", ["both", "first", "second", "none"])
def test_the_memory_is_bitwise_that_of_one_process(sizes, right, rng):
    y = torch.randint(CLASSES, (sum(sizes),), generator=rng)
    z = torch.rand(len(y), CLASSES, generator=rng) + 2 * F.one_hot(y, CLASSES)
    wrong = {"both": slice(0, 0), "first": slice(sizes[0], None), "second": slice(sizes[0]), "none": slice(None)}
    z[wrong[right]] *= -1
    z[0] = torch.nan
    i = torch.randperm(SAMPLES, generator=rng)[: len(y)]
    alone = FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)
    alone.set_epoch(1)
    alone(z, y, i)
    outcomes = together(call_with, z.split(sizes), y.split(sizes), i.split(sizes))
    for outcome in outcomes:
        assert outcome.error == ""
        assert_close(outcome.value, alone.state_dict(), rtol=0, atol=0)


def differ(epochs: list[int], num_samples: list[int]) -> str:
    mine = dist.get_rank()
    criterion = FlippingErrorReduction(num_samples[mine], CLASSES, EPOCHS, init_epochs=2)
    criterion.set_epoch(epochs[mine])
    try:
        criterion(torch.zeros(1, CLASSES), torch.tensor([0]), torch.tensor([0]))
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("epochs", "num_samples", "text"),
    [
        ([1, 3], [4, 4], "epoch must be the same in all processes, got [1, 3]: call set_epoch in each"),
        ([2, 2], [4, 5], "num_samples must be the same in all processes, got [4, 5]"),
        ([2, 2], [4, 4], ""),
    ],
    ids=str,
)
def test_processes_that_differ_are_told(epochs, num_samples, text):
    for outcome in together(differ, epochs, num_samples):
        assert outcome.error == ""
        assert outcome.value.startswith(text)
        assert bool(outcome.value) == bool(text)


def in_groups_of_one() -> list[bool]:
    groups = [dist.new_group([rank]) for rank in range(WORLD_SIZE)]
    rank = dist.get_rank()
    criterion = FlippingErrorReduction(WORLD_SIZE, CLASSES, EPOCHS, process_group=groups[rank])
    criterion.set_epoch(1 + rank)  # another training, in another epoch
    criterion(F.one_hot(torch.tensor([1]), CLASSES).float(), torch.tensor([1]), torch.tensor([rank]))
    if rank == 0:
        criterion(torch.zeros(1, CLASSES), torch.tensor([0]), torch.tensor([0]))  # and with more calls
    with pytest.raises(TypeError, match=r"process_group must be a torch\.distributed\.ProcessGroup that contains"):
        FlippingErrorReduction(WORLD_SIZE, CLASSES, EPOCHS, process_group=groups[1 - rank])
    return criterion.ever_correct.tolist()


def test_a_group_of_one_keeps_its_memory_to_itself():
    outcomes = together(in_groups_of_one)
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert [outcome.value for outcome in outcomes] == [[True, False], [False, True]]


def train_in_groups_of_one(broadcast: bool) -> dict[str, Tensor]:
    group = [dist.new_group([rank]) for rank in range(WORLD_SIZE)][dist.get_rank()]
    x, y = data()
    model = WithLoss(process_group=group)
    ddp = DistributedDataParallel(model, broadcast_buffers=broadcast)
    for epoch in (1, 2):
        model.criterion.set_epoch(epoch)
        for shards in batches(epoch):
            i = shards[dist.get_rank()]
            ddp(x[i], y[i], i).backward()
    return model.criterion.state_dict()


@pytest.mark.parametrize("broadcast", [True, False])
def test_a_memory_that_was_overwritten_is_told(broadcast):
    outcomes = together(train_in_groups_of_one, broadcast)
    told = [[text for text in outcome.warnings if text.startswith("FlippingErrorReduction")] for outcome in outcomes]
    assert told[0] == []  # it is the memory of rank 0 that is copied
    assert len(told[1]) == int(broadcast)
    assert all("the memory changed between two training calls" in text for text in told[1])


def evaluate_on_rank_0() -> float:
    criterion = FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS).eval()
    return (
        criterion(torch.zeros(1, CLASSES), torch.tensor([0]), torch.tensor([0])).item() if dist.get_rank() == 0 else 0
    )


def test_eval_mode_waits_for_nobody():
    assert [outcome.error for outcome in together(evaluate_on_rank_0)] == ["", ""]
