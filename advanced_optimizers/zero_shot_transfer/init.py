r"""Initial weights for muP: torch's own initializers at the base width, scaled at other widths as the tables say.

All of it is one rule. The variance that a parameter should have is constant in width or, for a matrix-like parameter,
proportional to :math:`1/\text{fan\_in}`. The variance of an initializer shrinks with width by some factor :math:`s` of
its own. So the values that it drew are multiplied by :math:`\sqrt s` and, for a matrix-like parameter, divided by the
square root of the fan-in's multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from advanced_optimizers.zero_shot_transfer.base_shapes import InfDim, MuShape
from advanced_optimizers.zero_shot_transfer.module_state import mu_shapes, rescaling_due, set_rescaling_due

__all__ = ["mu_init_"]

_KAIMING = (init.kaiming_normal_, init.kaiming_uniform_)
_XAVIER = (init.xavier_normal_, init.xavier_uniform_)
_CONSTANT_STD = (init.normal_, init.uniform_, init.trunc_normal_)
_CONSTANTS = (init.zeros_, init.ones_, init.constant_, init.eye_)
_KNOWN = (*_KAIMING, *_XAVIER, *_CONSTANT_STD, *_CONSTANTS)


def mu_init_(module: nn.Module, initializer: Callable[..., Any], parameter: str = "weight", **kwargs: Any) -> Tensor:
    """Draws one parameter of a module with a torch initializer, and scales it to muP's variance.

    At the base width the result is the initializer's own, bit for bit. ``kwargs`` must not depend on the width.

    Args:
        module: A module of a model on which ``set_base_shapes`` was called.
        initializer: One of ``torch.nn.init``'s ``kaiming_normal_``, ``kaiming_uniform_``, ``xavier_normal_``,
            ``xavier_uniform_``, ``normal_``, ``uniform_``, ``trunc_normal_``, ``zeros_``, ``ones_``, ``constant_``,
            ``eye_``.
        parameter: The name of the parameter in the module.
        **kwargs: The initializer's own settings.

    Returns:
        The parameter as the module sees it.

    Raises:
        RuntimeError: The module has no base shapes, or one of torch's older hooks computes the parameter.
        TypeError: ``module`` is not a module, or ``parameter`` not a name.
        ValueError: The initializer is not one of these or refuses its settings, or its mean is not zero although the
            parameter has two infinite dimensions, so that its entries must average out.

    Example:
        >>> import torch
        >>> from advanced_optimizers import mu_init_, set_base_shapes
        >>> model = set_base_shapes(torch.nn.Linear(4, 8), torch.nn.Linear(4, 2))
        >>> _ = mu_init_(model, torch.nn.init.normal_, std=0.5)

    Departures from the ``mup`` package:
        The package has a second version of each initializer, which takes the tensor. Here one function takes the
        module, because the modules remember the base shapes. A nonzero mean is also allowed for a parameter without an
        infinite dimension. Transposed convolutions are scaled by their true fan-in, the first dimension.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an nn.Module, got {module!r}")
    if not isinstance(parameter, str):
        raise TypeError(f"parameter must be the name of a parameter, got {parameter!r}")
    if initializer not in _KNOWN:
        raise ValueError(
            f"initializer must be one of torch.nn.init's {', '.join(f.__name__ for f in _KNOWN)}, got {initializer!r}"
        )
    shapes = mu_shapes(module)
    if parameter not in shapes:
        raise RuntimeError(
            f"{type(module).__name__} has no base shape for {parameter!r}: call set_base_shapes on its model first"
        )
    shape = shapes[parameter]
    is_symmetric = initializer is init.zeros_ or not _has_mean(initializer, kwargs)
    if len(shape.infinite) == 2 and not is_symmetric:
        raise ValueError(
            f"initializer {initializer.__name__} with {kwargs} has a nonzero mean, but {parameter!r} has two infinite "
            "dimensions: use a symmetric one"
        )
    seen: Tensor = getattr(module, parameter)
    value = torch.empty_like(seen, requires_grad=False)
    try:
        initializer(value, **kwargs)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError) as error:
        raise ValueError(
            f"initializer {initializer.__name__} does not take {kwargs} for {parameter!r} of shape "
            f"{tuple(value.shape)}: {error}"
        ) from error
    if initializer not in _CONSTANTS:
        value.mul_(variance_correction(shape, _shrinkage(initializer, shape.dims, kwargs)))
    _store(module, parameter, value)
    return getattr(module, parameter)


def variance_correction(shape: MuShape, shrinkage: float) -> float:
    """Returns the factor for a parameter whose variance, as drawn, shrinks with width by ``shrinkage``."""
    wanted = shape.width_mult if len(shape.infinite) == 2 else 1.0
    return math.sqrt(shrinkage / wanted)


def default_corrections(module: nn.Module, shapes: dict[str, MuShape]) -> Iterator[tuple[str, float]]:
    """Yields the factor of each parameter of a module that torch draws with a variance that depends on width.

    Linear and convolutional layers draw weight and bias with 1 / (size of dimension 1 of the weight), which is not the
    fan-in of a transposed convolution. Recurrent layers draw everything with 1 / hidden size. Attention draws its
    projections as Xavier does. Embeddings and norms do not depend on width.
    """
    if isinstance(module, nn.Linear | _ConvNd):
        shrinkage = {name: shapes["weight"].dims[1].mult for name in shapes} if "weight" in shapes else {}
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        hidden = next((shape for name, shape in shapes.items() if name.startswith("weight_ih")), None)
        shrinkage = {} if hidden is None else {name: hidden.dims[0].mult for name in shapes}
    elif isinstance(module, nn.MultiheadAttention):
        shrinkage = {name: _xavier_shrinkage(s.dims) for name, s in shapes.items() if name.endswith("proj_weight")}
    else:
        shrinkage = {}
    for name, factor in shrinkage.items():
        yield name, variance_correction(shapes[name], factor)


def _has_mean(initializer: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    if initializer in _CONSTANTS:
        return True
    if initializer is init.uniform_:
        return kwargs.get("a", 0.0) != -kwargs.get("b", 1.0)
    if initializer is init.trunc_normal_ and kwargs.get("a", -2.0) != -kwargs.get("b", 2.0):
        return True
    return kwargs.get("mean", 0.0) != 0.0


def _shrinkage(initializer: Callable[..., Any], dims: tuple[InfDim, ...], kwargs: dict[str, Any]) -> float:
    if initializer in _KAIMING:  # torch's fan_in is the size of dimension 1, whatever the layer
        return dims[1 if kwargs.get("mode", "fan_in") == "fan_in" else 0].mult * _kernel_mult(dims)
    return _xavier_shrinkage(dims) if initializer in _XAVIER else 1.0


def _xavier_shrinkage(dims: tuple[InfDim, ...]) -> float:
    base = sum(dim.size if dim.base is None else dim.base for dim in dims[:2])
    return (dims[0].size + dims[1].size) / base * _kernel_mult(dims)


def _kernel_mult(dims: tuple[InfDim, ...]) -> float:
    """Dimensions 2 and up count into each fan for torch, as a kernel; in a custom parameter they can grow."""
    return math.prod(dim.mult for dim in dims[2:])


@torch.no_grad()
def _store(module: nn.Module, parameter: str, value: Tensor) -> None:
    theta = mu_shapes(module)[parameter].theta
    if parameter in module._parameters:
        module._parameters[parameter].copy_(value / theta if theta != 1.0 else value)  # type: ignore[union-attr]
    elif parametrize.is_parametrized(module, parameter):  # table 9's divides it before it is stored
        setattr(module, parameter, value)
    else:
        raise RuntimeError(
            f"{parameter!r} of {type(module).__name__} is computed by a hook, which would overwrite it: initialize the "
            "layer before weight_norm, spectral_norm or pruning, or use those of torch.nn.utils.parametrizations"
        )
    set_rescaling_due(module, rescaling_due(module) - {parameter})
