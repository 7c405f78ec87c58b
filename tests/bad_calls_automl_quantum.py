"""Bad calls of the quantum neural network."""

from __future__ import annotations

import math
from typing import Any

import torch

from advanced_optimizers.automl import QuantumLayer, gradient_variance, quantum_neural_network, train_quantum_model
from tests.bad_calls import BadCall

X, Y = torch.zeros(6, 4), torch.tensor([0, 1, 0, 1, 0, 1])
NAN = torch.tensor([0.0, math.nan, 0.0, 0.0])


def run(params: Any = None, x: Any = None) -> object:
    return quantum_neural_network(torch.zeros(3, 4) if params is None else params, X if x is None else x)


def layer(x: Any) -> object:
    return QuantumLayer(4)(x)


def train(x: Any = X, y: Any = Y, **options: Any) -> object:
    return train_quantum_model(x, y, **options)


BAD_CALLS = [
    BadCall("quantum_neural_network", "params", "(3, 5)", lambda: run(torch.zeros(3, 5))),
    BadCall("quantum_neural_network", "qubits = 4", "(4,)", lambda: run(torch.zeros(4))),
    BadCall("quantum_neural_network", "params", "(0, 4)", lambda: run(torch.zeros(0, 4))),
    BadCall("quantum_neural_network", "params", "'angles'", lambda: run("angles")),
    BadCall("quantum_neural_network", "params", "torch.int64", lambda: run(torch.zeros(3, 4, dtype=torch.int64))),
    BadCall("quantum_neural_network", "params", "NaN", lambda: run(NAN.expand(3, 4))),
    BadCall("quantum_neural_network", "x", "NaN", lambda: run(x=NAN)),
    BadCall("quantum_neural_network", "x", "(2, 6, 4)", lambda: run(x=torch.zeros(2, 6, 4))),
    BadCall("quantum_neural_network", "x", "(0, 4)", lambda: run(x=torch.zeros(0, 4))),
    BadCall("quantum_neural_network", "x", "None", lambda: run(x=[None])),
    BadCall("quantum_neural_network", "features of x", "17", lambda: run(torch.zeros(3, 17), torch.zeros(17))),
    BadCall("QuantumLayer", "qubits", "0", lambda: QuantumLayer(0)),
    BadCall("QuantumLayer", "qubits", "2.5", lambda: QuantumLayer(2.5)),
    BadCall(
        "QuantumLayer",
        "qubits",
        "got 20: a state of n qubits is 2^n complex numbers, here 16 MiB",
        lambda: QuantumLayer(20),
    ),
    BadCall("QuantumLayer", "num_layers", "0", lambda: QuantumLayer(4, 0)),
    BadCall("QuantumLayer", "entangle", "'no'", lambda: QuantumLayer(4, entangle="no")),
    BadCall("QuantumLayer", "reupload", "2", lambda: QuantumLayer(4, reupload=2)),
    BadCall("layer", "x must have as many features as there are qubits, 4", "got 5", lambda: layer(torch.zeros(6, 5))),
    BadCall("layer", "x", "[0.0]", lambda: layer([0.0])),
    BadCall("layer", "x", "torch.int64", lambda: layer(torch.zeros(4, dtype=torch.int64))),
    BadCall("layer", "x", "infinity", lambda: layer(NAN)),
    BadCall("train_quantum_model", "X", "(4,)", lambda: train(X[0])),
    BadCall("train_quantum_model", "X", "'data'", lambda: train("data")),
    BadCall("train_quantum_model", "X", "NaN", lambda: train(NAN.expand(6, 4))),
    BadCall("train_quantum_model", "features of X", "17", lambda: train(torch.zeros(6, 17))),
    BadCall("train_quantum_model", "y", "got 3: [0.0, 1.0, 2.0]", lambda: train(y=torch.tensor([0, 1, 2, 0, 1, 2]))),
    BadCall("train_quantum_model", "y", "got 1: [1.0]", lambda: train(y=torch.ones(6))),
    BadCall("train_quantum_model", "y", "(5,)", lambda: train(y=Y[:5])),
    BadCall("train_quantum_model", "y", "['a', 'b']", lambda: train(X[:2], ["a", "b"])),
    BadCall("train_quantum_model", "num_layers", "0", lambda: train(num_layers=0)),
    BadCall("train_quantum_model", "steps", "1.5", lambda: train(steps=1.5)),
    BadCall("train_quantum_model", "lr", "-0.1", lambda: train(lr=-0.1)),
    BadCall("train_quantum_model", "lr", "nan", lambda: train(lr=math.nan)),
    BadCall("train_quantum_model", "on_step", "True", lambda: train(on_step=True)),
    BadCall("gradient_variance", "qubits", "1", lambda: gradient_variance(1)),
    BadCall("gradient_variance", "qubits", "17", lambda: gradient_variance(17)),
    BadCall("gradient_variance", "layers", "0", lambda: gradient_variance(4, 0)),
    BadCall("gradient_variance", "draws", "1", lambda: gradient_variance(4, draws=1)),
]
