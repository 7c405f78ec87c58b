"""What torch promises about an optimizer, and what a user's training loop relies on, for every row of ``cases.py``."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.testing import assert_close

from advanced_optimizers._base import build_optimizer
from tests.case import Case, Settings
from tests.cases import CASES, FROM_GRADIENTS, SEPARABLE, TRANSFORMS, WITH_LIMIT, WITH_REFERENCE
from tests.contract import contract_tests
from tests.harness import (
    BITWISE,
    DEVICES,
    every,
    every_bad,
    every_variant,
    feed,
    lr_of,
    make_batches,
    make_gradients,
    make_model,
    make_params,
    through_a_file,
    train,
    twins,
)


@every(CASES)
def test_row_excludes_only_tests_that_exist(case: Case):
    assert set(case.not_applicable) <= contract_tests()


# ---- the algorithm: its reference, its limit, its minimizers -----------------------------------------------------


@every_variant(WITH_REFERENCE)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("dtype", "atol"),
    [
        pytest.param(torch.float64, 1e-12, id="f64"),
        pytest.param(torch.float32, 2e-5, id="f32", marks=pytest.mark.slow),
    ],
)
def test_equals_its_reference(case: Case, settings: Settings, rng, device, dtype, atol):
    params = [nn.Parameter(p.detach().to(device)) for p in make_params(rng, dtype)]
    assert case.reference is not None
    reference = case.reference(params, settings)
    optimizer = case.build(params, **settings)
    for grads in make_gradients(rng, params, steps=10):
        feed(optimizer, params, [grads])
        reference.step(grads)
        for i, p in enumerate(params):
            assert_close(p.detach().double().cpu(), reference.params[i], rtol=0, atol=atol)
            for name, expected in reference.state(i).items():
                assert_close(optimizer.state[p][name].double().cpu(), expected, rtol=0, atol=atol)


@every(WITH_LIMIT)
@pytest.mark.parametrize("scheduled", [False, True], ids=["constant", "one-cycle"])
def test_limit_is_the_base_optimizer_bit_for_bit(case: Case, rng, scheduled):
    assert case.limit is not None
    settings, build_base = case.limit
    params = make_params(rng)
    base_params = twins(params)
    runs = [(case.build(params, **settings), params), (build_base(base_params), base_params)]
    gradients = make_gradients(rng, params, steps=12)
    for optimizer, ps in runs:
        scheduler = OneCycleLR(optimizer, max_lr=0.2, total_steps=13) if scheduled else None
        for grads in gradients:
            feed(optimizer, ps, [grads])
            if scheduler is not None:
                scheduler.step()
    assert_close(params, base_params, **BITWISE)


def rosenbrock(p: Tensor) -> Tensor:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


_RNG = torch.Generator().manual_seed(1)
A, B = (torch.randn(8, 3, generator=_RNG, dtype=torch.float64) for _ in range(2))


def least_squares(p: Tensor) -> Tensor:
    return 0.5 * (A @ p - B).square().sum()


CLOSE = 1e-3  # to the minimizer, in the largest coordinate


def distance_to_minimizer(build: Callable[..., Optimizer], objective, start: Tensor, minimizer: Tensor, steps: int):
    """The final distance of ``build([p])`` to the minimizer; over the last quarter the learning rate falls to 0."""
    p = nn.Parameter(start.double())
    optimizer = build([p])
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, 4 * (1 - step / steps)))
    for _ in range(steps):
        optimizer.zero_grad()
        objective(p).backward()
        optimizer.step()
        scheduler.step()
    return float((p.detach() - minimizer.double()).abs().max())


@every(FROM_GRADIENTS)
@pytest.mark.parametrize(
    ("objective", "start", "minimizer"),
    [
        pytest.param(rosenbrock, torch.zeros(2), torch.ones(2), id="rosenbrock"),
        pytest.param(
            least_squares,
            torch.zeros(3, 3),
            torch.linalg.lstsq(A, B).solution,
            id="least squares",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_reaches_the_minimizer(case: Case, objective, start, minimizer):
    """A transform has to come as close as its base optimizer alone, up to a factor of 2, or within ``CLOSE``."""
    settings, problem = case.minimizing, (objective, start, minimizer, case.minimizing_steps)
    distance = distance_to_minimizer(lambda params: case.build(params, **settings), *problem)
    if case.is_transform and not distance < CLOSE:
        base, kwargs = settings["base_optimizer"], settings["base_optimizer_kwargs"]
        of_base = distance_to_minimizer(lambda params: build_optimizer(base, params, **kwargs), *problem)
        assert of_base < 10 * CLOSE, "the base optimizer alone must come close: choose other settings for `minimizing`"
        assert distance <= 2 * of_base
    else:
        assert distance < CLOSE


@every(CASES)
def test_learns_the_digits(case: Case, rng):
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    order = torch.randperm(len(y), generator=rng)
    train_part, test_part = order[:1400], order[1400:]
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = case.optimize(model, **case.learning)
    for _ in range(15):
        shuffled = train_part[torch.randperm(len(train_part), generator=rng)]
        train(model, optimizer, [(x[batch], y[batch]) for batch in shuffled.split(64)])
    accuracy = (model(x[test_part]).argmax(dim=1) == y[test_part]).double().mean()
    assert accuracy > 0.93


# ---- checkpoints and copies --------------------------------------------------------------------------------------


def fresh_and_loaded(case: Case, settings: Settings, optimizer: Optimizer, model: nn.Module, carry: Callable):
    twin = copy.deepcopy(model)
    loaded = case.optimize(twin, **settings)
    loaded.load_state_dict(carry(optimizer.state_dict()))
    return twin, loaded


@every_variant(CASES)
@pytest.mark.parametrize("carry", [copy.deepcopy, through_a_file, lambda state: state], ids=["copy", "file", "itself"])
def test_resumes_bit_for_bit_in_a_fresh_object(case: Case, settings: Settings, carry, rng):
    model, batches = make_model(), make_batches(rng, 8)
    optimizer = case.optimize(model, **settings)
    train(model, optimizer, batches[:4])
    twin, resumed = fresh_and_loaded(case, settings, optimizer, model, carry)
    assert_close(resumed.state_dict(), optimizer.state_dict(), **BITWISE)
    train(twin, resumed, batches[4:])
    train(model, optimizer, batches[4:])  # after its twin, so that shared state would show
    assert_close(list(twin.parameters()), list(model.parameters()), **BITWISE)
    assert_close(resumed.state_dict(), optimizer.state_dict(), **BITWISE)


def without(state: Any, key: str) -> Any:
    """The same checkpoint as saved by a version that did not have the setting yet."""
    if isinstance(state, dict):
        return {k: without(v, key) for k, v in state.items() if k != key}
    return [without(v, key) for v in state] if isinstance(state, list) else state


@every(CASES)
def test_old_checkpoint_without_the_newest_setting_loads_with_its_default(case: Case, rng):
    model, batches = make_model(), make_batches(rng, 4)
    optimizer = case.optimize(model, **case.plain)
    train(model, optimizer, batches[:2])
    name, default = case.newest_setting
    twin, loaded = fresh_and_loaded(case, case.plain, optimizer, model, lambda state: without(state, name))
    assert {group[name] for group in loaded.param_groups} == {default}
    train(twin, loaded, batches[2:])


@every(CASES)
def test_scheduler_made_before_loading_controls_the_loaded_optimizer(case: Case, rng):
    model, (batch,) = make_model(), make_batches(rng, 1)
    optimizer = case.optimize(model, **case.plain)
    state = copy.deepcopy(optimizer.state_dict())
    scheduler = LambdaLR(optimizer, lambda epoch: 0.0 if epoch else 1.0)
    optimizer.load_state_dict(state)
    optimizer.param_groups[0]["initial_lr"] = lr_of(optimizer)
    train(model, optimizer, [batch])
    scheduler.step()
    before = twins(list(model.parameters()))
    train(model, optimizer, [batch])
    assert_close(list(model.parameters()), before, check_stride=False, **BITWISE)


@every(TRANSFORMS)
def test_checkpoint_of_something_else_is_refused(case: Case, rng):
    params = make_params(rng)
    optimizer = case.build(params, **case.plain)
    with pytest.raises(ValueError, match=f"under 'base'.*{type(optimizer).__name__}"):
        optimizer.load_state_dict(SGD(params, lr=0.1).state_dict())
    with pytest.raises(ValueError, match="parameter group"):
        optimizer.load_state_dict(case.build(params[:2], **case.plain).state_dict())


@every(CASES)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_with_its_model_and_is_independent_afterwards(case: Case, duplicate, rng):
    model, batches = make_model(), make_batches(rng, 6)
    optimizer = case.optimize(model, **case.plain)
    train(model, optimizer, batches[:3])
    twin, copied = duplicate((model, optimizer))
    assert_close(copied.state_dict(), optimizer.state_dict(), **BITWISE)
    before = twins(list(model.parameters()))
    train(twin, copied, batches[3:])
    assert_close(list(model.parameters()), before, check_stride=False, **BITWISE)
    train(model, optimizer, batches[3:])
    assert_close(list(twin.parameters()), list(model.parameters()), **BITWISE)
    assert_close(copied.state_dict(), optimizer.state_dict(), **BITWISE)


def own_attributes(optimizer: Optimizer) -> dict[str, Any]:
    """What the optimizer's own classes set on it, besides what torch sets on every optimizer."""
    return {name: value for name, value in vars(optimizer).items() if name not in vars(SGD([torch.zeros(1)]))}


@every(CASES)
def test_every_attribute_survives_a_copy(case: Case, rng):
    model, batches = make_model(), make_batches(rng, 3)
    optimizer = case.optimize(model, **case.plain)
    train(model, optimizer, batches)
    _, copied = copy.deepcopy((model, optimizer))
    own, theirs = own_attributes(optimizer), own_attributes(copied)
    assert theirs.keys() == own.keys()
    assert {name: type(value) for name, value in theirs.items()} == {name: type(value) for name, value in own.items()}
    plain = {name: value for name, value in own.items() if isinstance(value, bool | int | float | str | None)}
    assert plain == {name: theirs[name] for name in plain}


# ---- parameter groups and schedulers -----------------------------------------------------------------------------


@every(SEPARABLE)
def test_two_groups_are_two_optimizers(case: Case, rng):
    override, same_for_all = case.group_override
    params = make_params(rng)
    apart = twins(params)
    gradients = make_gradients(rng, params, steps=6)
    feed(case.build([{"params": params[:2]}, {"params": params[2:], **override}], **case.plain), params, gradients)
    feed(case.build(apart[:2], **case.plain), apart[:2], [grads[:2] for grads in gradients])
    feed(case.build(apart[2:], **same_for_all), apart[2:], [grads[2:] for grads in gradients])
    assert_close(params, apart, **BITWISE)


@every(SEPARABLE)
def test_group_added_during_a_run_acts_from_then_on(case: Case, rng):
    override, same_for_all = case.group_override
    params = make_params(rng)
    apart = twins(params)
    gradients = make_gradients(rng, params, steps=6)
    optimizer = case.build(params[:3], **case.plain)
    feed(optimizer, params[:3], [grads[:3] for grads in gradients[:3]])
    optimizer.add_param_group({"params": params[3:], **override})
    feed(optimizer, params, gradients[3:])
    feed(case.build(apart[:3], **case.plain), apart[:3], [grads[:3] for grads in gradients])
    feed(case.build(apart[3:], **same_for_all), apart[3:], [grads[3:] for grads in gradients[3:]])
    assert_close(params, apart, **BITWISE)


@every(FROM_GRADIENTS)
@pytest.mark.parametrize("kind", [LambdaLR, OneCycleLR])
def test_schedulers_control_it(case: Case, kind, rng):
    params = make_params(rng)
    by_hand = twins(params)
    gradients = make_gradients(rng, params, steps=6)
    optimizer, manual = case.build(params, **case.plain), case.build(by_hand, **case.plain)
    scheduler: Any = (
        LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        if kind is LambdaLR
        else OneCycleLR(optimizer, max_lr=0.5, total_steps=7)
    )
    seen = set()
    for grads in gradients:
        seen.add(lr_of(optimizer))
        manual.param_groups[0].update({k: optimizer.param_groups[0][k] for k in ("lr", "momentum")})
        feed(optimizer, params, [grads])
        feed(manual, by_hand, [grads])
        scheduler.step()
    assert len(seen) == 6
    assert_close(params, by_hand, **BITWISE)


@every(SEPARABLE)
def test_learning_rate_zero_moves_nothing(case: Case, rng):
    params = make_params(rng)
    before = twins(params)
    optimizer = case.build(params, **case.plain)
    optimizer.param_groups[0]["lr"] = 0.0
    feed(optimizer, params, make_gradients(rng, params, steps=3))
    assert_close(params, before, **BITWISE)


@every(FROM_GRADIENTS)
def test_empty_group_is_allowed(case: Case, rng):
    params = make_params(rng)
    alone = twins(params)
    gradients = make_gradients(rng, params, steps=3)
    feed(case.build([{"params": params}, {"params": []}], **case.plain), params, gradients)
    feed(case.build(alone, **case.plain), alone, gradients)
    assert_close(params, alone, **BITWISE)


@every(FROM_GRADIENTS)
def test_named_parameters(case: Case, rng):
    params = make_params(rng)
    unnamed = twins(params)
    gradients = make_gradients(rng, params, steps=3)
    optimizer = case.build([(f"p{i}", p) for i, p in enumerate(params)], **case.plain)
    feed(optimizer, params, gradients)
    feed(case.build(unnamed, **case.plain), unnamed, gradients)
    assert_close(params, unnamed, **BITWISE)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == [f"p{i}" for i in range(len(params))]


# ---- bad input ---------------------------------------------------------------------------------------------------


@every_bad(CASES, "bad_values")
def test_refuses_bad_values(case: Case, bad):
    with pytest.raises(bad.error, match=bad.match):
        case.optimize(nn.Linear(2, 2), **bad.settings)


@every_bad(CASES, "bad_overrides")
def test_refuses_bad_group_overrides(case: Case, bad, rng):
    params = make_params(rng)
    with pytest.raises(bad.error, match=bad.match):
        case.build([{"params": params, **bad.settings}], **case.plain)
    optimizer = case.build(params[:2], **case.plain)
    with pytest.raises(bad.error, match=bad.match):
        optimizer.add_param_group({"params": params[2:], **bad.settings})
    assert len(optimizer.param_groups) == 1


@every(FROM_GRADIENTS)
@pytest.mark.parametrize("params", [torch.zeros(3), torch.zeros(3, requires_grad=True)], ids=["buffer", "leaf"])
def test_refuses_a_bare_tensor(case: Case, params):
    with pytest.raises(TypeError, match="params must be an iterable"):
        case.build(params, **case.plain)


@every(FROM_GRADIENTS)
@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_refuses_gradients_it_cannot_handle(case: Case, kind):
    p = nn.Parameter(torch.ones(3, dtype=torch.complex64 if kind == "complex" else torch.float32))
    optimizer = case.build([p], **case.plain)
    p.grad = grad = torch.ones_like(p).to_sparse() if kind == "sparse" else torch.ones_like(p)
    with pytest.raises(ValueError, match=rf"{type(optimizer).__name__} does not support {kind}.*\(3,\)"):
        optimizer.step()
    assert p.grad is grad
