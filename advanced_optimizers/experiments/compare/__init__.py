"""Anyone's own optimizer, network and data under the project's protocol: the command ``compare`` and its function.

The names are imported when they are first used: the command line's ``--help`` needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advanced_optimizers.experiments.compare.code import CompareError
    from advanced_optimizers.experiments.compare.comparison import Comparison
    from advanced_optimizers.experiments.compare.run import compare

__all__ = ["CompareError", "Comparison", "compare"]

_HOMES = {"CompareError": "code", "Comparison": "comparison", "compare": "run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
