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

from advanced_optimizers.experiments.records.checks import content_checksum
from advanced_optimizers.experiments.records.config import RunConfig
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
    config = make_config(epochs=500)
    long = {f"curve_{number}": [float(epoch) for epoch in range(500)] for number in range(10)}
    record = replace(make_record(config), curves=long, final=dict.fromkeys(long, 499.0))
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


# --- Damaged records -------------------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[dict[str, Any]], Any], *, seal: bool = True) -> None:
    """Changes a record's content; ``seal`` gives it the checksum of the new content, so that other checks must act."""
    content = json.loads(path.read_text())
    change(content)
    if seal:
        content["checksum"] = content_checksum(content)
    path.write_text(json.dumps(content))


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: path.write_text(path.read_text()[:-40]), "delimiter|Expecting|Unterminated"),
    "empty": (lambda path: path.write_text(""), "Expecting value"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "Expecting value"),
    "binary garbage": (lambda path: path.write_bytes(bytes(range(256)) * 4), "codec can't decode"),
    "not an object": (lambda path: path.write_text("[1, 2]"), "not a JSON object"),
    "nested deeply": (lambda path: path.write_text("[" * 100_000), "nested too deeply"),
    "a number that is not JSON": (lambda path: path.write_text('{"a": NaN}'), "NaN is not JSON"),
    "a repeated key": (lambda path: path.write_text('{"final": {}, "final": {}}'), "the key 'final' twice"),
    "a repeated key inside": (lambda path: path.write_text('{"a": {"b": 1, "b": 2}}'), "the key 'b' twice"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "it is not a file"),
    "a dangling link": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "No such file"),
    "a link to itself": (lambda path: (path.unlink(), path.symlink_to(path)), "symbolic links"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "it is not a file"),
}

Change = Callable[[dict[str, Any]], Any]
EDITS: dict[str, tuple[Change, str]] = {
    "seed": (lambda record: record["config"].update(seed=7), "not that of its configuration"),
    "hyperparameter": (lambda record: record["config"]["hyperparameters"].update(lr=0.5), "its configuration"),
    "id": (lambda record: record.update(run_id="0" * 16), "not that of its configuration"),
    "bad value in the configuration": (lambda record: record["config"].update(epochs=0), "epochs must be"),
    "a number that no float holds": (lambda record: record["config"].update(width=10**400), "too large to convert"),
    "unknown field in the configuration": (lambda record: record["config"].update(color="red"), "color"),
    "configuration is not an object": (lambda record: record.update(config=[1]), "mapping"),
    "configuration is null": (lambda record: record.update(config=None), "mapping"),
    "lacks curves": (lambda record: record.pop("curves"), r"lacks \['curves'\]"),
    "lacks the id": (lambda record: record.pop("run_id"), r"lacks \['run_id'\]"),
    "unknown field": (lambda record: record.update(color="red"), "color"),
    "unknown status": (lambda record: record.update(status="nearly"), "its status is 'nearly'"),
    "status is a list": (lambda record: record.update(status=[]), r"its status is \[\]"),
    "environment is null": (lambda record: record.update(environment=None), "'environment' is not an object"),
    "environment lacks torch": (lambda record: record["environment"].pop("torch"), "lacks 'torch'"),
    "device name is null": (lambda record: record["environment"].update(device_name=None), "None as 'device_name'"),
    "threads are true": (lambda record: record["environment"].update(threads=True), "True as 'threads'"),
    "numpy is a number": (lambda record: record["environment"].update(numpy=2.4), "2.4 as 'numpy'"),
    "capability is null": (
        lambda record: record["environment"].update(cpu_capability=None),
        "None as 'cpu_capability'",
    ),
    "curves are null": (lambda record: record.update(curves=None), "'curves' is not an object"),
    "no curves": (lambda record: record.update(curves={}, final={}), "'curves' is not an object with curves"),
    "a curve is a number": (lambda record: record["curves"].update(test_accuracy=0.9), "not a list"),
    "a curve of text": (lambda record: record["curves"].update(test_loss=["0.5"] * 2), "not a finite decimal"),
    "a curve of lists": (lambda record: record["curves"].update(test_loss=[[0.5]] * 2), "not a finite decimal"),
    "a curve of truths": (lambda record: record["curves"].update(test_loss=[True] * 2), "not a finite decimal"),
    "a curve is cut": (lambda record: record["curves"]["test_accuracy"].pop(), "differ in length"),
    "curves are cut": (lambda record: [v.pop() for v in record["curves"].values()], "not the end of its curves"),
    "curves and final are cut": (
        lambda record: [record["final"].update({k: v.pop() and v[-1]}) for k, v in record["curves"].items()],
        "1 values, for a completed run of 2 epochs",
    ),
    "curves are longer": (lambda record: [v.append(v[-1]) for v in record["curves"].values()], "3 values, for a run"),
    "curves are empty": (lambda record: [v.clear() for v in record["curves"].values()], "0 values, for a run"),
    "accuracy above 1": (lambda record: record["curves"].update(test_accuracy=[1.0, 1.01]), r"outside \[0, 1\]"),
    "accuracy below 0": (lambda record: record["curves"].update(test_accuracy=[-0.1, 0.9]), r"outside \[0, 1\]"),
    "negative time": (lambda record: record["curves"].update(seconds=[-1.0, 2.0]), "below 0"),
    "final is a list": (lambda record: record.update(final=[]), "'final' is not an object"),
    "final accuracy": (lambda record: record["final"].update(test_accuracy=0.9999), r"curves \(test_accuracy\)"),
    "final lacks one": (lambda record: record["final"].pop("test_accuracy"), r"curves \(test_accuracy\)"),
    "final has more": (lambda record: record["final"].update(own=1.0), r"curves \(own\)"),
    "final is true": (
        lambda record: (record["curves"].update(own=[1.0, 1.0]), record["final"].update(own=True)),
        r"curves \(own\)",
    ),
    "last value of a curve": (lambda record: record["curves"].update(test_accuracy=[1.0, 0.5]), "test_accuracy"),
    "diverged with a finite loss": (lambda record: record.update(status="diverged"), "its last training loss 0.5"),
    "completed without a loss": (
        lambda record: (record["curves"].update(train_loss=[1.0, None]), record["final"].update(train_loss=None)),
        "its last training loss None",
    ),
    "time is text": (lambda record: record.update(total_seconds="5"), "total_seconds are '5'"),
    "memory is negative": (lambda record: record.update(peak_memory_bytes=-1), "peak_memory_bytes are -1"),
}


def assert_named_alone(store: RunStore, good: RunConfig, bad: RunConfig, reason: str) -> None:
    """Loading the bad record raises an error that names it, and loading the good one does not."""
    for read in (lambda: store.load(bad), store.records):
        with pytest.raises(RecordError, match=reason) as caught:
            read()
        assert str(store.path(bad)) in str(caught.value)
        assert str(store.path(good)) not in str(caught.value)
        assert "delete it" in str(caught.value)
    assert store.load(good) == make_record(good)


@pytest.fixture
def pair(store: RunStore) -> tuple[RunConfig, RunConfig]:
    configs = make_config(seed=0), make_config(seed=1)
    for config in configs:
        store.save(make_record(config))
    return configs


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_others_are_read(
    store: RunStore, pair: tuple[RunConfig, RunConfig], name: str
) -> None:
    damage, reason = FILES[name]
    damage(store.path(pair[1]))
    assert_named_alone(store, *pair, reason)
    assert store.has(pair[1])  # it is not trained in vain


@pytest.mark.parametrize("name", EDITS)
def test_an_impossible_record_is_named_and_the_others_are_read(
    store: RunStore, pair: tuple[RunConfig, RunConfig], name: str
) -> None:
    change, reason = EDITS[name]
    edit(store.path(pair[1]), change)
    assert_named_alone(store, *pair, reason)


POSSIBLE: dict[str, Change] = {
    "accuracies": lambda record: (
        record["curves"].update(test_accuracy=[0.99, 0.999]),
        record["final"].update(test_accuracy=0.999),
    ),
    "memory": lambda record: record.update(peak_memory_bytes=1),
    "commit": lambda record: record["environment"].update(git_commit="f" * 40),
    "a new field of the environment": lambda record: record["environment"].update(note="clean"),
}


@pytest.mark.parametrize("name", POSSIBLE)
def test_a_possible_edit_is_found_by_the_checksum(
    store: RunStore, pair: tuple[RunConfig, RunConfig], name: str
) -> None:
    edit(store.path(pair[1]), POSSIBLE[name], seal=False)
    assert_named_alone(store, *pair, "not that of its checksum: it was edited")
    edit(store.path(pair[1]), lambda record: record.pop("checksum"), seal=False)
    assert_named_alone(store, *pair, "it has no checksum, and no manifest lists it")


def test_a_record_that_would_be_refused_is_not_written(store: RunStore) -> None:
    record = make_record(make_config())
    with pytest.raises(ValueError, match=f"{record.run_id} cannot be written.*not the end of its curves"):
        store.save(replace(record, final={**record.final, "test_accuracy": 0.99}))
    assert files_under(store.root) == {}


@pytest.mark.parametrize("depth", [0, 1])
def test_a_file_in_a_folders_place_is_named_before_anything_is_trained(store: RunStore, depth: int) -> None:
    config = make_config()
    blocked = store.path(config).parents[depth]
    blocked.parent.mkdir(parents=True)
    blocked.touch()
    with pytest.raises(RecordError, match=r"not a folder.*move it away") as caught:
        store.load(config)
    assert str(blocked) in str(caught.value)


@pytest.mark.parametrize("place", ["another run's", "another algorithm's", "another task's"])
def test_a_record_in_a_wrong_place_is_damaged(store: RunStore, place: str) -> None:
    record = make_record(make_config(seed=0))
    path = store.save(record)
    wrong = {
        "another run's": path.with_name(f"{make_config(seed=1).run_id}.json"),
        "another algorithm's": path.parents[1] / "adam" / path.name,
        "another task's": path.parents[2] / "mnist-mlp" / "sgd" / path.name,
    }[place]
    wrong.parent.mkdir(parents=True, exist_ok=True)
    path.rename(wrong)
    with pytest.raises(RecordError, match=f"it belongs in {path}") as caught:
        store.records()
    assert str(wrong) in str(caught.value)


def test_all_damaged_records_are_named_at_once(store: RunStore) -> None:
    paths = [store.save(make_record(make_config(seed=seed))) for seed in range(3)]
    for path in paths[:2]:
        path.write_text("")
    with pytest.raises(RecordError) as caught:
        store.records()
    assert [str(path) in str(caught.value) for path in paths] == [True, True, False]
