"""The manifest: it protects records without a checksum of their own, and says which records there are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from advanced_optimizers.experiments.records.manifest import MANIFEST, read_manifest
from advanced_optimizers.experiments.records.record import RecordError, RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from tests.experiments_helpers import files_under, make_config, make_record

COMMITTED = Path(__file__).parent.parent / "results" / "runs"


def save_old(store: RunStore, seed: int = 0) -> Path:
    """Writes a record as versions without checksums did."""
    record = make_record(make_config(seed=seed))
    path = store.save(record)
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=1) + "\n")


# --- Records without a checksum --------------------------------------------------------------------------------------


def test_an_old_record_is_loaded_once_it_is_adopted_and_never_rewritten(store: RunStore) -> None:
    path = save_old(store)
    before = path.read_bytes()
    with pytest.raises(RecordError, match=r"no manifest lists it.*`adopt`"):
        store.records()
    with pytest.raises(RecordError, match="no manifest lists it"):
        store.update_manifest()
    store.update_manifest(adopt=True)
    assert store.records() == [make_record(make_config())]
    assert path.read_bytes() == before


def test_an_edit_of_an_old_record_is_found_and_cannot_be_adopted(store: RunStore) -> None:
    path, other = save_old(store), save_old(store, seed=1)
    store.update_manifest(adopt=True)
    edit(path, peak_memory_bytes=1)
    for act in (store.records, store.update_manifest, lambda: store.update_manifest(adopt=True)):
        with pytest.raises(RecordError, match="not what the manifest lists: it was edited") as caught:
            act()
        assert str(path) in str(caught.value)
        assert str(other) not in str(caught.value)


def test_a_new_manifest_is_read_at_once(store: RunStore) -> None:
    save_old(store)
    store.update_manifest(adopt=True)
    assert len(store.records()) == 1
    save_old(store, seed=1)
    store.update_manifest(adopt=True)
    assert len(store.records()) == 2


def test_line_ends_do_not_matter(store: RunStore) -> None:
    path = save_old(store)
    store.update_manifest(adopt=True)
    for file in (path, store.root / MANIFEST):  # as git may check them out
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert store.records() == [make_record(make_config())]


@pytest.mark.parametrize(
    "text", ["garbage\n", "0" * 64 + "  a/b/../c.json\n", ("0" * 64 + f"  a/b/{'1' * 16}.json\n") * 2]
)
def test_a_damaged_manifest_is_named(store: RunStore, text: str) -> None:
    store.save(make_record(make_config()))
    (store.root / MANIFEST).write_text(text)
    with pytest.raises(RecordError, match=f"{MANIFEST} is damaged.*restore it"):
        store.records()


# --- Which records there are -----------------------------------------------------------------------------------------


@pytest.fixture
def listed(store: RunStore) -> RunStore:
    for seed in range(3):
        store.save(make_record(make_config(seed=seed)))
    store.update_manifest()
    return store


def name(store: RunStore, seed: int) -> str:
    return store.path(make_config(seed=seed)).relative_to(store.root).as_posix()


def test_every_record_is_listed_as_sha256sum_does(listed: RunStore) -> None:
    assert list(read_manifest(listed.root)) == sorted(name(listed, seed) for seed in range(3))
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", MANIFEST], cwd=listed.root, check=True)
    assert listed.differences() == type(listed.differences())([], [], [], [])


def test_an_unchanged_manifest_is_not_written(listed: RunStore) -> None:
    before = (listed.root / MANIFEST).stat().st_mtime_ns
    listed.update_manifest()
    assert (listed.root / MANIFEST).stat().st_mtime_ns == before


def test_differences_are_found_and_an_update_lists_what_is_there(listed: RunStore) -> None:
    listed.path(make_config(seed=0)).unlink()
    changed = make_record(make_config(seed=1), test_accuracy=0.8)
    listed.save(changed, replace=True)
    listed.save(make_record(make_config(seed=7)))
    found = listed.differences()
    assert found.gone == [name(listed, 0)]
    assert found.changed == [name(listed, 1)]
    assert found.added == [name(listed, 7)]
    assert found.damaged == []
    listed.update_manifest()
    assert set(read_manifest(listed.root)) == {name(listed, seed) for seed in (1, 2, 7)}
    assert listed.differences().changed == []


@pytest.mark.parametrize(
    "place", ["wrong.json", "digits-mlp/wrong.json", "digits-mlp/adam/{}", "a/b/c/{}", "digits-mlp/sgd/a.txt"]
)
def test_a_file_that_belongs_elsewhere_is_found(listed: RunStore, place: str) -> None:
    path = listed.path(make_config(seed=0))
    copy = listed.root / place.format(path.name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, copy)
    before = files_under(listed.root)
    (problem,) = listed.differences().damaged
    assert str(copy) in problem
    assert str(path) in problem
    with pytest.raises(RecordError, match="it belongs in"):
        listed.update_manifest()
    assert files_under(listed.root) == before


# --- The committed records -------------------------------------------------------------------------------------------


def test_the_committed_records_are_all_listed_and_load() -> None:
    store = RunStore(COMMITTED)
    records = store.records()
    assert len(records) == len(read_manifest(COMMITTED)) >= 1258
    assert {store.path(record.config).relative_to(COMMITTED).as_posix() for record in records} == set(
        read_manifest(COMMITTED)
    )
    differences = store.differences()
    assert (differences.damaged, differences.gone, differences.changed, differences.added) == ([], [], [], [])


def test_a_committed_record_believes_no_edit(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    path = next(COMMITTED.glob("mnist-mlp/*/*.json"))  # of a run that has a train accuracy
    copy = tmp_path / path.relative_to(COMMITTED)
    copy.parent.mkdir(parents=True)
    shutil.copy(path, copy)
    shutil.copy(COMMITTED / MANIFEST, tmp_path / MANIFEST)
    (record,) = store.records()
    assert record == RunStore(COMMITTED).load(record.config)
    better = {**record.final, "train_accuracy": 0.9999}
    edit(copy, final=better)
    with pytest.raises(RecordError, match="it was edited"):
        store.records()
    curves = {**record.curves, "train_accuracy": [0.9999] * len(record.curves["train_accuracy"])}
    edit(copy, final=better, curves=curves)
    with pytest.raises(RecordError, match="it was edited"):
        store.records()


def test_a_sealed_record_says_the_same_as_it_did(store: RunStore) -> None:
    record = make_record(make_config())
    assert (
        json.loads(record.to_json())["checksum"]
        == json.loads(RunRecord.from_json(record.to_json()).to_json())["checksum"]
    )
