"""What is compared, on which task and with which budget: the project's protocol, for anyone's algorithms.

The tasks, their margins and their halving are those of the project's own comparisons, so whatever of these is recorded
need not be trained again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from advanced_optimizers._checks import unknown_name
from advanced_optimizers.experiments.compare.code import CompareError
from advanced_optimizers.experiments.evidence.contests import binomial_error
from advanced_optimizers.experiments.records.config import BaseConfig, Hyperparameters
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.halving import Rung
from advanced_optimizers.experiments.studies.referee import DEFAULTS, Referee, at_defaults, tunings
from advanced_optimizers.experiments.studies.registry import STUDIES
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Range

# Trials per tuning, tunings, and runs per tuning.
BUDGET, TUNINGS, RUNS = 8, 4, 3
MARGIN = 0.005  # of own data, at least
_IMAGES = 2.5  # that a margin must be worth
_TYPICAL = 0.9  # accuracy, for the binomial error before there is any


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The conditions that all algorithms of a comparison share. Results under two of them are not comparable.

    Attributes:
        task: Dataset, model and training.
        trials: Tuning trials per tuning.
        tunings: How often each algorithm is tuned.
        runs: Runs per tuning.
        margin: The largest difference in test accuracy that does not matter, as a fraction; None for no verdict.
        withheld: Why there is no verdict, if there is none.
        rungs: The rungs of halving, if any.
        tie: See :class:`.Study`.
        test_images: Size of the test set.
    """

    task: Task
    trials: int
    tunings: int
    runs: int
    margin: float | None
    withheld: str = ""
    rungs: tuple[Rung, ...] = ()
    tie: float = 0.0
    test_images: int = 0

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Protocol:
        """Reads :meth:`as_json` back."""
        task = {**content["task"], "alternatives": tuple(content["task"]["alternatives"])}
        rungs = tuple(Rung(**rung) for rung in content["rungs"])
        return Protocol(**{**content, "task": Task(**task), "rungs": rungs})

    def differences(self, other: Protocol) -> list[str]:
        """In what two protocols differ, in words."""
        mine, theirs = self.as_json(), other.as_json()
        own = {**{f"task {name}": value for name, value in mine.pop("task").items()}, **mine}
        its = {**{f"task {name}": value for name, value in theirs.pop("task").items()}, **theirs}
        return [f"{name} {own[name]!r} and {its[name]!r}" for name in own if own[name] != its[name]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison: who is compared with whom, under which protocol.

    Attributes:
        protocol: The conditions.
        contenders: Names in the table of algorithms: those that are judged.
        anchors: Those that they are compared with.
        ranges: By algorithm, ranges that differ from the table's.
        untuned: By algorithm, the values of its constructor, with which it is run once more for each tuning; one that
            has none is left out.
    """

    protocol: Protocol
    contenders: tuple[str, ...]
    anchors: tuple[str, ...]
    ranges: Mapping[str, Mapping[str, Range]] = field(default_factory=dict)
    untuned: Mapping[str, Hyperparameters] = field(default_factory=dict)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The anchors, then the contenders."""
        return tuple(dict.fromkeys((*self.anchors, *self.contenders)))

    @property
    def study(self) -> Referee:
        """The comparison as a study. A family is all contenders against one anchor, or all other anchors."""
        protocol = self.protocol
        tuned = tunings(
            protocol.tunings,
            protocol.runs,
            ranges={(protocol.task.model, name): own for name, own in self.ranges.items()},
        )
        return Referee(
            name="compare",
            title="Is it better than the anchors?",
            profile="full",
            tasks=(protocol.task,),
            algorithms=self.algorithms,
            seeds=tuple(seed for variant in tuned.values() for seed in variant.seeds),
            trials=protocol.trials,
            variants={**tuned, **at_defaults(tuned, self.untuned)} if self.untuned else tuned,
            anchors=self.anchors,
            groups={"compared": self.contenders, "anchors": self.anchors},
            margins={} if protocol.margin is None else {protocol.task.name: protocol.margin},
            rungs=protocol.rungs,
            tie=protocol.tie,
            test_images=protocol.test_images,
        )

    def count(self, algorithm: str) -> tuple[int, int]:
        """How many trials and runs of the comparison one algorithm takes; with halving, all rungs' trials."""
        protocol = self.protocol
        trials = sum(rung.trials for rung in protocol.rungs) or protocol.trials
        runs = protocol.runs + (algorithm in self.untuned)
        return protocol.tunings * trials, protocol.tunings * runs

    def recorded(self, store: RunStore) -> dict[str, list[BaseConfig]]:
        """By algorithm, the known runs that have a record."""
        found: dict[str, list[BaseConfig]] = {name: [] for name in self.algorithms}
        for config in self.study.known_configs(store):
            if store.has(config):
                found[config.algorithm].append(config)
        return found


def stated() -> dict[str, Referee]:
    """By task, the project's own comparison on it; the first is what a newcomer gets."""
    found = [study for study in STUDIES.values() if isinstance(study, Referee)]
    ordered = sorted(found, key=lambda study: study.profile, reverse=True)  # the quick ones first
    by_task: dict[str, Referee] = {}
    for study in ordered:
        for task in study.tasks:
            by_task.setdefault(task.name, study)
    return by_task


def untuned_values() -> dict[str, Hyperparameters]:
    """By algorithm, the values of its constructor, as the project's own comparisons state them."""
    found: dict[str, Hyperparameters] = {}
    for study in STUDIES.values():
        if isinstance(study, Referee) and DEFAULTS in study.variants:
            found |= study.variants[DEFAULTS].untuned
    return found


def find_task(name: str | None) -> Referee:
    """The project's comparison on a task; ``name`` may be that of the dataset alone.

    Raises:
        CompareError: There is no such task.
    """
    known = stated()
    if name is None:
        return next(iter(known.values()))
    near = [study for task, study in known.items() if name in (task, study.tasks[0].dataset)]
    if not near:
        raise CompareError(str(unknown_name("task", name, known)))
    return near[0]


def find_algorithm(name: str) -> str:
    """The name in the table of algorithms; ``a+b`` is ``a-b``, and aliases are known.

    Raises:
        CompareError: There is none.
    """
    wanted = name.replace("+", "-")
    aliases = {alias: own for own, row in ALGORITHMS.items() for alias in row.aliases}
    wanted = aliases.get(wanted, wanted)
    if wanted not in ALGORITHMS:
        raise CompareError(
            f"{unknown_name('algorithm', name, [*ALGORITHMS, *aliases])} One of your own is given as mine.py:Mine"
        )
    return wanted


def make_protocol(
    study: Referee,
    *,
    task: Task,
    test_images: int | None = None,
    budget: int | None = None,
    studies: int | None = None,
    seeds: int | None = None,
    margin: float | None = None,
    verdict: bool = True,
) -> Protocol:
    """The protocol of a comparison: the project's, as far as nothing else is asked for.

    Args:
        study: The project's comparison on the task that this one begins from.
        task: The task, perhaps with another dataset, model or length.
        test_images: Size of the test set, if it is not the study's.
        budget: Trials per tuning.
        studies: Number of tunings.
        seeds: Runs per tuning.
        margin: The largest difference that does not matter, as a fraction.
        verdict: Whether a verdict is wanted, which takes enough test images.

    Raises:
        CompareError: The test images are too few for a verdict.
    """
    quick = study.profile == "quick"  # its counts are for tests
    own = None if quick else study.variants[study.tunings[0]]
    images = study.test_images if test_images is None else test_images
    trials = budget or (BUDGET if quick else study.trials)
    stated = study.tasks[0]
    as_stated = test_images is None and replace(task, epochs=stated.epochs) == stated
    protocol = Protocol(
        task=task.with_full_trials(),
        trials=trials,
        tunings=studies or (TUNINGS if own is None else len(study.tunings)),
        runs=seeds or (RUNS if own is None else len(own.seeds)),
        margin=study.margins.get(stated.name) if as_stated and margin is None else margin,
        rungs=study.rungs if task == stated and not quick and trials == study.trials else (),
        tie=study.tie if as_stated else 0.0,
        test_images=images,
    )
    return replace(protocol, **_verdict(protocol, wanted=verdict, too_small=quick and test_images is None))


def _verdict(protocol: Protocol, *, wanted: bool, too_small: bool) -> dict[str, Any]:
    """The margin, or why there is none; the project's own small data sets are known to be too small."""
    images, margin = protocol.test_images, protocol.margin
    needed = round(_IMAGES / (margin or MARGIN))
    few = f"{images} test images decide nothing: one image is {100 / max(1, images):.2g} points"
    if not wanted:
        return {"margin": None, "withheld": "none was asked for"}
    if images < needed:
        if too_small and margin is None:
            return {"margin": None, "withheld": few}
        raise CompareError(
            f"{few}; at least {needed} are needed for a margin of {100 * (margin or MARGIN):g}; --no-verdict trains "
            "anyway"
        )
    if margin is None:
        margin = max(MARGIN, round(2 * binomial_error(_TYPICAL, images), 4))
    return {"margin": margin}


def task_words(task: str) -> str:
    """A task's name without the hashes of a user's network and data."""
    return re.sub(r"(folder|user):|@[0-9a-f]{8}", "", task)


def names(algorithms: Sequence[str]) -> dict[str, str]:
    """Short names for text: the registry's, and a user's labels."""
    return {name: ALGORITHMS[name].label if ":" in name else name for name in algorithms}
