"""A table of differences between algorithms, a row per pair and a column per task: for what a sentence cannot hold."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Comparison, Measurements, metric_evidence
from advanced_optimizers.experiments.evidence.medians import median_interval, ratios
from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels, noise_words
from advanced_optimizers.experiments.evidence.statistics import Interval
from advanced_optimizers.experiments.report.tables.table_files import NOTHING, noted

TIME = "time"


def differences_table(
    frame: pd.DataFrame,
    measurements: Measurements | None,
    pairs: Sequence[tuple[str, str]],
    *,
    tasks: Sequence[str],
    noises: Sequence[float],
    metrics: Sequence[str],
    labels: Labels,
) -> pd.DataFrame:
    """Mean differences with their intervals, paired by seed.

    Args:
        frame: The runs of one study, one row per run, from ``frames.records_frame``.
        measurements: The times of its algorithms, or None if there are none.
        pairs: Algorithm and baseline of each row.
        tasks: Tasks, outermost in the order of the columns.
        noises: Shares of wrong labels, in [0, 1].
        metrics: Metrics, innermost; ``time`` is the ratio of the seconds per epoch.
        labels: Names of tasks and algorithms.

    Returns:
        A frame of text, with n in its note.
    """
    rows: list[dict[str, str]] = []
    seeds: set[int] = set()
    for algorithm, baseline in pairs:
        row = {"Comparison": f"{labels.get(algorithm, algorithm)} vs {labels.get(baseline, baseline)}"}
        for task in tasks:
            for noise in noises:
                place = f"{labels.get(task, task)}{f', {noise_words(noise)}' if len(noises) > 1 else ''}"
                comparison = Comparison(task, algorithm, baseline, noise)
                for metric in metrics:
                    words, n = _cell(frame, measurements, comparison, metric)
                    row[f"{place}: {_title(metric)}"] = words
                    seeds |= n
        rows.append(row)
    return noted(pd.DataFrame(rows), _note(metrics, seeds))


def time_ratio(measurements: Measurements | None, task: str, algorithm: str, baseline: str) -> Interval | None:
    """The median ratio of the seconds per epoch, from epochs run in turn; None if it was not measured."""
    for row in (measurements or {"measurements": []})["measurements"]:
        if (row["task"], row["algorithm"], row["baseline"]) == (task, algorithm, baseline):
            return median_interval(ratios(row["pairs"]))
    return None


def _cell(
    frame: pd.DataFrame, measurements: Measurements | None, comparison: Comparison, metric: str
) -> tuple[str, set[int]]:
    """The difference with its interval, and its number of seeds."""
    if metric == TIME:
        ratio = time_ratio(measurements, comparison.task, comparison.algorithm, comparison.baseline)
        return ratio.bracket(digits=3) if ratio else NOTHING, set()
    kind = METRICS[metric]
    for row in metric_evidence(frame, metric, [comparison]):
        return row.interval.bracket(kind.scale, kind.digits, signed=True), {row.interval.n}
    return NOTHING, set()


def _title(metric: str) -> str:
    return "time (ratio)" if metric == TIME else f"{METRICS[metric].name} ({METRICS[metric].difference_unit})"


def _note(metrics: Sequence[str], seeds: set[int]) -> str:
    n = "" if not seeds else f" (n = {min(seeds)})" if len(seeds) == 1 else f" (n = {min(seeds)} to {max(seeds)})"
    words = f"Mean differences, paired by seed, with their 95 % intervals{n}, not corrected for the other comparisons."
    return f"{words} Times: median ratio of the seconds per epoch." if TIME in metrics else words
