"""The quantum neural network by matrices: every gate as a matrix of the whole state, one sample at a time, in NumPy.

Nothing here imports the package, nor PennyLane.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

SAME, Z = np.eye(2), np.diag([1.0, -1.0])
ZERO, ONE = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
NOT = np.array([[0.0, 1.0], [1.0, 0.0]])


def ry(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]])


def on(n: int, matrices: dict[int, np.ndarray]) -> np.ndarray:
    """The Kronecker product of these matrices on their qubits, of the identity on others; qubit 0 comes first."""
    return reduce(np.kron, [matrices.get(i, SAME) for i in range(n)])


def cnot(n: int, control: int, target: int) -> np.ndarray:
    return on(n, {control: ZERO}) + on(n, {control: ONE, target: NOT})


def state(params: np.ndarray, x: np.ndarray, entangle: bool = True, reupload: bool = False) -> np.ndarray:
    """The 2^n amplitudes, for angles (layers, n) and one sample (n,)."""
    n = len(x)
    psi = np.eye(2**n)[0]
    for layer, angles in enumerate(params):
        if layer == 0 or reupload:
            psi = on(n, {i: ry(x[i]) for i in range(n)}) @ psi
        psi = on(n, {i: ry(angles[i]) for i in range(n)}) @ psi
        for i in range(n - 1) if entangle else ():
            psi = cnot(n, i, i + 1) @ psi
    return psi


def expectations(psi: np.ndarray) -> np.ndarray:
    n = int(np.log2(len(psi)))
    return np.array([psi @ on(n, {i: Z}) @ psi for i in range(n)])


def product_of_cosines(params: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What the circuit gives if the chain comes once, after all layers: products over the qubits up to each."""
    return np.cumprod(np.cos(x + params.sum(axis=0)))


def gradient_variance_deep(layers: int, draws: int, rng: np.random.Generator) -> float:
    """For two qubits: the variance of d<Z0 Z1> / d(first angle), by the derivative of the first rotation."""
    zz, cz = on(2, {0: Z, 1: Z}), np.diag([1.0, 1.0, 1.0, -1.0])
    found = []
    for _ in range(draws):
        psi, slope = np.eye(4)[0].astype(complex), None
        for layer in range(layers):
            for wire in range(2):
                y, z = rng.uniform(0, 2 * np.pi, 2)
                turn = on(2, {wire: np.diag([np.exp(-0.5j * z), np.exp(0.5j * z)]) @ ry(y)})
                if layer == wire == 0:
                    bent = on(2, {0: np.diag([np.exp(-0.5j * z), np.exp(0.5j * z)]) @ ry(y + np.pi) / 2})
                    slope = bent @ psi
                elif slope is not None:
                    slope = turn @ slope
                psi = turn @ psi
            psi, slope = cz @ psi, cz @ slope
        found.append(2 * (slope.conj() @ zz @ psi).real)
    return float(np.var(found, ddof=1))
