"""Searches for hyperparameters: the order and length of their trials, and what they would choose."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest
import torch

from advanced_optimizers.experiments.records.config import Hyperparameters, RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies.hyperparameter_search import SPACE, HyperparameterSearch, incumbent
from advanced_optimizers.experiments.studies.search_strategies import STRATEGIES
from advanced_optimizers.experiments.training.kinds import perform


def quality(point: Hyperparameters) -> float:
    return 1.0 - abs(float(point["weight_decay"]) - 1e-3)


def trial(point: Hyperparameters, epochs: int, status: str = "completed") -> RunRecord:
    config = RunConfig(
        dataset="digits", model="mlp", algorithm="sgd", hyperparameters=point, epochs=epochs, split="validation"
    )
    final = {"test_accuracy": quality(point), "test_loss": 0.0}
    return RunRecord(
        config=config, status=status, environment={}, curves={}, final=final, total_seconds=0.0, peak_memory_bytes=0
    )


def searched(name: str, trials: int, seed: int = 0) -> list[RunRecord]:
    return list(islice(STRATEGIES[name](SPACE, trial, random.Random(seed)), trials))


def epochs(trials: list[RunRecord]) -> list[int]:
    return [record.config.content["epochs"] for record in trials]


@pytest.mark.parametrize("name", STRATEGIES)
def test_points_lie_in_the_space_and_repeat_by_seed(name: str) -> None:
    found = [record.config.hyperparameters for record in searched(name, 12)]
    assert all(own.low <= point[key] <= own.high for point in found for key, own in SPACE.items())
    assert found == [record.config.hyperparameters for record in searched(name, 12)]
    assert found != [record.config.hyperparameters for record in searched(name, 12, seed=1)]


@pytest.mark.parametrize("name", ["search-random", "search-spread", "search-tpe"])
def test_whole_trials_are_of_different_points(name: str) -> None:
    found = searched(name, 9)
    assert epochs(found) == [9] * 9
    assert len({record.run_id for record in found}) == 9


def test_tpe_learns_from_what_it_is_told() -> None:
    tpe, drawn = (
        sum(quality(record.config.hyperparameters) for record in searched(name, 40)[20:])
        for name in ("search-tpe", "search-random")
    )
    assert tpe > drawn + 0.1


def test_halving_keeps_the_best_third_of_each_rung() -> None:
    found = searched("search-halving", 26)
    assert epochs(found) == 2 * ([1] * 9 + [3] * 3 + [9])
    first, second, (last,) = found[:9], found[9:12], found[12:13]
    best = sorted((quality(record.config.hyperparameters) for record in first), reverse=True)
    assert [quality(record.config.hyperparameters) for record in (*second, last)] == [*best[:3], best[0]]


def test_asynchronous_halving_promotes_each_trial_once_and_only_from_the_best_third() -> None:
    found = searched("search-asynchronous", 60)
    assert all(number == 1 for number in Counter(record.run_id for record in found).values())
    for position, record in enumerate(found):
        length = record.config.content["epochs"]
        if length > 1:
            below = [r for r in found[:position] if r.config.content["epochs"] == length // 3]
            scores = sorted((quality(r.config.hyperparameters) for r in below), reverse=True)
            assert quality(record.config.hyperparameters) >= scores[len(below) // 3 - 1]
    assert epochs(found).count(9) >= 3


def test_what_is_chosen_is_the_best_of_the_longest_that_did_not_diverge() -> None:
    near, far = ({"lr": 0.1, "momentum_gap": 0.1, "weight_decay": decay} for decay in (1e-3, 1e-1))
    trials = [trial(near, 1), trial(far, 3)]
    assert incumbent(trials) is trials[1]
    assert incumbent([*trials, trial(near, 9, "diverged")]) is trials[1]
    assert incumbent([trial(near, 1, "diverged")]) is None


def test_a_run_spends_its_budget_and_no_more() -> None:
    record = perform(HyperparameterSearch(algorithm="search-asynchronous", budget=18), torch.device("cpu"))
    assert len(record.curves["best_so_far"]) == 2
    assert record.final["trials"] <= 18
    assert record.curves["trials"][0] < record.final["trials"]
    assert record.final["test_accuracy"] > 0.5
