"""Ray and Dask, on local clusters: runs, progress, and what happens when a worker dies or a node leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from advanced_optimizers.experiments.compare import compare
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.engines import Engine, WorkerDiedError, make_engine
from advanced_optimizers.experiments.studies.running import StudyError, Workers, train_all
from tests.compare_helpers import TINY, write_mine
from tests.compare_helpers import tables as tables
from tests.engine_calls import process_after, wait_for_go
from tests.experiments_helpers import make_config
from tests.test_engines import deaths, wait_until

# Ray takes seconds to import, in every process that collects this file, whether or not it runs these tests.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (find_spec("distributed") and find_spec("ray")), reason="needs the extras `ray` and `dask`"),
]

LOOPBACK: dict[str, Any] = {"dashboard_address": "127.0.0.1:0"}


@pytest.fixture(scope="module", autouse=True)
def _alone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray writes a token to the home folder
        patch.setenv("RAY_ADDRESS", "local")  # and joins a cluster that it finds on this machine
        yield


@pytest.mark.parametrize("name", ["ray", "dask"])
def test_runs_are_trained_and_what_was_opened_is_closed(store: RunStore, other_store: RunStore, name: str) -> None:
    import distributed
    import ray

    good, bad = [make_config(seed=seed) for seed in range(2)], make_config(model="nothing")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StudyError, match=f"1 of 3 runs failed:\n- the run {bad.run_id} .* raised ValueError"):
        train_all([good[0], bad, good[1]], store, Workers(jobs=2, engine=name), "", progress=False)
    train_all(good, other_store, Workers(), "", progress=False)
    assert [record.outcome() for record in store.records()] == [record.outcome() for record in other_store.records()]
    assert {record.environment["threads"] for record in store.records()} == {1}
    assert not ray.is_initialized()
    with pytest.raises(ValueError, match="No global client"):
        distributed.get_client()
    assert signal.getsignal(signal.SIGTERM) == before


def test_workers_get_the_text_of_a_users_optimizer(tmp_path: Path) -> None:
    mine = f"{write_mine(tmp_path)}:Copy"
    here = compare([mine], ["adamw"], out=tmp_path / "here", **TINY)
    for engine in ("ray", "dask"):
        there = compare([mine], ["adamw"], out=tmp_path / engine, **{**TINY, "jobs": 2, "engine": engine})
        assert there.to_json() == here.to_json()


# --- Clusters that exist already -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """Two nodes of one CPU."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Any]:
    import distributed

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **LOOPBACK) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


@pytest.fixture(params=["ray", "dask"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    request.getfixturevalue(f"{request.param}_cluster")
    with make_engine(request.param, 2) as made:
        yield made


def test_results_come_as_calls_end_and_the_cluster_stays_open(engine: Engine, tmp_path: Path) -> None:
    quick, long = tmp_path / "quick" / "a", tmp_path / "long" / "b"
    for file in (quick, long):
        file.parent.mkdir()
    (quick.parent / "go").touch()
    with engine:
        item, process = next(engine.each(wait_for_go, [long, quick]))
        assert item == quick
        assert isinstance(process, int)
    (long.parent / "go").touch()  # Dask cannot end a call that is under way on a cluster that is not the engine's
    with type(engine)(2) as later:
        assert dict(later.each(abs, [-1, -2])) == {-1: 1, -2: 2}


def test_a_call_that_raises_is_its_own_result(engine: Engine) -> None:
    results = dict(engine.each(int, ["1", "x"]))
    assert results["1"] == 1
    assert isinstance(results["x"], ValueError)


def test_only_the_call_of_a_dead_worker_is_lost(engine: Engine) -> None:
    results = dict(engine.each(process_after, [0.0, -1.0, 0.1, 0.2]))
    assert deaths(results) == {-1.0}
    assert all(isinstance(result, int) for item, result in results.items() if item >= 0)


def once_both_have_begun(folder: Path, act: Callable[[], object]) -> threading.Thread:
    def watch() -> None:
        wait_until(lambda: all((folder / name).exists() for name in "ab"))
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_ray_node_that_leaves_takes_its_call_along(ray_cluster: Any, tmp_path: Path) -> None:
    (_, second) = ray_cluster.list_all_nodes()
    with make_engine("ray", 2) as engine:
        leaving = once_both_have_begun(tmp_path, lambda: ray_cluster.remove_node(second, allow_graceful=False))
        results = engine.each(wait_for_go, [tmp_path / "a", tmp_path / "b"])
        lost, result = next(results)
        assert isinstance(result, WorkerDiedError)
        leaving.join()
        (tmp_path / "go").touch()
        ((kept, result),) = results
        assert {lost.name, kept.name} == {"a", "b"}
        assert isinstance(result, int)
        ((_, result),) = engine.each(wait_for_go, [lost])  # on the node that is left
        assert isinstance(result, int)


def test_a_dask_worker_that_leaves_hands_its_call_over(dask_cluster: Any, tmp_path: Path) -> None:
    def leave() -> None:
        dask_cluster.scale(1)
        wait_until(lambda: len(dask_cluster.scheduler_info["workers"]) == 1)
        (tmp_path / "go").touch()

    with make_engine("dask", 2) as engine:
        leaving = once_both_have_begun(tmp_path, leave)
        results = dict(engine.each(wait_for_go, [tmp_path / "a", tmp_path / "b"]))
        leaving.join()
    assert all(isinstance(result, int) for result in results.values())


def test_dask_workers_of_several_threads_are_refused() -> None:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster),
        make_engine("dask", 2) as engine,
        pytest.raises(ValueError, match=r"workers of one thread, but .* has 2: start it by"),
    ):
        next(engine.each(abs, [1]))
