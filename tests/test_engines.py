"""The engines: results come one by one, a process that dies is blamed alone, and what was opened is closed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies import running
from advanced_optimizers.experiments.studies.engines import Engine, WorkerDiedError, make_engine
from advanced_optimizers.experiments.studies.running import StudyError, Workers, train_all
from tests.engine_calls import process_after
from tests.experiments_helpers import make_config

SLOW = 600.0


class ScriptedEngine(Engine):
    """Calls in this process; the calls for chosen items die, or raise, a number of times first."""

    def __init__(self, failures: dict[str, list[Exception]]) -> None:
        super().__init__(jobs=2)
        self.failures = failures
        self.begun: list[str] = []

    def _submit(self, function: Any, item: Any) -> Any:
        name = item[0].split()[0] if isinstance(item, tuple) else str(item)  # a run's order begins with its id
        self.begun.append(name)
        return partial(self._do, function, item, name)

    def _do(self, function: Any, item: Any, name: str) -> Any:
        if self.failures.get(name):
            raise self.failures[name].pop()
        return function(item)

    def _wait(self, calls: Any) -> Any:
        return calls[-1]

    def _result(self, call: Any) -> Any:
        return call()

    def _cancel(self, calls: Any) -> None:
        pass


def died() -> Exception:
    return WorkerDiedError("as the test has it")


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Any) -> None:
    give_up = time.monotonic() + SLOW
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


# --- Any engine ------------------------------------------------------------------------------------------------------


def test_no_more_calls_than_jobs_are_under_way_and_results_come_one_by_one() -> None:
    engine = ScriptedEngine({})
    results = engine.each(abs, [-1, -2, -3, -4])
    assert engine.begun == []
    assert next(results) == (-2, 2)
    assert engine.begun == ["-1", "-2", "-3"]
    assert dict(results) == {-1: 1, -3: 3, -4: 4}


def test_one_job_calls_here_one_after_the_other() -> None:
    done: list[int] = []
    with make_engine("ray", 1) as engine:
        for item, result in engine.each(done.append, [1, 2]):
            assert result is None
            assert done[-1] == item
        assert [str(result) for _, result in engine.each(int, ["x"])] == ["invalid literal for int() with base 10: 'x'"]
    assert done == [1, 2]


def test_interrupts_are_not_results() -> None:
    def interrupt(item: object) -> None:
        raise KeyboardInterrupt

    with make_engine("loky", 1) as engine, pytest.raises(KeyboardInterrupt):
        list(engine.each(interrupt, [1]))


# --- A study whose processes die -------------------------------------------------------------------------------------

CONFIGS = [make_config(seed=seed) for seed in range(3)]


def scripted(monkeypatch: pytest.MonkeyPatch, failures: dict[str, list[Exception]]) -> ScriptedEngine:
    engine = ScriptedEngine(failures)
    monkeypatch.setattr(running, "make_engine", lambda name, jobs: engine)
    return engine


def test_a_run_whose_process_died_is_named_and_tried_once_more(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = CONFIGS[1]
    engine = scripted(monkeypatch, {bad.run_id: [died()]})
    with pytest.warns(UserWarning, match=f"the run {bad.run_id} .*seed 1.* died .as the test has it.*once more"):
        assert train_all(CONFIGS, store, Workers(), "", progress=False) == 3
    assert engine.begun.count(bad.run_id) == 2
    assert {record.config.seed for record in store.records()} == {0, 1, 2}


def test_after_two_deaths_it_is_given_up_and_the_others_are_recorded(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = CONFIGS[1]
    engine = scripted(monkeypatch, {bad.run_id: [died() for _ in range(5)]})
    with pytest.warns(UserWarning, match="once more"), pytest.raises(StudyError, match="1 of 3 runs failed") as caught:
        train_all(CONFIGS, store, Workers(), "", progress=False)
    (_, line) = str(caught.value).splitlines()
    assert all(part in line for part in (bad.run_id, "digits-mlp", "seed 1", "2 times: it is given up"))
    assert engine.begun.count(bad.run_id) == 2
    assert {record.config.seed for record in store.records()} == {0, 2}


def test_what_the_engine_itself_raises_for_a_run_is_its_failure(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = CONFIGS[1]
    scripted(monkeypatch, {bad.run_id: [ImportError("not on this node")]})
    with pytest.raises(StudyError, match=f"the run {bad.run_id} .* raised ImportError: not on this node"):
        train_all(CONFIGS, store, Workers(), "", progress=False)
    assert {record.config.seed for record in store.records()} == {0, 2}


def test_a_death_while_the_data_are_checked_stops_nothing(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {"digits": [died()]})
    assert train_all(CONFIGS, store, Workers(), "", progress=False) == 3


class DeadlyStore(RunStore):
    """In another process than the one that made it, one run is killed as soon as it begins."""

    def __init__(self, root: Path, deadly: str, times: int) -> None:
        super().__init__(root)
        self.deadly, self.times, self.maker = deadly, times, os.getpid()

    def lock(self, config: RunConfig) -> Any:
        deaths = self.root.parent / "deaths.txt"
        if config.run_id == self.deadly and os.getpid() != self.maker:
            before = deaths.read_text() if deaths.exists() else ""
            if len(before) < self.times:
                deaths.write_text(before + "x")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().lock(config)


@pytest.mark.slow
def test_a_killed_process_is_replaced_and_its_run_goes_on(tmp_path: Path) -> None:
    bad = CONFIGS[0]
    store = DeadlyStore(tmp_path / "runs", bad.run_id, times=1)
    with pytest.warns(UserWarning, match=f"{bad.run_id} .*killed or it crashed.*once more"):
        assert train_all(CONFIGS, store, Workers(jobs=2), "", progress=False) == 3
    assert len(store.records()) == 3


# --- Processes on this machine ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loky() -> Iterator[Engine]:
    with make_engine("loky", 2) as engine:
        yield engine


def deaths(results: dict[float, Any]) -> set[float]:
    return {item for item, result in results.items() if isinstance(result, WorkerDiedError)}


def test_only_the_call_of_the_dead_process_is_lost(loky: Engine) -> None:
    results = dict(loky.each(process_after, [0.0, -1.0, 0.1, 0.2]))
    assert deaths(results) == {-1.0}
    assert all(isinstance(result, int) for item, result in results.items() if item >= 0)


def test_a_death_between_two_calls_blames_nobody(loky: Engine) -> None:
    ((_, process),) = loky.each(process_after, [0.0])
    assert isinstance(process, int)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not is_alive(process))
    time.sleep(0.2)  # until its pool has noticed
    assert deaths(dict(loky.each(process_after, [0.0, 0.01]))) == set()


def test_a_call_that_raises_is_its_own_result(loky: Engine) -> None:
    results = dict(loky.each(int, ["1", "x"]))
    assert results["1"] == 1
    assert isinstance(results["x"], ValueError)


def test_leaving_ends_the_processes_and_ctrl_c_is_for_the_first_one_alone() -> None:
    with make_engine("loky", 2) as engine:
        results = engine.each(process_after, [0.0, SLOW, 0.1])
        _, process = next(results)
        assert isinstance(process, int)
        os.kill(process, signal.SIGINT)
        assert next(results) == (0.1, process)
    assert not is_alive(process)
