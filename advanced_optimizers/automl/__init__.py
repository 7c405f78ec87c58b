"""The advanced AutoML topics: each a published method, in a module or a folder of its own.

The names are imported on first use, since some modules need optional packages: importing this package imports none of
them. Where one is missing, the error names the extra that installs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "MAML",
    "MatchingNetworks",
    "MetaSGD",
    "PrototypicalNetworks",
    "Prototypicalnetworks",
    "Reptile",
]

# The modules, and which of the names each has.
_HOMES: dict[str, tuple[str, ...]] = {
    "meta_learning": (
        "MAML",
        "MatchingNetworks",
        "MetaSGD",
        "PrototypicalNetworks",
        "Prototypicalnetworks",
        "Reptile",
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
