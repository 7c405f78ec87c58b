"""One function per kind of figure. Each returns a matplotlib Figure that fits the report's text width.

Every figure says n and what its band is: a 95 % t-interval over the seeds. ``figure_style`` holds the house style.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from advanced_optimizers.experiments.evidence.comparisons import Comparison, Evidence
from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels, conditions, noise_words, ordered
from advanced_optimizers.experiments.evidence.statistics import mean, mean_interval
from advanced_optimizers.experiments.report.figure_style import (
    BLACK,
    DPI,
    GRAY,
    HOUSE_STYLE,
    VERMILLION,
    WIDTH,
    algorithm_legend,
    caption,
    count_words,
    get_style,
    named_rows,
    panel_grid,
    wrapped,
)

_ABSENT = "not run"

_COLORS = 128


def learning_curves(
    curves: pd.DataFrame,
    metric: str = "test_accuracy",
    *,
    labels: Labels,
    groups: Mapping[str, Sequence[str]] | None = None,
    title: str | None = None,
) -> Figure:
    """A metric by epoch: a panel for each task and label noise or, with groups, a row of panels, one a group.

    Args:
        curves: One row a run and epoch, from ``frames.curves_frame``.
        metric: A column of the frame that ``METRICS`` knows.
        labels: Names for display, of algorithms and tasks.
        groups: Algorithms by column title, such as those over one base; None draws all of them in each panel.
        title: The figure's title; None gives the metric's name.

    Raises:
        ValueError: The frame holds no value of the metric.
    """
    known = curves.dropna(subset=[metric]) if metric in curves else curves.iloc[:0]
    if known.empty:
        raise ValueError(f"curves must hold values of {metric!r}, got none; run the study first")
    drawn = ordered(known["algorithm"], labels)
    members = {name: [a for a in drawn if a in group] for name, group in (groups or {"": drawn}).items()}
    panels = [(*condition, name) for condition in conditions(known, labels) for name in members]
    columns = len(members) if groups else min(len(panels), 2)
    lines = -(-len(panels) // columns)
    size = (WIDTH, 1.3 + 1.75 * lines)
    with panel_grid(len(panels), columns, size, sharey="row" if groups else False) as (figure, axes):
        for index, ((task, label_noise, name), axis) in enumerate(zip(panels, axes, strict=True)):
            panel = known[(known["task"] == task) & (known["label_noise"] == label_noise)]
            _draw_curves(axis, panel, metric, members[name])
            axis.set_xlim(0.5, panel["epoch"].max() + 0.5)
            if groups and index < columns:
                axis.set_title(f"{name}\n", fontweight="bold")  # the empty line leaves room for the row's title
            if name == next(iter(members)):
                axis.set_title(f"{labels.get(task, task)}, {noise_words(label_noise)}", loc="left")
            if index % columns == 0:
                axis.set_ylabel(wrapped(METRICS[metric].label, 22))
            if index + columns >= len(panels):
                axis.set_xlabel("Epoch")
        algorithm_legend(figure, [a for a in drawn if any(a in group for group in members.values())], labels)
        seeds = known.groupby(["task", "label_noise", "algorithm"])["seed"].nunique()
        caption(figure, title or METRICS[metric].name, f"Mean and 95 % interval (band), {count_words(seeds)} seeds.")
    return figure


def flipping_errors(
    curves: pd.DataFrame, *, labels: Labels, groups: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """Relative flipping error by epoch: the share of the wrong test samples that were right at an earlier epoch."""
    title = "Share of the wrong test samples that were right at an earlier epoch"
    return learning_curves(curves, "relative_flipping_error", labels=labels, groups=groups, title=title)


def consistency(curves: pd.DataFrame, *, labels: Labels, groups: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """Mean cosine between gradient and memory by epoch, of the algorithms that report it."""
    title = "Agreement of the gradient with the memory of past gradients"
    return learning_curves(curves, "consistency", labels=labels, groups=groups, title=title)


def transition(curves: pd.DataFrame, *, labels: Labels, groups: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """How many blocks are not trained by backpropagation, by epoch, of the algorithms that report it."""
    title = "Blocks below the transition, trained without backpropagation"
    return learning_curves(curves, "transition", labels=labels, groups=groups, title=title)


def prediction(curves: pd.DataFrame, *, labels: Labels, groups: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """How much nearer to the next gradient the correction brings a gradient, of the algorithms that report it."""
    title = "What gradient correction adds to the cosine of a gradient with the next one"
    return learning_curves(curves, "prediction_gain", labels=labels, groups=groups, title=title)


def accuracy_over_time(
    curves: pd.DataFrame, *, labels: Labels, groups: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """Test accuracy after each epoch against the CPU time that training took until then; one panel a condition.

    Args:
        curves: One row a run and epoch, from ``frames.curves_frame``, or from ``calibration.calibrate``.
        labels: Names for display, of algorithms and tasks.
        groups: Not read: methods over different bases are compared in one panel.

    Raises:
        ValueError: The frame holds no times.
    """
    known = curves.dropna(subset=["test_accuracy", "cpu_seconds"]) if "cpu_seconds" in curves else curves.iloc[:0]
    if known.empty:
        raise ValueError("curves must hold values of 'cpu_seconds', got none; run the study first")
    seconds = "calibrated_seconds" if "calibrated_seconds" in known else "cpu_seconds"
    known = known.assign(time=known.sort_values("epoch").groupby("run_id")[seconds].cumsum())
    algorithms, panels = ordered(known["algorithm"], labels), conditions(known, labels)
    columns = min(len(panels), 2)
    size = (WIDTH, 1.3 + 2.3 * -(-len(panels) // columns))
    with panel_grid(len(panels), columns, size, sharey=False) as (figure, axes):
        for index, ((task, label_noise), axis) in enumerate(zip(panels, axes, strict=True)):
            panel = known[(known["task"] == task) & (known["label_noise"] == label_noise)]
            for algorithm in algorithms:
                style = get_style(algorithm)
                means = panel[panel["algorithm"] == algorithm].groupby("epoch")[["time", "test_accuracy"]].mean()
                scaled = METRICS["test_accuracy"].scale * means["test_accuracy"]
                axis.plot(means["time"], scaled, color=style.color, marker=style.marker, linestyle=style.line)
            axis.set_xlim(left=0)
            axis.set_title(f"{labels.get(task, task)}, {noise_words(label_noise)}", loc="left")
            axis.set_xlabel("CPU time of training (s)")
            if index % columns == 0:
                axis.set_ylabel(METRICS["test_accuracy"].label)
        algorithm_legend(figure, algorithms, labels)
        seeds = known.groupby(["task", "label_noise", "algorithm"])["seed"].nunique()
        scale = (
            "The runs shared their machine."
            if seconds == "cpu_seconds"
            else "Times as recorded, scaled for each machine to epochs measured side by side."
        )
        note = (
            f"Means over the seeds ({count_words(seeds)}), one mark an epoch (95 % interval: see the learning curves). "
            f"{scale}"
        )
        caption(figure, "Test accuracy by time", note)
    return figure


def final_accuracy(frame: pd.DataFrame, metric: str = "test_accuracy", *, labels: Labels) -> Figure:
    """A metric of the last epoch: every seed as a light dot, the mean with its interval; one panel a condition.

    Args:
        frame: One row a run, from ``frames.records_frame``.
        metric: A column of the frame that ``METRICS`` knows.
        labels: Names for display, of algorithms and tasks; its order is that of the rows.

    Raises:
        ValueError: The frame holds no completed run.
    """
    completed = frame[(frame["status"] == "completed") & frame[metric].notna()] if len(frame) else frame
    if completed.empty:
        raise ValueError("frame must hold completed runs, got none; run the study first")
    algorithms = ordered(completed["algorithm"], labels)
    cells = completed.groupby(["task", "label_noise", "algorithm"])
    panels, kind = conditions(completed, labels), METRICS[metric]
    with named_rows(len(panels), [labels.get(name, name) for name in algorithms]) as (figure, axes):
        for (task, label_noise), axis in zip(panels, axes, strict=True):
            for y, algorithm in enumerate(algorithms):
                if (task, label_noise, algorithm) in cells.groups:
                    values = cells.get_group((task, label_noise, algorithm))[metric].astype(float)
                    _draw_dots(axis, y, [kind.scale * value for value in values], algorithm)
                else:
                    _draw_absence(axis, y)
            axis.set_title(f"{labels.get(task, task)}\n{noise_words(label_noise)}")
            axis.set_xlabel(kind.label)
        note = f"Mean with 95 % interval, {count_words(cells['seed'].nunique())} seeds; light dots are single seeds."
        caption(figure, f"{kind.name}, last epoch", note)
    return figure


def paired_differences(evidence: Sequence[Evidence], *, labels: Labels) -> Figure:
    """Differences of one metric against the baseline, paired by seed, with the line of no difference.

    Args:
        evidence: Rows of a verdict; all of one metric.
        labels: Names for display, of algorithms and tasks.

    Raises:
        ValueError: There is no row, or the rows are of several metrics.
    """
    quantities = sorted({row.quantity for row in evidence})
    if len(quantities) != 1 or quantities[0] not in METRICS:
        raise ValueError(f"evidence must hold rows of one metric, got {quantities}")
    kind = METRICS[quantities[0]]
    panels, names = _by_condition(evidence), _row_names(evidence, labels)
    with named_rows(len(panels), names) as (figure, axes):
        for ((task, label_noise), rows), axis in zip(panels.items(), axes, strict=True):
            axis.axvline(0, color=BLACK, linewidth=1)
            for y in set(range(len(names))) - {names.index(_versus(row.comparison, labels)) for row in rows}:
                _draw_absence(axis, y)
            for row in rows:
                y = names.index(_versus(row.comparison, labels))
                _draw_interval(axis, y, row, kind.scale, filled=row.outcome != "tie")
                if row.comparison.claimed is not None:
                    _draw_claim(axis, y, kind.scale * row.comparison.claimed * (1 if kind.higher_is_better else -1))
            axis.set_title(f"{labels.get(task, task)}\n{noise_words(label_noise)}")
            axis.set_xlabel(f"Difference ({kind.difference_unit})" if kind.difference_unit else "Difference")
        side = "Right" if kind.higher_is_better else "Left"
        cross = " Cross: the gain claimed." if any(row.comparison.claimed is not None for row in evidence) else ""
        note = (
            f"Mean difference with 95 % interval, {count_words(row.interval.n for row in evidence)} seeds. {side} of 0 "
            f"is better. Filled: p < 0.05 after Holm's correction over what is shown; hollow: a tie.{cross}"
        )
        caption(figure, f"{kind.name} against the baseline, paired by seed", note)
    return figure


def overhead(evidence: Sequence[Evidence], *, limit: float, labels: Labels) -> Figure:
    """Ratios of the time of an epoch to the baseline's, with the lines of no cost and of the claim's limit.

    Args:
        evidence: Rows of an overhead verdict.
        limit: The largest ratio that the claim allows.
        labels: Names for display, of algorithms and tasks.

    Raises:
        ValueError: There is no row, or a row is no ratio.
    """
    if not evidence or any(row.quantity != "ratio" for row in evidence):
        raise ValueError(f"evidence must hold ratios, got {sorted({row.quantity for row in evidence})}")
    panels, names = _by_condition(evidence), _row_names(evidence, labels)
    with named_rows(len(panels), names) as (figure, axes):
        for ((task, _), rows), axis in zip(panels.items(), axes, strict=True):
            axis.axvline(1, color=BLACK, linewidth=1)
            axis.axvline(limit, color=VERMILLION, linewidth=1.4, linestyle=":")
            for row in rows:
                y = names.index(_versus(row.comparison, labels))
                _draw_interval(axis, y, row, 1.0, filled=row.outcome != "unclear")
            axis.set_title(labels.get(task, task))
            axis.set_xlabel("Time of an epoch / baseline's time")
        note = (
            f"Geometric mean with 95 % interval, {count_words(row.interval.n for row in evidence)} pairs of epochs "
            f"run in turn. Dotted: the limit, {limit:g}. Filled: clearly on one side of it."
        )
        caption(figure, "Training overhead", note)
    return figure


def save_figure(figure: Figure, path: Path, run_ids: Iterable[str], sources: Iterable[str] = ()) -> Path:
    """Writes a figure as PNG and, beside it, a JSON file that lists what it was drawn from.

    The same records give the same bytes: nothing in the file says when it was drawn.

    Args:
        figure: The figure.
        path: The PNG's path; its folder is made.
        run_ids: The runs that the figure shows.
        sources: Other files that it shows, relative to the project's root.

    Returns:
        The PNG's path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    with plt.rc_context(HOUSE_STYLE):
        figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None}, facecolor="white")
    # The figures have few colours; a palette makes the files, and the notebooks that hold them, several times smaller.
    Image.open(drawn).convert("RGB").quantize(_COLORS).save(path, optimize=True, dpi=(DPI, DPI))
    path.with_suffix(".json").write_text(render_sidecar(path.name, run_ids, sources), encoding="utf-8")
    return path


def render_sidecar(name: str, run_ids: Iterable[str], sources: Iterable[str] = ()) -> str:
    """The text of the JSON file beside a figure."""
    content = {"figure": name, "run_ids": sorted(set(run_ids)), "sources": sorted(set(sources))}
    return json.dumps(content, indent=1) + "\n"


def _draw_curves(axis: Axes, panel: pd.DataFrame, metric: str, algorithms: Sequence[str]) -> None:
    if not panel["algorithm"].isin(algorithms).any():
        axis.text(0.5, 0.5, _ABSENT, transform=axis.transAxes, ha="center", va="center", color=GRAY)
    for algorithm in algorithms:
        style, scale = get_style(algorithm), METRICS[metric].scale
        # The t-interval of two or three seeds can leave the range of a share; a band there would say nothing.
        lowest, highest = (0.0, 100.0) if METRICS[metric].unit == "%" else (-math.inf, math.inf)
        by_epoch = panel[panel["algorithm"] == algorithm].groupby("epoch")[metric]
        means = scale * by_epoch.mean()
        axis.plot(means.index, means, color=style.color, marker=style.marker, linestyle=style.line)
        several = [(epoch, mean_interval(values.tolist())) for epoch, values in by_epoch if len(values) > 1]
        axis.fill_between(
            [epoch for epoch, _ in several],
            [max(lowest, scale * interval.low) for _, interval in several],
            [min(highest, scale * interval.high) for _, interval in several],
            color=style.color,
            alpha=0.2,
            linewidth=0,
        )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_dots(axis: Axes, y: float, values: Sequence[float], algorithm: str) -> None:
    style = get_style(algorithm)
    axis.plot(values, [y + 0.25] * len(values), linestyle="", marker="o", color=style.color, alpha=0.3)
    if len(values) > 1:
        interval = mean_interval(values)
        axis.hlines(y, interval.low, interval.high, color=style.color, linewidth=1.6)
    axis.plot(mean(values), y, marker=style.marker, markersize=6, color=style.color)


def _draw_interval(axis: Axes, y: float, row: Evidence, scale: float, *, filled: bool) -> None:
    style = get_style(row.comparison.algorithm)
    axis.hlines(y, scale * row.interval.low, scale * row.interval.high, color=style.color, linewidth=1.6)
    face = style.color if filled else "white"
    axis.plot(
        scale * row.interval.estimate,
        y,
        marker=style.marker,
        markersize=6,
        color=style.color,
        markerfacecolor=face,
        markeredgewidth=1.4,
    )


def _draw_absence(axis: Axes, y: float) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axis.text(0.5, y, _ABSENT, transform=axis.get_yaxis_transform(), ha="center", va="center", color=GRAY, bbox=box)


def _draw_claim(axis: Axes, y: float, gain: float) -> None:
    axis.plot(gain, y, marker="x", markersize=6, markeredgewidth=1.6, color=VERMILLION, linestyle="")


def _by_condition(evidence: Sequence[Evidence]) -> dict[tuple[str, float], list[Evidence]]:
    panels: dict[tuple[str, float], list[Evidence]] = {}
    for row in evidence:
        panels.setdefault((row.comparison.task, row.comparison.label_noise), []).append(row)
    return panels


def _versus(comparison: Comparison, labels: Labels) -> str:
    algorithm, baseline = comparison.algorithm, comparison.baseline
    return f"{labels.get(algorithm, algorithm)} vs {labels.get(baseline, baseline)}"


def _row_names(evidence: Sequence[Evidence], labels: Labels) -> list[str]:
    return list(dict.fromkeys(_versus(row.comparison, labels) for row in evidence))
