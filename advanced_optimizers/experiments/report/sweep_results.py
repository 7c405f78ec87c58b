"""The results of a width sweep: its optima, and tables and figures for the notebook and the report."""

from __future__ import annotations

from functools import cached_property, partial

import pandas as pd

from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.optima import (
    find_optima,
    find_transfer,
    optimum_interval,
    select_optima,
    shift_interval,
    sweep_points,
    widths,
)
from advanced_optimizers.experiments.evidence.statistics import ratio_interval
from advanced_optimizers.experiments.report import evidence_tables, notes, sweep_plots, tables
from advanced_optimizers.experiments.report.recorded import RecordedStudy, StudyFigure
from advanced_optimizers.experiments.studies.registry import CLAIMS
from advanced_optimizers.experiments.studies.sweep import WidthSweep

_NOTHING = "-"


class SweepResults(RecordedStudy[WidthSweep]):
    """The recorded runs of a sweep and what follows from them."""

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per run, see ``evidence.optima.sweep_points``."""
        return sweep_points(self.frame, self.study.base_units)

    @cached_property
    def optima(self) -> pd.DataFrame:
        """One row per task, algorithm, width and seed, see ``evidence.optima.find_optima``."""
        return find_optima(self.points)

    @property
    def protocol(self) -> pd.DataFrame:
        """How long and on what the sweep trains, one row per task."""
        return pd.DataFrame(
            {
                "Task": label(task.name),
                "Units": f"{task.units[0]} to {task.units[-1]}",
                "Training images": f"{100 * task.data_fraction:g} %",
                "Epochs": task.epochs,
                "Batch size": task.batch_size,
                "Seeds": len(self.study.seeds),
            }
            for task in self.study.tasks
        )

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The sweep's tables by file name; without runs, only the table of claims, if there are any."""
        name = self.study.name
        built = {f"{name}-claims": evidence_tables.claims_table(CLAIMS, self.verdicts)} if self.verdicts else {}
        if not self.points.empty:
            built[f"{name}-optima"] = self._optima_table()
            built[f"{name}-cost"] = self._cost_table()
        return built

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The sweep's figures by file name."""
        if self.points.empty:
            return {}
        name, n, run_ids = self.study.name, f"{len(self.frame)} runs", tuple(self.frame["run_id"])
        return {
            f"{name}-sweep": StudyFigure(
                f"training loss by learning rate and width ({n})",
                partial(sweep_plots.loss_by_rate, self.points, labels=labels(), algorithms=self.study.algorithms),
                run_ids,
                note=notes.loss_by_rate(self.points),
            ),
            f"{name}-optimum": StudyFigure(
                f"best learning rate by width ({n})",
                partial(sweep_plots.optimum_by_width, self.optima, labels=labels(), algorithms=self.study.algorithms),
                run_ids,
                note=notes.optimum_by_width(self.optima),
            ),
        }

    def _optima_table(self) -> pd.DataFrame:
        """One row per task, algorithm and width: the best learning rate, how far it moved, and the lowest loss."""
        cells = [
            (task.name, algorithm, units)
            for task in self.study.tasks
            for algorithm in self.study.algorithms
            for units in widths(self.optima, task.name, algorithm)
        ]
        n = tables.common_count(len(select_optima(self.optima, *cell)) for cell in cells)
        table = pd.DataFrame(self._optimum_row(*cell, n) for cell in cells)
        tables.with_runs(table, [self._run_ids(*cell) for cell in cells])
        return tables.noted(table, tables.interval_note(n))

    def _run_ids(self, task: str, algorithm: str, units: int) -> list[str]:
        """The runs at one width, with every learning rate and seed."""
        runs = self.frame[(self.frame["task"] == task) & (self.frame["algorithm"] == algorithm)]
        return runs.loc[runs["width"] * self.study.base_units == units, "run_id"].tolist()

    def _optimum_row(self, task: str, algorithm: str, units: int, n: int) -> dict[str, object]:
        chosen = select_optima(self.optima, task, algorithm, units)
        start = self.study.from_units
        shift = shift_interval(self.optima, task, algorithm, units, start) if units > start else None
        interval = optimum_interval(self.optima, task, algorithm, units)
        count = f" (n = {len(chosen)})" if len(chosen) != n else ""
        best = f"{interval.plus_minus()}{count}" if interval else _NOTHING
        edge = "" if chosen["resolved"].all() else ", at the end of the sweep"
        return {
            "Task": label(task),
            "Algorithm": label(algorithm),
            "Units": units,
            "log2 of the best rate": f"{best}{edge}",
            f"Move from {start} units (octaves)": shift.bracket(signed=True) if shift else _NOTHING,
            "Lowest loss (mean)": f"{chosen['loss'].mean():.4f}",
        }

    def _cost_table(self) -> pd.DataFrame:
        """The CPU time of tuning narrow and training wide once, compared with tuning wide, one row per task."""
        rows = []
        for task in (task.name for task in self.study.tasks):
            transfer = find_transfer(self.points, task, self.study.transferring)
            if transfer is None:
                continue
            transferred, direct = (pd.Series(side).mean() for side in zip(*transfer.pairs, strict=True))
            ratio = ratio_interval(transfer.pairs).bracket(digits=3) if len(transfer.pairs) > 1 else _NOTHING
            rows.append(
                {
                    "Task": label(task),
                    "Tuned at (units)": transfer.units,
                    "Trained at (units)": transfer.target,
                    "Tuning narrow, training wide once (CPU s)": f"{transferred:.0f}",
                    "Tuning wide (CPU s)": f"{direct:.0f}",
                    "Ratio [95 % interval]": ratio,
                    "Loss at the transferred rate": f"{transfer.loss:.4f}",
                    "Loss at the tuned rate": f"{transfer.direct_loss:.4f}",
                    "n": len(transfer.pairs),
                }
            )
        return pd.DataFrame(rows)
