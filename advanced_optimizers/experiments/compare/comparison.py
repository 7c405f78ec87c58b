"""A finished comparison: its verdicts, its table, what may be wrong with it, and its files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advanced_optimizers.experiments.compare.preflight import Preflight
from advanced_optimizers.experiments.compare.protocol import Plan, names, task_words
from advanced_optimizers.experiments.evidence.contests import Ruling, accuracies
from advanced_optimizers.experiments.evidence.statistics import Interval, compare_unpaired, mean_interval
from advanced_optimizers.experiments.evidence.tunability import expected_best_of_tunings, good_range
from advanced_optimizers.experiments.evidence.tunings import score
from advanced_optimizers.experiments.records.config import BaseConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.records.writing import write_if_changed
from advanced_optimizers.experiments.report.results.referee_results import RefereeResults
from advanced_optimizers.experiments.report.tables.tuning_tables import Tuning
from advanced_optimizers.experiments.studies.referee import DEFAULTS
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

NONE = "-"


class RecordsInMemory(RunStore):
    """Records that were read already, by the ids of their runs."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        super().__init__(Path("memory"))
        self.by_id = {record.run_id: record for record in records}

    def has(self, config: BaseConfig) -> bool:
        """Whether there is one."""
        return config.run_id in self.by_id

    def load(self, config: BaseConfig) -> RunRecord | None:
        """The record of a configuration."""
        return self.by_id.get(config.run_id)


class _Results(RefereeResults):
    """The results of a comparison whose records are in memory."""

    def __init__(self, plan: Plan, records: RunStore) -> None:
        super().__init__(plan.study, Path())
        self.store = records


@dataclass(frozen=True)
class Facts:
    """What is known about a comparison besides its runs.

    Attributes:
        command: What repeats it.
        preflights: By algorithm, what was found before training.
        sources: The source text of a user's code, by file.
        said: What was assumed or converted, in sentences.
    """

    command: str = ""
    preflights: Mapping[str, Preflight] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()


class Comparison:
    """The outcome of a comparison under the project's protocol.

    Args:
        plan: Who was compared with whom, and how.
        store: Where the records of its runs are.
        facts: What else is known about it.

    Raises:
        MissingRunsError: A run has no record, or an algorithm has no trial that can be chosen.
    """

    def __init__(self, plan: Plan, store: RunStore, facts: Facts | None = None) -> None:
        configs = plan.study.configs(store)
        found = [record for config in configs if (record := store.load(config)) is not None]
        self.plan = plan
        self.facts = facts or Facts()
        self.records = RecordsInMemory(found)
        self.results = _Results(plan, self.records)
        self.names = names(plan.algorithms)
        self.rulings: list[Ruling] = self.results.rulings
        self.tunings: dict[str, list[Tuning]] = {
            name: [t for of in self.results.tunings.values() for t in of if t.algorithm == name]
            for name in plan.algorithms
        }
        self.rows = {name: ALGORITHMS[name] for name in plan.algorithms}  # as they are now

    @property
    def task(self) -> str:
        """The task's name."""
        return self.plan.protocol.task.name

    @property
    def shown_task(self) -> str:
        """The task's name in text."""
        return task_words(self.task)

    @property
    def judged(self) -> list[Ruling]:
        """The rulings on the contenders; the others are on anchors."""
        return [ruling for ruling in self.rulings if ruling.comparison.algorithm in self.plan.contenders]

    @property
    def verdicts(self) -> dict[tuple[str, str], str]:
        """The verdict in words on each contender against each anchor, by their short names."""
        pairs = ((ruling.comparison, ruling.words) for ruling in self.judged)
        return {(self.names[c.algorithm], self.names[c.baseline]): words for c, words in pairs}

    def values(self, algorithm: str) -> list[list[float]]:
        """The test accuracies of an algorithm's runs, by tuning."""
        return list(accuracies(self.results.frame, self.task, algorithm, self.plan.study.tunings).values())

    def units(self, algorithm: str) -> list[float]:
        """What is compared: the mean of each tuning's runs; with one tuning, its runs."""
        values = self.values(algorithm)
        return [float(np.mean(own)) for own in values] if len(values) > 1 else values[0]

    def untuned(self, algorithm: str) -> list[float]:
        """The test accuracies with the values of the constructor, one for each tuning; empty if these are not known."""
        return accuracies(self.results.frame, self.task, algorithm, [DEFAULTS]).get(DEFAULTS, [])

    def difference(self, algorithm: str, anchor: str) -> Interval | None:
        """The difference of two algorithms' means; None if there are too few values for an interval."""
        own, base = self.units(algorithm), self.units(anchor)
        return compare_unpaired(own, base).difference if min(len(own), len(base)) > 1 else None

    def expected(self, algorithm: str) -> list[Interval]:
        """The expected best validation accuracy after each number of trials; empty with halving."""
        if self.plan.protocol.rungs:
            return []
        return expected_best_of_tunings([[score(t) for t in tuning.trials] for tuning in self.tunings[algorithm]])

    def trials(self, algorithm: str) -> list[RunRecord]:
        """All tuning trials of an algorithm."""
        return [trial for tuning in self.tunings[algorithm] for trial in tuning.trials]

    def good_rates(self, algorithm: str) -> str:
        """Over how many octaves of the rate it is within a point of its best."""
        rate, trials = self.rows[algorithm].rate, self.trials(algorithm)
        rates = [float(trial.config.hyperparameters[rate]) for trial in trials]
        return str(good_range(rates, [score(t) for t in trials])) if len(set(rates)) >= 3 else NONE

    def table(self) -> pd.DataFrame:
        """One row per algorithm, from the highest accuracy to the lowest, with its interval; see the verdicts."""
        order = sorted(self.plan.algorithms, key=lambda name: -float(np.mean(self.units(name))))
        return pd.DataFrame([self._row(name) for name in order]).set_index("algorithm")

    def _row(self, name: str) -> dict[str, str]:
        units, expected, untuned = self.units(name), self.expected(name), self.untuned(name)
        shown = sorted({1, (len(expected) + 1) // 2, len(expected)}) if expected else []
        cost = self.facts.preflights.get(name)
        accuracy = mean_interval(units).plus_minus(100) if len(units) > 1 else f"{100 * units[0]:.2f}"
        return {
            "algorithm": self.names[name],
            "accuracy (%)": accuracy,
            "untuned (%)": f"{100 * float(np.mean(untuned)):.2f}" if untuned else NONE,
            **{key: value for anchor in self.plan.anchors for key, value in self._against(name, anchor).items()},
            f"after {' / '.join(map(str, shown))} trials (%)" if shown else "after k trials (%)": " / ".join(
                f"{100 * expected[k - 1].estimate:.1f}" for k in shown
            )
            or NONE,
            "good rates (octaves)": self.good_rates(name),
            "step": NONE if cost is None else f"{cost.cost:.1f}x",
        }

    def _against(self, name: str, anchor: str) -> dict[str, str]:
        shown = self.names[anchor]
        ruling = next(
            (r for r in self.rulings if (r.comparison.algorithm, r.comparison.baseline) == (name, anchor)), None
        )
        found = None if name == anchor else self.difference(name, anchor)
        return {
            f"vs {shown}": NONE if found is None else found.bracket(100, signed=True),
            f"verdict vs {shown}": ruling.words if ruling else "(anchor)" if name in self.plan.anchors else NONE,
            f"P(> {shown})": f"{ruling.superiority.estimate:.2f}" if ruling else NONE,
        }

    # ---- files ------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The comparison as JSON, without times: the same bytes whenever the same runs are compared."""
        content = {
            "format": 1,
            "protocol": self.plan.protocol.as_json(),
            "anchors": list(self.plan.anchors),
            "contenders": list(self.plan.contenders),
            "algorithms": {name: self._content(name) for name in self.plan.algorithms},
            "rulings": [_ruling(ruling) for ruling in self.rulings],
        }
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=True) + "\n"

    def _content(self, name: str) -> dict[str, Any]:
        row = self.rows[name]
        space = {**row.search_space, **self.plan.ranges.get(name, {})}
        return {
            "label": row.label,
            "space": {key: asdict(own) for key, own in space.items()},
            "fixed": dict(row.fixed),
            "rate": row.rate,
            "schedule": row.schedule,
            "passes": row.passes,
            "tunings": [
                {
                    "chosen": tuning.chosen,
                    "trials": [{"run": t.run_id, "status": t.status, "score": score(t)} for t in tuning.trials],
                    "accuracies": accuracy,
                }
                for tuning, accuracy in zip(self.tunings[name], self.values(name), strict=True)
            ],
            "defaults": {**self.plan.untuned.get(name, {}), "accuracies": self.untuned(name)},
            "runs": {c.run_id: self.records.by_id[c.run_id].outcome()["status"] for c in self._runs(name)},
        }

    def _runs(self, name: str) -> Sequence[BaseConfig]:
        return [record.config for record in self.records.by_id.values() if record.config.algorithm == name]

    def save_html(self, path: str | Path) -> Path:
        """Writes the page, one file with everything in it; returns its path."""
        from advanced_optimizers.experiments.compare.page import render

        write_if_changed(Path(path), render(self))
        return Path(path)

    def _repr_html_(self) -> str:
        from advanced_optimizers.experiments.compare.words import sentences

        lines = "".join(f"<p>{line}</p>" for line in sentences(self))
        return f"{lines}{self.table().to_html()}"

    @cached_property
    def summary(self) -> str:
        """What the command prints at the end."""
        from advanced_optimizers.experiments.compare.words import summary

        return summary(self)

    def __str__(self) -> str:
        return self.summary


def _ruling(ruling: Ruling) -> dict[str, Any]:
    return {
        "algorithm": ruling.comparison.algorithm,
        "anchor": ruling.comparison.baseline,
        "verdict": ruling.verdict,
        "words": ruling.words,
        "difference": asdict(ruling.result.difference),
        "p": ruling.result.p,
        "p_holm": ruling.p_holm,
        "family": ruling.family,
        "superiority": asdict(ruling.superiority),
        "unit": ruling.unit,
    }
