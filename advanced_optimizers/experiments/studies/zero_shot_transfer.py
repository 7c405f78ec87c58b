"""The claims about muTransfer, and the rules that decide them from a sweep of the learning rate over the width."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import Measurements, Verdict, label
from advanced_optimizers.experiments.evidence.optima import (
    FROM_UNITS,
    MUP,
    STANDARD,
    find_optima,
    find_transfer,
    loss_ratio,
    select_optima,
    shift_interval,
    sweep_points,
)
from advanced_optimizers.experiments.evidence.statistics import Interval, ratio_interval

PAPER = "paper (Yang et al., arXiv 2203.03466)"

TASKS = ("mnist-mlp3", "cifar10-jpeg-mlp3")
UNITS = (64, 128, 256, 512, 1024, 2048, 4096)
# An optimum that stays within this many octaves has not moved; the grid's points are one octave apart.
OCTAVES = 1.0
COST_LIMIT = 1.0
# A sweep takes a run for every width and learning rate, so there are fewer seeds than in a comparison.
SWEEP_SEEDS = 3

_FROM = tuple(units for units in UNITS if units >= FROM_UNITS)


def compare_shift(frame: pd.DataFrame, measurements: Measurements | None = None) -> Verdict:
    """Decides whether the best learning rate stays in muP, and moves in the standard parametrisation.

    Args:
        frame: One row a run, from ``frames.records_frame``; the runs of one sweep.
        measurements: Not read; the argument is there so that all rules are called alike.
    """
    points = sweep_points(frame)
    obstacle = _obstacle(points, (STANDARD, MUP), _FROM)
    if obstacle is not None:
        return obstacle
    optima = find_optima(points)
    stays = {
        (task, units): _required(shift_interval(optima, task, MUP, units)) for task in TASKS for units in _FROM[1:]
    }
    moves = {task: _required(shift_interval(optima, task, STANDARD, _FROM[-1])) for task in TASKS}
    task, units = max(stays, key=lambda key: abs(stays[key].estimate))
    least = min(moves, key=lambda key: abs(moves[key].estimate))
    sentence = (
        f"Octaves that the optimum moves from {FROM_UNITS} units on. muP at most: "
        f"{stays[task, units].bracket(signed=True)} on {label(task)} at {units} units. Standard parametrisation at "
        f"least: {moves[least].bracket(signed=True)} on {label(least)} at {_FROM[-1]} units."
    )
    if any(_beyond(interval) for interval in stays.values()):
        return Verdict("not supported", sentence)
    if all(_within(interval) for interval in stays.values()) and all(_beyond(interval) for interval in moves.values()):
        return Verdict("supported", sentence)
    return Verdict("inconclusive", sentence)


def compare_widths(frame: pd.DataFrame, measurements: Measurements | None = None) -> Verdict:
    """Decides whether each doubling of the width lowers the lowest loss of muP, or leaves it.

    Args:
        frame: As for :func:`compare_shift`.
        measurements: Not read.
    """
    points = sweep_points(frame)
    obstacle = _obstacle(points, (MUP,), UNITS)
    if obstacle is not None:
        return obstacle
    optima = find_optima(points)
    ratios = {
        (task, wide): _required(loss_ratio(optima, task, MUP, wide, narrow))
        for task in TASKS
        for narrow, wide in pairwise(UNITS)
    }
    task, wide = max(ratios, key=lambda key: ratios[key].estimate)
    sentence = (
        f"Of {len(ratios)} doublings, {sum(r.high <= 1 for r in ratios.values())} have a lower loss and "
        f"{sum(r.low > 1 for r in ratios.values())} a higher one. Least in favour: {label(task)} at {wide} units, "
        f"{ratios[task, wide].bracket(digits=3)} times the loss of half the width."
    )
    return _by_limit(list(ratios.values()), 1.0, sentence)


def compare_cost(frame: pd.DataFrame, measurements: Measurements | None = None) -> Verdict:
    """Decides whether tuning narrow and training wide once takes less time than tuning wide.

    Args:
        frame: As for :func:`compare_shift`.
        measurements: Not read: the CPU seconds of the runs differ by far more than what disturbs them.
    """
    points = sweep_points(frame)
    obstacle = _obstacle(points, (MUP,), UNITS)
    if obstacle is not None:
        return obstacle
    transfers = {task: find_transfer(points, task) for task in TASKS}
    without = [label(task) for task, transfer in transfers.items() if transfer is None]
    if without:
        return Verdict("not supported", f"No narrower width has the best learning rate of the widest on {without[0]}.")
    found = {task: transfer for task, transfer in transfers.items() if transfer is not None}
    ratios = {task: ratio_interval(transfer.pairs) for task, transfer in found.items()}
    words = [
        f"{label(task)}: tuned at {t.units} units, trained once at {t.target}: {ratios[task].bracket(digits=3)} times "
        f"the CPU time of tuning there, loss {t.loss:.4f} against {t.direct_loss:.4f}"
        for task, t in found.items()
    ]
    return _by_limit(list(ratios.values()), COST_LIMIT, f"{'; '.join(words)}.")


def _obstacle(points: pd.DataFrame, algorithms: tuple[str, ...], widths: tuple[int, ...]) -> Verdict | None:
    """The verdict where runs are missing or an optimum is not enclosed; None where the sweeps can be compared."""
    sweeps = [(task, algorithm, units) for task in TASKS for algorithm in algorithms for units in widths]
    waiting = [sweep for sweep in sweeps if _whole_seeds(points, *sweep) < SWEEP_SEEDS]
    if waiting:
        return Verdict("pending", f"Waiting for runs: {len(waiting)} of {len(sweeps)} sweeps lack seeds.")
    optima = find_optima(points)
    open_ended = [sweep for sweep in sweeps if not select_optima(optima, *sweep)["resolved"].all()]
    if open_ended:
        task, algorithm, units = open_ended[0]
        more = f"; and {len(open_ended) - 1} more" if len(open_ended) > 1 else ""
        where = f"{label(algorithm)} on {label(task)} at {units} units{more}"
        return Verdict("inconclusive", f"The lowest loss lies at an end of its sweep: {where}.")
    return None


def _whole_seeds(points: pd.DataFrame, task: str, algorithm: str, units: int) -> int:
    """How many seeds have every learning rate of a sweep."""
    chosen = (points["task"] == task) & (points["algorithm"] == algorithm) & (points["units"] == units)
    exponents = points[chosen].groupby("seed")["exponent"].nunique()
    return int((exponents == points[chosen]["exponent"].nunique()).sum())


def _required(interval: Interval | None) -> Interval:
    assert interval is not None, "the sweeps were found to be whole"
    return interval


def _within(interval: Interval) -> bool:
    return max(-interval.low, interval.high) <= OCTAVES


def _beyond(interval: Interval) -> bool:
    return interval.low > OCTAVES or interval.high < -OCTAVES


def _by_limit(ratios: list[Interval], limit: float, sentence: str) -> Verdict:
    if any(ratio.low > limit for ratio in ratios):
        return Verdict("not supported", sentence)
    return Verdict("supported" if all(ratio.high <= limit for ratio in ratios) else "inconclusive", sentence)


_SWEEPS = (
    f"Three-layer network trained by SGD on both tasks, widths of {UNITS[0]} to {UNITS[-1]} units, learning rates one "
    f"octave apart, at least {SWEEP_SEEDS} seeds, 95 % t-intervals over them. The optimum of a seed is the lowest "
    "training loss of the last epoch, between the grid's points by a parabola"
)
_OTHERWISE = "Otherwise, and whenever the lowest loss lies at an end of its sweep, inconclusive."

CLAIMS = (
    Claim(
        key="mutransfer-optimum-stays",
        study="mutransfer",
        text="The best learning rate does not move with width.",
        source=PAPER,
        rule=f"{_SWEEPS}. Its move from {FROM_UNITS} units to each greater width, paired by seed. Supported: every "
        f"interval of muP lies within {OCTAVES:g} octave of no move, and in the standard parametrisation that at "
        f"{UNITS[-1]} units lies beyond {OCTAVES:g} octave on both tasks (if it stays as well, there is nothing that "
        f"muP could mend). Not supported: an interval of muP lies beyond {OCTAVES:g} octave. {_OTHERWISE}",
        decide=compare_shift,
    ),
    Claim(
        key="mutransfer-wider-is-better",
        study="mutransfer",
        text="Wider is never worse in muP, at the best learning rate.",
        source=PAPER,
        rule=f"{_SWEEPS}. The lowest loss over that of half the width, for each doubling from {UNITS[0]} units on, "
        "geometric mean over the seeds. Supported: every interval ends at or below 1. Not supported: an interval "
        f"starts above it. {_OTHERWISE}",
        decide=compare_widths,
    ),
    Claim(
        key="mutransfer-cost",
        study="mutransfer",
        text="Tuning a narrow network and training the wide one once costs less than tuning the wide one.",
        source=PAPER,
        rule="In muP, from the smallest width whose best learning rate of the grid is at most one octave from that of "
        f"{UNITS[-1]} units: the CPU time of tuning there and of one run at {UNITS[-1]} units, over that of tuning at "
        f"{UNITS[-1]} units with as many learning rates, with the 95 % interval of its geometric mean over the seeds. "
        f"Supported: every interval ends at or below {COST_LIMIT:g}. Not supported: an interval starts above it, or no "
        f"narrower width qualifies. {_OTHERWISE}",
        decide=compare_cost,
    ),
)
