"""The figures of a comparison against anchors: what each shows of the records, its caption and its note."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from advanced_optimizers.experiments.evidence.contests import Ruling
from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.statistics import Interval, mean, mean_interval
from advanced_optimizers.experiments.evidence.tunability import good_range
from advanced_optimizers.experiments.records.frames import epochs_to
from advanced_optimizers.experiments.report.figures.contest_plots import SHOWN_MARGINS, Change, forest, robustness
from advanced_optimizers.experiments.report.figures.families import Families
from advanced_optimizers.experiments.report.figures.multiples import Line, Trials, line_multiples, rate_multiples
from advanced_optimizers.experiments.report.results.measured import ONE_RUN_PATH
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.report.tables.referee_tables import (
    changes_by_setting,
    expected,
    rate_sensitivities,
    scores_of,
    settings_of,
)
from advanced_optimizers.experiments.report.tables.tuning_tables import Tuning
from advanced_optimizers.experiments.studies.referee import Referee
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

_LOWEST = -10.0  # points below the best trial; all lower ones are at the edge
_TARGETS = 40
_LEAST_ERROR = 0.01  # %, on a logarithmic axis, where no error at all has no place
_ERROR = "Test error (%)"
_EPOCHS = "Epochs"
Tunings = Mapping[str, Sequence[Tuning]]


def forest_figure(study: Referee, rulings: Sequence[Ruling], families: Families, frame: pd.DataFrame) -> StudyFigure:
    """The differences to the anchors, with verdicts."""
    margin = study.margins.get(study.tasks[0].name)
    unit = rulings[0].unit
    units = sorted({ruling.result.difference.n for ruling in rulings})
    notes = [
        f"Mean with its 95 % interval (n = {', '.join(map(str, units))} {unit}).",
        "Within a family, rows are sorted by the estimate, which is not a ranking: neighbors were not compared.",
    ]
    if margin is None:
        notes.append("On this task nothing is decided.")
    else:
        notes.append(
            f"The band is the margin; beyond {100 * SHOWN_MARGINS * margin:g} points a triangle has the value. "
            f"Small: by less than the margin. Undecided: in brackets the number of {unit} that would find a difference "
            "as large as the margin."
        )
    number = "1 comparison" if len(rulings) == 1 else f"{len(rulings)} comparisons"
    return StudyFigure(
        f"difference in test accuracy from each anchor, and the verdict ({number})",
        partial(forest, rulings, families, labels=labels()),
        _clean_runs(study, frame),
        note=" ".join(notes),
    )


def trials_figure(tunings: Tunings, families: Families) -> StudyFigure:
    """The expected best of so many trials."""
    lines = {}
    for name, own in tunings.items():
        best = expected(own)
        estimates, low, high = (
            [_error(value) for value in ends] for ends in zip(*((e.estimate, e.high, e.low) for e in best), strict=True)
        )
        lines[name] = Line(range(1, len(best) + 1), estimates, low, high)
    return _curves(
        "expected lowest validation error by the number of trials",
        lines,
        families,
        [trial.run_id for own in tunings.values() for tuning in own for trial in tuning.trials],
        xlabel="Trials",
        ylabel="Expected lowest validation error (%)",
        note="The mean over all choices of that many of a tuning's trials, without replacement, and over the tunings, "
        "with a bootstrap over these as a band. At 1: a rate that is picked blindly from the range.",
    )


def rates_figure(tunings: Tunings, families: Families) -> StudyFigure:
    """The score of every trial by its rate."""
    shown = {name: _by_rate(own) for name, own in tunings.items()}
    run_ids = [trial.run_id for own in tunings.values() for tuning in own for trial in tuning.trials]
    return StudyFigure(
        f"validation accuracy of every trial by its rate ({len(run_ids)} trials)",
        partial(rate_multiples, shown, families, labels=labels(), lowest=_LOWEST),
        tuple(run_ids),
        note="One octave doubles the rate, whatever plays the learning rate's part. The band is what loses at most a "
        "point to the best trial. Above it, a bar over the rates that do so after smoothing, and a tick for each "
        "tuning's choice. Where more than the rate is tuned, trials at one rate differ in the rest as well.",
    )


def _by_rate(tunings: Sequence[Tuning]) -> Trials:
    rate = ALGORITHMS[tunings[0].algorithm].rate
    space = tunings[0].ranges[rate]
    middle = math.log2(space.low * space.high) / 2
    rates = [value for tuning in tunings for value in tuning.values(rate)]
    scores = [value for tuning in tunings for value in scores_of(tuning)]
    good = good_range(rates, scores)
    return Trials(
        octaves=[math.log2(value) - middle for value in rates],
        points=[100 * (value - max(scores)) for value in scores],
        good=(math.log2(good.low) - middle, math.log2(good.high) - middle),
        chosen=[math.log2(float(tuning.chosen[rate])) - middle for tuning in tunings],
    )


def epochs_figure(study: Referee, frame: pd.DataFrame, curves: pd.DataFrame, families: Families) -> StudyFigure:
    """Test error over the epochs."""
    lines = {name: _by_pass(own, ALGORITHMS[name].passes) for name, own in _runs(study, frame, curves).items()}
    return _curves(
        "test error by epoch",
        lines,
        families,
        _clean_runs(study, frame),
        xlabel=_EPOCHS,
        ylabel=_ERROR,
        note="Mean with its 95 % interval over the tunings, or over the seeds of a single one. An algorithm with two "
        "passes per step trains half the epochs, and each counts twice.",
    )


def times_figure(
    study: Referee,
    frame: pd.DataFrame,
    curves: pd.DataFrame,
    families: Families,
    times: Mapping[str, float],
) -> StudyFigure | None:
    """Test error over the time that training takes; None if no time was measured.

    Args:
        study: The study.
        frame: Its complete runs.
        curves: One row per run and epoch.
        families: The families of the algorithms.
        times: By algorithm, the time of an epoch in epochs of the first anchor, from ``measured.OneRun``.
    """
    lines = {
        name: line._replace(x=[times[name] * epoch for epoch in line.x])
        for name, own in _runs(study, frame, curves).items()
        if name in times
        for line in [_by_pass(own, 1)]
    }
    if not lines:
        return None
    return _curves(
        "test error by the time of training",
        lines,
        families,
        _clean_runs(study, frame),
        xlabel=f"Time ({label(study.anchors[0])}'s epochs)",
        ylabel=_ERROR,
        note=f"The same runs. Time is CPU time in epochs of {label(study.anchors[0])}: not that of these runs, which "
        "shared their machine, but measured for all algorithms in turn in one run.",
        sources=(ONE_RUN_PATH.as_posix(),),
    )


def targets_figure(study: Referee, frame: pd.DataFrame, curves: pd.DataFrame, families: Families) -> StudyFigure:
    """Epochs until an error is reached, over a range of errors."""
    runs = _runs(study, frame, curves)
    accuracies = {
        name: [list(own["test_accuracy"]) for _, own in part.sort_values("epoch").groupby("run_id")]
        for name, part in runs.items()
    }
    lasts = [_error(run[-1]) for own in accuracies.values() for run in own]
    firsts = [_error(run[0]) for own in accuracies.values() for run in own]
    targets = np.geomspace(min(lasts), max(np.median(firsts), *lasts), _TARGETS).tolist()
    lines = {name: _reached(own, targets, ALGORITHMS[name].passes) for name, own in accuracies.items()}
    return _curves(
        "epochs until a test error is reached, over a range of errors",
        lines,
        families,
        _clean_runs(study, frame),
        xlabel=_ERROR,
        ylabel=_EPOCHS,
        note="Median over the runs, interpolated between epochs. A line ends where fewer than half of the runs arrive. "
        "All runs follow a schedule of their full length, so none says what a shorter schedule would reach.",
        percent="x",
        reverse=True,
    )


def _reached(runs: Sequence[Sequence[float]], targets: Sequence[float], passes: int) -> Line:
    counts = [[epochs_to(run, 1 - target / 100) for run in runs] for target in targets]
    medians = [float(np.median([math.inf if math.isnan(c) else c for c in own])) for own in counts]
    known = [(t, passes * m) for t, m in zip(targets, medians, strict=True) if math.isfinite(m)]
    return Line([t for t, _ in known], [m for _, m in known])


def robustness_figure(study: Referee, frame: pd.DataFrame, tunings: Tunings, families: Families) -> StudyFigure | None:
    """What noisy labels, other batches and blind rates cost; None if the study has no such runs."""
    changed = changes_by_setting(frame, study, list(tunings))
    if not changed:
        return None
    titles = {"label_noise": "Noisy labels", "batch_size": "Other batches"}
    settings = settings_of(study)
    panels = [
        Change(
            title,
            "Change in test accuracy (points)",
            {words: _points(changed[words]) for words, own, _ in settings if own == column},
        )
        for column, title in titles.items()
        if column in {own for _, own, _ in settings}
    ]
    costs = {name: rate_sensitivities(own, ALGORITHMS[name].rate) for name, own in tunings.items()}
    panels.append(Change("A blind rate", "Lost on average (points)", {"a blind rate": _points(costs)}))
    return StudyFigure(
        "what noisy labels, other batches and a blind rate change",
        partial(robustness, panels, families, labels=labels()),
        tuple(dict.fromkeys(frame["run_id"])),
        note="Left and middle: the same hyperparameters in another setting, against the run with the same seed in the "
        "tuned one. Right: the mean of best - score over the range of rates. Mean over "
        "the tunings with its 95 % interval.",
    )


def _points(values: Mapping[str, Interval]) -> dict[str, Interval]:
    return {name: Interval(100 * v.estimate, 100 * v.low, 100 * v.high, v.n) for name, v in values.items()}


def _clean_runs(study: Referee, frame: pd.DataFrame) -> tuple[str, ...]:
    clean = frame[frame["variant"].isin(study.tunings) & (frame["label_noise"] == 0.0)]
    return tuple(dict.fromkeys(clean["run_id"]))


def _runs(study: Referee, frame: pd.DataFrame, curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By algorithm, the curves of its tuned runs on clean labels; ``unit`` is the tuning, or with one, the seed."""
    clean = frame[frame["variant"].isin(study.tunings) & (frame["label_noise"] == 0.0)]
    unit = "variant" if clean["variant"].nunique() > 1 else "seed"
    known = curves.merge(clean[["run_id", unit]].rename(columns={unit: "unit"}), on="run_id")
    return {str(name): own for name, own in known.groupby("algorithm", sort=False)}


def _by_pass(runs: pd.DataFrame, passes: int) -> Line:
    """The mean of the units after each epoch, with its 95 % interval where there are several."""
    means = runs.groupby(["epoch", "unit"])["test_accuracy"].mean().unstack()
    epochs = [passes * int(epoch) for epoch in means.index]
    values = [row.dropna().tolist() for _, row in means.iterrows()]
    if min(map(len, values)) < 3:  # of two values, a t-interval says nothing
        return Line(epochs, [_error(mean(own)) for own in values])
    intervals = [mean_interval(own) for own in values]
    estimates, low, high = (
        [_error(value) for value in own] for own in zip(*((i.estimate, i.high, i.low) for i in intervals), strict=True)
    )
    return Line(epochs, estimates, low, high)


def _error(accuracy: float) -> float:
    """The error in %, within what an axis shows: a t-interval can leave the range of a share."""
    return min(100.0, max(_LEAST_ERROR, 100 * (1 - accuracy)))


def _curves(
    caption: str,
    lines: Mapping[str, Line],
    families: Families,
    run_ids: Sequence[str],
    *,
    xlabel: str,
    ylabel: str,
    note: str,
    percent: str = "y",
    reverse: bool = False,
    sources: tuple[str, ...] = (),
) -> StudyFigure:
    draw = partial(line_multiples, lines, families, labels=labels(), xlabel=xlabel, ylabel=ylabel)
    return StudyFigure(
        f"{caption} ({len(lines)} algorithms)",
        partial(draw, percent=percent, reverse=reverse),
        tuple(run_ids),
        sources,
        note=f"{note} The scale of errors is logarithmic.",
    )
