"""What every run of a study would fail of is said once, before any run is tried; and how a study is interrupted."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import advanced_optimizers
from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.data.files import DataError
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies import registry, running
from advanced_optimizers.experiments.studies.running import Workers, run_study, train_all
from tests.experiments_helpers import TINY, TINY_TRIALS, make_config, make_record
from tests.test_engines import SLOW, is_alive, wait_until
from tests.test_running import refuse_to_train


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "train_or_load", lambda *_: pytest.fail("a run was tried"))


# --- What can be checked ---------------------------------------------------------------------------------------------


def test_missing_data_are_one_error(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_run: None
) -> None:
    monkeypatch.setenv("ADVANCED_OPTIMIZERS_DATA", str(tmp_path / "no data"))
    configs = [make_config(), *(make_config(dataset="cifar10-jpeg", seed=seed) for seed in range(3))]
    with pytest.raises(DataError, match=r"cifar10_jpeg.zip is missing"):
        train_all(configs, store, Workers(), "", progress=False)
    assert store.records() == []


def test_data_of_recorded_runs_are_not_asked_for(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVANCED_OPTIMIZERS_DATA", str(tmp_path / "no data"))
    recorded = make_config(dataset="cifar10-jpeg")
    store.save(make_record(recorded))
    assert train_all([recorded, make_config()], store, Workers(), "", progress=False) == 1


def test_a_folder_that_cannot_be_written_to(store: RunStore, monkeypatch: pytest.MonkeyPatch, no_run: None) -> None:
    folder = store.path(make_config()).parent
    folder.mkdir(parents=True)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and allowed(path, mode))
    with pytest.raises(PermissionError, match="records cannot be written") as caught:
        train_all([make_config()], store, Workers(), "", progress=False)
    assert caught.value.filename == str(folder)


@pytest.mark.parametrize(("call", "error"), [("link", errno.EPERM), ("fsync", errno.ENOSPC), ("mkdir", errno.EROFS)])
@pytest.mark.parametrize("retrain", [False, True])
def test_a_file_system_that_does_not_do(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, no_run: None, call: str, error: int, retrain: bool
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match=os.strerror(error)) as caught:
            run_study(TINY, store, retrain=retrain, progress=False)
    assert caught.value.filename == str(store.progress_folder)
    assert list(store.progress_folder.glob("*")) == []


def test_recorded_runs_need_no_writable_folder(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(make_record(make_config()))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert train_all([make_config()], store, Workers(), "", progress=False) == 0


def test_the_source_alone_can_train(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    train_all([make_config()], store, Workers(), "", progress=False)
    (record,) = store.records()
    assert record.environment["package_version"] == advanced_optimizers.__version__


# --- Interrupts ------------------------------------------------------------------------------------------------------


def test_an_interrupt_says_how_far_the_study_is(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for after, words in ((3, f"tiny: tuning: 3 of {TINY_TRIALS}"), (3, "tiny: comparison: 2 of 8")):
        with monkeypatch.context() as patch:
            refuse_to_train(patch, after=after, error=KeyboardInterrupt)
            with pytest.raises(KeyboardInterrupt, match=f"{words} runs are recorded; the same command goes on"):
                run_study(TINY, store, progress=False)


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("retrain", [[], ["--retrain"]])
def test_an_interrupted_command_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
    word: str,
    retrain: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.STUDIES, ("tiny", "quick"), TINY)
    monkeypatch.setattr(running, "train_or_load", lambda *_: signal.raise_signal(number))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["run", "tiny", "--jobs", "1", *retrain]) == status
    *_, line = capsys.readouterr().err.splitlines()
    assert line == f"{word}: tiny: tuning: 0 of {TINY_TRIALS} runs are recorded; the same command goes on"
    assert signal.getsignal(signal.SIGTERM) == before


# A study whose runs do not end by themselves.
ENDLESS = """
import sys
from dataclasses import replace
from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.studies import registry
from tests.experiments_helpers import TINY
tasks = (replace(TINY.tasks[0], tuning_epochs=1_000_000),)
registry.STUDIES["endless", "quick"] = replace(TINY, name="endless", tasks=tasks)
sys.exit(main(["run", "endless", "--jobs", "2"]))
"""


def children(process: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it ended meanwhile
            continue
        if parent == process:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_an_interrupted_command_ends_its_processes(tmp_path: Path, number: signal.Signals, word: str) -> None:
    (tmp_path / "pyproject.toml").touch()
    command = subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        progress = tmp_path / ".scratch" / "quick" / "results" / ".progress"
        wait_until(lambda: command.poll() is not None or len(list(progress.glob("*.pt"))) == 2)
        started = children(command.pid)
        assert len(started) >= 2
        # A terminal sends Ctrl-C to all processes in it; what ends a job tells the first one alone.
        (os.killpg if number == signal.SIGINT else os.kill)(command.pid, number)
        _, error = command.communicate(timeout=SLOW)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
    assert command.returncode == 128 + number
    # The library's process that removes semaphores sometimes finds, after this command's end, that they are gone: two
    # lines, the second with the code that warns.
    said = [line for line in error.splitlines() if "resource_tracker" not in line and "warnings.warn(" not in line]
    assert said[-1] == f"{word}: endless: tuning: 0 of 4 runs are recorded; the same command goes on"
    assert "Traceback" not in error
    wait_until(lambda: not any(map(is_alive, started)))
