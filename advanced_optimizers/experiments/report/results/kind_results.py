"""The results of runs of another kind than training a classifier: tables and figures for notebook and report."""

from __future__ import annotations

from functools import cached_property, partial

import pandas as pd

from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.metrics import CURVES, METRICS
from advanced_optimizers.experiments.report.figures import against_plots, notes, plots
from advanced_optimizers.experiments.report.results.compared import ComparedResults, dashed
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.report.tables import evidence_tables, tables
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
        constants = self.study.constants
        several = len(self.metrics) + len(constants) > 1
        every = tables.metrics_table(self.frame, self.metrics, labels=labels(), constants=constants)
        metrics = {f"{name}-metrics": every} if several else {}
        return {**built, **self.metric_tables(), **metrics, f"{name}-summary": summary, **self.evidence_tables()}

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The study's figures by file name, without those whose runs are missing."""
        return (
            self.metric_figures()
            | self._figure_against()
            | self._size_figures()
            | self._curve_figures()
            | self._trade_off_figures()
        )

    def _figure_against(self) -> dict[str, StudyFigure]:
        against, known = self.study.against, self.metrics
        if not against or not known or not self._run_ids(against):
            return {}
        metric = known[0]
        return {
            f"{self.study.name}-against-{dashed(against)}": StudyFigure(
                f"{METRICS[metric].name} against {METRICS[against].name} ({len(self._run_ids(metric))} runs)",
                partial(
                    against_plots.metric_against,
                    self.frame,
                    metric,
                    against,
                    labels=labels(),
                    algorithms=self.study.algorithms,
                ),
                self._run_ids(metric),
                note=notes.metric_against(self.frame, metric),
            )
        }

    def _size_figures(self) -> dict[str, StudyFigure]:
        study, metric = self.study, "test_accuracy"
        run_ids = self._run_ids(metric)
        if not study.sizes or not run_ids:
            return {}
        draw = partial(plots.over_sizes, self.frame, metric, study.sizes, over=study.over)
        drawn = StudyFigure(
            f"{METRICS[metric].name} at the end by {study.over[0].lower()}{study.over[1:]} ({len(run_ids)} runs)",
            partial(draw, labels=labels(), algorithms=study.algorithms),
            run_ids,
            note=notes.over_sizes(self.frame, metric, study.sizes),
        )
        return {f"{study.name}-by-size": drawn}

    def _trade_off_figures(self) -> dict[str, StudyFigure]:
        built = {}
        for across, up, log, marked in self.study.trade_offs:
            run_ids = self._run_ids(up)
            if run_ids:
                draw = partial(plots.trade_off, self.curves, across, up, labels=labels(), log=log, marked=marked)
                built[f"{self.study.name}-{dashed(up)}-by-{dashed(across)}"] = StudyFigure(
                    f"{METRICS[up].name} by {METRICS[across].name} ({len(run_ids)} runs)",
                    partial(draw, algorithms=self.study.algorithms),
                    run_ids,
                    note=notes.trade_off(self.curves, across, up, marked),
                )
        return built

    def _curve_figures(self) -> dict[str, StudyFigure]:
        built = {}
        for column in self.study.curves:
            curve, run_ids = CURVES[column], self._run_ids(column)
            if run_ids:
                over, words = curve.over, curve.words
                if over == "epoch":
                    over = self.study.counts
                    words = words.replace("by epoch", f"by {over}")
                draw = partial(plots.learning_curves, self.curves, column, over=over, log=curve.log)
                built[f"{self.study.name}-{curve.name}"] = StudyFigure(
                    f"{words} ({len(run_ids)} runs)",
                    partial(draw, labels=labels(), algorithms=self.study.algorithms),
                    run_ids,
                    note=notes.learning_curves(self.curves, column),
                )
        return built
