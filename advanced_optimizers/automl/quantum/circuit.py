"""The circuit of a quantum neural network, and what runs it: PennyLane's simulator of state vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._checks import check_integer

# The state of more qubits takes megabytes for each sample, and training keeps one for each gate.
MAX_QUBITS = 16


def quantum_neural_network(
    params: Any, x: Any, *, entangle: bool = True, reupload: bool = False, qubits: int | None = None
) -> list[Any]:
    r"""The body of a circuit: rotations by the features, layers of rotations by parameters, the signs of all qubits.

    With the all-zero state :math:`|0\rangle` of n qubits and :math:`C` the chain of controlled NOTs from each qubit to
    the next,

    .. math::
        |\psi\rangle = \prod_{l=1}^{L} \Bigl[ C \bigotimes_i R_Y(\theta_{l,i}) \Bigr]
        \bigotimes_i R_Y(x_i)\, |0\rangle, \qquad
        f_i(x; \theta) = \langle\psi| Z_i |\psi\rangle \in [-1, 1]

    where layers are applied in order. Each output has the form :math:`a + b \cos x_j + c \sin x_j` in each feature, and
    period :math:`2 \pi` in each angle. It is to be called inside of a QNode of PennyLane, as :data:`qnode` is; called
    outside, it returns the measurements without making them.

    Args:
        params: :math:`\theta`, angles in radians: (layers, n), a tensor or array.
        x: Features, used as angles in radians: (n,), or (batch, n) for a batch at once.
        entangle: Whether :math:`C` is there. Without it, the qubits have nothing to do with each other.
        reupload: Whether the rotations by features are repeated in every layer, which raises the degree in each of them
            from 1 to the number of layers.
        qubits: How many qubits there must be; None for as many as x has features.

    Returns:
        The n measurements of :math:`Z_i`; in a QNode they become n expectations, each of shape () or (batch,).

    Raises:
        TypeError: ``params`` or ``x`` is not made of real numbers.
        ValueError: A shape does not fit, a value is not finite, or there are more than 16 qubits.
        ModuleNotFoundError: PennyLane is not installed; the message names the extra.

    Example:
        Four expectations of one sample, with gradients by torch::

            from advanced_optimizers.automl import qnode

            params = torch.rand(3, 4, requires_grad=True)
            qnode(params, torch.tensor([0.1, 0.2, 0.3, 0.4]))[0].backward()

    References:
        Schuld, Sweke, Meyer, *Effect of data encoding on the expressive power of variational quantum machine learning
        models*, Physical Review A 103, 2021, for the degree in the features; recalled.

    Departures from the paper:
        The text's sketch lost its indentation. If the chain comes after all layers instead of inside each, rotations
        add up, L layers are one, and :math:`f_i = \prod_{j \le i} \cos(x_j + \sum_l \theta_{l,j})` exactly.

    Limitations:
        All amplitudes are real: there are no rotations about other axes. Simulated, time and memory double with each
        qubit.
    """
    params, x = check_circuit(params, x, qubits)
    apply_gates(params, x, entangle=entangle, reupload=reupload)
    qml = pennylane()
    return [qml.expval(qml.PauliZ(wire)) for wire in range(x.shape[-1])]


def apply_gates(params: Tensor, x: Tensor, *, entangle: bool, reupload: bool) -> None:
    """The gates of :func:`quantum_neural_network`, without the measurement."""
    qml, wires = pennylane(), range(x.shape[-1])
    for layer, angles in enumerate(params):
        if layer == 0 or reupload:
            for wire in wires:
                qml.RY(x[..., wire], wires=wire)
        for wire in wires:
            qml.RY(angles[wire], wires=wire)
        if entangle:
            for wire in wires[:-1]:
                qml.CNOT(wires=[wire, wire + 1])


@lru_cache(maxsize=32)
def device(qubits: int) -> Any:
    """PennyLane's simulator of state vectors with so many qubits."""
    return pennylane().device("default.qubit", wires=check_qubits("qubits", qubits))


@lru_cache(maxsize=64)
def node(qubits: int, *, entangle: bool = True, reupload: bool = False) -> Any:
    """The circuit on its device: (params, x) -> n expectations, differentiable by torch."""

    def run(params: Any, x: Any) -> list[Any]:
        return quantum_neural_network(params, x, entangle=entangle, reupload=reupload, qubits=qubits)

    return pennylane().QNode(run, device(qubits), interface="torch", diff_method="backprop")


def pennylane() -> Any:
    """The package PennyLane, imported when it is needed."""
    try:
        import pennylane
    except ModuleNotFoundError as error:
        if error.name != "pennylane":  # it is there, and something that it needs is not
            raise
        raise ModuleNotFoundError(
            "quantum circuits are simulated by PennyLane: pip install 'advanced-optimizers[quantum]'", name="pennylane"
        ) from error
    return pennylane


def check_qubits(name: str, qubits: int) -> int:
    """A number of qubits that can be simulated."""
    qubits = check_integer(name, qubits, 1)
    if qubits > MAX_QUBITS:
        raise ValueError(
            f"{name} must be at most {MAX_QUBITS}, got {qubits}: a state of n qubits is 2^n complex numbers, here "
            f"{16 * 2**qubits / 2**20:,.0f} MiB per sample, and training keeps one for each gate"
        )
    return qubits


def check_circuit(params: Any, x: Any, qubits: int | None = None) -> tuple[Tensor, Tensor]:
    """Angles (layers, n) and features (n,) or (batch, n) that fit each other, as tensors."""
    x, params = check_angles("x", x), check_angles("params", params)
    if x.ndim not in (1, 2) or 0 in x.shape:
        raise ValueError(f"x must be of shape (features,) or (batch, features), none empty, got {tuple(x.shape)}")
    features = x.shape[-1]
    if qubits is not None and features != qubits:
        raise ValueError(f"x must have as many features as there are qubits, {qubits}, got {features}")
    check_qubits("features of x", features)
    if params.ndim != 2 or not len(params) or params.shape[1] != features:
        raise ValueError(f"params must be of shape (layers, qubits = {features}), got {tuple(params.shape)}")
    return params, x


def check_angles(name: str, values: Any) -> Tensor:
    """Finite real numbers: a tensor as it is, anything else as one of double precision."""
    if not isinstance(values, Tensor):
        try:
            values = torch.as_tensor(_plain(values), dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be a tensor or array of real numbers, got {values!r}") from error
    if not values.is_floating_point():
        raise TypeError(f"{name} must be angles, a floating-point tensor, got {values.dtype}")
    bad = int((~values.detach().isfinite()).sum())
    if bad:
        raise ValueError(f"{name} must be finite, got NaN or infinity in {bad} of its {values.numel()} values")
    return values


def _plain(values: Any) -> Any:
    """Rows of tensors, or of lists of them, as one tensor: parameters may come layer by layer."""
    if isinstance(values, Sequence) and values and all(isinstance(row, Tensor) for row in values):
        return torch.stack(list(values))
    return values
