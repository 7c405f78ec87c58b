"""Search spaces as users write them: in the options of the command, or in their file."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping
from typing import Any

from advanced_optimizers.experiments.compare.code import CompareError
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.training.algorithms import Range

_OCTAVES = 5  # on each side of a default
_FORM = "lr=1e-4..1e-1, beta=0.8..0.99:linear or k=2..10:int"


def parse_spaces(options: Iterable[str]) -> dict[str, Range]:
    """Reads options such as ``lr=1e-4..1e-1``, ``beta=0.8..0.99:linear`` and ``k=2..10:int``; logarithmic by default.

    Raises:
        CompareError: One has another form, or is not a range.
    """
    found = {}
    for option in options:
        name, _, rest = option.partition("=")
        ends, *scale = rest.split(":")
        low, _, high = ends.partition("..")
        try:
            found[name] = _range(name, (float(low), float(high), *scale))
        except ValueError as error:
            if isinstance(error, CompareError):
                raise
            raise CompareError(f"--space must have a form like {_FORM}, got {option!r}") from error
    return found


def read_spaces(stated: Any, where: str) -> dict[str, Range]:
    """Reads the ``SEARCH_SPACE`` of a file, such as ``{"lr": (1e-4, 1e-1), "beta": (0.8, 0.99, "linear")}``.

    Raises:
        CompareError: It has another form, or holds something that is not a range.
    """
    if not isinstance(stated, Mapping) or not stated:
        raise CompareError(
            f'SEARCH_SPACE of {where} must be a dict like {{"lr": (1e-4, 1e-1), "beta": (0.8, 0.99, "linear")}}, '
            f"got {stated!r}"
        )
    return {str(name): _range(str(name), ends) for name, ends in stated.items()}


def around(default: float) -> Range:
    """Ten octaves around a default: what is searched where nobody says anything."""
    factor = 2.0**_OCTAVES
    return Range(low=default / factor, high=default * factor, log=True)


def parse_fixed(options: Iterable[str]) -> Hyperparameters:
    """Reads options such as ``weight_decay=0.01``.

    Raises:
        CompareError: One has another form.
    """
    found: Hyperparameters = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not name or not equals:
            raise CompareError(f"--fixed must have a form like weight_decay=0.01, got {option!r}")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        if not isinstance(value, float | int | bool | str):
            raise CompareError(f"--fixed must be a number, True, False or a word, got {option!r}")
        found[name] = value
    return found


def words(space: Range) -> str:
    """A range in words, such as ``1e-4 .. 1e-1``."""
    scale = "" if space.log else ", linear"
    return f"{space.low:.3g} .. {space.high:.3g}{', whole numbers' if space.integer else scale}"


def middle(space: Range) -> float | int:
    """The middle of a range, on its own scale."""
    value = math.sqrt(space.low * space.high) if space.log else (space.low + space.high) / 2
    return round(value) if space.integer else value


def _range(name: str, stated: Any) -> Range:
    if isinstance(stated, Range):
        return stated
    ends = stated if isinstance(stated, tuple | list) else ()
    if len(ends) not in (2, 3) or not all(isinstance(end, int | float) for end in ends[:2]):
        raise CompareError(
            f'the range of {name} must be (low, high), or (low, high, "linear" or "int"), got {stated!r}'
        )
    scale = ends[2] if len(ends) == 3 else "log"
    if scale not in ("log", "linear", "int"):
        raise CompareError(f"the range of {name} must be log, linear or int, got {scale!r}")
    try:
        return Range(low=ends[0], high=ends[1], log=scale == "log", integer=scale == "int")
    except ValueError as error:
        raise CompareError(f"the range of {name}, {ends[0]:g} to {ends[1]:g}, cannot be searched: {error}") from error
