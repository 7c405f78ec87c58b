"""Brings the times of runs that were recorded on different machines to one scale.

A study reuses runs of earlier studies, which may be from another machine. Recorded times can be compared within one
machine, but not across machines. The epochs that were measured side by side on one machine provide the common scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Measurements


def measured_seconds(measurements: Measurements | None) -> dict[tuple[str, str], float]:
    """Seconds per epoch by (task, algorithm): the median over all measured pairs that include the algorithm."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for row in [] if measurements is None else measurements["measurements"]:
        for name, values in zip((row["algorithm"], row["baseline"]), zip(*row["pairs"], strict=True), strict=True):
            seconds.setdefault((row["task"], name), []).extend(values)
    return {key: median(values) for key, values in seconds.items()}


def machine_of(environment: Mapping[str, Any]) -> str:
    """Identifies the machine of a record by the processor's name and, since machines can share one, the day."""
    return f"{environment['device_name']}, {str(environment['started_at'])[:10]}"


def calibrate(
    curves: pd.DataFrame, machines: Mapping[str, str], measured: Mapping[tuple[str, str], float]
) -> pd.DataFrame:
    """Adds ``calibrated_seconds``, the recorded CPU seconds per epoch on the scale of the measured ones.

    Each task and machine has one factor: the ratio of measured to recorded seconds, as a geometric mean over the
    algorithms that have both. An algorithm that was not measured thus keeps its time relative to the others on its
    machine.

    Args:
        curves: One row per run and epoch, from ``frames.curves_frame``.
        machines: The machine of each run by run id, from :func:`machine_of`.
        measured: Seconds per epoch by (task, algorithm), from :func:`measured_seconds`.

    Returns:
        The curves with the new column, or without it if a task and machine has no measured algorithm.
    """
    known = curves.assign(machine=curves["run_id"].map(machines))
    recorded = known.groupby(["task", "machine", "algorithm"], as_index=False)["cpu_seconds"].mean()
    logs: dict[tuple[str, str], list[float]] = {}
    for row in recorded.to_dict("records"):
        own = logs.setdefault((row["task"], row["machine"]), [])
        if (row["task"], row["algorithm"]) in measured:
            own.append(math.log(measured[row["task"], row["algorithm"]] / row["cpu_seconds"]))
    if not all(logs.values()):
        return curves
    factors = {key: math.exp(sum(values) / len(values)) for key, values in logs.items()}
    factor = [factors[key] for key in zip(known["task"], known["machine"], strict=True)]
    return curves.assign(calibrated_seconds=curves["cpu_seconds"] * factor)
