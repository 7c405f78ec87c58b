"""What a wrapper saves and loads: through torch's own functions, from earlier versions, and what it refuses whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import SGD, Adam
from torch.testing import assert_close

from advanced_optimizers import (
    FEROptimizer,
    GradientCorrectionOptimizer,
    LocalizedOptimizer,
    MuAdamW,
    SigPropNet,
    create_sigprop_optimizer,
    set_base_shapes,
)
from tests.harness import BITWISE, feed, make_batches, make_gradients, make_model, make_params, through_a_file, train
from tests.wrapper_helpers import WRAPPERS, every_wrapper, trained


@every_wrapper
@pytest.mark.parametrize("flatten", [False, True], ids=["nested", "flat"])
def test_torch_s_distributed_checkpoints_keep_everything(wrap, flatten, rng):
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    model, batches = make_model(), make_batches(rng, 9)
    optimizer = wrap(list(model.parameters()))
    train(model, optimizer, batches[:6])
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    twin = copy.deepcopy(model)
    resumed = wrap(list(twin.parameters()))
    if flatten and isinstance(optimizer, GradientCorrectionOptimizer):  # torch keeps the names of a first step alone
        with pytest.raises(ValueError, match=r"predictors are missing.*flatten_optimizer_state_dict"):
            set_optimizer_state_dict(twin, resumed, saved, options=options)
        return
    set_optimizer_state_dict(twin, resumed, saved, options=options)
    assert_close(resumed.state_dict()["state"], optimizer.state_dict()["state"], **BITWISE)
    train(model, optimizer, batches[6:])
    train(twin, resumed, batches[6:])
    assert_close(list(twin.parameters()), list(model.parameters()), **BITWISE)


def test_torch_s_distributed_checkpoint_of_a_localized_optimizer_is_refused_by_name(rng):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = LocalizedOptimizer(model, SGD, {"lr": 0.1, "momentum": 0.9})
    saved = get_optimizer_state_dict(model, optimizer)
    with pytest.raises(ValueError, match=r"'localized'.*torch\.distributed\.checkpoint\.state_dict dropped this part"):
        set_optimizer_state_dict(model, optimizer, saved)


def test_torch_s_distributed_checkpoint_of_signal_propagation_is_refused_by_name(rng):
    net = SigPropNet(4, [6, 5], 3)
    optimizer = create_sigprop_optimizer(net)
    optimizer.learn(torch.randn(5, 4, generator=rng), torch.tensor([0, 1, 2, 0, 1]))
    before = copy.deepcopy(optimizer.state_dict())
    saved = get_optimizer_state_dict(net, optimizer)
    with pytest.raises(ValueError, match=r"'bases'.*torch\.distributed\.checkpoint\.state_dict dropped this part"):
        set_optimizer_state_dict(net, optimizer, saved)
    assert_close(optimizer.state_dict()["bases"], before["bases"], **BITWISE)


@pytest.mark.parametrize("flatten", [False, True], ids=["nested", "flat"])
def test_torch_s_distributed_checkpoints_keep_everything_of_mup_s_optimizers(flatten, rng):
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    model, batches = set_base_shapes(make_model(), None), make_batches(rng, 6)
    optimizer = MuAdamW(model, lr=1e-2)
    train(model, optimizer, batches[:3])
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    twin = copy.deepcopy(model)
    resumed = MuAdamW(twin, lr=1e-2)
    set_optimizer_state_dict(twin, resumed, saved, options=options)
    train(model, optimizer, batches[3:])
    train(twin, resumed, batches[3:])
    assert_close(list(twin.parameters()), list(model.parameters()), **BITWISE)


OLD_ADAM = {
    "lr": 0.02, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False,
    "foreach": None, "capturable": False, "differentiable": False, "fused": True, "decoupled_weight_decay": False,
}  # fmt: skip
OLD_FER = {**OLD_ADAM, "fer_weight": 0.3, "consistency_threshold": 0.5, "memory_size": 7, "params": [0]}
OLD_CORRECTION = {
    **OLD_FER, "gcw_strength": 0.1, "gcode_strength": 0.2, "history_decay": 0.9, "min_cosine": 0.5,
    "predictor_lr": 0.01, "train_every": 4,
}  # fmt: skip
OLD_BASE = {
    "state": {0: {"step": torch.tensor(2.0), "exp_avg": torch.tensor([1.0, 2.0]), "exp_avg_sq": torch.ones(2)}},
    "param_groups": [{**OLD_FER}],
}


def test_a_checkpoint_of_an_earlier_version_loads():
    old = {
        "state": {0: {"memory": torch.tensor([3.0, 4.0])}},
        "param_groups": [{**OLD_FER, "lr": 0.04}],  # edited by the user; the base's own copy was what counted
        "base": OLD_BASE,
        "consistency_history": [0.5, -0.25],
    }
    given = copy.deepcopy(old)
    p = nn.Parameter(torch.zeros(2))
    optimizer = FEROptimizer([p])
    optimizer.load_state_dict(old)
    assert_close(old, given, **BITWISE)
    assert_close(optimizer.state[p]["memory"], torch.tensor([3.0, 4.0]))
    assert_close(optimizer.base.state[p]["exp_avg"], torch.tensor([1.0, 2.0]))
    group = optimizer.base.param_groups[0]
    assert (group["lr"], group["fer_weight"], group["memory_size"]) == (0.04, 0.3, 7)
    assert optimizer.consistency_history == [0.5, -0.25]


def test_a_nested_checkpoint_of_an_earlier_version_loads():
    inner = {
        "state": {0: {"memory": torch.tensor([5.0, 6.0]), "seen": torch.tensor(1), "products": torch.ones(3, 2)}},
        "param_groups": [OLD_CORRECTION],
        "base": OLD_BASE,
        "history": [],
        "hidden": [],
    }
    old = {
        "state": {0: {"memory": torch.tensor([3.0, 4.0])}},
        "param_groups": [OLD_CORRECTION],
        "base": inner,
        "consistency_history": [0.5],
    }
    p = nn.Parameter(torch.zeros(2))
    optimizer: Any = FEROptimizer([p], GradientCorrectionOptimizer, {})
    optimizer.load_state_dict(old)
    assert_close(optimizer.state[p]["memory"], torch.tensor([3.0, 4.0]))
    assert_close(optimizer.base.state[p]["memory"], torch.tensor([5.0, 6.0]))
    assert_close(optimizer.base.base.state[p]["exp_avg"], torch.tensor([1.0, 2.0]))
    assert optimizer.base.base.param_groups[0]["gcode_strength"] == 0.2


def edited(state: dict[str, Any], **changes: Any) -> dict[str, Any]:
    state["param_groups"][0].update(changes)
    return state


def without(state: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name != key}


def replaced(state: dict[str, Any], **values: Any) -> dict[str, Any]:
    state["state"][0].update(values)
    return state


def replaced_in_base(state: dict[str, Any], **values: Any) -> dict[str, Any]:
    state["state"][0]["base"].update(values)
    return state


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no state": (lambda s: without(s, "state"), "state_dict must have 'state'"),
    "no groups": (lambda s: without(s, "param_groups"), "state_dict must have 'param_groups'"),
    "not a dict": (lambda s: [s], "state_dict must be a dict"),
    "state is a list": (lambda s: {**s, "state": []}, r"'state' of state_dict must be a dict, got \[\]"),
    "a group too few": (lambda s: {**s, "param_groups": []}, "different number of parameter groups.* 1, got 0"),
    "a parameter too few": (lambda s: edited(s, params=[0]), "group 0 must have 2 params, got 1"),
    "a bad rate": (lambda s: edited(s, lr=-1.0), r"lr must be >= 0.*got -1\.0"),
    "an infinite rate": (lambda s: edited(s, lr=float("inf")), "lr must be .*got inf"),
    "a bad weight": (lambda s: edited(s, fer_weight=-5), "fer_weight must be >= 0.*got -5"),
    "a bad size": (lambda s: edited(s, memory_size=2.5), r"memory_size must be an integer, got 2\.5"),
    "a misspelling": (lambda s: edited(s, fer_wieght=0.2), "'fer_wieght'.*did you mean 'fer_weight'"),
    "another memory": (
        lambda s: replaced(s, memory=torch.ones(2)), r"\[0\].*memory must have shape \(5,\), got \(2,\)",
    ),
    "no tensor": (lambda s: replaced(s, memory=3.0), r"memory must be a tensor, got 3\.0"),
    "something more": (lambda s: replaced(s, exp_avg=torch.ones(5)), "keeps a 'memory'.*'exp_avg'"),
    "another average": (
        lambda s: replaced_in_base(s, exp_avg=torch.ones(2)), r"exp_avg of .*\[0\].*shape \(5,\), got \(2,\)",
    ),
    "a base without its steps": (
        lambda s: {**s, "state": {i: {**v, "base": {"other": 1}} for i, v in s["state"].items()}},
        "cannot load.*'step'",
    ),
    "a history of words": (lambda s: {**s, "consistency_history": ["a"]}, "consistency_history must be a number.*'a'"),
    "a history that is a number": (lambda s: {**s, "consistency_history": 5}, "consistency_history must be .*got 5"),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "message"), BROKEN.values(), ids=BROKEN)
def test_a_load_that_fails_names_what_is_wrong_and_changes_nothing(broken, message, rng):
    optimizer, params = trained(WRAPPERS["fer"], rng)
    other, _ = trained(WRAPPERS["fer"], rng, steps=5)
    before = copy.deepcopy(optimizer.state_dict())
    groups, state = optimizer.param_groups, optimizer.base.state
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(broken(through_a_file(other.state_dict())))
    assert_close(optimizer.state_dict(), before, **BITWISE)
    assert optimizer.param_groups is groups
    assert optimizer.base.state is state
    feed(optimizer, params, make_gradients(rng, params, 1))


def test_a_nested_load_that_fails_inside_changes_nothing_outside(rng):
    optimizer, _ = trained(WRAPPERS["fer over correction"], rng)
    before = copy.deepcopy(optimizer.state_dict())
    state = through_a_file(optimizer.state_dict())
    state["param_groups"][0].update(lr=0.5, min_cosine=7.0)
    with pytest.raises(ValueError, match=r"min_cosine must be .*got 7\.0"):
        optimizer.load_state_dict(state)
    assert_close(optimizer.state_dict(), before, **BITWISE)


@pytest.mark.parametrize("kind", ["fer", "correction", "scaled", "plain"])
def test_the_checkpoint_of_a_bare_optimizer_is_refused(kind, rng):
    optimizer, params = trained(WRAPPERS[kind], rng)
    bare = Adam(params, lr=0.1)
    feed(bare, params, make_gradients(rng, params, 1))
    with pytest.raises(ValueError, match=f"under 'base'.*exp_avg.*{type(optimizer).__name__}"):
        optimizer.load_state_dict(bare.state_dict())


def test_the_checkpoint_of_another_wrapper_is_refused(rng):
    fer, _ = trained(WRAPPERS["fer"], rng)
    correction, _ = trained(WRAPPERS["correction"], rng)
    with pytest.raises(ValueError, match="FEROptimizer keeps a 'memory'"):
        fer.load_state_dict(correction.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": torch.ones(2)}, r"memory must have shape \(5,\), got \(2,\)"),
        ({"last": torch.ones(2)}, r"last must have shape \(5,\), got \(2,\)"),
        ({"gcw": torch.ones(2)}, r"gcw must have shape \(3, 71\), got \(2,\)"),
        ({"products": 1.0}, r"products must be a tensor, got 1\.0"),
    ],
    ids=["memory", "last", "gcw", "products"],
)
def test_a_state_that_gradient_correction_cannot_have_is_refused(changes, message, rng):
    optimizer, _ = trained(WRAPPERS["correction"], rng, steps=6)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises((TypeError, ValueError), match=rf"state_dict\['state'\]\[0\]: {message}"):
        optimizer.load_state_dict(replaced(through_a_file(optimizer.state_dict()), **changes))
    for key, value in {"history": [[1.0]], "hidden": [{}]}.items():
        with pytest.raises(ValueError, match=key):
            optimizer.load_state_dict({**through_a_file(optimizer.state_dict()), key: value})
    assert_close(optimizer.state_dict(), before, **BITWISE)


@pytest.mark.parametrize("kind", ["fer", "correction", "fer over correction"])
def test_a_checkpoint_in_double_precision_goes_on_in_single_and_back(kind, rng):
    params = make_params(rng, torch.float64, shapes=[(5,), (4, 3)])
    optimizer = WRAPPERS[kind](params)
    feed(optimizer, params, make_gradients(rng, params, 6))
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        others = [nn.Parameter(p.detach().to(dtype)) for p in params]
        resumed = WRAPPERS[kind](others)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        feed(resumed, others, make_gradients(rng, others, 5))
        assert all(p.isfinite().all() for p in others)
