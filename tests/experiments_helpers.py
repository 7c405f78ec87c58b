"""Shared by the tests of runs and studies: tiny configurations on digits, made-up records, and other processes."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.records.checks import content_checksum
from advanced_optimizers.experiments.records.config import Hyperparameters, RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.registry import STUDIES
from advanced_optimizers.experiments.studies.retraining import retraining_store
from advanced_optimizers.experiments.studies.running import run_study
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training import loop
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Range
from advanced_optimizers.experiments.training.loop import train

# What makes a folder this project's.
PYPROJECT = '[project]\nname = "advanced-optimizers"\n'

# What a made-up record says about the machine.
ENVIRONMENT: dict[str, Any] = {
    "package_version": "0.1.0",
    "git_commit": "0123456789abcdef",
    "git_dirty": False,
    "python": "3.11.0",
    "torch": "2.15.0",
    "device": "cpu",
    "device_name": "A processor",
    "threads": 1,
    "data_checksum": "0" * 64,
    "started_at": "2026-01-01T00:00:00+00:00",
    "finished_at": "2026-01-01T00:01:00+00:00",
}

_LEARNING_RATES = {
    "sgd": 0.1,
    "adam": 0.005,
    "standard-sgd": 0.5,
    "lecture-adam": 0.005,
    "lecture-constant": 0.5,
    "conv-momentum": 0.2,
}
_OWN = {
    "fer": {"fer_weight": 0.3, "memory_size": 50},
    "flipping": {"mu": 0.5, "gamma": 0.3},
    "sigprop": {"signal_lr": 0.003},
    **{
        f"correction{which}": {"gcw_strength": 0.3, "gcode_strength": 0.3}
        for which in ("", "-hidden", "-shorter", "-hidden-shorter", "-hidden-gcw", "-hidden-gcode")
    },
    **{f"correction-hidden-{strength}": {"lr": 0.01} for strength in ("weak", "stated")},
    "correction-hidden-gcode": {"gcw_strength": 0.3, "gcode_strength": 0.3, "lr": 0.01},
    "lecture-rmsprop": {"lr": 0.005},
    "lecture-adadelta": {"lr": 3.0},
    "lecture-gd": {"lr": 0.5},
    "lecture-dropout": {"lr": 0.01, "strength": 0.2},
}

# Arguments of `make_config` for a run of the convolutional network, in half precision and with augmentation.
CONVNET = {"model": "convnet", "width": 0.25, "data_fraction": 0.2, "precision": "bfloat16", "augment": True}

# Its second trial differs from its first in the learning rate alone, so tuning has something to choose.
TINY = Study(
    name="tiny",
    title="Does the tiny study run?",
    profile="quick",
    tasks=(Task(dataset="digits", model="mlp", epochs=2, tuning_epochs=1),),
    algorithms=("sgd", "fer-sgd"),
    label_noises=(0.0, 0.2),
    seeds=(0, 1),
    trials=2,
)
TINY_TRIALS, TINY_RUNS = 4, 12

# Processes are forked from a server that has the libraries loaded: as clean as a new interpreter, and much faster.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["advanced_optimizers.experiments.studies.running", "sklearn.datasets", "torch._dynamo"]
)
_PATIENCE = 600.0


def hyperparameters_of(algorithm: str) -> Hyperparameters:
    """Hyperparameters with which the algorithm learns the digits; by default, the middle of each range."""
    row = ALGORITHMS[algorithm]
    base = row.baseline or algorithm
    values: Hyperparameters = {name: _middle_of(space) for name, space in row.search_space.items()}
    known = {"lr": _LEARNING_RATES.get(base, values.get("lr", 1.0)), **_OWN.get(algorithm.removesuffix(f"-{base}"), {})}
    return {name: known.get(name, value) for name, value in values.items()}


def _middle_of(space: Range) -> float:
    middle = math.sqrt(space.low * space.high) if space.log else (space.low + space.high) / 2
    return round(middle) if space.integer else middle


def model_of(algorithm: str) -> str:
    """A network that the algorithm can train: that of the first quick comparison that runs it, or else the MLP."""
    tasks = [
        task
        for study in STUDIES.values()
        if isinstance(study, Study) and study.profile == "quick"
        for task in study.tasks
        if algorithm in study.algorithms_on(task)
    ]
    return tasks[0].model if tasks and not tasks[0].model.startswith("mlp") else "mlp"


# All baselines, and the algorithms of comparisons; the other algorithm of a sweep needs the sweep's own network.
FOR_ANY_MODEL = tuple(
    name
    for name, row in ALGORITHMS.items()
    if row.build is not None  # None where runs are of another kind than training a classifier
    and (row.baseline is None or any(name in s.algorithms for s in STUDIES.values() if isinstance(s, Study)))
)


# Rows that bring their schedule along, and refuse another.
OWN_SCHEDULE = tuple(f"lecture-{name}" for name in ("constant", "halved", "tenth", "cosine"))


def make_config(**changes: Any) -> RunConfig:
    """A run that takes a tenth of a second; the algorithm determines the hyperparameters."""
    model = model_of(changes.get("algorithm", "sgd"))
    tiny = {"dataset": "digits", "model": model, "algorithm": "sgd", "epochs": 2, "width": 0.1, "data_fraction": 0.25}
    own = {"schedule": "constant"} if changes.get("algorithm") in OWN_SCHEDULE else {}
    settings = {**tiny, **own, **changes}
    if "hyperparameters" not in settings:
        settings["hyperparameters"] = hyperparameters_of(settings["algorithm"])
    return RunConfig(**settings)


def make_record(config: RunConfig, status: str = "completed", **final: float | None) -> RunRecord:
    """A made-up record; ``final`` has the values of the last epoch, and those of the others are 1."""
    loss = None if status == "diverged" else 0.5
    last: dict[str, Any] = {"train_loss": loss, "test_loss": 0.5, "test_accuracy": 0.9, "seconds": 2.0, **final}
    return RunRecord(
        config=config,
        status=status,
        environment=dict(ENVIRONMENT),
        curves={name: [*[1.0] * (config.epochs - 1), value] for name, value in last.items()},
        final=last,
        total_seconds=5.0,
        peak_memory_bytes=2**20,
    )


def edit_record(store: RunStore, config: RunConfig, **final: float) -> None:
    """Changes the last value of curves in a recorded run, and its checksum."""
    path = store.path(config)
    content = json.loads(path.read_text())
    for name, value in final.items():
        content["curves"][name][-1] = content["final"][name] = value
    content["checksum"] = content_checksum(content)
    path.write_text(json.dumps(content))


def files_under(folder: Path) -> dict[str, bytes]:
    """Every file and its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def other_process(function: Callable[..., None], *arguments: Any) -> Iterator[ForkServerProcess]:
    """Runs a function of this module in another process, which is killed at the end of the block."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def print_into(file: Path) -> None:
    """From now on, what this process and those that it starts print goes into a file."""
    with file.open("wb") as opened:
        for stream in (1, 2):
            os.dup2(opened.fileno(), stream)


def run_command(arguments: Sequence[str], folder: Path, **environment: str) -> str:
    """Runs the command line in another process, in a folder; returns what it prints if it succeeds."""
    with tempfile.TemporaryDirectory() as scratch:
        printed = Path(scratch) / "printed.txt"
        with other_process(_run_command, arguments, folder, environment, printed) as process:
            process.join(_PATIENCE)
            status, output = process.exitcode, printed.read_text(encoding="utf-8")
    assert status == 0, output
    return output


def _run_command(arguments: Sequence[str], folder: Path, environment: dict[str, str], printed: Path) -> None:
    os.environ.update(environment)
    os.chdir(folder)
    print_into(printed)
    sys.exit(main(arguments))


def wait_for(condition: Callable[[], Any], process: ForkServerProcess) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not condition():
        assert process.exitcode is None, f"the process ended with {process.exitcode}"
        assert time.monotonic() < give_up, f"nothing after {_PATIENCE} s"
        time.sleep(0.002)


def kill_in_the_middle(config: RunConfig, store: RunStore) -> None:
    """Trains in another process, which is killed once its first checkpoint exists."""
    with other_process(_train_but_never_finish, config, store) as process:
        wait_for(store.checkpoint_path(config).exists, process)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert store.load(config) is None


def _train_but_never_finish(config: RunConfig, store: RunStore) -> None:
    torch.set_num_threads(1)
    loop.CHECKPOINT_SECONDS = 0

    def stop_before_the_end(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == config.epochs - 1:
            time.sleep(_PATIENCE)

    train(config, store, on_epoch=stop_before_the_end)


@contextmanager
def lock_held_elsewhere(config: RunConfig, store: RunStore) -> Iterator[None]:
    """Another process holds the run's lock, as if it were training the run."""
    held = _CONTEXT.Event()
    with other_process(_hold_lock, config, store, held) as process:
        wait_for(held.is_set, process)
        yield


def _hold_lock(config: RunConfig, store: RunStore, held: Event) -> None:
    with store.lock(config):
        held.set()
        time.sleep(_PATIENCE)


@contextmanager
def retrain_elsewhere(name: str, store: RunStore) -> Iterator[ForkServerProcess]:
    """Another process is training a study again."""
    held = _CONTEXT.Event()
    with other_process(_hold_retraining, name, store, held) as process:
        wait_for(held.is_set, process)
        yield process


def _hold_retraining(name: str, store: RunStore, held: Event) -> None:
    with retraining_store(name, store, "cpu"):
        held.set()
        time.sleep(_PATIENCE)


class Recorded(RunStore):
    """A store with a record of every run, all equally good, so that each tuning chooses its first trial."""

    def load(self, config: RunConfig) -> RunRecord | None:
        return make_record(config)


class CountingStore(RunStore):
    """A store that lists the records that were saved in a file."""

    def save(self, record: RunRecord, *, replace: bool = False) -> Path:
        with (self.root.parent / "saved.txt").open("a") as file:
            file.write(f"{record.run_id}\n")
        return super().save(record, replace=replace)

    def saved(self) -> list[str]:
        return (self.root.parent / "saved.txt").read_text().split()


def run_tiny_study_twice_at_once(store: CountingStore) -> list[tuple[int, int]]:
    """Runs the tiny study in two processes at once; returns how many runs each of them loaded and trained."""
    store.root.mkdir(parents=True)
    together = _CONTEXT.Barrier(2)
    results = [store.root.parent / f"result-{number}.txt" for number in range(2)]
    with (
        other_process(_run_tiny_study, store, together, results[0]) as first,
        other_process(_run_tiny_study, store, together, results[1]) as second,
    ):
        for process in (first, second):
            process.join(_PATIENCE)
            assert process.exitcode == 0
    counts = [result.read_text().split() for result in results]
    return [(int(loaded), int(trained)) for loaded, trained in counts]


def _run_tiny_study(store: CountingStore, together: Barrier, result: Path) -> None:
    together.wait(_PATIENCE)
    outcome = run_study(TINY, store, progress=False)
    result.write_text(f"{outcome.loaded} {outcome.trained}")


class Stopped(Exception):
    """Stands for whatever ends a process between two epochs."""


def train_until(epoch: int, config: RunConfig, store: RunStore) -> None:
    """Trains a run, with a checkpoint after each epoch, and stops after one of them."""

    def stop(number: int, metrics: dict[str, float]) -> None:
        if number == epoch:
            raise Stopped

    with mock.patch.object(loop, "CHECKPOINT_SECONDS", 0), pytest.raises(Stopped):
        train(config, store, on_epoch=stop)


def never(epoch: int, metrics: dict[str, float]) -> None:
    pytest.fail("a recorded run was trained")
