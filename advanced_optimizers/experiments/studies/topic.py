"""A topic: everything that the experiments know about one method and its studies, in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.gains import Gain
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.evidence.statement import Statement
from advanced_optimizers.experiments.studies.study import BaseStudy
from advanced_optimizers.experiments.training.algorithms import Algorithm
from advanced_optimizers.experiments.training.models import Model
from advanced_optimizers.experiments.training.trackers import Tracker


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One method, or a family of methods, with everything that its studies need.

    Attributes:
        title: Its name in figures and tables of all topics.
        algorithms: Rows of the table of algorithms, by name. A name is part of the records' ids and never changes.
        studies: Which runs answer which question, in the quick and in the full profile.
        claims: What is claimed, by whom, and the rule that decides it. Each claim belongs to one of the studies.
        models: Its own networks, by name.
        metrics: Quantities that its algorithms report.
        curves: How such quantities are plotted over the epochs.
        trackers: By name, functions that build a tracker, which every run updates after each epoch.
        tasks: The display names of tasks other than a dataset with a model.
        margins: By metric and task, the largest difference that does not matter, in the unit that is recorded.
        statements: What a source states that is no paper; the claims that decide some of them may be other topics'.
        gains: Comparisons that stand for topics, on one scale; the studies may be other topics'.
    """

    title: str
    algorithms: Mapping[str, Algorithm]
    studies: tuple[BaseStudy, ...] = ()
    claims: tuple[Claim, ...] = ()
    models: Mapping[str, Model] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    curves: tuple[Curve, ...] = ()
    trackers: Mapping[str, Callable[[int], Tracker]] = field(default_factory=dict)
    tasks: Mapping[str, str] = field(default_factory=dict)
    margins: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    statements: tuple[Statement, ...] = ()
    gains: tuple[Gain, ...] = ()
