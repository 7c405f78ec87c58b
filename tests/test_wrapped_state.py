"""One truth for groups and state: what is edited, assigned, saved, loaded or copied acts on wrapper and base alike."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.testing import assert_close

from advanced_optimizers import FEROptimizer, GradientCorrectionOptimizer, LocalizedOptimizer
from advanced_optimizers._base import WrappedOptimizer
from tests.cases_scaled import Scaled
from tests.harness import BITWISE, feed, make_batches, make_gradients, make_model, make_params, through_a_file, train

Wrap = Callable[..., Any]

ADAM: dict[str, Any] = {"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 1e-2}}
WRAPPERS: dict[str, Wrap] = {
    "plain": lambda params: WrappedOptimizer(params, Adam, {"lr": 1e-2}, {}),
    "scaled": lambda params: Scaled(params, **ADAM),
    "fer": lambda params: FEROptimizer(params, **ADAM),
    "fer over sgd": lambda params: FEROptimizer(params, SGD, {"lr": 1e-2}),
    "correction": lambda params: GradientCorrectionOptimizer(params, **ADAM),
    "fer over correction": lambda params: FEROptimizer(params, GradientCorrectionOptimizer, ADAM),
}
every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def trained(wrap: Wrap, rng: torch.Generator, steps: int = 3) -> tuple[Any, list[nn.Parameter]]:
    params = make_params(rng, shapes=[(5,), (4, 3)])
    optimizer = wrap(params)
    feed(optimizer, params, make_gradients(rng, params, steps))
    return optimizer, params


def chain(optimizer: Any) -> list[Any]:
    """The optimizer and those inside it."""
    inside = getattr(optimizer, "base", None)
    return [optimizer, *(chain(inside) if inside is not None else [])]


# ---- groups ------------------------------------------------------------------------------------------------------


@every_wrapper
def test_an_edited_checkpoint_loads_the_edit(wrap, rng):
    optimizer, _ = trained(wrap, rng)
    state = through_a_file(optimizer.state_dict())
    edits = {name: 0.25 for name in ("lr", "fer_weight", "scale", "gcw_strength") if name in state["param_groups"][0]}
    state["param_groups"][0].update(edits)
    optimizer.load_state_dict(state)
    for each in chain(optimizer):
        assert {name: each.param_groups[0][name] for name in edits} == edits


@every_wrapper
def test_assigned_groups_reach_every_optimizer(wrap, rng):
    params = make_params(rng, shapes=[(5,), (4, 3)])
    optimizer = wrap([{"params": [params[0]]}, {"params": [params[1]]}])
    groups = optimizer.param_groups[1:]
    optimizer.param_groups = groups
    assert all(each.param_groups is groups for each in chain(optimizer))
    groups[0]["lr"] = 0.0
    before = [p.detach().clone() for p in params]
    feed(optimizer, params, make_gradients(rng, params, 2))
    assert_close([p.detach() for p in params], before, **BITWISE)
    optimizer.load_state_dict(through_a_file(optimizer.state_dict()))
    assert [len(each.param_groups) for each in chain(optimizer)] == [1] * len(chain(optimizer))


@every_wrapper
def test_an_unfrozen_group_that_was_assigned_is_in_the_checkpoint(wrap, rng):
    params = make_params(rng, shapes=[(5,), (4, 3)])
    optimizer = wrap([params[0]])
    optimizer.param_groups = [*optimizer.param_groups, {**optimizer.param_groups[0], "params": [params[1]], "lr": 0.5}]
    feed(optimizer, params, make_gradients(rng, params, 2))
    fresh = wrap([{"params": [params[0]]}, {"params": [params[1]]}])
    fresh.load_state_dict(through_a_file(optimizer.state_dict()))
    assert [group["lr"] for group in chain(fresh)[-1].param_groups] == [0.01, 0.5]
    assert_close(fresh.state_dict(), optimizer.state_dict(), **BITWISE)


def test_an_assigned_group_gets_the_wrapper_s_defaults(rng):
    optimizer, params = trained(WRAPPERS["fer"], rng)
    bare = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("fer_weight", "memory_size")}
    optimizer.param_groups = [bare]
    feed(optimizer, params, make_gradients(rng, params, 1))
    assert (optimizer.param_groups[0]["fer_weight"], optimizer.param_groups[0]["memory_size"]) == (0.1, 1000)


@every_wrapper
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_shares_groups_and_state_within_itself_only(wrap, duplicate, rng):
    optimizer, params = trained(wrap, rng)
    optimizer.param_groups = list(optimizer.param_groups)
    (twins, copied) = duplicate((params, optimizer))
    assert "param_groups" not in vars(copied)
    for each in chain(copied):
        assert each.param_groups is copied.param_groups
        assert each.param_groups is not optimizer.param_groups
    for outer, inner in zip(chain(copied), chain(copied)[1:], strict=False):
        assert all(outer.state[p]["base"] is inner.state[p] for p in inner.state)
    gradients = make_gradients(rng, params, 2)
    feed(copied, twins, gradients)
    feed(optimizer, params, gradients)
    assert_close(twins, params, **BITWISE)


@every_wrapper
def test_after_a_load_groups_have_no_key_that_they_had_not(wrap, rng):
    class Own(Optimizer):
        """An optimizer without ``differentiable``, ``foreach`` and the like."""

        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(group["lr"] * p.grad)

    params = make_params(rng, shapes=[(5,)])
    optimizer = FEROptimizer(params, Own, {})
    keys = set(optimizer.param_groups[0])
    feed(optimizer, params, make_gradients(rng, params, 2))
    optimizer.load_state_dict(through_a_file(optimizer.state_dict()))
    assert set(optimizer.base.state_dict()["param_groups"][0]) == keys
    assert set(copy.deepcopy(optimizer).param_groups[0]) == keys
    torchs, _ = trained(wrap, rng)
    keys = set(torchs.param_groups[0])
    torchs.load_state_dict(through_a_file(torchs.state_dict()))
    assert set(torchs.param_groups[0]) == keys


# ---- state -------------------------------------------------------------------------------------------------------


@every_wrapper
def test_the_base_s_state_is_in_the_wrapper_s(wrap, rng):
    optimizer, _ = trained(wrap, rng)
    for outer, inner in zip(chain(optimizer), chain(optimizer)[1:], strict=False):
        assert all(outer.state[p]["base"] is state for p, state in inner.state.items())
    assert set(optimizer.state_dict()) >= {"state", "param_groups"}
    assert "base" not in optimizer.state_dict()


def reset(optimizer: Any) -> None:
    optimizer.state = defaultdict(dict)


def clear(optimizer: Any) -> None:
    optimizer.state.clear()


def delete(optimizer: Any) -> None:
    for p in list(optimizer.state):
        del optimizer.state[p]


@every_wrapper
@pytest.mark.parametrize("forget", [reset, clear, delete])
def test_a_state_that_is_reset_starts_anew_everywhere(wrap, forget, rng):
    optimizer, params = trained(wrap, rng)
    forget(optimizer)
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    fresh = wrap(twins)
    gradients = make_gradients(rng, params, 3)
    feed(optimizer, params, gradients)
    feed(fresh, twins, gradients)
    assert_close(params, twins, **BITWISE)


@every_wrapper
def test_state_that_is_moved_to_another_parameter_goes_with_it(wrap, rng):
    optimizer, params = trained(wrap, rng)
    twins, copied = copy.deepcopy((params, optimizer))
    replaced = nn.Parameter(params[1].detach().clone())
    optimizer.state[replaced] = optimizer.state.pop(params[1])  # as densification does
    optimizer.param_groups[0]["params"][1] = replaced
    old, now = params[1], [params[0], replaced]
    gradients = make_gradients(rng, now, 3)
    feed(optimizer, now, gradients)
    feed(copied, twins, gradients)
    assert_close(now, twins, **BITWISE)
    assert all(old not in each.state for each in chain(optimizer))


@every_wrapper
def test_state_that_the_base_loads_by_itself_counts(wrap, rng):
    optimizer, params = trained(wrap, rng)
    innermost = chain(optimizer)[-1]
    saved = copy.deepcopy(innermost.state_dict())
    feed(optimizer, params, make_gradients(rng, params, 2))
    innermost.load_state_dict(copy.deepcopy(saved))
    state = optimizer.state_dict()["state"]
    for _ in chain(optimizer)[1:]:
        state = {i: of_p["base"] for i, of_p in state.items() if "base" in of_p}
    assert_close(state, saved["state"], **BITWISE)


@every_wrapper
def test_a_replaced_parameter_is_not_kept_alive(wrap, rng):
    optimizer, params = trained(wrap, rng)
    replaced = nn.Parameter(params[1].detach()[:2].clone())
    gone = weakref.ref(params[1])
    del optimizer.state[params[1]]
    optimizer.param_groups[0]["params"][1] = replaced
    params[1] = replaced
    feed(optimizer, params, make_gradients(rng, params, 2))
    gc.collect()
    assert gone() is None


# ---- hooks -------------------------------------------------------------------------------------------------------


@every_wrapper
def test_hooks_of_state_dicts_act_as_torch_s(wrap, rng):
    optimizer, params = trained(wrap, rng)
    calls: list[str] = []

    def note(*args: Any) -> None:
        calls.append(f"{len(args)} arguments, the first is it: {args[0] is optimizer}")
        optimizer.state["seen"] = True

    def reduce(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "param_groups": [{**group, "lr": 0.125} for group in state["param_groups"]]}

    optimizer.register_state_dict_pre_hook(note)
    optimizer.register_state_dict_post_hook(reduce)
    saved = optimizer.state_dict()
    assert saved["state"]["seen"] is True
    assert saved["param_groups"][0]["lr"] == 0.125
    optimizer.register_load_state_dict_pre_hook(lambda *args: calls.append(f"{len(args)} before loading"))
    optimizer.register_load_state_dict_pre_hook(
        lambda _, state: {**state, "param_groups": [{**group, "lr": 0.5} for group in state["param_groups"]]}
    )
    optimizer.register_load_state_dict_post_hook(note)
    optimizer.load_state_dict(saved)
    assert [each.param_groups[0]["lr"] for each in chain(optimizer)] == [0.5] * len(chain(optimizer))
    assert saved["param_groups"][0]["lr"] == 0.125
    assert calls == ["1 arguments, the first is it: True", "2 before loading", "1 arguments, the first is it: True"]
    feed(optimizer, params, make_gradients(rng, params, 2))
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())


@every_wrapper
def test_global_step_hooks_fire_once_and_the_base_s_own_fire_too(wrap, rng):
    optimizer, params = trained(wrap, rng)
    calls: list[Any] = []
    own = chain(optimizer)[-1].register_step_pre_hook(lambda each, args, kwargs: calls.append(("own", each)))
    handles = [
        register_optimizer_step_pre_hook(lambda each, args, kwargs: calls.append(("pre", each))),
        register_optimizer_step_post_hook(lambda each, args, kwargs: calls.append(("post", each))),
    ]
    try:
        feed(optimizer, params, make_gradients(rng, params, 1))
    finally:
        for handle in (own, *handles):
            handle.remove()
    assert calls == [("pre", optimizer), ("own", chain(optimizer)[-1]), ("post", optimizer)]


# ---- checkpoints -------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="'localized'"):
        set_optimizer_state_dict(model, optimizer, saved)


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


# ---- closures, sets, numbers -------------------------------------------------------------------------------------


class Sam(SGD):
    """It looks at the loss a second time, so it needs a closure, although its signature does not say so."""

    def step(self, closure: Any = None) -> Any:
        assert closure is not None, "sharpness-aware minimization requires a closure"
        with torch.enable_grad():
            closure()
        return super().step()


@pytest.mark.parametrize("given", [True, False])
def test_a_base_that_needs_a_closure_is_refused_by_name(given):
    p = nn.Parameter(torch.ones(2))
    optimizer = FEROptimizer([p], Sam, {"lr": 0.1})
    p.grad = torch.ones(2)
    with pytest.raises(ValueError, match=r"(?s)base_optimizer must step without a closure, but Sam.*FEROptimizer"):
        optimizer.step((lambda: torch.ones(())) if given else None)
    assert p.grad.equal(torch.ones(2))


def test_a_set_of_parameters_is_warned_about_as_torch_does():
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    for build in (FEROptimizer, lambda params: SGD(params, lr=0.1)):
        with pytest.warns(FutureWarning, match="ordered collections"):
            build({p, q})
        with pytest.raises(TypeError, match="ordered collections"):
            build([{"params": {p, q}}])


def test_numpy_s_numbers_are_numbers():
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    numbers = {"fer_weight": np.float32(0.5), "consistency_threshold": np.float64(0.5), "memory_size": np.int64(4)}
    optimizer = FEROptimizer([p], AdamW, {"lr": np.float32(0.5), "weight_decay": np.float64(0.25)}, **numbers)
    optimizer.add_param_group({"params": [q], "fer_weight": np.float32(0.25), "lr": np.float64(0.5)})
    for group in optimizer.param_groups:
        assert {type(group[name]) for name in (*numbers, "weight_decay")} == {float, int}
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["fer_weight"]) == (0.5, 0.25)
    feed(optimizer, [p, q], [[torch.ones(2), torch.ones(2)]] * 2)
    through_a_file(FEROptimizer([p], memory_size=torch.arange(4).max() + 1, fer_weight=torch.tensor(0.5)).state_dict())


def test_keys_of_the_user_s_own_are_allowed_and_misspelled_ones_are_not():
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    own: dict[str, Any] = dict.fromkeys(("name", "lr_scale", "initial_lr", "swa_lr", "max_lr", "min_lr"), 1.0)
    own |= dict.fromkeys(("no_weight_decay", "weight_decay_mult", "layer_id", "base_momentum", 3), 1.0)
    optimizer = FEROptimizer([{"params": [p], **own}])
    LambdaLR(optimizer, lambda epoch: 1.0)
    optimizer.load_state_dict(through_a_file(optimizer.state_dict()))
    for key, meant in {
        "fer_wieght": "fer_weight", "wieght_decay": "weight_decay", "memorysize": "memory_size", "beta": "betas",
        "consistency_treshold": "consistency_threshold", "Betas": "betas",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"{key!r}.*did you mean '{meant}'"):
            optimizer.add_param_group({"params": [q], key: 0.5})
        with pytest.raises(ValueError, match=f"{key!r}.*did you mean '{meant}'"):
            FEROptimizer([{"params": [p], key: 0.5}])
    assert len(optimizer.param_groups) == 1
