"""What the modules for two modalities refuse: features and padding that they cannot use."""

from __future__ import annotations

import torch
from torch import Tensor


def check_tokens(name: str, tokens: Tensor, layout: str, dim: int) -> Tensor:
    """Sequences of finite features: three axes, none of them empty, the last one ``dim`` long."""
    _check_floating(name, tokens)
    if tokens.ndim != 3 or tokens.shape[-1] != dim or 0 in tokens.shape:
        raise ValueError(f"{name} must be of shape ({layout}, dim = {dim}), none empty, got {tuple(tokens.shape)}")
    return check_finite(name, tokens)


def check_features(name: str, features: Tensor, dim_name: str, dim: int) -> Tensor:
    """Finite features (batch, dim) or sequences of them (batch, length, dim), neither empty."""
    _check_floating(name, features)
    if features.ndim not in (2, 3) or features.shape[-1] != dim or 0 in features.shape:
        raise ValueError(
            f"{name} must be of shape (batch, {dim_name}) or (batch, length, {dim_name}) with {dim_name} = {dim}, none "
            f"empty, got {tuple(features.shape)}"
        )
    return check_finite(name, features)


def check_finite(name: str, values: Tensor) -> Tensor:
    """Values without NaN or infinity."""
    bad = int((~values.detach().isfinite()).sum())
    if bad:
        raise ValueError(f"{name} must be finite, got NaN or infinity in {bad} of its {values.numel()} values")
    return values


def check_padding(name: str, padding: Tensor | None, batch: int, length: int) -> Tensor | None:
    """A mask (batch, length), True at positions that are not there, with a position left in each row; or None."""
    if padding is None:
        return None
    if not isinstance(padding, Tensor) or padding.dtype != torch.bool or padding.shape != (batch, length):
        got = f"{padding.dtype} of shape {tuple(padding.shape)}" if isinstance(padding, Tensor) else repr(padding)
        raise ValueError(f"{name} must be a bool tensor of shape (batch, length) = ({batch}, {length}), got {got}")
    if bool(padding.all(dim=1).any()):
        row = int(padding.all(dim=1).nonzero()[0])
        raise ValueError(f"{name} must leave a position to attend to in each sample, got only True in sample {row}")
    return padding


def _check_floating(name: str, values: object) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} must be a tensor, got {values!r}")
    if not values.is_floating_point():
        raise TypeError(f"{name} must be floating-point features, got {values.dtype}: embed or encode them first")
