"""Figures of a metric against another recorded quantity, with those that have no value of it as lines across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels, conditions
from advanced_optimizers.experiments.evidence.statistics import mean, mean_interval
from advanced_optimizers.experiments.report.figures.panels import panel_grid
from advanced_optimizers.experiments.report.figures.style import BLUE, WIDTH, Style, drawn_styles, wrapped
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS


def metric_against(
    frame: pd.DataFrame, metric: str, against: str, *, labels: Labels, algorithms: Sequence[str] | None = None
) -> Figure:
    """The mean of a metric, with its interval, at each value of another quantity; one panel per task.

    Algorithms whose runs have a value of that quantity are points, joined in its order. The others are horizontal
    lines, those of baselines with their interval as a band.

    Args:
        frame: One row per run, from ``frames.records_frame``.
        metric: A column of the frame that ``METRICS`` knows: the vertical axis.
        against: Another one, with positive values or NaN: the horizontal axis, which is logarithmic.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the study in its order; None takes those of the frame.

    Raises:
        ValueError: No completed run has values of both.
    """
    known = frame[(frame["status"] == "completed") & frame[metric].notna()] if len(frame) else frame
    if known.empty or not known[against].notna().any():
        raise ValueError(f"frame must hold completed runs with {metric} and {against}, got none; run the study first")
    tasks = [task for task, _ in conditions(known, labels)]
    styles = drawn_styles(known["algorithm"], algorithms, labels)
    lines = len(styles)
    with panel_grid(len(tasks), len(tasks), (WIDTH, 3.0 + 0.1 * lines), sharey=False) as (figure, axes):
        entries: dict[str, Artist] = {}
        for task, axis in zip(tasks, axes, strict=True):
            panel = known[known["task"] == task]
            _draw_points(axis, panel[panel[against].notna()], metric, against)
            _draw_lines(axis, panel[panel[against].isna()], metric, styles, labels)
            values = sorted({f"{value:.2g}" for value in panel[against].dropna()}, key=float)
            axis.set_xscale("log")
            axis.set_xticks([float(value) for value in values], values)
            _keep_to_scale(axis, metric)
            axis.minorticks_off()
            axis.set_xlabel(METRICS[against].label)
            axis.set_ylabel(METRICS[metric].label)
            axis.set_title(wrapped(labels.get(task, task), 60 // len(tasks)), loc="left")
            handles, names = axis.get_legend_handles_labels()
            entries |= dict(zip(names, handles, strict=True))
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_points(axis: Axes, runs: pd.DataFrame, metric: str, against: str) -> None:
    scale, at = METRICS[metric].scale, []
    for _, own in runs.groupby("algorithm"):
        values = [scale * value for value in own[metric].astype(float)]
        x = mean(own[against].astype(float).tolist())
        at.append((x, mean(values)))
        if len(values) > 1:
            interval = mean_interval(values)
            axis.vlines(x, interval.low, interval.high, color=BLUE, linewidth=1.6)
    at.sort()
    axis.plot(*zip(*at, strict=True), color=BLUE, marker="o", markersize=5, label=f"by {METRICS[against].name}")


def _draw_lines(axis: Axes, runs: pd.DataFrame, metric: str, styles: dict[str, Style], labels: Labels) -> None:
    scale = METRICS[metric].scale
    for name, style in styles.items():
        values = [scale * value for value in runs.loc[runs["algorithm"] == name, metric].astype(float)]
        if not values:
            continue
        look: dict[str, Any] = {"color": style.color, "linestyle": style.line, "marker": style.marker, "clip_on": False}
        axis.axhline(mean(values), label=wrapped(labels.get(name, name), 34), **look)
        if len(values) > 1 and not getattr(ALGORITHMS.get(name), "control", False):
            interval = mean_interval(values)
            axis.axhspan(interval.low, interval.high, color=style.color, alpha=0.15, linewidth=0)


def _keep_to_scale(axis: Axes, metric: str) -> None:
    """Ends the axis of a share at 0 and at its best value: the interval of few seeds may reach beyond."""
    best, scale = METRICS[metric].best, METRICS[metric].scale
    if best is not None:
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, 0.0), min(high, scale * best))
