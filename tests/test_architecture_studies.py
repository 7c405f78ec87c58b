"""The studies of architecture search: what their runs measure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import kendalltau, spearmanr

from advanced_optimizers.automl.architecture_search import CellNetwork, Genotype, SearchNetwork, Shape, edges_of
from advanced_optimizers.experiments.records.config import config_from
from advanced_optimizers.experiments.studies import registry
from advanced_optimizers.experiments.studies.architecture_runs import FULL
from advanced_optimizers.experiments.studies.architecture_search import (
    CellSearch,
    nearest_in_size,
    parameters,
    random_cell,
    weight_importance,
)
from advanced_optimizers.experiments.studies.architecture_table import TableSearch
from advanced_optimizers.experiments.studies.architecture_weights import kendall_tau
from advanced_optimizers.experiments.training.kinds import perform

TINY: dict[str, Any] = {
    "dataset": "digits",
    "images": 64,
    "test_images": 50,
    "batch_size": 16,
    "channels": 2,
    "search_epochs": 2,
    "epochs": 1,
    "cells": 3,
    "repeats": 1,
    "rounds": ((3, 1),),
}
NETWORK = Shape(1, 10, 4, 3)


def outcome(config: Any) -> dict[str, Any]:
    return perform(config, torch.device("cpu")).outcome()["curves"]


@pytest.mark.parametrize("algorithm", ["table-random", "table-evolution", "table-reinforce", "table-tpe"])
def test_regret_falls_and_budgets_freeze_it(algorithm: str) -> None:
    config = TableSearch(algorithm=algorithm, queries=60, repeats=2)
    curves = outcome(config)
    assert len(curves["regret"]) == config.points == 6
    assert 0 <= curves["regret"][-1] <= curves["regret"][0] + 0.02
    assert set(curves["regret_10"]) == {curves["regret"][0]}
    assert (curves["regret_50"][-1], "regret_100" in curves) == (curves["regret"][4], False)
    assert curves == outcome(config)
    assert curves != outcome(TableSearch(algorithm=algorithm, seed=1, queries=60, repeats=2))


def test_random_search_must_not_need_more_epochs_than_training_has() -> None:
    with pytest.raises(ValueError, match=r"rounds must have no more epochs than training, 1, .* with 2"):
        CellSearch(algorithm="random-search", **{**TINY, "rounds": ((2, 1), (1, 1))})


@pytest.mark.parametrize("algorithm", ["darts-first", "random-search", "all-skip"])
def test_a_search_of_cells_measures_what_it_says(algorithm: str) -> None:
    config = CellSearch(algorithm=algorithm, **TINY)
    assert config_from(config.content) == config
    curves = outcome(config)
    assert algorithm == "darts-first" or curves == outcome(config)
    assert len(curves["test_accuracy"]) == (2 if algorithm == "darts-first" else 1)
    assert curves["test_accuracy"][-1] is not None
    assert "search_seconds" not in curves
    if algorithm == "darts-first":
        assert curves["test_accuracy"][0] is None
        gap = curves["mixture_accuracy"][-1] - curves["discrete_accuracy"][-1]
        assert curves["discretization_gap"][-1] == pytest.approx(gap)


def test_what_was_counted_before_changes_no_run() -> None:
    cell = random_cell()
    before = torch.random.get_rng_state()
    parameters(cell, Shape(2, 9, 3, 1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_halves_of_a_search_share_no_image() -> None:
    parts = CellSearch(algorithm="darts-first", **TINY).parts()
    halves = [{bytes(image.numpy()) for image in half._images} for half in (parts.weights, parts.architecture)]
    assert not halves[0] & halves[1]
    assert sum(map(len, halves)) == 64


def test_parameters_are_those_of_the_network() -> None:
    for _ in range(3):
        cell = random_cell()
        assert parameters(cell, NETWORK) == sum(p.numel() for p in CellNetwork(cell, NETWORK).parameters())


def test_cells_of_equal_size_are_near_and_others() -> None:
    cell = Genotype(edges_of(3), ("conv_3x3", "none", "conv_5x5", "conv_1x1", "identity", "conv_3x3"))
    size, near = parameters(cell, NETWORK), nearest_in_size(cell, NETWORK, 3)
    assert cell not in near
    assert len(set(near)) == 3
    assert all(abs(parameters(other, NETWORK) - size) < 0.1 * size for other in near)


def test_kendalls_tau_and_the_ranks() -> None:
    first, second = torch.rand(8).tolist(), torch.rand(8).tolist()
    assert kendall_tau(first, second) == pytest.approx(kendalltau(first, second).statistic)
    assert kendall_tau([1.0, 1.0], [1.0, 2.0]) == 0.0


def test_importance_is_the_rank_correlation_with_the_loss_without(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = CellSearch(algorithm="darts-first", **TINY).parts()
    images, labels, _ = batch = next(iter(parts.architecture))
    model = SearchNetwork(Shape(1, 10, 2, 1), num_nodes=1, operations=("identity", "conv_3x3", "avg_pool_3x3"))
    model.alpha.data.normal_()
    rises = []
    for o in range(3):
        alpha = model.alpha.detach().clone()
        alpha[0, o] = -torch.inf
        rises.append(float(torch.nn.functional.cross_entropy(model(images, alpha.softmax(1)), labels).detach()))
    found = weight_importance(model, parts._replace(architecture=[batch]))  # type: ignore[arg-type]
    assert found == pytest.approx(spearmanr(model.weights.detach()[0], rises).statistic)


def test_the_full_study_costs_random_search_what_it_says() -> None:
    study = registry.get_study("architecture-search", "full")
    configs = study.configs(None)  # type: ignore[arg-type]
    assert len(configs) == 5 * len(study.algorithms)
    (random,) = {config.rounds for config in configs if config.algorithm == "random-search"}  # type: ignore[attr-defined]
    assert sum(count * epochs for count, epochs in random) == 22
    assert sum(epochs for _, epochs in random) == CellSearch(algorithm="random-search", **FULL).epochs
