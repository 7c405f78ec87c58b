"""Promises of torch's optimizers about checkpoints, copies and hooks; see ``test_torch_generic.py``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.testing import assert_close

from tests.generic_subject import Subject, innermost, kind, run, same, two
from tests.harness import BITWISE, through_a_file


def goes_on_equally(subject: Subject, name: Callable[[list[nn.Parameter]], Any]) -> None:
    for kwargs in subject.few():
        params = two()
        optimizer = subject.build(name(params), **kwargs)
        run(optimizer, params, 2)
        twins = [nn.Parameter(p.detach().clone()) for p in params]
        resumed = subject.build(name(twins), **kwargs)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        run(optimizer, params, 2)
        run(resumed, twins, 2)
        assert_close(twins, params, **BITWISE)
        assert same(resumed.state_dict(), optimizer.state_dict())


@kind
def resumes(subject: Subject) -> None:
    goes_on_equally(subject, list)


@kind
def resumes_with_names(subject: Subject) -> None:
    goes_on_equally(subject, lambda params: [(f"p{i}", p) for i, p in enumerate(params)])


@kind
def named_and_unnamed_checkpoints_load_into_each_other(subject: Subject) -> None:
    a, b = two(), two()
    unnamed = subject.build(a, lr=0.01)
    named = subject.build([("a", b[0]), ("b", b[1])], lr=0.02)
    run(unnamed, a, 2)
    run(named, b, 2)
    from_unnamed, from_named = copy.deepcopy(unnamed.state_dict()), copy.deepcopy(named.state_dict())
    unnamed.load_state_dict(from_named)
    named.load_state_dict(from_unnamed)
    assert unnamed.param_groups[0]["param_names"] == named.param_groups[0]["param_names"] == ["a", "b"]
    assert (unnamed.param_groups[0]["lr"], named.param_groups[0]["lr"]) == (0.02, 0.01)
    run(unnamed, a, 1)


@kind
def a_checkpoint_without_newer_flags_loads(subject: Subject) -> None:
    for kwargs in subject.few():
        optimizer, params = subject.made(**kwargs)
        old = copy.deepcopy(optimizer.state_dict())
        for group in old["param_groups"]:
            for flag in subject.info.not_og_supported_flags:
                group.pop(flag, None)
        optimizer.load_state_dict(old)
        run(optimizer, params, 1)


@kind
def a_file_of_data_only_restores_everything(subject: Subject) -> None:
    for kwargs in subject.few():
        optimizer, _ = subject.made(**kwargs)
        saved = through_a_file(optimizer.state_dict())
        assert same(saved, optimizer.state_dict())
        optimizer.load_state_dict(saved)
        assert same(optimizer.state_dict(), saved)


@kind
def a_step_that_is_a_number_loads(subject: Subject) -> None:
    optimizer, params = subject.made()
    old = copy.deepcopy(optimizer.state_dict())
    for state in map(innermost, old["state"].values()):
        if "step" in state:
            state["step"] = float(state["step"])
    optimizer.load_state_dict(old)
    run(optimizer, params, 1)


@kind
def base_state_gets_the_precision_of_its_parameter(subject: Subject) -> None:
    wide = two(torch.float64)
    from_wide = subject.build(wide)
    run(from_wide, wide, 2)
    optimizer, params = subject.made()
    optimizer.load_state_dict(copy.deepcopy(from_wide.state_dict()))
    kept = [(n, v) for state in optimizer.state.values() for n, v in innermost(state).items() if isinstance(v, Tensor)]
    state_names = {"step", "eta", "mu", "ax"}
    dtypes = {v.dtype for n, v in kept if v.is_floating_point() and n not in state_names and n not in WRAPPERS_OWN}
    assert dtypes <= {torch.float32}
    run(optimizer, params, 1)


# What the wrappers keep in the precision in which it was, and where there is no base state beside it.
WRAPPERS_OWN = {"memory", "products", "mix", "last", "gcw", "gcode", "gcw_steps", "gcode_steps"}


@kind
def state_is_kept(subject: Subject) -> None:
    for kwargs in subject.inputs():
        optimizer, params = subject.made(**kwargs)
        if subject.info.optim_cls is torch.optim.SGD and not kwargs.get("momentum"):
            continue
        assert all(innermost(optimizer.state[p]) for p in params)


@kind
def a_copy_has_every_public_attribute(subject: Subject) -> None:
    for kwargs in subject.few():
        optimizer, _ = subject.made(**kwargs)
        copied = copy.deepcopy(optimizer)
        public = {name for name in (*vars(optimizer), "param_groups") if not name.startswith("_")}
        assert all(hasattr(copied, name) for name in public)
        assert same(copied.state_dict(), optimizer.state_dict())


# ---- hooks -------------------------------------------------------------------------------------------------------


@kind
def hooks_before_a_step(subject: Subject) -> None:
    hears_two_of_three_steps(subject, "register_step_pre_hook")


@kind
def hooks_after_a_step(subject: Subject) -> None:
    hears_two_of_three_steps(subject, "register_step_post_hook")


def hears_two_of_three_steps(subject: Subject, register: str) -> None:
    optimizer, params = subject.made()
    seen: list[Any] = []
    handle = getattr(optimizer, register)(lambda each, args, kwargs: seen.append(each))
    run(optimizer, params, 2)
    handle.remove()
    run(optimizer, params, 1)
    assert seen == [optimizer] * 2


@kind
def hooks_of_all_optimizers(subject: Subject) -> None:
    optimizer, params = subject.made()
    seen: list[str] = []

    def note(word: str) -> Callable[..., None]:
        return lambda *_: seen.append(word)

    handles = [register_optimizer_step_pre_hook(note("1")), optimizer.register_step_pre_hook(note("2"))]
    handles += [optimizer.register_step_post_hook(note("3")), register_optimizer_step_post_hook(note("4"))]
    run(optimizer, params, 2)
    for handle in handles:
        handle.remove()
    run(optimizer, params, 1)
    assert "".join(seen) == "12341234"


def put_into_state(optimizer: Any) -> None:
    optimizer.state["put there"] = 1


def take_out_of_state(_: Any, state: dict[str, Any]) -> None:
    state["had it"] = state["state"].pop("put there", None) is not None


@kind
def hooks_before_a_state_dict(subject: Subject) -> None:
    optimizer, _ = subject.made()
    optimizer.register_state_dict_pre_hook(put_into_state)
    assert optimizer.state_dict()["state"]["put there"] == 1


@kind
def hooks_after_a_state_dict(subject: Subject) -> None:
    optimizer, _ = subject.made()
    optimizer.register_state_dict_post_hook(take_out_of_state)
    assert optimizer.state_dict()["had it"] is False


@kind
def hooks_around_a_state_dict(subject: Subject) -> None:
    optimizer, _ = subject.made()
    optimizer.register_state_dict_pre_hook(put_into_state)
    optimizer.register_state_dict_post_hook(take_out_of_state)
    state = optimizer.state_dict()
    assert state["had it"]
    assert "put there" not in state["state"]


def set_rate(rate: float, *, anew: bool) -> Callable[[Any, dict[str, Any]], dict[str, Any] | None]:
    def hook(_: Any, state: dict[str, Any]) -> dict[str, Any] | None:
        changed = copy.deepcopy(state) if anew else state
        changed["param_groups"][0]["lr"] = rate
        return changed if anew else None

    return hook


@kind
def hooks_before_loading(subject: Subject) -> None:
    optimizer, _ = subject.made()
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.register_load_state_dict_pre_hook(set_rate(0.002, anew=False))
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.002
    optimizer.register_load_state_dict_pre_hook(set_rate(0.003, anew=True), prepend=True)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.002  # the later hook has the last word


@kind
def hooks_after_loading(subject: Subject) -> None:
    optimizer, params = subject.made()
    optimizer.register_load_state_dict_post_hook(lambda each: each.state.update(later=each.state["earlier"]))
    optimizer.register_load_state_dict_post_hook(lambda each: each.state.update(earlier=True), prepend=True)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert optimizer.state["later"] is True
    run(optimizer, params, 1)


@kind
def hooks_around_loading(subject: Subject) -> None:
    optimizer, params = subject.made()
    optimizer.register_load_state_dict_pre_hook(set_rate(0.004, anew=True))
    optimizer.register_load_state_dict_post_hook(lambda each: each.state.update(rate=each.param_groups[0]["lr"]))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert optimizer.state["rate"] == 0.004
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(optimizer, params, 1)
