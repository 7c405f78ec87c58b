"""What the modules on privacy refuse: tensors and models for which a guarantee would be empty."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_iterable, check_range


def check_positive(name: str, value: float) -> float:
    """A finite number above 0."""
    return check_range(name, value, low=0.0, high=math.inf, open_low=True, open_high=True)


def check_not_negative(name: str, value: float) -> float:
    """A finite number of at least 0."""
    return check_range(name, value, low=0.0, high=math.inf, open_high=True)


def check_delta(name: str, value: float) -> float:
    """A probability strictly between 0 and 1."""
    return check_range(name, value, low=0.0, high=1.0, open_low=True, open_high=True)


def check_rate(name: str, value: float) -> float:
    """A fraction in (0, 1]."""
    return check_range(name, value, low=0.0, high=1.0, open_low=True)


def check_gradients(name: str, gradients: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """A tensor, or several, as a list of tensors of finite floating-point numbers."""
    tensors = [gradients] if isinstance(gradients, Tensor) else check_iterable(name, gradients, "tensors")
    if not tensors:
        raise ValueError(f"{name} must hold at least one tensor, got {gradients!r}")
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must hold tensors, got {tensor!r}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating-point numbers, got {tensor.dtype}")
        if tensor.layout != torch.strided:
            raise ValueError(
                f"{name} must be dense, got {tensor.layout}: where a gradient is zero tells something, too"
            )
        bad = int((~tensor.detach().isfinite()).sum())
        if bad:
            raise ValueError(
                f"{name} must be finite, got NaN or infinity in {bad} of {tensor.numel()} values: no noise hides them"
            )
    return tensors


def check_model(name: str, model: nn.Module) -> nn.Module:
    """A model whose gradient is the sum of gradients of single samples.

    Raises:
        TypeError: It is not a module.
        ValueError: Nothing in it is trained, or a layer mixes the samples of a batch.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {model!r}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"{name} must have a parameter that requires a gradient, got {type(model).__name__} with none")
    for path, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"{name} must not mix the samples of a batch, got {type(layer).__name__} as {path or 'the model'!r}: "
                "one sample then changes the gradients of the others, which no clipping bounds: use GroupNorm or "
                "LayerNorm"
            )
    return model
