"""The results of runs of another kind than training a classifier: tables and figures for notebook and report."""

from __future__ import annotations

from functools import cached_property, partial

import pandas as pd

from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.metrics import CURVES
from advanced_optimizers.experiments.report import evidence_tables, notes, plots, tables
from advanced_optimizers.experiments.report.compared import ComparedResults
from advanced_optimizers.experiments.report.recorded import StudyFigure
from advanced_optimizers.experiments.studies.kind_study import KindStudy
from advanced_optimizers.experiments.studies.registry import CLAIMS


class KindResults(ComparedResults[KindStudy]):
    """The recorded runs of a comparison of another kind and what follows from them."""

    when = "at the end"

    @property
    def protocol(self) -> pd.DataFrame:
        """What the tasks' configurations have in common, one row per task."""
        study = self.study
        return pd.DataFrame(
            {"Task": label(task.name), **task.protocol, "Seeds": len(study.seeds)} for task in study.tasks
        )

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The study's tables by file name; without runs, only the table of claims, if there are any."""
        name = self.study.name
        built = {f"{name}-claims": evidence_tables.claims_table(CLAIMS, self.verdicts)} if self.verdicts else {}
        if self.frame.empty:
            return built
        summary = tables.summary_table(self.frame, self.metrics, labels=labels())
        several = len(self.metrics) > 1
        metrics = (
            {f"{name}-metrics": tables.metrics_table(self.frame, self.metrics, labels=labels())} if several else {}
        )
        return {**built, **self.metric_tables(), **metrics, f"{name}-summary": summary, **self.evidence_tables()}

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The study's figures by file name, without those whose runs are missing."""
        return self.metric_figures() | self._curve_figures()

    def _curve_figures(self) -> dict[str, StudyFigure]:
        built = {}
        for column in self.study.curves:
            curve, run_ids = CURVES[column], self._run_ids(column)
            if run_ids:
                over = self.study.counts if curve.over == "epoch" else curve.over
                draw = (
                    partial(plots.accuracy_against, self.curves, column, over=over, marked=curve.marked)
                    if curve.horizontal
                    else partial(plots.learning_curves, self.curves, column, over=over, log=curve.log)
                )
                built[f"{self.study.name}-{curve.name}"] = StudyFigure(
                    f"{curve.words.replace('by epoch', f'by {over}')} ({len(run_ids)} runs)",
                    partial(draw, labels=labels(), algorithms=self.study.algorithms),
                    run_ids,
                    note=notes.accuracy_against(self.curves, column, curve.marked)
                    if curve.horizontal
                    else notes.learning_curves(self.curves, column),
                )
        return built
