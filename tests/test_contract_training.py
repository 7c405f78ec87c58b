"""What a training loop does with an optimizer: odd gradients, closures, hooks, mixed precision, nesting, compiling."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.testing import assert_close

from tests.case import Case, Settings
from tests.cases import CASES, FROM_GRADIENTS, NESTED, NESTED_WITH_REFERENCE, TRANSFORMS, WITH_REFERENCE
from tests.harness import (
    BITWISE,
    every,
    every_pair,
    every_variant,
    feed,
    make_batches,
    make_gradients,
    make_model,
    make_params,
    train,
    twins,
)

# ---- gradients that are missing, zero, or oddly laid out ---------------------------------------------------------


@every(FROM_GRADIENTS)
def test_parameter_without_gradient_is_neither_moved_nor_decayed_nor_remembered(case: Case, rng):
    for settings in case.variants.values():
        params = make_params(rng)
        before = params[1].detach().clone()
        gradients: Any = make_gradients(rng, params, steps=3)
        for grads in gradients:
            grads[1] = None
        optimizer = case.build(params, **settings)
        feed(optimizer, params, gradients)
        assert_close(params[1].detach(), before, **BITWISE)
        assert params[1].grad is None
        layer: Any = optimizer
        while layer is not None:
            assert params[1] not in layer.state
            layer = getattr(layer, "base", None)


@every_variant(WITH_REFERENCE)
def test_gradient_that_comes_and_goes_equals_the_reference(case: Case, settings: Settings, rng):
    params = make_params(rng, torch.float64)
    assert case.reference is not None
    reference = case.reference(params, settings)
    optimizer = case.build(params, **settings)
    for t, grads in enumerate(make_gradients(rng, params, steps=8)):
        gappy = [None if (t + i) % 3 == 0 else g for i, g in enumerate(grads)]
        feed(optimizer, params, [gappy])
        reference.step(gappy)
    assert_close([p.detach() for p in params], [p.detach() for p in reference.params], rtol=0, atol=1e-12)


@every(WITH_REFERENCE)
@pytest.mark.parametrize("zero_steps", [(0,), (3,), (0, 1, 2, 3, 4, 5)])
def test_zero_gradients_equal_the_reference(case: Case, zero_steps, rng):
    params = make_params(rng, torch.float64)
    assert case.reference is not None
    reference = case.reference(params, case.plain)
    optimizer = case.build(params, **case.plain)
    for t, grads in enumerate(make_gradients(rng, params, steps=6)):
        shown = [torch.zeros_like(g) for g in grads] if t in zero_steps else grads
        feed(optimizer, params, [shown])
        reference.step(shown)
    assert_close([p.detach() for p in params], [p.detach() for p in reference.params], rtol=0, atol=1e-12)


@every(FROM_GRADIENTS)
def test_parameter_without_elements(case: Case, rng):
    params = make_params(rng, shapes=[(0, 4), (3,)])
    feed(case.build(params, **case.plain), params, make_gradients(rng, params, steps=3))
    assert params[0].shape == (0, 4)
    assert torch.isfinite(params[1]).all()


LAYOUTS = {
    "transposed": lambda g: g.transpose(0, 1).contiguous().transpose(0, 1),
    "channels_last": lambda g: g.contiguous(memory_format=torch.channels_last),
    "strided": lambda g: torch.stack([g, torch.zeros_like(g)], dim=-1)[..., 0],
}


@every_variant(FROM_GRADIENTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["gradient", "both", "alternating gradients"])
def test_memory_layout_does_not_matter(case: Case, settings: Settings, layout, where, rng):
    change = LAYOUTS[layout]
    params = make_params(rng, torch.float64, shapes=[(4, 3, 5, 2)])
    changed = [nn.Parameter(change(p.detach()) if where == "both" else p.detach().clone()) for p in params]
    optimizer, other = case.build(params, **settings), case.build(changed, **settings)
    for t, (grad,) in enumerate(make_gradients(rng, params, steps=6)):
        feed(optimizer, params, [[grad]])
        changed[0].grad = grad.clone() if where == "alternating gradients" and t % 2 else change(grad)
        other.step()
    assert_close(changed[0].detach(), params[0].detach(), rtol=0, atol=1e-12, check_stride=False)


@every_variant(FROM_GRADIENTS)
@pytest.mark.parametrize("when", ["from the start", "added later"])
def test_parameter_that_is_a_strided_view_leaves_the_memory_in_between_alone(case: Case, settings: Settings, when, rng):
    memory = torch.zeros(8)
    view, dense, first = nn.Parameter(memory[::2]), nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(2))
    optimizer = case.build([view] if when == "from the start" else [first], **settings)
    plain = case.build([dense], **settings)
    if when == "added later":
        optimizer.add_param_group({"params": [view]})
    for grads in make_gradients(rng, [dense], steps=4):
        feed(optimizer, [view], [grads])
        feed(plain, [dense], [grads])
    assert not memory[1::2].any()
    assert_close(memory[::2], dense.detach(), rtol=0, atol=1e-6)


@every_variant(FROM_GRADIENTS)
def test_gradient_that_is_an_expanded_number(case: Case, settings: Settings):
    p, q = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    a, b = case.build([p], **settings), case.build([q], **settings)
    for sign in (1.0, -1.0, 1.0):
        p.grad, q.grad = torch.tensor(sign).expand(3), torch.full((3,), sign)
        a.step()
        b.step()
    assert_close(p, q, **BITWISE)


@every(FROM_GRADIENTS)
def test_gradient_is_the_same_object_with_the_same_values_after_step(case: Case, rng):
    for settings in case.variants.values():
        params = make_params(rng)
        optimizer = case.build(params, **settings)
        for grads in make_gradients(rng, params, steps=4):
            for p, g in zip(params, grads, strict=True):
                p.grad = g
            shown = [g.clone() for g in grads]
            optimizer.step()
            assert all(p.grad is g for p, g in zip(params, grads, strict=True))
            assert_close(grads, shown, **BITWISE)


class Breaking(SGD):
    """A base optimizer that fails in its step."""

    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no more disk")


@every(TRANSFORMS)
def test_gradients_are_put_back_when_the_base_optimizer_fails(case: Case, rng):
    params = make_params(rng)
    working = case.build(params, **{**case.plain, "base_optimizer": SGD, "base_optimizer_kwargs": {"lr": 0.1}})
    breaking = case.build(params, **{**case.plain, "base_optimizer": Breaking, "base_optimizer_kwargs": {"lr": 0.1}})
    first, second = make_gradients(rng, params, steps=2)
    feed(working, params, [first])
    breaking.load_state_dict(working.state_dict())  # so that the step has something to correct
    for p, g in zip(params, second, strict=True):
        p.grad = g
    shown = [g.clone() for g in second]
    with pytest.raises(RuntimeError, match="no more disk"):
        breaking.step()
    assert all(p.grad is g for p, g in zip(params, second, strict=True))
    assert_close(second, shown, **BITWISE)


# ---- closures, hooks, accumulation -------------------------------------------------------------------------------


@every(CASES)
def test_closure_is_called_once_with_gradients_enabled_and_its_loss_returned(case: Case, rng):
    model, batches = make_model(), make_batches(rng, 3)
    twin = copy.deepcopy(model)
    optimizer, plain = case.optimize(model, **case.plain), case.optimize(twin, **case.plain)
    for x, y in batches:
        calls: list[Tensor] = []

        def closure(x: Tensor = x, y: Tensor = y, calls: list[Tensor] = calls) -> Tensor:
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            calls.append(loss)
            return loss

        with torch.no_grad():
            loss = optimizer.step(closure)
        assert len(calls) == 1
        assert loss is calls[0]
    train(twin, plain, batches)
    assert_close(list(model.parameters()), list(twin.parameters()), **BITWISE)
    assert optimizer.step() is None


@every(CASES)
def test_step_hooks_fire_once_on_it_and_once_on_its_base(case: Case, rng):
    model, batches = make_model(), make_batches(rng, 1)
    optimizer = case.optimize(model, **case.plain)
    fired: list[str] = []
    layer: Any = optimizer
    depth = 0
    while layer is not None:
        layer.register_step_pre_hook(lambda *_, name=f"before {depth}": fired.append(name))
        layer.register_step_post_hook(lambda *_, name=f"after {depth}": fired.append(name))
        layer, depth = getattr(layer, "base", None), depth + 1
    train(model, optimizer, batches)
    assert fired == [f"before {i}" for i in range(depth)] + [f"after {i}" for i in reversed(range(depth))]


@every(CASES)
def test_accumulated_gradients_equal_one_large_batch(case: Case, rng):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    twin = copy.deepcopy(model)
    optimizer, plain = case.optimize(model, **case.plain), case.optimize(twin, **case.plain)
    batches = [(x.double(), y) for x, y in make_batches(rng, 4)]
    for x, y in batches:
        optimizer.zero_grad()
        for half in (slice(0, 3), slice(3, 6)):
            (nn.functional.cross_entropy(model(x[half]), y[half]) / 2).backward()
        optimizer.step()
    train(twin, plain, batches)
    assert_close(list(model.parameters()), list(twin.parameters()), rtol=0, atol=1e-12)


@every(CASES)
def test_zero_grad_works_in_both_ways(case: Case, rng):
    model, batches = make_model(), make_batches(rng, 3)
    twin = copy.deepcopy(model)
    runs = [(model, case.optimize(model, **case.plain), True), (twin, case.optimize(twin, **case.plain), False)]
    for net, optimizer, to_none in runs:
        for batch in batches:
            train(net, optimizer, [batch])
            kept = [p.grad for p in net.parameters()]
            optimizer.zero_grad(set_to_none=to_none)
            for p, grad in zip(net.parameters(), kept, strict=True):
                assert p.grad is (None if to_none else grad)
                assert to_none or grad is None or not grad.any()
    assert_close(list(model.parameters()), list(twin.parameters()), **BITWISE)


# ---- precision ---------------------------------------------------------------------------------------------------


def scaled_step(model: nn.Module, optimizer: Optimizer, scaler: Any, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


@every(CASES)
def test_grad_scaler_changes_nothing_and_skips_the_step_on_overflow(case: Case, rng):
    model, batches = make_model(), make_batches(rng, 5)
    twin = copy.deepcopy(model)
    optimizer, plain = case.optimize(model, **case.plain), case.optimize(twin, **case.plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    unscaled = torch.amp.GradScaler("cpu", enabled=False)
    for x, y in batches[:3]:
        scaled_step(model, optimizer, scaler, x, y)
        scaled_step(twin, plain, unscaled, x, y)
    assert_close(list(model.parameters()), list(twin.parameters()), rtol=1e-4, atol=1e-6)
    before, state = twins(list(model.parameters())), copy.deepcopy(optimizer.state_dict())
    x, y = batches[3]
    scaled_step(model, optimizer, scaler, x * torch.inf, y)
    assert scaler.get_scale() == 512.0
    assert_close(list(model.parameters()), before, check_stride=False, **BITWISE)
    assert_close(optimizer.state_dict(), state, **BITWISE)


def tensors_of(state: dict[str, Any]) -> list[Tensor]:
    """A wrapper's own tensors; the base optimizer's are its own affair."""
    return [value for name, value in state.items() if name != "base"]


@every(FROM_GRADIENTS)
def test_bfloat16_state_is_float32_and_survives_a_checkpoint_bit_for_bit(case: Case, rng):
    for settings in case.variants.values():
        params = make_params(rng, torch.bfloat16)
        optimizer = case.build(params, **settings)
        gradients = make_gradients(rng, params, steps=6)
        feed(optimizer, params, gradients[:3])
        twin = twins(params)
        resumed = case.build(twin, **settings)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert_close(resumed.state_dict(), optimizer.state_dict(), **BITWISE)
        feed(optimizer, params, gradients[3:])
        feed(resumed, twin, gradients[3:])
        assert_close(twin, params, **BITWISE)
        dtypes = {v.dtype for state in optimizer.state.values() for v in tensors_of(state) if v.is_floating_point()}
        assert dtypes <= {torch.float32}
        assert {p.dtype for p in params} == {torch.bfloat16}


@every(WITH_REFERENCE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str)
def test_half_precision_state_equals_the_reference(case: Case, dtype, rng):
    params = make_params(rng, dtype)
    assert case.reference is not None
    reference = case.reference(params, case.plain)
    optimizer = case.build(params, **case.plain)
    for grads in make_gradients(rng, params, steps=10):
        feed(optimizer, params, [grads])
        reference.step(grads)
    for i, p in enumerate(params):
        for name, expected in reference.state(i).items():
            assert_close(optimizer.state[p][name].double(), expected, rtol=0, atol=2e-6)
        eps = torch.finfo(dtype).eps  # each of the ten steps rounds the parameter once
        assert_close(p.detach().double(), reference.params[i], rtol=10 * eps, atol=10 * eps)


# ---- nesting, compilation, repr ----------------------------------------------------------------------------------


def nest(outer: Case, inner: Case, params: list[nn.Parameter]) -> Optimizer:
    own = {key: value for key, value in outer.plain.items() if not key.startswith("base_optimizer")}
    return outer.build(params, base_optimizer=inner.build, base_optimizer_kwargs=inner.plain, **own)


@every_pair(NESTED_WITH_REFERENCE)
def test_nested_transforms_act_one_after_the_other(outer: Case, inner: Case, rng):
    params = make_params(rng, torch.float64)
    assert outer.reference is not None
    assert inner.reference is not None
    outer_run: Any = outer.reference(params, outer.plain)
    inner_run = inner.reference(params, inner.plain)
    optimizer = nest(outer, inner, params)
    for grads in make_gradients(rng, params, steps=6):
        feed(optimizer, params, [grads])
        inner_run.step([torch.as_tensor(g) for g in outer_run.transform.transform([g.numpy() for g in grads])])
        assert all(p.grad.equal(g) for p, g in zip(params, grads, strict=True))
    assert_close([p.detach() for p in params], [p.detach() for p in inner_run.params], rtol=0, atol=1e-12)


@every_pair(NESTED)
def test_nested_transforms_share_groups_and_resume_bit_for_bit(outer: Case, inner: Case, rng):
    params = make_params(rng)
    gradients = make_gradients(rng, params, steps=6)
    optimizer: Any = nest(outer, inner, params)
    feed(optimizer, params, gradients[:3])
    twin = twins(params)
    resumed: Any = nest(outer, inner, twin)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.param_groups is resumed.base.param_groups is resumed.base.base.param_groups
    for each, ps in ((optimizer, params), (resumed, twin)):
        each.param_groups[0]["lr"] = 0.03
        feed(each, ps, gradients[3:])
    assert_close(twin, params, **BITWISE)
    extra = nn.Parameter(torch.ones(2))
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    feed(optimizer, [extra], [[torch.ones(2)]])
    assert optimizer.base.base.param_groups[1]["lr"] == 0.5
    assert not extra.equal(torch.ones(2))


@every(FROM_GRADIENTS)
@pytest.mark.filterwarnings("ignore")  # dynamo warns about what it does not trace
def test_compiled_step_equals_eager(case: Case, rng):
    torch._dynamo.reset()
    params = make_params(rng)
    eager = twins(params)
    gradients = make_gradients(rng, params, steps=4)
    optimizer, plain = case.build(params, **case.plain), case.build(eager, **case.plain)
    compiled = torch.compile(optimizer.step, backend="eager")
    for grads in gradients:
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        compiled()
        feed(plain, eager, [grads])
    assert_close(params, eager, **BITWISE)


@every(CASES)
def test_repr_names_it_its_settings_and_its_base(case: Case):
    optimizer = case.optimize(make_model(), **case.plain)
    text = repr(optimizer)
    assert text.startswith(type(optimizer).__name__)
    assert case.newest_setting[0] in text
    if case.is_transform:
        assert type(optimizer.base).__name__ in text


@every(TRANSFORMS)
def test_every_torch_optimizer_can_be_its_base(case: Case, rng):
    bases = [Adam, SGD, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam, torch.optim.Rprop]
    bases += [torch.optim.Adadelta, torch.optim.Adafactor, torch.optim.ASGD, torch.optim.Adamax, torch.optim.RAdam]
    for base in bases:
        params = make_params(rng)
        before = twins(params)
        optimizer = case.build(params, base_optimizer=base, base_optimizer_kwargs={"lr": 0.1})
        feed(optimizer, params, make_gradients(rng, params, steps=3))
        assert all(torch.isfinite(p).all() and not p.equal(b) for p, b in zip(params, before, strict=True)), base
