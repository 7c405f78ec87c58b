"""The arithmetic of optima: parabolas, edges, diverged runs, and what is paired with what."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.optima import (
    find_optima,
    find_optimum,
    find_transfer,
    loss_ratio,
    optimum_interval,
    shift_interval,
    sweep_points,
    widths,
)
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.studies.zero_shot_transfer import BASE_UNITS, FROM_UNITS, MUP, STANDARD
from tests.synthetic_sweeps import make_records

TASK = "cifar10-jpeg-mlp3"
POINTS = sweep_points(records_frame(make_records()), BASE_UNITS)
OPTIMA = find_optima(POINTS)


def parabola(best: float, exponents: range) -> dict[int, float]:
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


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_next_to_a_diverged_run_the_optimum_is_the_grid_point(loss: float) -> None:
    optimum = find_optimum({-6: 0.5, -5: 0.2, -4: loss, -3: loss})
    assert optimum == (-5.0, 0.2, True)


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


def test_intervals_are_over_the_seeds() -> None:
    interval = optimum_interval(OPTIMA, TASK, MUP, 1024)
    assert interval is not None
    assert (interval.estimate, interval.n) == (pytest.approx(-4.5), 3)
    assert interval.half_width == pytest.approx(4.3027 * 0.05 / math.sqrt(3), rel=1e-3)
    assert optimum_interval(OPTIMA[OPTIMA["seed"] == 0], TASK, MUP, 1024) is None
    assert widths(OPTIMA, TASK, MUP, 512) == [512, 1024, 2048, 4096]


def test_shifts_are_paired_by_seed() -> None:
    shift = shift_interval(OPTIMA, TASK, STANDARD, 4096, FROM_UNITS)
    assert shift is not None
    assert shift.estimate == pytest.approx(-2.7)
    assert shift.half_width == pytest.approx(0, abs=1e-9)  # the seeds' offsets cancel
    without = OPTIMA[~((OPTIMA["units"] == 512) & (OPTIMA["seed"] == 1))]
    assert shift_interval(without, TASK, STANDARD, 4096, FROM_UNITS).n == 2  # type: ignore[union-attr]
    assert shift_interval(OPTIMA[OPTIMA["units"] > 512], TASK, STANDARD, 4096, FROM_UNITS) is None


def test_losses_are_compared_as_ratios() -> None:
    ratio = loss_ratio(OPTIMA, TASK, MUP, 1024, 512)
    assert ratio is not None
    assert ratio.estimate == pytest.approx(0.5)
    infinite = OPTIMA.assign(loss=OPTIMA["loss"].where(OPTIMA["units"] != 512, math.inf))
    assert loss_ratio(infinite, TASK, MUP, 1024, 512) is None


def test_the_cheapest_transfer_is_from_the_smallest_width_that_has_the_rate() -> None:
    transfer = find_transfer(POINTS, TASK, MUP)
    assert transfer is not None
    assert (transfer.units, transfer.target) == (64, 4096)
    assert transfer.exponent == transfer.direct
    assert transfer.loss == transfer.direct_loss
    narrow, wide = 8 * 1.0, 8 * 64**1.5  # epochs times seconds
    assert transfer.pairs == [(pytest.approx(4 * narrow + wide), pytest.approx(4 * wide))] * 3


def test_no_transfer_where_the_optimum_moves_or_there_is_one_width() -> None:
    moved = find_transfer(POINTS, TASK, STANDARD)
    assert moved is not None
    assert moved.units == 2048  # in the standard parametrization, the next width's optimum is one octave away
    assert find_transfer(POINTS[POINTS["units"] != 2048], TASK, STANDARD) is None
    assert find_transfer(POINTS[POINTS["units"] == 64], TASK, MUP) is None
