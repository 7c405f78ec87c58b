"""The store of records: a record is written once and never lost, and a damaged one is named."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from advanced_optimizers.experiments.records.record import RecordError
from advanced_optimizers.experiments.records.store import RunStore
from tests.experiments_helpers import files_under, make_config, make_record

# --- The store -------------------------------------------------------------------------------------------------------


def test_a_saved_record_is_loaded_from_its_place(store: RunStore) -> None:
    record = make_record(make_config())
    assert store.load(record.config) is None
    path = store.save(record)
    assert path == store.root / "digits-mlp" / "sgd" / f"{record.run_id}.json" == store.path(record.config)
    assert store.load(record.config) == record
    assert store.load(make_config(seed=1)) is None


def test_a_record_is_never_overwritten(store: RunStore) -> None:
    record = make_record(make_config())
    store.save(record)
    before = files_under(store.root)
    with pytest.raises(FileExistsError):
        store.save(replace(record, total_seconds=99.0))
    assert files_under(store.root) == before


def test_a_record_is_replaced_on_demand(store: RunStore) -> None:
    record = make_record(make_config())
    for seconds in (1.0, 2.0):
        store.save(replace(record, total_seconds=seconds), replace=True)
    loaded = store.load(record.config)
    assert loaded is not None
    assert loaded.total_seconds == 2.0
    assert len(files_under(store.root)) == 1


@pytest.mark.parametrize(("replacing", "last_step"), [(False, "link"), (True, "replace")])
def test_a_save_that_fails_leaves_nothing_behind(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, replacing: bool, last_step: str
) -> None:
    record = make_record(make_config())
    if replacing:
        store.save(record)
    before = files_under(store.root)

    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, last_step, fail)
    with pytest.raises(OSError, match="no space"):
        store.save(replace(record, total_seconds=99.0), replace=replacing)
    assert files_under(store.root) == before


def test_a_reader_never_sees_a_partial_record(store: RunStore) -> None:
    config = make_config(epochs=10)
    long = {f"curve_{number}": [float(epoch) for epoch in range(1000)] for number in range(20)}
    record = replace(make_record(config), curves=long)
    store.save(record)
    done = threading.Event()

    def write() -> None:
        for seconds in range(10):
            store.save(replace(record, total_seconds=float(seconds)), replace=True)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or reads == 0:
        loaded = store.load(config)  # raises if the file is incomplete
        assert loaded is not None
        assert len(store.paths()) == 1
        reads += 1
    writer.join()


def test_leftover_temporary_files_are_ignored(store: RunStore) -> None:
    record = make_record(make_config())
    path = store.save(record)
    path.with_suffix(".4242.tmp").write_text('{"run_id": "trunc')
    path.with_name("0123456789abcdef.1.tmp").write_bytes(b"\x00\xff")
    assert store.paths() == [path]
    assert store.records() == [record]
    assert store.load(record.config) == record


def test_a_store_without_a_folder_is_empty(store: RunStore) -> None:
    assert store.paths() == []
    assert store.records() == []
    assert not store.root.exists()


def test_records_are_sorted_by_path(store: RunStore) -> None:
    configs = [make_config(algorithm=name, seed=seed) for name in ("sgd", "adam") for seed in (2, 0, 1)]
    for config in configs:
        store.save(make_record(config))
    paths = store.paths()
    assert paths == sorted(store.path(config) for config in configs)
    assert [store.path(record.config) for record in store.records()] == paths


def _edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: path.write_text(path.read_text()[:-40]),
    "empty": lambda path: path.write_text(""),
    "binary garbage": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "not an object": lambda path: path.write_text("[1, 2]"),
    "edited seed": _edit(lambda content: content["config"].update(seed=7)),
    "edited hyperparameter": _edit(lambda content: content["config"]["hyperparameters"].update(lr=0.5)),
    "edited id": _edit(lambda content: content.update(run_id="0" * 16)),
    "bad value in the configuration": _edit(lambda content: content["config"].update(epochs=0)),
    "unknown field in the configuration": _edit(lambda content: content["config"].update(color="red")),
    "configuration is not an object": _edit(lambda content: content.update(config=[1])),
    "lacks curves": _edit(lambda content: content.pop("curves")),
    "lacks the id": _edit(lambda content: content.pop("run_id")),
    "unknown field": _edit(lambda content: content.update(color="red")),
    "unknown status": _edit(lambda content: content.update(status="nearly")),
    "curves are not an object": _edit(lambda content: content.update(curves=None)),
    "a curve is not a list": _edit(lambda content: content["curves"].update(test_accuracy=0.9)),
    "a curve is cut": _edit(lambda content: content["curves"]["test_accuracy"].pop()),
    "final is not an object": _edit(lambda content: content.update(final=[])),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_record_is_named_and_the_others_are_read(store: RunStore, name: str) -> None:
    good, bad = make_record(make_config(seed=0)), make_record(make_config(seed=1))
    store.save(good)
    path = store.save(bad)
    DAMAGES[name](path)
    for read in (lambda: store.load(bad.config), store.records):
        with pytest.raises(RecordError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert str(store.path(good.config)) not in str(caught.value)
        assert "delete it" in str(caught.value)
    assert store.load(good.config) == good


def test_a_record_under_a_wrong_name_is_damaged(store: RunStore) -> None:
    path = store.save(make_record(make_config(seed=0)))
    moved = path.rename(store.path(make_config(seed=1)))
    with pytest.raises(RecordError, match=moved.name):
        store.load(make_config(seed=1))


def test_all_damaged_records_are_named_at_once(store: RunStore) -> None:
    paths = [store.save(make_record(make_config(seed=seed))) for seed in range(3)]
    for path in paths[:2]:
        path.write_text("")
    with pytest.raises(RecordError) as caught:
        store.records()
    assert [str(path) in str(caught.value) for path in paths] == [True, True, False]
