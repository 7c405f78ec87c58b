"""Studies of tuning itself: one comparison, whose hyperparameters are chosen in several ways.

Each variant is an ordinary comparison over the same tasks and algorithms. Runs that two variants share, and those that
another study has trained already, are the same runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from advanced_optimizers.experiments.records.config import BaseConfig, Hyperparameters, RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.study import SEEDS, TRIALS, BaseStudy, Study
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import Range

_Kind = TypeVar("_Kind", bound="VariantStudy")
_AnyConfig = TypeVar("_AnyConfig", bound=BaseConfig)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to choose the hyperparameters of a comparison.

    Attributes:
        seeds: Seeds of the comparison's runs.
        block: Which block of the sequence of points the trials are, counted from 0; each has as many as there are
            trials.
        trial_seed: Seed of the trials.
        full_trials: Whether trials are as long as the runs, on as much data.
        ranges: By (model, algorithm), ranges that differ from those of the algorithm's search space.
        untuned: By algorithm, hyperparameters that are given instead of tuned.
        label_noises: Fractions of noisy training labels of the comparison's runs; trials have clean ones.
        batch_size: Images per step of the comparison's runs, if not those of the trials.
        algorithms: The algorithms that it is about; if empty, all of the study's.
    """

    seeds: tuple[int, ...] = SEEDS
    block: int = 0
    trial_seed: int = 0
    full_trials: bool = False
    ranges: Mapping[tuple[str, str], Mapping[str, Range]] = field(default_factory=dict)
    untuned: Mapping[str, Hyperparameters] = field(default_factory=dict)
    label_noises: tuple[float, ...] = (0.0,)
    batch_size: int | None = None
    algorithms: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VariantStudy(BaseStudy):
    """A comparison in several variants.

    Attributes:
        tasks: What is trained.
        trials: Tuning trials per algorithm, task and variant.
        variants: The variants by name. The first is the one of the other studies.
        left_out: Pairs of (model, algorithm) that are not run.
    """

    tasks: tuple[Task, ...]
    trials: int
    variants: Mapping[str, Variant]
    left_out: frozenset[tuple[str, str]] = frozenset()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics in which the variants are compared."""
        return ("test_accuracy",)

    def comparison(self, name: str) -> Study:
        """One variant as a study."""
        variant = self.variants[name]
        tasks = tuple(task.with_full_trials() for task in self.tasks) if variant.full_trials else self.tasks
        return Study(
            name=self.name,
            title=self.title,
            profile=self.profile,
            tasks=tasks,
            algorithms=variant.algorithms or self.algorithms,
            seeds=variant.seeds,
            in_progress=self.in_progress,
            dataset=self.dataset,
            label_noises=variant.label_noises,
            trials=self.trials,
            run_batch_size=variant.batch_size,
            left_out=frozenset(
                (task.name, algorithm)
                for task in tasks
                for model, algorithm in self.left_out
                if model == task.model and algorithm in self.algorithms
            ),
            first_point=variant.block * self.trials,
            trial_seed=variant.trial_seed,
            ranges={
                (task.name, algorithm): ranges
                for task in tasks
                for (model, algorithm), ranges in variant.ranges.items()
                if model == task.model
            },
            untuned=variant.untuned,
        )

    def comparisons(self) -> dict[str, Study]:
        """Every variant as a study, by name."""
        return {name: self.comparison(name) for name in self.variants}

    def tuning_configs(self) -> list[RunConfig]:
        """The tuning trials of all variants."""
        return _once(config for study in self.comparisons().values() for config in study.tuning_configs())

    def stages(self) -> Iterator[tuple[str, Callable[[RunStore], list[RunConfig]]]]:
        """The stages of the variants, side by side."""
        for parts in zip(*(study.stages() for study in self.comparisons().values()), strict=True):
            yield parts[0][0], partial(_all_of, [configs_of for _, configs_of in parts])

    def configs(self, store: RunStore) -> list[BaseConfig]:
        """Every run of all variants; a run that two stages share comes with the first.

        Raises:
            MissingRunsError: Tuning is not finished.
        """
        return _once(super().configs(store))

    def final_configs(self, store: RunStore) -> list[RunConfig]:
        """The runs of all variants.

        Raises:
            MissingRunsError: Tuning is not finished.
        """
        return _once(config for study in self.comparisons().values() for config in study.final_configs(store))

    def known_configs(self, store: RunStore) -> list[BaseConfig]:
        """The tuning trials of all variants, and the runs of every algorithm, task and variant that is tuned."""
        known = (config for study in self.comparisons().values() for config in study.known_configs(store))
        return _once(chain(self.tuning_configs(), known))


class Retuning(VariantStudy):
    """The same tuning several times, each with points and seeds of its own."""


class TrialLength(VariantStudy):
    """Tuning with short trials, and with trials as long as the runs."""


class Untuned(VariantStudy):
    """The tuned comparison, and the same algorithms at the values that their sources state."""


class MovedRanges(VariantStudy):
    """The tuned comparison, and the same with moved ranges where a choice was at the edge."""


def _all_of(parts: Sequence[Callable[[RunStore], list[RunConfig]]], store: RunStore) -> list[RunConfig]:
    return _once(config for configs_of in parts for config in configs_of(store))


def _once(configs: Iterable[_AnyConfig]) -> list[_AnyConfig]:
    """The configurations without repetitions, in their order."""
    return list({config.run_id: config for config in configs}.values())


def variants_in_both_profiles(
    kind: type[_Kind],
    *,
    full: tuple[Task, ...],
    quick: tuple[Task, ...],
    variants: Mapping[str, Variant],
    left_out: Collection[tuple[str, str]] = (),
    **fields: Any,
) -> tuple[_Kind, ...]:
    """Returns a study of variants in both profiles: full with 12 trials, quick with 2 trials and 2 seeds per variant.

    Args:
        kind: The kind of study.
        full: Tasks of the full profile.
        quick: Tasks of the quick profile; on ``digits``, so that they need no download.
        variants: See :class:`VariantStudy`.
        left_out: See :class:`VariantStudy`.
        **fields: The other fields, the same in both.
    """
    studies = []
    for profile, tasks, trials, count in (("full", full, TRIALS, None), ("quick", quick, 2, 2)):
        own = {name: replace(variant, seeds=variant.seeds[:count]) for name, variant in variants.items()}
        seeds = tuple(dict.fromkeys(seed for variant in own.values() for seed in variant.seeds))
        studies.append(
            kind(
                profile=profile,
                tasks=tasks,
                trials=trials,
                variants=own,
                seeds=seeds,
                left_out=frozenset(left_out),
                **fields,
            )
        )
    return tuple(studies)
