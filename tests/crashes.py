"""Runs and studies that are killed: at an exact point of what they write, or at any time. For ``test_crashes``.

Everything here happens in one process that has the libraries loaded and a single thread, and forks itself for each
death: a fresh start of Python would take seconds.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.machine import environment
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.running import Workers, train_all
from advanced_optimizers.experiments.training.loop import train

_CRASHED, _FINISHED = 9, 0
CALLS = ("fsync", "replace", "link", "unlink", "mkdir")


def die_at_every_point(config: RunConfig, folder: Path) -> list[str]:
    """Trains a run that dies at its first point, then one that dies at its second, and so on; each is then resumed.

    A point is just before or just after each call that changes the disk; before a file is synced it is cut in half, as
    if the rest had not been written yet.

    Returns:
        What was wrong, one line per point, or that the point is right.
    """
    _prepare()
    expected = train(config, RunStore(folder / "whole" / "runs")).outcome()
    results = []
    for point in itertools.count():
        store = RunStore(folder / "killed" / "runs")
        status = _fork(lambda store=store, point=point: _train_and_die(config, store, point))
        if status == _FINISHED:
            return results
        results.append(f"{point}: {_judge(status, config, store, expected)}")
        shutil.rmtree(store.root.parent)
    raise AssertionError


def _prepare() -> None:
    """Makes the forks fast."""
    torch.set_num_threads(1)
    environment(torch.device("cpu"))  # asks git, once for all forks
    os.fsync = os.fstat  # type: ignore[assignment]  # the death of a process takes nothing that the system has


def _train_and_die(config: RunConfig, store: RunStore, point: int) -> None:
    count = itertools.count()

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if next(count) == point:
                if name == "fsync" and not Path(f"/proc/self/fd/{arguments[0]}").is_dir():
                    os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                os._exit(_CRASHED)
            result = original(*arguments, **options)
            if next(count) == point:
                os._exit(_CRASHED)
            return result

        return call

    for name in CALLS:
        setattr(os, name, watched(name))
    train_all([config], store, Workers(), "", progress=False)


def _judge(status: int, config: RunConfig, store: RunStore, expected: dict[str, Any]) -> str:
    if status != _CRASHED:
        return f"it ended with {status}"
    store.records()  # raises if one is damaged
    record = train(config, store)
    if record.outcome() != expected:
        return "another outcome"
    train_all([config], store, Workers(), "", progress=False)  # a later start
    left = [path.name for path in store.root.parent.rglob("*") if path.suffix in (".tmp", ".pt")]
    return f"left over: {left}" if left else "right"


def kill_at_random(configs: list[RunConfig], folder: Path, kills: int) -> list[str]:
    """Trains a few runs, killed again and again until all are recorded; then once more, until so many kills are done.

    Returns:
        What was wrong, one line per study, or that it is right and how often it was killed.
    """
    _prepare()
    whole = RunStore(folder / "whole" / "runs")
    started = time.monotonic()
    train_all(configs, whole, Workers(), "", progress=False)
    needed = time.monotonic() - started
    expected = [record.outcome() for record in whole.records()]
    numbers, results, done = random.Random(0), [], 0
    while done < kills:
        store = RunStore(folder / f"study {len(results)}" / "runs")  # a study may end without having been killed
        killed = 0
        while len(store.records()) < len(configs):  # raises if one is damaged
            status = _fork(
                lambda store=store: train_all(configs, store, Workers(), "", progress=False),
                patience=numbers.uniform(0.0, 0.5 * needed) if done < kills else None,
            )
            if status not in (_FINISHED, -signal.SIGKILL):
                return [*results, f"it ended with {status}"]
            killed += status == -signal.SIGKILL
            done += status == -signal.SIGKILL
        train_all(configs, store, Workers(), "", progress=False)
        left = [path.name for path in store.root.parent.rglob("*") if path.suffix in (".tmp", ".pt")]
        same = [record.outcome() for record in store.records()] == expected
        results.append(f"killed {killed} times: {'right' if same and not left else f'same: {same}, left: {left}'}")
    return results


def _fork(act: Callable[[], object], patience: float | None = None) -> int:
    """Acts in a fork of this process, which is killed after so many seconds; returns how it ended."""
    process = os.fork()
    if process == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(_FINISHED)
    if patience is not None:
        time.sleep(patience)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def write_results(function: Callable[..., list[str]], result: Path, *arguments: Any) -> None:
    """Writes what a function of this module returns to a file, one line each."""
    result.write_text("\n".join(function(*arguments)))
