"""The table of algorithms: the label, baseline, search space and learner of each.

The table is empty until topics register their rows, which importing ``studies`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from advanced_optimizers._checks import check_range, unknown_name
from advanced_optimizers.experiments.training.learners import Learner, Setting


@dataclass(frozen=True, kw_only=True)
class Range:
    """The search range of a hyperparameter, from ``low`` to ``high``: linear or logarithmic, real or integer."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        check_range("low", self.low, low=0.0 if self.log else -float("inf"), open_low=self.log)
        check_range("high", self.high, low=self.low, open_low=True)


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One row of ``ALGORITHMS``.

    Attributes:
        label: Its name in tables and figures.
        baseline: The algorithm that it is compared with, or None if it is a baseline itself.
        search_space: The hyperparameters that are tuned, with their ranges; ``rate`` is always one of them. A method
            over a baseline has it in the baseline's range.
        build: Builds the learner; None if its runs are of another kind than training a classifier, whose configurations
            say what they do. It then has no search space.
        options: Further hyperparameters that a configuration may set; they are not tuned.
        timed: Whether its time per epoch can be measured on a part of each epoch, side by side with the baseline. It
            cannot if the time depends on how training went, and need not if its epochs are the baseline's.
        control: Whether it only shows what the parts of a method contribute, and makes no claim of its own.
        claimed: The test accuracy in [0, 1] that the coursework states for it, by task.
        rate: The hyperparameter that plays the learning rate's part.
        full_space: Further hyperparameters that a wider search tunes, too, with their ranges.
        schedule: The schedule that it needs, see ``RunConfig``; None if it follows the task's.
        passes: Forward and backward passes per step. With two, it trains half the epochs in the same time.
        package: The package that it needs besides the project's own, as it is imported; None if it needs none.
        fixed: Hyperparameters that every run of it has, tuned or not.
        aliases: Other names that a user may call it by; no configuration has them.
    """

    label: str
    baseline: str | None
    search_space: Mapping[str, Range] = field(default_factory=dict)
    build: Callable[[Setting], Learner] | None = field(default=None, repr=False)
    options: frozenset[str] = frozenset()
    timed: bool = True
    control: bool = False
    claimed: Mapping[str, float] = field(default_factory=dict)
    rate: str = "lr"
    full_space: Mapping[str, Range] = field(default_factory=dict)
    schedule: str | None = None
    passes: int = 1
    package: str | None = None
    fixed: Mapping[str, float | int | bool | str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.build is not None and self.rate not in self.search_space:
            raise ValueError(f"search_space must include {self.rate}, got {sorted(self.search_space)}")

    @property
    def known(self) -> frozenset[str]:
        """The hyperparameters that a configuration may set."""
        return frozenset((*self.search_space, *self.full_space, *self.options, *self.fixed))


ALGORITHMS: dict[str, Algorithm] = {}


def get_algorithm(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
        ValueError: There is none; the message suggests the nearest names.
        RuntimeError: No topic is loaded.
    """
    if not ALGORITHMS:
        raise RuntimeError("no algorithm is registered: import advanced_optimizers.experiments.studies first")
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def build_learner(setting: Setting) -> Learner:
    """The learner that a run's configuration asks for.

    Raises:
        ValueError: The algorithm is unknown, or a hyperparameter is missing, unknown or out of range.
    """
    algorithm = get_algorithm(setting.config.algorithm)
    if algorithm.build is None:
        raise ValueError(f"algorithm must be one that trains a classifier, got {setting.config.algorithm!r}")
    given, known = set(setting.config.hyperparameters), algorithm.known
    if algorithm.rate not in given:
        raise ValueError(f"hyperparameters must include {algorithm.rate}, got {setting.config.hyperparameters}")
    if given - known:
        raise ValueError(
            f"hyperparameters of {setting.config.algorithm} must be among {sorted(known)}, got {sorted(given - known)}"
        )
    return algorithm.build(setting)
