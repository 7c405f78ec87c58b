"""What muP remembers on a model's modules: the shapes of their parameters, and whether these were rescaled.

It is kept in the ``__dict__`` of each module, so copies and pickles carry it along. Reading it with ``getattr`` would
be wrong: wrappers such as FSDP and ``torch.compile`` answer with an attribute of the module inside them.
"""

from __future__ import annotations

from torch import nn

from advanced_optimizers.zero_shot_transfer.base_shapes import MuShape

_SHAPES, _RESCALED = "mu_shapes", "mu_rescaled"


def mu_shapes(module: nn.Module) -> dict[str, MuShape]:
    """Returns the shapes of a module's own parameters by name; empty if no base shapes were set."""
    return dict(module.__dict__.get(_SHAPES, {}))


def set_mu_shape(module: nn.Module, parameter: str, shape: MuShape) -> None:
    """Remembers the shape of one of a module's own parameters."""
    module.__dict__.setdefault(_SHAPES, {})[parameter] = shape


def drop_mu_shapes(module: nn.Module) -> None:
    """Forgets the shapes of a module's own parameters."""
    module.__dict__.pop(_SHAPES, None)


def is_rescaled(module: nn.Module) -> bool:
    """Whether the module's parameters were already rescaled, by a call or in the checkpoint that they come from."""
    return _RESCALED in module.__dict__


def mark_rescaled(module: nn.Module) -> None:
    """Remembers that the module's parameters were rescaled, so that it does not happen twice."""
    module.__dict__[_RESCALED] = True
