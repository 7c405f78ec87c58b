"""What the marks and bands of each kind of figure mean, and n: sentences for its caption.

A function here has the name of the function that draws the figure, and takes the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Evidence
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.report.tables import tables

_CELL = ["task", "label_noise", "algorithm"]


def learning_curves(curves: pd.DataFrame, metric: str = "test_accuracy") -> str:
    """For ``plots.learning_curves``."""
    seeds = curves.dropna(subset=[metric]).groupby(_CELL)["seed"].nunique()
    return f"Mean with its 95 % interval as a band ({_count(seeds)} seeds)."


def accuracy_over_time(curves: pd.DataFrame, metric: str = "cpu_seconds") -> str:
    """For ``plots.accuracy_over_time``."""
    known = curves.dropna(subset=["test_accuracy", metric])
    times = (
        "Times are scaled for each machine to epochs that were measured side by side."
        if "calibrated_seconds" in known
        else "The runs shared their machine."
    )
    seeds = _count(known.groupby(_CELL)["seed"].nunique())
    return f"Mean after each epoch ({seeds} seeds). {times} The learning curves show the intervals."


def over_sizes(frame: pd.DataFrame, metric: str, sizes: Mapping[str, float]) -> str:
    """For ``plots.over_sizes``."""
    known = frame[frame["task"].isin(list(sizes))].dropna(subset=[metric])
    return f"Mean with its 95 % interval as a band ({_count(known.groupby(_CELL)['seed'].nunique())} seeds)."


def trade_off(curves: pd.DataFrame, across: str, up: str, marked: float | None = None) -> str:
    """For ``plots.trade_off``."""
    seeds = curves.dropna(subset=[across, up]).groupby(_CELL)["seed"].nunique()
    line = "" if marked is None else f" The vertical line is at {marked:g}."
    return f"Each point is a mean ({_count(seeds)} seeds); lines join the points of a run in their order.{line}"


def final_accuracy(frame: pd.DataFrame, metric: str = "test_accuracy") -> str:
    """For ``plots.final_accuracy``."""
    completed = frame[(frame["status"] == "completed") & frame[metric].notna()]
    seeds = _count(completed.groupby(_CELL)["seed"].nunique())
    return f"Mean with its 95 % interval ({seeds} seeds); each light dot is one seed."


def metric_against(frame: pd.DataFrame, metric: str) -> str:
    """For ``against_plots.metric_against``."""
    seeds = _count(frame[(frame["status"] == "completed") & frame[metric].notna()].groupby(_CELL)["seed"].nunique())
    return f"Mean with its 95 % interval, as a bar or a band ({seeds} seeds); controls without theirs."


def paired_differences(evidence: Sequence[Evidence]) -> str:
    """For ``plots.paired_differences``."""
    kind = METRICS[evidence[0].quantity]
    margin = any(row.comparison.margin is not None for row in evidence)
    return " ".join(
        [
            f"Mean with its 95 % interval ({_count(row.interval.n for row in evidence)} seeds).",
            f"{'Right' if kind.higher_is_better else 'Left'} of 0 is better than the baseline.",
            "Better and worse have p < 0.05 after Holm's correction over all comparisons shown"
            + ("; equivalent differences lie within the margin (the band) by two one-sided tests." if margin else "."),
            *_power(evidence),
        ]
    )


def _power(evidence: Sequence[Evidence]) -> list[str]:
    """The smallest differences that would have been found, over all comparisons shown."""
    kind, ends = METRICS[evidence[0].quantity], []
    for corrected in (False, True):
        found = [row.smallest_difference(corrected=corrected) for row in evidence]
        known = sorted(difference for difference in found if difference is not None)
        if not known:
            return []
        ends.append(f"{kind.scale * known[0]:.{kind.digits}f} to {kind.size(known[-1])}")
    return [f"Detectable with 80 % power are differences of {ends[0]} alone, and of {ends[1]} after the correction."]


def overhead(evidence: Sequence[Evidence], *, limit: float | None) -> str:
    """For ``plots.overhead``."""
    counts = {row.interval.n for row in evidence}
    return (
        f"{tables.repeats_note(counts)} A ratio is clear where the whole interval lies on one side of "
        f"{'1' if limit is None else 'the limit of the claim'}."
    )


def loss_by_rate(points: pd.DataFrame) -> str:
    """For ``sweep_plots.loss_by_rate``."""
    return (
        f"Mean of the last epoch, with the range as a band ({_count(_seeds(points))} seeds). The optimum between the "
        "learning rates tried is read off a parabola, and drawn at the lowest loss recorded; next to a rate at which "
        "runs diverge it is at least the largest rate that trains."
    )


def optimum_by_width(optima: pd.DataFrame) -> str:
    """For ``sweep_plots.optimum_by_width``."""
    return (
        f"Mean with its 95 % interval ({_count(_seeds(optima))} seeds). Most learning rates tried are one octave "
        "apart; the optimum between them is read off a parabola. An optimum at the largest rate that trains lies "
        "between it and the one that diverges: the mark stands at its least, the bar reaches to its most."
    )


def error_by_rate(points: pd.DataFrame) -> str:
    """For ``rate_plots.error_by_rate``."""
    seeds = _count(points.groupby(["task", "algorithm"])["seed"].nunique())
    return f"Mean of the last epoch, with the range as a band ({seeds} seeds). A run that diverged counts as 100 %."


def coordinate_sizes(checks: Mapping[str, Sequence[Any]]) -> str:
    """For ``sweep_plots.coordinate_sizes``."""
    seeds = _count(len({row.seed for row in rows}) for rows in checks.values())
    return f"Mean ({seeds} seeds). An untrained output that is zero has no mark."


def _seeds(frame: pd.DataFrame) -> list[int]:
    return frame.groupby(["task", "algorithm", "units"])["seed"].nunique().tolist()


def _count(counts: Iterable[int]) -> str:
    """One n, or the smallest and the largest."""
    low, high = min(known := list(counts)), max(known)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
