"""Two gloo processes that stay up, so that a test with several processes costs no start of its own."""

from __future__ import annotations

import atexit
import multiprocessing
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

WORLD_SIZE = 2
TIMEOUT = 60.0


@dataclass(frozen=True)
class Outcome:
    """What a function did in one process.

    Attributes:
        value: What it returned; None when it raised.
        error: What it raised, as text with its traceback; empty when it returned.
        warnings: The texts of the warnings that it caused.
    """

    value: Any
    error: str
    warnings: tuple[str, ...]


def together(function: Callable[..., Any], *arguments: Any) -> list[Outcome]:
    """Calls ``function(*arguments)`` in two processes of one gloo group; the outcomes are in the order of the ranks.

    Args:
        function: Defined at the top of a module, because a fresh Python imports it by its name.
        *arguments: What it is called with in both processes; what can be pickled.
    """
    global _workers
    if _workers is None:
        _workers = _Workers()
    outcomes = _workers.call(function, arguments)
    if any(outcome.error for outcome in outcomes):  # the other process may still be waiting in a collective
        _workers.close()
        _workers = None
    return outcomes


class _Workers:
    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.TemporaryDirectory()
        meeting = str(Path(self.folder.name) / "store")
        pairs = [context.Pipe() for _ in range(WORLD_SIZE)]
        self.pipes = [ours for ours, _ in pairs]
        self.processes = [
            context.Process(target=_serve, args=(rank, meeting, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pairs)
        ]
        for process in self.processes:
            process.start()

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Outcome]:
        for pipe in self.pipes:
            pipe.send((function, arguments))
        return [
            pipe.recv() if pipe.poll(TIMEOUT) else Outcome(None, f"no answer within {TIMEOUT:.0f} seconds", ())
            for pipe in self.pipes
        ]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self.folder.cleanup()


_workers: _Workers | None = None


@atexit.register
def _close() -> None:
    if _workers is not None:
        _workers.close()


def _serve(rank: int, meeting: str, pipe: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=TIMEOUT / 2),
    )
    while True:
        function, arguments = pipe.recv()
        torch.manual_seed(0)
        value, error = None, ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                value = function(*arguments)
            except Exception:
                error = traceback.format_exc()
        pipe.send(Outcome(value, error, tuple(str(warning.message) for warning in caught)))
