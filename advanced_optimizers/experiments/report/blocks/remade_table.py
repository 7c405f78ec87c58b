"""A source's table of accuracies and seconds, remade: its values beside those of a comparison under one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from advanced_optimizers.experiments.evidence.contests import unit_means
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.evidence.statistics import mean_interval
from advanced_optimizers.experiments.report.results.measured import OneRun
from advanced_optimizers.experiments.report.results.referee_results import RefereeResults
from advanced_optimizers.experiments.report.tables.table_files import NOTHING, noted
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

_PENDING = "pending"


def remade_table(seconds: Mapping[str, float], comparisons: Sequence[RefereeResults], one_run: OneRun) -> pd.DataFrame:
    """One row per algorithm of the source; for each task its accuracy and seconds, beside what the source states.

    Args:
        seconds: The seconds per epoch that the source states, by algorithm; the first anchor of the comparisons is one.
        comparisons: The comparisons, in the order of the columns.
        one_run: The seconds per epoch that were measured.
    """
    rows = [
        {
            "Algorithm": label(name),
            **{key: cell for results in comparisons for key, cell in _cells(results, name, one_run).items()},
            "Stated: seconds, ratio": f"{seconds[name] / seconds[comparisons[0].study.anchors[0]]:.3f}",
        }
        for name in seconds
    ]
    anchor = label(comparisons[0].study.anchors[0])
    note = (
        "Accuracy: mean over the tunings, or over the seeds of a single one, ± half-width of its 95 % interval. "
        f"Seconds: per epoch, as a ratio to those of {anchor}, from epochs of all algorithms in "
        "turn in one run, with its order-statistic interval. A dash: not part of the comparison on this task."
    )
    return noted(pd.DataFrame(rows), note)


def _cells(results: RefereeResults, name: str, one_run: OneRun) -> dict[str, str]:
    (task,) = results.study.tasks
    where, stated = label(task.name), ALGORITHMS[name].claimed.get(task.name)
    measured = one_run.ratios(task.name)
    ratio = "1" if name == results.study.anchors[0] and measured else NOTHING
    return {
        f"{where} (%)": _accuracy(results, task.name, name),
        f"{where}, stated (%)": NOTHING if stated is None else f"{100 * stated:.1f}",
        f"{where}, seconds, ratio": measured[name].bracket(digits=2) if name in measured else ratio,
    }


def _accuracy(results: RefereeResults, task: str, name: str) -> str:
    if (task, name) not in results.complete:
        return _PENDING if name in results.algorithms_on(task) else NOTHING
    units = unit_means(results.judged, task, name, results.study.tunings)
    return METRICS["test_accuracy"].value(mean_interval(units)).removesuffix(" %")
