"""What continual learning refuses: batches, labels and losses that it cannot use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def check_trainable(model: nn.Module) -> nn.Module:
    """A module with a parameter that requires a gradient, and without complex ones."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"model must have a parameter that requires a gradient, got {type(model).__name__} without")
    for name, p in model.named_parameters():
        if p.is_complex():
            raise ValueError(f"model must have no complex parameters, got {name!r} of {p.dtype}")
    return model


def check_dataloader(dataloader: Any, logits: Any) -> None:
    """Something to iterate over that is not one batch, and a function, or None, that selects logits."""
    if isinstance(dataloader, Tensor) or not isinstance(dataloader, Iterable):
        raise TypeError(f"dataloader must yield batches, got {_kind(dataloader)}: put a single batch in a list")
    if logits is not None and not callable(logits):
        raise TypeError(f"logits must be a function of the model's output, or None, got {_kind(logits)}")


def check_inputs(batch: Any, *, labeled: bool) -> list[Tensor]:
    """Inputs, and labels if asked for, of a batch: inputs alone, or a tuple or list that begins with the two."""
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    wanted = 2 if labeled else 1
    if len(parts) < wanted or not all(isinstance(part, Tensor) for part in parts[:wanted]):
        shape = "inputs and labels, two tensors" if labeled else "a tensor of inputs, or a tuple that begins with one"
        raise TypeError(f"dataloader must yield {shape}, got {_kind(batch)}")
    inputs = parts[0]
    if inputs.ndim < 1:
        raise ValueError(f"dataloader must yield inputs (batch, ...), got shape {tuple(inputs.shape)}")
    if not labeled:
        return [inputs]
    if parts[1].shape != inputs.shape[:1]:
        raise ValueError(
            f"dataloader must yield one label per input, ({len(inputs)},), got shape {tuple(parts[1].shape)}"
        )
    return parts[:2]


def check_labels(labels: Tensor, classes: int) -> Tensor:
    """Integers in [0, classes)."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"dataloader must yield integer labels, got {labels.dtype}")
    strange = labels[(labels < 0) | (labels >= classes)]
    if len(strange):
        raise ValueError(
            f"dataloader must yield labels in [0, {classes - 1}], as the model has {classes} logits, got "
            f"{strange[:5].tolist()}: select a task's logits with logits=..."
        )
    return labels.long()


def check_logits(output: Any) -> Tensor:
    """Logits of one sample, (1, classes)."""
    if not isinstance(output, Tensor) or output.ndim != 2:
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else _kind(output)
        raise ValueError(
            f"model must return logits (batch, classes), got {got} for one sample: select them with logits=..."
        )
    return output


def check_loss(loss: Tensor) -> Tensor:
    """A loss of one number."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"current_loss must be a tensor, got {loss!r}")
    if loss.numel() != 1:
        raise ValueError(f"current_loss must be one number, got shape {tuple(loss.shape)}: take its mean")
    return loss


def check_importance(importance: Any, model: nn.Module) -> dict[str, Tensor]:
    """Numbers >= 0 by the names of parameters, in their shapes; detached copies."""
    if not isinstance(importance, dict) or not all(isinstance(value, Tensor) for value in importance.values()):
        raise TypeError(f"importance must be a dict of tensors by the names of parameters, got {_kind(importance)}")
    if not importance:
        raise ValueError("importance must have a tensor for at least one parameter, got {}")
    known = dict(model.named_parameters())
    for name, value in importance.items():
        if name not in known:
            raise ValueError(f"importance must be of parameters of the model, got {name!r}: it has {list(known)[:8]}")
        check_same_shape("importance", name, value, known[name])
        if not bool((value.isfinite() & (value >= 0)).all()):
            raise ValueError(f"importance must be finite and >= 0, got {_worst(value)} for {name!r}")
    return {name: value.detach().clone() for name, value in importance.items()}


def check_same_shape(argument: str, name: str, value: Tensor, p: Tensor) -> None:
    """Raises a ValueError unless what was kept for a parameter has its shape."""
    if value.shape != p.shape:
        raise ValueError(
            f"{argument} must have the shape of its parameter, got {tuple(value.shape)} for {name!r} of shape "
            f"{tuple(p.shape)}"
        )


def _worst(values: Tensor) -> float:
    bad = values[~values.isfinite() | (values < 0)]
    return float(bad[0]) if len(bad) else math.nan


def _kind(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__}: {text if len(text) <= 60 else text[:57] + '...'}"
