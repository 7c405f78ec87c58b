"""The store of records: one immutable file per run, found by the run's configuration."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from advanced_optimizers.experiments.records.checks import text_checksum
from advanced_optimizers.experiments.records.config import BaseConfig
from advanced_optimizers.experiments.records.manifest import MANIFEST, read_manifest, write_manifest
from advanced_optimizers.experiments.records.record import RecordError, RunRecord
from advanced_optimizers.experiments.records.writing import remove_leftovers, write_atomically


@dataclass(frozen=True)
class Differences:
    """How the records in a folder differ from its manifest.

    Attributes:
        damaged: What is wrong with each damaged, edited or misplaced file, in a sentence that names it.
        gone: The records that are listed and not there, by path.
        changed: The records that were trained again since they were listed, by path.
        added: The records that are there and not listed, by path.
    """

    damaged: list[str]
    gone: list[str]
    changed: list[str]
    added: list[str]


class RunStore:
    """The records in one folder, as ``<task>/<algorithm>/<run_id>.json``, with the locks and checkpoints of their runs.

    Every record is checked when it is loaded. See :mod:`.manifest` for the list of records in the same folder.

    Args:
        root: The folder of the records, such as ``results/runs``. Locks and checkpoints go to ``.progress`` next to it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.progress_folder = self.root.parent / ".progress"

    def path(self, config: BaseConfig) -> Path:
        """Where the record of a configuration is kept.

        Names of a user's own code and data hold a colon, which not every file system takes: it becomes ``_``.
        """
        return self.root / _safe(config.task) / _safe(config.algorithm) / f"{config.run_id}.json"

    def has(self, config: BaseConfig) -> bool:
        """Whether something is in the place of a configuration's record, be it damaged."""
        return os.path.lexists(self.path(config))

    def checkpoint_path(self, config: BaseConfig) -> Path:
        """Where a run in progress saves its checkpoint."""
        return self.progress_folder / f"{config.run_id}.pt"

    def lock(self, config: BaseConfig) -> FileLock:
        """The lock that a process holds while it trains a configuration; the system releases it if the process dies."""
        self.progress_folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.progress_folder / f"{config.run_id}.lock")

    def remove_leftovers(self) -> None:
        """Removes the temporary files that dead processes of this machine left among records and checkpoints."""
        for folder in (self.progress_folder, self.root, *self.root.glob("*/"), *self.root.glob("*/*/")):
            remove_leftovers(folder)

    def load(self, config: BaseConfig) -> RunRecord | None:
        """The record of a configuration, or None if there is none.

        Raises:
            RecordError: The file is damaged, or not what was once recorded.
        """
        path = self.path(config)
        if self.has(config):
            return self._read(path)
        above = next(folder for folder in path.parents if os.path.lexists(folder))
        if not above.is_dir():
            raise RecordError(f"{above} is not a folder, so the record {path} cannot be written: move it away")
        return None

    def paths(self) -> list[Path]:
        """The files of all records, sorted."""
        return sorted(self.root.glob("*/*/*.json"))

    def records(self) -> list[RunRecord]:
        """All records, sorted by path.

        Raises:
            RecordError: One or more files are damaged; the message names all of them.
        """
        records, problems = [], []
        for path in self.paths():
            try:
                records.append(self._read(path))
            except RecordError as error:
                problems.append(str(error))
        if problems:
            raise RecordError("\n".join(problems))
        return records

    def save(self, record: RunRecord, *, replace: bool = False) -> Path:
        """Writes a record atomically.

        Args:
            record: What to write.
            replace: Whether to replace an existing record of the same configuration.

        Raises:
            FileExistsError: The run already has a record, and ``replace`` is not set.
            ValueError: The record would be refused when it is loaded.
        """
        path, text = self.path(record.config), record.to_json()
        try:
            RunRecord.from_json(text)
        except ValueError as error:
            raise ValueError(f"the record of the run {record.run_id} cannot be written: {error}") from error
        write_atomically(path, text, exclusive=not replace)
        return path

    def update_manifest(self, *, adopt: bool = False) -> Path:
        """Lists the records that are there in the manifest, and no others; returns the manifest's path.

        Args:
            adopt: Whether to list records that have neither a checksum of their own nor a line in the manifest.

        Raises:
            RecordError: One or more files are damaged or misplaced; the message names all of them.
        """
        listed, problems = {}, []
        before = read_manifest(self.root)
        for path in self._files():
            name = self._name(path)
            try:
                text = _read_text(path)
                listed[name] = text_checksum(text)
                if listed[name] != before.get(name):
                    self._parse(path, text, listed[name] if adopt and name not in before else before.get(name))
            except RecordError as error:
                problems.append(str(error))
        if problems:
            raise RecordError("\n".join(problems))
        return write_manifest(self.root, listed)

    def differences(self) -> Differences:
        """How the records differ from the manifest."""
        listed, found = read_manifest(self.root), set()
        damaged: list[str] = []
        changed: list[str] = []
        added: list[str] = []
        for path in self._files():
            name = self._name(path)
            found.add(name)
            try:
                text = _read_text(path)
                if text_checksum(text) == listed.get(name):
                    continue
                self._parse(path, text, listed.get(name))
            except RecordError as error:
                damaged.append(str(error))
            else:
                (changed if name in listed else added).append(name)
        return Differences(damaged, sorted(listed.keys() - found), changed, added)

    def _files(self) -> Iterator[Path]:
        """Everything that is there, be it in a wrong place, except folders, temporary files and the manifest."""
        for path in sorted(self.root.rglob("*")):
            is_folder = path.is_dir() and path.suffix != ".json"
            if not is_folder and path.suffix != ".tmp" and path != self.root / MANIFEST:
                yield path

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _read(self, path: Path) -> RunRecord:
        return self._parse(path, _read_text(path), read_manifest(self.root).get(self._name(path)))

    def _parse(self, path: Path, text: str, listed: str | None) -> RunRecord:
        try:
            record = RunRecord.from_json(text, listed)
            if path != self.path(record.config):
                raise ValueError(f"it belongs in {self.path(record.config)}")
        except ValueError as error:
            raise _damaged(path, error) from error
        return record


class LayeredStore(RunStore):
    """A store that also finds the records of others, which it never writes.

    Args:
        root: The folder of its own records.
        others: Where a record is looked for that is not among them, in this order.
    """

    def __init__(self, root: str | Path, others: Sequence[RunStore] = ()) -> None:
        super().__init__(root)
        self.others = tuple(others)

    def has(self, config: BaseConfig) -> bool:
        """Whether a record is in its place here or in another store, be it damaged."""
        return super().has(config) or any(store.has(config) for store in self.others)

    def load(self, config: BaseConfig) -> RunRecord | None:
        """The record of a configuration, or None if no store has one; see :meth:`RunStore.load`."""
        holder = next((store for store in self.others if store.has(config)), None)
        return super().load(config) if super().has(config) or holder is None else holder.load(config)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+@-]", "_", name)


def _read_text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
            raise OSError("it is not a file")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> RecordError:
    reason = getattr(error, "strerror", None) or error  # that of an OSError is without the path
    return RecordError(
        f"the record {path} is damaged ({reason}): restore it from version control, or delete it and run its study "
        "again; the other records are untouched"
    )
