"""What the user gives to muP's optimizers: the kind of optimizer, its settings and groups, and scaling a setting."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._base import BaseOptimizer, ParamsT
from advanced_optimizers._checks import check_bool, check_range

# Settings that have one meaning in torch's optimizers and in those that follow them. Others are left to ``impl``.
_NUMBERS = ("lr", "weight_decay", "momentum", "eps", "initial_accumulator_value", "lr_decay")
_SWITCHES = ("amsgrad", "nesterov", "maximize", "centered", "capturable", "differentiable", "decoupled_weight_decay")
_OWN = ("params", "param_names", "mu_group", "lr_multiplier", "initial_lr", "name")


# How the steps of torch's optimizers scale: like the gradient (SGD; Muon's step has a size of its own, for which the
# same factor of hidden weights, 1, is right), like the sign of each entry (Adam), or like the weights.
_LIKE_SGD = ("SGD", "ASGD", "Muon")
_LIKE_ADAM = ("Adam", "NAdam", "RAdam", "Adamax", "SparseAdam", "RMSprop", "Adagrad", "Adadelta", "Rprop")
_LIKE_WEIGHTS = ("Adafactor",)


def warn_of_kind(function: str, impl: BaseOptimizer, settings: Mapping[str, Any]) -> None:
    """Warns if one of torch's optimizers is built by the function for the other kind."""
    wrong, right = (_LIKE_ADAM, "MuAdam") if function == "MuSGD" else (_LIKE_SGD, "MuSGD")
    if _is_one_of(impl, wrong):
        problem = f"does not scale as {function} assumes: use {right}(impl={getattr(impl, '__name__', impl)})"
    elif _is_one_of(impl, _LIKE_WEIGHTS):
        problem = "takes steps in proportion to the weights' own size, which no function here accounts for"
    elif _is_one_of(impl, ("Muon",)) and settings.get("adjust_lr_fn") == "match_rms_adamw":
        problem = "takes steps that grow with the square root of the width with adjust_lr_fn='match_rms_adamw'"
    else:
        return
    warnings.warn(
        f"impl {impl!r} {problem}. The learning rate will not transfer across widths",
        stacklevel=4,
    )


def _is_one_of(impl: BaseOptimizer, names: Iterable[str]) -> bool:
    classes = tuple(getattr(torch.optim, name) for name in names if hasattr(torch.optim, name))
    return isinstance(impl, type) and issubclass(impl, classes)


def takes_parameters(make: Callable[..., Any]) -> bool:
    """Whether what should make an optimizer of a model wants its parameters instead, as torch's classes do."""
    try:
        return next(iter(inspect.signature(make).parameters), "") == "params"
    except (TypeError, ValueError):  # a builtin has no signature
        return False


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
            near = difflib.get_close_matches(key, defaults, n=1, cutoff=0.85) if isinstance(key, str) else []
            if near:
                raise ValueError(f"params has a group with {key!r}: {group[key]!r}; did you mean {near[0]!r}?")


def user_groups(params: ParamsT) -> list[dict[str, Any]]:
    """Reads parameters once, in any form that torch takes, into groups whose ``params`` are lists."""
    if isinstance(params, Tensor):
        raise TypeError("params must be an iterable of tensors or group dicts, got one Tensor: put it in a list")
    if isinstance(params, str | dict) or not isinstance(params, Iterable):
        raise TypeError(f"params must be an iterable of tensors or group dicts, got {params!r}")
    entries: list[Any] = list(params)
    if not entries:
        raise ValueError("params must contain parameters, got none")
    if not any(isinstance(entry, dict) for entry in entries):
        entries = [{"params": params if isinstance(params, set) else entries}]
    return [_user_group(number, group) for number, group in enumerate(entries)]


def _user_group(number: int, group: Any) -> dict[str, Any]:
    if not isinstance(group, dict) or "params" not in group:
        raise ValueError(f"params must contain either tensors or group dicts with 'params', got {group!r} at {number}")
    members = [group["params"]] if isinstance(group["params"], Tensor) else group["params"]
    if isinstance(members, set):
        raise TypeError(f"params must be ordered, got a set: use a list (group {number})")
    if not isinstance(members, Iterable):
        raise TypeError(f"params of group {number} must be tensors, got {members!r}")
    return {**checked_settings({k: v for k, v in group.items() if k != "params"}), "params": list(members)}
