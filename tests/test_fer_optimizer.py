"""Gradient-consistency FER: its mathematics, its memory, and the coursework's calls."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.testing import assert_close

from advanced_optimizers import FEROptimizer, create_fer_optimizer
from advanced_optimizers.fer_optimizer.formula import consistency_correction
from tests.reference.fer import consistency_regularizer, cosine, project_on_cone

BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0, "equal_nan": True}
thresholds = st.floats(-1.0, 1.0)
weights = st.floats(0.0, 1.0)
seeds = st.integers(0, 10_000)


def correct(g: Tensor, m: Tensor, weight: float, threshold: float) -> Tensor:
    """The optimizer's g' for memory m and gradient g, read off a step of SGD with learning rate 1."""
    p = nn.Parameter(torch.zeros_like(g))
    optimizer = FEROptimizer([p], SGD, {"lr": 1.0}, weight, threshold)
    p.grad = m.clone()
    optimizer.step()
    before = p.detach().clone()
    p.grad = g.clone()
    optimizer.step()
    return before - p.detach()


def vectors(seed: int, size: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g, m = torch.randn(2, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return g, m


def at_angle(degrees: float) -> tuple[Tensor, Tensor]:
    """A gradient of length 2 at an angle to a memory of length 3."""
    radians = math.radians(degrees)
    g = 2 * torch.tensor([math.cos(radians), math.sin(radians), 0.0], dtype=torch.float64)
    return g, torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)


# ---- the regularizer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_correction_is_the_gradient_of_the_regularizer(threshold, seed):
    g, m = vectors(seed)
    start = torch.randn(6, generator=torch.Generator().manual_seed(99), dtype=torch.float64).numpy()
    gradient = optimize.approx_fprime(start, consistency_regularizer, 1e-7, start, g.numpy(), m.numpy(), threshold)
    weight = 0.3
    corrected = correct(g, m, weight, threshold).numpy()
    np.testing.assert_allclose((corrected - g.numpy()) / weight, gradient, atol=1e-5)
    assert consistency_regularizer(start, start, g.numpy(), m.numpy(), threshold) >= 0


def distance_to_cone(v: Tensor, m: Tensor, threshold: float) -> Tensor:
    """|v - P(v)| from the angles alone: 0 inside, |v| behind, |v| sin(angle beyond the cone) between."""
    beyond = torch.acos(torch.dot(v, m) / (v.norm() * m.norm())) - math.acos(threshold)
    return torch.where(beyond <= 0, 0 * v.norm(), v.norm() * torch.sin(beyond.clamp(0, math.pi / 2)))


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_correction_is_autograd_of_the_regularized_loss(threshold, seed):
    g, m = vectors(seed)
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    weight = 0.3
    loss = torch.dot(theta, g)  # any loss whose gradient is g
    regularizer = 0.5 * distance_to_cone(0 - (theta - g), m, threshold).square()
    (expected,) = torch.autograd.grad(loss + weight * regularizer, theta)
    assert_close(correct(g, m, weight, threshold), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("threshold", [-0.4, 0.0, 0.6, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_projection_is_the_nearest_point_that_a_general_solver_finds(threshold, seed):
    g, m = (v.numpy() for v in vectors(seed, size=3))
    outside = cosine(g, m) < threshold
    unit = m / np.linalg.norm(m)
    inside = {"type": "ineq", "fun": lambda v: v @ unit - threshold * math.sqrt(v @ v + 1e-18)}
    starts = [unit + 0.1 * g, np.linalg.norm(g) * unit + g]
    found = min(
        (optimize.minimize(lambda v: (v - g) @ (v - g), s, constraints=inside, tol=1e-12) for s in starts),
        key=lambda result: result.fun,
    )
    expected = project_on_cone(g, m, threshold)
    np.testing.assert_allclose((expected - g) @ (expected - g), found.fun, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(correct(torch.tensor(g), torch.tensor(m), 1.0, threshold), expected, atol=1e-12)
    assert outside == (not np.array_equal(expected, g))


# ---- properties --------------------------------------------------------------------------------------------------


@given(seeds, weights, thresholds)
def test_equals_the_searched_projection(seed, weight, threshold):
    g, m = vectors(seed)
    projection = torch.tensor(project_on_cone(g.numpy(), m.numpy(), threshold))
    assert_close(correct(g, m, weight, threshold), g + weight * (projection - g), rtol=0, atol=1e-10)


@given(seeds, thresholds)
def test_weight_one_lands_on_the_cone(seed, threshold):
    g, m = vectors(seed)
    assume(cosine(g.numpy(), m.numpy()) < threshold)
    corrected = correct(g, m, 1.0, threshold)
    if corrected.norm() > 1e-6:  # behind the cone the nearest point is 0
        assert cosine(corrected.numpy(), m.numpy()) == pytest.approx(threshold, abs=1e-7)


@given(seeds, weights, thresholds)
def test_stays_a_descent_direction(seed, weight, threshold):
    g, m = vectors(seed)
    corrected = correct(g, m, weight, threshold)
    assert torch.dot(corrected, g) >= (1 - weight) * torch.dot(g, g) - 1e-9


@given(seeds, weights, thresholds, st.floats(1e-3, 1e3))
def test_scale_of_the_memory_does_not_matter(seed, weight, threshold, scale):
    g, m = vectors(seed)
    assert_close(correct(g, scale * m, weight, threshold), correct(g, m, weight, threshold), rtol=0, atol=1e-9)


@given(seeds, weights, thresholds, st.floats(1e-3, 1e3))
def test_corrected_gradient_scales_with_the_gradient(seed, weight, threshold, scale):
    g, m = vectors(seed)
    expected = scale * correct(g, m, weight, threshold)
    assert_close(correct(scale * g, m, weight, threshold), expected, rtol=1e-9, atol=1e-9 * scale)


@given(st.floats(0.0, 180.0), st.floats(0.0, 2.0), thresholds)
def test_coefficients_are_finite_at_every_angle(degrees, weight, threshold):
    g, m = at_angle(degrees)
    products = (float(g @ m), float(g @ g), float(m @ m))
    assert all(math.isfinite(value) for value in consistency_correction(*products, weight, threshold))


@pytest.mark.parametrize("threshold", [-0.7, 0.0, 0.5, 0.99])
def test_correction_is_continuous_at_the_threshold(threshold):
    edge = math.degrees(math.acos(threshold))
    steps = [correct(*at_angle(edge + d), 1.0, threshold) - at_angle(edge + d)[0] for d in (-1e-4, 1e-4, 2e-4)]
    assert steps[0].norm() < 1e-14
    assert 0 < steps[1].norm() < 1e-5
    assert_close(steps[2].norm(), 2 * steps[1].norm(), rtol=1e-3, atol=0)  # it grows from 0 in proportion to the angle


def test_known_angles():
    g, m = at_angle(90)
    root = math.sqrt(0.5)
    assert_close(correct(g, m, 1.0, root), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))  # 45 degrees from both
    assert_close(correct(g, m, 0.5, root), torch.tensor([0.5, 1.5, 0.0], dtype=torch.float64))
    assert_close(correct(g, m, 1.0, 1.0), torch.zeros(3, dtype=torch.float64))  # the axis is at a right angle


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_opposite_gradient_shrinks_toward_zero(dtype, threshold):
    _, m = vectors(3, dtype=dtype)
    assert_close(correct(-2 * m, m, 0.25, threshold), -1.5 * m, rtol=1e-3, atol=1e-3)
    assert_close(correct(-2 * m, m, 1.0, threshold), torch.zeros_like(m), rtol=0, atol=2e-3)


@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize("seed", range(8))
def test_opposite_gradient_with_a_negative_threshold_has_no_component_across(size, seed):
    _, m = vectors(seed, size=size, dtype=torch.float32)
    expected = -2 * 0.25 * m  # tau^2 times the gradient, which is the mean of all equally near points
    assert_close(correct(-2 * m, m, 1.0, -0.5), expected, rtol=1e-3, atol=1e-5)


def test_equal_direction_is_left_alone_even_at_threshold_one():
    g = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert_close(correct(g, 3 * g, 1.0, 1.0), g, rtol=1e-12, atol=0)


# ---- the memory --------------------------------------------------------------------------------------------------


def test_memory_is_an_exponential_average_that_starts_at_the_first_gradient():
    p = nn.Parameter(torch.zeros(2))
    optimizer = FEROptimizer([p], SGD, {"lr": 0.1}, memory_size=4)
    for grad in ([8.0, 0.0], [0.0, 4.0], [4.0, 4.0]):
        p.grad = torch.tensor(grad)
        optimizer.step()
    assert_close(optimizer.state[p]["memory"], torch.tensor([5.5, 1.75]), **BITWISE)


def test_first_step_is_the_base_optimizer():
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    p.grad, q.grad = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([1.0, -2.0, 3.0])
    FEROptimizer([p], Adam, {"lr": 0.1}, fer_weight=1.0).step()
    Adam([q], lr=0.1, fused=True).step()
    assert_close(p, q, **BITWISE)


def test_memory_size_one_compares_with_the_previous_gradient_only():
    grads = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    p = nn.Parameter(torch.zeros(6))
    optimizer = FEROptimizer([p], SGD, {"lr": 0.1}, memory_size=1)
    for grad in grads:
        p.grad = grad.clone()
        optimizer.step()
        assert_close(optimizer.state[p]["memory"], grad, **BITWISE)
    cosines = [cosine(a.double().numpy(), b.double().numpy()) for a, b in itertools.pairwise(grads)]
    assert optimizer.consistency_history == pytest.approx(cosines[-1:], abs=1e-6)


@pytest.mark.parametrize(
    "settings", [{"fer_weight": 0.0}, {"consistency_threshold": -1.0}, {"consistency_threshold": -1}]
)
@pytest.mark.parametrize("base", [SGD, Adam])
def test_neutral_settings_are_the_base_optimizer_bit_for_bit(settings, base):
    p, q = nn.Parameter(torch.ones(40)), nn.Parameter(torch.ones(40))
    kwargs = {"lr": 0.1, "weight_decay": 0.1, **({"momentum": 0.9} if base is SGD else {"fused": True})}
    optimizer, plain = FEROptimizer([p], base, kwargs, **settings), base([q], **kwargs)
    for grad in torch.randn(10, 40, generator=torch.Generator().manual_seed(0)):
        for x, opt in ((p, optimizer), (q, plain)):
            x.grad = grad.clone()
            opt.step()
            x.grad = -grad  # also the opposite of the memory
            opt.step()
    assert_close(p, q, **BITWISE)
    assert len(optimizer.consistency_history) == 19


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("when", [0, 2])
def test_gradient_that_is_not_finite_passes_through_and_does_not_enter_the_memory(bad, when):
    p, q = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    optimizer, other = (FEROptimizer([x], SGD, {"lr": 0.0}, memory_size=4) for x in (p, q))
    grads = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for t, grad in enumerate(grads):
        if t == when:
            p.grad = torch.tensor([1.0, bad, 1.0])
            optimizer.step()
        for x, opt in ((p, optimizer), (q, other)):
            x.grad = grad.clone()
            opt.step()
    assert_close(optimizer.state[p]["memory"], other.state[q]["memory"], **BITWISE)
    assert optimizer.consistency_history == other.consistency_history

    seen = nn.Parameter(torch.zeros(3))
    optimizer = FEROptimizer([seen], SGD, {"lr": 1.0})
    seen.grad = torch.tensor([1.0, bad, 1.0])
    optimizer.step()
    assert not math.isfinite(seen[1].item())  # the base optimizer received it, as it would alone
    assert_close(seen.detach()[[0, 2]], torch.tensor([-1.0, -1.0]))


# ---- the history -------------------------------------------------------------------------------------------------


def stepped(steps: int, **settings) -> tuple[FEROptimizer, list[list[Tensor]]]:
    rng = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.zeros(shape)) for shape in ((4,), (2, 3))]
    optimizer = FEROptimizer(params, SGD, {"lr": 0.1}, **settings)
    gradients = [[torch.randn(p.shape, generator=rng) for p in params] for _ in range(steps)]
    for grads in gradients:
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return optimizer, gradients


def test_history_is_the_mean_cosine_over_the_tensors():
    optimizer, (first, second) = stepped(2)
    cosines = [cosine(a.double().numpy(), b.double().numpy()) for a, b in zip(first, second, strict=True)]
    assert optimizer.consistency_history == pytest.approx([sum(cosines) / 2], abs=1e-6)


def test_history_keeps_the_last_memory_size_values():
    short, _ = stepped(12, memory_size=5)
    assert len(short.consistency_history) == 5
    long, _ = stepped(12, memory_size=1000)
    assert len(long.consistency_history) == 11  # the first step has nothing to compare with
    assert all(-1 <= c <= 1 for c in long.consistency_history)


def test_history_cannot_be_changed_from_outside():
    optimizer, _ = stepped(3)
    optimizer.consistency_history.clear()
    assert len(optimizer.consistency_history) == 2


def test_zero_gradients_add_no_value():
    p = nn.Parameter(torch.zeros(3))
    optimizer = FEROptimizer([p], SGD, {"lr": 0.1})
    for grad in (torch.ones(3), torch.zeros(3), torch.ones(3)):
        p.grad = grad
        optimizer.step()
    assert optimizer.consistency_history == pytest.approx([1.0])


def test_history_is_in_the_checkpoint():
    optimizer, _ = stepped(12, memory_size=5)
    fresh, _ = stepped(3)
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert fresh.consistency_history == optimizer.consistency_history
    old = {key: value for key, value in optimizer.state_dict().items() if key != "consistency_history"}
    fresh.load_state_dict(old)
    assert fresh.consistency_history == []


def test_loaded_memory_size_also_bounds_the_history():
    optimizer, _ = stepped(12, memory_size=8)
    fresh, _ = stepped(1, memory_size=3)
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert fresh.param_groups[0]["memory_size"] == 8
    assert fresh.consistency_history == optimizer.consistency_history


# ---- the coursework's calls --------------------------------------------------------------------------------------


def test_signatures_are_the_coursework_s():
    expected = ["params", "base_optimizer", "base_optimizer_kwargs"]
    own = {"fer_weight": 0.1, "consistency_threshold": 0.9, "memory_size": 1000}
    parameters = inspect.signature(FEROptimizer).parameters
    assert list(parameters) == [*expected, *own, "foreach", "state_dtype"]
    assert {parameters[name].kind for name in ("foreach", "state_dtype")} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters["base_optimizer"].default is Adam
    assert {name: parameters[name].default for name in own} == own
    create = inspect.signature(create_fer_optimizer).parameters
    assert list(create) == ["params", "lr", "fer_weight", "consistency_threshold"]


def test_coursework_calls_run_as_written_and_positionally():
    model = nn.Linear(4, 2)
    by_name = FEROptimizer(
        model.parameters(),
        base_optimizer=torch.optim.Adam,
        base_optimizer_kwargs={"lr": 1e-3},
        fer_weight=0.1,
        consistency_threshold=0.9,
        memory_size=1000,
    )
    by_place = FEROptimizer(model.parameters(), torch.optim.Adam, {"lr": 1e-3}, 0.1, 0.9, 1000)
    by_default = FEROptimizer(model.parameters())
    created = create_fer_optimizer(model.parameters(), 1e-3, 0.1, 0.9)
    groups = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in (by_name, by_place, by_default)]
    assert groups[0] == groups[1] == groups[2]
    assert {k: v for k, v in created.param_groups[0].items() if k != "params"} == groups[0]
    assert isinstance(created, FEROptimizer)
    assert type(created.base) is Adam
    other = create_fer_optimizer(model.parameters(), lr=0.5, fer_weight=0.3, consistency_threshold=0.2)
    assert [other.param_groups[0][k] for k in ("lr", "fer_weight", "consistency_threshold")] == [0.5, 0.3, 0.2]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"lr": -1.0}, r"lr must be >= 0.*got -1\.0"),
        ({"fer_weight": -0.5}, r"fer_weight must be >= 0.*got -0\.5"),
        ({"consistency_threshold": 1.5}, r"consistency_threshold must be .*<= 1.*got 1\.5"),
    ],
)
def test_create_refuses_bad_values(arguments, match):
    with pytest.raises(ValueError, match=match):
        create_fer_optimizer(nn.Linear(2, 2).parameters(), **arguments)
