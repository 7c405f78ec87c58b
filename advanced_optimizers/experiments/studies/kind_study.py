"""Comparisons of runs of another kind than training a classifier: searches, meta-learners, federations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.study import BaseStudy
from advanced_optimizers.experiments.studies.task import AnyTask

# (algorithm, seed) -> the run.
MakeConfig = Callable[[str, int], KindConfig]


@dataclass(frozen=True, kw_only=True)
class KindTask(AnyTask):
    """A task of a kind.

    Attributes:
        task: The task that its configurations say is theirs.
        reads: The data that it is on: keys of ``data.DATASETS``.
        config: The run of an algorithm with a seed.
        protocol: What the report's table of protocols says about it: words and numbers by the name of the column.
        left_out: The algorithms of the study that are not run on it.
    """

    task: str
    reads: tuple[str, ...]
    config: MakeConfig = field(repr=False)
    protocol: Mapping[str, str | float] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """See :class:`.AnyTask`."""
        return self.task

    @property
    def datasets(self) -> tuple[str, ...]:
        """See :class:`.AnyTask`."""
        return self.reads


class TradeOff(NamedTuple):
    """Two quantities that are plotted against each other over the points of a run.

    Attributes:
        across: That of the horizontal axis: a key of ``evidence.metrics.METRICS``.
        up: That of the vertical axis, likewise.
        log: Whether the horizontal axis is logarithmic.
        marked: A value on the horizontal axis to compare with, drawn as a line.
    """

    across: str
    up: str
    log: bool = False
    marked: float | None = None


@dataclass(frozen=True, kw_only=True)
class KindStudy(BaseStudy):
    """Every algorithm on every task with every seed. Nothing is tuned beforehand: the tasks say what is stated.

    Attributes:
        tasks: What is done.
        metrics: The metrics in which the runs are compared: keys of ``evidence.metrics.METRICS``.
        curves: What is plotted over the points of a run: keys of ``evidence.metrics.CURVES``.
        constants: What does not vary among an algorithm's runs on a task, and stands beside its metrics in a table:
            keys of ``evidence.metrics.METRICS``.
        against: One of them that the first metric is plotted against; empty for none.
        sizes: By task, a number in which the tasks differ; with it, test accuracy is plotted over that number.
        over: What that number is, for the axis.
        trade_offs: What is plotted by what over the points of a run.
        counts: What the points of a run are, where a curve does not say.
    """

    tasks: tuple[KindTask, ...]
    metrics: tuple[str, ...]
    curves: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    against: str = ""
    sizes: Mapping[str, float] = field(default_factory=dict)
    over: str = "size"
    trade_offs: tuple[TradeOff, ...] = ()
    counts: str = "epoch"

    def final_configs(self, store: RunStore) -> list[KindConfig]:
        """Every run, seed by seed.

        Raises:
            ValueError: A configuration names another task, algorithm or seed than it was asked for.
        """
        return [
            self._config(task, algorithm, seed)
            for seed in self.seeds
            for task in self.tasks
            for algorithm in self.algorithms
            if algorithm not in task.left_out
        ]

    def _config(self, task: KindTask, algorithm: str, seed: int) -> KindConfig:
        config = task.config(algorithm, seed)
        asked, got = (task.name, algorithm, seed), (config.task, config.algorithm, config.seed)
        if asked != got:
            raise ValueError(f"config must return the run of {asked} in the study {self.name}, got that of {got}")
        return config
