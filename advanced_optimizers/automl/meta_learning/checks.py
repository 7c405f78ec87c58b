"""What meta-learners refuse: sets, labels and models that they cannot learn from."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_range

# (data, labels)
Pair = tuple[Tensor, Tensor]


def check_positive(name: str, value: float) -> float:
    """A finite number above zero."""
    return float(check_range(name, value, 0.0, math.inf, open_low=True, open_high=True))


def check_model(model: nn.Module) -> nn.Module:
    """A module with something to learn, whose output for one example does not depend on batches that it saw before."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"model must have a parameter that requires a gradient, got {type(model).__name__} without")
    for name, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None:
            raise ValueError(
                f"model must have no running statistics, got {type(module).__name__} at {name!r}: steps of different "
                "tasks would mix in them; use GroupNorm, or track_running_stats=False, which normalizes by the batch"
            )
    return model


def check_set(name: str, pair: Pair, *, tasks: bool = False) -> Pair:
    """A pair of data and labels with one row each per example, or one row of rows per task.

    Args:
        name: The argument's name.
        pair: ``(data, labels)``.
        tasks: Whether the first axis counts tasks, and the second examples.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
        raise TypeError(f"{name} must be a pair of tensors (data, labels), got {_kind(pair)}")
    data, labels = pair
    axes = 2 if tasks else 1
    counted = "(tasks, examples, ...)" if tasks else "(examples, ...)"
    shapes = f"got {tuple(data.shape)} and {tuple(labels.shape)}"
    if min(data.ndim, labels.ndim) < axes or data.shape[:axes] != labels.shape[:axes]:
        raise ValueError(f"{name} must be data and labels of shapes {counted}, one label per example, {shapes}")
    if 0 in data.shape[:axes]:
        raise ValueError(f"{name} must hold at least one example, {shapes}")
    return data, labels


def check_known_classes(support_labels: Tensor, query_labels: Tensor) -> None:
    """Whole numbers are classes, and a task's query set has none that its support set lacks."""
    if query_labels.is_floating_point() or support_labels.is_floating_point():
        return
    unknown = sorted(set(query_labels.flatten().tolist()) - set(support_labels.flatten().tolist()))
    if unknown:
        raise ValueError(f"query_set must have classes that support_set has, got {unknown} besides")


def check_losses(losses: Tensor, lr: object) -> None:
    """Raises a RuntimeError that names the first inner step whose loss is not finite.

    Args:
        losses: (..., steps); tasks may come first.
        lr: The step size, for the message.
    """
    finite = losses.detach().isfinite().flatten(0, -2) if losses.ndim > 1 else losses.detach().isfinite()[None]
    if not bool(finite.all()):
        step = int((~finite.all(dim=0)).nonzero()[0])
        tasks = int((~finite[:, step]).sum())
        raise RuntimeError(
            f"the loss on support_set is not finite at inner step {step + 1} (tasks: {tasks} of {len(finite)}): take "
            f"fewer steps, or smaller ones than lr = {lr}"
        )


# ---- episodes of few examples --------------------------------------------------------------------------------------


def check_class_labels(name: str, labels: Tensor, count: int, num_classes: int) -> Tensor:
    """Labels of ``count`` examples as int64; whole numbers in [0, num_classes).

    Args:
        name: The argument's name.
        labels: (count,), integers, or floating-point numbers with integer values.
        count: How many there must be.
        num_classes: The number of classes.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name} must be a tensor, got {_kind(labels)}")
    if labels.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), one label per example, got {tuple(labels.shape)}")
    if labels.dtype == torch.bool or labels.is_complex() or bool((labels != labels.round()).any()):
        raise ValueError(f"{name} must be whole numbers, got {_few(labels)} of {labels.dtype}")
    strange = labels[(labels < 0) | (labels >= num_classes)]
    if len(strange):
        raise ValueError(f"{name} must be in [0, {num_classes - 1}], got {_few(strange.unique())}")
    return labels.long()


def check_support_labels(labels: Tensor, count: int, num_classes: int) -> Tensor:
    """As :func:`check_class_labels`; and every class has at least one example."""
    num_classes = check_integer("num_classes", num_classes, 1)
    labels = check_class_labels("support_labels", labels, count, num_classes)
    missing = sorted(set(range(num_classes)) - set(labels.tolist()))
    if missing:
        raise ValueError(
            f"support_labels must have an example of each of num_classes={num_classes}, got none of {missing}"
        )
    return labels


def check_features(name: str, features: Tensor, width: int | None = None) -> Tensor:
    """Examples (N, ...) with N >= 1, without NaN or infinity.

    Args:
        name: The argument's name.
        features: The examples.
        width: The features per example of a matrix (N, width); None if the encoder says what it takes.
    """
    if not isinstance(features, Tensor):
        raise TypeError(f"{name} must be a tensor, got {_kind(features)}")
    if features.ndim < 1 or (width is not None and (features.ndim != 2 or features.shape[1] != width)):
        wanted = "(examples, ...)" if width is None else f"(examples, {width})"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(features.shape)}")
    if not len(features):
        raise ValueError(f"{name} must hold at least one example, got {tuple(features.shape)}")
    if not bool(features.isfinite().all()):
        raise ValueError(f"{name} must be finite, got nan or inf in {_few((~features.isfinite()).nonzero()[:, 0])}")
    return features


def _few(values: Tensor) -> Iterable[float]:
    return values.flatten()[:5].tolist()


def _kind(value: object) -> str:
    return f"{type(value).__name__}: {value!r}"
