"""Where the runs of a study that is trained again are kept until all of them are there: for one process at a time."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import filelock
import torch

from advanced_optimizers.experiments.records.machine import environment, source_checksum, threads
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.records.writing import write_atomically


class RetrainingError(RuntimeError):
    """Another process is training the same study again; the message says which."""


@contextmanager
def retraining_store(name: str, store: RunStore, device: str) -> Iterator[RunStore]:
    """The store for the new runs of a study, until they replace its records, with those that are trained already.

    It belongs to this version of the code and this machine: runs that an interrupted retraining by another one left are
    removed, and a warning says so. At the end of the block it is removed; if the block raises, it stays.

    Args:
        name: The study's name.
        store: The study's records.
        device: Where the runs are trained.

    Raises:
        RetrainingError: Another process is training the study again.
    """
    folder = store.progress_folder / f"retrain-{name}"
    with _held(folder, name):
        scratch = folder / _software(device)
        others = [path for path in folder.glob("*") if path != scratch]
        if others:
            warnings.warn(
                f"an interrupted retraining of {name} by other code or on another machine is discarded", stacklevel=3
            )
        for path in others:
            shutil.rmtree(path)
        scratch.mkdir(parents=True, exist_ok=True)
        yield RunStore(scratch / "runs")
        shutil.rmtree(folder)


@contextmanager
def _held(folder: Path, name: str) -> Iterator[None]:
    """Holds the lock of a folder; the system releases it if the process dies."""
    owner = folder.with_name(f"{folder.name}.json")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder.with_name(f"{folder.name}.lock"), blocking=False):
            started = datetime.now(timezone.utc).isoformat(timespec="seconds")
            write_atomically(owner, json.dumps({"process": os.getpid(), "machine": platform.node(), "since": started}))
            try:
                yield
            finally:
                owner.unlink(missing_ok=True)
    except filelock.Timeout as error:
        raise RetrainingError(
            f"the study {name} is being trained again by {_words(owner)}: wait until it is finished, or stop it; the "
            "same command then goes on with the runs that it has trained"
        ) from error


def _words(owner: Path) -> str:
    try:
        content = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {content['process']} on {content['machine']}, since {content['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun, or ended
        return "another process"


def _software(device: str) -> str:
    """A name for what must be the same for runs to belong together: code, versions and hardware."""
    with threads(1):  # as in every run of a study
        content = {**environment(torch.device(device)), "source_checksum": source_checksum()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
