"""Checks of arguments, and the errors that they raise: the one place where errors about values and names are worded."""

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
    """Raises a ValueError that names the argument and its value if the value is out of range.

    Args:
        name: The argument's name, as the caller wrote it.
        value: A number; a boolean does not count as one.
        low: Smallest allowed value.
        high: Largest allowed value.
        open_low: Whether ``low`` itself is refused.
        open_high: Whether ``high`` itself is refused.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is NaN or out of range.
    """
    # With a tensor as learning rate, torch does not recompile a compiled step when the rate changes.
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
    """The error for a name that is not in a table: it suggests the nearest names, or all names if none is near.

    Args:
        kind: What the name stands for, such as ``algorithm``.
        name: What the caller wrote, of any type.
        known: The names in the table.
        most: The largest number of near names to suggest.
        cutoff: How similar they must be, in [0, 1].
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=most, cutoff=cutoff) if isinstance(name, str) else []
    return ValueError(f"no {kind} is named {name!r}; did you mean {' or '.join(near or names)}?")
