"""Selective localized learning in two processes equals one process with the whole batch, or is refused by name."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD
from torch.testing import assert_close

from advanced_optimizers import DynamicTransition, LocalizedOptimizer, StaticTransition
from tests.two_processes import together

EVEN = StaticTransition(total_epochs=4, warmup=0.0, power=1.0)
LOSSES = ([1.0, 3.0], [2.0, 1.0], [1.0, 2.5], [0.5, 0.5])  # of both processes; the mean falls, rises, falls


class Net(nn.Module):
    """Four layers without batch statistics; a batch may skip the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, stride=2)
        self.c = nn.Linear(36, 8)
        self.head = nn.Linear(8, 3)
        self.skips = False

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        x = x[..., ::2, ::2][..., :3, :3] if self.skips else torch.tanh(self.b(x))
        out: Tensor = self.head(torch.tanh(self.c(x.flatten(1))))
        return out


def data(epoch: int, i: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(100 * epoch + i)
    return torch.randn(8, 1, 8, 8, generator=rng, dtype=torch.float64), torch.randint(3, (8,), generator=rng)


def fit(settings: dict[str, Any], how: str, skips: bool = False) -> tuple[list[Tensor], list[int], list[float]]:
    """Trains for four epochs, on this process's half of each batch if there are two."""
    torch.manual_seed(0)
    net = Net().double()
    several = dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
    kwargs = {"lr": 0.1, "momentum": 0.9}
    model: nn.Module = net
    if several and how != "no wrapper":
        model = DistributedDataParallel(net, find_unused_parameters=how != "finds no unused ones")
    given = model if how == "given the wrapper" else net
    optimizer = LocalizedOptimizer(given, SGD, kwargs, 0.02, max_transition=3, update_every=1, **settings)
    transitions, directions = [], []
    for epoch in range(4):
        for i in range(3):
            x, y = (t.chunk(world)[rank] for t in data(epoch, i))
            net.skips = skips and (rank + i) % 2 == 0
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        mine = LOSSES[epoch] if world == 1 else [LOSSES[epoch][rank]]
        optimizer.end_epoch(sum(mine) / len(mine))
        transitions.append(optimizer.transition)
        directions.append(optimizer.localized_direction)
    return [p.detach() for p in net.parameters()], transitions, directions


def refusal(how: str) -> str:
    """What refuses the training, in both processes at the same step, so that they can stay up."""
    try:
        fit({"selection": EVEN}, how)
    except RuntimeError as error:
        return str(error)
    return ""


SETTINGS: dict[str, dict[str, Any]] = {
    "hebbian": {"selection": EVEN},
    "oja": {"selection": EVEN, "rule": "oja"},
    "random": {"selection": EVEN, "rule": "random"},
    "frozen": {"selection": EVEN, "rule": "frozen"},
    "dynamic": {"selection": DynamicTransition(alpha=3.0)},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_two_processes_equal_one_with_the_whole_batch(settings):
    params, transitions, directions = fit(settings, "alone")
    assert transitions[-1] >= 2
    assert directions == [1.0, 1.0, -0.1, 1.0]
    for outcome in together(fit, settings, "given the module"):
        assert outcome.error == ""
        assert outcome.value[1:] == (transitions, directions)
        assert_close(outcome.value[0], params, rtol=0, atol=1e-6)


def test_the_wrapped_model_may_be_given_too():
    params, *_ = fit({"selection": EVEN}, "alone")
    for outcome in together(fit, {"selection": EVEN}, "given the wrapper"):
        assert outcome.error == ""
        assert_close(outcome.value[0], params, rtol=0, atol=1e-6)


def test_processes_that_skip_different_layers_stay_equal():
    one, other = together(fit, {"selection": EVEN}, "given the module", True)
    assert one.error == other.error == ""
    assert one.value[1] == other.value[1] == [1, 2, 3, 3]
    assert_close(one.value[0], other.value[0], rtol=0, atol=0)


def test_processes_whose_weights_have_drifted_apart_are_refused():
    for outcome in together(refusal, "no wrapper"):
        assert outcome.error == ""
        assert "the localized weights must be the same in all 2 processes of the default group" in outcome.value
        assert "DistributedDataParallel" in outcome.value


def test_a_wrapper_that_waits_for_frozen_blocks_is_refused():
    for outcome in together(refusal, "finds no unused ones"):
        assert outcome.error == ""
        assert "the gradients must be the same in all 2 processes" in outcome.value
        assert "find_unused_parameters=True" in outcome.value


def test_models_wrapped_for_several_devices():
    model = Net()
    with pytest.raises(TypeError, match=r"model must not be wrapped in DataParallel.*pass the module itself"):
        LocalizedOptimizer(nn.DataParallel(model), SGD, {"lr": 0.1})
    with tempfile.NamedTemporaryFile() as file:
        dist.init_process_group("gloo", init_method=f"file://{file.name}", rank=0, world_size=1)
        try:
            waiting = DistributedDataParallel(model)
            with pytest.raises(ValueError, match=r"with find_unused_parameters=True.*got find_unused_parameters=False"):
                LocalizedOptimizer(waiting, SGD, {"lr": 0.1})
            fine = DistributedDataParallel(model, find_unused_parameters=True)
            assert LocalizedOptimizer(fine, SGD, {"lr": 0.1}).model is model
        finally:
            dist.destroy_process_group()


def sharded() -> str:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    fully_shard(net, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    try:
        LocalizedOptimizer(net, SGD, {"lr": 0.1})
    except TypeError as error:
        return str(error)
    return ""


def test_sharded_parameters_are_refused():
    for outcome in together(sharded):
        assert outcome.error == ""
        assert "model must hold its whole parameters in each process, got one that is sharded" in outcome.value
