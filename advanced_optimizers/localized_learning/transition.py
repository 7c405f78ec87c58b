"""How the transition, the boundary between localized and SGD learning, moves from epoch to epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from torch import Tensor

from advanced_optimizers._checks import check_integer, check_range


@dataclass(frozen=True, kw_only=True)
class StaticTransition:
    r"""The transition as a function of the epoch alone.

    With :math:`E` = ``total_epochs``, warm-up :math:`e_0 = \lceil \text{warmup} \cdot E \rceil` and highest transition
    :math:`T_{max}`:

    .. math:: T_e = \lfloor T_{max} \cdot \operatorname{clip}((e - e_0) / (E - e_0), 0, 1)^p \rfloor

    Because of the floor, a low :math:`T_{max}` is reached late: with :math:`T_{max} = 1` only the last epoch has a
    localized block. Without ``total_epochs`` the transition is fixed: in the first epoch all blocks learn by SGD, from
    the second one on :math:`T_e = T_{max}`.

    Args:
        total_epochs: :math:`E \ge 1`; the last epoch reaches :math:`T_{max}`, and further ones keep it. None: see
            above.
        warmup: Fraction of the epochs, in [0, 1), in which all blocks learn by SGD. Only with ``total_epochs``.
        power: :math:`p > 0`; with 1 the boundary moves at an even pace, with 2 it moves late. Only with
            ``total_epochs``.

    Raises:
        TypeError: A value is not a number.
        ValueError: A value is out of range, or ``warmup`` or ``power`` is given without ``total_epochs``.
    """

    total_epochs: int | None = None
    warmup: float = 0.1
    power: float = 2.0

    def __post_init__(self) -> None:
        _keep_checked(self, "warmup", check_range("warmup", self.warmup, low=0.0, high=1.0, open_high=True))
        power = check_range("power", self.power, low=0.0, high=math.inf, open_low=True, open_high=True)
        _keep_checked(self, "power", power)
        if self.total_epochs is not None:
            _keep_checked(self, "total_epochs", check_integer("total_epochs", self.total_epochs, low=1))
            return
        for name, value, default in (("warmup", self.warmup, 0.1), ("power", self.power, 2.0)):
            if value != default:
                raise ValueError(f"{name} shapes a schedule over total_epochs, but total_epochs is None; got {value}")

    def following(self, epoch: int, transition: int, highest: int, updates: Sequence[Sequence[float]]) -> int:
        """The transition of epoch ``epoch + 1``, in [0, ``highest``]; epochs are counted from 1."""
        if self.total_epochs is None:
            return highest
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
        warmup: Fraction of the epochs, in [0, 1), in which all blocks learn by SGD. Only with ``total_epochs``.

    Raises:
        TypeError: A value is not a number.
        ValueError: A value is out of range, or ``warmup`` is given without ``total_epochs``.
    """

    alpha: float = 0.5
    shift: int | None = None
    total_epochs: int | None = None
    warmup: float = 0.1

    def __post_init__(self) -> None:
        _keep_checked(self, "alpha", check_range("alpha", self.alpha, low=0.0, high=math.inf, open_high=True))
        _keep_checked(self, "warmup", check_range("warmup", self.warmup, low=0.0, high=1.0, open_high=True))
        if self.shift is not None:
            _keep_checked(self, "shift", check_integer("shift", self.shift, low=1))
        if self.total_epochs is not None:
            _keep_checked(self, "total_epochs", check_integer("total_epochs", self.total_epochs, low=1))
        elif self.warmup != 0.1:
            raise ValueError(f"warmup is a fraction of total_epochs, but total_epochs is None; got {self.warmup}")

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
        losses: The training losses so far, None for an epoch without one.
        steps: The number of steps so far.
        lr_sum: The sum of the learning rates of this epoch's steps so far.
        expected: The number of this epoch's steps so far at which localized layers should have learned.
        observed: The number of those at which at least one did.
        epoch_steps: The number of this epoch's steps so far.
        loss_sum: The sum of the losses that were observed in this epoch so far.
        loss_count: Their number.
    """

    updates: list[list[float]]
    transition: int = 0
    direction: float = 1.0
    losses: list[float | None] = field(default_factory=list)
    steps: int = 0
    lr_sum: float = 0.0
    expected: int = 0
    observed: int = 0
    epoch_steps: int = 0
    loss_sum: float | Tensor = 0.0
    loss_count: int = 0

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Schedule:
        """The schedule whose :meth:`state` this is."""
        return cls(**copy.deepcopy(dict(saved)))

    def state(self) -> dict[str, Any]:
        """All attributes by their names."""
        return {**asdict(self), "loss_sum": float(self.loss_sum)}

    @property
    def values(self) -> list[float]:
        """What must be the same in all processes."""
        return [float(self.transition), self.direction, float(self.steps)]

    def count_step(self, lr: float) -> None:
        """Counts one step with this learning rate."""
        self.steps += 1
        self.epoch_steps += 1
        self.lr_sum += lr

    def observe(self, loss: float | Tensor) -> None:
        """Adds the loss of one batch; a tensor is not waited for."""
        self.loss_sum = self.loss_sum + (loss.detach().reshape(()).float() if isinstance(loss, Tensor) else loss)
        self.loss_count += 1

    @property
    def mean_loss(self) -> float | None:
        """The mean of this epoch's observed losses."""
        return float(self.loss_sum) / self.loss_count if self.loss_count else None

    def check_observed(self) -> None:
        """Raises a RuntimeError if no localized layer learned in this epoch."""
        if self.expected > 0 and self.observed == 0:
            raise RuntimeError(
                f"the {self.transition} localized blocks saw no forward pass in training mode with gradients enabled "
                "during this epoch: train the model with which the optimizer was built, not a copy of it, and compile "
                "the model after building the optimizer"
            )

    def end_epoch(
        self,
        loss: float | None,
        selection: Transition,
        highest: int,
        weak_supervision_weight: float,
        possible: int | None = None,
    ) -> int:
        """Decides the next epoch's direction and transition.

        Args:
            loss: The epoch's training loss; None if it is not known.
            selection: How the transition moves.
            highest: The highest transition of the schedule.
            weak_supervision_weight: How strongly a rising loss reverses the localized updates.
            possible: The highest transition that the model allows; by default ``highest``.

        Returns:
            The transition that ``selection`` asked for.
        """
        previous = self.losses[-1] if self.losses else None
        fell = loss is None or previous is None or loss <= previous
        self.direction = 1.0 if fell else -weak_supervision_weight
        self.losses.append(loss)
        wanted = max(self.transition, selection.following(len(self.losses), self.transition, highest, self.updates))
        self.transition = wanted if possible is None else min(wanted, possible)
        self.lr_sum, self.expected, self.observed = 0.0, 0, 0
        self.epoch_steps, self.loss_sum, self.loss_count = 0, 0.0, 0
        return wanted


def _keep_checked(selection: Transition, name: str, value: float) -> None:
    object.__setattr__(selection, name, value)  # frozen for everyone else; Python's number instead of NumPy's


def _whole(epochs: float) -> int:
    return math.ceil(epochs - 1e-9)  # 3.0000000000000004 counts as 3
