"""Runs a study: trains the runs that have no record, in parallel, and reports what failed."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from tqdm import tqdm

from advanced_optimizers._checks import check_integer
from advanced_optimizers.experiments.data.datasets import DataError
from advanced_optimizers.experiments.records.choices import ENGINES
from advanced_optimizers.experiments.records.config import BaseConfig, config_from
from advanced_optimizers.experiments.records.machine import threads
from advanced_optimizers.experiments.records.record import RecordError, RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.beforehand import check_data, check_writable
from advanced_optimizers.experiments.studies.engines import Engine, WorkerDiedError, make_engine
from advanced_optimizers.experiments.studies.registry import load_topic_file, topic_files
from advanced_optimizers.experiments.studies.retraining import retraining_store
from advanced_optimizers.experiments.studies.study import BaseStudy
from advanced_optimizers.experiments.training.loop import RunBusyError, train_or_load

_RETRY_SECONDS = 2.0
_MOST_DEATHS = 2  # of the processes that train one run; then it is given up


class StudyError(RuntimeError):
    """Some runs of a study failed; the others are recorded. The message lists each failure once."""


@dataclass(frozen=True)
class Workers:
    """How runs are distributed.

    Attributes:
        jobs: Number of runs at a time, >= 1, each in a process with one thread; 1 trains in this process.
        engine: ``loky`` (processes on this machine), ``ray`` or ``dask`` (a cluster).
        device: Where each run trains, such as ``cpu`` or ``cuda``.
        setups: Functions that each process calls before a run, such as one that makes a user's own algorithm known
            there; called again, they change nothing.
    """

    jobs: int = 1
    engine: str = "loky"
    device: str = "cpu"
    setups: tuple[Callable[[], object], ...] = ()

    def __post_init__(self) -> None:
        check_integer("jobs", self.jobs, low=1)
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        package = {"loky": "joblib", "dask": "distributed"}.get(self.engine, self.engine)
        if find_spec(package) is None:
            extra = f"advanced-optimizers[{self.engine}]"
            raise ValueError(f"engine {self.engine!r} needs a package that is not installed: pip install '{extra}'")
        try:
            torch.zeros(1, device=self.device).item()  # the values of a "meta" tensor cannot be read
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"device must be one that torch can use here, got {self.device!r} ({reason})") from error


@dataclass(frozen=True)
class StudyOutcome:
    """How many runs of a study were loaded, how many were trained, and their records in the study's order."""

    loaded: int
    trained: int
    records: list[RunRecord]


def run_study(
    study: BaseStudy,
    store: RunStore,
    workers: Workers | None = None,
    *,
    retrain: bool = False,
    progress: bool = True,
    on_run: Callable[[BaseConfig], object] | None = None,
) -> StudyOutcome:
    """Trains every run of a study that has no record, stage by stage: first the tuning trials, then the comparison.

    Several processes, on one machine or with a shared folder, may run the same study at once: each run is trained by
    one of them.

    Args:
        study: The study to run.
        store: Where the records are.
        workers: How runs are distributed; by default, one after the other.
        retrain: Whether to train all runs again. Their records are replaced once all of them are trained; an
            interrupted retraining resumes where it stopped, with the same code on the same machine.
        progress: Whether to show a progress bar.
        on_run: Called with each run that has just been recorded.

    Raises:
        StudyError: Some runs failed.
        RetrainingError: Another process is training the study again.
        DataError: Data files are missing or damaged; no run was tried.
        OSError: Records cannot be written; no run was tried.
        KeyboardInterrupt: With how many runs are recorded as its message.
    """
    workers = workers or Workers()
    if retrain:
        check_writable(store, study.tuning_configs())
        with retraining_store(study.name, store, workers.device) as scratch:
            outcome = run_study(study, scratch, workers, progress=progress, on_run=on_run)
            _replace(store, study, outcome.records)
        return outcome
    trained = 0
    with make_engine(workers.engine, workers.jobs) as engine:
        for part, configs_of in study.stages():
            configs = configs_of(store)
            with _how_far(configs, store, f"{study.name}: {part}"):
                trained += _train_all(configs, store, workers, engine, f"{study.name}: {part}", progress, on_run)
    records = [record for config in study.configs(store) if (record := store.load(config)) is not None]
    return StudyOutcome(loaded=len(records) - trained, trained=trained, records=records)


@contextmanager
def _how_far(configs: Sequence[BaseConfig], store: RunStore, title: str) -> Iterator[None]:
    """Makes the message of an interrupt say how many of the runs are recorded."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        recorded = sum(store.has(config) for config in configs)
        interrupt.args = (f"{title}: {recorded} of {len(configs)} runs are recorded; the same command goes on",)
        raise


def train_all(configs: Sequence[BaseConfig], store: RunStore, workers: Workers, title: str, progress: bool) -> int:
    """Trains the configurations that have no record; returns how many this process and its workers trained.

    A run whose process dies is tried once more.

    Raises:
        StudyError: Some runs failed; the others are recorded.
        DataError: Data files are missing or damaged; no run was tried.
        OSError: Records cannot be written; no run was tried.
    """
    with make_engine(workers.engine, workers.jobs) as engine:
        return _train_all(configs, store, workers, engine, title, progress)


def _train_all(
    configs: Sequence[BaseConfig],
    store: RunStore,
    workers: Workers,
    engine: Engine,
    title: str,
    progress: bool,
    on_run: Callable[[BaseConfig], object] | None = None,
) -> int:
    store.remove_leftovers()
    failures: dict[str, str] = {}
    waiting = []
    for config in configs:
        try:
            if store.load(config) is None:
                waiting.append(config)
            else:  # its process may have died before it removed the checkpoint
                store.checkpoint_path(config).unlink(missing_ok=True)
        except RecordError as error:
            failures[config.run_id] = str(error)
    files = () if workers.jobs == 1 else topic_files()  # this process has loaded them
    setups: tuple[Callable[[], object], ...] = (*(partial(load_topic_file, path) for path in files), *workers.setups)
    if waiting:
        check_writable(store, waiting)
        check_data(waiting, engine, setups)
    train_one = partial(_train_one, store=store, device=workers.device, setups=setups)
    deaths: Counter[str] = Counter()
    trained = 0
    with tqdm(
        total=len(configs), initial=len(configs) - len(waiting), desc=title, unit="run", disable=not progress
    ) as bar:
        while waiting:
            busy, dead = [], []
            # The content and not the configuration: a worker knows its class once the topic is loaded.
            orders = {_name(config): config for config in waiting}
            for (name, _), result in engine.each(train_one, [(name, c.content) for name, c in orders.items()]):
                config = orders[name]
                if result == _BUSY:
                    busy.append(config)
                    continue
                if isinstance(result, WorkerDiedError):
                    deaths[config.run_id] += 1
                    if deaths[config.run_id] < _MOST_DEATHS:
                        dead.append(config)
                        warnings.warn(f"{_death(config, result)}; it is tried once more", stacklevel=3)
                        continue
                bar.update()
                if result in (_TRAINED, _LOADED):
                    trained += result == _TRAINED
                    bar.set_postfix_str(f"{config.task} {config.algorithm}")
                    if on_run is not None:
                        on_run(config)
                else:
                    failures[config.run_id] = _failure(config, result)
            if len(busy) == len(waiting):
                time.sleep(_RETRY_SECONDS)
            waiting = busy + dead
    if failures:
        reasons = sorted(set(failures.values()))
        raise StudyError(f"{len(failures)} of {len(configs)} runs failed:\n" + "\n".join(f"- {r}" for r in reasons))
    return trained


_TRAINED, _LOADED, _BUSY = "trained", "loaded", "busy"


def _failure(config: BaseConfig, result: str | Exception) -> str:
    if isinstance(result, WorkerDiedError):
        return f"{_death(config, result)}, {_MOST_DEATHS} times: it is given up; the same command tries it again"
    if isinstance(result, Exception):
        return _raised(_name(config), result)
    return result


def _raised(name: str, error: Exception) -> str:
    return f"the run {name} raised {type(error).__name__}: {error}"


def _death(config: BaseConfig, error: WorkerDiedError) -> str:
    return f"the process that trained the run {_name(config)} died ({error})"


def _name(config: BaseConfig) -> str:
    return f"{config.run_id} ({config.task}, {config.algorithm}, seed {config.seed})"


def _train_one(
    order: tuple[str, dict[str, Any]], store: RunStore, device: str, setups: Sequence[Callable[[], object]]
) -> str:
    """Trains one run on one thread; returns what happened, or an error message.

    Topic files, and a user's own code, are loaded first: a worker process only has the topics of the package.
    """
    name, content = order
    try:
        for setup in setups:
            setup()
        with threads(1):
            _, trained = train_or_load(config_from(content), store, device)
    except RunBusyError:
        return _BUSY
    except (RecordError, DataError) as error:
        return str(error)
    except Exception as error:  # the failure of one run must not stop the others
        return _raised(name, error)
    return _TRAINED if trained else _LOADED


def _replace(store: RunStore, study: BaseStudy, records: Sequence[RunRecord]) -> None:
    """Replaces the study's old records with the retrained ones."""
    try:
        old = recorded_configs(study, store)
    except RecordError as error:
        warnings.warn(f"runs of {study.name} that tuning chose before may stay: {error}", stacklevel=2)
        old = []
    for record in records:
        store.save(record, replace=True)
    kept = {record.run_id for record in records}
    for config in old:
        if config.run_id not in kept:  # tuning chose other hyperparameters this time
            store.path(config).unlink()


def recorded_configs(study: BaseStudy, store: RunStore) -> list[BaseConfig]:
    """The study's configurations that have a record, in the study's order.

    Raises:
        RecordError: A tuning trial is damaged, so it is not known which runs it led to.
    """
    return [config for config in study.known_configs(store) if store.has(config)]
