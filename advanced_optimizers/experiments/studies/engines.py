"""Where the runs of a study are trained: in this process, in others on this machine, or on a cluster of Ray or Dask.

All engines call a function for each of many items, some at a time, and give the results as they come. A process that
dies takes with it the call that it was at, and no other; who uses the engine decides whether to try that call again.
"""

from __future__ import annotations

import logging
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

from joblib.externals import loky
from joblib.externals.loky.process_executor import TerminatedWorkerError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_EngineType = TypeVar("_EngineType", bound="Engine")

# Read by the libraries under NumPy and torch when they are loaded.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
_IDLE_SECONDS = 60.0
_OWN_DASK_CLUSTER = {
    "distributed.scheduler.allowed-failures": 0,  # a death is reported at once
    "distributed.deploy.lost-worker-timeout": "10 minutes",  # a worker that starts again is not given up meanwhile
}


class WorkerDiedError(RuntimeError):
    """The process or the machine that a call was on is gone; the message says what the engine knows of it."""


class Engine(ABC):
    """Calls a function for many items.

    What it needs is started by the first call. It is a context manager, which ends that again, and calls under way too.

    Args:
        jobs: The number of calls at a time, >= 1.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._running: dict[Hashable, Any] = {}
        self._started = ExitStack()

    def each(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[tuple[_Item, _Result | Exception]]:
        """Calls ``function(item)`` for each item.

        Yields:
            Each item with the function's result, or with the exception of its call: a :class:`WorkerDiedError` if the
            process of the call died. They come in the order in which the calls end.
        """
        waiting = iter(items)
        self._fill(function, waiting)
        while self._running:
            call = self._wait(list(self._running))
            result: _Result | Exception
            try:
                result = self._result(call)
            except Exception as error:  # one call's, not the engine's
                result = error
            item = self._running.pop(call)
            self._fill(function, waiting)  # before the result is dealt with, so that no process has to wait
            yield item, result

    def _fill(self, function: Callable[[Any], Any], waiting: Iterator[Any]) -> None:
        for item in islice(waiting, max(0, self._capacity() - len(self._running))):
            self._running[self._submit(function, item)] = item

    def _capacity(self) -> int:
        """How many calls may be under way now."""
        return self.jobs

    def __enter__(self: _EngineType) -> _EngineType:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._started:
            self._cancel(list(self._running))
            self._running.clear()

    @abstractmethod
    def _submit(self, function: Callable[[Any], Any], item: Any) -> Hashable:
        """Begins a call."""

    @abstractmethod
    def _wait(self, calls: Sequence[Any]) -> Hashable:
        """Waits until one of the calls has ended, and returns it."""

    @abstractmethod
    def _result(self, call: Any) -> Any:
        """The result of a call that has ended, or its exception."""

    @abstractmethod
    def _cancel(self, calls: Sequence[Any]) -> None:
        """Ends calls that are under way. What the engine has started is ended next, from its ``_started``."""


class _InThisProcess(Engine):
    """One call after the other."""

    def _submit(self, function: Callable[[Any], Any], item: Any) -> Hashable:
        return lambda: function(item)

    def _wait(self, calls: Sequence[Any]) -> Hashable:
        return calls[0]

    def _result(self, call: Any) -> Any:
        return call()

    def _cancel(self, calls: Sequence[Any]) -> None:
        pass


class _Loky(Engine):
    """Processes on this machine, each a pool of its own: the death of a process breaks its pool, and only that one."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self._free: list[Any] = []
        self._busy: dict[Hashable, Any] = {}

    def _submit(self, function: Callable[[Any], Any], item: Any) -> Hashable:
        while self._free:
            pool = self._free.pop()
            try:
                return self._begin(pool, function, item)
            except loky.BrokenProcessPool:  # it died while it had nothing to do
                pool.shutdown(kill_workers=True)
        # Ctrl-C reaches every process of a terminal; this one then ends the others. If it is killed, so that it
        # cannot, they end by themselves when they have had nothing to do for a while.
        pool = loky.ProcessPoolExecutor(
            max_workers=1,
            timeout=_IDLE_SECONDS,
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_IGN),
            env=_ONE_THREAD,
        )
        self._started.callback(pool.shutdown, kill_workers=True)
        return self._begin(pool, function, item)

    def _begin(self, pool: Any, function: Callable[[Any], Any], item: Any) -> Hashable:
        call: Hashable = pool.submit(function, item)
        self._busy[call] = pool
        return call

    def _wait(self, calls: Sequence[Any]) -> Hashable:
        return loky.wait(calls, return_when=loky.FIRST_COMPLETED).done.pop()

    def _result(self, call: Any) -> Any:
        pool = self._busy.pop(call)
        error = call.exception()
        if isinstance(error, loky.BrokenProcessPool):
            pool.shutdown(kill_workers=True)
        else:
            self._free.append(pool)
        if isinstance(error, TerminatedWorkerError):
            raise WorkerDiedError("it was killed or it crashed; often the memory was not enough") from error
        return call.result()

    def _cancel(self, calls: Sequence[Any]) -> None:
        self._busy.clear()  # all pools are shut down at once
        self._free.clear()


class _Ray(Engine):
    """The Ray cluster that this program is connected to, or that Ray finds; else one on this machine.

    A run takes one of the cluster's CPUs.
    """

    @cached_property
    def _ray(self) -> Any:
        import ray

        if not ray.is_initialized():
            with _keeping_sigterm():
                ray.init(include_dashboard=False)
            self._started.callback(ray.shutdown)
        return ray

    def _submit(self, function: Callable[[Any], Any], item: Any) -> Hashable:
        call: Hashable = self._ray.remote(num_cpus=1, max_retries=0)(_call).remote(function, item)
        return call

    def _wait(self, calls: Sequence[Any]) -> Hashable:
        (done,), _ = self._ray.wait(calls, num_returns=1)
        return done

    def _result(self, call: Any) -> Any:
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError:  # the function's own
            raise
        except self._ray.exceptions.RayError as error:
            raise WorkerDiedError(_first_line(error)) from error

    def _cancel(self, calls: Sequence[Any]) -> None:
        for call in calls:
            self._ray.cancel(call, force=True)


class _Dask(Engine):
    """The Dask cluster of this program's client, or of Dask's configuration; else one on this machine.

    A cluster that exists already tries the calls of a dead worker again by itself, as often as its ``allowed-failures``
    say, before it reports the death. On such a cluster, a call under way cannot be ended.
    """

    @cached_property
    def _client(self) -> Any:
        import dask
        from distributed import Client, get_client

        try:
            client = get_client()
        except ValueError:
            self._started.enter_context(dask.config.set(_OWN_DASK_CLUSTER))
            with _deaf_to_interrupts():
                client = Client(
                    n_workers=self.jobs,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",  # any free port, and for this machine alone
                    scheduler_kwargs={"dashboard": False},
                    silence_logs=logging.CRITICAL,  # an interrupt closes the cluster, and it would warn of its workers
                )
            self._started.callback(client.close)
        self._check_threads(client)
        return client

    def _capacity(self) -> int:
        """At most one call per worker: of several calls on one, all would be blamed for its death."""
        return max(1, min(self.jobs, len(self._client.nthreads())))

    def _check_threads(self, client: Any) -> None:
        """Runs side by side in one process would share its random generator, and none could be repeated."""
        for address, count in client.nthreads().items():
            if count > 1:
                raise ValueError(
                    f"engine 'dask' needs workers of one thread, but {address} has {count}: start it by "
                    "`dask worker --nthreads 1`, or LocalCluster(threads_per_worker=1)"
                )

    def _submit(self, function: Callable[[Any], Any], item: Any) -> Hashable:
        call: Hashable = self._client.submit(function, item, pure=False)
        return call

    def _wait(self, calls: Sequence[Any]) -> Hashable:
        from distributed import as_completed

        done: Hashable = next(iter(as_completed(calls)))
        return done

    def _result(self, call: Any) -> Any:
        from distributed import CancelledError, KilledWorker

        try:
            return call.result()
        except (CancelledError, KilledWorker) as error:
            raise WorkerDiedError(_first_line(error)) from error

    def _cancel(self, calls: Sequence[Any]) -> None:
        if calls:
            self._client.cancel(calls, force=True)


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    """Ray calls plain functions only, and no ``functools.partial``."""
    return function(item)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Threads and processes that start here never get SIGINT: Ctrl-C in a terminal also reaches the workers."""
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Gives the main thread the handler back that Ray replaces by its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


_ENGINES: dict[str, type[Engine]] = {"loky": _Loky, "ray": _Ray, "dask": _Dask}


def make_engine(name: str, jobs: int) -> Engine:
    """Returns an engine.

    Args:
        name: ``loky`` (processes on this machine), ``ray`` or ``dask`` (a cluster).
        jobs: The number of calls at a time, >= 1; 1 calls in this process, whatever the name.
    """
    return _InThisProcess(jobs) if jobs == 1 else _ENGINES[name](jobs)
