"""One truth for groups and state: what is edited, assigned, hooked or copied acts on wrapper and base alike."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.testing import assert_close

from advanced_optimizers import FEROptimizer
from tests.harness import BITWISE, feed, make_gradients, make_params, through_a_file
from tests.wrapper_helpers import WRAPPERS, chain, every_wrapper, trained

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
