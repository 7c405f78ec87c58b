"""Training a study again: for one process at a time, and never with what other code left."""

from __future__ import annotations

import json
import os
import platform
import warnings
from pathlib import Path
from typing import Any

import pytest

from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.records import machine
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies import registry, retraining, running
from advanced_optimizers.experiments.studies.retraining import RetrainingError, retraining_store
from advanced_optimizers.experiments.studies.running import run_study
from tests.experiments_helpers import TINY, Stopped, files_under, make_config, make_record, retrain_elsewhere


def interrupted(name: str, store: RunStore) -> Path:
    """Leaves a retraining with one trained run behind; returns the folder of its records."""
    used: list[RunStore] = []

    def stop_in_the_middle() -> None:
        with retraining_store(name, store, "cpu") as scratch:
            used.append(scratch)
            scratch.save(make_record(make_config()))
            raise Stopped

    with pytest.raises(Stopped):
        stop_in_the_middle()
    assert len(used[0].records()) == 1
    return used[0].root


def taken_over(store: RunStore) -> list[RunRecord]:
    """The records that the next retraining finds."""
    with retraining_store("tiny", store, "cpu") as scratch:
        return scratch.records()


@pytest.fixture
def no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- One process at a time -------------------------------------------------------------------------------------------


def test_a_second_retraining_says_who_is_at_it_and_touches_nothing(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with retrain_elsewhere("tiny", store) as process:
        before = files_under(store.root.parent)
        with pytest.raises(
            RetrainingError, match=f"tiny is being trained again by process {process.pid} on "
        ) as caught:
            run_study(TINY, store, retrain=True, progress=False)
        assert platform.node() in str(caught.value)
        assert ", since 20" in str(caught.value)
        monkeypatch.setitem(registry.STUDIES, ("tiny", "quick"), TINY)
        monkeypatch.setattr("advanced_optimizers.experiments.__main__.run_store", lambda profile: store)
        assert main(["run", "tiny", "--retrain", "--jobs", "1"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"error: {caught.value}"
        assert files_under(store.root.parent) == before
        with retraining_store("other", store, "cpu"):  # another study is free
            pass
    with retraining_store("tiny", store, "cpu"):  # and so is this one, once that process is dead
        pass


def test_an_owner_that_cannot_be_read_is_another_process(store: RunStore) -> None:
    with retraining_store("tiny", store, "cpu"):
        owner = store.progress_folder / "retrain-tiny.json"
        assert json.loads(owner.read_text())["process"] == os.getpid()
        for content in ("{", "[]", "{}"):
            owner.write_text(content)
            assert retraining._words(owner) == "another process"
        owner.unlink()
        assert retraining._words(owner) == "another process"
        owner.touch()


# --- What an earlier one left ----------------------------------------------------------------------------------------


def test_the_same_code_goes_on(store: RunStore, no_warnings: None) -> None:
    interrupted("tiny", store)
    assert taken_over(store) == [make_record(make_config())]
    assert [path.suffix for path in store.progress_folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["git_commit", "git_dirty", "torch", "package_version", "device_name"])
def test_what_another_version_left_is_discarded_and_said(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    interrupted("tiny", store)
    now = machine.environment
    monkeypatch.setattr(retraining, "environment", lambda device: {**now(device), name: "another"})
    with pytest.warns(UserWarning, match="retraining of tiny by other code or on another machine is discarded"):
        assert taken_over(store) == []


def test_so_is_what_an_edit_that_is_not_committed_left(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted("tiny", store)
    monkeypatch.setattr(retraining, "source_checksum", lambda: "0" * 64)
    with pytest.warns(UserWarning, match="is discarded"):
        assert taken_over(store) == []


def test_so_is_what_a_version_left_that_did_not_say_which(store: RunStore) -> None:
    old = RunStore(store.progress_folder / "retrain-tiny" / "runs")
    old.save(make_record(make_config()))
    with pytest.warns(UserWarning, match="is discarded"):
        assert taken_over(store) == []
    assert not old.root.exists()


def test_another_study_with_a_longer_name_keeps_its_own(store: RunStore, no_warnings: None) -> None:
    left = interrupted("tiny-longer", store)
    with retraining_store("tiny", store, "cpu"):
        pass
    assert len(RunStore(left).records()) == 1


def test_a_damaged_record_does_not_stop_a_retraining(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged, kept = TINY.tuning_configs()[:2]
    for config in (damaged, kept):
        store.save(make_record(config))
    store.path(damaged).write_text("{")
    with pytest.warns(UserWarning, match=f"runs of tiny that tuning chose before may stay.*{damaged.run_id}"):
        running._replace(store, TINY, [make_record(damaged)])
    assert {record.run_id for record in store.records()} == {damaged.run_id, kept.run_id}
