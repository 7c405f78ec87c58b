"""Selective localized learning: detaching from a model, being copied with it, and resuming."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.testing import assert_close

from advanced_optimizers import DynamicTransition, LocalizedOptimizer, StaticTransition
from tests.localized_helpers import AT_ONCE, BITWISE, KWARGS, batches, localized, network, step, weights


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("stepped", [False, True])
def test_detach_restores_the_model_and_the_optimizer_acts_as_its_base(stepped):
    model = network()
    model[8].bias.requires_grad_(False)
    optimizer = localized(model, 2)
    data = batches(3)
    if stepped:
        step(model, optimizer, *data[0])
    optimizer.detach()
    assert hooks_of(model) == 0
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["8.bias"]
    assert optimizer.transition == 0
    before = weights(optimizer)
    step(model, optimizer, *data[1])
    assert all(not a.equal(b) for a, b in zip(weights(optimizer), before, strict=True))
    with pytest.raises(RuntimeError, match=r"detach\(\) has released them: build a new"):
        optimizer.end_epoch(1.0)
    optimizer.detach()  # a second call does nothing
    assert hooks_of(copy.deepcopy((model, optimizer))[0]) == 0


def test_a_second_optimizer_on_the_same_model_is_refused_until_the_first_is_detached():
    model = network()
    first = localized(model, 2, rule="frozen")
    hooks = hooks_of(model)
    with pytest.raises(ValueError, match="one LocalizedOptimizer at a time"):
        LocalizedOptimizer(model, SGD, KWARGS)
    assert hooks_of(model) == hooks
    first.detach()
    second = localized(model, 1)
    assert len([p for p in model.parameters() if not p.requires_grad]) == 3
    step(model, second, *batches(1)[0])


def test_copy_of_the_model_alone_trains_like_any_model():
    model = network()
    optimizer = localized(model)
    twin = copy.deepcopy(model).requires_grad_(True)
    plain = SGD(twin.parameters(), **KWARGS)
    before = weights(optimizer)
    for x, y in batches(2):
        step(twin, plain, x, y)
    optimizer.step()
    assert_close(weights(optimizer), before, **BITWISE)


RUNS: dict[str, dict[str, Any]] = {
    "dynamic": {"selection": DynamicTransition(alpha=1.5), "update_every": 1},
    "static, every third step": {"selection": StaticTransition(total_epochs=5, power=1.0), "update_every": 3},
    "random": {"selection": StaticTransition(total_epochs=5, power=1.0), "rule": "random"},
}


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("stop", [3, 6, 8, 10])  # at the end of an epoch and within one
def test_resumes_bit_for_bit_while_the_transition_moves(settings, stop):
    def run(model: nn.Module, optimizer: LocalizedOptimizer, first: int, last: int) -> list[tuple[int, float]]:
        seen = []
        for i in range(first, last):
            step(model, optimizer, *data[i])
            if i % 2 == 1:
                optimizer.end_epoch([1.0, 0.9, 1.1, 0.8, 0.7, 0.75, 0.6, 0.5][i // 2])
            seen.append((optimizer.transition, optimizer.localized_direction))
        return seen

    data = batches(16)
    model, twin = network(), network(1)
    optimizer = LocalizedOptimizer(model, SGD, {**KWARGS, "fused": True}, max_transition=3, **settings)
    run(model, optimizer, 0, stop)
    state = copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    torch.manual_seed(99)
    twin.load_state_dict(state["model"])
    resumed = LocalizedOptimizer(twin, SGD, {**KWARGS, "fused": True}, max_transition=3, **settings)
    resumed.load_state_dict(state["optimizer"])
    assert resumed.transition == optimizer.transition
    assert resumed.loss_history == optimizer.loss_history
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    seen = run(model, optimizer, stop, 16)
    assert run(twin, resumed, stop, 16) == seen
    assert seen[-1][0] == 3
    assert_close(list(twin.parameters()), list(model.parameters()), **BITWISE)
    assert_close(resumed.state_dict(), optimizer.state_dict(), **BITWISE)


def test_loading_an_earlier_checkpoint_restores_requires_grad():
    model = network()
    model[3].weight.requires_grad_(False)
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, selection=AT_ONCE, max_transition=3)
    step(model, optimizer, *batches(1)[0])
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.end_epoch(1.0)
    assert optimizer.transition == 3
    optimizer.load_state_dict(state)
    assert optimizer.transition == 0
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["3.weight"]


def test_loading_drops_the_gradients_of_what_is_localized():
    localized_one = localized(network(), 2, rule="frozen")
    model = network()
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, rule="frozen", max_transition=2, update_every=1)
    (x, y), *_ = batches(1)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.load_state_dict(localized_one.state_dict())
    before = weights(optimizer)
    optimizer.step()
    after = weights(optimizer)
    assert [a.equal(b) for a, b in zip(after, before, strict=True)] == [True, True, False, False]


def test_checkpoints_of_something_else_are_refused_and_change_nothing():
    model = network()
    optimizer = localized(model, 2)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="it was not saved by LocalizedOptimizer"):
        optimizer.load_state_dict(SGD(model.parameters(), **KWARGS).state_dict())
    other = LocalizedOptimizer(network()[3:], SGD, KWARGS)
    with pytest.raises(ValueError, match="group 0 must have 9 params, got 6"):
        optimizer.load_state_dict(other.state_dict())
    same_parameters = {**before, "localized": other.state_dict()["localized"]}
    with pytest.raises(ValueError, match="that of a model with 4 blocks in 5 modules, got one with 3 blocks: build"):
        optimizer.load_state_dict(same_parameters)
    further = localized(network(), 3)
    with pytest.raises(ValueError, match="transition of state_dict must be <= 2, got 3"):
        optimizer.load_state_dict(further.state_dict())
    assert_close(optimizer.state_dict(), before, **BITWISE)


def test_an_epoch_at_learning_rate_zero_measures_nothing():
    model = network()
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, selection=DynamicTransition(alpha=1e9))
    optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(3):
        step(model, optimizer, *batches(1)[0])
        optimizer.end_epoch(1.0)
    assert optimizer.transition == 0
    optimizer.end_epoch(1.0)  # and neither does one without a step
    assert optimizer.transition == 0


def test_an_epoch_begins_only_once_when_its_first_steps_have_learning_rate_zero():
    """As in a warm-up from 0, while something else also changes the weights, such as a projection after each step."""
    model = network()
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, selection=DynamicTransition())
    weight, data = model[0].weight, batches(3)
    start = weight.detach().clone()
    for lr, (x, y) in zip((0.0, 0.0, 0.1), data, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        step(model, optimizer, x, y)
        assert_close(optimizer.state[weight]["epoch_start"], start, **BITWISE)
        with torch.no_grad():
            weight.mul_(1.5)
    optimizer.end_epoch(1.0)
    assert all(set(state) <= {"base"} for state in optimizer.state.values())
    step(model, optimizer, *data[0])
    assert not optimizer.state[weight]["epoch_start"].equal(start)


def without(saved: dict[str, Any], name: str) -> None:
    del saved[name]


# What is wrong in the checkpoint's part for localized learning, and what the error says.
BROKEN: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no schedule": (lambda s: without(s, "schedule"), "schedule of state_dict must be a dict, got None"),
    "a schedule that is a number": (lambda s: s.update(schedule=5), "schedule of state_dict must be a dict, got 5"),
    "no updates": (lambda s: without(s["schedule"], "updates"), "schedule of state_dict must have 'updates'"),
    "something unknown": (lambda s: s["schedule"].update(speed=1), r"schedule of state_dict must have .*'speed'"),
    "updates of words": (lambda s: s["schedule"].update(updates=[["a"]] * 4), "updates .* must be a number, got 'a'"),
    "a loss too many": (lambda s: s["schedule"].update(losses=5), "losses of state_dict must be a list, got 5"),
    "a word as direction": (lambda s: s["schedule"].update(direction="up"), "direction .* must be a number, got 'up'"),
    "no parameters": (lambda s: without(s, "params"), "params of state_dict must be a list, got None"),
    "an unknown parameter": (lambda s: s.update(params=[99]), "params .* must hold integers from 0 to 8, got 99"),
    "one kept that is unknown": (lambda s: s.update(kept=[-1]), "kept .* must hold integers from 0 to 8, got -1"),
    "an order of words": (lambda s: s.update(order=["a"]), "order .* must hold integers from 0 to 4, got 'a'"),
    "passes that are a number": (lambda s: s.update(passes=5), "passes of state_dict must be a dict, got 5"),
    "an unknown unit": (lambda s: s["passes"].update(ran=[7]), r"passes\['ran'\] .* from 0 to 4, got 7"),
    "an unknown output": (lambda s: s["passes"].update(outputs=[7]), r"passes\['outputs'\] .* from 0 to 4, got 7"),
    "one that never ran": (lambda s: s["passes"].update(before=[[0, 1]], ran=[0]), r"units that ran, got \[0, 1\]"),
    "no pair": (lambda s: s["passes"].update(before=[[0]], ran=[0]), r"must have pairs .*got \[0\]"),
    "no generator": (lambda s: without(s, "generator"), "generator of state_dict must be a tensor, got None"),
    "a short generator": (
        lambda s: s.update(generator=s["generator"][:3]),
        r"generator .*shape .*got \(3,\)",
    ),
    "a generator of numbers": (lambda s: s.update(generator=s["generator"].float()), "torch.uint8, got torch.float32"),
    "settings that are a list": (lambda s: s.update(settings=[1]), r"settings of state_dict must be a dict, got \[1\]"),
    "an unknown setting": (lambda s: s["settings"].update(speed=1), "speed must be 1, as in state_dict, got None"),
    "an unknown rule": (lambda s: s["settings"].update(rule=99), "rule must be 99, as in state_dict, got 'hebbian'"),
}


@pytest.mark.parametrize(("broken", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_checkpoint_is_refused_by_name_and_changes_nothing(broken, message):
    model = network()
    optimizer, further = localized(model, 2), localized(network(1), 2)
    for each in (optimizer, further):
        step(each.model, each, *batches(1)[0])
    further.param_groups[0]["lr"] = 0.5
    before, learns = copy.deepcopy(optimizer.state_dict()), [p.requires_grad for p in model.parameters()]
    state = copy.deepcopy(further.state_dict())
    broken(state["localized"])
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(state)
    assert_close(optimizer.state_dict(), before, **BITWISE)
    assert [p.requires_grad for p in model.parameters()] == learns
