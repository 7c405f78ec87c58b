"""The protocol of the comparison: points, seeds, rungs, families, and a run of it on the digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.studies.halving import HalvingStudy, Rung
from advanced_optimizers.experiments.studies.referee import Referee
from advanced_optimizers.experiments.studies.registry import get_study
from advanced_optimizers.experiments.studies.running import run_study
from advanced_optimizers.experiments.studies.study import MissingRunsError
from advanced_optimizers.experiments.studies.tuning import best_trials, place_in
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from tests.experiments_helpers import TINY, make_config, make_record

RUNGS = (Rung(4, 1), Rung(2, 2), Rung(1, 3))
HALVING = HalvingStudy(
    **{**vars(TINY), "trials": 4, "label_noises": (0.0,), "algorithms": ("sgd", "sam-sgd")}, rungs=RUNGS
)


def referee(name: str, profile: str = "full") -> Referee:
    study = get_study(name, profile)
    assert isinstance(study, Referee)
    return study


class ByRate(RunStore):
    """Every run is recorded, and the lower the learning rate, the better it is."""

    def load(self, config: RunConfig) -> RunRecord | None:
        rate = ALGORITHMS[config.algorithm].rate
        return make_record(config, test_accuracy=1.0 / (1.0 + float(config.hyperparameters[rate])))


# ---- points and seeds -----------------------------------------------------------------------------------------------


def test_each_tuning_has_its_own_block_of_points_one_in_every_stratum() -> None:
    study = referee("referee-mnist")
    task, space = study.tasks[0], ALGORITHMS["adamw"].search_space["lr"]
    rates = []
    for name in study.tunings:
        points = study.comparison(name).trial_configs(task, "adamw")
        own = [float(config.hyperparameters["lr"]) for config in points]
        assert sorted(int(8 * place_in(rate, space)) for rate in own) == list(range(8))
        assert {(c.seed, c.split, c.epochs, c.width, c.data_fraction) for c in points} == {
            (0, "validation", 6, 0.5, 1.0)
        }
        rates += own
    assert (len(study.tunings), len(set(rates))) == (4, 32)


def test_runs_have_seeds_of_their_tuning_and_noise_has_no_tuning_of_its_own(tmp_path: Path) -> None:
    study, store = referee("referee-mnist"), ByRate(tmp_path)
    final = [c for c in study.final_configs(store) if (c.algorithm, c.batch_size) == ("adamw", 128)]
    clean = sorted(c.seed for c in final if c.label_noise == 0.0 and c.hyperparameters["lr"] != 1e-3)
    assert clean == [100 * s + r for s in (1, 2, 3, 4) for r in range(3)]
    noisy = {(c.seed, c.label_noise): c.hyperparameters for c in final if c.label_noise}
    assert noisy.keys() == {(100 * s, noise) for s in (1, 2, 3, 4) for noise in (0.2, 0.4)}
    chosen = {c.seed: c.hyperparameters for c in final if c.label_noise == 0.0 and c.hyperparameters["lr"] != 1e-3}
    assert all(hyperparameters == chosen[seed] for (seed, _), hyperparameters in noisy.items())
    assert sorted(c.seed for c in final if c.hyperparameters == {"lr": 1e-3}) == [100, 200, 300, 400]


def test_an_algorithm_brings_its_schedule_and_half_the_epochs_for_two_passes() -> None:
    study = referee("referee-mnist")
    of = {config.algorithm: config for config in study.tuning_configs()}
    assert (of["prodigy"].schedule, set(of["prodigy"].hyperparameters)) == ("cosine", {"d_coef"})
    assert of["schedule-free-adamw"].schedule == "constant"
    assert (of["sam-sgd"].schedule, of["sam-sgd"].epochs) == ("one-cycle", 3)


def test_the_wider_search_adds_its_ranges_to_the_rate() -> None:
    study = referee("referee-mnist-wider")
    of = {config.algorithm: set(config.hyperparameters) for config in study.tuning_configs()}
    assert of["adamw"] == {"lr", "weight_decay", "beta1_gap"}
    assert of["sgd"] == {"lr", "weight_decay", "momentum_gap"}
    assert all(names == {*ALGORITHMS[a].search_space, *ALGORITHMS[a].full_space} for a, names in of.items())
    assert all(len(names) in (2, 3) for names in of.values())


def test_a_family_is_the_others_of_a_group_against_one_anchor() -> None:
    study = referee("referee-mnist")
    families = study.families()
    assert len(families) == 2 * 3
    against = [c.algorithm for family in families for c in family if c.baseline == "adamw"]
    assert sorted(against) == sorted(set(study.algorithms) - {"adamw"})
    assert {(c.task, c.margin) for family in families for c in family} == {("mnist-mlp", 0.002)}
    assert {len({c.baseline for c in family}) for family in families} == {1}
    assert {c.margin for family in referee("referee-cifar").families() for c in family} == {0.01}
    assert {c.margin for family in referee("referee-mnist", "quick").families() for c in family} == {None}


@pytest.mark.parametrize("name", ["referee-mnist", "referee-mnist-wider", "referee-cifar"])
def test_every_algorithm_is_in_one_group(name: str) -> None:
    study = referee(name)
    grouped = [algorithm for group in study.groups.values() for algorithm in group]
    assert len(grouped) == len(set(grouped))
    assert set(study.algorithms) <= set(grouped)


def test_runs_in_other_batches_have_what_the_tuning_chose_at_its_own(tmp_path: Path) -> None:
    study, store = referee("referee-mnist"), ByRate(tmp_path)
    final = [config for config in study.final_configs(store) if config.algorithm == "conv-v2"]
    others = {(c.seed, c.batch_size): c.hyperparameters for c in final if c.batch_size != 128}
    assert others.keys() == {(100 * s, size) for s in (1, 2, 3, 4) for size in (32, 512)}
    chosen = {c.seed: c.hyperparameters for c in final if (c.batch_size, c.label_noise) == (128, 0.0)}
    assert all(hyperparameters == chosen[seed] for (seed, _), hyperparameters in others.items())
    assert {c.batch_size for c in study.tuning_configs()} == {128}


# ---- halving --------------------------------------------------------------------------------------------------------


def test_each_rung_trains_the_best_of_the_one_before_with_a_schedule_of_its_own_length(tmp_path: Path) -> None:
    store = ByRate(tmp_path)
    stages = [configs_of(store) for _, configs_of in HALVING.stages()]
    lengths = [[(c.epochs) for c in stage if c.algorithm == "sgd" and c.split == "validation"] for stage in stages]
    assert lengths == [[1] * 4, [2] * 2, [3], []]
    rates = [sorted(c.hyperparameters["lr"] for c in stage if c.algorithm == "sgd") for stage in stages]
    assert rates[1] == rates[0][:2]
    assert rates[2] == rates[0][:1]
    assert {c.hyperparameters["lr"] for c in stages[3] if c.algorithm == "sgd"} == {rates[0][0]}
    assert [c.epochs for stage in stages[:3] for c in stage if c.algorithm == "sam-sgd"] == [1] * 4 + [1] * 2 + [2]
    known, every = ({c.run_id for c in configs} for configs in (HALVING.known_configs(store), HALVING.configs(store)))
    assert known == every


def test_a_rung_waits_for_the_one_before(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(MissingRunsError, match="4 of 4 tuning trials of sgd on digits-mlp have no record"):
        HALVING.rung_configs(1, store)
    assert HALVING.known_configs(store) == HALVING.tuning_configs()


@pytest.mark.parametrize(
    ("rungs", "message"),
    [((Rung(8, 1), Rung(2, 2)), "at least a third"), ((Rung(8, 1), Rung(8, 2)), "must fall"), ((), "must fall")],
)
def test_rungs_that_cut_too_much_or_nothing_are_refused(rungs: tuple[Rung, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(HALVING, trials=8, rungs=rungs)


def test_accuracies_within_a_standard_error_are_ties_that_the_loss_breaks() -> None:
    values = [(0.980, 0.30), (0.979, 0.10), (0.9775, 0.01), (0.97, 0.05)]
    trials = [
        make_record(make_config(hyperparameters={"lr": 0.1 + i}), test_accuracy=accuracy, test_loss=loss)
        for i, (accuracy, loss) in enumerate(values)
    ]
    order = [[trials.index(t) for t in best_trials(trials, 3, tie)] for tie in (0.0, 0.0017)]
    assert order == [[0, 1, 2], [1, 0, 2]]


# ---- the whole protocol ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["referee-mnist", pytest.param("referee-cifar", marks=pytest.mark.slow)])
def test_the_protocol_runs_on_the_digits_and_withholds_its_verdicts(name: str, tmp_path: Path) -> None:
    stated = referee(name, "quick")
    task = replace(stated.tasks[0], epochs=1, width=0.1, data_fraction=0.3)
    study = replace(stated, tasks=(task,), algorithms=("sgd", "adamw", "sgd-momentum"), variants=_few(stated))
    store = RunStore(tmp_path / "results" / "runs")
    outcome = run_study(study, store, progress=False)
    assert outcome.loaded == 0
    assert run_study(study, store, progress=False).trained == 0
    results = results_of(study, tmp_path)
    verdicts, accuracy = results.tables[f"{name}-verdicts"], results.tables[f"{name}-accuracy"]
    assert len(verdicts) == 4
    assert set(verdicts["Verdict"]) == {"withheld"}
    assert len(accuracy) == len(results.tables[f"{name}-tunability"]) == 3
    assert accuracy["Test accuracy (%)"].str.split().str[0].astype(float).between(5, 100).all()
    assert results.missing == []


def _few(study: Referee) -> dict[str, object]:
    kept = ("sgd", "adamw", "sgd-momentum")
    return {
        name: replace(
            variant,
            untuned={key: value for key, value in variant.untuned.items() if key in kept},
            algorithms=tuple(key for key in variant.algorithms if key in kept),
        )
        for name, variant in study.variants.items()
    }
