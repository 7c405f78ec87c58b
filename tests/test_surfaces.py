"""The surfaces of the first toolbox notebook, and the ways of torch's optimizers over them."""

from __future__ import annotations

import math

import pytest
import torch

from advanced_optimizers.experiments.demonstrations.surfaces import SURFACES, Surface, bumpy_bowl, quadratic
from advanced_optimizers.experiments.demonstrations.trajectories import (
    DRAWN_RATES,
    OPTIMIZERS,
    descend,
    descend_all,
    fastest,
    steps_to_stay,
)

every_surface = pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)


@every_surface
def test_the_gradient_is_that_of_automatic_differentiation(surface: Surface) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 50, dtype=torch.float64).requires_grad_()
    expected = torch.autograd.grad(surface.value(x, y).sum(), (x, y))
    torch.testing.assert_close(surface.gradient(x.detach(), y.detach()), expected, rtol=1e-12, atol=1e-12)


@every_surface
def test_the_minima_are_the_lowest_points(surface: Surface) -> None:
    x, y = torch.tensor(surface.minima, dtype=torch.float64).T
    torch.testing.assert_close(surface.value(x, y), torch.full_like(x, surface.lowest), rtol=0, atol=1e-12)
    for part in surface.gradient(x, y):
        torch.testing.assert_close(part, torch.zeros_like(x), rtol=0, atol=1e-12)
    _, _, drawn = surface.grid(301)
    assert float(drawn.min()) >= surface.lowest - 1e-12


@every_surface
def test_start_and_minima_are_drawn(surface: Surface) -> None:
    left, right, bottom, top = surface.box
    for x, y in (surface.start, *surface.minima):
        assert left < x < right
        assert bottom < y < top


def test_a_grid_has_x_along_its_columns() -> None:
    x, y, f = quadratic().grid(5)
    assert x.shape == y.shape == f.shape == (5, 5)
    assert x[0, -1] > x[0, 0]
    assert y[-1, 0] > y[0, 0]


def test_distances_are_to_the_nearest_minimum() -> None:
    path = torch.tensor([[0.0, 1.5], [0.0, -1.25]], dtype=torch.float64)
    assert SURFACES["saddle"].distance(path).tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: quadratic((1.0, 0.0)), "curvatures must be > 0"),
        (lambda: bumpy_bowl(-1.0), "height must be >= 0"),
        (lambda: descend(SURFACES["valley"], OPTIMIZERS["GD"], 0.0), "lr must be > 0"),
        (lambda: descend(SURFACES["valley"], OPTIMIZERS["GD"], 0.1, 0), "steps must be"),
    ],
)
def test_bad_values_are_named(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


# ---- the ways --------------------------------------------------------------------------------------------------------


def test_gradient_descent_is_its_formula() -> None:
    way = descend(SURFACES["valley"], OPTIMIZERS["GD"], 0.03, 10)
    for k, (x, y) in enumerate(way.path.tolist()):
        assert x == pytest.approx(-8 * (1 - 0.03) ** k, rel=1e-12)
        assert y == pytest.approx(1.5 * (1 - 0.03 * 50) ** k, rel=1e-12)


@pytest.mark.parametrize(("lr", "converges"), [(0.0399, True), (0.0401, False)])
def test_gradient_descent_converges_up_to_two_over_the_largest_curvature(lr: float, converges: bool) -> None:
    heights = descend(SURFACES["valley"], OPTIMIZERS["GD"], lr, 1000).path[:, 1].abs()
    assert bool(heights[-1] < heights[0]) is converges


def test_a_way_that_is_not_finite_ends() -> None:
    way = descend(SURFACES["rosenbrock"], OPTIMIZERS["GD"], 3.0, 50)
    assert len(way.path) < 51
    assert way.path.isfinite().all()


@pytest.mark.parametrize(
    ("distances", "step"),
    [([1.0, 0.01, 0.02], 1), ([1.0, 0.01, 1.0, 0.05], 3), ([0.0, 1.0], None), ([0.0], 0), ([math.nan], None)],
)
def test_steps_to_stay(distances: list[float], step: int | None) -> None:
    assert steps_to_stay(torch.tensor(distances)) == step


# The numbers of steps that the reference sheet found, by optimizer and learning rate.
@pytest.mark.parametrize(
    ("surface", "optimizer", "lr", "steps"),
    [
        ("valley", "GD", 0.03, 167),
        ("valley", "Momentum", 0.05, 89),
        ("valley", "Nesterov", 0.02, 79),
        ("valley", "Adagrad", 3.0, 15),
        ("valley", "RMSprop", 0.1, 81),
        ("valley", "Adam", 0.5, 87),
        ("valley30", "GD", 0.03, 159),
        ("valley30", "Adagrad", 3.0, 252),
        ("valley30", "RMSprop", 0.1, 393),
        ("saddle", "GD", 0.5, 19),
        ("saddle", "Momentum", 0.5, 69),
        ("saddle", "Adam", 0.05, 56),
        ("beale", "Adam", 0.3, 53),
    ],
)
def test_how_long_they_take(surface: str, optimizer: str, lr: float, steps: int) -> None:
    assert steps_to_stay(descend(SURFACES[surface], OPTIMIZERS[optimizer], lr).distances) == steps


def test_momentum_is_the_first_through_rosenbrocks_valley() -> None:
    taken = {
        name: steps_to_stay(descend(SURFACES["rosenbrock"], OPTIMIZERS[name], lr, 2000).distances)
        for name, lr in {"GD": 0.003, "Momentum": 0.003, "Nesterov": 0.001, "Adam": 0.1}.items()
    }
    assert taken == {"GD": None, "Momentum": 228, "Nesterov": 682, "Adam": 763}


def test_inertia_rolls_over_the_bumps_and_gradient_descent_does_not() -> None:
    for lr in (0.03, 0.1, 0.3, 1.0):
        assert descend(SURFACES["bumps"], OPTIMIZERS["GD"], lr, 300).final_distance == pytest.approx(2.53, abs=0.01)
    ways = descend_all(SURFACES["bumps"], DRAWN_RATES["bumps"], 300)
    assert {name for name, way in ways.items() if way.final_distance < 0.01} == {"Momentum", "Nesterov", "Adam"}


def test_higher_bumps_stop_inertia_too() -> None:
    ways = descend_all(bumpy_bowl(0.3), DRAWN_RATES["bumps"], 300)
    assert min(way.final_distance for way in ways.values()) > 0.5


def test_the_fastest_of_a_grid() -> None:
    way = fastest(SURFACES["valley"], OPTIMIZERS["GD"], (0.003, 0.03, 0.1), 200)
    assert way.lr == 0.03
    nearest = fastest(SURFACES["valley"], OPTIMIZERS["GD"], (0.001, 0.002, 1.0), 200)
    assert nearest.lr == 0.002, "none arrives, and the last one runs away"


def test_every_surface_has_a_drawn_rate_for_every_optimizer() -> None:
    assert DRAWN_RATES.keys() == SURFACES.keys()
    for rates in DRAWN_RATES.values():
        assert rates.keys() == OPTIMIZERS.keys()
