"""The results of a comparison under the protocol of several tunings: verdicts, and how each algorithm was tuned.

Records of such a study accumulate. An algorithm of which a run is missing is left out of tables and figures, which name
it, so that nothing shown changes its meaning later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import pandas as pd

from advanced_optimizers.experiments.evidence.contests import Ruling, rule_family
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.metrics import first_few
from advanced_optimizers.experiments.evidence.tunability import trials_needed
from advanced_optimizers.experiments.report.figures.families import Families
from advanced_optimizers.experiments.report.results import referee_figures as figures
from advanced_optimizers.experiments.report.results.measured import OneRun
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.report.results.variant_results import VariantResults
from advanced_optimizers.experiments.report.tables.choices import Facts, choices_table
from advanced_optimizers.experiments.report.tables.referee_tables import (
    accuracy_row,
    changes_by_setting,
    expected,
    rate_sensitivities,
    robustness_row,
    settings_of,
    tunability_row,
    verdict_row,
)
from advanced_optimizers.experiments.report.tables.table_files import noted
from advanced_optimizers.experiments.report.tables.tuning_tables import Tuning
from advanced_optimizers.experiments.studies.referee import Referee
from advanced_optimizers.experiments.studies.study import MissingRunsError
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS


class RefereeResults(VariantResults[Referee]):
    """The recorded runs of a comparison against anchors, and its verdicts."""

    @cached_property
    def complete(self) -> list[tuple[str, str]]:
        """The pairs of task and algorithm of which every run is recorded, families one after the other."""
        return [
            (task.name, name)
            for task in self.study.tasks
            for name in self.algorithms_on(task.name)
            if self._is_complete(task, name)
        ]

    def algorithms_on(self, task: str) -> list[str]:
        """The algorithms that are run on a task, families one after the other."""
        first = self.study.comparison(self.study.tunings[0])
        (own,) = (known for known in first.tasks if known.name == task)
        return self.families.arranged(first.algorithms_on(own))

    def _is_complete(self, task: Task, algorithm: str) -> bool:
        for study in self.study.comparisons().values():
            own = tuple(t for t in study.tasks if t.name == task.name and algorithm in study.algorithms_on(t))
            try:
                configs = replace(study, tasks=own, algorithms=(algorithm,)).configs(self.store) if own else []
            except MissingRunsError:
                return False
            if not all(self.store.has(config) for config in configs):
                return False
        return True

    @property
    def waiting(self) -> list[str]:
        """The names of the algorithms that are left out."""
        pairs = [(task.name, name) for task in self.study.tasks for name in self.algorithms_on(task.name)]
        return list(dict.fromkeys(label(name) for task, name in pairs if (task, name) not in self.complete))

    def absence(self, limit: int = 3) -> str:
        """A sentence that names what is left out, and from a number on only counts it; empty if nothing is."""
        return f"Left out, since runs are missing: {first_few(self.waiting, limit)}." if self.waiting else ""

    @property
    def families(self) -> Families:
        """The families of the study's algorithms."""
        return Families(self.study.groups, self.study.anchors)

    @cached_property
    def judged(self) -> pd.DataFrame:
        """The rows of the frame of what is complete."""
        if self.frame.empty:
            return self.frame
        pairs = zip(self.frame["task"], self.frame["algorithm"], strict=True)
        kept = [pair in self.complete for pair in pairs]
        return self.frame[kept].reset_index(drop=True)

    def tunings_of(self, task: str, algorithm: str) -> list[Tuning]:
        """The tunings of an algorithm on a task, in their order."""
        found = [tuning for name in self.study.tunings for tuning in self.tunings[name]]
        return [tuning for tuning in found if (tuning.task, tuning.algorithm) == (task, algorithm)]

    @cached_property
    def rulings(self) -> list[Ruling]:
        """The ruling on each algorithm against each anchor, of what is complete.

        Comparisons that are not complete count in Holm's corrections as ones that found nothing.
        """
        if not self.complete:
            return []
        return [
            ruling
            for family in self.study.families()
            for ruling in rule_family(self.judged, family, self.study.tunings)
        ]

    def _own_tables(self) -> Mapping[str, pd.DataFrame]:
        frame, study = self.judged, self.study
        built = {
            "verdicts": [verdict_row(ruling) for ruling in self.rulings],
            "accuracy": [accuracy_row(frame, study, *pair) for pair in self.complete],
            "tunability": [tunability_row(self.tunings_of(*pair), study) for pair in self.complete],
            "robustness": [robustness_row(frame, study, *pair) for pair in self.complete if settings_of(study)],
        }
        tables = {name: pd.DataFrame(rows) for name, rows in built.items()} | {"choices": choices_table(self.facts)}
        return {name: noted(table, self._note(name)) for name, table in tables.items()}

    @property
    def facts(self) -> Facts:
        """What was found on the task of the study, for the choice of an algorithm."""
        (task,) = self.study.tasks
        names = [name for _, name in self.complete]
        tuned = {} if self.study.rungs else {name: self.tunings_of(task.name, name) for name in names}
        margin = self.study.margins.get(task.name, 0.0)
        return Facts(
            algorithms=names,
            anchors=[name for name in self.study.anchors if name in names],
            rulings=self.rulings,
            blind={name: rate_sensitivities(own, ALGORITHMS[name].rate) for name, own in tuned.items()},
            trials={name: trials_needed(expected(own), margin) for name, own in tuned.items()},
            changes=changes_by_setting(self.judged, self.study, names),
            times=OneRun(self.root).ratios(task.name),
        )

    def _note(self, table: str) -> str:
        notes = {
            "verdicts": "In brackets after p: the size of the family. P(better): the probability that a run is better "
            "than one of the anchor.",
            "accuracy": "Mean over the tunings ± half-width of its 95 % interval; with one tuning, over its seeds. The "
            "binomial error says what another test set of this size would change.",
            "tunability": "Expected best validation accuracy after so many trials. Trials needed: until it is within "
            "the margin of that of all. Good rates: those around the best one that lose at most a point. A blind rate "
            "costs: the mean of best - score over the range of rates, with its 95 % interval over the tunings.",
            "choices": "Algorithms are in the order of their families. Who is not named does not meet the rule, or is "
            "undecided.",
            "robustness": "The change of test accuracy from the tuned setting, with the same hyperparameters and seed: "
            "mean over the tunings with its 95 % interval.",
        }
        limit = len(self.study.algorithms) if table == "verdicts" else 3
        return f"{notes[table]} {self.absence(limit)}".rstrip()

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The study's figures by file name, of what is complete, in the order in which a reader asks."""
        if not self.complete:
            return {}
        study, frame, curves, families = self.study, self.judged, self.curves, self.families
        tunings = {name: self.tunings_of(task, name) for task, name in self.complete}
        times = OneRun(self.root).times(study.tasks[0].name)
        built = {
            "forest": figures.forest_figure(study, self.rulings, families, frame) if self.rulings else None,
            "trials": None if study.rungs else figures.trials_figure(tunings, families),
            "rates": None if study.rungs else figures.rates_figure(tunings, families),
            "learning-curves": figures.epochs_figure(study, frame, curves, families),
            "accuracy-over-time": figures.times_figure(study, frame, curves, families, times),
            "targets": figures.targets_figure(study, frame, curves, families),
            "robustness": figures.robustness_figure(study, frame, tunings, families),
        }
        return {
            f"{study.name}-{name}": replace(figure, note=f"{figure.note} {self.absence()}".rstrip())
            for name, figure in built.items()
            if figure is not None
        }
