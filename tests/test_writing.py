"""Writing files: in an order that survives a power loss, whole or not at all, and only when something changed."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import advanced_optimizers
import benchmarks
from advanced_optimizers.experiments.records import writing
from advanced_optimizers.experiments.records.checkpoints import save_checkpoint
from advanced_optimizers.experiments.records.manifest import write_manifest
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.records.writing import remove_leftovers, write_atomically, write_if_changed
from tests.experiments_helpers import files_under, make_config, make_record

# --- Power loss ------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What reaches the disk, in order: the call and the name of the file or folder."""
    seen: list[tuple[str, str]] = []
    originals = {name: getattr(os, name) for name in ("fsync", "replace", "link")}

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        written = path.is_dir() or path.stat().st_size > 0
        seen.append(("fsync" if written else "fsync of nothing", path.name))
        originals["fsync"](descriptor)

    def named(name: str) -> Callable[..., None]:
        def call(source: Path, target: Path) -> None:
            seen.append((name, Path(target).name))
            originals[name](source, target)

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", named("replace"))
    monkeypatch.setattr(os, "link", named("link"))
    return seen


def steps(calls: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The calls, with a temporary file named by the file that it becomes."""
    return [(call, f"temporary {name.split('.')[0]}" if name.endswith(".tmp") else name) for call, name in calls]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the names of open files in /proc")
class TestPowerLoss:
    @pytest.mark.parametrize(("exclusive", "call"), [(False, "replace"), (True, "link")])
    def test_the_content_is_on_the_disk_before_the_name_and_then_the_name_is(
        self, tmp_path: Path, calls: list[tuple[str, str]], exclusive: bool, call: str
    ) -> None:
        write_atomically(tmp_path / "a.txt", "text", exclusive=exclusive)
        assert steps(calls) == [("fsync", "temporary a"), (call, "a.txt"), ("fsync", tmp_path.name)]

    def test_so_are_the_names_of_new_folders(self, tmp_path: Path, calls: list[tuple[str, str]]) -> None:
        write_atomically(tmp_path / "one" / "two" / "a.txt", "text")
        assert steps(calls)[:2] == [("fsync", tmp_path.name), ("fsync", "one")]
        assert steps(calls)[-1] == ("fsync", "two")

    @pytest.mark.parametrize("kind", ["record", "retrained record", "checkpoint", "manifest", "changed file"])
    def test_everything_is_written_in_this_order(
        self, store: RunStore, calls: list[tuple[str, str]], kind: str
    ) -> None:
        config = make_config()
        path = store.path(config)
        if kind == "record":
            store.save(make_record(config))
        elif kind == "retrained record":
            store.save(make_record(config), replace=True)
        elif kind == "checkpoint":
            path = store.checkpoint_path(config)
            save_checkpoint(path, {"epoch": 1}, {"run_id": config.run_id})
        elif kind == "manifest":
            path = write_manifest(store.root, {"a/b/0123456789abcdef.json": "0" * 64})
        else:
            path.parent.mkdir(parents=True)
            path.write_text("old")
            write_if_changed(path, "new")
        named = "link" if kind == "record" else "replace"
        expected = [("fsync", f"temporary {path.stem}"), (named, path.name), ("fsync", path.parent.name)]
        assert steps(calls)[-3:] == expected


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"


# --- Whole or not at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("existing", [True, False])
def test_with_a_full_disk_the_file_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, existing: bool
) -> None:
    path = tmp_path / "report.md"
    if existing:
        path.write_text("old" * 10_000)
    before = files_under(tmp_path)

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_if_changed(path, "new")
    assert caught.value.errno == errno.ENOSPC
    assert str(path) in str(caught.value)
    assert files_under(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_write_that_the_disk_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.md"
    path.write_text("old")
    monkeypatch.setattr(writing, "_temporary_path", lambda path: tmp_path / "full")
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically(path, "new" * 100_000)
    assert str(path) in str(caught.value)
    assert files_under(tmp_path) == {"report.md": b"old"}


def test_an_exclusive_write_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old", exclusive=True)
    with pytest.raises(FileExistsError, match=r"a\.txt"):
        write_atomically(path, "new", exclusive=True)
    assert files_under(tmp_path) == {"a.txt": b"old"}


def test_a_file_in_a_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(FileExistsError) as caught:
        write_atomically(tmp_path / "folder" / "inner" / "a.txt", "new", exclusive=True)
    assert str(caught.value.filename) == str(tmp_path / "folder")


def test_the_mode_of_the_file_is_kept_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "a.sh", tmp_path / "link.sh"
    path.write_text("old")
    path.chmod(0o750)
    link.symlink_to(path)
    assert write_if_changed(link, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert link.is_symlink()


# --- Only when it changed --------------------------------------------------------------------------------------------


def test_an_unchanged_file_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    assert write_if_changed(path, "é\n")
    monkeypatch.setattr(writing, "write_atomically", lambda *_: pytest.fail("it was written"))
    assert not write_if_changed(path, "é\n")
    assert not write_if_changed(path, "é\n".encode())


def test_line_ends_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\r\ntwo\r\n")
    assert not write_if_changed(path, "one\ntwo\n")
    assert write_if_changed(path, "one\nthree\n")
    assert path.read_bytes() == b"one\r\nthree\r\n"
    assert write_if_changed(path, b"bytes\n")
    assert path.read_bytes() == b"bytes\n"


# Base shapes are written by the package itself, which does without the experiments; the third writes into /proc, and
# the fourth adds lines to a log that others follow.
IN_PLACE = re.compile(r"""\.write_(text|bytes)\(|\bopen\([^)\n]*["'][wax]b?\+?["']""")
WRITERS = {
    "experiments/records/writing.py",
    "zero_shot_transfer/base_shapes.py",
    "experiments/records/machine.py",
    "experiments/compare/live.py",
}


def test_nothing_else_writes_files() -> None:
    for package in (advanced_optimizers, benchmarks):
        folder = Path(package.__file__ or "").parent
        found = {
            path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if IN_PLACE.search(path.read_text())
        }
        assert found == (WRITERS if package is advanced_optimizers else set())


# --- Leftovers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def temporary(path: Path, process: int, machine: str | None = None) -> Path:
    return path.with_name(f"{path.name}.{machine or writing._machine()}-{process}-0.tmp")


def test_what_dead_processes_left_is_removed_and_what_living_ones_write_is_not(
    tmp_path: Path, dead_process: int
) -> None:
    path = tmp_path / "a.txt"
    dead, mine = temporary(path, dead_process), temporary(path, os.getpid())
    parent, elsewhere = temporary(path, os.getppid()), temporary(path, dead_process, "0" * 8)
    foreign = [tmp_path / "a.tmp", tmp_path / "a.4242.tmp", tmp_path / "notes.txt"]
    for file in (dead, mine, parent, elsewhere, *foreign):
        file.write_text("half")
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f.name for f in (mine, parent, elsewhere, *foreign)}
    remove_leftovers(tmp_path / "no folder")


def test_a_real_temporary_file_has_a_name_that_is_recognized(tmp_path: Path, dead_process: int) -> None:
    name = writing._temporary_path(tmp_path / "a.b.json").name
    assert name.startswith("a.b.json.")
    left = tmp_path / name.replace(f"-{os.getpid()}-", f"-{dead_process}-")
    left.touch()
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_the_first_write_into_a_folder_removes_them(tmp_path: Path, dead_process: int) -> None:
    left = temporary(tmp_path / "a.txt", dead_process)
    left.write_text("half")
    write_atomically(tmp_path / "b.txt", "text")  # before it needs the space
    assert files_under(tmp_path) == {"b.txt": b"text"}


def test_a_store_removes_them_among_its_records_and_checkpoints(store: RunStore, dead_process: int) -> None:
    config = make_config()
    store.save(make_record(config))
    save_checkpoint(store.checkpoint_path(config), {}, {})
    before = files_under(store.root.parent)
    for path in (store.path(config), store.checkpoint_path(config), store.root / "SHA256SUMS", store.root / "a" / "b"):
        path.parent.mkdir(exist_ok=True)
        temporary(path, dead_process).write_text("half")
    store.remove_leftovers()
    assert files_under(store.root.parent) == before
