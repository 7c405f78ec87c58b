"""The claims about muTransfer and the rules that decide them, each task by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim, FormerRule
from advanced_optimizers.experiments.evidence.comparisons import RunData, Status, Verdict
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.optima import (
    Bounds,
    find_optima,
    judge_start,
    loss_ratio,
    shift_bounds,
    sweep_points,
    whole_octaves,
)
from advanced_optimizers.experiments.evidence.statistics import Interval
from advanced_optimizers.experiments.evidence.transfers import find_transfer, judge_ratio

PAPER = "paper (Yang et al., arXiv 2203.03466)"

STANDARD, MUP = "standard-sgd", "mup-sgd"
# Units of the network at width 1: the base that is tuned, fixed by the example of the authors' package.
BASE_UNITS = 64
TASKS = ("mnist-mlp3", "cifar10-jpeg-mlp3")
UNITS = (64, 128, 256, 512, 1024, 2048, 4096)
# A sweep needs a run for every width and learning rate, so it has fewer seeds than a comparison.
SWEEP_SEEDS = 3

# An optimum that stays within this many octaves has not moved; most learning rates tried are one octave apart.
OCTAVES = 1.0
# From seed to seed the lowest loss at the greatest width itself scatters by a tenth or more (standard deviation of its
# logarithm: 0.09 on MNIST, 0.17 on cifar10-jpeg), so a loss within a tenth of it is as good.
LOSS_FACTOR = 1.1
COST_LIMIT = 1.0
# What "radically cheaper" is read as.
RADICAL_LIMIT = 0.25

_Decide = Callable[[pd.DataFrame, str], Verdict]


# ---- the rules ------------------------------------------------------------------------------------------------------


def decide_each(data: RunData, *, decide: _Decide, algorithms: tuple[str, ...]) -> Verdict:
    """Decides a claim on every task and joins the verdicts: a claim about all tasks fails with one of them.

    Args:
        data: The runs of one sweep.
        decide: ``decide(points, task)`` gives the verdict on one task, whose sweeps are complete.
        algorithms: Whose sweeps it needs.
    """
    points = sweep_points(data.frame, BASE_UNITS)
    verdicts = {task: _obstacle(points, task, algorithms) or decide(points, task) for task in TASKS}
    found = {verdict.status for verdict in verdicts.values()}
    ranked: tuple[Status, ...] = ("not supported", "pending", "inconclusive", "supported")
    status = next(status for status in ranked if status in found)
    words = [f"{label(task)}: {verdict.status}. {verdict.sentence}" for task, verdict in verdicts.items()]
    return Verdict(status, " ".join(words))


def shift_on(points: pd.DataFrame, task: str, start: int = BASE_UNITS) -> Verdict:
    """Whether the best learning rate stays in muP from a width on, and moves in the standard parametrization.

    Args:
        points: The runs, from ``sweep_points``.
        task: One task.
        start: The width from which the move is counted.
    """
    optima = find_optima(points)
    wider = [units for units in UNITS if units > start]
    stays = {units: _required(shift_bounds(optima, task, MUP, units, start)) for units in wider}
    moves = _required(shift_bounds(optima, task, STANDARD, UNITS[-1], start))
    most = max(stays, key=lambda units: stays[units].size)
    sentence = (
        f"Octaves that the optimum moves from {start} units: muP at most {stays[most].move()}, at {most} units; "
        f"standard parametrization {moves.move()} at {UNITS[-1]}."
    )
    return Verdict(judge_start(stays, moves, OCTAVES), sentence)


def widths_on(points: pd.DataFrame, task: str) -> Verdict:
    """Whether each doubling of the width lowers the lowest loss of muP, or leaves it unchanged; arguments as above."""
    optima = find_optima(whole_octaves(points))
    ratios = {
        wide: ratio
        for narrow, wide in pairwise(UNITS)
        if (ratio := loss_ratio(optima, task, MUP, wide, narrow)) is not None
    }
    if len(ratios) < len(UNITS) - 1:
        return Verdict("inconclusive", "Some width diverges at every learning rate.")
    wide = max(ratios, key=lambda units: ratios[units].estimate)
    sentence = (
        f"Of {len(ratios)} doublings, {sum(r.high <= 1 for r in ratios.values())} have a lower loss and "
        f"{sum(r.low > 1 for r in ratios.values())} a higher one. Least in favor: {wide} units, "
        f"{ratios[wide].bracket(digits=3)} times the loss of half the width."
    )
    return Verdict(_by_limit(ratios, 1.0), sentence)


def cost_on(points: pd.DataFrame, task: str, *, limit: float) -> Verdict:
    """Whether tuning the base and training wide once takes at most ``limit`` times as long as tuning wide, as well."""
    transfer = find_transfer(points, task, MUP, BASE_UNITS)
    if transfer is None:
        return Verdict("inconclusive", f"The rate of {BASE_UNITS} units was not tried at {UNITS[-1]}.")
    time, loss = judge_ratio(transfer.time_ratio, limit), transfer.judge_loss(LOSS_FACTOR)
    sentence = (
        f"Tuned at {transfer.units} units, trained once at {transfer.target}: "
        f"{transfer.time_ratio.bracket(digits=3)} times the CPU time of tuning there with {transfer.rates} rates, "
        f"{transfer.loss_words} times its loss."
    )
    if "beyond" in (time, loss):
        return Verdict("not supported", sentence)
    return Verdict("supported" if time == loss == "within" else "inconclusive", sentence)


def _obstacle(points: pd.DataFrame, task: str, algorithms: tuple[str, ...]) -> Verdict | None:
    """The verdict if runs are missing or an optimum is not bracketed; None if a task's sweeps can be compared."""
    of_task = points[points["task"] == task]
    sweeps = [(algorithm, units) for algorithm in algorithms for units in UNITS]
    complete = _complete_seeds(of_task)
    waiting = [sweep for sweep in sweeps if complete.get(sweep, 0) < SWEEP_SEEDS]
    if waiting:
        return Verdict("pending", f"Waiting for runs: {len(waiting)} of {len(sweeps)} sweeps lack seeds.")
    resolved = find_optima(of_task).groupby(["algorithm", "units"])["resolved"].all()
    open_ended = [sweep for sweep in sweeps if not resolved[sweep]]
    if open_ended:
        algorithm, units = open_ended[0]
        more = f"; and {len(open_ended) - 1} more" if len(open_ended) > 1 else ""
        where = f"{label(algorithm)} at {units} units{more}"
        return Verdict("inconclusive", f"The lowest loss lies at an end of its sweep: {where}.")
    return None


def _complete_seeds(points: pd.DataFrame) -> dict[tuple[str, int], int]:
    """By algorithm and width, how many seeds have a run at every learning rate of the sweep; of one task."""
    rates: dict[tuple[str, int], dict[int, set[float]]] = {}
    for algorithm, units, seed, exponent in points[["algorithm", "units", "seed", "exponent"]].itertuples(index=False):
        rates.setdefault((algorithm, units), {}).setdefault(seed, set()).add(exponent)
    return {
        sweep: sum(of_seed == set.union(*by_seed.values()) for of_seed in by_seed.values())
        for sweep, by_seed in rates.items()
    }


def _required(bounds: Bounds | None) -> Bounds:
    assert bounds is not None, "the sweeps were checked to be complete"
    return bounds


def _by_limit(ratios: Mapping[int, Interval], limit: float) -> Status:
    sides = {judge_ratio(ratio, limit) for ratio in ratios.values()}
    return "not supported" if "beyond" in sides else "supported" if sides == {"within"} else "inconclusive"


# ---- the claims -----------------------------------------------------------------------------------------------------

_SWEEPS = (
    f"Three-layer network trained by SGD on both tasks, widths of {UNITS[0]} to {UNITS[-1]} units, learning rates one "
    f"octave apart, at least {SWEEP_SEEDS} seeds, 95 % t-intervals over them"
)
_OPTIMUM = (
    "The optimum of a seed is the lowest training loss of the last epoch, between the grid's points by a parabola"
)
_CENSORED = (
    "Next to a learning rate at which runs diverge there are half octaves, too; an optimum there counts from the "
    "largest rate that trains up to the one that diverges, so its move has an interval for the least and one for the "
    "most that it can be"
)
_EACH = (
    "Each task has its verdict; the claim is about both, so one that does not support it decides. Inconclusive "
    "otherwise, and whenever the lowest loss lies at an end of its sweep."
)
_COST = (
    f"In muP, from the base of {BASE_UNITS} units, fixed beforehand, to {UNITS[-1]} units; each seed is one trial. Two "
    "ratios with the 95 % interval of their geometric mean over the seeds: the CPU time of tuning the base and of one "
    "wide run, over that of tuning wide with as many whole octaves of the rate; and the wide network's training loss "
    "at the base's best rate, over its lowest one."
)

_FORMER_SHIFT = FormerRule(
    rule="The optimum's move from 512 units to each greater width, on a grid of whole octaves, paired by seed. "
    "Supported: every interval of muP lies within 1 octave of no move, and in the standard parametrization that at "
    "4096 units lies beyond 1 octave on both tasks. Not supported: an interval of muP lies beyond 1 octave. Otherwise, "
    "and whenever the lowest loss lies at an end of its sweep, inconclusive.",
    verdict="supported",
    result="Octaves that the optimum moves from 512 units on. muP at most: +0.32 [+0.11, +0.52] on cifar10-jpeg, "
    "three-layer MLP at 4096 units. Standard parametrization at least: -1.23 [-1.41, -1.04] on MNIST, three-layer MLP "
    "at 4096 units.",
    why="The base has 64 units, and a rate is tuned at the base. Counting from 512 units on left out the widths at "
    "which the optimum moves on MNIST, and a pilot had been run before that number was chosen. From 512 units on, "
    "MNIST's optimum was the largest rate that trains at every width: the +0.00 there was censoring.",
)
_FORMER_COST = FormerRule(
    rule="In muP, from the smallest width whose best learning rate of the grid is at most one octave from that of 4096 "
    "units: the CPU time of tuning there and of one run at 4096 units, over that of tuning at 4096 units with as many "
    "learning rates. Supported: every interval ends at or below 1. Not supported: an interval starts above it, or no "
    "narrower width qualifies. Otherwise, and whenever the lowest loss lies at an end of its sweep, inconclusive.",
    verdict="supported",
    result="MNIST, three-layer MLP: tuned at 256 units, trained once at 4096: 0.212 [0.207, 0.217] times the CPU time "
    "of tuning there, loss 0.0029 against 0.0029; cifar10-jpeg, three-layer MLP: tuned at 64 units, trained once at "
    "4096: 0.256 [0.256, 0.256] times the CPU time of tuning there, loss 0.0785 against 0.0680.",
    why="It could not fail: the ratio is one over the number of rates tried, plus little. The loss did not count, the "
    "narrow width was picked knowing the wide optimum, and the standard parametrization passed as well, at 237 times "
    "the tuned loss on MNIST.",
)

CLAIMS = (
    Claim(
        key="mutransfer-optimum-stays",
        method="muTransfer",
        short="best rate stays",
        study="mutransfer",
        text="The best learning rate does not move with width.",
        source=PAPER,
        rule=f"{_SWEEPS}. {_OPTIMUM}. {_CENSORED}. Its move from the base of {BASE_UNITS} units to each greater width, "
        f"paired by seed. Supported: every interval of muP lies within {OCTAVES:g} octave of no move, and that of the "
        f"standard parametrization at {UNITS[-1]} units lies beyond {OCTAVES:g} octave (if it stays as well, there is "
        f"nothing that muP could mend). Not supported: an interval of muP lies beyond {OCTAVES:g} octave. {_EACH}",
        decide=partial(decide_each, decide=shift_on, algorithms=(STANDARD, MUP)),
        former=_FORMER_SHIFT,
    ),
    Claim(
        key="mutransfer-wider-is-better",
        method="muTransfer",
        short="wider is never worse",
        study="mutransfer",
        text="Wider is never worse in muP, at the best learning rate.",
        source=PAPER,
        rule=f"{_SWEEPS}. The lowest loss over that of half the width, for each doubling from {UNITS[0]} units on, "
        f"geometric mean over the seeds. Supported: every interval ends at or below 1. Not supported: an interval "
        f"starts above it. {_EACH}",
        decide=partial(decide_each, decide=widths_on, algorithms=(MUP,)),
    ),
    Claim(
        key="mutransfer-cost",
        method="muTransfer",
        short="tuning narrow is cheaper",
        study="mutransfer",
        text="Tuning a narrow network and training the wide one once costs less than tuning the wide one.",
        source=PAPER,
        rule=f"{_COST} Supported: the first ends at or below {COST_LIMIT:g} and the second at or below "
        f"{LOSS_FACTOR:g}. Not supported: the first starts above {COST_LIMIT:g}, the second starts above "
        f"{LOSS_FACTOR:g}, or a transferred run diverges. {_EACH}",
        decide=partial(decide_each, decide=partial(cost_on, limit=COST_LIMIT), algorithms=(MUP,)),
        former=_FORMER_COST,
    ),
    Claim(
        key="mutransfer-radically-cheaper",
        method="muTransfer",
        short="radically cheaper tuning",
        study="mutransfer",
        text="muTransfer makes tuning radically cheaper.",
        source=COURSEWORK,
        rule=f"{_COST} Radically is read as a quarter of the time or less, for the same result. Supported: the first "
        f"ends at or below {RADICAL_LIMIT:g} and the second at or below {LOSS_FACTOR:g}. Not supported: the first "
        f"starts above {RADICAL_LIMIT:g}, the second starts above {LOSS_FACTOR:g}, or a transferred run diverges. "
        f"{_EACH}",
        decide=partial(decide_each, decide=partial(cost_on, limit=RADICAL_LIMIT), algorithms=(MUP,)),
    ),
)
