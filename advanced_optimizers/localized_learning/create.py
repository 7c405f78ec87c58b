"""The coursework's function for LoCal+SGD, with the schedule chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from advanced_optimizers._base import BaseOptimizer
from advanced_optimizers._checks import check_choice
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
    alpha: float | None = None,
    shift: int | None = None,
    power: float | None = None,
    update_every: int = 8,
    steps_per_epoch: int | None = None,
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
        total_epochs: Length of the run in epochs. Without it the static transition is fixed: from the second epoch on
            it is ``max_transition``.
        warmup: Fraction of the epochs in which all blocks learn by SGD; only with ``total_epochs``.
        max_transition: The highest transition.
        alpha: See :class:`DynamicTransition`; only for ``"dynamic"``.
        shift: See :class:`DynamicTransition`; only for ``"dynamic"``.
        power: See :class:`StaticTransition`; only for ``"static"``.
        update_every: The localized blocks are updated at every ``update_every``-th step.
        steps_per_epoch: After how many steps the optimizer ends an epoch by itself. Without it, call ``end_epoch``.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range, or for the other ``selection_mode``.
    """
    check_choice("selection_mode", selection_mode, ("dynamic", "static"))
    own: dict[str, Any] = {}
    for name, value, mode in (("alpha", alpha, "dynamic"), ("shift", shift, "dynamic"), ("power", power, "static")):
        if value is not None and mode != selection_mode:
            raise ValueError(f"{name} is for selection_mode={mode!r}, got {value!r} with {selection_mode!r}")
        if value is not None:
            own[name] = value
    kind = DynamicTransition if selection_mode == "dynamic" else StaticTransition
    selection: Transition = kind(total_epochs=total_epochs, warmup=warmup, **own)
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
        steps_per_epoch=steps_per_epoch,
    )
