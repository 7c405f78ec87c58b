"""Made-up records of a width sweep, with optima at known places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies.claims.zero_shot_transfer import STANDARD
from advanced_optimizers.experiments.studies.registry import get_study
from advanced_optimizers.experiments.studies.sweep import WidthSweep
from tests.experiments_helpers import ENVIRONMENT

FULL = get_study("mutransfer", "full")

# (task, algorithm, units, seed) -> log2 of the best learning rate
Places = Callable[[str, str, int, int], float]


def transferring(task: str, algorithm: str, units: int, seed: int) -> float:
    """muP's optimum stays; from 512 units on, the standard one moves down by 0.9 octaves per doubling of the width."""
    moved = max(0.0, math.log2(units / 512)) if algorithm == STANDARD else 0.0
    start = -5.55 if algorithm == STANDARD else -4.5
    return start - 0.9 * moved + 0.05 * (seed - 1)


def make_record(config: RunConfig, best: float, lowest: float = 0.0, seconds: float | None = None) -> RunRecord:
    """A run whose log loss is a parabola around ``best``; wider networks have a lower loss and take longer."""
    units = round(64 * config.width)
    away = math.log2(float(config.hyperparameters["lr"])) - best
    loss = math.exp(0.3 * away**2 + lowest) / units
    seconds = (units / 64) ** 1.5 if seconds is None else seconds
    final = {"train_loss": loss, "train_accuracy": 0.9, "seconds": seconds, "cpu_seconds": seconds}
    return RunRecord(
        config=config,
        status="completed",
        environment=dict(ENVIRONMENT),
        curves={name: [value] * config.epochs for name, value in final.items()},
        final=dict(final),
        total_seconds=seconds,
        peak_memory_bytes=2**20,
    )


def diverged(config: RunConfig) -> RunRecord:
    """A run that ended without a loss."""
    record = make_record(config, 0.0)
    return replace(record, status="diverged", final={**record.final, "train_loss": None})


def make_records(sweep: WidthSweep = FULL, places: Places = transferring) -> list[RunRecord]:
    """All records of a sweep."""
    return [make_record(c, place_of(c, places)) for c in every_config(sweep)]


def every_config(sweep: WidthSweep = FULL) -> Iterable[RunConfig]:
    return sweep.final_configs(None)  # type: ignore[arg-type]  # a sweep does not use the store


def place_of(config: RunConfig, places: Places) -> float:
    return places(config.task, config.algorithm, round(64 * config.width), config.seed)
