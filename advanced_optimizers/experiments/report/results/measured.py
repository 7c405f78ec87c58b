"""Reads what was measured besides the runs: the files under ``results/benchmarks``."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from advanced_optimizers.experiments.evidence.comparisons import Measurements
from advanced_optimizers.experiments.evidence.medians import median_interval, ratios
from advanced_optimizers.experiments.evidence.statistics import Interval
from advanced_optimizers.experiments.records.record import RecordError

BENCHMARKS = Path("results") / "benchmarks"
# The epochs of all algorithms of a comparison, in turn in one run.
ONE_RUN_PATH = BENCHMARKS / "one_run.json"


def read_measured(root: Path, relative: Path, fields: Collection[str]) -> Measurements | None:
    """The content of a measurement's file; None if it was not measured.

    Args:
        root: The folder that holds ``results/``.
        relative: The file, relative to it.
        fields: What each of its measurements must have.

    Raises:
        RecordError: The file is damaged.
    """
    path = root / relative
    if not path.exists():
        return None
    try:
        content: Measurements = json.loads(path.read_text(encoding="utf-8"))
        for row in content["measurements"]:
            if not set(fields) <= row.keys():
                raise ValueError(f"a measurement lacks a field: {sorted(row)}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"the measurement {path} is damaged ({error}): measure again with make bench") from error
    return content


class OneRun:
    """The epochs of many algorithms, measured in turn in one run, each against the same algorithm.

    Args:
        root: The folder that holds ``results/``.

    Raises:
        RecordError: The file is damaged.
    """

    def __init__(self, root: Path) -> None:
        content = read_measured(root, ONE_RUN_PATH, {"task", "algorithm", "baseline", "pairs"})
        self._rows = [] if content is None else content["measurements"]

    def ratios(self, task: str) -> dict[str, Interval]:
        """By algorithm, the median ratio of its seconds per epoch, with its order-statistic interval."""
        return {row["algorithm"]: median_interval(ratios(row["pairs"])) for row in self._rows if row["task"] == task}

    def times(self, task: str) -> dict[str, float]:
        """By algorithm, the time of its epoch in epochs of the common one, which is 1 itself."""
        found = {name: ratio.estimate for name, ratio in self.ratios(task).items()}
        return {row["baseline"]: 1.0 for row in self._rows if row["task"] == task} | found
