"""Training the angles of a circuit to tell two classes apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.automl.quantum import circuit


def train_quantum_model(
    X: Any,
    y: Any,
    num_layers: int = 3,
    *,
    steps: int = 100,
    lr: float = 0.1,
    generator: torch.Generator | None = None,
    on_step: Callable[[int, float], object] | None = None,
) -> Tensor:
    r"""Finds angles whose last qubit tells two classes apart, by gradient descent on the squared error.

    .. math::
        L(\theta) = \frac{1}{N} \sum_k \bigl(f_n(x_k; \theta) - s_k\bigr)^2, \qquad
        \theta \leftarrow \theta - \eta \nabla L(\theta)

    with the targets :math:`s_k = +1` of the class that is larger as a number and -1 of the other. A new sample belongs
    to the larger class if the expectation of its last qubit is positive, ``qnode(params, x)[-1] > 0``.

    Args:
        X: Features, used as angles in radians, (samples, n) with n in [1, 16]: a tensor or array.
        y: Labels, (samples,), of two different values.
        num_layers: L >= 1.
        steps: Steps of gradient descent, each on all samples, >= 1.
        lr: The rate :math:`\eta`, > 0.
        generator: Draws the first angles, evenly from :math:`[0, 2 \pi)`; None for torch's own.
        on_step: Called after each step with its number, from 1, and the loss before it.

    Returns:
        The angles, (``num_layers``, n), of double precision.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is too small, a shape does not fit, a value is not finite, or there are not two classes.
        ModuleNotFoundError: PennyLane is not installed; the message names the extra.

    References:
        None: the text sketches it.

    Departures from the paper:
        The text's sketch has no loss, uses no label and no sample but the first, and cannot train: plain NumPy arrays
        are constants to PennyLane, so that its gradient is empty and 100 steps change nothing. Its initial values,
        number of steps and rate are kept.

    Limitations:
        Two classes, read from one qubit. For more, or another loss, train a :class:`QuantumLayer` as any layer.
    """
    features = circuit.check_angles("X", X).to(torch.float64)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"X must be of shape (samples, features), none empty, got {tuple(features.shape)}")
    targets = _targets(y, len(features))
    steps, lr = check_integer("steps", steps, 1), check_range("lr", lr, low=0.0, open_low=True)
    shape = (check_integer("num_layers", num_layers, 1), circuit.check_qubits("features of X", features.shape[1]))
    if on_step is not None and not callable(on_step):
        raise TypeError(f"on_step must be a function, or None, got {on_step!r}")
    node = circuit.node(shape[1])
    params = 2 * math.pi * torch.rand(shape, generator=generator, dtype=torch.float64)
    for step in range(1, steps + 1):
        params.requires_grad_()
        loss = (node(params, features)[-1] - targets).square().mean()
        (gradient,) = torch.autograd.grad(loss, params)
        params = params.detach() - lr * gradient
        if on_step is not None:
            on_step(step, loss.item())
    return params


def _targets(y: Any, samples: int) -> Tensor:
    """Labels of two classes as +1 and -1."""
    labels = circuit.check_angles("y", y.to(torch.float64) if isinstance(y, Tensor) else y)
    if labels.shape != (samples,):
        raise ValueError(f"y must have one label per sample, ({samples},), got {tuple(labels.shape)}")
    classes = labels.unique()
    if len(classes) != 2:
        raise ValueError(f"y must have two classes, got {len(classes)}: {classes[:5].tolist()}")
    return torch.where(labels == classes[1], 1.0, -1.0).to(torch.float64)
