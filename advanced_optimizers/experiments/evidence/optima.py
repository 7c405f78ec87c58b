"""Where a sweep's loss is lowest: the best learning rate at each width, and how far it moves.

The loss is the mean training loss of the last epoch, as in the paper's sweeps. Learning rates are given by their log2,
so that distances are octaves. Every quantity is first computed for each seed; intervals are over the seeds.

An optimum next to a rate at which runs diverge is censored: the loss still falls up to the largest rate that trains, so
the optimum is at least that rate, and less than the one that diverged. What follows from it is an interval for its
least value and one for its greatest, see :class:`Bounds`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Status
from advanced_optimizers.experiments.evidence.statistics import Interval, mean_interval, ratio_interval

# Learning rates further apart than this are no neighbors: the minimum between them could lie anywhere.
_NEIGHBORS = 1.0


class Optimum(NamedTuple):
    """The lowest point of one sweep over the learning rate.

    Attributes:
        exponent: log2 of the best learning rate, interpolated between the grid points by a parabola.
        loss: The lowest recorded loss; infinite if every run diverged.
        resolved: Whether the lowest point has runs on both sides. If not, the optimum may lie outside the sweep.
        ceiling: log2 of the rate that the best one does not exceed: that of the run above it, if that diverged, and
            otherwise ``exponent`` itself.
    """

    exponent: float
    loss: float
    resolved: bool
    ceiling: float


def find_optimum(losses: Mapping[float, float]) -> Optimum:
    """The lowest point of a sweep.

    It is the minimum of the parabola through the logarithms of the lowest loss and of its two neighbors. We take
    logarithms because losses on the two sides of an optimum differ by factors. Next to a diverged run and at the ends
    of the sweep there is no such parabola, and we return the grid point.

    Args:
        losses: Positive losses by the log2 of the learning rate; a loss that is not finite counts as infinite.

    Raises:
        ValueError: There is no loss.
    """
    if not losses:
        raise ValueError("losses must hold at least one run, got none")
    finite = {exponent: loss if math.isfinite(loss) else math.inf for exponent, loss in losses.items()}
    best = min(finite, key=lambda exponent: finite[exponent])
    below = max((k for k in finite if best - _NEIGHBORS <= k < best), default=None)
    above = min((k for k in finite if best < k <= best + _NEIGHBORS), default=None)
    if below is None or above is None or math.isinf(finite[best]):
        return Optimum(best, finite[best], False, best)
    if math.isinf(finite[above]):
        return Optimum(best, finite[best], True, above)
    place = best
    if math.isfinite(finite[below]) and finite[best] > 0:
        place = _vertex([(k, math.log(finite[k])) for k in (below, best, above)])
    return Optimum(place, finite[best], True, place)


def _vertex(points: Sequence[tuple[float, float]]) -> float:
    """Where the parabola through three points, of which the middle one is the lowest, has its minimum."""
    (x0, y0), (x1, y1), (x2, y2) = points
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = (right - left) / (x2 - x0)
    return (x0 + x1) / 2 - left / (2 * curvature) if curvature > 0 else x1


def sweep_points(frame: pd.DataFrame, base_units: int) -> pd.DataFrame:
    """The runs of a sweep, one row per run: ``task, algorithm, units, seed, exponent, loss, seconds``.

    Args:
        frame: One row per run, from ``frames.records_frame``.
        base_units: Hidden units of the network at width 1.

    Returns:
        A frame whose ``loss`` is that of the last epoch, infinite for a run that diverged. ``seconds`` is the CPU time
        of the whole run, computed from its median epoch, since other work on the machine disturbs single epochs.
        ``exponent`` is a multiple of one half.
    """
    if frame.empty:
        return pd.DataFrame(columns=["task", "algorithm", "units", "seed", "exponent", "loss", "seconds"])
    completed = (frame["status"] == "completed") & np.isfinite(frame["train_loss"].astype(float))
    return pd.DataFrame(
        {
            **{name: frame[name] for name in ("task", "algorithm")},
            "units": (frame["width"] * base_units).round().astype(int),
            "seed": frame["seed"],
            "exponent": (2 * np.log2(frame["hp_lr"].astype(float))).round() / 2,
            "loss": frame["train_loss"].astype(float).where(completed, math.inf),
            "seconds": frame["cpu_seconds_per_epoch"] * frame["epochs"],
        }
    )


def whole_octaves(points: pd.DataFrame) -> pd.DataFrame:
    """The points of the grid that every width has: one octave apart."""
    return points[points["exponent"] % 1 == 0]


def find_optima(points: pd.DataFrame) -> pd.DataFrame:
    """The optimum of each sweep: the fields of :class:`Optimum`, one row per ``task, algorithm, units, seed``.

    Raises:
        ValueError: Two runs agree in everything, including learning rate and seed.
    """
    keys = ["task", "algorithm", "units", "seed"]
    if points.duplicated([*keys, "exponent"]).any():
        raise ValueError("points must hold one run per learning rate and seed; pass the runs of one sweep only")
    rows = []
    for key, sweep in points.groupby(keys, sort=True):
        optimum = find_optimum(dict(zip(sweep["exponent"], sweep["loss"], strict=True)))
        rows.append({**dict(zip(keys, key, strict=True)), **optimum._asdict()})
    return pd.DataFrame(rows, columns=[*keys, *Optimum._fields])


def select_optima(optima: pd.DataFrame, task: str, algorithm: str, units: int) -> pd.DataFrame:
    """The optima of one algorithm at one width, indexed by seed."""
    chosen = (optima["task"] == task) & (optima["algorithm"] == algorithm) & (optima["units"] == units)
    return optima[chosen].set_index("seed").sort_index()


def widths(optima: pd.DataFrame, task: str, algorithm: str, start: int = 1) -> list[int]:
    """The widths at which an algorithm was trained on a task, from ``start`` units up, narrowest first."""
    chosen = optima[(optima["task"] == task) & (optima["algorithm"] == algorithm) & (optima["units"] >= start)]
    return sorted({int(units) for units in chosen["units"]})


# "unclear": the interval has values on both sides of the limit.
Move: TypeAlias = Literal["stays", "moves", "unclear"]


class Bounds(NamedTuple):
    """What is known of a value that may be censored: the 95 % interval of the least that it can be, and of the most.

    Where nothing is censored, both are the same. ``low`` to ``high`` covers the value wherever it is in between.
    """

    least: Interval
    most: Interval

    @property
    def low(self) -> float:
        """The lower end."""
        return self.least.low

    @property
    def high(self) -> float:
        """The upper end."""
        return self.most.high

    @property
    def n(self) -> int:
        """The number of seeds."""
        return self.least.n

    @property
    def censored(self) -> bool:
        """Whether the value is known only between two bounds, in some seed at least."""
        return self.least != self.most

    def place(self) -> str:
        """The value as a place: ``-4.90 ± 0.59``, or ``≥ -3.00 ± 0.00``."""
        return f"{'≥ ' if self.censored else ''}{self.least.plus_minus()}"

    def move(self) -> str:
        """The value as a distance: ``+0.20 [-0.10, +0.50]``, or ``+1.90 to +2.40 [+1.31, +2.99]``."""
        if not self.censored:
            return self.least.bracket(signed=True)
        return f"{self.least.estimate:+.2f} to {self.most.estimate:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    def judge(self, octaves: float) -> Move:
        """Whether a distance of at most ``octaves``, in either direction, is certain, excluded, or neither."""
        if self.low > octaves or self.high < -octaves:
            return "moves"
        return "stays" if max(-self.low, self.high) <= octaves else "unclear"

    @property
    def size(self) -> float:
        """The distance, its least possible one in either direction."""
        least, most = self.least.estimate, self.most.estimate
        return 0.0 if least <= 0 <= most else min(abs(least), abs(most))


def judge_start(transferring: Mapping[int, Bounds], other: Bounds, octaves: float) -> Status:
    """The verdict on a best learning rate that is said to stay from one width on.

    Not supported if one move of the transferring algorithm exceeds ``octaves``. Supported if none of them can, while
    the other algorithm's move does: otherwise there is nothing that the first one could mend.

    Args:
        transferring: Its moves by the greater width.
        other: The other algorithm's move to the greatest width.
        octaves: The limit, > 0.
    """
    judged = {bounds.judge(octaves) for bounds in transferring.values()}
    if "moves" in judged:
        return "not supported"
    return "supported" if judged == {"stays"} and other.judge(octaves) == "moves" else "inconclusive"


def optimum_bounds(optima: pd.DataFrame, task: str, algorithm: str, units: int) -> Bounds | None:
    """log2 of the best learning rate, mean over the seeds with its interval; None with fewer than two seeds."""
    chosen = select_optima(optima, task, algorithm, units)
    return _bounds(chosen["exponent"], chosen["ceiling"])


def shift_bounds(optima: pd.DataFrame, task: str, algorithm: str, units: int, start: int) -> Bounds | None:
    """How many octaves the optimum moves from ``start`` units to ``units``, paired by seed; None as above."""
    wide, narrow = (select_optima(optima, task, algorithm, n) for n in (units, start))
    return _bounds(wide["exponent"] - narrow["ceiling"], wide["ceiling"] - narrow["exponent"])


def _bounds(least: pd.Series, most: pd.Series) -> Bounds | None:
    low, high = least.dropna().tolist(), most.dropna().tolist()
    return Bounds(mean_interval(low), mean_interval(high)) if len(low) > 1 else None


def loss_ratio(optima: pd.DataFrame, task: str, algorithm: str, units: int, narrower: int) -> Interval | None:
    """The ratio of the lowest losses at ``units`` and at the ``narrower`` width; None as above, or if one diverged."""
    wide, narrow = (select_optima(optima, task, algorithm, n)["loss"] for n in (units, narrower))
    pairs = [pair for pair in pd.concat([wide, narrow], axis=1).dropna().itertuples(index=False, name=None)]
    usable = len(pairs) > 1 and all(0 < loss < math.inf for pair in pairs for loss in pair)
    return ratio_interval(pairs) if usable else None
