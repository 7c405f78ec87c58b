"""Tuning: the same even spread of trials for every algorithm, and the choice among them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies.tuning import best_trial, sample_hyperparameters
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Range
from tests.experiments_helpers import make_config, make_record

# One algorithm for each set of ranges.
_BY_RANGES = {str(row.search_space): name for name, row in reversed(ALGORITHMS.items()) if row.search_space}
every_space = pytest.mark.parametrize("algorithm", list(_BY_RANGES.values())[::-1])


def points_of(algorithm: str, trials: int, seed: int = 0) -> list[Hyperparameters]:
    return sample_hyperparameters(ALGORITHMS[algorithm].search_space, trials, seed)


def share_of(space: Range, value: float) -> float:
    """Where in its range a value lies, from 0 to 1."""
    scale = math.log if space.log else float
    return (scale(value) - scale(space.low)) / (scale(space.high) - scale(space.low))


# --- The points ------------------------------------------------------------------------------------------------------


def test_the_points_are_pinned() -> None:
    # A study finds its recorded trials by their points: if this fails, a library has changed its sequence.
    assert points_of("sgd", 3) == [{"lr": 0.461}, {"lr": 0.02401}, {"lr": 0.09308}]
    assert points_of("fer-adam", 2) == [
        {"fer_weight": 0.7861, "lr": 0.01153, "memory_size": 51},
        {"fer_weight": 0.1243, "lr": 0.0006113, "memory_size": 600},
    ]


@every_space
def test_the_same_seed_gives_the_same_points(algorithm: str) -> None:
    assert points_of(algorithm, 8) == points_of(algorithm, 8)
    assert points_of(algorithm, 8, seed=1) != points_of(algorithm, 8)


@every_space
def test_a_larger_budget_keeps_the_points_of_a_smaller_one(algorithm: str) -> None:
    assert points_of(algorithm, 16)[:5] == points_of(algorithm, 5)


@every_space
def test_every_point_gives_every_hyperparameter_inside_its_range(algorithm: str) -> None:
    search_space = ALGORITHMS[algorithm].search_space
    points = points_of(algorithm, 64)
    assert len(points) == 64
    for point in points:
        assert set(point) == set(search_space)
        for name, value in point.items():
            assert isinstance(value, int if search_space[name].integer else float), name
            assert search_space[name].low <= value <= search_space[name].high


@every_space
@pytest.mark.parametrize("seed", [0, 1])
def test_the_points_cover_every_range_evenly(algorithm: str, seed: int) -> None:
    points = points_of(algorithm, 16, seed)
    for name, space in ALGORITHMS[algorithm].search_space.items():
        shares = [share_of(space, float(point[name])) for point in points]
        assert 16 / 3 <= sum(share < 0.5 for share in shares) <= 32 / 3, name
        quarters = [sum(quarter <= 4 * share < quarter + 1 for share in shares) for quarter in range(4)]
        assert min(quarters) >= 2, name


@every_space
def test_no_two_points_are_the_same(algorithm: str) -> None:
    points = points_of(algorithm, 12)
    assert len({tuple(point.items()) for point in points}) == 12
    assert len({point[ALGORITHMS[algorithm].rate] for point in points}) == 12


def test_every_algorithm_has_the_same_number_of_points() -> None:
    assert {len(points_of(algorithm, 12)) for algorithm in ALGORITHMS} == {12}


def test_points_have_four_significant_digits() -> None:
    for point in points_of("fer-sgd", 16):
        assert all(value == float(f"{value:.4g}") for value in point.values())


@pytest.mark.parametrize("space", [Range(low=1, high=2), Range(low=1, high=1000, log=True, integer=True)])
def test_any_kind_of_range_is_sampled(space: Range) -> None:
    shares = [share_of(space, float(point["x"])) for point in sample_hyperparameters({"x": space}, 16)]
    assert 16 / 3 <= sum(share < 0.5 for share in shares) <= 32 / 3


@pytest.mark.parametrize(("trials", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_bad_budget_is_named(trials: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="trials"):
        points_of("sgd", trials)


# --- The choice ------------------------------------------------------------------------------------------------------


def trial(number: int, status: str = "completed", **final: float | None) -> RunRecord:
    return make_record(make_config(seed=number), status, **final)


def test_the_highest_accuracy_wins() -> None:
    trials = [trial(0, test_accuracy=0.5, test_loss=0.1), trial(1, test_accuracy=0.6, test_loss=9.0)]
    assert best_trial(trials) is trials[1]
    assert best_trial(trials[::-1]) is trials[1]


@pytest.mark.parametrize("worse", [0.25, math.inf, None])
def test_of_equal_accuracies_the_lowest_loss_wins(worse: float | None) -> None:
    trials = [trial(0, test_loss=worse), trial(1, test_loss=0.2), trial(2, test_loss=0.3)]
    assert best_trial(trials) is trials[1]
    assert best_trial(trials[::-1]) is trials[1]


def test_a_loss_of_zero_is_the_lowest() -> None:
    trials = [trial(0, test_loss=0.1), trial(1, test_loss=0.0)]
    assert best_trial(trials) is trials[1]


def test_the_last_epoch_counts_and_not_the_best() -> None:
    late, early = trial(0, test_accuracy=0.8), trial(1, test_accuracy=0.7)
    early = replace(early, curves={**early.curves, "test_accuracy": [0.99, 0.7]})
    assert best_trial([early, late]) is late


def test_diverged_trials_are_left_out() -> None:
    trials = [trial(0, "diverged", test_accuracy=0.99), trial(1, test_accuracy=0.1)]
    assert best_trial(trials) is trials[1]


@pytest.mark.parametrize("count", [1, 3])
def test_there_is_no_best_of_diverged_trials(count: int) -> None:
    with pytest.raises(ValueError, match=f"all {count} trials diverged.*smaller learning rates"):
        best_trial([trial(number, "diverged") for number in range(count)])


def test_there_is_no_best_of_no_trials() -> None:
    with pytest.raises(ValueError, match="trials"):
        best_trial([])
