"""What a transferred learning rate costs and loses: the arithmetic, on made-up sweeps."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.optima import sweep_points
from advanced_optimizers.experiments.evidence.statistics import Interval
from advanced_optimizers.experiments.evidence.transfers import (
    Transfer,
    find_transfer,
    geometric_mean,
    judge_ratio,
)
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.studies.claims.zero_shot_transfer import BASE_UNITS, MUP, STANDARD
from tests.synthetic_sweeps import make_records

TASK = "cifar10-jpeg-mlp3"
POINTS = sweep_points(records_frame(make_records()), BASE_UNITS)
WIDEST = (POINTS["task"] == TASK) & (POINTS["algorithm"] == MUP) & (POINTS["units"] == 4096)


def found(points: pd.DataFrame, units: int = 64, algorithm: str = MUP) -> Transfer:
    transfer = find_transfer(points, TASK, algorithm, units)
    assert transfer is not None
    return transfer


def test_a_rate_that_stays_costs_one_wide_run_and_loses_nothing() -> None:
    transfer = found(POINTS)
    assert (transfer.units, transfer.target, transfer.rates) == (64, 4096, 7)
    narrow, wide = 8 * 1.0, 8 * 64**1.5  # epochs times seconds
    assert transfer.seconds == [(pytest.approx(7 * narrow + wide), pytest.approx(7 * wide))] * 3
    assert transfer.time_ratio.estimate == pytest.approx(1 / 7 + 64**-1.5)
    assert transfer.loss_ratio == Interval(1.0, 1.0, 1.0, 3)
    assert transfer.judge_loss(1.1) == "within"


def test_each_seed_uses_the_rate_that_is_best_at_the_narrow_width_in_that_seed() -> None:
    assert found(POINTS).exponents == [-5.0, -5.0, -4.0]
    worse = POINTS.assign(loss=POINTS["loss"].where(~(WIDEST & (POINTS["exponent"] == -5.0)), POINTS["loss"] * 2))
    ratios = [at_rate / lowest for at_rate, lowest in found(worse).losses]
    assert ratios[2] == 1.0
    assert all(1.5 < ratio <= 2.0 for ratio in ratios[:2])


def test_the_other_parametrization_loses_what_its_optimum_moves() -> None:
    assert find_transfer(POINTS, TASK, STANDARD, 64) is None  # its rate was not tried at 4096 units
    transfer = found(POINTS, 2048, STANDARD)
    assert transfer.loss_ratio is not None
    assert transfer.loss_ratio.estimate > 1


def test_half_octaves_are_left_out_on_both_sides() -> None:
    finer = POINTS[WIDEST].assign(exponent=POINTS["exponent"] + 0.5, loss=POINTS["loss"] / 100, seconds=1e9)
    assert found(pd.concat([POINTS, finer])) == found(POINTS)


def test_a_transferred_run_that_diverges_is_beyond_every_factor() -> None:
    cut = WIDEST & (POINTS["exponent"] == -5.0) & (POINTS["seed"] == 0)
    transfer = found(POINTS.assign(loss=POINTS["loss"].where(~cut, math.inf)))
    assert (transfer.diverged, transfer.loss_ratio) == (1, None)
    assert transfer.loss_words == "diverged (1 of 3)"
    assert transfer.judge_loss(1e9) == "beyond"


def test_there_is_no_transfer_without_runs_or_from_the_widest() -> None:
    assert find_transfer(POINTS, TASK, MUP, 4096) is None
    assert find_transfer(POINTS[POINTS["seed"] == 0], TASK, MUP, 64) is None
    assert find_transfer(POINTS.iloc[:0], TASK, MUP, 64) is None


@pytest.mark.parametrize(("low", "high", "side"), [(0.9, 1.1, "within"), (1.0, 1.2, "unclear"), (1.11, 1.2, "beyond")])
def test_a_ratio_is_judged_by_its_interval(low: float, high: float, side: str) -> None:
    assert judge_ratio(Interval(1.0, low, high, 3), 1.1) == side


def test_the_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert math.isinf(geometric_mean([1.0, math.inf]))
