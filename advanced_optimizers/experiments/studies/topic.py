"""What a topic is: all that the experiments know of one method and its studies, in one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.studies.study import BaseStudy
from advanced_optimizers.experiments.training.algorithms import Algorithm
from advanced_optimizers.experiments.training.models import Model
from advanced_optimizers.experiments.training.trackers import Tracker


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One method, or a family of them, with everything that its studies need.

    Attributes:
        title: What figures and tables of all topics call it.
        algorithms: Rows of the table of algorithms, by name. A name is part of the records' ids: it never changes.
        studies: Which runs answer which question, in the quick and in the full profile.
        claims: What is claimed, by whom, and the rule that decides it; each belongs to one of the studies.
        models: Networks of its own, by name.
        metrics: Quantities that its algorithms report.
        curves: How such quantities are drawn over the epochs.
        trackers: What makes measurements that every run takes after each epoch, by name.
    """

    title: str
    algorithms: Mapping[str, Algorithm]
    studies: tuple[BaseStudy, ...] = ()
    claims: tuple[Claim, ...] = ()
    models: Mapping[str, Model] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    curves: tuple[Curve, ...] = ()
    trackers: Mapping[str, Callable[[int], Tracker]] = field(default_factory=dict)
