"""muTransfer: learning-rate sweeps at several widths, in the standard parametrization and in muP."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor, nn

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import RunData, Verdict
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.optima import (
    find_optima,
    find_transfer,
    loss_ratio,
    select_optima,
    shift_interval,
    sweep_points,
)
from advanced_optimizers.experiments.evidence.statistics import Interval, ratio_interval
from advanced_optimizers.experiments.studies.baselines import CIFAR_ALTERNATIVES
from advanced_optimizers.experiments.studies.sweep import SweepTask, WidthSweep, Windows
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting
from advanced_optimizers.experiments.training.models import ImageShape, Model, build_model, scaled
from advanced_optimizers.zero_shot_transfer import MuReadout, MuSGD, set_base_shapes

PAPER = "paper (Yang et al., arXiv 2203.03466)"

STANDARD, MUP = "standard-sgd", "mup-sgd"
# Units of mlp3 at width 1, and its multipliers, as tuned in the MLP example of the mup package for ReLU and
# cross-entropy. With multipliers of 1, the standard parametrization's optimum hardly moves (issue 52 of that package).
BASE_UNITS = 64
_INPUT_MULT, _OUTPUT_MULT = 2.0**-8, 32.0

# The width from which a move of the optimum is counted: narrower networks are far from the limit that muP is about.
FROM_UNITS = 512
TASKS = ("mnist-mlp3", "cifar10-jpeg-mlp3")
UNITS = (64, 128, 256, 512, 1024, 2048, 4096)
# An optimum that stays within this many octaves has not moved; grid points are one octave apart.
OCTAVES = 1.0
COST_LIMIT = 1.0
# A sweep needs a run for every width and learning rate, so it has fewer seeds than a comparison.
SWEEP_SEEDS = 3


# ---- the network ----------------------------------------------------------------------------------------------------


class ScaledLinear(nn.Linear):
    """A linear layer without bias, ``scale * W x``, whose initial output does not depend on ``scale``.

    The weights are drawn from a normal distribution with standard deviation ``1 / (scale * sqrt(inputs))``. The scale
    only changes how far a step of SGD moves the output: ``scale ** 2`` times as far.
    """

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0) -> None:
        self.scale = scale
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Draws the weights."""
        nn.init.normal_(self.weight, std=1 / (self.scale * math.sqrt(self.in_features)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return self.scale * super().forward(x)


def _mlp3(image_shape: ImageShape, num_classes: int, width: float) -> nn.Sequential:
    """Two hidden layers without biases and an output that starts at zero: the network of muP's width sweeps.

    It has the multipliers of the ``mup`` package's MLP example and is in the standard parametrization;
    ``set_base_shapes(model, base, rescale_params=False)`` turns it into a muP model.
    """
    units = scaled(BASE_UNITS, width)
    model = nn.Sequential(
        nn.Flatten(),
        ScaledLinear(math.prod(image_shape), units, scale=math.sqrt(_INPUT_MULT)),
        nn.ReLU(),
        ScaledLinear(units, units),
        nn.ReLU(),
        MuReadout(units, num_classes, bias=False, readout_zero_init=True, output_mult=_OUTPUT_MULT),
    )
    set_base_shapes(model, None)  # it is its own base: the standard parametrization
    return model


# ---- how they train -------------------------------------------------------------------------------------------------


def _standard_sgd(setting: Setting) -> Learner:
    lr = setting.config.hyperparameters["lr"]
    return BackpropLearner(setting, build_optimizer(torch.optim.SGD, setting.model.parameters(), lr=lr, fused=True))


def _mup_sgd(setting: Setting) -> Learner:
    """SGD in muP, with the model of width 1 as its base."""
    with torch.device("meta"):  # only shapes are needed: no memory, no random numbers
        base = build_model(setting.config.model, setting.image_shape, setting.num_classes)
    # At every width, the initial weights of mlp3 are already those of muP, since its output layer starts at zero.
    set_base_shapes(setting.model, base, rescale_params=False)
    return BackpropLearner(setting, MuSGD(setting.model, lr=setting.config.hyperparameters["lr"], fused=True))


# ---- the algorithms and the sweep -----------------------------------------------------------------------------------

_RATE = Range(low=2.5e-4, high=1.0, log=True)
_ALGORITHMS = {
    STANDARD: Algorithm(
        label="SGD, standard parametrization",
        baseline=None,
        search_space={"lr": _RATE},
        build=_standard_sgd,
    ),
    MUP: Algorithm(
        label="SGD, muP",
        baseline=STANDARD,
        search_space={"lr": _RATE},
        build=_mup_sgd,
    ),
}


def _windows(standard: Windows, mup: Windows) -> dict[str, Windows]:
    return {STANDARD: standard, MUP: mup}


def _sweep(profile: str, tasks: tuple[SweepTask, ...]) -> WidthSweep:
    # The base has 64 units, as in the MLP example of the authors' package for which the multipliers were tuned. At this
    # width both parametrizations are the same algorithm, so their curves start at the same point. In a pilot (64, 256
    # and 512 units, one seed) muP's optimum stayed in place from 64 units on: a wider base would only add widths below.
    return WidthSweep(
        name="mutransfer",
        title="Does the best learning rate stay where it is when the network gets wider?",
        profile=profile,
        tasks=tasks,
        algorithms=(STANDARD, MUP),
        seeds=(0, 1, 2),
        transferring=MUP,
        from_units=FROM_UNITS,
    )


# Up to 512 units a run takes seconds, so these windows show both sides of the minimum.
_NARROW = (64, 128, 256, 512)
_STANDARD = dict.fromkeys(_NARROW, (-9, -3)) | {1024: (-9, -5), 2048: (-10, -6), 4096: (-10, -7)}
_CIFAR = SweepTask(
    dataset="cifar10-jpeg",
    model="mlp3",
    base_units=BASE_UNITS,
    epochs=8,
    batch_size=64,
    data_fraction=0.2,
    windows=_windows(
        standard=_STANDARD,
        mup=dict.fromkeys(_NARROW, (-8, -2)) | dict.fromkeys((1024, 2048, 4096), (-6, -3)),
    ),
    alternatives=CIFAR_ALTERNATIVES,
)
_MNIST = SweepTask(
    dataset="mnist",
    model="mlp3",
    base_units=BASE_UNITS,
    epochs=5,
    batch_size=64,
    data_fraction=0.1,
    windows=_windows(
        # The first seed had its lowest loss at 2 ** -7, where the window ended; a minimum needs a run on each side.
        standard=_STANDARD | {4096: (-9, -6)},
        # On this easy task the best rates are the largest that train at all; above them, runs diverge at once.
        mup=dict.fromkeys(_NARROW, (-8, -2)) | dict.fromkeys((1024, 2048, 4096), (-6, -2)),
    ),
)
_DIGITS = SweepTask(
    dataset="digits",
    model="mlp3",
    base_units=BASE_UNITS,
    epochs=6,
    batch_size=64,
    data_fraction=1.0,
    windows=_windows(standard=dict.fromkeys((64, 256, 512), (-8, -4)), mup=dict.fromkeys((64, 256, 512), (-7, -4))),
)

# ---- the claims -----------------------------------------------------------------------------------------------------

_COUNTED_UNITS = tuple(units for units in UNITS if units >= FROM_UNITS)


def compare_shift(data: RunData) -> Verdict:
    """Decides whether the best learning rate stays in muP, and moves in the standard parametrization.

    Args:
        data: The runs of one sweep.
    """
    points = sweep_points(data.frame, BASE_UNITS)
    obstacle = _obstacle(points, (STANDARD, MUP), _COUNTED_UNITS)
    if obstacle is not None:
        return obstacle
    optima = find_optima(points)
    stays = {
        (task, units): _required(shift_interval(optima, task, MUP, units, FROM_UNITS))
        for task in TASKS
        for units in _COUNTED_UNITS[1:]
    }
    moves = {task: _required(shift_interval(optima, task, STANDARD, UNITS[-1], FROM_UNITS)) for task in TASKS}
    task, units = max(stays, key=lambda key: abs(stays[key].estimate))
    least = min(moves, key=lambda key: abs(moves[key].estimate))
    sentence = (
        f"Octaves that the optimum moves from {FROM_UNITS} units on. muP at most: "
        f"{stays[task, units].bracket(signed=True)} on {label(task)} at {units} units. Standard parametrization at "
        f"least: {moves[least].bracket(signed=True)} on {label(least)} at {UNITS[-1]} units."
    )
    if any(_beyond(interval) for interval in stays.values()):
        return Verdict("not supported", sentence)
    if all(_within(interval) for interval in stays.values()) and all(_beyond(interval) for interval in moves.values()):
        return Verdict("supported", sentence)
    return Verdict("inconclusive", sentence)


def compare_widths(data: RunData) -> Verdict:
    """Decides whether each doubling of the width lowers the lowest loss of muP, or leaves it unchanged.

    Args:
        data: As for :func:`compare_shift`.
    """
    points = sweep_points(data.frame, BASE_UNITS)
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
        f"{sum(r.low > 1 for r in ratios.values())} a higher one. Least in favor: {label(task)} at {wide} units, "
        f"{ratios[task, wide].bracket(digits=3)} times the loss of half the width."
    )
    return _by_limit(list(ratios.values()), 1.0, sentence)


def compare_cost(data: RunData) -> Verdict:
    """Decides whether tuning narrow and training wide once takes less time than tuning wide.

    Args:
        data: As for :func:`compare_shift`.
    """
    points = sweep_points(data.frame, BASE_UNITS)
    obstacle = _obstacle(points, (MUP,), UNITS)
    if obstacle is not None:
        return obstacle
    transfers = {task: find_transfer(points, task, MUP) for task in TASKS}
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
    """The verdict if runs are missing or an optimum is not bracketed; None if the sweeps can be compared."""
    sweeps = [(task, algorithm, units) for task in TASKS for algorithm in algorithms for units in widths]
    waiting = [sweep for sweep in sweeps if _complete_seeds(points, *sweep) < SWEEP_SEEDS]
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


def _complete_seeds(points: pd.DataFrame, task: str, algorithm: str, units: int) -> int:
    """How many seeds have a run at every learning rate of a sweep."""
    chosen = (points["task"] == task) & (points["algorithm"] == algorithm) & (points["units"] == units)
    exponents = points[chosen].groupby("seed")["exponent"].nunique()
    return int((exponents == points[chosen]["exponent"].nunique()).sum())


def _required(interval: Interval | None) -> Interval:
    assert interval is not None, "the sweeps were checked to be complete"
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

_CLAIMS = (
    Claim(
        key="mutransfer-optimum-stays",
        method="muTransfer",
        short="best rate stays",
        study="mutransfer",
        text="The best learning rate does not move with width.",
        source=PAPER,
        rule=f"{_SWEEPS}. Its move from {FROM_UNITS} units to each greater width, paired by seed. Supported: every "
        f"interval of muP lies within {OCTAVES:g} octave of no move, and in the standard parametrization that at "
        f"{UNITS[-1]} units lies beyond {OCTAVES:g} octave on both tasks (if it stays as well, there is nothing that "
        f"muP could mend). Not supported: an interval of muP lies beyond {OCTAVES:g} octave. {_OTHERWISE}",
        decide=compare_shift,
    ),
    Claim(
        key="mutransfer-wider-is-better",
        method="muTransfer",
        short="wider is never worse",
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
        method="muTransfer",
        short="tuning narrow is cheaper",
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

TOPIC = Topic(
    title="muTransfer",
    algorithms=_ALGORITHMS,
    studies=(_sweep("full", (_MNIST, _CIFAR)), _sweep("quick", (_DIGITS,))),
    claims=_CLAIMS,
    models={"mlp3": Model(label="three-layer MLP", build=_mlp3)},
)
