"""The table of algorithms: what each is called, compared with, tuned over, and how its learner is built.

The table is empty until topics register their rows; ``studies`` loads the topics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from advanced_optimizers._checks import check_range, unknown_name
from advanced_optimizers.experiments.training.learners import Learner, Setting


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a hyperparameter is searched: from ``low`` to ``high``, on a logarithmic scale or not, integer or not."""

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
        baseline: The algorithm that it is compared with, or None when it is a baseline itself.
        search_space: What tuning may choose; ``lr`` is always there, in the same range as the baseline's.
        build: Makes the learner.
        options: Further hyperparameters that a configuration may set; they are not tuned.
        timed: Whether a part of each epoch, run next to the baseline, tells its time; not where that depends on how
            training went, or where its epochs are the baseline's.
        control: Whether it only shows what a method's parts contribute, and makes no claim of its own.
        claimed: By task, the test accuracy in [0, 1] that the coursework states for it.
    """

    label: str
    baseline: str | None
    search_space: Mapping[str, Range]
    build: Callable[[Setting], Learner] = field(repr=False)
    options: frozenset[str] = frozenset()
    timed: bool = True
    control: bool = False
    claimed: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "lr" not in self.search_space:
            raise ValueError(f"search_space must give the range of lr, got {sorted(self.search_space)}")


ALGORITHMS: dict[str, Algorithm] = {}


def get_algorithm(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
        ValueError: There is none; the nearest names are given.
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
    given, known = set(setting.config.hyperparameters), set(algorithm.search_space) | algorithm.options
    if "lr" not in given:
        raise ValueError(f"hyperparameters must give lr, got {setting.config.hyperparameters}")
    if given - known:
        raise ValueError(
            f"hyperparameters of {setting.config.algorithm} are {sorted(known)}, got also {sorted(given - known)}"
        )
    return algorithm.build(setting)
