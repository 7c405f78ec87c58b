"""The form of what a checkpoint holds for localized learning: checked whole before anything of it is taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from advanced_optimizers._base import check_shape
from advanced_optimizers.localized_learning.transition import Schedule


def check_form(saved: Mapping[str, Any], units: int, params: int) -> None:
    """Raises an error that names the part which is missing or which no optimizer can have saved.

    Args:
        saved: The part of a checkpoint that is particular to localized learning; in older ones, some is missing.
        units: How many units the model has.
        params: How many parameters the optimizer has.
    """
    _check_schedule(_mapping("schedule", saved.get("schedule")))
    for name, count in (("params", params), ("kept", params), ("order", units)):
        _check_indices(name, saved.get(name, [] if name == "kept" else None), count)
    passes = _mapping("passes", saved.get("passes", {}))
    ran = passes.get("ran", [])
    for name, values in {"ran": ran, "outputs": passes.get("outputs", [])}.items():
        _check_indices(f"passes[{name!r}]", values, units)
    for pair in _list("passes['before']", passes.get("before", [])):
        _check_indices("passes['before']", pair, units)
        if len(pair) != 2 or not {*pair} <= {*ran}:
            raise ValueError(f"passes['before'] of state_dict must have pairs of units that ran, got {pair!r}")
    state = torch.Generator().get_state()
    check_shape("generator of state_dict", saved.get("generator"), state.shape)
    if saved["generator"].dtype != state.dtype:
        raise ValueError(f"generator of state_dict must be {state.dtype}, got {saved['generator'].dtype}")
    _mapping("settings", saved.get("settings", {}))


def _check_schedule(schedule: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(Schedule)}
    if "updates" not in schedule or not schedule.keys() <= known:
        raise ValueError(f"schedule of state_dict must have 'updates' and only {sorted(known)}, got {sorted(schedule)}")
    for name, value in schedule.items():
        if name == "updates":
            numbers = [number for block in _list(name, value) for number in _list(name, block)]
        else:
            numbers = [loss for loss in _list(name, value) if loss is not None] if name == "losses" else [value]
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float):  # a loss may be NaN
                raise TypeError(f"{name} of state_dict must be a number, got {number!r}")


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} of state_dict must be a dict, got {value!r}")
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} of state_dict must be a list, got {value!r}")
    return list(value)


def _check_indices(name: str, values: Any, count: int) -> None:
    for i in _list(name, values):
        if type(i) is not int or not 0 <= i < count:
            raise ValueError(f"{name} of state_dict must hold integers from 0 to {count - 1}, got {i!r}")
