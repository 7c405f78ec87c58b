"""FER at its sources' values: what its change of a gradient is, and whose hyperparameters a row takes over."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from advanced_optimizers import FEROptimizer
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.fer_stated import change
from advanced_optimizers.experiments.studies.registry import get_study
from tests.experiments_helpers import make_record
from tests.learner_helpers import make_learner


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_change_follows_from_the_cosine_alone(weight: float, seed: int):
    generator = torch.Generator().manual_seed(seed)
    p = nn.Parameter(torch.zeros(7, dtype=torch.float64))
    optimizer = FEROptimizer([p], torch.optim.SGD, {"lr": 1.0}, fer_weight=weight, consistency_threshold=0.9)
    for _ in range(2):  # the second step has a memory to compare with
        before = p.detach().clone()
        g = torch.randn(7, generator=generator, dtype=torch.float64)
        p.grad = g.clone()
        optimizer.step()
    corrected = before - p.detach()
    (cosine,) = optimizer.tensor_cosines
    found = change(cosine, weight, 0.9)
    assert found.kept_cosine == pytest.approx(torch.cosine_similarity(g, corrected, dim=0).item(), abs=1e-9)
    assert found.length_ratio == pytest.approx((corrected.norm() / g.norm()).item(), rel=1e-9)
    assert found.corrected == 1.0


def test_a_consistent_gradient_is_kept():
    assert change(0.95, 0.5, 0.9) == (1.0, 1.0, 0.0)


def test_an_opposed_gradient_can_vanish():
    assert change(-1.0, 1.0, 0.9).length_ratio == 0.0
    assert math.isnan(change(-1.0, 1.0, 0.9).kept_cosine)


@pytest.mark.parametrize("name", ["fer-adam-stated", "fer-adam-same-rate", "fer-adam-full"])
def test_the_learner_reports_the_change_of_an_epoch(name: str):
    learner = make_learner(name)
    curves = learner.end_epoch()
    assert {"kept_cosine", "length_ratio", "corrected"} <= curves.keys()
    assert {group["consistency_threshold"] for group in learner.optimizer.param_groups} == {0.9}
    assert {group["memory_size"] for group in learner.optimizer.param_groups} == {1000}


def test_a_row_takes_over_the_hyperparameters_of_another(store: RunStore):
    study = get_study("fer-stated", "quick")
    trials = study.tuning_configs()
    assert "fer-adam-same-rate" not in {config.algorithm for config in trials}
    for number, config in enumerate(trials):
        sign = -1 if config.algorithm == "adam" else 1  # the first of its trials is the best, of the others the last
        store.save(make_record(config, test_accuracy=0.5 + sign * number / 100))
    rates = {(config.task, config.algorithm): config.hyperparameters["lr"] for config in study.final_configs(store)}
    tasks = {task for task, _ in rates}
    assert tasks
    for task in tasks:
        assert rates[task, "fer-adam-same-rate"] == rates[task, "adam"]
        assert rates[task, "fer-adam-same-rate"] != rates[task, "fer-adam-stated"]
