"""Checks of the arguments that the convolutional optimizers share, and what of them goes to the base optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from advanced_optimizers._base import BaseOptimizer
from advanced_optimizers._checks import check_bool, check_integer, check_range
from advanced_optimizers.convolutional.kernels import start_of

# The published defaults of all three classes.
LR, MOMENTUM = 0.01, 0.9
AXES = (None, (-1,), (-2,), (-2, -1))


def check_smoothing(group: dict[str, Any], default_kernel: str) -> None:
    """Checks what says how a gradient is smoothed, and puts it into one form.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range.
    """
    size = group["kernel_size"] = check_integer("kernel_size", group["kernel_size"], low=1)
    if size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, so that a kernel has a center, got {size}")
    start_of(group["kernel"], size, default_kernel)
    group["axes"] = _checked_axes(group["axes"])
    group["min_gain"] = check_range("min_gain", group["min_gain"], low=-1.0, high=1.0, open_high=True)
    group["norm_preserving"] = check_bool("norm_preserving", group["norm_preserving"])
    if group["permute_axes"] is not None:
        seed = check_integer("permute_axes", group["permute_axes"], low=0)
        group["permute_axes"] = int(check_range("permute_axes", seed, high=2**32, open_high=True))
    if "momentum" in group:
        check_range("momentum", group["momentum"], low=0.0, high=1.0, open_high=True)


def _checked_axes(axes: Any) -> tuple[int, ...] | None:
    are_integers = isinstance(axes, list | tuple) and all(type(axis) is int for axis in axes)
    if axes is None or (are_integers and tuple(sorted(axes)) in AXES):
        return None if axes is None else tuple(sorted(axes))
    raise ValueError(f"axes must be one of {', '.join(map(repr, AXES))}, got {axes!r}")


def arguments_of_base(
    base_optimizer: BaseOptimizer, kwargs: dict[str, Any] | None, lr: float, momentum: float
) -> dict[str, Any] | None:
    """The base optimizer's arguments, with ``lr`` and ``momentum`` where it takes them.

    Raises:
        ValueError: One of them is given twice, or is given to a base optimizer that has no such argument.
    """
    check_range("momentum", momentum, low=0.0, high=1.0, open_high=True)
    kwargs = {} if kwargs is None else kwargs
    if not isinstance(kwargs, Mapping) or not callable(base_optimizer):
        return kwargs  # refused in a moment, by name
    takes = inspect.signature(base_optimizer).parameters
    merged = dict(kwargs)
    for name, value, default in (("lr", lr, LR), ("momentum", momentum, MOMENTUM)):
        if name in kwargs:
            if value != default:
                raise ValueError(
                    f"{name} is given twice, as {value!r} and in base_optimizer_kwargs as {kwargs[name]!r}: leave one "
                    "out"
                )
        elif name in takes:
            merged[name] = value
        elif value != default:
            raise ValueError(
                f"{name}={value!r} cannot be given together with base_optimizer="
                f"{getattr(base_optimizer, '__name__', base_optimizer)}, which takes no {name}: leave it out, or put "
                "it where it belongs in base_optimizer_kwargs"
            )
    return merged
