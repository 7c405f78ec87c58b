"""The results of a width sweep: its optima, and tables and figures for the notebook and the report."""

from __future__ import annotations

from functools import cached_property, partial

import pandas as pd

from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.optima import (
    Bounds,
    find_optima,
    judge_start,
    optimum_bounds,
    select_optima,
    shift_bounds,
    sweep_points,
    widths,
)
from advanced_optimizers.experiments.evidence.transfers import Transfer, find_transfer, geometric_mean, judge_ratio
from advanced_optimizers.experiments.report.figures import notes, sweep_plots
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy, StudyFigure
from advanced_optimizers.experiments.report.tables import evidence_tables, table_files, tables
from advanced_optimizers.experiments.studies.registry import CLAIMS
from advanced_optimizers.experiments.studies.sweep import SweepTask, WidthSweep

_NOTHING = "-"
_COST_COLUMNS = (
    "Narrow, and wide once (CPU s)",
    "Wide (CPU s)",
    "Time ratio",
    "Loss at the transferred rate",
    "Lowest loss",
    "Loss ratio",
    "Verdict",
    "n",
)
_COST_WORDS = {"within": "as good", "beyond": "worse", "unclear": "unclear"}


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
                "Seeds": self._seeds_words(task),
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
            built[f"{name}-starts"] = self._starts_table()
            built[f"{name}-shifts"] = self._shifts_table()
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
        table_files.with_runs(table, [self._run_ids(*cell) for cell in cells])
        return table_files.noted(table, tables.interval_note(n))

    def _run_ids(self, task: str, algorithm: str, units: int) -> list[str]:
        """The runs at one width, with every learning rate and seed."""
        runs = self.frame[(self.frame["task"] == task) & (self.frame["algorithm"] == algorithm)]
        return runs.loc[runs["width"] * self.study.base_units == units, "run_id"].tolist()

    def _optimum_row(self, task: str, algorithm: str, units: int, n: int) -> dict[str, object]:
        chosen = select_optima(self.optima, task, algorithm, units)
        bounds = optimum_bounds(self.optima, task, algorithm, units)
        count = f" (n = {len(chosen)})" if len(chosen) != n else ""
        place = f"{bounds.place()}{count}" if bounds else _NOTHING
        edge = "" if chosen["resolved"].all() else ", at the end of the sweep"
        censored = int((chosen["ceiling"] > chosen["exponent"]).sum())
        return {
            "Task": label(task),
            "Algorithm": label(algorithm),
            "Units": units,
            "log2 of the best rate": f"{place}{edge}",
            "At the largest rate that trains": f"{censored} of {len(chosen)} seeds" if censored else "no",
            "Lowest loss (mean)": f"{chosen['loss'].mean():.4f}",
        }

    def _shifts(self, task: str, algorithm: str, start: int) -> dict[int, Bounds]:
        """How far the optimum moves from a width to each greater one."""
        wider = [units for units in widths(self.optima, task, algorithm) if units > start]
        found = {units: shift_bounds(self.optima, task, algorithm, units, start) for units in wider}
        return {units: bounds for units, bounds in found.items() if bounds is not None}

    def _starts(self) -> list[tuple[str, int]]:
        """Every task with every width but the greatest."""
        return [(task.name, units) for task in self.study.tasks for units in task.units[:-1]]

    def _starts_table(self) -> pd.DataFrame:
        """The verdict on the best learning rate from every width on, one row per task and width."""
        own = self.study.transferring
        (other,) = (name for name in self.study.algorithms if name != own)
        rows = []
        for task, start in self._starts():
            shifts, others = self._shifts(task, own, start), self._shifts(task, other, start)
            if not shifts or not others:
                continue
            units, widest = max(shifts, key=lambda n: shifts[n].size), max(others)
            rows.append(
                {
                    "Task": label(task),
                    "From (units)": start,
                    f"{label(own)}: largest move (octaves)": f"{shifts[units].move()} at {units}",
                    f"{label(other)}: move to {widest} (octaves)": others[widest].move(),
                    "Verdict from here on": judge_start(shifts, others[widest], self.study.octaves),
                    "n": min(bounds.n for bounds in [*shifts.values(), *others.values()]),
                }
            )
        return pd.DataFrame(rows)

    def _shifts_table(self) -> pd.DataFrame:
        """The move of the optimum from every width to every greater one, one row per pair."""
        rows = []
        for task, start in self._starts():
            by_algorithm = {name: self._shifts(task, name, start) for name in self.study.algorithms}
            for units in sorted(set.intersection(*map(set, by_algorithm.values()))):
                row: dict[str, object] = {"Task": label(task), "From (units)": start, "To (units)": units}
                for name, shifts in by_algorithm.items():
                    row[f"{label(name)} (octaves)"] = shifts[units].move()
                    row[f"{label(name)}: verdict"] = shifts[units].judge(self.study.octaves)
                rows.append({**row, "n": by_algorithm[self.study.transferring][units].n})
        return pd.DataFrame(rows)

    def _cost_table(self) -> pd.DataFrame:
        """The CPU time of tuning narrow and training wide once and the loss it gives, beside those of tuning wide."""
        cells = [(task, name, start) for name in self.study.algorithms for task, start in self._starts()]
        transfers = [find_transfer(self.points, *cell) for cell in cells]
        table = pd.DataFrame(self._cost_row(*cell, transfer) for cell, transfer in zip(cells, transfers, strict=True))
        rates = sorted({transfer.rates for transfer in transfers if transfer is not None})
        tried = f"{rates[0]} learning rates" if len(rates) == 1 else "as many learning rates"
        return table_files.noted(table, f"Geometric means over the seeds, with 95 % intervals; {tried} on both sides.")

    def _cost_row(self, task: str, algorithm: str, start: int, transfer: Transfer | None) -> dict[str, object]:
        row: dict[str, object] = {"Task": label(task), "Algorithm": label(algorithm), "Tuned at (units)": start}
        cells = dict.fromkeys(_COST_COLUMNS, _NOTHING)
        if transfer is None:
            return {**row, **cells, "Verdict": "rate not tried at the widest"}
        once, direct = (geometric_mean(column) for column in zip(*transfer.seconds, strict=True))
        loss, lowest = (geometric_mean(column) for column in zip(*transfer.losses, strict=True))
        cheaper = judge_ratio(transfer.time_ratio, 1.0) == "within"
        words = [
            f"{once:.0f}",
            f"{direct:.0f}",
            transfer.time_ratio.bracket(digits=3),
            f"{loss:.4f}",
            f"{lowest:.4f}",
            transfer.loss_words,
            _COST_WORDS[transfer.judge_loss(self.study.loss_factor)] if cheaper else "not cheaper",
            str(len(transfer.losses)),
        ]
        return {**row, **dict(zip(_COST_COLUMNS, words, strict=True))}

    def _seeds_words(self, task: SweepTask) -> str:
        counts = {units: len(self.study.seeds_at(task, units)) for units in task.units}
        least, most = min(counts.values()), max(counts.values())
        if least == most:
            return str(most)
        up_to = max(units for units, count in counts.items() if count == most)
        return f"{most} up to {up_to} units, {least} above"
