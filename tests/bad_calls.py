"""What a row of the table of bad calls says. Each file ``tests/bad_calls_<room>.py`` has a list ``BAD_CALLS``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BadCall:
    """A call with one bad argument; it must raise one error of ours that names the argument and the value.

    Attributes:
        call: What is called, such as ``FEROptimizer``.
        argument: The argument's name, as the message must have it.
        value: The value, as the message must show it.
        run: Makes the call.
    """

    call: str
    argument: str
    value: str
    run: Callable[[], object]

    def __str__(self) -> str:
        return f"{self.call}({self.argument}={self.value})"


def bad_calls() -> list[BadCall]:
    """All rows, from every ``bad_calls_*.py`` beside this file."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("bad_calls_*.py"))
    return [row for name in names for row in importlib.import_module(f"tests.{name}").BAD_CALLS]
