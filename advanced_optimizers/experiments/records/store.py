"""The store of records: one immutable file per run, found by the run's configuration."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RecordError, RunRecord


class RunStore:
    """The records in one folder, as ``<task>/<algorithm>/<run_id>.json``, with the locks and checkpoints of their runs.

    Args:
        root: The folder of the records, such as ``results/runs``. Locks and checkpoints go to ``.progress`` next to it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.progress_folder = self.root.parent / ".progress"

    def path(self, config: RunConfig) -> Path:
        """Where the record of a configuration is kept."""
        return self.root / config.task / config.algorithm / f"{config.run_id}.json"

    def checkpoint_path(self, config: RunConfig) -> Path:
        """Where a run in progress saves its checkpoint."""
        return self.progress_folder / f"{config.run_id}.pt"

    def lock(self, config: RunConfig) -> FileLock:
        """The lock that a process holds while it trains a configuration; the system releases it if the process dies."""
        self.progress_folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.progress_folder / f"{config.run_id}.lock")

    def load(self, config: RunConfig) -> RunRecord | None:
        """The record of a configuration, or None if there is none.

        Raises:
            RecordError: The file is damaged.
        """
        path = self.path(config)
        return _read(path) if path.exists() else None

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
                records.append(_read(path))
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
        """
        path = self.path(record.config)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(record.to_json())
        try:
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)  # unlike a rename, this fails if the record exists
        finally:
            temporary.unlink(missing_ok=True)
        return path


def _read(path: Path) -> RunRecord:
    try:
        record = RunRecord.from_json(path.read_text())
        if path.stem != record.run_id:
            raise ValueError(f"it holds the run {record.run_id}")
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordError(
            f"the record {path} is damaged ({error}): restore it from version control, or delete it and run its study "
            "again; the other records are untouched"
        ) from error
    return record
