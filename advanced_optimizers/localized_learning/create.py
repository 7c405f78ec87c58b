"""LoCal+SGD: early layers learn by a localized Hebbian rule, the others by SGD, and the boundary moves up in training.

Krithivasan, Sen, Venkataramani, Raghunathan: Accelerating DNN Training Through Selective Localized Learning. Frontiers
in Neuroscience 15:759807, 2022, doi 10.3389/fnins.2021.759807.

:class:`LocalizedOptimizer` is in ``localized_optimizer.py``, its rules in ``hebbian.py``, what moves the transition in
``transition.py``, and what it moves over in ``blocks.py``; the public ones can be imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from advanced_optimizers._base import BaseOptimizer
from advanced_optimizers.localized_learning.optimizer import LocalizedOptimizer
from advanced_optimizers.localized_learning.transition import DynamicTransition, StaticTransition, Transition

__all__ = ["DynamicTransition", "LocalizedOptimizer", "StaticTransition", "create_localized_optimizer"]


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
    """A :class:`LocalizedOptimizer` over SGD, its schedule chosen by name.

    Args:
        model: See :class:`LocalizedOptimizer`, as for every argument that is not listed here.
        lr: The base optimizer's learning rate, > 0; with a schedule, its peak.
        hebbian_lr: How far one step moves a localized weight tensor.
        selection_mode: ``"dynamic"`` (:class:`DynamicTransition`) or ``"static"`` (:class:`StaticTransition`).
        weak_supervision_weight: How strongly a rising loss reverses the localized updates.
        base_optimizer: Default ``torch.optim.SGD``.
        base_optimizer_kwargs: Further arguments of it, without ``lr``.
        rule: ``"hebbian"``, ``"oja"``, or the controls ``"random"`` and ``"frozen"``.
        total_epochs: Length of the run; ``"static"`` needs it.
        warmup: Share of the epochs that learn by SGD alone.
        max_transition: The highest transition.
        alpha: Of the dynamic mode.
        shift: Of the dynamic mode.
        power: Of the static mode.
        update_every: At how many steps once the localized blocks learn.

    Raises:
        TypeError: A value is of the wrong kind.
        ValueError: A value is out of range, or missing.
    """
    if selection_mode not in ("dynamic", "static"):
        raise ValueError(f"selection_mode must be 'dynamic' or 'static', got {selection_mode!r}")
    selection: Transition
    if selection_mode == "dynamic":
        selection = DynamicTransition(alpha=alpha, shift=shift, total_epochs=total_epochs, warmup=warmup)
    elif total_epochs is None:
        raise ValueError("total_epochs must be given for selection_mode='static', whose schedule ends with the run")
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
