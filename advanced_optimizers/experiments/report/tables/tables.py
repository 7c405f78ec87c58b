"""One function per kind of table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Measurements, by_seed, select_runs
from advanced_optimizers.experiments.evidence.judgments import judge_within
from advanced_optimizers.experiments.evidence.labels import where
from advanced_optimizers.experiments.evidence.medians import DEVIATIONS, coverage, disturbed, median_interval, ratios
from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels, conditions, ordered
from advanced_optimizers.experiments.evidence.statistics import compare_paired, mean, mean_interval, std
from advanced_optimizers.experiments.report.tables.table_files import NOTHING, noted, with_runs
from advanced_optimizers.experiments.studies.study import Study


def comparison_table(
    frame: pd.DataFrame,
    metric: str = "test_accuracy",
    *,
    labels: Labels,
    claimed: Mapping[str, Mapping[str, float]] | None = None,
) -> pd.DataFrame:
    """Algorithms by task: mean ± half-width of the 95 % interval; the note says n.

    A cell whose n differs from the note's, or some of whose runs diverged, says so itself. A value is bold where its
    algorithm is better than every other one of its column, by paired tests with Holm's correction over that column.
    Where that is undecided, the column has no bold value, and neither has one with fewer than 5 seeds. A condition
    without runs has a dash.

    Args:
        frame: One row per run, from ``frames.records_frame``; the runs of one study.
        metric: A column of the frame that ``METRICS`` knows.
        labels: Names for display, of algorithms and tasks; its order is that of the rows.
        claimed: The coursework's value by task and algorithm, in the metric's recorded unit.

    Returns:
        A frame of text, one row per algorithm, with its note (see ``noted``).
    """
    algorithms = ordered(frame["algorithm"], labels)
    table = pd.DataFrame({"Algorithm": [labels.get(name, name) for name in algorithms]})
    cells = [(t, noise, a) for t, noise in conditions(frame, labels) for a in algorithms]
    by_cell = {(t, noise, a): select_runs(frame, t, a, noise) for t, noise, a in cells}
    n = common_count(len(by_seed(runs, metric)) for runs in by_cell.values())
    for task, label_noise in conditions(frame, labels):
        runs = {a: by_cell[task, label_noise, a] for a in algorithms}
        best = _clear_best({a: by_seed(runs[a], metric) for a in algorithms}, metric)
        unit = f" ({METRICS[metric].unit})".replace(" ()", "")
        table[f"{where(task, label_noise, labels)}{unit}"] = [
            NOTHING if runs[a].empty else _value_cell(runs[a], metric, n, bold=a == best) for a in algorithms
        ]
        if claimed and not label_noise and task in claimed:
            table[f"{labels.get(task, task)}, coursework's claim{unit}"] = [
                f"{METRICS[metric].scale * claimed[task][a]:.1f}" if a in claimed[task] else NOTHING for a in algorithms
            ]
    return noted(table, interval_note(n))


def metrics_table(
    frame: pd.DataFrame, metrics: Sequence[str], *, labels: Labels, constants: Sequence[str] = ()
) -> pd.DataFrame:
    """Algorithms by metric, task by task: what ``comparison_table`` has for one metric in each of several tables.

    Args:
        frame: See ``comparison_table``.
        metrics: Columns of the frame that ``METRICS`` knows.
        labels: See ``comparison_table``.
        constants: Further columns that ``METRICS`` knows, before the metrics: what does not vary among an algorithm's
            runs on a task.

    Returns:
        A frame of text, one row per task, label noise and algorithm that has runs, with its note (see ``noted``).
    """
    rows = [
        (*condition, name) for condition in conditions(frame, labels) for name in ordered(frame["algorithm"], labels)
    ]
    cells = {row: runs for row in rows if not (runs := select_runs(frame, row[0], row[2], row[1])).empty}
    n = common_count(len(by_seed(runs, metric)) for runs in cells.values() for metric in metrics)
    table = pd.DataFrame(
        {
            "Task": where(task, noise, labels),
            "Algorithm": labels.get(name, name),
            **{METRICS[column].label: _constant_cell(runs, column) for column in constants},
            **{METRICS[metric].label: _value_cell(runs, metric, n, bold=False) for metric in metrics},
        }
        for (task, noise, name), runs in cells.items()
    )
    several = table["Task"].nunique() > 1
    return noted(table if several else table.drop(columns="Task"), interval_note(n))


def _constant_cell(runs: pd.DataFrame, column: str) -> str:
    """The one value of runs, or a dash if they have none; the mean if they differ after all."""
    values = runs[column].dropna().astype(float)
    return "-" if values.empty else f"{METRICS[column].scale * values.mean():.{METRICS[column].digits}f}"


def common_count(counts: Iterable[int]) -> int:
    """The n that most cells of a table have, of those that have runs; 0 when none has."""
    return max(Counter(n for n in counts if n).items(), key=lambda item: item[::-1], default=(0, 0))[0]


def interval_note(n: int) -> str:
    """The note of a table of means: what ± is, and the n of every cell that does not say another one."""
    if n > 1:
        return f"Mean ± half-width of the 95 % interval over the seeds, n = {n}."
    return "One seed: there is no interval." if n else ""


def summary_table(frame: pd.DataFrame, metrics: Iterable[str] = ("test_accuracy",), *, labels: Labels) -> pd.DataFrame:
    """The numbers behind the comparisons, one row per task, label noise, algorithm and metric.

    Returns:
        A frame with the mean, sample standard deviation and 95 % interval over the seeds, in the
        recorded unit, and the runs (see ``with_runs``); the middle three are missing where fewer than two runs were
        completed.
    """
    rows, run_ids = [], []
    for task, label_noise in conditions(frame, labels):
        for algorithm in ordered(frame["algorithm"], labels):
            for metric in metrics:
                runs = select_runs(frame, task, algorithm, label_noise)
                values = by_seed(runs, metric)
                if values:
                    where = {"task": task, "label_noise": label_noise, "algorithm": algorithm}
                    rows.append({**where, "metric": metric, **_summary(list(values.values()))})
                    run_ids.append(runs.loc[list(values), "run_id"])
    return with_runs(pd.DataFrame(rows), run_ids)


def protocol_table(study: Study, *, labels: Labels) -> pd.DataFrame:
    """How long and on what a study trains, and its tuning budget, one row per task.

    A study on a part of the training images, or at a constant learning rate, says so in a column more.
    """
    partly = any(task.data_fraction < 1.0 for task in study.tasks)
    constant = any(task.schedule == "constant" for task in study.tasks)
    return pd.DataFrame(
        {
            "Task": labels.get(task.name, task.name),
            **({"Training images": f"{100 * task.data_fraction:.3g} %"} if partly else {}),
            **({"Learning rate": task.schedule} if constant else {}),
            "Epochs": task.epochs,
            "Batch size": task.batch_size,
            "Precision": task.precision,
            "Crop and flip": "yes" if task.augment else "no",
            "Seeds": len(study.seeds),
            "Tuning, for each algorithm": f"{study.trials_words(task)} on {100 * task.tuning_fraction:.3g} % of the "
            "tuning split, clean labels",
        }
        for task in study.tasks
    )


def epochs_table(frame: pd.DataFrame, targets: Mapping[str, float], *, labels: Labels) -> pd.DataFrame:
    """How many epochs the runs took to their task's target accuracy, one row per task and algorithm.

    The median and the range count a run that did not reach it as longer than it was.

    Args:
        frame: One row per run, from ``frames.records_frame`` with the same targets.
        targets: Test accuracies by task, in [0, 1].
        labels: Names for display, of algorithms and tasks.
    """
    rows = []
    for task in ordered(frame["task"], labels):
        for algorithm in ordered(frame["algorithm"], labels):
            runs = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm) & (frame["label_noise"] == 0.0)]
            if runs.empty or task not in targets:
                continue
            counts, length = sorted(runs["epochs_to_target"].fillna(math.inf)), int(runs["epochs"].max())
            least, middle, most = (
                f"{count:.1f}" if math.isfinite(count) else f"over {length}"
                for count in (counts[0], median(counts), counts[-1])
            )
            rows.append(
                {
                    "Task": labels.get(task, task),
                    "Algorithm": labels.get(algorithm, algorithm),
                    "Target": f"{100 * targets[task]:g} %",
                    "Reached": f"{sum(map(math.isfinite, counts))} of {len(counts)} runs",
                    "Epochs, median (range)": f"{middle} ({least} to {most})" if least != most else middle,
                    "Length of a run": length,
                }
            )
    return pd.DataFrame(rows)


def hyperparameters_table(frame: pd.DataFrame, *, labels: Labels) -> pd.DataFrame:
    """The hyperparameters that each algorithm's recorded runs used on each task.

    Raises:
        ValueError: the runs of one algorithm on one task used different hyperparameters.
    """
    columns = [name for name in frame.columns if name.startswith("hp_")]
    rows = []
    for task in ordered(frame["task"], labels):
        for algorithm in ordered(frame["algorithm"], labels):
            runs = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm)]
            chosen = runs[columns].drop_duplicates()
            if len(chosen) > 1:
                raise ValueError(
                    f"frame must hold one set of hyperparameters for {algorithm} on {task}, got "
                    f"{len(chosen)}; pass the runs of one study only"
                )
            for _, values in chosen.iterrows():
                used = values.dropna()
                text = ", ".join(f"{k.removeprefix('hp_')} = {_short(v)}" for k, v in used.items())
                names = {"Task": labels.get(task, task), "Algorithm": labels.get(algorithm, algorithm)}
                rows.append({**names, "Hyperparameters": text or NOTHING})
    return pd.DataFrame(rows)


def timing_table(frame: pd.DataFrame, *, labels: Labels) -> pd.DataFrame:
    """Time and memory of the recorded runs, over all seeds and label noises of a task.

    The runs of a study share their machine with each other, so these are costs to plan with; which
    algorithm is slower is answered by ``overhead_table``.
    """
    rows = []
    for task in ordered(frame["task"], labels):
        for algorithm in ordered(frame["algorithm"], labels):
            runs = frame[(frame["task"] == task) & (frame["algorithm"] == algorithm)]
            if runs.empty:
                continue
            memory = runs["peak_memory_bytes"].median() / 2**20
            rows.append(
                {
                    "Task": labels.get(task, task),
                    "Algorithm": labels.get(algorithm, algorithm),
                    "Wall time an epoch (s, median)": f"{runs['seconds_per_epoch'].median():.2f}",
                    "CPU time an epoch (s, median)": f"{runs['cpu_seconds_per_epoch'].median():.2f}",
                    "Peak memory (MiB, median)": f"{memory:.0f}",
                    "n": len(runs),
                }
            )
    return pd.DataFrame(rows)


def overhead_table(measurements: Measurements, *, labels: Labels) -> pd.DataFrame:
    """Epochs of an algorithm next to epochs of its base, run in turn in one process.

    The seconds of the algorithm are the base's median times the median ratio, so that the columns agree. The note says
    what they are, how well the interval covers, and which pairs were disturbed.
    """
    rows, names, counts = [], [], set()
    for row in measurements["measurements"]:
        values = ratios(row["pairs"])
        ratio, base = median_interval(values), median(seconds for _, seconds in row["pairs"])
        task, algorithm = labels.get(row["task"], row["task"]), labels.get(row["algorithm"], row["algorithm"])
        rows.append(
            {
                "Task": task,
                "Algorithm": algorithm,
                "Base": labels.get(row["baseline"], row["baseline"]),
                "Base (s an epoch, median)": f"{base:.2f}",
                "Ratio, median [interval]": ratio.bracket(digits=3),
                "Algorithm (s an epoch, base times ratio)": f"{base * ratio.estimate:.2f}",
                "n": ratio.n,
            }
        )
        counts.add(ratio.n)
        names += [f"{algorithm} on {task}, pair {place} ({values[place - 1]:.3f})" for place in disturbed(values)]
    return noted(pd.DataFrame(rows), f"{repeats_note(counts)} {_disturbed_note(names)}" if rows else "")


def repeats_note(counts: Collection[int]) -> str:
    """What a median ratio over pairs of epochs is, and how well its interval covers; the counts are the pairs."""
    covered = ", ".join(f"{100 * coverage(n):.1f} % for n = {n}" for n in sorted(counts))
    return (
        "Median over n pairs of epochs, run in turn: technical repeats on one machine. The interval goes from the k-th "
        f"smallest to the k-th largest ratio, with an exact coverage of {covered}."
    )


def _disturbed_note(names: Sequence[str]) -> str:
    rule = f"more than {DEVIATIONS:g} scaled median absolute deviations from the median"
    if not names:
        return f"No pair was disturbed ({rule})."
    return f"Disturbed ({rule}), named and left in: {'; '.join(names)}."


def value_words(runs: pd.DataFrame, metric: str) -> str:
    """The metric of runs of ``select_runs``: mean ± half-width of the 95 % interval, n, and how many runs diverged."""
    if runs.empty:
        return "no run yet"
    words = [mean_words(runs, metric), METRICS[metric].unit, _count_note(runs, metric)]
    return " ".join(word for word in words if word)


def _value_cell(runs: pd.DataFrame, metric: str, n: int, *, bold: bool) -> str:
    """A cell of ``comparison_table``; n stands in it only where it is not the table's."""
    text = mean_words(runs, metric)
    diverged = (runs["status"] != "completed").any()
    note = _count_note(runs, metric) if diverged or len(by_seed(runs, metric)) != n else ""
    return f"{f'**{text}**' if bold else text} {note}".rstrip()


def mean_words(runs: pd.DataFrame, metric: str) -> str:
    """The metric of runs of ``select_runs``: mean ± half-width of the 95 % interval, without its unit."""
    values, kind = list(by_seed(runs, metric).values()), METRICS[metric]
    if len(values) > 1:
        return mean_interval(values).plus_minus(kind.scale, kind.digits)
    return f"{kind.scale * values[0]:.{kind.digits}f}" if values else "no value"


def _count_note(runs: pd.DataFrame, metric: str) -> str:
    n, diverged = len(by_seed(runs, metric)), int((runs["status"] != "completed").sum())
    return f"(n = {n}, {diverged} diverged)" if diverged else f"(n = {n})"


def _clear_best(values: Mapping[str, Mapping[int, float]], metric: str) -> str | None:
    """The algorithm that is better than every other one, if there is one."""
    run = {name: side for name, side in values.items() if side}
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    best = max(run, key=lambda name: sign * mean(list(run[name].values())), default=None)
    if best is None or len(run) < 2 or len(run[best]) < MIN_SEEDS:
        return None
    others = [side for name, side in run.items() if name != best]
    if any(side.keys() != run[best].keys() for side in others):
        return None
    comparisons = [compare_paired(run[best], side) for side in others]
    # The runs themselves say which one is asked about, so Holm's correction is needed although all must be beaten.
    judged = judge_within(
        comparisons,
        [None] * len(comparisons),
        higher_is_better=METRICS[metric].higher_is_better,
        all_needed=False,
    )
    return best if all(row.outcome == "better" for row in judged) else None


def _summary(values: list[float]) -> dict[str, float | int | None]:
    if len(values) < 2:
        return {"n": 1, "mean": mean(values), "std": None, "low": None, "high": None}
    interval = mean_interval(values)
    return {
        "n": interval.n,
        "mean": interval.estimate,
        "std": std(values),
        "low": interval.low,
        "high": interval.high,
    }


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
