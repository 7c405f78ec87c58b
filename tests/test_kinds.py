"""Runs of another kind than training a classifier: records, studies, results and commands work for them unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from advanced_optimizers.experiments.evidence.metrics import CURVES, METRICS
from advanced_optimizers.experiments.records.config import BaseConfig, KindConfig, RunConfig, config_from
from advanced_optimizers.experiments.records.record import RecordError, RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.lookup import Wanted, describe_runs
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.studies import registry
from advanced_optimizers.experiments.studies.kind_study import KindStudy
from advanced_optimizers.experiments.studies.reproducing import reproduce
from advanced_optimizers.experiments.studies.running import Workers, run_study
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.kinds import perform
from advanced_optimizers.experiments.training.loop import train
from tests.experiments_helpers import make_config, run_command

FILE = Path(__file__).parent / "kind_topic.py"
_TABLES: tuple[dict[Any, Any], ...] = (registry.TOPICS, registry.STUDIES, registry._FILES, ALGORITHMS, METRICS, CURVES)


@pytest.fixture(scope="module", autouse=True)
def _topic() -> Iterator[None]:
    """The topic, for this module alone."""
    kept = [dict(table) for table in _TABLES]
    registry.load_topic_file(FILE)
    yield
    for table, before in zip(_TABLES, kept, strict=True):
        table.clear()
        table.update(before)


def guessing(**fields: Any) -> Any:
    return config_from({"kind": "guessing", "algorithm": "guess-halves", **fields})


def study(profile: str = "full") -> KindStudy:
    found = registry.get_study("guessing", profile)
    assert isinstance(found, KindStudy)
    return found


# ---- configurations and records -------------------------------------------------------------------------------------


def test_configurations_of_classifiers_know_of_no_kind() -> None:
    config = make_config()
    assert "kind" not in config.content
    assert config_from(config.content) == config
    assert isinstance(config_from(config.content), RunConfig)


def test_the_kind_and_every_field_are_part_of_the_id() -> None:
    config = guessing()
    assert config.content == {
        "kind": "guessing",
        "algorithm": "guess-halves",
        "hyperparameters": {},
        "seed": 0,
        "guesses": 4,
        "broken": "",
    }
    assert config_from(json.loads(json.dumps(config.content))) == config
    assert len({config.run_id, guessing(seed=1).run_id, guessing(guesses=5).run_id}) == 3


def test_a_record_of_a_kind_is_read_back(store: RunStore) -> None:
    record = train(guessing(), store)
    assert store.load(guessing()) == record
    assert RunRecord.from_json(record.to_json()) == record
    assert record.curves["guess_error"] == sorted(record.curves["guess_error"], reverse=True)
    assert (len(record.curves["guess_error"]), record.status, record.unlearnt) == (4, "completed", False)
    assert store.path(record.config).relative_to(store.root).parts[:2] == ("digits-guess", "guess-halves")


def test_runs_of_a_kind_repeat_bit_for_bit(store: RunStore, other_store: RunStore) -> None:
    torch.manual_seed(123)  # what ran before must not matter
    first = train(guessing(algorithm="guess-random"), store)
    torch.manual_seed(321)
    assert train(guessing(algorithm="guess-random"), other_store).outcome() == first.outcome()


def test_an_edited_record_of_a_kind_is_refused(store: RunStore) -> None:
    record = train(guessing(), store)
    path = store.path(record.config)
    path.write_text(path.read_text().replace('"guesses": 4', '"guesses": 3'))
    with pytest.raises(RecordError, match="it was edited"):
        store.load(record.config)


def test_a_record_of_an_unknown_kind_names_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"its kind 'sorting' is unknown: load the topic .* \(--topic FILE\)"):
        config_from({"kind": "sorting", "algorithm": "bubble"})


def test_two_configurations_cannot_share_a_kind() -> None:
    with pytest.raises(ValueError, match="kind must be a name that no other configuration has, got 'guessing'"):

        @dataclass(frozen=True, kw_only=True)
        class Other(KindConfig):
            kind = "guessing"

    with pytest.raises(ValueError, match="got ''"):

        @dataclass(frozen=True, kw_only=True)
        class Nameless(KindConfig):
            pass


@pytest.mark.parametrize(
    ("broken", "message"),
    [("short", "must yield 4 times, as points says, got 3"), ("uneven", r"not every point has \['more'\]")],
)
def test_a_run_that_measures_something_else_than_it_says_is_refused(broken: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perform(guessing(broken=broken), torch.device("cpu"))


def test_a_training_loss_that_is_not_finite_ends_the_run(store: RunStore) -> None:
    record = train(guessing(broken="nan"), store)
    assert (record.status, len(record.curves["train_loss"])) == ("diverged", 2)
    loaded = store.load(record.config)
    assert loaded is not None
    assert loaded.final["train_loss"] is None


def test_what_is_no_configuration_of_a_run_is_refused(store: RunStore) -> None:
    class Unfit(BaseConfig):
        task, points, datasets = "a-b", 1, ()  # type: ignore[assignment]

    with pytest.raises(TypeError, match="config must be a RunConfig or a KindConfig, got Unfit"):
        train(Unfit(algorithm="sgd"), store)


# ---- studies, results, commands -------------------------------------------------------------------------------------


def test_a_study_of_a_kind_is_run_compared_and_shown(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results" / "runs")
    outcome = run_study(study(), store, progress=False)
    assert (outcome.loaded, outcome.trained) == (0, 10)
    assert run_study(study(), store, progress=False).trained == 0
    results = results_of(study(), tmp_path)
    assert results.missing == []
    assert "10 of 10 runs loaded" in results.loaded
    assert results.protocol.to_dict("records") == [{"Task": "digits-guess", "Guesses": 4, "Seeds": 5}]
    assert set(results.tables) == {"guessing-guess-error", "guessing-guess-error-differences", "guessing-summary"}
    assert set(results.figures) == {
        "guessing-guess-error",
        "guessing-guess-error-differences",
        "guessing-error-by-guess",
    }
    assert "Guess" in {axes.get_xlabel() for axes in results.figures["guessing-error-by-guess"].draw().axes}
    assert "epoch" not in results.figures["guessing-guess-error"].full_caption
    lines = describe_runs(results, Wanted(algorithm="guess-halves", seed=0), lambda run_id: f"again {run_id}")
    assert lines[0] == "digits-guess, guess-halves, clean labels, 4 points"
    assert lines[-1] == "1 of 1 runs recorded"


def test_runs_of_a_kind_are_reproduced(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results" / "runs")
    own = replace(study("quick"), seeds=(0,))
    run_study(own, store, progress=False)
    assert [found.judgment for found in reproduce(own, store, progress=False)] == ["identical", "identical"]


@pytest.mark.slow
def test_workers_of_other_processes_know_the_kind(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results" / "runs")
    assert run_study(study("quick"), store, Workers(jobs=2), progress=False).trained == 4


def test_a_task_that_answers_with_another_run_is_refused(tmp_path: Path) -> None:
    (task,) = study().tasks
    wrong = replace(study(), tasks=(replace(task, config=lambda algorithm, seed: guessing(algorithm=algorithm)),))
    with pytest.raises(ValueError, match=r"got that of .'digits-guess', 'guess-random', 0"):
        wrong.final_configs(RunStore(tmp_path))


def test_an_algorithm_of_a_kind_trains_no_classifier(store: RunStore) -> None:
    with pytest.raises(ValueError, match="algorithm must be one that trains a classifier, got 'guess-halves'"):
        train(make_config(algorithm="guess-halves"), store)


def test_the_command_lists_the_kind(tmp_path: Path) -> None:
    shown = run_command(["--topic", str(FILE), "list"], tmp_path)
    assert "Do halves find the number?" in shown
    assert "By halves" in shown
