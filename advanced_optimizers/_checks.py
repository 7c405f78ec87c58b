"""Checks of arguments: the one place that words an error about a value or a name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

from torch import Tensor


def check_range(
    name: str,
    value: float,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raises a ValueError that names the argument and the value when it lies outside its range.

    Args:
        name: The argument's name, as the caller wrote it.
        value: A number; a boolean is not one.
        low: Smallest allowed value (the bound itself is refused with ``open_low``).
        high: Largest allowed value (the bound itself is refused with ``open_high``).
        open_low: Whether ``low`` itself is refused.
        open_high: Whether ``high`` itself is refused.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is NaN or lies outside the range.
    """
    # A tensor learning rate is torch's way to keep a compiled step from recompiling.
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    above = number > low if open_low else number >= low
    below = number < high if open_high else number <= high
    if not (above and below):
        left = f"{'>' if open_low else '>='} {low}" if low != -math.inf else ""
        right = f"{'<' if open_high else '<='} {high}" if high != math.inf else ""
        wanted = " and ".join(bound for bound in (left, right) if bound) or "a number, not NaN"
        raise ValueError(f"{name} must be {wanted}, got {number!r}")


def check_integer(name: str, value: int, low: int) -> None:
    """Raises an error that names the argument unless ``value`` is an integer of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    check_range(name, value, low)


def unknown_name(kind: str, name: object, known: Iterable[str], *, most: int = 3, cutoff: float = 0.4) -> ValueError:
    """The error for a name that a table does not have: it gives the nearest names, or all where none is near.

    Args:
        kind: What is named, such as ``algorithm``.
        name: What the caller wrote, of any type.
        known: The names that there are.
        most: How many near names to give, at most.
        cutoff: How near they must be, in [0, 1].
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=most, cutoff=cutoff) if isinstance(name, str) else []
    return ValueError(f"no {kind} is named {name!r}; did you mean {' or '.join(near or names)}?")
