"""Barren plateaus: how small the gradients of random circuits are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advanced_optimizers._checks import check_integer
from advanced_optimizers.automl.quantum.circuit import check_qubits, device, pennylane


def gradient_variance(
    qubits: int, layers: int | None = None, *, draws: int = 200, generator: torch.Generator | None = None
) -> float:
    r"""The variance of one derivative over random angles: that of :math:`\langle Z_0 Z_1 \rangle` by the first angle.

    A layer rotates each qubit about Y and about Z, each by an angle of its own, and then applies controlled Z from each
    qubit to the next. All angles are drawn evenly from :math:`[0, 2 \pi)`. The derivative is exact, by the shift rule

    .. math::
        \frac{\partial f}{\partial \theta} = \frac{f(\theta + \pi / 2) - f(\theta - \pi / 2)}{2}.

    For deep circuits its variance falls exponentially with the number of qubits, so that training cannot find a
    direction.

    Args:
        qubits: n, in [2, 16].
        layers: >= 1; None for 5 n, which is deep.
        draws: How often the angles are drawn, >= 2. The standard error of the variance is a tenth of it or more at 200.
        generator: Draws the angles; None for torch's own.

    Returns:
        The variance, >= 0.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is too small or too large.
        ModuleNotFoundError: PennyLane is not installed; the message names the extra.

    References:
        McClean, Boixo, Smelyanskiy, Babbush, Neven, *Barren plateaus in quantum neural network training landscapes*,
        Nature Communications 9, 2018; recalled, not re-read.

    Departures from the paper:
        The paper draws the axis of each rotation; here every layer has both. There is no first layer of fixed
        rotations.

    Limitations:
        Of one observable of two neighboring qubits, and of the first angle.
    """
    qubits = check_qubits("qubits", check_integer("qubits", qubits, 2))
    layers = 5 * qubits if layers is None else check_integer("layers", layers, 1)
    draws = check_integer("draws", draws, 2)
    angles = 2 * math.pi * torch.rand(layers, qubits, 2, draws, generator=generator, dtype=torch.float64)
    shifted = torch.cat([angles, angles], dim=-1)  # all draws, shifted either way, run as one batch
    shifted[0, 0, 0] += torch.cat([torch.full((draws,), math.pi / 2), torch.full((draws,), -math.pi / 2)])
    forward, backward = _correlation(shifted).split(draws)
    return float(((forward - backward) / 2).var())


def _correlation(angles: Tensor) -> Tensor:
    """The expectation of the product of the first two qubits' signs for angles (layers, qubits, 2, batch): (batch,)."""
    qml, qubits = pennylane(), angles.shape[1]

    def run() -> object:
        for layer in angles:
            for wire in range(qubits):
                qml.RY(layer[wire, 0], wires=wire)
                qml.RZ(layer[wire, 1], wires=wire)
            for wire in range(qubits - 1):
                qml.CZ(wires=[wire, wire + 1])
        return qml.expval(qml.PauliZ(0) @ qml.PauliZ(1))

    found: Tensor = qml.QNode(run, device(qubits), interface="torch", diff_method=None)()
    return found
