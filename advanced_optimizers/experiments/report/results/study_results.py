"""The results of a comparison: tables and figures for the notebooks and the report."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from advanced_optimizers.experiments.evidence.calibration import calibrate, machine_of, measured_seconds
from advanced_optimizers.experiments.evidence.comparisons import (
    Comparison,
    Measurements,
    RunData,
)
from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.metrics import CURVES, ordered
from advanced_optimizers.experiments.evidence.rules import compare_overhead
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.report.figures import notes, plots
from advanced_optimizers.experiments.report.results.compared import ComparedResults
from advanced_optimizers.experiments.report.results.measured import BENCHMARKS, read_measured
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.report.results.stated_values import stated_table
from advanced_optimizers.experiments.report.results.tunings import tuning_figures_of, tuning_tables_of
from advanced_optimizers.experiments.report.tables import evidence_tables, tables
from advanced_optimizers.experiments.report.tables.stated_seconds import stated_seconds_table
from advanced_optimizers.experiments.studies.registry import CLAIMS
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

MEASUREMENTS_PATH = BENCHMARKS / "epoch_overhead.json"


class StudyResults(ComparedResults[Study]):
    """The recorded runs of a comparison and what follows from them."""

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per run of the comparison."""
        return records_frame(self.records, self.study.targets)

    @cached_property
    def calibrated_curves(self) -> pd.DataFrame:
        """The curves, with times that can be compared across machines if epochs were measured."""
        machines = {record.run_id: machine_of(record.environment) for record in self.records}
        return calibrate(self.curves, machines, measured_seconds(self.measurements))

    @cached_property
    def measurements(self) -> Measurements | None:
        """The study's epochs measured side by side, its properties and benchmarks; None if no epochs were measured.

        Raises:
            RecordError: A file is damaged.
        """
        content = self._measured(MEASUREMENTS_PATH, {"task", "algorithm", "baseline", "pairs"})
        if content is None:
            return None
        tasks = {task.name for task in self.study.tasks}
        rows = [
            row
            for row in content["measurements"]
            if row["task"] in tasks and {row["algorithm"], row["baseline"]} <= set(self.study.algorithms)
        ]
        further = {name: self._benchmark(name) for name in self.study.benchmarks}
        return {**content, **further, "measurements": rows, "properties": self._properties}

    def _benchmark(self, name: str) -> list[Any]:
        measured = self._measured(BENCHMARKS / f"{name}.json", set())
        return [] if measured is None else measured["measurements"]

    @property
    def _properties(self) -> list[Any]:
        name = self.study.properties
        tested = None if name is None else self._measured(BENCHMARKS / f"{name}.json", {"property", "holds"})
        return [] if tested is None else tested["measurements"]

    def _measured(self, relative: Path, fields: set[str]) -> Measurements | None:
        return read_measured(self.root, relative, fields)

    @property
    def protocol(self) -> pd.DataFrame:
        """How long and on what the study trains, and its tuning budget, one row per task."""
        return tables.protocol_table(self.study, labels=labels())

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The study's tables by file name; without runs, only the table of claims, if there are any."""
        name = self.study.name
        built = {f"{name}-claims": evidence_tables.claims_table(CLAIMS, self.verdicts)} if self.verdicts else {}
        if not self.frame.empty:
            built |= self.metric_tables()
            built[f"{name}-summary"] = tables.summary_table(self.frame, self.metrics, labels=labels())
            built[f"{name}-hyperparameters"] = tables.hyperparameters_table(self.frame, labels=labels())
            if self.study.targets:
                built[f"{name}-epochs"] = tables.epochs_table(self.frame, self.study.targets, labels=labels())
            if self.study.stated:
                built[f"{name}-stated"] = stated_table(self.frame, self.study.stated, labels=labels())
            built[f"{name}-timing"] = tables.timing_table(self.frame, labels=labels())
        built |= self.evidence_tables()
        if self.measurements is not None:
            built[f"{name}-overhead"] = tables.overhead_table(self.measurements, labels=labels())
            if self.study.stated_seconds:
                built[f"{name}-seconds"] = stated_seconds_table(
                    self.measurements, self.study.stated_seconds, labels=labels()
                )
        return built | tuning_tables_of(self.study, self.store)

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The study's figures by file name, without those whose runs or measurements are missing."""
        return (
            self.metric_figures()
            | self._curve_figures()
            | self._overhead_figure()
            | tuning_figures_of(self.study, self.store)
        )

    def _curve_figures(self) -> dict[str, StudyFigure]:
        built = {}
        for column in self.study.curves:
            curve, run_ids = CURVES[column], self._run_ids(column)
            if not run_ids:
                continue
            if column == "cpu_seconds":
                curves = self.calibrated_curves
                draw, note = partial(plots.accuracy_over_time, curves), notes.accuracy_over_time(curves)
            else:
                curves, groups = self.curves, self._bases() if curve.by_base else None
                draw = partial(plots.learning_curves, curves, column, groups=groups)
                note = notes.learning_curves(curves, column)
            built[f"{self.study.name}-{curve.name}"] = StudyFigure(
                f"{curve.words} ({len(run_ids)} runs)",
                partial(draw, labels=labels(), algorithms=self.study.algorithms),
                run_ids,
                (MEASUREMENTS_PATH.as_posix(),) if "calibrated_seconds" in curves else (),
                note=note,
            )
        return built

    def _overhead_figure(self) -> dict[str, StudyFigure]:
        rows = [] if self.measurements is None else self.measurements["measurements"]
        if not rows:
            return {}
        compared = [Comparison(row["task"], row["algorithm"], row["baseline"]) for row in rows]
        limit = self.study.time_limit
        data = RunData(self.frame, self.measurements)
        # One by one: the figure shows each interval by itself.
        evidence = [
            row for c in compared for row in compare_overhead(data, limit=limit or 1.0, comparisons=[c]).evidence
        ]
        if not evidence:
            return {}
        return {
            f"{self.study.name}-overhead": StudyFigure(
                f"time per epoch, divided by the baseline's ({len(evidence)} comparisons)",
                partial(plots.overhead, evidence, limit=limit, labels=labels(), algorithms=self.study.algorithms),
                (),
                (MEASUREMENTS_PATH.as_posix(),),
                note=notes.overhead(evidence, limit=limit),
            )
        }

    def _bases(self) -> dict[str, list[str]]:
        """The algorithms with each base optimizer, by the title of their column."""
        present = ordered(self.frame["algorithm"], labels())
        bases = dict.fromkeys(ALGORITHMS[name].baseline or name for name in present)
        return {
            f"Over {label(base)}": [name for name in present if base in (name, ALGORITHMS[name].baseline)]
            for base in bases
        }
