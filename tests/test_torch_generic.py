"""Torch's generic optimizer tests, rewritten: every base optimizer, alone and inside every kind of wrapper.

``torch.testing._internal.common_optimizers`` lists torch's optimizers with the settings that they take and those that
they refuse. Each of the 32 functions of :data:`KINDS` states one promise of ``torch.optim.Optimizer``. It runs over
the 13 optimizers that step without a closure and take dense gradients, alone and inside each wrapper of :data:`WRAPS`.
A promise that does not concern an optimizer (``fused`` where there is no fused kernel) counts as kept. What is not kept
is in :data:`NOT_KEPT`, with the reason, and must fail.
"""

from __future__ import annotations

import copy
import importlib
import sys
import types
import unittest
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.testing import assert_close

from advanced_optimizers import FEROptimizer, GradientCorrectionOptimizer
from advanced_optimizers._base import GradientTransform, WrappedOptimizer
from tests.harness import BITWISE, through_a_file


def torchs_own_inputs() -> Any:
    """The module in which torch lists its optimizers and their settings.

    It is meant for a program of its own: importing it reads the command line, and needs the package ``expecttest`` for
    a base class of tests that nothing here uses.
    """
    arguments, sys.argv = sys.argv, sys.argv[:1]
    with_a_class = types.ModuleType("expecttest")
    with_a_class.__dict__["TestCase"] = unittest.TestCase
    sys.modules.setdefault("expecttest", with_a_class)
    try:
        return importlib.import_module("torch.testing._internal.common_optimizers")
    finally:
        sys.argv = arguments
        if sys.modules["expecttest"] is with_a_class:
            del sys.modules["expecttest"]


common = torchs_own_inputs()


class Nothing(GradientTransform):
    """``g' = g``."""

    def __init__(self, params: Any, base: Any, kwargs: dict[str, Any]) -> None:
        super().__init__(params, base, kwargs, {})

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        return grads


WRAPS: dict[str, Callable[..., Optimizer]] = {
    "bare": lambda params, base, kwargs: base(params, **kwargs),
    "wrapped": lambda params, base, kwargs: WrappedOptimizer(params, base, kwargs, {}),
    "nothing": Nothing,
    "fer": FEROptimizer,
    "correction": GradientCorrectionOptimizer,
}
INFOS = {
    info.optim_cls.__name__: info
    for info in common.optim_db
    if not info.step_requires_closure and not info.only_supports_sparse_grads
}


class Subject(NamedTuple):
    """One of torch's optimizers, inside a wrapper."""

    info: Any
    wrap: str

    def inputs(self) -> list[dict[str, Any]]:
        return [dict(each.kwargs) for each in self.info.optim_inputs_func(device="cpu")]

    def few(self) -> list[dict[str, Any]]:
        """Settings that differ in kind: the defaults, and the first that maximize or else decay weights."""
        inputs = self.inputs()
        special = [each for name in ("maximize", "weight_decay") for each in inputs if each.get(name)]
        return [inputs[0], *special[:1]]

    def build(self, params: Any, **kwargs: Any) -> Any:
        return WRAPS[self.wrap](params, self.info.optim_cls, kwargs)

    def made(self, **kwargs: Any) -> tuple[Any, list[nn.Parameter]]:
        """It, after two steps, and its parameters."""
        params = two()
        optimizer = self.build(params, **kwargs)
        run(optimizer, params, 2)
        return optimizer, params


def two(dtype: torch.dtype = torch.float32, *, strided: bool = False) -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    values = [torch.randn(*shape, 2, generator=rng, dtype=torch.float64).to(dtype) for shape in ((5, 3), (5, 1))]
    return [nn.Parameter(value[..., 0] if strided else value[..., 0].contiguous()) for value in values]


def loss_of(params: list[nn.Parameter]) -> Tensor:
    weight, bias = params[0], params[1]
    x = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).view(3, 4).to(weight.dtype)
    return (weight @ x + bias).abs().square().sum()


def run(optimizer: Any, params: list[nn.Parameter], steps: int) -> list[float]:
    """Trains, and returns the losses before each step and at the end."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(params)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, loss_of(params).item()]


def values(params: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


def innermost(state: dict[str, Any]) -> dict[str, Any]:
    return innermost(state["base"]) if "base" in state else state


def same(a: Any, b: Any) -> bool:
    """Whether two state dicts are equal bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.equal(b)
    return bool(a == b)


KINDS: dict[str, Callable[[Subject], None]] = {}


def kind(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
    KINDS[check.__name__] = check
    return check


# ---- construction and training -----------------------------------------------------------------------------------


@kind
def errors(subject: Subject) -> None:
    for wrong in subject.info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        given = wrong.optimizer_error_input
        params = [nn.Parameter(torch.randn(1, 1))] if given.params is None else given.params
        if issubclass(wrong.error_type, Warning):
            with pytest.warns(wrong.error_type, match=wrong.error_regex):
                subject.build(params, **given.kwargs)
        elif wrong.error_on == common.OptimizerErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(wrong.error_type, match=wrong.error_regex):
                subject.build(params, **given.kwargs)
        else:
            optimizer = subject.build(params, **given.kwargs)
            for p in params:
                p.grad = torch.rand_like(p)
            with pytest.raises(wrong.error_type, match=wrong.error_regex):
                optimizer.step()


def goes_right(subject: Subject, *, strided: bool = False, schedule: Callable[[Any], Any] | None = None) -> None:
    for kwargs in subject.few():
        params = two(strided=strided)
        optimizer = subject.build(params, **kwargs)
        schedulers = [] if schedule is None else [schedule(optimizer), ReduceLROnPlateau(optimizer)]
        losses = []
        for _ in range(6):
            losses.append(run(optimizer, params, 1)[0])
            for scheduler in schedulers:
                scheduler.step(*([losses[-1]] if isinstance(scheduler, ReduceLROnPlateau) else []))
        first, last = losses[0], losses[-1]
        assert last > first if kwargs.get("maximize") else last < first


@kind
def right_direction(subject: Subject) -> None:
    goes_right(subject)


@kind
def right_direction_of_strided_parameters(subject: Subject) -> None:
    goes_right(subject, strided=True)


@kind
def right_direction_with_schedulers(subject: Subject) -> None:
    goes_right(subject, schedule=lambda optimizer: StepLR(optimizer, gamma=0.9, step_size=2))


@kind
def right_direction_of_groups_with_a_scheduler(subject: Subject) -> None:
    params = two()
    optimizer = subject.build([{"params": [params[0]], "lr": 0.01}, {"params": [params[1]]}], lr=0.001)
    scheduler = StepLR(optimizer, gamma=0.9, step_size=1)
    losses = []
    for _ in range(6):
        losses += run(optimizer, params, 1)
        scheduler.step()
    assert losses[-1] < losses[0]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01 * 0.9**6, 0.001 * 0.9**6])


@kind
def a_tensor_as_rate_is_like_a_number(subject: Subject) -> None:
    looped = {"foreach": False} if "foreach" in subject.info.supported_impls else {}  # which takes no tensor
    trained = []
    for lr in (0.01, torch.tensor(0.01), torch.tensor([0.01])):
        params = two(torch.float64)
        run(subject.build(params, lr=lr, **looped), params, 3)
        trained.append(params)
    for params in trained[1:]:
        assert_close(params, trained[0], rtol=1e-6, atol=1e-8)


@kind
def complex_parameters(subject: Subject) -> None:
    if not subject.info.supports_complex:
        return
    for kwargs in subject.few():
        params = two(torch.complex64)
        real = [nn.Parameter(torch.view_as_real(p.detach()).clone()) for p in params]
        one, other = subject.build(params, **kwargs), subject.build(real, **kwargs)
        for _ in range(3):
            for p, r in zip(params, real, strict=True):
                p.grad = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1))
                r.grad = torch.view_as_real(p.grad).clone()
            one.step()
            other.step()
        for p, r in zip(params, real, strict=True):
            assert_close(torch.view_as_real(p.detach()), r.detach(), rtol=1e-4, atol=1e-5)


def equals_the_loop(subject: Subject, flag: str) -> None:
    for kwargs in subject.few():
        runs = []
        for chosen in ({flag: True}, {"foreach": False}):
            params = two(torch.float64)
            run(subject.build(params, **kwargs | chosen), params, 3)
            runs.append(params)
        assert_close(runs[0], runs[1], rtol=1e-6, atol=1e-7)


@kind
def foreach_equals_the_loop(subject: Subject) -> None:
    if "foreach" in subject.info.supported_impls:
        equals_the_loop(subject, "foreach")


@kind
def fused_equals_the_loop(subject: Subject) -> None:
    if "cpu" in subject.info.supports_fused_on:
        equals_the_loop(subject, "fused")


@kind
def weight_decay_of_a_group(subject: Subject) -> None:
    decayed, plain = two()[0], two()[0]
    optimizer = subject.build([{"params": [decayed], "weight_decay": 0.5}, {"params": [plain]}], lr=0.01)
    if "weight_decay" not in optimizer.param_groups[1]:
        return
    optimizer.param_groups[1]["weight_decay"] = 0.0
    decayed.grad, plain.grad = torch.ones_like(decayed), torch.ones_like(plain)
    for _ in range(2):
        optimizer.step()
    assert not decayed.equal(plain)


@kind
def rate_of_a_group(subject: Subject) -> None:
    slow, fast = two()[0], two()[0]
    start = slow.detach().clone()
    optimizer = subject.build([{"params": [slow], "lr": 1e-4}, {"params": [fast]}], lr=1e-2)
    for _ in range(2):
        slow.grad, fast.grad = torch.ones_like(slow), torch.ones_like(fast)
        optimizer.step()
    assert 0 < (slow.detach() - start).norm() < 0.5 * (fast.detach() - start).norm()


@kind
def nothing_happens_without_gradients(subject: Subject) -> None:
    for kwargs in subject.inputs():
        params = two()
        before = values(params)
        optimizer = subject.build(params, **kwargs)
        optimizer.step()
        assert_close(values(params), before, **BITWISE)


@kind
def nothing_happens_for_zero_gradients(subject: Subject) -> None:
    for kwargs in subject.inputs():
        if kwargs.get("weight_decay", 0.0 if subject.info.optim_cls.__name__ not in ("AdamW", "Muon") else 1.0):
            continue
        params = two()
        before = values(params)
        optimizer = subject.build(params, **kwargs)
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        assert_close(values(params), before, **BITWISE)


@kind
def it_can_be_printed(subject: Subject) -> None:
    for kwargs in subject.inputs():
        optimizer = subject.build(two(), **kwargs)
        text = repr(optimizer)
        assert text == str(optimizer)
        assert type(optimizer).__name__ in text
        assert subject.info.optim_cls.__name__ in text
        assert all(name in text for name in kwargs)


# ---- checkpoints -------------------------------------------------------------------------------------------------


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
    optimizer, params = subject.made()
    seen: list[Any] = []
    handle = optimizer.register_step_pre_hook(lambda each, args, kwargs: seen.append(each))
    run(optimizer, params, 2)
    handle.remove()
    run(optimizer, params, 1)
    assert seen == [optimizer] * 2


@kind
def hooks_after_a_step(subject: Subject) -> None:
    optimizer, params = subject.made()
    seen: list[Any] = []
    handle = optimizer.register_step_post_hook(lambda each, args, kwargs: seen.append(each))
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


# ---- what is not kept, and why -----------------------------------------------------------------------------------

ALL = tuple(INFOS)
WRAPPERS = tuple(name for name in WRAPS if name != "bare")
# The promise, the bases, the wrappers, the reason.
NOT_KEPT: list[tuple[str, tuple[str, ...], tuple[str, ...], str]] = [
    (
        "complex_parameters",
        tuple(base for base in ALL if INFOS[base].supports_complex),
        WRAPPERS,
        "wrappers refuse complex gradients by name: a cosine or a row's length is not defined for them here",
    ),
    (
        "errors",
        ("Adafactor", "Muon"),
        WRAPPERS,
        "torch expects a RuntimeError for complex gradients; the wrapper refuses them first, with a ValueError",
    ),
    (
        "nothing_happens_for_zero_gradients",
        ("ASGD",),
        tuple(WRAPS),
        "ASGD itself shrinks the weights by its lambd, whatever the gradients",
    ),
]


def reason_of(promise: str, base: str, wrap: str) -> str | None:
    for row, bases, wraps, reason in NOT_KEPT:
        if row == promise and base in bases and wrap in wraps:
            return reason
    return None


def rows() -> Iterator[Any]:
    for promise in KINDS:
        for base, info in INFOS.items():
            for wrap in WRAPS:
                reason = reason_of(promise, base, wrap)
                marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
                yield pytest.param(promise, Subject(info, wrap), id=f"{wrap}-{base}-{promise}", marks=marks)


@pytest.mark.parametrize(("promise", "subject"), rows())
def test_a_promise_of_torch_s_optimizers(promise: str, subject: Subject):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        KINDS[promise](subject)


def test_there_are_32_promises_and_13_bases():
    assert (len(KINDS), len(INFOS)) == (32, 13)
