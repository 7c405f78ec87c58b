"""A quantum neural network, simulated by PennyLane: angles in, expectations out, gradients through torch.

- :func:`quantum_neural_network`: the circuit; :data:`qnode` runs it on :data:`dev`, which has four qubits.
- :class:`QuantumLayer`: the same as a layer of torch, for any number of qubits and a batch at once.
- :func:`train_quantum_model`: the angles that tell two classes apart.
- :func:`gradient_variance`: how the gradients of random circuits vanish with the number of qubits.

Everything is computed by a classical computer, at a cost that doubles with each qubit. The package ``pennylane`` is
imported when a circuit is first run: ``pip install "advanced-optimizers[quantum]"``.
"""

from typing import Any

from advanced_optimizers.automl.quantum import circuit
from advanced_optimizers.automl.quantum.circuit import quantum_neural_network
from advanced_optimizers.automl.quantum.layer import QuantumLayer
from advanced_optimizers.automl.quantum.plateaus import gradient_variance
from advanced_optimizers.automl.quantum.training import train_quantum_model

__all__ = [
    "QuantumLayer",
    "dev",
    "gradient_variance",
    "qnode",
    "quantum_neural_network",
    "train_quantum_model",
]

_WIRES = 4


def __getattr__(name: str) -> Any:
    """``dev`` and ``qnode``, made on first use, since only then is PennyLane needed."""
    makers = {"dev": circuit.device, "qnode": circuit.node}
    if name not in makers:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = makers[name](_WIRES)
    return value
