"""Figures of runs by epoch, time, size or another metric: few algorithms share a panel, many have a row each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels, conditions
from advanced_optimizers.experiments.evidence.statistics import mean_interval
from advanced_optimizers.experiments.report.figures.panels import (
    NAME_CHARACTERS,
    algorithm_legend,
    label_columns,
    mark_absence,
    mark_legend,
    panel_grid,
)
from advanced_optimizers.experiments.report.figures.style import (
    MAX_LINES,
    OTHERS,
    WIDTH,
    Style,
    condition_words,
    drawn_styles,
    group_of,
    wrapped,
)

Groups: TypeAlias = Mapping[str, Sequence[str]]


class _Curve(NamedTuple):
    """The mean of an algorithm's runs, and the interval where there is one."""

    x: Sequence[float]
    mean: Sequence[float]
    interval_x: Sequence[float] = ()
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class _Curves(NamedTuple):
    """All curves of a figure, by task, label noise and algorithm, and what its axes say."""

    by_panel: Mapping[tuple[str, float], Mapping[str, _Curve]]
    xlabel: str
    ylabel: str
    along: Literal["epochs", "time", "sizes", "metric"]
    log: bool = False
    marked: float | None = None
    log_x: bool = False


def learning_curves(
    curves: pd.DataFrame,
    metric: str = "test_accuracy",
    *,
    labels: Labels,
    groups: Groups | None = None,
    algorithms: Sequence[str] | None = None,
    over: str = "epoch",
    log: bool = False,
) -> Figure:
    """A metric by epoch: mean and interval over the seeds.

    A panel for each task and label noise; with several groups a row of panels, one per group. Where a panel would hold
    more than ``MAX_LINES`` algorithms, each algorithm has a row of panels instead, before the others.

    Args:
        curves: One row per run and epoch, from ``frames.curves_frame``.
        metric: A column of the frame that ``METRICS`` knows.
        labels: Names for display, of algorithms and tasks.
        groups: Algorithms by column title, such as those over one base; None draws all of them in each panel.
        algorithms: All algorithms of the study in its order; None takes those of the frame.
        over: What the points of a run are, if not epochs.
        log: Whether the vertical axis is logarithmic.

    Raises:
        ValueError: The frame holds no value of the metric.
    """
    known = curves.dropna(subset=[metric]) if metric in curves else curves.iloc[:0]
    if known.empty:
        raise ValueError(f"curves must hold values of {metric!r}, got none; run the study first")
    styles = drawn_styles(known["algorithm"], algorithms, labels)
    by_panel = {
        condition: {str(name): _by_epoch(runs, metric) for name, runs in panel.groupby("algorithm")}
        for condition, panel in _panels(known, labels).items()
    }
    drawn = _Curves(by_panel, over.capitalize(), METRICS[metric].label, "epochs", log)
    return _draw(drawn, styles, labels, groups)


def accuracy_over_time(
    curves: pd.DataFrame, *, labels: Labels, groups: Groups | None = None, algorithms: Sequence[str] | None = None
) -> Figure:
    """Test accuracy after each epoch against the CPU time that training took until then; laid out as learning curves.

    Args:
        curves: One row per run and epoch, from ``frames.curves_frame``, or from ``calibration.calibrate``.
        labels: Names for display, of algorithms and tasks.
        groups: Not read: methods over different bases are compared in one panel.
        algorithms: All algorithms of the study in its order; None takes those of the frame.

    Raises:
        ValueError: The frame holds no times.
    """
    known = curves.dropna(subset=["test_accuracy", "cpu_seconds"]) if "cpu_seconds" in curves else curves.iloc[:0]
    if known.empty:
        raise ValueError("curves must hold values of 'cpu_seconds', got none; run the study first")
    seconds = "calibrated_seconds" if "calibrated_seconds" in known else "cpu_seconds"
    known = known.assign(time=known.sort_values("epoch").groupby("run_id")[seconds].cumsum())
    styles = drawn_styles(known["algorithm"], algorithms, labels)
    by_panel = {
        condition: {str(name): _by_column(runs, "time") for name, runs in panel.groupby("algorithm")}
        for condition, panel in _panels(known, labels).items()
    }
    ylabel = METRICS["test_accuracy"].label
    return _draw(_Curves(by_panel, "CPU time of training (s)", ylabel, "time"), styles, labels, None)


def over_sizes(
    frame: pd.DataFrame,
    metric: str,
    sizes: Mapping[str, float],
    *,
    over: str,
    labels: Labels,
    algorithms: Sequence[str] | None = None,
) -> Figure:
    """A metric at the end by a number in which tasks differ: mean and interval over the seeds, on a logarithmic axis.

    Args:
        frame: One row per run, from ``frames.records_frame``.
        metric: A column of the frame that ``METRICS`` knows.
        sizes: By task, the number, > 0.
        over: What the number is.
        labels: Names for display, of algorithms.
        algorithms: All algorithms of the study in its order; None takes those of the frame.

    Raises:
        ValueError: The frame holds no value of the metric on one of the tasks.
    """
    known = frame[frame["task"].isin(list(sizes))].dropna(subset=[metric])
    if known.empty:
        raise ValueError(f"frame must hold values of {metric!r} on {sorted(sizes)}, got none; run the study first")
    known = known.assign(epoch=known["task"].map(dict(sizes)))
    styles = drawn_styles(known["algorithm"], algorithms, labels)
    own = {str(name): _by_epoch(runs, metric) for name, runs in known.groupby("algorithm")}
    return _draw(_Curves({("", 0.0): own}, over, METRICS[metric].label, "sizes"), styles, labels, None)


def trade_off(
    curves: pd.DataFrame,
    across: str,
    up: str,
    *,
    labels: Labels,
    algorithms: Sequence[str] | None = None,
    log: bool = False,
    marked: float | None = None,
) -> Figure:
    """One metric by another, each a mean over the seeds; the points of a run are joined in their order.

    A panel for each task and label noise, unless one would hold more than ``MAX_LINES`` algorithms.

    Args:
        curves: One row per run and point, from ``frames.curves_frame``.
        across: The metric of the horizontal axis, a column that ``METRICS`` knows.
        up: That of the vertical axis.
        labels: Names for display, of algorithms and tasks.
        algorithms: All algorithms of the study in its order; None takes those of the frame.
        log: Whether its axis is logarithmic; only values above 0 are then drawn.
        marked: A value of ``across`` that gets a vertical line.

    Raises:
        ValueError: The frame holds no values of both metrics.
    """
    known = curves.dropna(subset=[across, up]) if {across, up} <= set(curves) else curves.iloc[:0]
    known = known[known[across] > 0] if log else known
    if known.empty:
        raise ValueError(f"curves must hold values of {across!r} and {up!r}, got none; run the study first")
    styles = drawn_styles(known["algorithm"], algorithms, labels)
    known = known.assign(**{across: known[across] * METRICS[across].scale})
    by_panel = {
        condition: {str(name): _by_column(runs, across, up) for name, runs in panel.groupby("algorithm")}
        for condition, panel in _panels(known, labels).items()
    }
    drawn = _Curves(by_panel, METRICS[across].label, METRICS[up].label, "metric", marked=marked, log_x=log)
    if max(len(own) for own in by_panel.values()) > MAX_LINES:
        return _draw_rows(drawn, styles, labels)
    return _draw_panels(drawn, styles, labels, {"": list(styles)})


def _panels(known: pd.DataFrame, labels: Labels) -> dict[tuple[str, float], pd.DataFrame]:
    return {
        (task, noise): known[(known["task"] == task) & (known["label_noise"] == noise)]
        for task, noise in conditions(known, labels)
    }


def _by_epoch(runs: pd.DataFrame, metric: str) -> _Curve:
    scale = METRICS[metric].scale
    # The t-interval of two or three seeds can leave the range of a share; a band there would say nothing.
    lowest, highest = (0.0, 100.0) if METRICS[metric].unit == "%" else (-math.inf, math.inf)
    by_epoch = runs.groupby("epoch")[metric]
    means = scale * by_epoch.mean()
    epochs = [int(epoch) for epoch in means.index]
    values = {epoch: by_epoch.get_group(epoch).tolist() for epoch in epochs}
    intervals = {epoch: mean_interval(own) for epoch, own in values.items() if len(own) > 1}
    return _Curve(
        x=epochs,
        mean=means.tolist(),
        interval_x=list(intervals),
        low=[max(lowest, scale * interval.low) for interval in intervals.values()],
        high=[min(highest, scale * interval.high) for interval in intervals.values()],
    )


def _by_column(runs: pd.DataFrame, column: str, metric: str = "test_accuracy") -> _Curve:
    means = runs.groupby("epoch")[[column, metric]].mean()
    return _Curve(means[column].tolist(), (METRICS[metric].scale * means[metric]).tolist())


def _draw(curves: _Curves, styles: Mapping[str, Style], labels: Labels, groups: Groups | None) -> Figure:
    if groups is None or len(groups) < 2:  # a column for one group would repeat what the legend says
        groups = {"": [name for group in groups.values() for name in group] if groups else list(styles)}
    members = {title: [name for name in styles if name in group] for title, group in groups.items()}
    styles = {name: style for name, style in styles.items() if any(name in group for group in members.values())}
    if max(len(group) for group in members.values()) > MAX_LINES:
        return _draw_rows(curves, styles, labels)
    return _draw_panels(curves, styles, labels, members)


def _draw_panels(
    curves: _Curves, styles: Mapping[str, Style], labels: Labels, members: Mapping[str, Sequence[str]]
) -> Figure:
    """All algorithms of a group in one panel: a column for each of several groups, or a panel for each condition."""
    grouped = len(members) > 1
    panels = [(condition, name) for condition in curves.by_panel for name in members]
    titles = [_title(words, grouped) for words in condition_words(list(curves.by_panel), labels) for _ in members]
    columns = len(members) if grouped else min(len(panels), 2)
    height = 0.8 + 0.19 * -(-len(styles) // 2) + (1.6 if grouped else 2.0) * -(-len(panels) // columns)
    sharey: Literal["row"] | bool = "row" if grouped else False
    with panel_grid(len(panels), columns, (WIDTH, height), sharey=sharey) as (figure, axes):
        for index, ((condition, name), axis) in enumerate(zip(panels, axes, strict=True)):
            drawn = [algorithm for algorithm in members[name] if algorithm in curves.by_panel[condition]]
            for algorithm in drawn:
                _draw_curve(axis, curves.by_panel[condition][algorithm], styles[algorithm])
            if not drawn:
                mark_absence(axis)
            _limit(axis, curves, condition)
            if index % len(members) == 0:
                axis.set_title(titles[index], loc="left")
            if grouped and index < columns:
                above_title = "\n" * (titles[0].count("\n") + 1)
                axis.set_title(wrapped(name, 64 // columns) + above_title, fontweight="bold")
        label_columns(axes, columns, curves.xlabel)
        figure.supylabel(curves.ylabel)
        algorithm_legend(figure, styles, labels)
    return figure


def _draw_rows(curves: _Curves, styles: Mapping[str, Style], labels: Labels) -> Figure:
    """A row of panels for each algorithm, one per condition, before its baseline and the other algorithms."""
    baselines = {group_of(name) for name in styles if group_of(name) != name} & set(styles)
    rows = [name for name in styles if name not in baselines]
    found, columns = list(curves.by_panel), len(curves.by_panel)
    names = [wrapped(labels.get(name, name), NAME_CHARACTERS if columns < 3 else 18) for name in rows]
    titles = [
        "\n".join(wrapped(part, 52 // columns) for part in words if part) for words in condition_words(found, labels)
    ]
    row_height = max(0.16 * (_most_lines(names) + 1), min(0.75, 8 / len(rows)))
    size = (WIDTH, 1.05 + 0.16 * _most_lines(titles) + row_height * len(rows))
    with panel_grid(len(rows) * columns, columns, size, sharex="col", sharey="col") as (figure, axes):
        for index, axis in enumerate(axes):
            row, column = divmod(index, columns)
            own = curves.by_panel[found[column]]
            if rows[row] in own:
                _draw_among_others(axis, own, rows[row], styles)
            else:
                mark_absence(axis)
            if not curves.log:
                axis.yaxis.set_major_locator(MaxNLocator(3 if row_height > 0.6 else 2, steps=[1, 2, 5, 10]))
            _limit(axis, curves, found[column])
            if row == 0:
                axis.set_title(titles[column])
            if column == 0:
                axis.set_ylabel(names[row], rotation=0, ha="right", va="center")
        figure.align_ylabels(axes)
        label_columns(axes, columns, curves.xlabel)
        figure.supylabel(curves.ylabel)
        shown = {labels.get(name, name): _thin(style) for name, style in styles.items() if name in baselines}
        mark_legend(figure, {**shown, "the other algorithms": OTHERS})
    return figure


def _draw_among_others(axis: Axes, own: Mapping[str, _Curve], name: str, styles: Mapping[str, Style]) -> None:
    """A curve before that of its baseline, which is thin, and before those of the other algorithms, which are gray."""
    base = group_of(name)
    for other in styles:
        if other in own and other not in (name, base):
            axis.plot(own[other].x, own[other].mean, **OTHERS)
    if base in own and base != name:
        axis.plot(own[base].x, own[base].mean, **_thin(styles[base]))
    _draw_curve(axis, own[name], styles[name], markersize=3)


def _thin(style: Style) -> dict[str, Any]:
    return {"color": style.color, "linestyle": style.line, "linewidth": 1}


def _draw_curve(axis: Axes, curve: _Curve, style: Style, markersize: float | None = None) -> None:
    every = -(-len(curve.x) // 30)  # more marks would run into one another
    marks: dict[str, Any] = {"marker": style.marker, "markersize": markersize, "markevery": every}
    axis.plot(curve.x, curve.mean, color=style.color, linestyle=style.line, **marks)
    axis.fill_between(curve.interval_x, curve.low, curve.high, color=style.color, alpha=0.2, linewidth=0)


def _limit(axis: Axes, curves: _Curves, condition: tuple[str, float]) -> None:
    """The same range for all panels of a condition, those without runs included."""
    if curves.along == "epochs":
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        axis.set_xlim(0.5, max(curve.x[-1] for curve in curves.by_panel[condition].values()) + 0.5)
    elif curves.along == "sizes":
        sizes = sorted({x for curve in curves.by_panel[condition].values() for x in curve.x})
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
    elif curves.log_x:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    elif curves.along == "time":
        axis.set_xlim(left=0)
    if curves.marked is not None:
        axis.axvline(curves.marked, linewidth=0.8, color="#666666", zorder=0)
    if curves.log:  # an interval that reaches below zero must not make the axis endless
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_ylim(bottom=0.5 * min(min(curve.mean) for curve in curves.by_panel[condition].values()))


def _title(words: tuple[str, str], grouped: bool) -> str:
    """A condition's title: in a line that may run over all columns, or in its own panel's width."""
    parts = [part for part in words if part]
    return wrapped(", ".join(parts), 80) if grouped else "\n".join(wrapped(part, 38) for part in parts)


def _most_lines(texts: Sequence[str]) -> int:
    return max(text.count("\n") + 1 for text in texts)
