"""How much smaller a method's error is than its baseline's: one scale for tasks that measure different things."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Comparison, by_seed, select_pair
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.evidence.statistics import Interval, mean_interval


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A comparison that stands for a topic, and what the method needs.

    Attributes:
        topic: The topic's name in the table.
        study: The study that has both.
        task: One of its tasks.
        algorithm: The method.
        baseline: What it is compared with.
        metric: In which, with a best value, or one that is best at 0.
        samples: Training samples that both may use.
        parameters: Of the method; None where its runs record them, or where there are none.
    """

    topic: str
    study: str
    task: str
    algorithm: str
    baseline: str
    metric: str
    samples: int
    parameters: int | None = None

    @property
    def comparison(self) -> Comparison:
        """The comparison of the two."""
        return Comparison(self.task, self.algorithm, self.baseline)


def error_ratio(frame: pd.DataFrame, gain: Gain) -> Interval | None:
    r"""The baseline's error over the method's: geometric mean of the ratios by seed, with its 95 % interval.

    .. math:: r_s = \frac{e_{baseline, s}}{e_{method, s}}, \qquad
        \exp\left(\overline{\log r} \pm t_{0.975, n - 1} \frac{sd(\log r)}{\sqrt n}\right)

    where an error is the distance from the best value. Above 1 the method is better.

    Args:
        frame: The runs of the gain's study, from ``frames.records_frame``.
        gain: What is compared.

    Returns:
        None with fewer than two seeds that both have, or if an error is 0, which has no ratio.
    """
    baseline, method = (_errors(runs, gain.metric) for runs in reversed(select_pair(frame, gain.comparison)))
    seeds = sorted(baseline.keys() & method.keys())
    if len(seeds) < 2 or any(errors[seed] <= 0 for seed in seeds for errors in (baseline, method)):
        return None
    logs = mean_interval([math.log(baseline[seed] / method[seed]) for seed in seeds])
    return Interval(math.exp(logs.estimate), math.exp(logs.low), math.exp(logs.high), logs.n)


def _errors(runs: pd.DataFrame, metric: str) -> dict[int, float]:
    """The distance of each run's metric from its best value, by seed."""
    best = METRICS[metric].best or 0.0
    return {seed: abs(best - value) for seed, value in by_seed(runs, metric).items()}
