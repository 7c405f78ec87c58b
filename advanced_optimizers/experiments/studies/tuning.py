"""The equal tuning budget: every algorithm gets the same number of trials, spread evenly over its search space.

The points are quasi-random and chosen before any trial runs. So trials are independent and resume like any other run,
and no algorithm can profit from a luckier adaptive search.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from advanced_optimizers._checks import check_integer
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.training.algorithms import Range

_SIGNIFICANT_DIGITS = 4


def sample_hyperparameters(
    search_space: Mapping[str, Range], trials: int, seed: int = 0, first: int = 0
) -> list[Hyperparameters]:
    """Returns points of a scrambled Sobol sequence in a search space.

    The sequence is nested: more trials begin with the same points, so a further tuning goes on where one stopped.

    Args:
        search_space: The range of each hyperparameter.
        trials: Number of points, >= 1.
        seed: Scrambles the sequence; the same seed produces the same points.
        first: Index of the first point in the sequence, >= 0.
    """
    check_integer("trials", trials, low=1)
    check_integer("first", first, low=0)
    points = _points(tuple(search_space.items()), first + trials, seed)
    return [dict(point) for point in points[first:]]


@cache  # the same few spaces are asked for again and again
def _points(search_space: tuple[tuple[str, Range], ...], count: int, seed: int) -> list[Hyperparameters]:
    from scipy.stats import qmc

    if not search_space:
        return [{} for _ in range(count)]
    names, ranges = zip(*search_space, strict=True)
    sequence = qmc.Sobol(len(ranges), scramble=True, seed=seed)
    with warnings.catch_warnings():  # a number of points that is not a power of two is balanced a little less
        warnings.simplefilter("ignore", UserWarning)
        shares = sequence.random(count).tolist()
    points = ({name: value_at(*pair) for name, *pair in zip(names, ranges, point, strict=True)} for point in shares)
    return [dict(sorted(point.items())) for point in points]


def value_at(space: Range, share: float) -> float:
    """The value at a share of a range, in [0, 1); an integer range reaches half a step beyond its ends."""
    beyond = 0.5 if space.integer else 0.0
    low, high = (math.log(x) if space.log else x for x in (space.low - beyond, space.high + beyond))
    value = low + share * (high - low)
    value = math.exp(value) if space.log else value
    if space.integer:
        return min(max(round(value), int(space.low)), int(space.high))
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


def best_trial(records: Sequence[RunRecord], tie: float = 0.0) -> RunRecord:
    """The completed trial with the highest validation accuracy at the last epoch; the lowest loss breaks ties.

    Args:
        records: The trials.
        tie: Accuracies that are lower than the highest by at most this count as ties with it.

    Raises:
        ValueError: Every trial diverged.
    """
    return best_trials(records, 1, tie)[0]


def best_trials(records: Sequence[RunRecord], count: int, tie: float = 0.0) -> list[RunRecord]:
    """The best completed trials, best first, at most ``count`` of them; see :func:`best_trial`.

    Raises:
        ValueError: Every trial diverged.
    """
    completed = [record for record in records if record.status == "completed"]
    if not completed:
        raise ValueError(f"all {len(records)} trials diverged: the search space needs smaller learning rates")
    highest, _ = max(map(_score, completed))

    def rank(record: RunRecord) -> tuple[float, float]:
        accuracy, minus_loss = _score(record)
        return (highest if accuracy >= highest - tie else accuracy), minus_loss

    return sorted(completed, key=rank, reverse=True)[:count]


def at_the_edge(chosen: float, space: Range, trials: Sequence[float]) -> bool:
    """Whether a chosen value lies at the edge of its range, so that a better one may lie outside.

    It does if it is in the outermost of the ``n`` equal strata of the range, on the range's own scale, where ``n`` is
    the number of trials, or if it is the lowest or the highest value that was tried.

    Args:
        chosen: The value of the chosen trial.
        space: The range that was searched.
        trials: The values of all trials.
    """
    place = place_in(chosen, space)
    outermost = 1 / len(trials)
    return place < outermost or place > 1 - outermost or chosen in (min(trials), max(trials))


def place_in(value: float, space: Range) -> float:
    """Where a value lies in a range, on the range's scale: 0 at its low end, 1 at its high end."""
    low, high, at = (math.log(x) if space.log else x for x in (space.low, space.high, value))
    return (at - low) / (high - low)


def moved(space: Range, octaves: int) -> Range:
    """The range with both ends multiplied by ``2 ** octaves``, so that as many trials lie as densely as before."""
    return replace(space, low=space.low * 2.0**octaves, high=space.high * 2.0**octaves)


def _score(record: RunRecord) -> tuple[float, float]:
    accuracy, loss = record.final["test_accuracy"], record.final["test_loss"]
    return (-math.inf if accuracy is None else accuracy, -math.inf if loss is None else -loss)
