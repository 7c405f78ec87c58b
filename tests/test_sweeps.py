"""Width sweeps: their runs, the network, and the two parametrizations, which agree at the base width."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.claims.zero_shot_transfer import BASE_UNITS
from advanced_optimizers.experiments.studies.registry import STUDIES, get_study
from advanced_optimizers.experiments.studies.reproducing import reproduce
from advanced_optimizers.experiments.studies.running import recorded_configs, run_study
from advanced_optimizers.experiments.studies.sweep import SweepTask, WidthSweep
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, build_learner
from advanced_optimizers.experiments.training.learners import Setting
from advanced_optimizers.experiments.training.loop import train
from advanced_optimizers.experiments.training.models import build_model
from tests.experiments_helpers import train_until

ROOT = Path(__file__).parents[1]
WINDOWS = {64: (-6, -5), 128: (-6, -6)}
TINY = WidthSweep(
    name="tiny-sweep",
    title="Does the tiny sweep run?",
    profile="quick",
    tasks=(
        SweepTask(
            dataset="digits",
            model="mlp3",
            epochs=2,
            batch_size=64,
            data_fraction=0.2,
            windows={"standard-sgd": WINDOWS, "mup-sgd": WINDOWS},
            base_units=BASE_UNITS,
        ),
    ),
    algorithms=("standard-sgd", "mup-sgd"),
    seeds=(0, 1),
    transferring="mup-sgd",
    octaves=1.0,
    loss_factor=1.1,
)
(TASK,) = TINY.tasks
SWEEPS = [study for study in STUDIES.values() if isinstance(study, WidthSweep)]
every_sweep = pytest.mark.parametrize("sweep", [*SWEEPS, TINY], ids=lambda sweep: sweep.profile + sweep.name)


# --- The runs --------------------------------------------------------------------------------------------------------


def test_every_sweep_is_found_by_name_and_profile() -> None:
    for sweep in SWEEPS:
        assert get_study(sweep.name, sweep.profile) is sweep
    assert {sweep.profile for sweep in SWEEPS} == {"quick", "full"}
    with pytest.raises(ValueError, match="no study is named 'mutranfer'; did you mean mutransfer"):
        get_study("mutranfer", "full")


@every_sweep
def test_a_sweep_asks_for_every_rate_of_every_window_once(sweep: WidthSweep, store: RunStore) -> None:
    configs = sweep.configs(store)
    assert sweep.tuning_configs() == []
    assert len({config.run_id for config in configs}) == len(configs)
    asked = {(c.task, c.algorithm, BASE_UNITS * c.width, c.hyperparameters["lr"], c.seed) for c in configs}
    assert asked == {
        (task.name, algorithm, units, 2.0**exponent, seed)
        for task in sweep.tasks
        for algorithm, windows in task.windows.items()
        for units, (low, high) in windows.items()
        for exponent in [*range(low, high + 1), *task.further_rates.get(algorithm, {}).get(units, ())]
        for seed in [*sweep.seeds, *task.further_seeds.get(units, ())]
    }
    assert [config.seed for config in configs] == sorted(config.seed for config in configs)


def test_further_rates_and_seeds_add_runs_and_change_none(store: RunStore) -> None:
    more = replace(TASK, further_rates={"mup-sgd": {128: (-5.5, -6.0)}}, further_seeds={64: (2,)})
    before, after = (
        {config.run_id: config for config in replace(TINY, tasks=(task,)).configs(store)} for task in (TASK, more)
    )
    assert set(before) < set(after)
    added = [config for run_id, config in after.items() if run_id not in before]
    asked = {(c.algorithm, BASE_UNITS * c.width, math.log2(c.hyperparameters["lr"]), c.seed) for c in added}
    assert asked == {("mup-sgd", 128, -5.5, 0), ("mup-sgd", 128, -5.5, 1)} | {
        (algorithm, 64, exponent, 2) for algorithm in TINY.algorithms for exponent in (-6, -5)
    }


def test_every_recorded_run_of_the_network_is_still_asked_for() -> None:
    asked = {config.run_id for config in get_study("mutransfer", "full").configs(None)}  # type: ignore[arg-type]
    recorded = {path.stem.split("-")[-1] for path in (ROOT / "results" / "runs").glob("*-mlp3/**/*.json")}
    assert len(recorded) >= 501
    assert recorded <= asked


@every_sweep
def test_a_sweep_asks_for_what_exists(sweep: WidthSweep) -> None:
    assert set(sweep.algorithms) <= set(ALGORITHMS)
    for task in sweep.tasks:
        assert set(task.windows) == set(sweep.algorithms)
        assert all(set(windows) == set(task.units) for windows in task.windows.values())
        assert task.units[0] == BASE_UNITS  # the base, where both parametrizations are the same
    assert sweep.command == f"python -m advanced_optimizers.experiments run {sweep.name} --profile {sweep.profile}"


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.profile)
def test_a_window_has_room_for_an_optimum_between_its_ends(sweep: WidthSweep) -> None:
    windows = [window for task in sweep.tasks for windows in task.windows.values() for window in windows.values()]
    assert min(high - low for low, high in windows) >= 3


def test_a_run_follows_its_tasks_protocol() -> None:
    assert TASK.run("mup-sgd", 128, -6, 3) == RunConfig(
        dataset="digits",
        model="mlp3",
        algorithm="mup-sgd",
        hyperparameters={"lr": 2.0**-6},
        seed=3,
        epochs=2,
        batch_size=64,
        data_fraction=0.2,
        width=2.0,
        schedule="constant",
        split="none",
    )


def test_a_sweep_runs_once_and_comes_back_bit_for_bit(store: RunStore) -> None:
    outcome = run_study(TINY, store, progress=False)
    assert (outcome.loaded, outcome.trained) == (0, 12)
    assert run_study(TINY, store, progress=False).loaded == 12
    assert recorded_configs(TINY, store) == TINY.final_configs(store)
    assert all(reproduction.identical for reproduction in reproduce(TINY, store, progress=False))


def test_the_command_line_lists_and_finds_sweeps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert any(line[:2] == ["mutransfer", "full"] and line[-1] == "cifar10-jpeg-mlp3" for line in lines)
    assert main(["run", "mutranfer"]) == 1
    assert "did you mean mutransfer" in capsys.readouterr().err


# --- The network and the two parametrizations ------------------------------------------------------------------------


def learner_of(algorithm: str, units: int, model: str = "mlp3") -> Any:
    width = units / BASE_UNITS
    config = RunConfig(
        dataset="digits",
        model=model,
        algorithm=algorithm,
        hyperparameters={"lr": 0.25},
        width=width,
        schedule="constant",
    )
    torch.manual_seed(0)
    network = build_model(model, (1, 8, 8), 10, width)
    return build_learner(
        Setting(config=config, model=network, num_samples=100, num_classes=10, image_shape=(1, 8, 8), steps_per_epoch=1)
    )


def test_the_network_is_its_formula() -> None:
    torch.manual_seed(0)
    model = build_model("mlp3", (1, 8, 8), 10, width=2.0)
    model.requires_grad_(False)
    first, hidden, readout = model.parameters()
    assert (first.shape, hidden.shape, readout.shape) == ((128, 64), (128, 128), (10, 128))
    assert not readout.any()
    assert first.std() == pytest.approx(16 / math.sqrt(64), rel=0.05)  # divided by the root of 2 ** -8
    assert hidden.std() == pytest.approx(1 / math.sqrt(128), rel=0.05)
    nn.init.normal_(readout)
    images = torch.randn(3, 1, 8, 8)
    expected = 32 * torch.relu(torch.relu(images.flatten(1) @ first.T / 16) @ hidden.T) @ readout.T
    torch.testing.assert_close(model(images), expected)


def test_at_the_base_width_both_parametrizations_have_the_same_curve(store: RunStore) -> None:
    standard, mup = (train(TASK.run(algorithm, 64, -5, 0), store) for algorithm in TINY.algorithms)
    assert standard.outcome()["curves"] == mup.outcome()["curves"]


def test_above_the_base_width_they_differ_as_the_table_says(store: RunStore) -> None:
    standard, mup = (train(TASK.run(algorithm, 128, -6, 0), store) for algorithm in TINY.algorithms)
    assert standard.curves["train_loss"] != mup.curves["train_loss"]
    learner = learner_of("mup-sgd", 256)
    rates = {p.shape: group["lr"] for group in learner.optimizer.param_groups for p in group["params"]}
    assert rates == {(256, 64): 1.0, (256, 256): 0.25, (10, 256): 1.0}
    assert learner.model[-1].multiplier == 0.25
    plain = learner_of("standard-sgd", 256)
    assert [group["lr"] for group in plain.optimizer.param_groups] == [0.25]
    assert plain.model[-1].multiplier == 1.0


def test_both_start_from_the_same_network() -> None:
    standard, mup = (learner_of(algorithm, 256) for algorithm in TINY.algorithms)
    for a, b in zip(standard.model.parameters(), mup.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_mup_run_goes_on_as_if_never_stopped(store: RunStore, other_store: RunStore) -> None:
    config = TASK.run("mup-sgd", 128, -6, 0)
    train_until(1, config, store)
    assert train(config, store).outcome() == train(config, other_store).outcome()


def test_mup_needs_a_model_that_knows_its_readout() -> None:
    with pytest.raises(ValueError, match="MuReadout"):
        learner_of("mup-sgd", 128, "mlp")
