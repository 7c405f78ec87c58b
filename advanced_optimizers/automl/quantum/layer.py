"""The circuit as a layer of torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_bool, check_integer
from advanced_optimizers.automl.quantum import circuit


class QuantumLayer(nn.Module):
    r"""A layer whose n outputs are the expectations of n qubits, :math:`f_i(x; \theta)`.

    See :func:`quantum_neural_network` for the circuit. Its parameters are drawn evenly from :math:`[0, 2 \pi)`.

    Args:
        qubits: n, features in and out, in [1, 16].
        num_layers: L >= 1.
        entangle: Whether there is a chain of controlled NOTs in each layer.
        reupload: Whether the features enter in every layer instead of the first alone.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is too small, or there are more than 16 qubits.

    Example:
        A classifier of two classes, with as many features as qubits::

            model = nn.Sequential(QuantumLayer(4), nn.Linear(4, 1))
            binary_cross_entropy_with_logits(model(x), y).backward()

    References:
        See :func:`quantum_neural_network`.

    Departures from the paper:
        None that we know of.

    Limitations:
        Features are angles: scale them to about :math:`\pm \pi / 2`, since what differs by :math:`2 \pi` is the same.
        The simulator computes in double precision, whatever the input; the outputs have the input's. A training step
        takes 10 to 50 ms with 4 to 8 qubits, most of it overhead of a few dozen gates, and then doubles with each
        qubit. Measured on processors only.
    """

    def __init__(self, qubits: int, num_layers: int = 3, *, entangle: bool = True, reupload: bool = False) -> None:
        super().__init__()
        self.qubits = circuit.check_qubits("qubits", qubits)
        self.entangle = check_bool("entangle", entangle)
        self.reupload = check_bool("reupload", reupload)
        self.params = nn.Parameter(2 * math.pi * torch.rand(check_integer("num_layers", num_layers, 1), self.qubits))

    def forward(self, x: Tensor) -> Tensor:
        """The expectations.

        Args:
            x: Angles, (batch, ``qubits``) or (``qubits``,).

        Returns:
            In the shape and precision of x, each in [-1, 1].

        Raises:
            TypeError: x is not a tensor of floating-point numbers.
            ValueError: Its shape does not fit, or a value is not finite.
            ModuleNotFoundError: PennyLane is not installed; the message names the extra.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor, got {x!r}")
        params, x = circuit.check_circuit(self.params, x, self.qubits)
        node = circuit.node(self.qubits, entangle=self.entangle, reupload=self.reupload)
        return torch.stack(node(params, x), dim=-1).to(x.dtype)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        layers = len(self.params)
        return f"{self.qubits}, num_layers={layers}, entangle={self.entangle}, reupload={self.reupload}"
