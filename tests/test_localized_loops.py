"""Selective localized learning in loops that are not the user's own: epochs by steps, closures, frozen parameters."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from advanced_optimizers import LocalizedOptimizer, StaticTransition, create_localized_optimizer
from advanced_optimizers.localized_learning.arguments import MANY_STEPS
from tests.localized_helpers import BITWISE, KWARGS, batches, localized, network, step, weights

EVEN = StaticTransition(total_epochs=4, warmup=0.0, power=1.0)


def with_steps(model: nn.Module, steps_per_epoch: Any = 3, **settings: Any) -> LocalizedOptimizer:
    settings = {"selection": EVEN, "max_transition": 3, "update_every": 1, **settings}
    return LocalizedOptimizer(model, SGD, KWARGS, steps_per_epoch=steps_per_epoch, **settings)


def step_with_closure(
    model: nn.Module, optimizer: LocalizedOptimizer, x: Tensor, y: Tensor, *, by_name: bool = False
) -> float:
    def closure() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss.item()

    return float(optimizer.step(closure=closure) if by_name else optimizer.step(closure))


# ---- the end of an epoch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closure", "closure by name", "observe", "observe a number"])
def test_epochs_by_steps_are_those_of_the_ordinary_loop(how):
    model, twin = network(), network()
    optimizer = with_steps(model, steps_per_epoch=3)
    ordinary = with_steps(twin, steps_per_epoch=None)
    losses: list[float] = []
    for i, (x, y) in enumerate(batches(12)):
        if "closure" in how:
            step_with_closure(model, optimizer, x, y, by_name=how == "closure by name")
        else:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.observe(loss if how == "observe" else loss.item())
            optimizer.step()
        losses.append(step(twin, ordinary, x, y))
        if i % 3 == 2:
            ordinary.end_epoch(sum(losses[-3:]) / 3)
            assert optimizer.transition == ordinary.transition == min(i // 3 + 1, 3)
            assert optimizer.localized_direction == ordinary.localized_direction
    assert optimizer.loss_history == pytest.approx(ordinary.loss_history, rel=1e-6)
    assert_close(list(model.parameters()), list(twin.parameters()), **BITWISE)


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_epochs_without_a_loss_switch_weak_supervision_off_and_say_so_once(mode):
    model = network()
    settings: dict[str, Any] = {"total_epochs": 3} if mode == "static" else {"alpha": 1e9}
    optimizer = create_localized_optimizer(
        model, 0.1, selection_mode=mode, steps_per_epoch=2, max_transition=3, **settings
    )
    data = batches(8)
    step(model, optimizer, *data[0])
    with pytest.warns(UserWarning, match=r"weak supervision is off, because steps_per_epoch .*observe\(loss\)"):
        step(model, optimizer, *data[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for x, y in data[2:]:
            step(model, optimizer, x, y)
    assert optimizer.loss_history == [None] * 4
    assert optimizer.localized_direction == 1.0
    assert optimizer.transition == 3


def test_an_epoch_without_a_loss_neither_rises_nor_falls():
    model = network()
    optimizer = with_steps(model, 1)
    (x, y), *_ = batches(1)
    directions = []
    for loss in (1.0, 2.0, None, 3.0, 4.0, math.nan):
        if loss is not None:
            optimizer.observe(loss)
        step(model, optimizer, x, y)
        directions.append(optimizer.localized_direction)
    assert directions == [1.0, -0.1, 1.0, 1.0, -0.1, -0.1]


def test_two_ends_of_an_epoch_are_one_too_many():
    optimizer = with_steps(network(), 5)
    with pytest.raises(RuntimeError, match=r"end_epoch must not be called with steps_per_epoch=5"):
        optimizer.end_epoch(1.0)
    with pytest.raises(RuntimeError, match=r"observe\(loss\) needs steps_per_epoch"):
        with_steps(network(), None).observe(1.0)


def test_the_place_within_an_epoch_is_in_the_checkpoint_and_copied():
    model, twin = network(), network(1)
    data = batches(9)
    optimizer, resumed = with_steps(model), with_steps(twin)
    for x, y in data[:4]:
        step_with_closure(model, optimizer, x, y)
    twin.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    copied, other = copy.deepcopy((model, optimizer))
    for net, each in ((model, optimizer), (twin, resumed), (copied, other)):
        for x, y in data[4:]:
            step_with_closure(net, each, x, y)
    assert resumed.loss_history == other.loss_history == optimizer.loss_history
    assert len(optimizer.loss_history) == 3
    for net in (twin, copied):
        assert_close(list(net.parameters()), list(model.parameters()), **BITWISE)


def test_many_steps_without_an_end_of_an_epoch_are_warned_of_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = create_localized_optimizer(model, 0.1)
    optimizer._schedule.steps = MANY_STEPS - 2
    x, y = torch.ones(1, 2), torch.zeros(1, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, optimizer, x, y)
    with pytest.warns(UserWarning, match=rf"no epoch has ended in {MANY_STEPS} steps.*steps_per_epoch"):
        step(model, optimizer, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, optimizer, x, y)
        optimizer._schedule.steps = MANY_STEPS - 1
        optimizer.end_epoch(1.0)
        step(model, optimizer, x, y)


def test_static_selection_without_a_run_length_is_fixed_from_the_second_epoch_on():
    model = network()
    optimizer = create_localized_optimizer(model, lr=0.1, selection_mode="static")
    transitions = []
    for x, y in batches(4):
        step(model, optimizer, x, y)
        transitions.append(optimizer.transition)
        optimizer.end_epoch(1.0)
    assert transitions == [0, 2, 2, 2]


# ---- requires_grad -----------------------------------------------------------------------------------------------


def test_switching_requires_grad_on_below_the_transition_is_heard():
    model = network()
    optimizer = localized(model, 2)
    data = batches(4)
    step(model, optimizer, *data[0])
    model[3].requires_grad_(True)
    before = weights(optimizer)
    with pytest.warns(
        UserWarning, match=r"requires_grad of 2 parameters in the localized blocks \['3'\] was switched on"
    ):
        step(model, optimizer, *data[1])
    assert model[3].weight.grad is not None
    moved = [float((a - b).norm()) for a, b in zip(weights(optimizer), before, strict=True)]
    assert moved[0] == pytest.approx(1e-3, rel=1e-3)  # the first block is still localized
    assert moved[1] != pytest.approx(1e-3, rel=1e-2)
    optimizer.end_epoch(0.9)
    assert model[3].weight.requires_grad
    state = copy.deepcopy(optimizer.state_dict())
    twin = network()
    twin.load_state_dict(model.state_dict())
    resumed = localized(twin, 2)
    resumed.load_state_dict(state)
    for net, each in ((model, optimizer), (twin, resumed)):
        step(net, each, *data[2])
        each.end_epoch(0.8)
        step(net, each, *data[3])
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    assert_close(list(twin.parameters()), list(model.parameters()), **BITWISE)


def test_what_the_user_froze_before_is_the_users_to_unfreeze():
    model = network()
    model[3].weight.requires_grad_(False)
    optimizer = localized(model, 2)
    data = batches(3)
    step(model, optimizer, *data[0])
    model[3].weight.requires_grad_(True)
    optimizer.end_epoch(0.9)
    assert model[3].weight.requires_grad
    model[3].weight.requires_grad_(False)
    optimizer.end_epoch(0.8)
    optimizer.detach()
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["3.weight"]


def test_what_the_user_freezes_above_the_transition_stays_frozen():
    model = network()
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, selection=EVEN, max_transition=3)
    model[6].requires_grad_(False)
    for x, y in batches(4):
        step(model, optimizer, x, y)
        optimizer.end_epoch(1.0)
    assert optimizer.transition == 3
    optimizer.detach()
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["6.weight", "6.bias"]


@pytest.mark.parametrize(("name", "value"), [("rule", "oja"), ("update_every", 3), ("weak_supervision_weight", 0.5)])
def test_a_checkpoint_with_other_settings_is_refused_by_name(name, value):
    saved = localized(network(), 2, **{name: value})
    optimizer = localized(network(), 2)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(
        ValueError, match=f"{name} must be {value!r}, as in state_dict, got {getattr(optimizer, name)!r}"
    ):
        optimizer.load_state_dict(saved.state_dict())
    assert_close(optimizer.state_dict(), before, **BITWISE)
    del (state := saved.state_dict())["localized"]["settings"]
    optimizer.load_state_dict(state)  # an older one


# ---- activation checkpointing ------------------------------------------------------------------------------------


class Reentrant(nn.Module):
    """A stem, three layers with activation checkpointing unless ``use_reentrant`` is None, and a head."""

    def __init__(self, use_reentrant: bool | None) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3)])
        self.head = nn.Linear(8, 2)
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for layer in self.layers:
            kind = self.use_reentrant
            x = layer(x) if kind is None else checkpoint(layer, x, use_reentrant=kind)
        out: Tensor = self.head(x)
        return out


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("set_to_none", [True, False])
def test_reentrant_checkpointing_that_stops_learning_is_refused_by_name(set_to_none):
    model = Reentrant(use_reentrant=True)
    optimizer = LocalizedOptimizer(model, SGD, {"lr": 0.1}, selection=EVEN, max_transition=3)

    def train() -> None:
        optimizer.zero_grad(set_to_none=set_to_none)
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    train()
    train()
    assert [block.name for block in optimizer.blocks] == ["stem", "layers.0.0", "layers.1.0", "layers.2.0", "head"]
    optimizer.end_epoch(1.0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        RuntimeError, match=r"\['layers.0.0', 'layers.1.0', 'layers.2.0'\] ran but have had no gradient"
    ):
        train()
    assert_close(dict(model.state_dict()), dict(before), **BITWISE)


def test_checkpointing_that_is_not_reentrant_learns_like_none():
    results = []
    for use_reentrant in (False, None):
        torch.manual_seed(0)
        model = Reentrant(use_reentrant)
        optimizer = LocalizedOptimizer(model, SGD, {"lr": 0.1}, selection=EVEN, max_transition=3, update_every=1)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(6, 4)).square().mean().backward()
            optimizer.step()
            optimizer.end_epoch(1.0)
        results.append([p.detach() for p in model.parameters()])
    assert_close(*results, rtol=0, atol=1e-6)
