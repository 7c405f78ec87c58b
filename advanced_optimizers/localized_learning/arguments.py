"""What :class:`LocalizedOptimizer` is given, its arguments, losses and checkpoints, and what it says about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.localized_learning import processes
from advanced_optimizers.localized_learning.hebbian import RULES
from advanced_optimizers.localized_learning.transition import DynamicTransition, StaticTransition, Transition

MANY_STEPS = 2000  # without any end of an epoch there is a warning; MNIST at batch size 32 has 1875 steps per epoch
NO_EPOCH = (
    f"no epoch has ended in {MANY_STEPS} steps, and until one does all blocks learn by gradient: call "
    "end_epoch(train_loss) after each epoch or pass steps_per_epoch, unless your epochs are longer"
)
NO_LOSS = (
    "weak supervision is off, because steps_per_epoch ended an epoch in which no loss was heard: call observe(loss) "
    "before each step, or pass a closure to step"
)


class _Configured(Protocol):
    rule: str
    update_every: int
    weak_supervision_weight: float


def check_model(model: nn.Module) -> nn.Module:
    """The module to train, without ``DistributedDataParallel``; raises an error unless it can learn."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
    inner = processes.unwrap(model)
    params = list(inner.parameters())
    if params and not any(p.requires_grad for p in params):
        raise ValueError("model must have a parameter that learns, but requires_grad=False holds for all of them")
    return inner


def check_selection(selection: Transition | None) -> Transition:
    """The selection, or the default one for None; raises a TypeError for a name or a class."""
    if selection is None:
        return DynamicTransition()
    if not isinstance(selection, StaticTransition | DynamicTransition):
        raise TypeError(
            f"selection must be a StaticTransition or DynamicTransition object, got {selection!r}: for a name, use "
            "create_localized_optimizer"
        )
    return selection


def check_weight(weak_supervision_weight: float) -> float:
    """Checks ``weak_supervision_weight``."""
    return check_range("weak_supervision_weight", weak_supervision_weight, low=0.0, high=math.inf, open_high=True)


def check_steps(steps_per_epoch: int | None) -> int | None:
    """Checks ``steps_per_epoch``."""
    return None if steps_per_epoch is None else check_integer("steps_per_epoch", steps_per_epoch, low=1)


def check_lr(group: Mapping[str, Any]) -> float:
    """The learning rate at which localized layers move by ``hebbian_lr``."""
    if "lr" not in group:
        raise ValueError(f"base_optimizer must have a learning rate 'lr' in its groups, got only {sorted(group)}")
    return check_range("lr", group["lr"], low=0.0, high=math.inf, open_low=True, open_high=True)


def check_loss(name: str, loss: float | Tensor) -> float:
    """A loss as a number; unlike other numbers, it may be NaN."""
    value: Any = loss.item() if isinstance(loss, Tensor) and loss.numel() == 1 else loss
    return value if isinstance(value, float) and math.isnan(value) else float(check_range(name, value))


def check_saved(state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a checkpoint that is particular to localized learning."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a dict, got {state_dict!r}")
    saved = state_dict.get("localized")
    if not isinstance(saved, Mapping):
        raise ValueError(
            f"state_dict must hold the schedule's state under 'localized', got the keys {sorted(state_dict)}: "
            "it was not saved by LocalizedOptimizer, or torch.distributed.checkpoint.state_dict dropped this part: "
            "save optimizer.state_dict() itself"
        )
    return saved


def settings_of(optimizer: _Configured) -> dict[str, float]:
    """What a resumed run must share with the saved one, besides what the parameter groups hold."""
    return {
        "rule": list(RULES).index(optimizer.rule),
        "update_every": optimizer.update_every,
        "weak_supervision_weight": optimizer.weak_supervision_weight,
    }


def check_settings(saved: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises a ValueError if a checkpoint was saved with other settings; an older one has none and fits any."""
    rules: dict[Any, str] = dict(enumerate(RULES))
    for name, value in saved.get("settings", {}).items():
        own = settings.get(name)
        if own != value:
            shown = [rules.get(place, place) if name == "rule" else place for place in (value, own)]
            raise ValueError(
                f"{name} must be {shown[0]!r}, as in state_dict, got {shown[1]!r}: build the optimizer with the saved "
                "value"
            )
