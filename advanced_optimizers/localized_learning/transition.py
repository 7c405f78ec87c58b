"""How the transition, the boundary between localized and SGD learning, moves from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from advanced_optimizers._checks import check_integer, check_range


@dataclass(frozen=True, kw_only=True)
class StaticTransition:
    r"""The transition as a function of the epoch alone.

    With :math:`E` = ``total_epochs``, warm-up :math:`e_0 = \lceil \text{warmup} \cdot E \rceil` and highest transition
    :math:`T_{max}`:

    .. math:: T_e = \lfloor T_{max} \cdot \operatorname{clip}((e - e_0) / (E - e_0), 0, 1)^p \rfloor

    Because of the floor, a low :math:`T_{max}` is reached late: with :math:`T_{max} = 1` only the last epoch has a
    localized block.

    Args:
        total_epochs: :math:`E \ge 1`; the last epoch reaches :math:`T_{max}`, and further ones keep it.
        warmup: Fraction of the epochs, in [0, 1), in which all blocks learn by SGD.
        power: :math:`p > 0`; with 1 the boundary moves at an even pace, with 2 it moves late.
    """

    total_epochs: int
    warmup: float = 0.1
    power: float = 2.0

    def __post_init__(self) -> None:
        check_integer("total_epochs", self.total_epochs, low=1)
        check_range("warmup", self.warmup, low=0.0, high=1.0, open_high=True)
        check_range("power", self.power, low=0.0, high=math.inf, open_low=True, open_high=True)

    def following(self, epoch: int, transition: int, highest: int, updates: Sequence[Sequence[float]]) -> int:
        """The transition of epoch ``epoch + 1``, in [0, ``highest``]; epochs are counted from 1."""
        warmup = _whole(self.warmup * self.total_epochs)
        share = min(max(0.0, (epoch + 1 - warmup) / max(1, self.total_epochs - warmup)), 1.0)
        return math.floor(highest * share**self.power + 1e-9)  # 2.9999999999999996 counts as 3


@dataclass(frozen=True, kw_only=True)
class DynamicTransition:
    r"""The transition moves on when the weights of the block at the transition hardly change any more.

    With :math:`u_e` the size of that block's update in epoch :math:`e`, and :math:`\bar u` its mean over the earlier
    epochs:

    .. math:: T_{e+1} = T_e + \text{shift} \text{ if } u_e \le \alpha\, \bar u, \text{ else } T_e

    Args:
        alpha: :math:`\alpha \ge 0`; with a larger value the transition moves on sooner.
        shift: How many blocks it moves at a time, at least 1. Default: a tenth of the blocks, but at least 1.
        total_epochs: Length of the run in epochs, from which the warm-up is computed; without it the warm-up is one
            epoch.
        warmup: Fraction of the epochs, in [0, 1), in which all blocks learn by SGD.
    """

    alpha: float = 0.5
    shift: int | None = None
    total_epochs: int | None = None
    warmup: float = 0.1

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, low=0.0, high=math.inf, open_high=True)
        if self.shift is not None:
            check_integer("shift", self.shift, low=1)
        if self.total_epochs is not None:
            check_integer("total_epochs", self.total_epochs, low=1)
        check_range("warmup", self.warmup, low=0.0, high=1.0, open_high=True)

    def following(self, epoch: int, transition: int, highest: int, updates: Sequence[Sequence[float]]) -> int:
        """The transition of epoch ``epoch + 1``; ``updates`` has one list per block, with epoch ``epoch`` last."""
        warmup = 1 if self.total_epochs is None else _whole(self.warmup * self.total_epochs)
        if epoch < warmup or len(updates[transition]) < 2:
            return transition
        *earlier, latest = updates[transition]
        if not latest <= self.alpha * sum(earlier) / len(earlier):  # also for nan
            return transition
        shift = max(1, round(0.1 * len(updates))) if self.shift is None else self.shift
        return min(transition + shift, highest)


Transition: TypeAlias = StaticTransition | DynamicTransition


@dataclass
class Schedule:
    """The current transition and direction of the localized updates, and what the next decision depends on.

    Attributes:
        updates: For each block, the size of its update in each epoch in which it learned by gradient.
        transition: Index of the first block that learns by gradient.
        direction: Sigma, the sign and scale of the localized updates.
        losses: The training losses so far.
        steps: The number of steps so far.
        lr_sum: The sum of the learning rates of this epoch's steps so far.
        expected: The number of this epoch's steps so far at which localized layers should have learned.
        observed: The number of those at which at least one did.
    """

    updates: list[list[float]]
    transition: int = 0
    direction: float = 1.0
    losses: list[float] = field(default_factory=list)
    steps: int = 0
    lr_sum: float = 0.0
    expected: int = 0
    observed: int = 0

    def end_epoch(self, loss: float, selection: Transition, highest: int, weak_supervision_weight: float) -> None:
        """Decides the next epoch's direction and transition."""
        fell = not self.losses or loss <= self.losses[-1]
        self.direction = 1.0 if fell else -weak_supervision_weight
        self.losses.append(loss)
        following = selection.following(len(self.losses), self.transition, highest, self.updates)
        self.transition = max(self.transition, following)
        self.lr_sum, self.expected, self.observed = 0.0, 0, 0


def _whole(epochs: float) -> int:
    return math.ceil(epochs - 1e-9)  # 3.0000000000000004 counts as 3
