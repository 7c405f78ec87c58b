"""Records as data frames: one row per run, or one per run and epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd

from advanced_optimizers.experiments.records.record import RunRecord


def records_frame(records: Iterable[RunRecord], targets: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row per run: its configuration (hyperparameters as ``hp_*``), final metrics, and times.

    ``seconds_per_epoch`` and ``cpu_seconds_per_epoch`` are medians over the epochs; ``best_test_accuracy`` is the
    highest of all epochs: biased upward, for sources that state it.

    Args:
        records: The runs.
        targets: Test accuracies by task, in [0, 1]. If given, the column ``epochs_to_target`` holds the number of
            epochs that a run took to reach the target of its task, see :func:`epochs_to`.
    """
    rows = []
    for record in records:
        row = _row(record)
        if targets:
            target = targets.get(record.config.task, math.nan)
            row["epochs_to_target"] = epochs_to(record.curves.get("test_accuracy", []), target)
        rows.append(row)
    return pd.DataFrame(rows)


def epochs_to(accuracies: Sequence[float | None], target: float) -> float:
    """The number of epochs until an accuracy is first reached, interpolated linearly between two epochs.

    NaN if the run ended before that: the count is censored, and all we know is that it is larger. 1 if the first epoch
    reached it.
    """
    before = math.nan
    for epoch, accuracy in enumerate(accuracies, start=1):
        if accuracy is not None and accuracy >= target:
            return float(epoch) if epoch == 1 else epoch - (accuracy - target) / (accuracy - before)
        before = math.nan if accuracy is None else accuracy
    return math.nan


def curves_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run and epoch (counted from 1), one column per curve."""
    of_the_run = ("task", "algorithm", "label_noise", "split", "seed")
    columns: dict[str, list[Any]] = {}
    curves: dict[str, type] = {}
    rows = 0
    for record in records:
        config = record.config
        epochs = max(map(len, record.curves.values()), default=0)
        same = {"run_id": record.run_id, **{name: getattr(config, name) for name in of_the_run}}
        own = {name: epochs * [value] for name, value in same.items()}
        for name, values in {**own, "epoch": range(1, 1 + epochs), **record.curves}.items():
            columns.setdefault(name, rows * [None]).extend(values)
        rows += epochs
        for column in columns.values():  # curves that are shorter, or that this run does not have
            column.extend((rows - len(column)) * [None])
        curves |= dict.fromkeys(record.curves, float)
    return pd.DataFrame(columns).astype(curves)


def _row(record: RunRecord) -> dict[str, Any]:
    config = dict(record.config.content)
    hyperparameters = config.pop("hyperparameters")
    return {
        "run_id": record.run_id,
        "task": record.config.task,
        "label_noise": record.config.label_noise,
        "split": record.config.split,
        **config,
        **{f"hp_{name}": value for name, value in hyperparameters.items()},
        "status": record.status,
        "unlearnt": record.unlearnt,
        "guessing": record.guessing,
        "commit": record.environment.get("git_commit"),
        **{name: math.nan if value is None else value for name, value in record.final.items()},
        "best_test_accuracy": max(_known(record.curves.get("test_accuracy", [])), default=math.nan),
        "seconds_per_epoch": _median(record.curves.get("seconds", [])),
        "cpu_seconds_per_epoch": _median(record.curves.get("cpu_seconds", [])),
        "total_seconds": record.total_seconds,
        "peak_memory_bytes": record.peak_memory_bytes,
    }


def _median(values: list[float | None]) -> float:
    known = _known(values)
    return median(known) if known else math.nan


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
