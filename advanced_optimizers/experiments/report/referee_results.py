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
from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.metrics import ordered
from advanced_optimizers.experiments.report import referee_figures as figures
from advanced_optimizers.experiments.report.families import Families
from advanced_optimizers.experiments.report.measured import OneRun
from advanced_optimizers.experiments.report.recorded import StudyFigure
from advanced_optimizers.experiments.report.referee_tables import (
    accuracy_row,
    robustness_row,
    settings_of,
    tunability_row,
    verdict_row,
)
from advanced_optimizers.experiments.report.table_files import noted
from advanced_optimizers.experiments.report.tuning_tables import Tuning
from advanced_optimizers.experiments.report.variant_results import VariantResults
from advanced_optimizers.experiments.studies.referee import Referee
from advanced_optimizers.experiments.studies.study import MissingRunsError
from advanced_optimizers.experiments.studies.task import Task


class RefereeResults(VariantResults[Referee]):
    """The recorded runs of a comparison against anchors, and its verdicts."""

    @cached_property
    def complete(self) -> list[tuple[str, str]]:
        """The pairs of task and algorithm of which every run is recorded, families one after the other."""
        first = self.study.comparison(self.study.tunings[0])
        order = list(dict.fromkeys(ordered(self.study.algorithms, labels())))
        return [
            (task.name, name)
            for task in self.study.tasks
            for name in self.families.arranged(order)
            if name in first.algorithms_on(task) and self._is_complete(task, name)
        ]

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
    def waiting(self) -> str:
        """A sentence that names the algorithms that are left out; empty if there are none."""
        first = self.study.comparison(self.study.tunings[0])
        names = [
            label(name)
            for task in self.study.tasks
            for name in first.algorithms_on(task)
            if (task.name, name) not in self.complete
        ]
        return f"Left out, since runs are missing: {', '.join(dict.fromkeys(names))}." if names else ""

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
        tuned = [found for pair in self.complete if (found := self.tunings_of(*pair))]
        built = {
            "verdicts": [verdict_row(ruling) for ruling in self.rulings],
            "accuracy": [accuracy_row(frame, study, *pair) for pair in self.complete],
            "tunability": [tunability_row(found, study) for found in tuned],
            "robustness": [robustness_row(frame, study, *pair) for pair in self.complete if settings_of(study)],
        }
        return {name: noted(pd.DataFrame(rows), self._note(name)) for name, rows in built.items()}

    def _note(self, table: str) -> str:
        notes = {
            "verdicts": "In brackets after p: the size of the family. P(better): the probability that a run is better "
            "than one of the anchor.",
            "accuracy": "Mean over the tunings ± half-width of its 95 % interval; with one tuning, over its seeds. The "
            "binomial error says what another test set of this size would change.",
            "tunability": "Expected best validation accuracy after so many trials. Trials needed: until it is within "
            "the margin of that of all. Good rates: those around the best one that lose at most a point. A blind rate "
            "costs: the mean of best - score over the range of rates, with its 95 % interval over the tunings.",
            "robustness": "The change of test accuracy from the tuned setting, with the same hyperparameters and seed: "
            "mean over the tunings with its 95 % interval.",
        }
        return f"{notes[table]} {self.waiting}".rstrip()

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The study's figures by file name, of what is complete, in the order in which a reader asks."""
        if not self.complete:
            return {}
        study, frame, curves, families = self.study, self.judged, self.curves, self.families
        tunings = {name: found for task, name in self.complete if (found := self.tunings_of(task, name))}
        seconds = OneRun(self.root).seconds(study.tasks[0].name)
        built = {
            "forest": figures.forest_figure(study, self.rulings, families, frame) if self.rulings else None,
            "trials": None if study.rungs else figures.trials_figure(tunings, families),
            "rates": None if study.rungs else figures.rates_figure(tunings, families),
            "learning-curves": figures.epochs_figure(study, frame, curves, families),
            "accuracy-over-time": figures.seconds_figure(study, frame, curves, families, seconds),
            "targets": figures.targets_figure(study, frame, curves, families),
            "robustness": figures.robustness_figure(study, frame, tunings, families),
        }
        return {
            f"{study.name}-{name}": replace(figure, note=f"{figure.note} {self.waiting}".rstrip())
            for name, figure in built.items()
            if figure is not None
        }
