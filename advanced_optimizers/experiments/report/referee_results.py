"""The results of a comparison under the protocol of several tunings: verdicts, and how each algorithm was tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from advanced_optimizers.experiments.evidence.contests import Ruling, accuracies, binomial_error, rule_family
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.metrics import METRICS, p_words
from advanced_optimizers.experiments.evidence.tunability import expected_best_of_tunings, good_range, trials_needed
from advanced_optimizers.experiments.evidence.tunings import scatter, score
from advanced_optimizers.experiments.report.tuning_tables import Tuning
from advanced_optimizers.experiments.report.variant_results import VariantResults
from advanced_optimizers.experiments.studies.referee import DEFAULTS, Referee
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

_ACCURACY = METRICS["test_accuracy"]
_NONE = "-"


class RefereeResults(VariantResults[Referee]):
    """The recorded runs of a comparison against anchors, and its verdicts."""

    def rulings(self) -> list[Ruling]:
        """The ruling on each algorithm against each anchor, as far as the runs of all tunings are recorded."""
        return [
            ruling for family in self.study.families() for ruling in rule_family(self.frame, family, self.study.tunings)
        ]

    def _own_tables(self) -> Mapping[str, pd.DataFrame]:
        return {"verdicts": pd.DataFrame(map(_verdict_row, self.rulings())), "tuning": self._tuning_table()}

    def _tuning_table(self) -> pd.DataFrame:
        """One row per algorithm and task: its accuracy, and how it came to its hyperparameters."""
        first = self.study.comparison(self.study.tunings[0])
        rows = [self._row(task.name, name) for task in self.study.tasks for name in first.algorithms_on(task)]
        return pd.DataFrame([row for row in rows if row])

    def _row(self, task: str, algorithm: str) -> dict[str, str]:
        values = accuracies(self.frame, task, algorithm, self.study.tunings)
        if not values:
            return {}
        means = [float(np.mean(own)) for own in values.values()]
        found = [tuning for name in self.study.tunings for tuning in self.tunings[name]]
        tuned = [tuning for tuning in found if (tuning.task, tuning.algorithm) == (task, algorithm)]
        return {
            "Task": label(task),
            "Algorithm": label(algorithm),
            "Test accuracy (%)": f"{100 * np.mean(means):.2f}",
            **_scatter_cells(list(values.values())),
            "At defaults (%)": self._mean(task, algorithm, DEFAULTS),
            **self._noise_cells(task, algorithm),
            **(_trial_cells(tuned, ALGORITHMS[algorithm].rate, self.study) if tuned else {}),
            "Another test set (points)": f"{100 * binomial_error(float(np.mean(means)), self.study.test_images):.2f}",
        }

    def _mean(self, task: str, algorithm: str, variant: str) -> str:
        values = accuracies(self.frame, task, algorithm, [variant]).get(variant)
        return f"{100 * np.mean(values):.2f}" if values else _NONE

    def _noise_cells(self, task: str, algorithm: str) -> dict[str, str]:
        """What noisy labels cost, in points: the mean over tunings, each against its own run on clean labels."""
        own = self.frame[(self.frame["task"] == task) & (self.frame["algorithm"] == algorithm)]
        cells = {}
        for noise in sorted({n for variant in self.study.variants.values() for n in variant.label_noises} - {0.0}):
            noisy = own[own["label_noise"] == noise].set_index("seed")[_ACCURACY.column]
            clean = own[(own["label_noise"] == 0.0) & own["variant"].isin(self.study.tunings)]
            lost = (noisy - clean.set_index("seed")[_ACCURACY.column]).dropna()
            cells[f"{100 * noise:g} % wrong labels (points)"] = f"{100 * lost.mean():+.2f}" if len(lost) else _NONE
        return cells


def _verdict_row(ruling: Ruling) -> dict[str, str]:
    c, likely = ruling.comparison, ruling.superiority
    return {
        "Task": label(c.task),
        "Algorithm": label(c.algorithm),
        "Anchor": label(c.baseline),
        "Verdict": ruling.words,
        "Difference": _ACCURACY.difference(ruling.result.difference),
        "n": f"{ruling.result.difference.n} {ruling.unit}",
        "p after Holm": f"{p_words(ruling.p_holm)} ({ruling.family})",
        "P(better)": likely.bracket(),
    }


def _scatter_cells(values: Sequence[Sequence[float]]) -> dict[str, str]:
    if len(values) < 2 or len({len(own) for own in values}) != 1 or len(values[0]) < 2:
        return {"sd of tuning (points)": _NONE, "sd of seeds (points)": _NONE}
    found = scatter([values])
    return {
        "sd of tuning (points)": f"{100 * found.tuning:.2f}",
        "sd of seeds (points)": f"{100 * found.seeds:.2f}",
    }


def _trial_cells(tunings: Sequence[Tuning], rate: str, study: Referee) -> dict[str, str]:
    """What the trials say. With halving, only the last rung is of full length, so nothing is said of fewer trials."""
    flags = [
        f"{number}: {name}"
        for number, tuning in enumerate(tunings, start=1)
        for name in tuning.ranges
        if tuning.at_the_edge(name)
    ]
    cells = {"At the edge (tuning: hyperparameter)": ", ".join(flags) or _NONE}
    if study.rungs:
        return cells
    expected = expected_best_of_tunings([[score(trial) for trial in tuning.trials] for tuning in tunings])
    shown = sorted({1, (len(expected) + 1) // 2, len(expected)})
    margin = study.margins.get(tunings[0].task, 0.0)
    rates = [value for tuning in tunings for value in tuning.values(rate)]
    scores = [score(trial) for tuning in tunings for trial in tuning.trials]
    return {
        f"After {' / '.join(map(str, shown))} trials (%)": " / ".join(
            f"{100 * expected[k - 1].estimate:.2f}" for k in shown
        ),
        "Trials needed": str(trials_needed(expected, margin)),
        "Good rates (octaves)": str(good_range(rates, scores)),
        **cells,
    }
