"""The coursework's function for LoCal+SGD, with the schedule chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from advanced_optimizers._base import BaseOptimizer
from advanced_optimizers.localized_learning.optimizer import LocalizedOptimizer
from advanced_optimizers.localized_learning.transition import DynamicTransition, StaticTransition, Transition

__all__ = ["create_localized_optimizer"]


def create_localized_optimizer(
    model: nn.Module,
    lr: float,
    hebbian_lr: float = 0.001,
    selection_mode: str = "dynamic",
    weak_supervision_weight: float = 0.1,
    *,
    base_optimizer: BaseOptimizer = torch.optim.SGD,
    base_optimizer_kwargs: dict[str, Any] | None = None,
    rule: str = "hebbian",
    total_epochs: int | None = None,
    warmup: float = 0.1,
    max_transition: int | None = None,
    alpha: float = 0.5,
    shift: int | None = None,
    power: float = 2.0,
    update_every: int = 8,
) -> LocalizedOptimizer:
    """A :class:`LocalizedOptimizer` over SGD, with its schedule chosen by name.

    Args:
        model: See :class:`LocalizedOptimizer`.
        lr: The base optimizer's learning rate, > 0; with a learning-rate schedule, its peak.
        hebbian_lr: How far one step moves a localized weight tensor.
        selection_mode: ``"dynamic"`` (:class:`DynamicTransition`) or ``"static"`` (:class:`StaticTransition`).
        weak_supervision_weight: How strongly a rising loss reverses the localized updates.
        base_optimizer: Default ``torch.optim.SGD``.
        base_optimizer_kwargs: Further arguments for it, without ``lr``.
        rule: ``"hebbian"``, ``"oja"``, or the controls ``"random"`` and ``"frozen"``.
        total_epochs: Length of the run in epochs; required for ``"static"``.
        warmup: Fraction of the epochs in which all blocks learn by SGD.
        max_transition: The highest transition.
        alpha: See :class:`DynamicTransition`.
        shift: See :class:`DynamicTransition`.
        power: See :class:`StaticTransition`.
        update_every: The localized blocks are updated at every ``update_every``-th step.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range, or missing.
    """
    if selection_mode not in ("dynamic", "static"):
        raise ValueError(f"selection_mode must be 'dynamic' or 'static', got {selection_mode!r}")
    selection: Transition
    if selection_mode == "dynamic":
        selection = DynamicTransition(alpha=alpha, shift=shift, total_epochs=total_epochs, warmup=warmup)
    elif total_epochs is None:
        raise ValueError("total_epochs must be given with selection_mode='static', whose schedule ends with the run")
    else:
        selection = StaticTransition(total_epochs=total_epochs, warmup=warmup, power=power)
    further = {} if base_optimizer_kwargs is None else base_optimizer_kwargs
    if not isinstance(further, Mapping) or "lr" in further:
        raise ValueError(f"base_optimizer_kwargs must be a dict without lr, which is an argument here, got {further!r}")
    return LocalizedOptimizer(
        model,
        base_optimizer,
        {"lr": lr, **further},
        hebbian_lr,
        weak_supervision_weight,
        selection=selection,
        max_transition=max_transition,
        rule=rule,
        update_every=update_every,
    )
