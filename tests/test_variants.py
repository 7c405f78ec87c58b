"""Studies of tuning itself: which trials and runs their variants consist of, and that they share what is recorded."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advanced_optimizers import (
    FEROptimizer,
    FlippingErrorReduction,
    GradientCorrectionOptimizer,
    create_localized_optimizer,
    create_sigprop_optimizer,
)
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.results.tunings import finished_tunings
from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES, get_study
from advanced_optimizers.experiments.studies.running import run_study
from advanced_optimizers.experiments.studies.study import MissingRunsError, Study
from advanced_optimizers.experiments.studies.tuning import at_the_edge, moved, place_in, sample_hyperparameters
from advanced_optimizers.experiments.studies.variants import (
    MovedRanges,
    Retuning,
    Variant,
    VariantStudy,
    variants_in_both_profiles,
)
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Range
from tests.experiments_helpers import TINY, make_record

STUDIES_OF_TUNING = [study for study in STUDIES.values() if isinstance(study, VariantStudy)]
every_study = pytest.mark.parametrize("study", STUDIES_OF_TUNING, ids=lambda study: study.profile + study.name)
ROOT = Path(__file__).parents[1]


def study_of(name: str, profile: str = "full") -> VariantStudy:
    study = get_study(name, profile)
    assert isinstance(study, VariantStudy)
    return study


def record_trials(study: Study, store: RunStore, best: int = 0) -> None:
    """Saves made-up records of all trials that have none; trial number ``best`` is the best of each algorithm."""
    for task in study.tasks:
        for algorithm in study.algorithms_on(task):
            for number, config in enumerate(study.trial_configs(task, algorithm)):
                if not store.has(config):
                    store.save(make_record(config, test_accuracy=0.9 if number == best else 0.5))


# --- The points -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sgd", "sigprop", "fer-adam"])
def test_further_points_go_on_where_a_tuning_stopped(algorithm: str) -> None:
    space = ALGORITHMS[algorithm].search_space
    blocks = [sample_hyperparameters(space, 12, first=first) for first in (0, 12, 24)]
    assert sample_hyperparameters(space, 36) == [point for block in blocks for point in block]
    assert blocks[0] == sample_hyperparameters(space, 12)


def test_a_bad_first_point_is_named() -> None:
    with pytest.raises(ValueError, match="first must be >= 0"):
        sample_hyperparameters({"lr": Range(low=0.1, high=1.0)}, 1, first=-1)


# --- Edges ------------------------------------------------------------------------------------------------------------

LINEAR, LOG = Range(low=0.0, high=12.0), Range(low=1.0, high=4096.0, log=True)


@pytest.mark.parametrize(
    ("space", "chosen", "edge"),
    [
        (LINEAR, 0.9, True),  # in the lowest of 12 strata
        (LINEAR, 1.1, False),
        (LINEAR, 10.9, False),
        (LINEAR, 11.1, True),
        (LOG, 1.9, True),  # a stratum is an octave
        (LOG, 2.1, False),
        (LOG, 2100.0, True),
    ],
)
def test_the_outermost_stratum_is_an_edge(space: Range, chosen: float, edge: bool) -> None:
    others = [space.low, space.high, *[chosen] * 10]
    assert at_the_edge(chosen, space, others) is edge


def test_the_lowest_and_the_highest_trial_are_at_the_edge() -> None:
    trials = [4.0, 5.0, 6.0, 7.0]
    assert [at_the_edge(value, LINEAR, trials) for value in trials] == [True, False, False, True]


def test_the_place_in_a_range_is_on_its_own_scale() -> None:
    assert place_in(3.0, LINEAR) == 0.25
    assert place_in(8.0, LOG) == pytest.approx(0.25)


@pytest.mark.parametrize("space", [LOG, Range(low=0.3, high=1.0), Range(low=5e-4, high=2e-2, log=True)])
def test_a_moved_range_is_as_wide_as_before(space: Range) -> None:
    assert moved(space, 1) == replace(space, low=2 * space.low, high=2 * space.high)
    assert moved(moved(space, 1), -1) == space


def test_every_recorded_choice_at_an_edge_has_a_moved_range() -> None:
    # What is recorded decides: a new comparison with a choice at an edge needs a moved range too, or fails here. The
    # lecture's first comparison shows what a last small batch does; nothing is concluded from what it chose.
    store = RunStore(ROOT / "results" / "runs")
    full = [
        study for (name, profile), study in STUDIES.items() if profile == "full" and name != "lecture-optimizers-64"
    ]
    flagged = {
        (tuning.task, tuning.algorithm, name)
        for study in full
        if isinstance(study, Study)
        for tuning in finished_tunings(study, store)
        for name in tuning.ranges
        if tuning.at_the_edge(name)
    }
    given = {
        (task, algorithm, name)
        for study in full
        if isinstance(study, MovedRanges)
        for (task, algorithm), own in study.comparison("moved").ranges.items()
        for name in own
    }
    assert ("mnist-mlp2", "readout", "lr") in flagged
    assert flagged <= given
    assert given - flagged == {("cifar10-jpeg-convnet", "adam", "lr")}  # asked for, and no edge by the rule


# --- The studies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "study",
    [  # thousands of runs are listed for seconds
        pytest.param(study, id=study.profile + study.name, marks=[pytest.mark.slow] * (len(study.algorithms) > 9))
        for study in STUDIES_OF_TUNING
    ],
)
def test_no_run_is_asked_for_twice(study: VariantStudy, store: RunStore) -> None:
    for comparison in study.comparisons().values():
        record_trials(comparison, store)
    for _, configs_of in study.stages():  # the trials of later rungs
        for config in configs_of(store):
            if config.split == "validation" and not store.has(config):
                store.save(make_record(config))
    configs = study.configs(store)
    assert len({config.run_id for config in configs}) == len(configs)
    assert study.known_configs(store) == configs
    assert {config.seed for config in study.final_configs(store)} == set(study.seeds)


@every_study
def test_every_variant_has_all_algorithms_with_their_baselines(study: VariantStudy) -> None:
    for comparison in study.comparisons().values():
        assert comparison.trials == study.trials
        for task in comparison.tasks:
            names = comparison.algorithms_on(task)
            assert names, task.name
            assert {ALGORITHMS[name].baseline for name in names} - {None} <= set(names)
    assert {
        name for task in study.tasks for name in study.comparison(next(iter(study.variants))).algorithms_on(task)
    } == set(study.algorithms)


@pytest.mark.parametrize("name", ["retuning", "trial-length", "untuned", "moved-ranges"])
def test_the_first_variant_is_what_the_other_studies_have_recorded(name: str) -> None:
    store = RunStore(ROOT / "results" / "runs")
    study = study_of(name)
    comparison = study.comparison(next(iter(study.variants)))
    assert all(store.has(config) for config in comparison.tuning_configs())
    shared = [config for config in comparison.final_configs(store) if config.seed < 5]
    assert all(store.has(config) for config in shared)


def test_each_further_tuning_has_its_own_points_and_seeds() -> None:
    study = study_of("retuning")
    first, *further = study.comparisons().values()
    task = first.tasks[0]
    lists = [[c.hyperparameters["lr"] for c in own.trial_configs(task, "sgd")] for own in (first, *further)]
    assert len({rate for own in lists for rate in own}) == 36
    assert [own.trial_configs(task, "sgd")[0].seed for own in (first, *further)] == [0, 200, 300]
    assert [own.seeds for own in further] == [(200, 201, 202), (300, 301, 302)]
    elsewhere = {seed for other in STUDIES.values() if isinstance(other, Study) for seed in other.seeds}
    assert not elsewhere & {seed for own in further for seed in own.seeds}


def test_full_length_trials_have_the_same_points_and_the_runs_length() -> None:
    study = study_of("trial-length")
    short, full = study.comparisons().values()
    for task in study.tasks:
        before = short.trial_configs(task, "correction")
        after = full.trial_configs(next(t for t in full.tasks if t.name == task.name), "correction")
        assert [c.hyperparameters for c in before] == [c.hyperparameters for c in after]
        assert after == [replace(c, epochs=task.epochs, data_fraction=1.0) for c in before]
    assert 0 not in study.seeds  # the trials' own


def test_the_given_values_are_the_constructors() -> None:
    given = study_of("untuned").comparison("untuned").untuned
    sources = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "fer-sgd": FEROptimizer,
        "fer-adam": FEROptimizer,
        "flipping-sgd": FlippingErrorReduction,
        "correction": GradientCorrectionOptimizer,
        "localized-static": create_localized_optimizer,
        "localized-dynamic": create_localized_optimizer,
        "sigprop": create_sigprop_optimizer,
    }
    assert set(given) == set(sources)
    for algorithm, source in sources.items():
        parameters = inspect.signature(source).parameters
        own = {name: value for name, value in given[algorithm].items() if name in parameters}
        known = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
        assert {name: known[name] for name in own if name in known} == {n: v for n, v in own.items() if n in known}
        assert set(given[algorithm]) == set(ALGORITHMS[algorithm].search_space)  # nothing is left to a default
    rates = {algorithm: values["lr"] for algorithm, values in given.items()}
    assert rates.pop("flipping-sgd") == 0.05  # the authors' script
    assert set(rates.values()) == {1e-3}
    assert given["flipping-sgd"]["mu"] == 1.0  # the authors' script for ResNet-18; the class has no default for it


def test_what_is_given_has_no_trials(store: RunStore) -> None:
    study = study_of("untuned", "quick")
    comparison = study.comparison("untuned")
    assert comparison.tuning_configs() == []
    assert {c.algorithm for c in comparison.final_configs(store)} == set(study.algorithms)


def test_only_the_moved_range_changes() -> None:
    stated, moved_ones = study_of("moved-ranges").comparisons().values()
    for task in stated.tasks:
        for name in stated.algorithms_on(task):
            before, after = stated.search_space(task, name), moved_ones.search_space(task, name)
            changed = {key for key in before if before[key] != after[key]}
            assert changed == set(moved_ones.ranges.get((task.name, name), {}))


def test_runs_of_finished_tunings_are_known_before_the_others(store: RunStore) -> None:
    study = study_of("retuning", "quick")
    first, *_ = study.comparisons().values()
    task = first.tasks[0]
    for config in first.trial_configs(task, "sgd"):
        store.save(make_record(config))
    with pytest.raises(MissingRunsError):
        study.final_configs(store)
    runs = [config for config in study.known_configs(store) if config.split == "test"]
    assert {(c.task, c.algorithm, c.seed) for c in runs} == {(task.name, "sgd", seed) for seed in first.seeds}


def test_on_another_dataset_the_variants_stay(store: RunStore) -> None:
    study = study_of("moved-ranges").on("cifar10")
    assert isinstance(study, VariantStudy)
    assert ("cifar10-vgg", "sigprop") in study.comparison("moved").ranges
    assert "sigprop" not in study.comparison("moved").algorithms_on(study.tasks[2])


def test_the_quick_profile_has_two_trials_and_two_seeds_per_variant() -> None:
    (task,) = get_study("fer", "quick").tasks[:1]
    full, quick = variants_in_both_profiles(
        VariantStudy,
        name="some",
        title="?",
        full=(task,),  # type: ignore[arg-type]
        quick=(task,),  # type: ignore[arg-type]
        algorithms=("sgd",),
        variants={"a": Variant(), "b": Variant(block=1, seeds=(7, 8, 9))},
    )
    assert (full.trials, full.seeds) == (12, (0, 1, 2, 3, 4, 7, 8, 9))
    assert (quick.trials, quick.seeds, quick.comparison("b").first_point) == (2, (0, 1, 7, 8), 2)


def test_a_study_of_variants_is_run_like_any_other(store: RunStore) -> None:
    study = Retuning(
        name="tiny-retuning",
        title="?",
        profile="quick",
        tasks=TINY.tasks,
        algorithms=TINY.algorithms,
        seeds=(0, 7),
        trials=1,
        variants={"tuning 1": Variant(seeds=(0,)), "tuning 2": Variant(block=1, trial_seed=7, seeds=(7,))},
    )
    outcome = run_study(study, store, progress=False)
    assert outcome.trained == 2 * 2 * len(TINY.algorithms) * len(TINY.tasks)
    assert run_study(study, store, progress=False).trained == 0
    assert {record.config.seed for record in outcome.records} == {0, 7}


def test_every_claim_about_tuning_names_its_task() -> None:
    names = {study.name for study in STUDIES_OF_TUNING}
    claims = [claim for claim in CLAIMS.values() if claim.study in names]
    tasks = {task.name for study in STUDIES_OF_TUNING for task in study.tasks}
    assert claims
    assert all(any(claim.key.endswith(task) and task in claim.text for task in tasks) for claim in claims)
