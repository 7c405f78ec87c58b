"""Tasks in a sequence, the runs that learn them, the controls, and the figures of continual learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from advanced_optimizers.experiments.data.task_sequences import stages_of
from advanced_optimizers.experiments.evidence.comparisons import RunData
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.figures import plots
from advanced_optimizers.experiments.studies import continual_runs
from advanced_optimizers.experiments.studies.claims.continual import PARAMETERS, PERMUTED
from advanced_optimizers.experiments.studies.continual import TRIAL_SEED, ContinualStudy
from advanced_optimizers.experiments.studies.continual_runs import (
    ARMS,
    ContinualRun,
    Sequence,
    StrengthRun,
    importance_of,
)
from advanced_optimizers.experiments.studies.learning_runs import batch_mean_fisher, flattened, network, shuffled
from advanced_optimizers.experiments.studies.progressive_runs import METHODS, TransferRun, columns_size, width_of
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from advanced_optimizers.experiments.studies.running import run_study
from advanced_optimizers.experiments.training.kinds import perform


def tiny(algorithm: str = "continual-finetuning", **fields: object) -> ContinualRun:
    run = ContinualRun(
        algorithm=algorithm, dataset="digits", images=200, epochs=2, batch_size=32, hidden=8, shrink=1, fisher_images=20
    )
    return replace(run, **fields)  # type: ignore[arg-type]


# ---- tasks ----------------------------------------------------------------------------------------------------------


def test_permuted_tasks_are_the_same_images_with_moved_pixels() -> None:
    first, second, third = tiny().stages
    assert not first.inputs.equal(second.inputs)
    assert not second.inputs.equal(third.inputs)
    for other in (second, third):
        assert first.inputs.sort(dim=1).values.equal(other.inputs.sort(dim=1).values)
        assert first.labels.equal(other.labels)
        columns = (first.inputs.T[:, None] == other.inputs.T).all(dim=2)
        tested = (first.test_inputs.T[:, None] == other.test_inputs.T).all(dim=2)
        assert bool((columns & tested).any(dim=1).all())  # one order for all images


def test_split_tasks_are_pairs_of_classes_in_three_forms() -> None:
    known, shared, every = (
        stages_of("digits", f"split-{form}", 5, 400, 1, False, 3) for form in ("task", "domain", "class")
    )
    assert sum(len(stage.labels) for stage in known) == 400
    assert torch.cat([stage.classes for stage in known]).sort().values.tolist() == list(range(10))
    for one, two, three in zip(known, shared, every, strict=True):
        assert one.inputs.equal(two.inputs)
        assert one.labels.equal(two.labels)
        assert three.labels.equal(one.classes[one.labels])
        assert (one.outputs, two.outputs, three.outputs) == (10, 2, 10)
        assert (len(one.classes), len(two.classes), len(three.classes)) == (2, 2, 10)


def test_trials_are_measured_on_training_images_that_are_held_out() -> None:
    trained = {tuple(row) for row in tiny(held_out=True).stages[0].inputs.tolist()}
    measured = tiny(held_out=True).stages[0].test_inputs.tolist()
    assert tiny(held_out=True).split == "validation"
    assert len(measured) > 1000
    assert sum(tuple(row) in trained for row in measured) <= 2  # the digits hold an image twice


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_runs_repeat_whatever_ran_before() -> None:
    device = torch.device("cpu")
    for algorithm in ("continual-ewc-sampled", "continual-shuffled", "continual-replay-200", "continual-joint"):
        run = tiny(algorithm, hyperparameters={"lambda": 10.0})
        continual_runs._first_task.cache_clear()
        alone = perform(run, device).final
        perform(tiny("continual-ewc", hyperparameters={"lambda": 1.0}), device)
        again = perform(run, device).final
        timed = ("learning_seconds", "seconds", "cpu_seconds")
        assert all(alone[name] == again[name] or alone[name] != alone[name] for name in alone if name not in timed)


@pytest.mark.parametrize("algorithm", ["continual-ewc", "continual-ewc-online", "continual-l2"])
def test_a_strength_of_zero_is_fine_tuning(algorithm: str) -> None:
    plain, penalized = Sequence(tiny(), 0.0), Sequence(tiny(algorithm), 0.0)
    rows = [list(sequence.measured()) for sequence in (plain, penalized)]
    assert all(p.equal(q) for p, q in zip(plain.model.parameters(), penalized.model.parameters(), strict=True))
    assert [row["task1_accuracy"] for row in rows[0]] == [row["task1_accuracy"] for row in rows[1]]
    assert len(penalized.ewc.tasks) == (1 if ARMS[algorithm].online else 2)


def test_what_is_lost_is_against_what_had_been_learned() -> None:
    *_, first, _, second, _, third = Sequence(tiny(), 0.0).measured()
    lost = [first["task1_accuracy"] - third["task1_accuracy"], second["task2_accuracy"] - third["task2_accuracy"]]
    assert third["first_forgotten"] == pytest.approx(lost[0])
    assert third["forgetting"] == pytest.approx(sum(lost) / 2)
    assert third["learned"] == pytest.approx(
        (first["task1_accuracy"] + second["task2_accuracy"] + third["task3_accuracy"]) / 3
    )
    assert third["worst_task"] == min(third[f"task{number}_accuracy"] for number in (1, 2, 3))
    assert first["forgetting"] == 0.0


def test_controls_change_where_the_importance_is_and_not_how_much(rng: torch.Generator) -> None:
    run, model = tiny(fisher_images=200), network(64, 8, 10)
    fisher, _ = importance_of(model, run.stages[0], "empirical", run)
    flat, mixed = flattened(fisher, rng), shuffled(fisher, rng)
    total = sum(float(f.sum()) for f in fisher.values())
    assert sum(float(f.sum()) for f in flat.values()) == pytest.approx(total, rel=1e-4)
    for name, f in fisher.items():
        assert len(flat[name].unique()) == 1
        assert mixed[name].flatten().sort().values.equal(f.flatten().sort().values)
        assert not mixed[name].equal(f)
    wrong = sum(float(f.sum()) for f in batch_mean_fisher(model, run.stages[0], 200).values())
    assert wrong < total / 5  # two batches of 100


def test_a_run_has_the_strength_that_did_best_in_its_trial(tmp_path: Path) -> None:
    quick = get_study("continual", "quick")
    assert isinstance(quick, ContinualStudy)
    names = ("continual-finetuning", "continual-ewc")
    task = replace(quick.tasks[0], config=lambda algorithm, seed: tiny(algorithm, seed=seed))
    own = replace(quick, tasks=(task,), algorithms=names, seeds=(0,), tuned=True)
    store = RunStore(tmp_path / "results" / "runs")
    assert run_study(own, store, progress=False).trained == 1 + 2
    trial = own.trial(task, "continual-ewc")
    assert (type(trial), trial.split, trial.seed, trial.tasks) == (StrengthRun, "validation", TRIAL_SEED, 2)
    record = store.load(trial)
    assert record is not None
    accuracies = record.curves["test_accuracy"]
    best = 10.0 ** (1 + accuracies.index(max(accuracies, key=lambda value: value or 0.0)))
    plain, penalized = own.final_configs(store)
    assert (plain.hyperparameters, penalized.hyperparameters) == ({}, {"lambda": best})


def test_only_columns_leave_what_is_old_as_it_is() -> None:
    found = {}
    for algorithm in METHODS:
        run = TransferRun(algorithm=algorithm, dataset="digits", images=200, epochs=1, steps=5, hidden=8)
        (found[algorithm],) = run.measure("cpu")
    assert found["transfer-progressive"]["old_changed"] == found["transfer-progressive"]["old_lost"] == 0.0
    assert all(found[f"transfer-{name}"]["old_changed"] > 0.9 for name in ("finetuning", "ewc", "wide"))
    size = columns_size(64, 8)
    assert found["transfer-progressive"]["total_parameters"] == found["transfer-random"]["total_parameters"] == size
    assert found["transfer-wide"]["total_parameters"] == pytest.approx(size, rel=0.02)
    assert columns_size(784, 64) == PARAMETERS
    assert width_of(784, PARAMETERS) == 290


# ---- what is claimed, and what is drawn -----------------------------------------------------------------------------


def frame(task: str = PERMUTED, **means: float) -> pd.DataFrame:
    """Five runs per algorithm with about this accuracy."""
    rows = [
        {
            "task": task,
            "algorithm": name.replace("_", "-"),
            "label_noise": 0.0,
            "split": "test",
            "seed": seed,
            "status": "completed",
            "run_id": f"{task}{name}{seed}",
            "test_accuracy": accuracy + 2e-3 * ((seed + len(name)) % 5),
        }
        for name, accuracy in means.items()
        for seed in range(5)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("gain", "status"), [(0.09, "supported"), (0.02, "not supported"), (0.06, "inconclusive"), (-0.1, "not supported")]
)
def test_the_bar_of_six_points_holds_from_both_sides(gain: float, status: str) -> None:
    data = RunData(frame(continual_finetuning=0.7, continual_ewc=0.7 + gain))
    assert CLAIMS["continual-gain"].decide(data).status == status


def test_sizes_and_trade_offs_are_drawn_where_they_were_measured() -> None:
    sizes = {"small": 10, "large": 1000}
    both = pd.concat([frame("small", transfer_scratch=0.5), frame("large", transfer_scratch=0.9)])
    (axis,) = plots.over_sizes(both, "test_accuracy", sizes, over="images", labels=labels()).axes
    line = axis.lines[0]
    assert np.asarray(line.get_xdata()).tolist() == [10, 1000]
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([50.4, 90.4])
    assert axis.get_xscale() == "log"
    curves = frame(continual_ewc=0.5).assign(epoch=1, old_tasks=0.9, new_tasks=0.3)
    later = curves.assign(epoch=2, old_tasks=0.4, new_tasks=0.8)
    (axis,) = plots.trade_off(pd.concat([curves, later]), "new_tasks", "old_tasks", labels=labels()).axes
    assert np.asarray(axis.lines[0].get_xdata()).tolist() == pytest.approx([30, 80])
    assert np.asarray(axis.lines[0].get_ydata()).tolist() == pytest.approx([90, 40])
    with pytest.raises(ValueError, match="run the study first"):
        plots.over_sizes(both, "test_accuracy", {"other": 1}, over="images", labels=labels())
