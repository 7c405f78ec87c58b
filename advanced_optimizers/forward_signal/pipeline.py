"""Trains the layers of a SigProp network in parallel: a layer needs nothing from later ones, so it need not wait."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import cache
from queue import Queue
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._checks import check_integer, check_iterable, check_range, count_processes
from advanced_optimizers.forward_signal.checks import check_trainable
from advanced_optimizers.forward_signal.learning import learn_unit
from advanced_optimizers.forward_signal.optimizer import LearnResult, SigPropOptimizer

__all__ = ["SigPropPipeline", "split_by_cost"]

# Batches that are learned without the threads, to find out where to cut; the first only warms up.
_WARM_UP, _MEASURED = 1, 2

Settings = dict[str, Any]


@dataclass
class _Batch:
    """A batch on its way through the stages, with the settings of the moment when it was submitted.

    Attributes:
        number: Counted from 1.
        settings: The hyperparameters of the parameter groups, for each unit.
        autocast: Arguments of ``torch.autocast``.
    """

    h: Tensor
    t: Tensor
    y: Tensor
    number: int
    settings: list[list[Settings]]
    autocast: Settings
    losses: list[Tensor] = field(default_factory=list)
    future: Future[LearnResult] = field(default_factory=Future)


class SigPropPipeline:
    """Learns a stream of batches in parallel threads: while layer i + 1 learns from batch n, layer i learns from n + 1.

    The weights equal those of :meth:`SigPropOptimizer.learn` batch by batch, bit for bit: the update of a layer needs
    what the layers before it computed for this batch, and nothing from later layers. A batch is learned with the
    hyperparameters of the moment when it was submitted, so schedulers step between batches as usual.

    Args:
        optimizer: The network's optimizer. It and the network are in use until :meth:`wait` returns or the ``with``
            block ends.
        stages: Number of threads, from 1 to the number of units, which are the layers and the output.
        queue_length: Number of batches that may wait before each stage, >= 1; :meth:`submit` blocks while the first
            queue is full.
        threads: Number of torch's threads in each stage, >= 1. Training without a pipeline produces the same bits with
            the same number.
        costs: Relative time of each of ``optimizer.net.units()``, each >= 0. Each stage takes consecutive units, chosen
            so that the slowest stage is as fast as possible. By default, the processor time measured on the first three
            batches, which are learned without the threads.

    Raises:
        TypeError: ``optimizer`` is not a SigPropOptimizer, or a value has the wrong type.
        ValueError: A value is out of range.

    Example:
        >>> import torch
        >>> from advanced_optimizers import SigPropNet, SigPropOptimizer, SigPropPipeline
        >>> optimizer = SigPropOptimizer(SigPropNet(8, [16, 16], 3))
        >>> with SigPropPipeline(optimizer, stages=2) as pipeline:
        ...     futures = [pipeline.submit(torch.randn(4, 8), torch.tensor([0, 1, 2, 0])) for _ in range(9)]
        >>> futures[0].result().scores.shape
        torch.Size([4, 3])

    Limitations:
        The speed-up is bounded by the slowest unit, and early convolutions are often by far the slowest. Dropout draws
        from torch's one global generator in the order in which the threads reach it, so runs with dropout differ. Each
        batch in flight holds the activations of one layer, and there may be ``stages * (queue_length + 1)`` such
        batches.
    """

    def __init__(
        self,
        optimizer: SigPropOptimizer,
        stages: int = 2,
        *,
        queue_length: int = 2,
        threads: int = 1,
        costs: Sequence[float] | None = None,
    ) -> None:
        if not isinstance(optimizer, SigPropOptimizer):
            raise TypeError(f"optimizer must be a SigPropOptimizer, got {optimizer!r}")
        self.units = optimizer.net.units()
        stages = check_integer("stages", stages, 1)
        if stages > len(self.units):
            raise ValueError(
                f"stages must be at most {len(self.units)}, one per layer and one for the output, got {stages}"
            )
        if costs is not None:
            costs = check_iterable("costs", costs.tolist() if isinstance(costs, Tensor) else costs, of="numbers")
            if len(costs) != len(self.units):
                raise ValueError(f"costs must have one number for each of the {len(self.units)} units, got {costs}")
            costs = [check_range("costs", cost, 0.0, math.inf, open_high=True) for cost in costs]
        self.optimizer = optimizer
        self.stages = stages
        self.queue_length = check_integer("queue_length", queue_length, 1)
        self.threads = check_integer("threads", threads, 1)
        self.costs = costs
        self._measured = [0.0] * len(self.units)
        self._inbox: Queue[_Batch | None] = Queue(self.queue_length)
        self._workers: list[Thread] = []
        self._pending: deque[Future[LearnResult]] = deque()
        self._submitted = 0
        self._failure: RuntimeError | None = None
        self._failed = 0  # number of the batch that failed
        self._bases_groups: list[Settings] | None = None

    def __enter__(self) -> SigPropPipeline:
        if self._bases_groups is not None:
            raise RuntimeError("the pipeline is already open: it can be in one 'with' block at a time")
        self._submitted, self._failure = 0, None
        self._threads_before = torch.get_num_threads()
        # The caller and its schedulers get copies; the dicts that the bases step with belong to the workers.
        self._bases_groups = self.optimizer.param_groups
        self.optimizer._show([dict(group) for group in self._bases_groups])
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        assert self._bases_groups is not None
        if self._workers:
            self._inbox.put(None)
            for worker in self._workers:
                worker.join()
            self._workers = []
            torch.set_num_threads(self._threads_before)
        self._pending.clear()
        self._copy_settings_to_bases()
        self.optimizer._show(None)
        self._bases_groups = None
        if kind is None and self._failure is not None:
            raise self._failure

    def submit(self, x: Tensor, y: Tensor) -> Future[LearnResult]:
        """Hands a batch to the first stage; blocks while ``queue_length`` batches wait before that stage.

        Args:
            x: ``(B, *input_shape)``. Must not be written to until the batch is learned.
            y: Labels, int64 (B,).

        Returns:
            A future with the batch's losses and scores, or with the error that kept it from being learned.

        Raises:
            TypeError: ``x`` or ``y`` is not a tensor.
            ValueError: A shape, a dtype or a label does not fit the network, or all parameters are frozen.
            RuntimeError: The pipeline is not open, an earlier batch failed, or there are several processes
                (``torch.distributed``).
        """
        if self._bases_groups is None:
            raise RuntimeError("the pipeline must be opened with 'with' before submit")
        if self._failure is not None:
            raise self._failure
        self.optimizer.net.check_batch(x, y)
        check_trainable(self.optimizer.net)
        if count_processes(self.optimizer.process_group) > 1:
            raise RuntimeError(
                "SigPropPipeline learns in threads of one process and does not wait for other processes: use "
                "SigPropOptimizer.learn, which averages the gradients, or a process_group of one process"
            )
        self._submitted += 1
        if self.costs is None:
            return self._learn_and_measure(x, y)
        if not self._workers:
            self._start_workers(split_by_cost(self.costs, self.stages))
        batch = self._make_batch(x, y)
        while self._pending and self._pending[0].done():
            self._pending.popleft()
        self._pending.append(batch.future)
        self._inbox.put(batch)
        return batch.future

    def wait(self) -> None:
        """Waits until every submitted batch is learned; then the network and the optimizer can be used as usual.

        Raises:
            RuntimeError: A batch failed. The layers before the failure have learned from it and later ones have not, so
                go back to a checkpoint.
        """
        wait(self._pending)
        self._pending.clear()
        if self._failure is not None:
            raise self._failure
        self._copy_settings_to_bases()

    def _learn_and_measure(self, x: Tensor, y: Tensor) -> Future[LearnResult]:
        self._copy_settings_to_bases()
        batch = self._make_batch(x, y)
        for i in range(len(self.units)):
            started = time.thread_time()
            self._learn_unit(batch, i)
            if self._submitted > _WARM_UP:
                self._measured[i] += time.thread_time() - started
        if self._submitted == _WARM_UP + _MEASURED:
            self.costs = self._measured
        _set_result(batch)
        return batch.future

    def _make_batch(self, x: Tensor, y: Tensor) -> _Batch:
        self.optimizer._opt_called = True  # as SigPropOptimizer.learn does
        groups = iter(copy.deepcopy([_without_params(group) for group in self.optimizer.param_groups]))
        settings = [[next(groups) for _ in base.param_groups] if base else [] for base in self.optimizer.bases]
        device = x.device.type
        autocast = {"device_type": device, "enabled": torch.is_autocast_enabled(device)}
        if autocast["enabled"]:
            autocast["dtype"] = torch.get_autocast_dtype(device)
        return _Batch(x, self.optimizer.net.contexts, y, self._submitted, settings, autocast)

    def _start_workers(self, parts: list[range]) -> None:
        inbox = self._inbox = Queue(self.queue_length)
        for i, part in enumerate(parts):
            outbox: Queue[_Batch | None] | None = Queue(self.queue_length) if i + 1 < len(parts) else None
            # A daemon, so that a pipeline that was never closed does not keep the interpreter from exiting.
            worker = Thread(target=self._run_stage, args=(part, inbox, outbox), name=f"sigprop-{i}", daemon=True)
            self._workers.append(worker)
            worker.start()
            if outbox is not None:
                inbox = outbox

    def _run_stage(self, part: range, inbox: Queue[_Batch | None], outbox: Queue[_Batch | None] | None) -> None:
        """Runs one stage.

        After a failure it still takes batches, so that nobody waits for it, but learns none that come after the failed
        one.
        """
        torch.set_num_threads(self.threads)
        while (batch := inbox.get()) is not None:
            try:
                if self._failure is not None and batch.number > self._failed:
                    raise self._failure
                for i in part:
                    self._learn_unit(batch, i)
            except BaseException as error:
                if self._failure is None:
                    self._failed = batch.number
                    self._failure = RuntimeError(f"batch {batch.number} was not learned: {error}")
                    self._failure.__cause__ = error
                batch.future.set_exception(error)
                continue
            if outbox is None:
                _set_result(batch)
            else:
                outbox.put(batch)
        if outbox is not None:
            outbox.put(None)

    def _learn_unit(self, batch: _Batch, i: int) -> None:
        base = self.optimizer.bases[i]
        for group, settings in zip(base.param_groups if base else [], batch.settings[i], strict=True):
            group.update(settings)
        with torch.autocast(**batch.autocast):
            batch.h, batch.t, loss = learn_unit(self.units[i], base, batch.h, batch.t, batch.y)
        batch.losses += [loss] if loss is not None else []

    def _copy_settings_to_bases(self) -> None:
        assert self._bases_groups is not None
        for group, shown in zip(self._bases_groups, self.optimizer.param_groups, strict=True):
            group.update(_without_params(shown))


def split_by_cost(costs: Sequence[float], stages: int) -> list[range]:
    """Splits units into consecutive parts, none of them empty, so that the most expensive part is as cheap as possible.

    Args:
        costs: One number per unit.
        stages: Number of parts, from 1 to ``len(costs)``.
    """

    @cache
    def best(first: int, parts: int) -> tuple[float, tuple[int, ...]]:
        """Returns the cost of the most expensive part and the ends of the parts, for the units from ``first`` on."""
        if parts == 1:
            return sum(costs[first:]), (len(costs),)
        options = []
        for end in range(first + 1, len(costs) - parts + 2):
            highest, ends = best(end, parts - 1)
            options.append((max(sum(costs[first:end]), highest), (end, *ends)))
        return min(options)

    _, ends = best(0, stages)
    return [range(start, end) for start, end in zip((0, *ends), ends, strict=False)]


def _without_params(group: Settings) -> Settings:
    return {name: value for name, value in group.items() if name != "params"}


def _set_result(batch: _Batch) -> None:
    batch.future.set_result(LearnResult(torch.stack(batch.losses), batch.h))
