"""The tables of a comparison against anchors: verdicts, accuracy, how each algorithm was tuned, and robustness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from advanced_optimizers.experiments.evidence.contests import Ruling, accuracies, binomial_error, unit_means
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.metrics import METRICS, noise_words, p_words
from advanced_optimizers.experiments.evidence.robustness import changes
from advanced_optimizers.experiments.evidence.statistics import Interval, mean, mean_interval
from advanced_optimizers.experiments.evidence.tunability import (
    expected_best_of_tunings,
    good_range,
    rate_sensitivity,
    trials_needed,
)
from advanced_optimizers.experiments.evidence.tunings import scatter, score
from advanced_optimizers.experiments.report.tables.table_files import NOTHING
from advanced_optimizers.experiments.report.tables.tuning_tables import Tuning, range_words
from advanced_optimizers.experiments.studies.referee import DEFAULTS, Referee
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

_ACCURACY = METRICS["test_accuracy"]


def verdict_row(ruling: Ruling) -> dict[str, str]:
    """One row of the table of verdicts."""
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


def accuracy_row(frame: pd.DataFrame, study: Referee, task: str, algorithm: str) -> dict[str, str]:
    """An algorithm's accuracy, tuned and at its defaults, and how far it scatters."""
    values = accuracies(frame, task, algorithm, study.tunings)
    units = unit_means(frame, task, algorithm, study.tunings)
    untuned = accuracies(frame, task, algorithm, [DEFAULTS]).get(DEFAULTS)
    return {
        "Task": label(task),
        "Algorithm": label(algorithm),
        "Test accuracy (%)": _ACCURACY.value(mean_interval(units)).removesuffix(" %"),
        **_scatter_cells(list(values.values())),
        "At defaults (%)": f"{100 * mean(untuned):.2f}" if untuned else NOTHING,
        "Another test set (points)": f"{100 * binomial_error(mean(units), study.test_images):.2f}",
    }


def _scatter_cells(values: Sequence[Sequence[float]]) -> dict[str, str]:
    cells = {"sd of tuning (points)": NOTHING, "sd of seeds (points)": NOTHING}
    if len(values) < 2 or len({len(own) for own in values}) != 1 or len(values[0]) < 2:
        return cells
    found = scatter([values])
    return dict(zip(cells, (f"{100 * found.tuning:.2f}", f"{100 * found.seeds:.2f}"), strict=True))


def tunability_row(tunings: Sequence[Tuning], study: Referee) -> dict[str, str]:
    """What the trials of an algorithm say. With halving, only the last rung is of full length: nothing about fewer."""
    task, algorithm = tunings[0].task, tunings[0].algorithm
    flags = [
        f"{number}: {name}"
        for number, tuning in enumerate(tunings, start=1)
        for name in tuning.ranges
        if tuning.at_the_edge(name)
    ]
    names = {"Task": label(task), "Algorithm": label(algorithm)}
    edges = {"At the edge (tuning: hyperparameter)": ", ".join(flags) or NOTHING}
    if study.rungs:
        return {**names, **edges}
    rate = ALGORITHMS[algorithm].rate
    best = expected(tunings)
    shown = sorted({1, (len(best) + 1) // 2, len(best)})
    after = " / ".join(f"{100 * best[k - 1].estimate:.2f}" for k in shown)
    rates = [value for tuning in tunings for value in tuning.values(rate)]
    scores = [value for tuning in tunings for value in scores_of(tuning)]
    lost = rate_sensitivities(tunings, rate)
    return {
        **names,
        f"After {' / '.join(map(str, shown))} trials (%)": after,
        "Trials needed": str(trials_needed(best, study.margins.get(task, 0.0))),
        "Good rates (octaves)": str(good_range(rates, scores)),
        "A blind rate costs (points)": _ACCURACY.difference(lost).replace("+", "").removesuffix(" points"),
        **edges,
    }


def expected(tunings: Sequence[Tuning]) -> list[Interval]:
    """The expected best score of 1, 2, ... trials, as the mean over the tunings."""
    return expected_best_of_tunings([scores_of(tuning) for tuning in tunings])


def scores_of(tuning: Tuning) -> list[float]:
    """The score of each trial; one that diverged counts as guessing."""
    return [score(trial) for trial in tuning.trials]


def rate_sensitivities(tunings: Sequence[Tuning], rate: str) -> Interval:
    """The mean over the tunings of what a rate that is picked blindly costs, as a fraction, capped at guessing."""
    space, guessing = tunings[0].ranges[rate], tunings[0].trials[0].guessing
    return over_tunings(
        [rate_sensitivity(t.values(rate), scores_of(t), space.low, space.high, guessing) for t in tunings]
    )


def robustness_row(frame: pd.DataFrame, study: Referee, task: str, algorithm: str) -> dict[str, str]:
    """What noisy labels and other batches change, in points, with the hyperparameters of the tuned setting."""
    found = changes_by_setting(frame, study, [algorithm])
    cells = {
        f"{words} (points)": _ACCURACY.difference(own[algorithm]).removesuffix(" points") if own else NOTHING
        for words, own in found.items()
    }
    return {"Task": label(task), "Algorithm": label(algorithm), **cells}


def changes_by_setting(frame: pd.DataFrame, study: Referee, names: Sequence[str]) -> dict[str, dict[str, Interval]]:
    """By other setting, in words, the change of accuracy of each algorithm that was run in it, on the study's task."""
    (task,) = study.tasks
    found = {
        words: {name: changes(frame, task.name, name, study.tunings, column, value) for name in names}
        for words, column, value in settings_of(study)
    }
    return {words: {name: over_tunings(v) for name, v in own.items() if v} for words, own in found.items()}


def settings_of(study: Referee) -> list[tuple[str, str, float]]:
    """The other settings in which the runs of a study are repeated: in words, the column, and its value."""
    variants = study.variants.values()
    noises = sorted({noise for variant in variants for noise in variant.label_noises} - {0.0})
    sizes = sorted({variant.batch_size for variant in variants if variant.batch_size is not None})
    return [
        *((noise_words(noise), "label_noise", noise) for noise in noises),
        *((f"batches of {size}", "batch_size", float(size)) for size in sizes),
    ]


def over_tunings(values: Sequence[float]) -> Interval:
    """The mean over tunings with its 95 % t-interval; with one tuning, an interval without ends."""
    return mean_interval(values) if len(values) > 1 else Interval(values[0], np.nan, np.nan, 1)


def spaces_table(study: Referee) -> pd.DataFrame:
    """What every algorithm searches on the study's task in its tunings, with its default, schedule and passes."""
    first, rows = study.comparison(study.tunings[0]), []
    (task,) = first.tasks
    for group, members in study.groups.items():
        for name in (name for name in members if name in first.algorithms_on(task)):
            row, untuned = ALGORITHMS[name], study.variants.get(DEFAULTS)
            default = {} if untuned is None else untuned.untuned.get(name, {})
            spaces = first.search_space(task, name).items()
            rows.append(
                {
                    "Algorithm": label(name),
                    "Family": group,
                    "Searched": ", ".join(f"`{key}` {range_words(space)}" for key, space in spaces),
                    "Default": f"{default[row.rate]:g}" if row.rate in default else NOTHING,
                    "Schedule": row.schedule or task.schedule,
                    "Passes per step": row.passes,
                }
            )
    return pd.DataFrame(rows)
