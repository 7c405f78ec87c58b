"""The results of the studies of tuning itself: one class per kind of study."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import TypeVar

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Comparison, Evidence
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.tunings import compare_variants, evidence_by_seeds, evidence_by_tunings
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.report.figures import tuning_plots
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy, StudyFigure
from advanced_optimizers.experiments.report.results.tunings import finished_tunings
from advanced_optimizers.experiments.report.tables import evidence_tables, tables, tuning_tables
from advanced_optimizers.experiments.report.tables.tuning_tables import Tuning
from advanced_optimizers.experiments.studies.registry import CLAIMS
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.studies.variants import MovedRanges, Retuning, TrialLength, Untuned, VariantStudy

_AnyVariants = TypeVar("_AnyVariants", bound=VariantStudy)


class VariantResults(RecordedStudy[_AnyVariants]):
    """The recorded runs of a comparison in several variants, and its claims."""

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per variant and run of the comparison; a run that two variants share has a row in each."""
        frames = [self._frame_of(name, study) for name, study in self.study.comparisons().items()]
        known = [frame for frame in frames if not frame.empty]
        return pd.concat(known, ignore_index=True) if known else pd.DataFrame()

    def _frame_of(self, name: str, study: Study) -> pd.DataFrame:
        final = [config for config in study.known_configs(self.store) if config.split != "validation"]
        records = [record for config in final if (record := self.store.load(config)) is not None]
        return records_frame(records).assign(variant=name)

    @cached_property
    def tunings(self) -> dict[str, list[Tuning]]:
        """The finished tunings by variant."""
        return {name: finished_tunings(study, self.store) for name, study in self.study.comparisons().items()}

    @property
    def protocol(self) -> pd.DataFrame:
        """How long and on what each variant trains, and its tuning budget, one row per variant and task."""
        parts = {
            name: tables.protocol_table(study, labels=labels()) for name, study in self.study.comparisons().items()
        }
        return pd.concat([part.assign(Variant=name) for name, part in parts.items()], ignore_index=True)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The study's tables by file name; without runs, only the table of claims, if there are any."""
        name = self.study.name
        built = {f"{name}-claims": evidence_tables.claims_table(CLAIMS, self.verdicts)} if self.verdicts else {}
        if not self.frame.empty:
            built |= {f"{name}-{ending}": table for ending, table in self._own_tables().items() if not table.empty}
        return built

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The study's figures by file name; a kind of study without figures of its own has none."""
        return {}

    def _own_tables(self) -> Mapping[str, pd.DataFrame]:
        """The tables of this kind of study by the end of their file names."""
        raise NotImplementedError


class RetuningResults(VariantResults[Retuning]):
    """Several tunings of the same comparison."""

    @property
    def runs(self) -> int:
        """The number of runs per tuning that count where the tuning is the unit."""
        return min(len(variant.seeds) for variant in self.study.variants.values())

    def _own_tables(self) -> Mapping[str, pd.DataFrame]:
        variants = tuple(self.study.variants)
        by_task = {task.name: self.study.comparison(variants[0]).algorithms_on(task) for task in self.study.tasks}
        first, again = self._outcomes()
        return {
            "scatter": tuning_tables.scatter_table(self.frame, by_task, variants, self.runs, labels=labels()),
            "outcomes": tuning_tables.outcomes_table(first, again, labels=labels()),
            "choices": tuning_tables.choices_table(self.tunings, self.frame, labels=labels()),
        }

    def _outcomes(self) -> tuple[list[Evidence], dict[str, Evidence]]:
        """Every comparison of the study's claims by the seeds of the first tuning, and, by its words, by tunings."""
        first: list[Evidence] = []
        again: dict[str, Evidence] = {}
        for comparisons in self._families():
            first += evidence_by_seeds(self.frame, comparisons, next(iter(self.study.variants)))
            again |= {str(r.comparison): r for r in evidence_by_tunings(self.frame, comparisons, self.runs)}
        complete = len(self.study.variants)
        return first, {words: row for words, row in again.items() if row.interval.n == complete}

    def _families(self) -> list[tuple[Comparison, ...]]:
        """The comparisons of each claim that has any."""
        decide = [claim.decide for claim in CLAIMS.values() if claim.study == self.study.name]
        return [d.keywords["comparisons"] for d in decide if isinstance(d, partial) and "comparisons" in d.keywords]

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The results of every tuning, as far as something was tuned again."""
        found = tuning_plots.tuned_again(self.frame, self.runs)
        if not found:
            return {}
        pairs = zip(self.frame["task"], self.frame["algorithm"], self.frame["run_id"], strict=True)
        shown = tuple(dict.fromkeys(run_id for task, name, run_id in pairs if (task, name) in found))
        draw = partial(tuning_plots.accuracy_by_tuning, self.frame, tuple(self.study.variants), self.runs)
        return {
            f"{self.study.name}-tunings": StudyFigure(
                f"test accuracy of the last epoch by tuning ({len(found)} algorithms and tasks)",
                partial(draw, labels=labels(), algorithms=self.study.algorithms),
                shown,
                note=f"One line per tuning, the first on top: its first {self.runs} runs as light dots, their mean as "
                "a mark. What scatters within a line is due to seeds, what scatters between lines to tuning as well.",
            )
        }


class TrialLengthResults(VariantResults[TrialLength]):
    """Short trials and trials of full length."""

    @property
    def _pairs(self) -> list[tuple[Tuning, Tuning]]:
        short, full = self.tunings.values()
        other = {(t.task, t.algorithm): t for t in full}
        return [(t, other[t.task, t.algorithm]) for t in short if (t.task, t.algorithm) in other]

    def _own_tables(self) -> Mapping[str, pd.DataFrame]:
        margins = {
            d.keywords["task"]: d.keywords["margin"]
            for claim in CLAIMS.values()
            if claim.study == self.study.name and isinstance(d := claim.decide, partial)
        }
        short, full = self.study.variants
        differences = {
            (task, name): row
            for task, margin in margins.items()
            for name, row in compare_variants(self.frame, task, self.study.algorithms, (short, full), margin).items()
        }
        return {"choices": tuning_tables.lengths_table(self._pairs, differences, labels=labels())}

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The scores of short trials against those of full length."""
        pairs = self._pairs
        if not pairs:
            return {}
        trials = [t.run_id for pair in pairs for tuning in pair for t in tuning.trials]
        return {
            f"{self.study.name}-scores": StudyFigure(
                f"validation error of full-length trials against that of short ones ({len(trials)} trials)",
                partial(tuning_plots.short_against_full, pairs, labels=labels()),
                tuple(trials),
                note="Each mark is one point of the search space, trained twice; both scales are logarithmic. The "
                "choice of the short trials is the leftmost mark, that of the full-length trials the lowest.",
            )
        }


class UntunedResults(VariantResults[Untuned]):
    """The values that the sources state, untuned."""

    def _own_tables(self) -> Mapping[str, pd.DataFrame]:
        tuned, untuned = self.study.variants
        study = self.study.comparison(untuned)
        pairs = [(task.name, name) for task in study.tasks for name in study.algorithms_on(task)]
        return {
            "accuracy": tuning_tables.untuned_table(self.frame, study.untuned, (tuned, untuned), pairs, labels=labels())
        }


class MovedRangesResults(VariantResults[MovedRanges]):
    """Ranges that were moved past an edge."""

    def _own_tables(self) -> Mapping[str, pd.DataFrame]:
        stated, moved = self.study.variants
        changed = self.study.comparison(moved).ranges
        return {
            "accuracy": tuning_tables.moved_table(
                {v: [t for t in own if (t.task, t.algorithm) in changed] for v, own in self.tunings.items()},
                changed,
                self.frame,
                (stated, moved),
                labels=labels(),
            )
        }
