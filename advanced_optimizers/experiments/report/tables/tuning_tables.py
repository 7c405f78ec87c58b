"""The tables about tuning: where choices lie in their ranges, and what other ways of tuning choose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import scipy  # loads its parts when they are first used, which most processes never do

from advanced_optimizers.experiments.evidence.comparisons import Evidence, by_seed, select_runs
from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels
from advanced_optimizers.experiments.evidence.statistics import compare_paired, mean, mean_interval
from advanced_optimizers.experiments.evidence.tunings import Scatter, scatter, score, tuning_values
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.report.tables.table_files import noted, with_runs
from advanced_optimizers.experiments.studies.tuning import at_the_edge, best_trial, place_in
from advanced_optimizers.experiments.training.algorithms import Range

_METRIC = METRICS["test_accuracy"]
_NOTHING = "-"


class Tuning(NamedTuple):
    """A finished tuning of one algorithm on one task: the ranges, and a record per trial.

    With halving, ``trials`` are those of the last rung, and ``tried`` has every point. ``tie`` is the study's.
    """

    task: str
    algorithm: str
    ranges: Mapping[str, Range]
    trials: Sequence[RunRecord]
    tried: Sequence[Hyperparameters] = ()
    tie: float = 0.0

    @property
    def chosen(self) -> Hyperparameters:
        """The hyperparameters of the best trial."""
        return best_trial(self.trials, self.tie).config.hyperparameters

    def values(self, name: str) -> list[float]:
        """What each trial tried for one hyperparameter."""
        return [float(point[name]) for point in self.tried or [trial.config.hyperparameters for trial in self.trials]]

    def at_the_edge(self, name: str) -> bool:
        """Whether the choice lies at the edge of a hyperparameter's range; see ``studies.tuning.at_the_edge``."""
        return at_the_edge(float(self.chosen[name]), self.ranges[name], self.values(name))


def ranges_table(tunings: Iterable[Tuning], *, labels: Labels) -> pd.DataFrame:
    """Where each choice lies in its range, one row per tuned hyperparameter."""
    return pd.DataFrame(
        {
            "Task": labels.get(tuning.task, tuning.task),
            "Algorithm": labels.get(tuning.algorithm, tuning.algorithm),
            "Hyperparameter": name,
            "Range": range_words(space),
            "Chosen": _short(tuning.chosen[name]),
            "Place in the range": f"{place_in(float(tuning.chosen[name]), space):.2f}",
            "Place among the trials": f"{_rank(tuning, name)} of {len(tuning.trials)}",
            "At the edge": "yes" if tuning.at_the_edge(name) else "no",
        }
        for tuning in tunings
        for name, space in tuning.ranges.items()
    )


def edges_table(ranges: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows at an edge of several tables of :func:`ranges_table`, each once, without the column that says so."""
    if not ranges:
        return pd.DataFrame()
    every = pd.concat(ranges, ignore_index=True).drop_duplicates(ignore_index=True)
    flagged = every[every["At the edge"] == "yes"].drop(columns="At the edge")
    note = (
        f"{len(flagged)} of {len(every)} tuned values, of {len(every.drop_duplicates(['Task', 'Algorithm']))} tunings."
    )
    return noted(flagged.reset_index(drop=True), note)


def scatter_table(
    frame: pd.DataFrame, tasks: Mapping[str, Sequence[str]], variants: Sequence[str], runs: int, *, labels: Labels
) -> pd.DataFrame:
    """The mean of each tuning, and the standard deviations of tuning and of seeds; a last row per task pools them.

    Args:
        frame: The runs of several tunings.
        tasks: The algorithms by task.
        variants: The names of the tunings; what lacks one is left out.
        runs: The number of runs per tuning.
        labels: Names for display, of algorithms and tasks.
    """
    rows, run_ids = [], []
    for task, algorithms in tasks.items():
        found = {name: tuning_values(frame, task, name, runs) for name in algorithms}
        complete = {name: values for name, values in found.items() if set(values) == set(variants)}
        groups = {name: [values[v] for v in variants] for name, values in complete.items()}
        for name, values in groups.items():
            means = {f"{v.capitalize()} (%)": f"{100 * mean(own):.2f}" for v, own in zip(variants, values, strict=True)}
            rows.append(_scatter_row(labels.get(task, task), labels.get(name, name), means, scatter([values])))
            run_ids.append(_runs_of(frame, task, [name]))
        if len(groups) > 1:
            blank = {f"{v.capitalize()} (%)": _NOTHING for v in variants}
            pooled = scatter(list(groups.values()))
            rows.append(_scatter_row(labels.get(task, task), f"All {len(groups)}, pooled", blank, pooled))
            run_ids.append(_runs_of(frame, task, list(groups)))
    note = (
        f"Mean test accuracy of {runs} runs per tuning; standard deviations from a one-way random effects model, in "
        "points; 0.00 where the means differ no more than seeds explain. The 95 % interval of the ratio is from the F "
        "distribution."
    )
    return with_runs(noted(pd.DataFrame(rows), note if rows else ""), run_ids)


def outcomes_table(seeds: Sequence[Evidence], tunings: Mapping[str, Evidence], *, labels: Labels) -> pd.DataFrame:
    """Each comparison by the seeds of one tuning, and with the tuning as the unit.

    Args:
        seeds: The results by seeds.
        tunings: The results by tunings, by the comparison in words; may lack some.
        labels: Names for display, of algorithms and tasks.
    """
    rows = []
    for row in seeds:
        c, other = row.comparison, tunings.get(str(row.comparison))
        rows.append(
            {
                "Task": labels.get(c.task, c.task),
                "Comparison": f"{labels.get(c.algorithm, c.algorithm)} against {labels.get(c.baseline, c.baseline)}",
                "By seeds [95 % interval]": f"{row.estimate} (n = {row.interval.n})",
                "Outcome by seeds": row.outcome,
                "By tunings [95 % interval]": f"{other.estimate} (n = {other.interval.n})" if other else _NOTHING,
                "Outcome by tunings": other.outcome if other else "pending",
            }
        )
    return with_runs(pd.DataFrame(rows), [row.run_ids for row in seeds])


def choices_table(tunings: Mapping[str, Sequence[Tuning]], frame: pd.DataFrame, *, labels: Labels) -> pd.DataFrame:
    """What each way of tuning chooses and how well that does on the test set, one row per task and algorithm.

    Args:
        tunings: The finished tunings by variant.
        frame: The runs of the variants.
        labels: Names for display, of algorithms and tasks.
    """
    rows, run_ids = [], []
    for task, algorithm in dict.fromkeys((t.task, t.algorithm) for own in tunings.values() for t in own):
        row = {"Task": labels.get(task, task), "Algorithm": labels.get(algorithm, algorithm)}
        for variant, own in tunings.items():
            chosen = [hyperparameter_words(t.chosen) for t in own if (t.task, t.algorithm) == (task, algorithm)]
            row[f"Chosen, {variant}"] = chosen[0] if chosen else "pending"
        for variant in tunings:
            row[f"Test accuracy, {variant} (%)"] = accuracy_words(frame, variant, task, algorithm)
        rows.append(row)
        run_ids.append(_runs_of(frame, task, [algorithm]))
    return with_runs(pd.DataFrame(rows), run_ids)


def lengths_table(
    pairs: Sequence[tuple[Tuning, Tuning]], differences: Mapping[tuple[str, str], Evidence], *, labels: Labels
) -> pd.DataFrame:
    """What short and full-length trials choose, and what the difference costs, one row per task and algorithm.

    Args:
        pairs: The tunings with short and with full-length trials.
        differences: By task and algorithm, the test accuracy of the short trials' choice against the other's.
        labels: Names for display, of algorithms and tasks.
    """
    rows, run_ids = [], []
    for short, full in pairs:
        found = differences.get((short.task, short.algorithm))
        best = score(best_trial(full.trials))
        at_short = next(score(t) for t in full.trials if t.config.hyperparameters == short.chosen)
        rows.append(
            {
                "Task": labels.get(short.task, short.task),
                "Algorithm": labels.get(short.algorithm, short.algorithm),
                "Chosen by short trials": hyperparameter_words(short.chosen),
                "Chosen by full-length trials": hyperparameter_words(full.chosen),
                "Rank correlation": f"{rank_correlation(short, full):.2f}",
                "Gap on validation images (points)": f"{100 * (best - at_short):.2f}",
                "Short against full on the test set [95 % interval]": (
                    f"{found.estimate} (n = {found.interval.n})" if found else _NOTHING
                ),
                "Winner's curse (points)": _curse(best - at_short, found),
                "Outcome": _outcome(short, full, found),
            }
        )
        run_ids.append([t.run_id for tuning in (short, full) for t in tuning.trials])
    note = (
        "Rank correlation (Spearman) of the validation accuracies of the same 12 points. The gap on validation images "
        "is that of the two chosen points in full-length trials: never negative, since one of them was chosen by it. "
        "The winner's curse is what is left of it when the gap of the runs on the test set is taken off."
    )
    return with_runs(noted(pd.DataFrame(rows), note if rows else ""), run_ids)


def untuned_table(
    frame: pd.DataFrame,
    untuned: Mapping[str, Hyperparameters],
    variants: tuple[str, str],
    pairs: Sequence[tuple[str, str]],
    *,
    labels: Labels,
) -> pd.DataFrame:
    """The test accuracy at given values and at tuned ones, one row per task and algorithm.

    Args:
        frame: The runs of both variants.
        untuned: The given values by algorithm.
        variants: The names of the tuned and of the untuned variant.
        pairs: Tasks and algorithms.
        labels: Names for display, of algorithms and tasks.
    """
    rows, run_ids = [], []
    for task, algorithm in pairs:
        sides = [by_seed(_select(frame, v, task, algorithm), "test_accuracy") for v in variants]
        common = sorted(sides[0].keys() & sides[1].keys())
        gap = _NOTHING
        if len(common) > 1:
            tuned, given = ({seed: side[seed] for seed in common} for side in sides)
            gap = f"{_METRIC.difference(compare_paired(tuned, given).difference)} (n = {len(common)})"
        rows.append(
            {
                "Task": labels.get(task, task),
                "Algorithm": labels.get(algorithm, algorithm),
                "Given values": hyperparameter_words(untuned[algorithm]),
                "Untuned (%)": accuracy_words(frame, variants[1], task, algorithm),
                "Tuned (%)": accuracy_words(frame, variants[0], task, algorithm),
                "What tuning gains [95 % interval]": gap,
            }
        )
        run_ids.append(_runs_of(frame, task, [algorithm]))
    return with_runs(pd.DataFrame(rows), run_ids)


def moved_table(
    tunings: Mapping[str, Sequence[Tuning]],
    ranges: Mapping[tuple[str, str], Mapping[str, Range]],
    frame: pd.DataFrame,
    variants: tuple[str, str],
    *,
    labels: Labels,
) -> pd.DataFrame:
    """What was chosen from a range and from the moved one, one row per moved range.

    Args:
        tunings: The finished tunings by variant, of what was moved.
        ranges: The moved ranges by task and algorithm.
        frame: The runs of the variants.
        variants: The names of the stated and of the moved variant.
        labels: Names for display, of algorithms and tasks.
    """
    rows, run_ids = [], []
    for (task, algorithm), own in ranges.items():
        for name in own:
            row = {"Task": labels.get(task, task), "Algorithm": labels.get(algorithm, algorithm), "Range of": name}
            for variant in variants:
                found = [t for t in tunings[variant] if (t.task, t.algorithm) == (task, algorithm)]
                row[f"{variant.capitalize()}: range"] = range_words(found[0].ranges[name] if found else own[name])
                row[f"{variant.capitalize()}: chosen"] = _edge_words(found[0], name) if found else "pending"
                row[f"{variant.capitalize()}: test accuracy (%)"] = accuracy_words(frame, variant, task, algorithm)
            rows.append(row)
            run_ids.append(_runs_of(frame, task, [algorithm]))
    return with_runs(pd.DataFrame(rows), run_ids)


def rank_correlation(short: Tuning, full: Tuning) -> float:
    """Spearman's correlation of the scores of two tunings at the same points."""
    other = {hyperparameter_words(t.config.hyperparameters): score(t) for t in full.trials}
    pairs = [(score(t), other[hyperparameter_words(t.config.hyperparameters)]) for t in short.trials]
    return float(scipy.stats.spearmanr(*zip(*pairs, strict=True)).statistic)


def hyperparameter_words(values: Hyperparameters) -> str:
    """Hyperparameters as ``lr = 0.1, mu = 1``."""
    return ", ".join(f"{name} = {_short(value)}" for name, value in values.items())


def range_words(space: Range) -> str:
    """A range as ``0.1 to 0.9``."""
    return f"{space.low:g} to {space.high:g}{', log' if space.log else ''}"


def accuracy_words(frame: pd.DataFrame, variant: str, task: str, algorithm: str) -> str:
    """The mean test accuracy in percent with its 95 % interval and n, or a dash."""
    values = list(by_seed(_select(frame, variant, task, algorithm), "test_accuracy").values())
    if len(values) < 2:
        return _NOTHING
    return f"{mean_interval(values).plus_minus(_METRIC.scale, _METRIC.digits)} (n = {len(values)})"


def _scatter_row(task: str, name: str, means: Mapping[str, str], found: Scatter) -> dict[str, str]:
    return {
        "Task": task,
        "Algorithm": name,
        **means,
        "sd of tuning": f"{100 * found.tuning:.2f}",
        "sd of seeds": f"{100 * found.seeds:.2f}",
        "Ratio [95 % interval]": found.ratio.bracket(),
    }


def _curse(gap: float, found: Evidence | None) -> str:
    return _NOTHING if found is None else f"{100 * (gap + found.interval.estimate):+.2f}"


def _outcome(short: Tuning, full: Tuning, found: Evidence | None) -> str:
    if short.chosen == full.chosen:
        return "the same point"
    return "pending" if found is None else found.outcome


def _select(frame: pd.DataFrame, variant: str, task: str, algorithm: str) -> pd.DataFrame:
    return select_runs(frame if frame.empty else frame[frame["variant"] == variant], task, algorithm, 0.0)


def _runs_of(frame: pd.DataFrame, task: str, algorithms: Sequence[str]) -> list[str]:
    if frame.empty:
        return []
    chosen = frame[(frame["task"] == task) & frame["algorithm"].isin(algorithms)]
    return sorted(set(chosen["run_id"]))


def _edge_words(tuning: Tuning, name: str) -> str:
    return f"{_short(tuning.chosen[name])}{', at the edge' if tuning.at_the_edge(name) else ''}"


def _rank(tuning: Tuning, name: str) -> int:
    return sorted(tuning.values(name)).index(float(tuning.chosen[name])) + 1


def _short(value: float | int | bool | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
