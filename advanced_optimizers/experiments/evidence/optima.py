"""Where a sweep's loss is lowest: the best learning rate at each width, how far it moves, and what finding it costs.

The loss is the mean training loss of the last epoch, as in the paper's sweeps. Learning rates are given by their log2,
so that distances are octaves. Every quantity is first computed for each seed; intervals are over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from advanced_optimizers.experiments.evidence.statistics import Interval, mean_interval, ratio_interval


class Optimum(NamedTuple):
    """The lowest point of one sweep over the learning rate.

    Attributes:
        exponent: log2 of the best learning rate, interpolated between the grid points by a parabola.
        loss: The lowest recorded loss; infinite if every run diverged.
        resolved: Whether the lowest point has runs on both sides. If not, the optimum may lie outside the sweep.
    """

    exponent: float
    loss: float
    resolved: bool


def find_optimum(losses: Mapping[int, float]) -> Optimum:
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
    sides = [finite.get(best - 1), finite.get(best + 1)]
    resolved = None not in sides and math.isfinite(finite[best])
    below, above = (math.inf if side is None else side for side in sides)
    offset = 0.0
    if math.isfinite(below + above) and finite[best] > 0:
        left, lowest, right = math.log(below), math.log(finite[best]), math.log(above)
        curvature = left - 2 * lowest + right
        offset = 0.5 * (left - right) / curvature if curvature > 0 else 0.0
    return Optimum(best + offset, finite[best], resolved)


def sweep_points(frame: pd.DataFrame, base_units: int) -> pd.DataFrame:
    """The runs of a sweep, one row per run: ``task, algorithm, units, seed, exponent, loss, seconds``.

    Args:
        frame: One row per run, from ``frames.records_frame``.
        base_units: Hidden units of the network at width 1.

    Returns:
        A frame whose ``loss`` is that of the last epoch, infinite for a run that diverged. ``seconds`` is the CPU time
        of the whole run, computed from its median epoch, since other work on the machine disturbs single epochs.
    """
    if frame.empty:
        return pd.DataFrame(columns=["task", "algorithm", "units", "seed", "exponent", "loss", "seconds"])
    completed = (frame["status"] == "completed") & np.isfinite(frame["train_loss"].astype(float))
    return pd.DataFrame(
        {
            **{name: frame[name] for name in ("task", "algorithm")},
            "units": (frame["width"] * base_units).round().astype(int),
            "seed": frame["seed"],
            "exponent": np.log2(frame["hp_lr"].astype(float)).round().astype(int),
            "loss": frame["train_loss"].astype(float).where(completed, math.inf),
            "seconds": frame["cpu_seconds_per_epoch"] * frame["epochs"],
        }
    )


def find_optima(points: pd.DataFrame) -> pd.DataFrame:
    """The optimum of each sweep: ``exponent, loss, resolved``, one row per ``task, algorithm, units, seed``.

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


def optimum_interval(optima: pd.DataFrame, task: str, algorithm: str, units: int) -> Interval | None:
    """log2 of the best learning rate, mean over the seeds with its interval; None with fewer than two seeds."""
    return _interval(select_optima(optima, task, algorithm, units)["exponent"].tolist())


def shift_interval(optima: pd.DataFrame, task: str, algorithm: str, units: int, start: int) -> Interval | None:
    """How many octaves the optimum moves from ``start`` units to ``units``, paired by seed; None as above."""
    at, before = (select_optima(optima, task, algorithm, n)["exponent"] for n in (units, start))
    return _interval((at - before).dropna().tolist())


def loss_ratio(optima: pd.DataFrame, task: str, algorithm: str, units: int, narrower: int) -> Interval | None:
    """The ratio of the lowest losses at ``units`` and at the ``narrower`` width; None as above, or if one diverged."""
    wide, narrow = (select_optima(optima, task, algorithm, n)["loss"] for n in (units, narrower))
    pairs = [pair for pair in pd.concat([wide, narrow], axis=1).dropna().itertuples(index=False, name=None)]
    usable = len(pairs) > 1 and all(0 < loss < math.inf for pair in pairs for loss in pair)
    return ratio_interval(pairs) if usable else None


def _interval(values: Sequence[float]) -> Interval | None:
    return mean_interval(values) if len(values) > 1 else None


class Transfer(NamedTuple):
    """What it costs to tune a narrow network and train a wide one once, compared with tuning the wide one.

    Attributes:
        units: The narrow width.
        target: The wide width.
        exponent: log2 of the best learning rate on the grid at the narrow width.
        direct: log2 of the best learning rate on the grid at the wide width.
        loss: The wide network's loss at ``exponent``, mean over the seeds.
        direct_loss: The wide network's loss at ``direct``, mean over the seeds.
        pairs: For each seed, the CPU seconds of (tuning narrow and training wide once, tuning wide), both with the
            same number of learning rates.
    """

    units: int
    target: int
    exponent: int
    direct: int
    loss: float
    direct_loss: float
    pairs: list[tuple[float, float]]


def find_transfer(points: pd.DataFrame, task: str, algorithm: str) -> Transfer | None:
    """The cheapest transfer to the greatest width that works.

    It starts from the smallest width whose best learning rate on the grid (by the mean loss over the seeds) is at most
    one octave from that of the greatest width and was also trained there. Both sides try as many learning rates as the
    sweep has at the greatest width.

    Returns:
        The transfer, or None if there is no such width.
    """
    own = points[(points["task"] == task) & (points["algorithm"] == algorithm)]
    means = own.groupby(["units", "exponent"])["loss"].mean()
    units = sorted({int(n) for n in own["units"]})
    if len(units) < 2:
        return None
    best = {n: int(means[n].idxmin()) for n in units}
    target = units[-1]
    for narrow in units[:-1]:
        if abs(best[narrow] - best[target]) <= 1 and best[narrow] in means[target]:
            loss, direct_loss = (float(means[target, exponent]) for exponent in (best[narrow], best[target]))
            return Transfer(narrow, target, best[narrow], best[target], loss, direct_loss, _costs(own, narrow, target))
    return None


def _costs(own: pd.DataFrame, narrow: int, target: int) -> list[tuple[float, float]]:
    seconds = own.groupby(["seed", "units"])["seconds"].mean()
    rates = own[own["units"] == target]["exponent"].nunique()
    return [
        (rates * float(seconds[seed, narrow]) + float(seconds[seed, target]), rates * float(seconds[seed, target]))
        for seed in sorted(own["seed"].unique())
        if (seed, narrow) in seconds and (seed, target) in seconds
    ]
