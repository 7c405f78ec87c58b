"""What the results of every comparison of algorithms show, whatever its runs do: metrics, differences, evidence."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TypeVar

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Evidence, baseline_comparisons, metric_evidence
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.report.figures import notes, plots
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy, StudyFigure
from advanced_optimizers.experiments.report.tables import evidence_tables, tables
from advanced_optimizers.experiments.studies.kind_study import KindStudy
from advanced_optimizers.experiments.studies.registry import MARGINS
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

_Compared = TypeVar("_Compared", Study, KindStudy)


class ComparedResults(RecordedStudy[_Compared]):
    """The recorded runs of a comparison, in the metrics that its study names.

    Attributes:
        when: When the metrics were measured, in words.
    """

    when = "of the last epoch"

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics in which the study's runs are compared, as far as they are recorded."""
        return [metric for metric in self.study.metrics if metric in self.frame and self.frame[metric].notna().any()]

    @cached_property
    def differences(self) -> dict[str, list[Evidence]]:
        """By metric, every algorithm compared with its baseline; each comparison is read by itself."""
        return {metric: self._differences(metric) for metric in self.metrics}

    def metric_tables(self) -> dict[str, pd.DataFrame]:
        """By file name, the means of each metric and the differences from the baselines."""
        built = {}
        for metric in self.metrics:
            name = f"{self.study.name}-{dashed(metric)}"
            claimed = _claimed_accuracies() if metric == "test_accuracy" else None
            built[name] = tables.comparison_table(self.frame, metric, labels=labels(), claimed=claimed)
            if evidence := self.differences[metric]:
                built[f"{name}-differences"] = evidence_tables.evidence_table(evidence, labels=labels())
        return built

    def evidence_tables(self) -> dict[str, pd.DataFrame]:
        """By file name, what the verdict on each claim rests on."""
        return {
            f"{self.study.name}-evidence-{key}": evidence_tables.evidence_table(verdict.evidence, labels=labels())
            for key, verdict in self.verdicts.items()
            if verdict.evidence
        }

    def metric_figures(self) -> dict[str, StudyFigure]:
        """By file name, each metric's values and its differences from the baselines."""
        built: dict[str, StudyFigure] = {}
        for metric in self.metrics:
            words, name = METRICS[metric].name, f"{self.study.name}-{dashed(metric)}"
            built[name] = StudyFigure(
                f"{words} {self.when} by algorithm ({len(self.frame)} runs)",
                partial(plots.final_accuracy, self.frame, metric, labels=labels(), algorithms=self.study.algorithms),
                self._run_ids(metric),
                note=notes.final_accuracy(self.frame, metric),
            )
            evidence = self.differences[metric]
            if evidence:
                built[f"{name}-differences"] = StudyFigure(
                    f"{words}: difference from the baseline, paired by seed ({len(evidence)} comparisons)",
                    partial(plots.paired_differences, evidence, labels=labels(), algorithms=self.study.algorithms),
                    tuple(run_id for row in evidence for run_id in row.run_ids),
                    note=notes.paired_differences(evidence),
                )
        return built

    def _differences(self, metric: str) -> list[Evidence]:
        margins = {task: margin for (column, task), margin in MARGINS.items() if column == metric}
        comparisons = baseline_comparisons(self.frame, margins)
        return metric_evidence(self.frame, metric, comparisons, all_needed=False)

    def _run_ids(self, metric: str) -> tuple[str, ...]:
        """The runs that have a value of the metric."""
        if metric not in self.frame:
            return ()
        return tuple(self.frame.loc[self.frame[metric].notna(), "run_id"])


def dashed(column: str) -> str:
    """The name of a column as it is written in file names."""
    return column.replace("_", "-")


def _claimed_accuracies() -> dict[str, dict[str, float]]:
    """The test accuracies that the coursework states, by task and algorithm."""
    claimed: dict[str, dict[str, float]] = {}
    for name, algorithm in ALGORITHMS.items():
        for task, accuracy in algorithm.claimed.items():
            claimed.setdefault(task, {})[name] = accuracy
    return claimed
