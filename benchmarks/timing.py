"""Times contenders in turns, so that other work on the machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from statistics import fmean, median, quantiles
from typing import NamedTuple

import torch

# Each call does one share of a contender's work and returns the seconds that it took.
Timed = Callable[[], float]

FLOAT_BYTES = 4


class Spread(NamedTuple):
    """A median with the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Returns median and quartiles; for a single value, that value three times."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Spread(median(values), low, high)


def timed(work: Callable[[], object]) -> Timed:
    """Adds a clock to work that has none of its own."""

    def run() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return run


def interleaved(contenders: Mapping[str, Timed], rounds: int) -> dict[str, list[float]]:
    """Calls every contender once per round and returns the seconds of each call.

    Each round begins with the next contender, so two contenders take turns in going first.

    Args:
        contenders: What to call, by name.
        rounds: Number of calls of each contender, >= 1.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        first = i % len(names)
        for name in islice(cycle(names), first, first + len(names)):
            seconds[name].append(contenders[name]())
    return seconds


def ratios(seconds: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Returns, round by round, how many times as long as the reference each took."""
    return [own / other for own, other in zip(seconds, reference, strict=True)]


def block_means(values: Sequence[float], size: int) -> list[float]:
    """Returns the means of consecutive blocks; ``size`` must divide the number of values."""
    if len(values) % size:
        raise ValueError(f"size must divide the {len(values)} values, got {size}")
    return [fmean(values[i : i + size]) for i in range(0, len(values), size)]


def block_sums(values: Sequence[float], size: int) -> list[float]:
    """Returns the sums of consecutive blocks; ``size`` must divide the number of values."""
    return [mean * size for mean in block_means(values, size)]


# Names of the passes over memory, which are timed together with the contenders of a benchmark.
COPY, IN_PLACE = "copy", "in-place scaling"


def memory_passes(elements: int, device: str = "cpu") -> dict[str, Callable[[], object]]:
    """Returns the two simplest passes over ``elements`` float32 numbers; each reads and writes every number once.

    There are two, because a copy writes to memory that it has not read, and many processors fetch such memory first:
    three transfers instead of two. An optimizer's updates in place do not pay this cost, so a copy alone would give a
    floor that they can undercut.
    """
    source, target = torch.ones(elements, device=device), torch.empty(elements, device=device)
    return {COPY: lambda: target.copy_(source), IN_PLACE: lambda: source.mul_(1.0)}


def bandwidth(elements: int, seconds: float) -> float:
    """Returns the bytes per second of one of :func:`memory_passes`."""
    return 2 * FLOAT_BYTES * elements / seconds
