"""The figures about tuning: the number of trials, their length, and how results scatter over tunings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from advanced_optimizers.experiments.evidence.metrics import Labels, ordered
from advanced_optimizers.experiments.evidence.statistics import mean
from advanced_optimizers.experiments.evidence.tunings import score, tuning_values
from advanced_optimizers.experiments.report.figures.panels import (
    Row,
    algorithm_legend,
    label_columns,
    mark_absence,
    mark_legend,
    named_rows,
    panel_grid,
    percent_scale,
)
from advanced_optimizers.experiments.report.figures.style import (
    BLACK,
    LIGHT_GRAY,
    WIDTH,
    Style,
    drawn_styles,
    make_styles,
    wrapped,
)
from advanced_optimizers.experiments.report.tables.tuning_tables import Tuning
from advanced_optimizers.experiments.studies.tuning import best_trial

_SHORT_CHOICE: dict[str, Any] = {"marker": "v", "markersize": 8, "linestyle": "", "markerfacecolor": "none"}
_FULL_CHOICE: dict[str, Any] = {"marker": "s", "markersize": 9, "linestyle": "", "markerfacecolor": "none"}
_TRIAL: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": ""}


def expected_error(expected: pd.DataFrame, *, labels: Labels, algorithms: Sequence[str] | None = None) -> Figure:
    """The expected lowest validation error by the number of trials: one panel per task, one line per algorithm.

    Args:
        expected: One row per task, algorithm and number of ``trials``, with the ``error`` as a fraction.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the study in its order; None takes those of the frame.

    Raises:
        ValueError: There is no row.
    """
    if expected.empty:
        raise ValueError("expected must hold finished tunings, got none; run the study first")
    styles = drawn_styles(expected["algorithm"], algorithms, labels)
    tasks = ordered(expected["task"], labels)
    columns = min(len(tasks), 2)
    height = 0.8 + 0.19 * -(-len(styles) // 2) + 2.4 * -(-len(tasks) // columns)
    with panel_grid(len(tasks), columns, (WIDTH, height)) as (figure, axes):
        for task, axis in zip(tasks, axes, strict=True):
            for name, style in styles.items():
                own = expected[(expected["task"] == task) & (expected["algorithm"] == name)]
                marks: dict[str, Any] = {"color": style.color, "linestyle": style.line, "marker": style.marker}
                axis.plot(own["trials"], 100 * own["error"], **marks, markersize=3, linewidth=1.1)
            percent_scale(axis, "y")
            axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
            axis.set_title(wrapped(labels.get(task, task), 38))
        label_columns(axes, columns, "Trials")
        figure.supylabel("Expected lowest validation error (%)")
        algorithm_legend(figure, styles, labels)
    return figure


def short_against_full(pairs: Sequence[tuple[Tuning, Tuning]], *, labels: Labels) -> Figure:
    """Validation error of full-length trials by that of short ones: one panel per task and algorithm.

    Args:
        pairs: The tunings with short and with full-length trials, at the same points.
        labels: Names for display, of algorithms and tasks.
    """
    styles = make_styles(short.algorithm for short, _ in pairs)
    columns = 2
    with panel_grid(len(pairs), columns, (WIDTH, 0.9 + 2.3 * -(-len(pairs) // columns))) as (figure, axes):
        for (short, full), axis in zip(pairs, axes, strict=True):
            _draw_pair(axis, short, full, styles[short.algorithm])
            names = (labels.get(short.task, short.task), labels.get(short.algorithm, short.algorithm))
            axis.set_title("\n".join(wrapped(name, 38) for name in names))
        label_columns(axes, columns, "Validation error of the short trial (%)")
        figure.supylabel("Validation error of the full-length trial (%)")
        mark_legend(figure, {"chosen by short trials": _SHORT_CHOICE, "chosen by full-length trials": _FULL_CHOICE})
    return figure


def accuracy_by_tuning(
    frame: pd.DataFrame,
    variants: Sequence[str],
    runs: int,
    *,
    labels: Labels,
    algorithms: Sequence[str] | None = None,
) -> Figure:
    """Test accuracy of the last epoch around the algorithm's mean: a line per tuning with its runs as dots.

    One panel per task. A task or an algorithm without a complete second tuning is left out.

    Args:
        frame: The runs of the tunings.
        variants: The names of the tunings, from the top down.
        runs: The number of runs per tuning.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the study in its order; None takes those of the frame.

    Raises:
        ValueError: Nothing was tuned twice.
    """
    found = tuned_again(frame, runs)
    if not found:
        raise ValueError("frame must hold something that was tuned twice, got nothing; run the study first")
    styles = drawn_styles((name for _, name in found), algorithms, labels)
    tasks = ordered((task for task, _ in found), labels)
    rows = [Row(labels.get(name, name)) for name in styles]
    xlabel = "Test accuracy, difference from the algorithm's mean (points)"
    with named_rows(len(tasks), rows, xlabel) as (figure, axes, heights):
        for task, axis in zip(tasks, axes, strict=True):
            for (name, style), y in zip(styles.items(), heights, strict=True):
                values = found.get((task, name), {})
                if not values:
                    mark_absence(axis, y)
                center = mean([mean(own) for own in values.values()]) if values else 0.0
                for index, variant in enumerate(variants):
                    offset = 0.13 * (index - (len(variants) - 1) / 2)
                    _draw_runs(axis, y + offset, [100 * (v - center) for v in values.get(variant, [])], style)
            axis.axvline(0, color=BLACK, linewidth=0.8, zorder=0)
            axis.set_title(wrapped(labels.get(task, task), 30))
    return figure


def tuned_again(frame: pd.DataFrame, runs: int) -> dict[tuple[str, str], dict[str, list[float]]]:
    """By task and algorithm, ``evidence.tunings.tuning_values`` of what has at least two tunings."""
    pairs = [] if frame.empty else frame[["task", "algorithm"]].drop_duplicates().itertuples(index=False, name=None)
    values = {(task, name): tuning_values(frame, task, name, runs) for task, name in pairs}
    return {pair: own for pair, own in values.items() if len(own) > 1}


def _draw_runs(axis: Axes, y: float, shown: Sequence[float], style: Style) -> None:
    if not shown:
        return
    axis.hlines(y, min(shown), max(shown), color=LIGHT_GRAY, linewidth=1, zorder=1)
    axis.plot(shown, [y] * len(shown), color=style.color, alpha=0.35, **{**_TRIAL, "markersize": 3})
    axis.plot(mean(shown), y, marker=style.marker, markersize=4.5, color=style.color)


def _draw_pair(axis: Axes, short: Tuning, full: Tuning, style: Style) -> None:
    other = {tuple(t.config.hyperparameters.items()): _error(score(t)) for t in full.trials}
    points = {
        key: (_error(score(t)), other[key]) for t in short.trials for key in [tuple(t.config.hyperparameters.items())]
    }
    axis.plot(*zip(*points.values(), strict=True), color=style.color, **_TRIAL)
    for tuning, mark in ((short, _SHORT_CHOICE), (full, _FULL_CHOICE)):
        key = tuple(best_trial(tuning.trials).config.hyperparameters.items())
        axis.plot(*points[key], color=BLACK, **mark)
    percent_scale(axis, "x")
    percent_scale(axis, "y")


def _error(accuracy: float) -> float:
    return 100 * (1 - accuracy)
