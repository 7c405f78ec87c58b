"""What a sweep of the learning rate says: which rate is best on a task, and what another one costs there.

The quantity is the test accuracy of the last epoch. A run that diverged has learned nothing: its accuracy counts as 0.
Everything is computed seed by seed; intervals are over the seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy  # loads its parts when they are first used, which most processes never do

from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Comparison, RunData, Status, Verdict
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.metrics import first_few
from advanced_optimizers.experiments.evidence.optima import find_optimum
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.evidence.statistics import Interval, mean_interval


def rate_points(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of a sweep, one row per run: ``run_id, task, algorithm, seed, rate, accuracy``.

    Args:
        frame: One row per run, from ``frames.records_frame``.

    Raises:
        ValueError: Two runs agree in task, algorithm, seed and rate.
    """
    columns = ["run_id", "task", "algorithm", "seed", "rate", "accuracy"]
    if frame.empty:
        return pd.DataFrame(columns=columns)
    learned = (frame["status"] == "completed") & frame["test_accuracy"].notna()
    points = pd.DataFrame(
        {
            **{name: frame[name] for name in columns[:4]},
            "rate": frame["hp_lr"].astype(float),
            "accuracy": frame["test_accuracy"].astype(float).where(learned, 0.0),
        }
    )
    if points.duplicated(["task", "algorithm", "seed", "rate"]).any():
        raise ValueError("frame must hold one run per learning rate and seed; pass the runs of one sweep only")
    return points


def by_seed_and_rate(points: pd.DataFrame, task: str, algorithm: str) -> pd.DataFrame:
    """Accuracies of one algorithm on one task, one row per seed and one column per rate, of the complete seeds."""
    own = points[(points["task"] == task) & (points["algorithm"] == algorithm)]
    return own.pivot(index="seed", columns="rate", values="accuracy").astype(float).sort_index().dropna()


def best_rates(accuracies: pd.DataFrame) -> list[float]:
    """log10 of each seed's best rate: the lowest error, between the grid's points by a parabola of the log errors.

    Args:
        accuracies: From :func:`by_seed_and_rate`.
    """
    positions, logs = list(range(accuracies.shape[1])), np.log10(accuracies.columns.to_numpy(dtype=float))
    places = (
        find_optimum({position: 1 - float(row.iloc[position]) for position in positions}).exponent
        for _, row in accuracies.iterrows()
    )
    return [float(np.interp(place, positions, logs)) for place in places]


def lost_at(accuracies: pd.DataFrame, rate: float) -> list[float]:
    """What each seed loses at a rate: its accuracy there minus that at the rate which is best for the other seeds.

    The best rate is chosen without the seed that it is compared on: otherwise every rate would lose by luck alone.

    Args:
        accuracies: From :func:`by_seed_and_rate`, with at least two seeds.
        rate: One of its columns.

    Raises:
        ValueError: There is no such rate.
    """
    if rate not in accuracies.columns:
        raise ValueError(f"rate must be one of {list(accuracies.columns)}, got {rate}")
    return [float(own[rate] - own[accuracies.drop(index=seed).mean().idxmax()]) for seed, own in accuracies.iterrows()]


def rank_correlations(points: pd.DataFrame, tasks: Sequence[str], algorithm: str) -> list[float]:
    """By seed, Spearman's correlation over the tasks between the best rate and the accuracy reached with it.

    Args:
        points: From :func:`rate_points`.
        tasks: At least three tasks; a seed counts if it is complete on all of them.
        algorithm: The algorithm.
    """
    tables = [by_seed_and_rate(points, task, algorithm) for task in tasks]
    rates = pd.concat([pd.Series(best_rates(t), index=t.index) for t in tables], axis=1).dropna()
    reached = pd.concat([t.max(axis=1) for t in tables], axis=1).loc[rates.index]
    return [float(scipy.stats.spearmanr(rates.loc[seed], reached.loc[seed]).statistic) for seed in rates.index]


# ---- the rules -------------------------------------------------------------------------------------------------------


def compare_at_rate(data: RunData, *, rate: float, comparisons: Sequence[Comparison]) -> Verdict:
    """Applies ``rules.compare_accuracy`` to the runs of a sweep at one learning rate.

    Args:
        data: The runs of one sweep.
        rate: The learning rate.
        comparisons: All comparisons that the claim needs.
    """
    frame = data.frame if data.frame.empty else data.frame[np.isclose(data.frame["hp_lr"].astype(float), rate)]
    return compare_accuracy(RunData(frame), comparisons=comparisons)


def rate_is_good(data: RunData, *, algorithm: str, rates: Mapping[str, float], margin: float) -> Verdict:
    """Decides a claim that a learning rate is good: that it loses little against the best one of the sweep.

    Supported: on every task, the 95 % interval of what is lost, see :func:`lost_at`, ends above ``-margin``. Not
    supported: on one it lies below. Otherwise inconclusive.

    Args:
        data: The runs of one sweep.
        algorithm: The algorithm.
        rates: The rate that is claimed to be good, by task.
        margin: The loss of accuracy that does not matter, as a fraction in [0, 1].
    """
    points = rate_points(data.frame)
    tables = {task: by_seed_and_rate(points, task, algorithm) for task in rates}
    waiting = _waiting(tables)
    if waiting is not None:
        return waiting
    lost = {task: mean_interval(lost_at(table, rates[task])) for task, table in tables.items()}
    status: Status = "inconclusive"
    if any(interval.high < -margin for interval in lost.values()):
        status = "not supported"
    elif all(interval.low >= -margin for interval in lost.values()):
        status = "supported"
    task = min(lost, key=lambda name: lost[name].estimate)
    within = sum(interval.low >= -margin for interval in lost.values())
    return Verdict(
        status,
        f"On {within} of {len(lost)} tasks it loses less than {100 * margin:g} points. Least in favor: "
        f"{_points(lost[task])} at {rates[task]:g} on {label(task)} (n = {lost[task].n}).",
    )


def easier_wants_larger(data: RunData, *, algorithm: str, tasks: Sequence[str], least: float) -> Verdict:
    """Decides a claim that the best learning rate is larger the easier a task is.

    Supported: the 95 % interval of Spearman's correlation over the tasks, see :func:`rank_correlations`, lies at or
    above ``least``. Not supported: it lies below. Otherwise inconclusive.

    Args:
        data: The runs of one sweep.
        algorithm: The algorithm.
        tasks: The tasks.
        least: The correlation from which on the order counts as monotone.
    """
    points = rate_points(data.frame)
    waiting = _waiting({task: by_seed_and_rate(points, task, algorithm) for task in tasks})
    if waiting is not None:
        return waiting
    interval = mean_interval(rank_correlations(points, tasks, algorithm))
    status: Status = (
        "supported" if interval.low >= least else "not supported" if interval.high < least else "inconclusive"
    )
    return Verdict(
        status, f"Rank correlation over {len(tasks)} tasks: {interval.bracket(signed=True)} (n = {interval.n})."
    )


def _waiting(tables: Mapping[str, pd.DataFrame]) -> Verdict | None:
    notes = [
        f"{label(task)} ({len(table)} of {MIN_SEEDS} complete seeds)"
        for task, table in tables.items()
        if len(table) < MIN_SEEDS
    ]
    return Verdict("pending", f"Waiting for runs: {first_few(notes)}.") if notes else None


def _points(interval: Interval) -> str:
    return f"{interval.bracket(100.0, 2, signed=True)} points"


def good_rate_rule(compared: str, margin: float, reason: str) -> str:
    """Puts :func:`rate_is_good` into words."""
    return (
        f"{compared}: the test accuracy of the last epoch there minus that at the best learning rate of the sweep, "
        f"which is chosen by the other seeds, with its 95 % interval over the seeds (at least {MIN_SEEDS}). Supported: "
        f"on every task the interval ends above a loss of {100 * margin:g} point(s) ({reason}). Not supported: on one "
        "it lies below. Otherwise inconclusive."
    )
