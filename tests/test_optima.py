"""The arithmetic of optima: parabolas, edges, diverged runs, and what is paired with what."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.optima import (
    Bounds,
    find_optima,
    find_optimum,
    judge_start,
    loss_ratio,
    optimum_bounds,
    shift_bounds,
    sweep_points,
    whole_octaves,
    widths,
)
from advanced_optimizers.experiments.evidence.statistics import Interval
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.studies.claims.zero_shot_transfer import BASE_UNITS, MUP, STANDARD
from tests.synthetic_sweeps import make_records

TASK = "cifar10-jpeg-mlp3"
POINTS = sweep_points(records_frame(make_records()), BASE_UNITS)
OPTIMA = find_optima(POINTS)


def parabola(best: float, exponents: Iterable[float]) -> dict[float, float]:
    return {k: 0.2 * math.exp(0.7 * (k - best) ** 2) for k in exponents}


@pytest.mark.parametrize("best", [-5.49, -5.0, -4.8, -4.51])
def test_a_known_parabola_gives_its_vertex(best: float) -> None:
    optimum = find_optimum(parabola(best, range(-8, -2)))
    assert optimum.exponent == pytest.approx(best)
    assert optimum.loss == pytest.approx(0.2 * math.exp(0.7 * (-5 - best) ** 2))
    assert optimum.resolved


@pytest.mark.parametrize(("best", "edge"), [(-9.0, -8), (-1.0, -3)])
def test_a_minimum_at_the_end_is_the_grid_point_and_unresolved(best: float, edge: int) -> None:
    optimum = find_optimum(parabola(best, range(-8, -2)))
    assert optimum.exponent == edge
    assert not optimum.resolved


@pytest.mark.parametrize("best", [-5.2, -5.0, -4.9, -4.3])
def test_half_octaves_on_one_side_or_both_give_the_same_vertex(best: float) -> None:
    for exponents in ([-7, -6, -5, -4.5, -4, -3], [-6, -5.5, -5, -4.5, -4, -3.5, -3], [-6, -5, -4, -3]):
        assert find_optimum(parabola(best, exponents)).exponent == pytest.approx(best)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_next_to_a_diverged_run_the_optimum_lies_between_the_two(loss: float) -> None:
    assert find_optimum({-6: 0.5, -5: 0.2, -4: loss, -3: loss}) == (-5.0, 0.2, True, -4.0)
    assert find_optimum({-6: 0.5, -5: 0.2, -4.5: loss, -4: loss}) == (-5.0, 0.2, True, -4.5)
    assert find_optimum({-6: 0.5, -5: 0.2, -4.5: 0.1, -4: loss}) == (-4.5, 0.1, True, -4.0)
    above = find_optimum({-6: 0.5, -5: 0.2, -4.5: 0.3, -4: loss})  # it rises before it diverges: not censored
    assert above.ceiling == above.exponent < -4.75


def test_a_diverged_run_below_the_optimum_bounds_nothing() -> None:
    assert find_optimum({-6: math.inf, -5: 0.2, -4: 0.5}) == (-5.0, 0.2, True, -5.0)


def test_a_missing_neighbor_is_not_a_diverged_one() -> None:
    assert not find_optimum({-7: 0.6, -5: 0.2, -4: 0.3}).resolved


def test_the_limits_of_a_sweep() -> None:
    diverged = find_optimum({-6: math.nan, -5: math.inf, -4: math.nan})
    assert math.isinf(diverged.loss)
    assert not diverged.resolved
    assert find_optimum({-6: 0.3, -5: 0.3, -4: 0.3}).exponent == -6  # flat: the first, at the end
    assert find_optimum({-6: 0.5, -5: 0.0, -4: 0.5}).exponent == -5  # no logarithm of zero
    with pytest.raises(ValueError, match="losses must hold at least one run"):
        find_optimum({})


def test_points_are_the_runs() -> None:
    records = make_records()[:2]
    records[1] = replace(records[1], status="diverged", final={**records[1].final, "train_loss": None})
    points = sweep_points(records_frame(records), BASE_UNITS)
    assert points["units"].tolist() == [4096, 4096]
    assert points["exponent"].tolist() == [-9, -8]
    assert points["loss"].tolist() == [records[0].final["train_loss"], math.inf]
    assert points["seconds"][0] == records[0].final["cpu_seconds"] * records[0].config.epochs
    assert sweep_points(pd.DataFrame(), BASE_UNITS).empty
    assert find_optima(sweep_points(pd.DataFrame(), BASE_UNITS)).empty


def test_two_runs_of_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match="one run per learning rate and seed"):
        find_optima(pd.concat([POINTS, POINTS.iloc[:1]]))


def test_half_octaves_are_points_of_their_own() -> None:
    exponents = set(POINTS[(POINTS["units"] == 4096) & (POINTS["task"] == "mnist-mlp3")]["exponent"])
    assert -2.5 in exponents
    assert set(whole_octaves(POINTS)["exponent"]) == {float(k) for k in range(-10, -1)}


def test_intervals_are_over_the_seeds() -> None:
    bounds = optimum_bounds(OPTIMA, TASK, MUP, 1024)
    assert bounds is not None
    assert not bounds.censored
    assert (bounds.least.estimate, bounds.n) == (pytest.approx(-4.5), 3)
    assert bounds.least.half_width == pytest.approx(4.3027 * 0.05 / math.sqrt(3), rel=1e-3)
    assert bounds.place() == "-4.50 ± 0.12"
    assert optimum_bounds(OPTIMA[OPTIMA["seed"] == 0], TASK, MUP, 1024) is None
    assert widths(OPTIMA, TASK, MUP, 512) == [512, 1024, 2048, 4096]


def test_shifts_are_paired_by_seed() -> None:
    shift = shift_bounds(OPTIMA, TASK, STANDARD, 4096, 512)
    assert shift is not None
    assert shift.least.estimate == pytest.approx(-2.7)
    assert shift.high - shift.low == pytest.approx(0, abs=1e-9)  # the seeds' offsets cancel
    without = OPTIMA[~((OPTIMA["units"] == 512) & (OPTIMA["seed"] == 1))]
    assert shift_bounds(without, TASK, STANDARD, 4096, 512).n == 2  # type: ignore[union-attr]
    assert shift_bounds(OPTIMA[OPTIMA["units"] > 512], TASK, STANDARD, 4096, 512) is None


def test_a_censored_optimum_moves_its_interval_by_all_that_it_may_be() -> None:
    own = (OPTIMA["units"] == 4096) & (OPTIMA["algorithm"] == MUP)
    at_cliff = OPTIMA.assign(exponent=OPTIMA["exponent"].where(~own, -3.0), ceiling=OPTIMA["ceiling"].where(~own, -2.5))
    place, shift = optimum_bounds(at_cliff, TASK, MUP, 4096), shift_bounds(at_cliff, TASK, MUP, 4096, 64)
    assert place is not None
    assert shift is not None
    assert place.place() == "≥ -3.00 ± 0.00"
    assert (place.low, place.high) == (-3.0, -2.5)
    assert shift.move() == "+1.50 to +2.00 [+1.38, +2.12]"
    assert shift.size == pytest.approx(1.5)
    both = at_cliff.assign(units=at_cliff["units"].replace({4096: 4097}))
    both = pd.concat([both, both[own].assign(units=4096)])
    between = shift_bounds(both, TASK, MUP, 4097, 4096)
    assert between is not None
    assert between.move() == "-0.50 to +0.50 [-0.50, +0.50]"
    assert between.size == 0.0


def bounds(low: float, high: float, center: float | None = None) -> Bounds:
    estimate = (low + high) / 2 if center is None else center
    return Bounds(Interval(estimate, low, high, 3), Interval(estimate, low, high, 3))


@pytest.mark.parametrize(
    ("low", "high", "judged"),
    [(-0.2, 1.0, "stays"), (-1.0, 0.1, "stays"), (0.9, 1.1, "unclear"), (1.1, 2.0, "moves"), (-3.0, -1.1, "moves")],
)
def test_a_move_is_judged_by_its_interval(low: float, high: float, judged: str) -> None:
    assert bounds(low, high).judge(1.0) == judged


def test_one_move_refutes_and_staying_needs_something_to_mend() -> None:
    stays, unclear, moves = bounds(-0.1, 0.1), bounds(0.5, 1.5), bounds(-3.0, -2.0)
    assert judge_start({128: stays, 256: stays}, moves, 1.0) == "supported"
    assert judge_start({128: stays, 256: unclear}, moves, 1.0) == "inconclusive"
    assert judge_start({128: stays, 256: stays}, unclear, 1.0) == "inconclusive"
    assert judge_start({128: moves, 256: unclear}, stays, 1.0) == "not supported"


def test_losses_are_compared_as_ratios() -> None:
    ratio = loss_ratio(OPTIMA, TASK, MUP, 1024, 512)
    assert ratio is not None
    assert ratio.estimate == pytest.approx(0.5)
    infinite = OPTIMA.assign(loss=OPTIMA["loss"].where(OPTIMA["units"] != 512, math.inf))
    assert loss_ratio(infinite, TASK, MUP, 1024, 512) is None
