"""What muP remembers on a model's modules: the shapes of their parameters, and whether these were rescaled.

It is kept in the ``__dict__`` of each module, so copies and pickles carry it along. Reading it with ``getattr`` would
be wrong: wrappers such as FSDP and ``torch.compile`` answer with an attribute of the module inside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from advanced_optimizers.zero_shot_transfer.base_shapes import MuShape

_SHAPES, _RESCALED, _DUE = "mu_shapes", "mu_rescaled", "mu_rescaling_due"


def mu_shapes(module: nn.Module) -> dict[str, MuShape]:
    """Returns the shapes of a module's own tensors by name; empty if no base shapes were set.

    A tensor that is computed from parameters (by a parametrization) has its shape here too.
    """
    return dict(module.__dict__.get(_SHAPES, {}))


def set_mu_shape(module: nn.Module, tensor: str, shape: MuShape) -> None:
    """Remembers the shape of one of a module's own tensors."""
    module.__dict__.setdefault(_SHAPES, {})[tensor] = shape


def forget(module: nn.Module) -> None:
    """Forgets the shapes of a module's own tensors, and what was due; not that they were rescaled."""
    module.__dict__.pop(_SHAPES, None)
    module.__dict__.pop(_DUE, None)


def is_rescaled(module: nn.Module) -> bool:
    """Whether the module's parameters were already rescaled, by a call or in the checkpoint that they come from."""
    return _RESCALED in module.__dict__


def mark_rescaled(module: nn.Module) -> None:
    """Remembers that the module's parameters were rescaled, so that it does not happen twice."""
    module.__dict__[_RESCALED] = True


def rescaling_due(module: nn.Module) -> set[str]:
    """Returns which of a module's own parameters had no values yet when they should have been rescaled."""
    return set(module.__dict__.get(_DUE, ()))


def set_rescaling_due(module: nn.Module, parameters: Iterable[str]) -> None:
    """Remembers which of a module's own parameters are still to be rescaled."""
    module.__dict__[_DUE] = set(parameters)


def remembered(module: nn.Module) -> dict[str, Any]:
    """Returns a copy of all that is remembered on a module, for :func:`remember_again`."""
    kept = {key: module.__dict__[key] for key in (_SHAPES, _RESCALED, _DUE) if key in module.__dict__}
    return {key: value.copy() if isinstance(value, dict | set) else value for key, value in kept.items()}


def remember_again(module: nn.Module, kept: dict[str, Any]) -> None:
    """Puts back what :func:`remembered` returned."""
    for key in (_SHAPES, _RESCALED, _DUE):
        module.__dict__.pop(key, None)
    module.__dict__.update(kept)
