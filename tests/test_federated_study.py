"""The studies of federated averaging: who has which samples, who fails, what is counted, and which rate a run takes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from advanced_optimizers.experiments.data import load
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.figures.plots import trade_off
from advanced_optimizers.experiments.studies.claims.federated import MNIST_MEGABYTES
from advanced_optimizers.experiments.studies.federated import EPOCHS, FederatedStudy
from advanced_optimizers.experiments.studies.federated_runs import FederatedRun, clients_of, read_sets
from advanced_optimizers.experiments.studies.registry import get_study
from advanced_optimizers.experiments.studies.running import run_study
from advanced_optimizers.experiments.studies.tuning import best_trial
from advanced_optimizers.experiments.training.kinds import perform


def tiny(algorithm: str = "fed-avg", lr: float = 0.1, **fields: Any) -> FederatedRun:
    hyperparameters = {"lr": lr}
    run = FederatedRun(algorithm=algorithm, hyperparameters=hyperparameters, dataset="digits", clients=20, rounds=2)
    return replace(run, **fields)


def curves(run: FederatedRun) -> dict[str, list[float | None]]:
    return perform(run, torch.device("cpu")).curves


@pytest.mark.parametrize("division", ["iid", "shards", "dirichlet"])
def test_clients_share_all_training_samples_and_a_trial_is_measured_on_others(division: str) -> None:
    trial, digits = tiny(division=division, held_out=True), load("digits")
    assert (trial.split, tiny().split) == ("validation", "test")
    sets, whole = read_sets("digits", True), read_sets("digits", False)
    assert len(sets.train[0]) + len(sets.test[0]) == len(whole.train[0]) == len(digits.images)
    shared = torch.cat([client.data for client in clients_of(trial, sets.train)])  # type: ignore[misc]
    assert shared.sort().values.equal(torch.arange(len(sets.train[0])))
    assert torch.cat([sets.train[0], sets.test[0]]).sum() == pytest.approx(float(whole.train[0].sum()), abs=0.5)


def test_runs_repeat_bit_for_bit_and_begin_alike() -> None:
    first, second = (perform(tiny(drop_out=0.4), torch.device("cpu")) for _ in range(2))
    assert first.outcome() == second.outcome()
    one, longer = curves(tiny()), curves(tiny("fed-many", rounds=3))
    assert one["test_accuracy"] == longer["test_accuracy"][:2]


def test_bytes_and_clients_are_counted() -> None:
    everyone, lost = curves(tiny(fraction=0.5)), curves(tiny(fraction=0.5, drop_out=0.5))
    parameters = 64 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10
    assert everyone["megabytes"] == pytest.approx([20 * 4 * parameters / 1e6, 40 * 4 * parameters / 1e6])
    assert everyone["left_out"] == [0.0, 0.0]
    share = lost["left_out"][-1]
    assert share is not None
    assert 0 < share < 1
    assert lost["megabytes"][-1] == pytest.approx((2 - share) * 20 * 4 * parameters / 1e6)


def test_centralized_training_takes_as_many_steps_and_sends_the_data_once() -> None:
    central = curves(tiny("fed-central", method="central", rounds=3))
    assert central["megabytes"] == [load("digits").images.numel() / 1e6] * 3
    assert central["test_accuracy"][-1] > 0.5  # type: ignore[operator]
    alone = curves(tiny("fed-alone", method="alone"))
    assert alone["megabytes"] == [0.0, 0.0]


def test_nan_costs_a_client_and_a_rate_that_is_too_high_ends_the_run() -> None:
    spoiled = perform(tiny(corrupt=0.3, fraction=0.5), torch.device("cpu"))
    assert spoiled.status == "completed"
    assert spoiled.final["left_out"] > 0  # type: ignore[operator]
    for lr, points in ((1e6, 1), (8.0, 2)):
        found = perform(tiny(lr=lr, division="shards", rounds=9), torch.device("cpu"))
        assert found.status == "diverged"
        assert len(found.curves["test_accuracy"]) == points


def test_the_megabytes_of_the_claim_are_those_of_the_data() -> None:
    assert pytest.approx(60_000 * 28 * 28 / 1e6) == MNIST_MEGABYTES


def test_what_is_disturbed_takes_fedavgs_rate_and_trials_are_short(tmp_path: Path) -> None:
    full = get_study("federated", "full")
    assert isinstance(full, FederatedStudy)
    trials = full.tuning_configs()
    assert {trial.algorithm for trial in trials} == {"fed-avg", "fed-sgd", "fed-central", "fed-uniform"}
    assert {(trial.points, trial.seed) for trial in trials} == {(5, 100), (2, 100)}
    quick = get_study("federated", "quick")
    assert isinstance(quick, FederatedStudy)
    names = ("fed-avg", "fed-half-lost", "fed-central")
    points = {"fed-avg": ({"lr": 1e-4}, {"lr": 0.1}), "fed-central": ({"lr": 0.01},)}
    own = replace(quick, tasks=quick.tasks[:1], algorithms=names, seeds=(0,), points=points)
    store = RunStore(tmp_path / "results" / "runs")
    assert run_study(own, store, progress=False).trained == 2 + 3
    tuned = [record for trial in own.tuning_configs() if (record := store.load(trial)) is not None]
    best = best_trial(tuned).config.hyperparameters
    assert [run.hyperparameters for run in own.final_configs(store)] == [best, best, {"lr": 0.01}]


def test_local_epochs_are_as_much_work_and_as_many_rounds() -> None:
    full = get_study("federated-rounds", "full")
    assert isinstance(full, FederatedStudy)
    runs = {name: full.tasks[1].config(name, 0) for name in full.algorithms}
    work = {name: run.rounds * run.epochs for name, run in runs.items() if isinstance(run, FederatedRun)}
    assert work["fed-avg"] == work["fed-epochs"] == work["fed-prox-0.1"] == EPOCHS * work["fed-few"]
    assert {run.points for name, run in runs.items() if name != "fed-avg"} == {4}


def test_accuracy_against_a_quantity_has_its_value_and_its_mark() -> None:
    frame = pd.DataFrame(
        {
            "task": "mnist-iid-clients",
            "algorithm": "fed-avg",
            "label_noise": 0.0,
            "run_id": [f"r{seed}" for seed in (0, 1) for _ in range(3)],
            "seed": [seed for seed in (0, 1) for _ in range(3)],
            "epoch": [1, 2, 3] * 2,
            "megabytes": [10.0, 20.0, 30.0] * 2,
            "test_accuracy": [0.1, 0.2, 0.4, 0.3, 0.4, 0.6],
        }
    )
    figure = trade_off(frame, "megabytes", "test_accuracy", labels=labels(), log=True, marked=25.0)
    axis: Axes = figure.axes[0]
    line, mark = axis.get_lines()
    x, y = line.get_data()
    assert list(x) == [10, 20, 30]
    assert list(y) == pytest.approx([20, 30, 50])
    assert list(mark.get_xdata()) == [25.0, 25.0]
    assert axis.get_xscale() == "log"
    with pytest.raises(ValueError, match="megabytes"):
        trade_off(frame.assign(megabytes=math.nan), "megabytes", "test_accuracy", labels=labels())
