"""The results of a sweep of the learning rate: its best rates, and tables and a figure for notebook and report."""

from __future__ import annotations

from functools import cached_property, partial

import pandas as pd

from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.rates import best_rates, by_seed_and_rate, lost_at, rate_points
from advanced_optimizers.experiments.evidence.statistics import Interval, mean_interval
from advanced_optimizers.experiments.report.figures import notes, rate_plots
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy, StudyFigure
from advanced_optimizers.experiments.report.tables import evidence_tables, table_files, tables
from advanced_optimizers.experiments.studies.rate_sweep import RateSweep
from advanced_optimizers.experiments.studies.registry import CLAIMS

_NOTHING = "-"


class RateResults(RecordedStudy[RateSweep]):
    """The recorded runs of a sweep of the learning rate and what follows from them."""

    @cached_property
    def points(self) -> pd.DataFrame:
        """One row per run, see ``evidence.rates.rate_points``."""
        return rate_points(self.frame)

    @property
    def protocol(self) -> pd.DataFrame:
        """How long and on what the sweep trains, one row per task."""
        rates = self.study.rates
        return pd.DataFrame(
            {
                "Task": label(task.name),
                "Training images": f"{100 * task.data_fraction:.3g} %",
                "Epochs": task.epochs,
                "Batch size": task.batch_size,
                "Learning rates": f"{len(rates)}, from {rates[0]:g} to {rates[-1]:g}, constant",
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
            built[f"{name}-best"] = self._best_table()
        return built

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The sweep's figure by file name."""
        if self.points.empty:
            return {}
        study = self.study
        draw = partial(rate_plots.error_by_rate, labels=labels(), algorithms=study.algorithms, marked=study.marked)
        return {
            f"{study.name}-rates": StudyFigure(
                f"test error by learning rate ({len(self.frame)} runs)",
                partial(draw, self.points),
                tuple(self.frame["run_id"]),
                note=notes.error_by_rate(self.points),
            )
        }

    def _best_table(self) -> pd.DataFrame:
        """One row per task and algorithm: the best rate, the accuracy there, and what the marked rates lose."""
        cells = [
            (task.name, algorithm, accuracies)
            for task in self.study.tasks
            for algorithm in self.study.algorithms
            if not (accuracies := by_seed_and_rate(self.points, task.name, algorithm)).empty
        ]
        n = tables.common_count(len(accuracies) for _, _, accuracies in cells)
        table = pd.DataFrame(self._best_row(*cell) for cell in cells)
        own = [self._run_ids(task, algorithm) for task, algorithm, _ in cells]
        return table_files.noted(table_files.with_runs(table, own), tables.interval_note(n))

    def _run_ids(self, task: str, algorithm: str) -> list[str]:
        chosen = (self.points["task"] == task) & (self.points["algorithm"] == algorithm)
        return self.points.loc[chosen, "run_id"].tolist()

    def _best_row(self, task: str, algorithm: str, accuracies: pd.DataFrame) -> dict[str, object]:
        best = _interval(best_rates(accuracies))
        rate = float(accuracies.columns.to_numpy(dtype=float)[int(accuracies.mean().argmax())])
        reached = _interval(accuracies[rate].tolist())
        row: dict[str, object] = {
            "Task": label(task),
            "Algorithm": label(algorithm),
            "log10 of the best rate": best.plus_minus() if best else _NOTHING,
            "Best rate tried": f"{rate:g}",
            "Accuracy there (%)": reached.plus_minus(100.0) if reached else _NOTHING,
        }
        for marked in self.study.marked:
            known = len(accuracies) > 1 and marked in accuracies
            lost = _interval(lost_at(accuracies, marked)) if known else None
            row[f"Lost at {marked:g} (points)"] = lost.bracket(100.0, signed=True) if lost else _NOTHING
        return row


def _interval(values: list[float]) -> Interval | None:
    return mean_interval(values) if len(values) > 1 else None
