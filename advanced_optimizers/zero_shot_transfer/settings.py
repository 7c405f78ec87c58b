"""The settings of the optimizers that muP's functions build: what each must be, and scaling one by a factor."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from advanced_optimizers._checks import check_bool, check_range

# Settings that have one meaning in torch's optimizers and in those that follow them. Others are left to ``impl``.
_NUMBERS = ("lr", "weight_decay", "momentum", "eps", "initial_accumulator_value", "lr_decay")
_SWITCHES = ("amsgrad", "nesterov", "maximize", "centered", "capturable", "differentiable", "decoupled_weight_decay")
_OWN = ("params", "param_names", "mu_group", "lr_multiplier", "initial_lr", "name")


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an optimizer's settings with Python's own numbers.

    Raises:
        TypeError: A setting is not a number, or not a boolean.
        ValueError: A number is negative, infinite or NaN, or a beta is not in [0, 1).
    """
    checked = dict(settings)
    for name in _NUMBERS:
        if name in settings and not _is_left_alone(name, settings[name]):
            value = check_range(name, settings[name], 0.0, open_high=True)
            checked[name] = settings[name] if isinstance(settings[name], Tensor) else value
    for name in _SWITCHES:
        if name in settings:
            checked[name] = check_bool(name, settings[name])
    if "betas" in settings:
        checked["betas"] = _checked_betas(settings["betas"])
    return checked


def _is_left_alone(name: str, value: Any) -> bool:
    """Some optimizers have two epsilons, or choose their learning rate themselves; ``scaled`` has the say then."""
    return (name == "eps" and isinstance(value, tuple | list)) or (name == "lr" and value is None)


def _checked_betas(betas: Any) -> Any:
    if not isinstance(betas, tuple | list) or not betas:
        raise TypeError(f"betas must be a pair such as (0.9, 0.999), got {betas!r}")
    numbers = [check_range(f"betas[{i}]", beta, 0.0, 1.0, open_high=True) for i, beta in enumerate(betas)]
    return betas if any(isinstance(beta, Tensor) for beta in betas) else tuple(numbers)


def scaled(name: str, value: Any, factor: float) -> Any:
    """Returns a setting times muP's factor; not in place, since torch shares a tensor among the groups.

    Raises:
        ValueError: The setting is not one number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise ValueError(
            f"{name} must be a number, because muP multiplies it by {factor:.6g} for some parameters, got {value!r}. "
            "(Only tables 3 and 9 multiply eps)"
        )
    return value * factor


def check_group_names(group: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuses a key of a group that is nearly a setting of the optimizer: torch would take it and never read it."""
    for key in group:
        if key not in defaults and key not in _OWN:
            near = difflib.get_close_matches(key, defaults, n=1, cutoff=0.8) if isinstance(key, str) else []
            if near:
                raise ValueError(f"params has a group with {key!r}: {group[key]!r}; did you mean {near[0]!r}?")
