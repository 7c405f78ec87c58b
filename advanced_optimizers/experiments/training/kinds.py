"""Runs of other kinds than training a classifier: from a configuration's measurements to a record."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

import torch

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.records.machine import environment, peak_memory, reset_peak_memory
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.training.seeding import seed_everything


def perform(
    config: KindConfig, device: torch.device, on_point: Callable[[int, dict[str, float]], None] | None = None
) -> RunRecord:
    """Performs a run from its beginning to its end, and returns its record.

    Besides what the configuration measures, the curves have ``seconds`` and ``cpu_seconds`` since the point before.

    Args:
        config: What to do.
        device: Where to compute.
        on_point: Called after each measurement with its number (from 1) and what was measured.

    Raises:
        ValueError: It measures other quantities at one point than at another, or more or less often than ``points``.
    """
    seed_everything(config.seed)
    reset_peak_memory(device)
    where = {**environment(device), "data_checksum": _checksum(config)}
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    curves: dict[str, list[float]] = {}
    begun, diverged = time.perf_counter(), False
    wall, cpu = begun, time.process_time()
    for number, measured in enumerate(config.measure(str(device)), start=1):
        spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        metrics = {**{name: float(value) for name, value in measured.items()}, **spent}
        _append(curves, metrics)
        diverged = not math.isfinite(metrics.get("train_loss", 0.0))
        if on_point is not None:
            on_point(number, metrics)
        if diverged:
            break
        wall, cpu = time.perf_counter(), time.process_time()
    _check_length(config, curves, diverged)
    finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return RunRecord(
        config=config,
        status="diverged" if diverged else "completed",
        environment={**where, "started_at": started, "finished_at": finished},
        curves={name: list(values) for name, values in curves.items()},
        final={name: values[-1] for name, values in curves.items()},
        total_seconds=time.perf_counter() - begun,
        peak_memory_bytes=peak_memory(device),
    )


def _append(curves: dict[str, list[float]], metrics: Mapping[str, float]) -> None:
    uneven = sorted(metrics.keys() ^ curves.keys())
    if curves and uneven:
        raise ValueError(f"measure must yield the same quantities each time, but not every point has {uneven}")
    for name, value in metrics.items():
        curves.setdefault(name, []).append(value)


def _check_length(config: KindConfig, curves: Mapping[str, list[float]], diverged: bool) -> None:
    length = len(next(iter(curves.values()), []))
    if length != config.points and not diverged:
        raise ValueError(f"measure must yield {config.points} times, as points says, got {length}")


def _checksum(config: KindConfig) -> str:
    """That of the data; if there are several sets, of their checksums."""
    each = [data.load(name).checksum for name in config.datasets]
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()
