"""Studies: which runs they consist of, in which order, and how tuning chooses their hyperparameters."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advanced_optimizers import GradientCorrectionOptimizer
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RecordError
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.grid import GridStudy
from advanced_optimizers.experiments.studies.registry import STUDIES, get_study, study_names
from advanced_optimizers.experiments.studies.running import recorded_configs
from advanced_optimizers.experiments.studies.study import MissingRunsError, Study
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.models import build_model
from tests.experiments_helpers import TINY, TINY_RUNS, TINY_TRIALS, Recorded, make_record

FULL = get_study("fer", "full")
COMPARISONS = [study for study in STUDIES.values() if isinstance(study, Study)]
every_study = pytest.mark.parametrize("study", [*COMPARISONS, TINY], ids=lambda study: study.profile + study.name)


def record_trials(study: Study, store: RunStore, best: int = 0, status: str = "completed") -> None:
    """Saves made-up records of all trials; trial number ``best`` is the best of each algorithm."""
    for task in study.tasks:
        for algorithm in set(study.algorithms) - set(study.tuned_as):
            for number, config in enumerate(study.trial_configs(task, algorithm)):
                store.save(make_record(config, status, test_accuracy=0.9 if number == best else 0.5))


# --- The registry ----------------------------------------------------------------------------------------------------


def test_every_study_is_found_by_name_and_profile() -> None:
    assert "fer" in study_names()
    for (name, profile), study in STUDIES.items():
        assert (study.name, study.profile) == (name, profile)
        assert get_study(name, profile) is study


@pytest.mark.parametrize(("name", "near"), [("ferr", "fer"), ("FER", "fer"), ("qqqq", "fer")])
def test_the_error_for_an_unknown_study_suggests_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'; did you mean .*{near}"):
        get_study(name, "quick")


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="profile must be one of quick, full, got 'fast'"):
        get_study("fer", "fast")


@every_study
def test_a_study_asks_for_what_exists(study: Study) -> None:
    assert set(study.algorithms) <= set(ALGORITHMS)
    assert len(set(study.algorithms)) == len(study.algorithms)
    assert study.command == f"python -m advanced_optimizers.experiments run {study.name} --profile {study.profile}"


def test_the_full_fer_study_is_the_protocol() -> None:
    assert FULL.algorithms == ("sgd", "adam", "fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam")
    assert FULL.label_noises == (0.0, 0.2)
    assert FULL.seeds == (0, 1, 2, 3, 4)
    assert FULL.trials == 12
    assert FULL.tasks == (
        Task(dataset="mnist", model="mlp", epochs=10, tuning_epochs=3),
        Task(
            dataset="cifar10-jpeg",
            model="convnet",
            epochs=10,
            tuning_epochs=3,
            tuning_fraction=0.3,
            precision="bfloat16",
            augment=True,
            alternatives=("cifar10", "cifar10-jpeg-own"),
        ),
    )
    assert [task.name for task in FULL.tasks] == ["mnist-mlp", "cifar10-jpeg-convnet"]
    assert FULL.left_out == frozenset()


@every_study
def test_what_is_left_out_belongs_to_the_study(study: Study) -> None:
    tasks = [task.name for task in study.tasks]
    assert study.left_out <= {(task, algorithm) for task in tasks for algorithm in study.algorithms}


@every_study
def test_no_algorithm_is_compared_without_its_baseline(study: Study, tmp_path: Path) -> None:
    store = Recorded(tmp_path)
    runs = {(c.task, c.label_noise, c.seed, c.algorithm) for c in study.final_configs(store)}
    for task, noise, seed, algorithm in runs:
        baseline = ALGORITHMS[algorithm].baseline
        assert baseline is None or (task, noise, seed, baseline) in runs


def test_the_full_fer_studys_trials_are_pinned() -> None:
    # The committed records are found by these ids.
    ids = [config.run_id for config in FULL.tuning_configs()]
    assert ids[0] == "0b702d5daacddcf5"
    assert hashlib.sha256("".join(ids).encode()).hexdigest() == (
        "1400a5afff6fff48be92e44e07dd4c936959542869614ebff125d6108d17ddc2"
    )


def test_the_quick_profile_needs_no_download() -> None:
    quick = [study for study in STUDIES.values() if study.profile == "quick"]
    assert {name for study in quick for task in study.tasks for name in task.datasets} == {"digits"}
    assert {study.name for study in quick} == set(study_names())


# --- The runs --------------------------------------------------------------------------------------------------------


@every_study
def test_every_algorithm_has_the_same_number_of_trials(study: Study) -> None:
    configs = study.tuning_configs()
    per_algorithm = {
        (task.name, algorithm): sum(config.task == task.name and config.algorithm == algorithm for config in configs)
        for task in study.tasks
        for algorithm in study.algorithms
        if (task.name, algorithm) not in study.left_out and algorithm not in {*study.tuned_as, *study.untuned}
    }
    assert set(per_algorithm.values()) == ({study.trials} if per_algorithm else set())
    assert len({config.run_id for config in configs}) == len(configs) == sum(per_algorithm.values())


@every_study
def test_trials_are_measured_on_held_out_training_images(study: Study) -> None:
    for config in study.tuning_configs():
        task = next(task for task in study.tasks if task.name == config.task)
        task = study.protocol(task, config.algorithm)
        expected = RunConfig(
            dataset=task.dataset,
            model=task.model,
            algorithm=config.algorithm,
            hyperparameters=config.hyperparameters,
            seed=0,
            epochs=task.tuning_epochs,
            batch_size=task.batch_size,
            label_noise=study.label_noises[0] if isinstance(study, GridStudy) else 0.0,
            data_fraction=task.tuning_fraction,
            precision=task.precision,
            augment=task.augment,
            width=task.width,
            schedule=task.schedule,
            split="validation",
        )
        assert config == expected


@every_study
def test_the_comparison_is_every_algorithm_noise_and_seed_once(study: Study, tmp_path: Path) -> None:
    store = Recorded(tmp_path)
    configs = study.final_configs(store)
    order = [(config.task, config.label_noise, config.seed, config.algorithm) for config in configs]
    assert order == [
        (task.name, noise, seed, algorithm)
        for task in study.tasks
        for noise in study.label_noises
        for seed in study.seeds
        for algorithm in study.algorithms
        if (task.name, algorithm) not in study.left_out
    ]
    assert len({config.run_id for config in configs}) == len(configs)
    assert study.configs(store) == [*study.tuning_configs(), *configs]


def test_the_sizes_of_the_studies(store: RunStore) -> None:
    record_trials(FULL, store)
    assert (len(FULL.tuning_configs()), len(FULL.final_configs(store))) == (144, 120)
    record_trials(TINY, store)
    assert (len(TINY.tuning_configs()), len(TINY.configs(store))) == (TINY_TRIALS, TINY_RUNS)


@every_study
def test_the_comparison_follows_its_tasks_protocol_on_the_test_set(study: Study, tmp_path: Path) -> None:
    store = Recorded(tmp_path)
    for config in study.final_configs(store):
        task = next(task for task in study.tasks if task.name == config.task)
        task = study.protocol(task, config.algorithm)
        protocol = RunConfig(
            dataset=task.dataset,
            model=task.model,
            algorithm=config.algorithm,
            hyperparameters=config.hyperparameters,
            seed=config.seed,
            epochs=task.epochs,
            batch_size=task.batch_size,
            label_noise=config.label_noise,
            precision=task.precision,
            augment=task.augment,
            width=task.width,
            data_fraction=task.data_fraction,
            schedule=task.schedule,
            split="test",
        )
        assert config == protocol


def test_controls_of_equal_cost_train_longer_or_are_wider() -> None:
    study = get_study("gradient-correction", "full")
    mlp, convnet = study.tasks
    longer = {(task.name, name): study.protocol(task, name) for task in study.tasks for name in study.algorithms}
    assert longer["mnist-mlp", "adam"] is mlp
    assert longer["mnist-mlp", "adam-longer"] == replace(mlp, epochs=27, tuning_epochs=8)
    assert longer["cifar10-jpeg-convnet", "adam-longer"] == replace(convnet, epochs=12, tuning_epochs=4)
    assert longer["cifar10-jpeg-convnet", "adam-longest"] == replace(convnet, epochs=19, tuning_epochs=6)
    for task, shape, extra in ((mlp, (1, 28, 28), 240), (convnet, (3, 32, 32), 6600)):
        sizes = [
            sum(p.numel() for p in build_model(task.model, shape, 10, protocol.width).parameters())
            for protocol in (task, longer[task.name, "adam-wider"])
        ]
        assert extra <= sizes[1] - sizes[0] <= 1.25 * extra + 800  # a unit of the MLP has 795 parameters


def test_the_extra_parameters_that_the_wider_control_matches() -> None:
    for model, shape, hidden, extra in (
        ("mlp", (1, 28, 28), False, 240),
        ("convnet", (3, 32, 32), False, 840),
        ("convnet", (3, 32, 32), True, 6600),
    ):
        network = build_model(model, shape, 10)
        own = {"model": network, "example_input": torch.zeros(2, *shape)} if hidden else {}
        assert GradientCorrectionOptimizer(network.parameters(), **own).num_extra_parameters == extra


@pytest.mark.parametrize("best", [0, 1])
def test_the_comparison_uses_the_best_trials_hyperparameters(store: RunStore, best: int) -> None:
    record_trials(TINY, store, best)
    (task,) = TINY.tasks
    for algorithm in TINY.algorithms:
        chosen = TINY.trial_configs(task, algorithm)[best]
        assert TINY.chosen_trial(store, task, algorithm).config == chosen
        used = [c.hyperparameters for c in TINY.final_configs(store) if c.algorithm == algorithm]
        assert used == [chosen.hyperparameters] * 4


def test_each_task_and_algorithm_has_its_own_choice(store: RunStore) -> None:
    study = replace(TINY, tasks=(TINY.tasks[0], replace(TINY.tasks[0], model="convnet")))
    for number, task in enumerate(study.tasks):
        for offset, algorithm in enumerate(study.algorithms):
            for place, config in enumerate(study.trial_configs(task, algorithm)):
                best = (number + offset) % 2
                store.save(make_record(config, test_accuracy=0.9 if place == best else 0.5))
    for config in study.final_configs(store):
        number = [task.name for task in study.tasks].index(config.task)
        best = (number + study.algorithms.index(config.algorithm)) % 2
        assert (
            config.hyperparameters == study.trial_configs(study.tasks[number], config.algorithm)[best].hyperparameters
        )


# --- Before and without tuning ---------------------------------------------------------------------------------------


def test_before_tuning_the_error_gives_the_command(store: RunStore) -> None:
    with pytest.raises(MissingRunsError, match="2 of 2 tuning trials of sgd on digits-mlp") as caught:
        TINY.final_configs(store)
    assert "python -m advanced_optimizers.experiments run tiny --profile quick" in str(caught.value)
    assert recorded_configs(TINY, store) == []


def test_one_missing_trial_is_enough(store: RunStore) -> None:
    record_trials(TINY, store)
    missing = TINY.trial_configs(TINY.tasks[0], "fer-sgd")[1]
    store.path(missing).unlink()
    with pytest.raises(MissingRunsError, match="1 of 2 tuning trials of fer-sgd on digits-mlp"):
        TINY.configs(store)
    assert recorded_configs(TINY, store) == [config for config in TINY.tuning_configs() if config != missing]


def test_the_runs_of_what_is_tuned_are_known_while_the_rest_waits(store: RunStore) -> None:
    record_trials(TINY, store)
    whole = TINY.configs(store)
    assert TINY.known_configs(store) == whole
    store.path(TINY.trial_configs(TINY.tasks[0], "fer-sgd")[1]).unlink()
    assert TINY.known_configs(store) == [c for c in whole if c.split == "validation" or c.algorithm == "sgd"]


def test_a_damaged_trial_is_not_a_missing_one(store: RunStore) -> None:
    record_trials(TINY, store)
    path = store.path(TINY.tuning_configs()[0])
    path.write_text("{")
    with pytest.raises(RecordError, match=path.name):
        TINY.final_configs(store)


def test_when_all_trials_diverged_the_error_says_whose(store: RunStore) -> None:
    record_trials(TINY, store, status="diverged")
    with pytest.raises(MissingRunsError, match="all 2 trials") as caught:
        TINY.final_configs(store)
    assert "sgd" in str(caught.value)
    assert "digits-mlp" in str(caught.value)


def test_recorded_runs_are_found_when_all_trials_diverged(store: RunStore) -> None:
    record_trials(TINY, store, status="diverged")
    assert recorded_configs(TINY, store) == TINY.tuning_configs()


def test_hyperparameters_that_are_equal_and_written_differently_are_different_runs() -> None:
    (task,) = TINY.tasks
    integer, decimal = task.trial("sgd", {"lr": 1}), task.trial("sgd", {"lr": 1.0})
    assert integer.run_id != decimal.run_id
    assert task.trial("sgd", {"lr": 1}).run_id == integer.run_id
