"""Running a study: recorded runs are loaded, missing ones are trained, and each failure is reported once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RecordError, RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies import running
from advanced_optimizers.experiments.studies.running import (
    StudyError,
    Workers,
    run_study,
    train_all,
)
from advanced_optimizers.experiments.training.loop import train_or_load
from tests.experiments_helpers import (
    TINY,
    TINY_RUNS,
    TINY_TRIALS,
    CountingStore,
    edit_record,
    files_under,
    lock_held_elsewhere,
    make_config,
    make_record,
    run_tiny_study_twice_at_once,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """The tiny study, trained; tests work on copies."""
    store = RunStore(tmp_path_factory.mktemp("finished") / "runs")
    assert run_study(TINY, store, progress=False).trained == TINY_RUNS
    return store


@pytest.fixture
def trained(store: RunStore, finished: RunStore) -> RunStore:
    shutil.copytree(finished.root, store.root)
    return store


def records_of(store: RunStore) -> dict[str, dict[str, Any]]:
    return {record.run_id: record.outcome() for record in store.records()}


def refuse_to_train(monkeypatch: pytest.MonkeyPatch, after: int = 0, error: type[BaseException] = Exception) -> None:
    """Training fails once ``after`` runs are trained."""
    left = [after]

    def train_a_few(config: RunConfig, store: RunStore, *arguments: Any) -> tuple[RunRecord, bool]:
        if not left[0]:
            raise error("stopped by the test")
        left[0] -= 1
        return train_or_load(config, store, *arguments)

    monkeypatch.setattr(running, "train_or_load", train_a_few)


# --- A study ---------------------------------------------------------------------------------------------------------


def test_a_study_trains_what_is_missing_and_loads_the_rest(
    trained: RunStore, finished: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, run = TINY.tuning_configs()[1], TINY.final_configs(trained)[5]
    for config in (trial, run):
        trained.path(config).unlink()
    kept = files_under(trained.root)
    outcome = run_study(TINY, trained, progress=False)
    assert (outcome.loaded, outcome.trained) == (TINY_RUNS - 2, 2)
    assert files_under(trained.root).items() >= kept.items()
    assert records_of(trained) == records_of(finished)
    refuse_to_train(monkeypatch)
    again = run_study(TINY, trained, progress=False)
    assert (again.loaded, again.trained) == (TINY_RUNS, 0)


def test_the_records_come_in_the_studys_order(trained: RunStore) -> None:
    records = run_study(TINY, trained, progress=False).records
    assert [record.config for record in records] == TINY.configs(trained)
    assert [trained.load(record.config) for record in records] == records


def test_the_comparison_waits_for_tuning(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_train(monkeypatch, after=TINY_TRIALS - 1)
    with pytest.raises(StudyError, match=f"1 of {TINY_TRIALS} runs failed"):
        run_study(TINY, store, progress=False)
    assert {record.config.split for record in store.records()} == {"validation"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_study_goes_on_where_it_was(
    store: RunStore, finished: RunStore, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    with monkeypatch.context() as patch:
        refuse_to_train(patch, after=7, error=error)
        with pytest.raises(error):
            run_study(TINY, store, progress=False)
    before = files_under(store.root)
    assert len(before) == 7
    outcome = run_study(TINY, store, progress=False)
    assert (outcome.loaded, outcome.trained) == (7, TINY_RUNS - 7)
    assert files_under(store.root).items() >= before.items()
    assert records_of(store) == records_of(finished)


def test_a_progress_bar_is_shown_on_demand(trained: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    run_study(TINY, trained, progress=False)
    assert capsys.readouterr() == ("", "")
    run_study(TINY, trained)
    shown = capsys.readouterr()
    assert "tiny: tuning" in shown.err
    assert f"{TINY_RUNS - TINY_TRIALS}/{TINY_RUNS - TINY_TRIALS}" in shown.err
    assert shown.out == ""


# --- Training all again ----------------------------------------------------------------------------------------------


def test_retraining_replaces_every_record(trained: RunStore) -> None:
    before, outcomes = files_under(trained.root), records_of(trained)
    outcome = run_study(TINY, trained, retrain=True, progress=False)
    assert (outcome.loaded, outcome.trained) == (0, TINY_RUNS)
    after = files_under(trained.root)
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in before)  # times differ
    assert records_of(trained) == outcomes
    assert {path.suffix for path in trained.progress_folder.glob("retrain*")} == {".lock"}


def test_an_interrupted_retraining_leaves_the_records_and_goes_on(
    trained: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, outcomes = files_under(trained.root), records_of(trained)
    with monkeypatch.context() as patch:
        refuse_to_train(patch, after=7, error=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            run_study(TINY, trained, retrain=True, progress=False)
    assert files_under(trained.root) == before
    outcome = run_study(TINY, trained, retrain=True, progress=False)
    assert (outcome.loaded, outcome.trained) == (7, TINY_RUNS - 7)
    assert records_of(trained) == outcomes
    assert all(content != before[path] for path, content in files_under(trained.root).items())


def test_retraining_removes_the_runs_of_another_choice(trained: RunStore, finished: RunStore) -> None:
    (task,) = TINY.tasks
    chosen = TINY.chosen_trial(trained, task, "sgd").config
    other = next(config for config in TINY.trial_configs(task, "sgd") if config != chosen)
    edit_record(trained, other, test_accuracy=1.0)
    for config in TINY.final_configs(finished):
        if config.algorithm == "sgd":
            trained.path(config).unlink()
    assert run_study(TINY, trained, progress=False).trained == 4
    assert records_of(trained).keys() != records_of(finished).keys()
    run_study(TINY, trained, retrain=True, progress=False)
    assert records_of(trained) == records_of(finished)


def test_retraining_a_new_study_is_training(store: RunStore, finished: RunStore) -> None:
    assert run_study(TINY, store, retrain=True, progress=False).trained == TINY_RUNS
    assert records_of(store) == records_of(finished)


# --- Failures --------------------------------------------------------------------------------------------------------


def test_a_failing_run_is_listed_once_and_the_others_are_recorded(store: RunStore) -> None:
    good = [make_config(seed=seed) for seed in range(2)]
    bad = make_config(algorithm="nothing", hyperparameters={"lr": 0.1})
    with pytest.raises(StudyError, match="1 of 3 runs failed") as caught:
        train_all([good[0], bad, good[1]], store, Workers(), "", progress=False)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(part in lines[1] for part in (bad.run_id, "digits-mlp", "nothing", "ValueError"))
    assert {record.run_id for record in store.records()} == {config.run_id for config in good}


def test_one_reason_of_many_runs_is_listed_once(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: RunConfig, *_: Any) -> None:
        raise RecordError("the same for all")

    monkeypatch.setattr(running, "train_or_load", fail)
    with pytest.raises(StudyError, match="3 of 3 runs failed") as caught:
        train_all([make_config(seed=seed) for seed in range(3)], store, Workers(), "", progress=False)
    assert str(caught.value).count("\n- ") == 1


IN_ITS_PLACE: dict[str, Callable[[Path], object]] = {
    "damaged": lambda path: path.write_text("{"),
    "edited": lambda path: path.write_text(path.read_text().replace("0.9", "0.99")),
    "nested deeply": lambda path: path.write_text("[" * 100_000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_a_damaged_record_fails_its_run_alone(store: RunStore, name: str) -> None:
    damaged, other = make_config(), make_config(seed=1)
    path = store.save(make_record(damaged))
    IN_ITS_PLACE[name](path)
    before = files_under(store.root)
    with pytest.raises(StudyError, match="1 of 2 runs failed") as caught:
        train_all([damaged, other], store, Workers(), "", progress=False)
    assert str(caught.value).count(str(path)) == 1
    assert files_under(store.root).items() >= before.items()
    assert store.load(other) is not None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"jobs": 0}, ValueError),
        ({"jobs": -1}, ValueError),
        ({"jobs": 1.5}, TypeError),
        ({"jobs": True}, TypeError),
        ({"engine": "threads"}, ValueError),
        ({"engine": ""}, ValueError),
        ({"device": "tpu9000"}, ValueError),
        ({"device": "meta"}, ValueError),  # torch has it, but nothing can be computed there
        ({"device": 1.5}, ValueError),
    ],
)
def test_bad_workers_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=name) as caught:
        Workers(**arguments)
    assert repr(value) in str(caught.value)


# --- Several processes -----------------------------------------------------------------------------------------------


def test_two_processes_share_a_study(tmp_path: Path, finished: RunStore) -> None:
    store = CountingStore(tmp_path / "shared" / "runs")
    counts = run_tiny_study_twice_at_once(store)
    assert sorted(store.saved()) == sorted(records_of(finished))  # each run trained once
    assert records_of(store) == records_of(finished)
    assert sum(trained for _, trained in counts) == TINY_RUNS
    assert [loaded + trained for loaded, trained in counts] == [TINY_RUNS, TINY_RUNS]
    assert len(files_under(store.root)) == TINY_RUNS
    assert list(store.progress_folder.glob("*.pt")) == []


def test_a_run_that_is_busy_is_waited_for(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, free = make_config(), make_config(seed=1)
    waits: list[float] = []

    def the_other_process_finishes(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            store.save(make_record(busy))

    monkeypatch.setattr(running, "time", SimpleNamespace(sleep=the_other_process_finishes))
    with lock_held_elsewhere(busy, store):
        assert train_all([busy, free], store, Workers(), "", progress=False) == 1
    assert len(waits) == 2
    assert all(seconds > 0 for seconds in waits)
    assert store.load(busy) == make_record(busy)


def test_a_run_that_another_process_finished_in_between_counts_as_loaded(store: RunStore) -> None:
    class JustBefore(RunStore):
        """Another process saves the record after this one has looked for it and before this one has the lock."""

        looks = 0

        def load(self, config: RunConfig) -> RunRecord | None:
            self.looks += 1
            return None if self.looks <= 2 else super().load(config)

    config = make_config()
    store.save(make_record(config))
    assert train_all([config], JustBefore(store.root), Workers(), "", progress=False) == 0
    assert store.load(config) == make_record(config)


@pytest.mark.slow
def test_two_jobs_give_the_same_records(store: RunStore, finished: RunStore) -> None:
    with pytest.raises(StudyError, match=r"1 of 1 runs failed.*\n- the run .* raised ValueError"):
        train_all([make_config(model="nothing")], store, Workers(jobs=2), "", progress=False)
    outcome = run_study(TINY, store, Workers(jobs=2), progress=False)
    assert (outcome.loaded, outcome.trained) == (0, TINY_RUNS)
    assert records_of(store) == records_of(finished)
    assert [record.config for record in outcome.records] == TINY.configs(store)
    assert {record.environment["threads"] for record in outcome.records} == {1}
