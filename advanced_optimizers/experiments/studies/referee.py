"""The protocol of the comparison: several tunings of each algorithm, and the tuning as the unit of inference.

What one tuning chooses scatters as much as seeds do. With one tuning and five seeds, a third of true ties would come
out as different; with the mean of a tuning's runs as one value, one in twenty does.

These means are not paired. Two algorithms share the seeds of a tuning, but in earlier runs of ours their accuracies by
seed correlated from -0.86 to 0.74, so pairing would halve the degrees of freedom for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.records.config import BaseConfig, Hyperparameters
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.halving import HalvingStudy, Rung
from advanced_optimizers.experiments.studies.study import MissingRunsError, Study
from advanced_optimizers.experiments.studies.variants import Variant, VariantStudy
from advanced_optimizers.experiments.training.algorithms import Range

DEFAULTS = "defaults"


@dataclass(frozen=True, kw_only=True)
class Referee(VariantStudy):
    """All algorithms under one protocol, each against one or more anchors.

    Everything that decides is written here before the first trial: spaces, budget, margins, and the families of
    comparisons. A family is what one question asks: all algorithms of a group against *one* anchor on one task.

    Attributes:
        anchors: The algorithms that all others are compared with, in turn.
        groups: By the group's name, its algorithms; every algorithm of the study is in one of them.
        margins: By task, the largest difference in test accuracy that does not matter, as a fraction. Where there is
            none, no verdict is given.
        rungs: The rungs of halving; none if all trials are as long as the runs.
        tie: See :class:`.Study`.
        test_images: Size of the test set, for what another one of this size would change.
        rule: What decides, in words.
    """

    anchors: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    margins: Mapping[str, float] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    tie: float = 0.0
    test_images: int
    rule: str = ""

    def comparison(self, name: str) -> Study:
        """One variant as a study, with halving if there are rungs."""
        study = replace(super().comparison(name), tie=self.tie)
        if not self.rungs:
            return study
        return HalvingStudy(**{known.name: getattr(study, known.name) for known in fields(study)}, rungs=self.rungs)

    def known_configs(self, store: RunStore) -> list[BaseConfig]:
        """The runs in the order of the stages, or as far as they are known before tuning is finished."""
        try:
            return self.configs(store)
        except MissingRunsError:
            return super().known_configs(store)

    @property
    def tunings(self) -> tuple[str, ...]:
        """The variants that are units of inference: those with tuned runs of every algorithm, as they were tuned."""
        return tuple(
            name
            for name, variant in self.variants.items()
            if (variant.label_noises, variant.batch_size, variant.algorithms) == ((0.0,), None, ())
            and not variant.untuned
        )

    def family(self, task: str, anchor: str, group: str) -> tuple[Comparison, ...]:
        """The algorithms of a group that are run on a task, against one anchor: what Holm's correction is over."""
        (own,) = [t for t in self.tasks if t.name == task]
        names = self.comparison(self.tunings[0]).algorithms_on(own)
        margin = self.margins.get(task)
        return tuple(
            Comparison(task, name, anchor, margin=margin)
            for name in names
            if name != anchor and name in self.groups[group]
        )

    def families(self) -> list[tuple[Comparison, ...]]:
        """Every family of the study; a group of which no algorithm is run has none."""
        found = (
            self.family(task.name, anchor, group)
            for task in self.tasks
            for anchor in self.anchors
            for group in self.groups
        )
        return [family for family in found if family]


def tunings(
    count: int,
    runs: int,
    *,
    ranges: Mapping[tuple[str, str], Mapping[str, Range]] | None = None,
) -> dict[str, Variant]:
    """Several tunings, counted from 1: each has its own block of points, and seeds that no trial has.

    Args:
        count: Number of tunings.
        runs: Runs per tuning. Their seeds are ``100 * tuning + run``; the trials' seed is 0.
        ranges: See :class:`.Variant`.
    """
    return {
        f"tuning {number}": Variant(
            block=number - 1,
            full_trials=True,
            seeds=tuple(100 * number + run for run in range(runs)),
            ranges=ranges or {},
        )
        for number in range(1, count + 1)
    }


def on_noisy_labels(tuned: Mapping[str, Variant], noises: tuple[float, ...]) -> dict[str, Variant]:
    """The first run of each tuning again, with noisy labels and what the tuning chose on clean ones."""
    return {
        f"{name}, noisy labels": replace(variant, seeds=variant.seeds[:1], label_noises=noises)
        for name, variant in tuned.items()
    }


def in_other_batches(tuned: Mapping[str, Variant], sizes: tuple[int, ...]) -> dict[str, Variant]:
    """The first run of each tuning again, in batches of other sizes and with what the tuning chose at its own."""
    return {
        f"{name}, batches of {size}": replace(variant, seeds=variant.seeds[:1], batch_size=size)
        for name, variant in tuned.items()
        for size in sizes
    }


def at_defaults(tuned: Mapping[str, Variant], defaults: Mapping[str, Hyperparameters]) -> dict[str, Variant]:
    """The runs that are untuned, with the first seed of each tuning.

    Args:
        tuned: The tunings.
        defaults: The values of the constructors, by algorithm; those without one are left out.
    """
    seeds = tuple(variant.seeds[0] for variant in tuned.values())
    return {DEFAULTS: Variant(seeds=seeds, untuned=defaults, algorithms=tuple(defaults))}
