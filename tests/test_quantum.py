"""The quantum neural network against a state vector of matrices, against a closed form, and in training."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.nn.functional import binary_cross_entropy_with_logits

from advanced_optimizers import automl
from advanced_optimizers.automl import QuantumLayer, gradient_variance, quantum_neural_network, train_quantum_model
from advanced_optimizers.automl.quantum import circuit
from tests.reference import quantum as reference

qml = pytest.importorskip("pennylane")
EXACT = {"rtol": 0.0, "atol": 1e-12}
KINDS = [(True, False), (False, False), (True, True), (False, True)]


def drawn(rng: torch.Generator, *shape: int) -> Tensor:
    return 2 * math.pi * torch.rand(shape, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize(("entangle", "reupload"), KINDS)
@pytest.mark.parametrize(("layers", "qubits"), [(3, 4), (1, 1), (2, 3)])
def test_it_is_the_state_vector(rng: torch.Generator, layers: int, qubits: int, entangle: bool, reupload: bool) -> None:
    params, x = drawn(rng, layers, qubits), drawn(rng, 3, qubits)
    node = circuit.node(qubits, entangle=entangle, reupload=reupload)
    found = torch.stack(node(params, x), dim=1)
    states = [reference.state(params.numpy(), row, entangle, reupload) for row in x.numpy()]
    expected = np.stack([reference.expectations(state) for state in states])
    torch.testing.assert_close(found, torch.from_numpy(expected), **EXACT)
    assert bool((found.abs() <= 1 + 1e-12).all())

    @qml.qnode(circuit.device(qubits), interface="torch")
    def amplitudes(angles: Tensor, features: Tensor) -> object:
        circuit.apply_gates(angles, features, entangle=entangle, reupload=reupload)
        return qml.state()

    torch.testing.assert_close(amplitudes(params, x), torch.from_numpy(np.stack(states)).to(torch.complex128), **EXACT)
    assert np.linalg.norm(states[0]) == pytest.approx(1.0, abs=1e-12)


def test_a_single_layer_is_a_product_of_cosines_and_more_are_not(rng: torch.Generator) -> None:
    """The sketch without indentation is the single layer whose angles are the sums."""
    params, x = drawn(rng, 3, 4), drawn(rng, 4)
    closed = torch.from_numpy(reference.product_of_cosines(params.numpy(), x.numpy()))
    summed = params.sum(dim=0, keepdim=True)
    torch.testing.assert_close(torch.stack(automl.qnode(summed, x)), closed, **EXACT)
    assert not torch.stack(automl.qnode(params, x)).allclose(closed, atol=1e-3)


def test_angles_of_zero_give_one_and_every_angle_has_a_period(rng: torch.Generator) -> None:
    zero = torch.zeros(3, 4, dtype=torch.float64)
    torch.testing.assert_close(torch.stack(automl.qnode(zero, zero[0])), torch.ones(4, dtype=torch.float64), **EXACT)
    params, x = drawn(rng, 3, 4), drawn(rng, 4)
    start = torch.stack(automl.qnode(params, x))
    for turned in (params + 2 * math.pi * torch.eye(3, 4, dtype=torch.float64), params - 2 * math.pi):
        torch.testing.assert_close(torch.stack(automl.qnode(turned, x + 2 * math.pi)), start, **EXACT)


@pytest.mark.parametrize(("reupload", "degree"), [(False, 1), (True, 3)])
def test_the_degree_in_a_feature_is_one_and_higher_if_it_enters_again(
    rng: torch.Generator, reupload: bool, degree: int
) -> None:
    params, x = drawn(rng, 3, 4), drawn(rng, 4).repeat(16, 1)
    x[:, 1] = torch.linspace(0, 2 * math.pi, 17, dtype=torch.float64)[:-1]
    outputs = torch.stack(circuit.node(4, reupload=reupload)(params, x), dim=1)
    strength = torch.fft.rfft(outputs, dim=0).abs().amax(dim=1) / 16
    assert float(strength[degree]) > 1e-2
    assert float(strength[degree + 1 :].max()) < 1e-12


def test_gradients_are_those_of_the_shift_rule_and_of_small_differences(rng: torch.Generator) -> None:
    params, x = drawn(rng, 2, 3), drawn(rng, 5, 3)

    def f(angles: Tensor) -> Tensor:
        return torch.stack(circuit.node(3)(angles, x), dim=1)

    def central(step: float) -> Tensor:
        shifts = step * torch.eye(6, dtype=torch.float64).view(6, 2, 3)
        return torch.stack([f(params + shift) - f(params - shift) for shift in shifts], dim=-1).view(5, 3, 2, 3)

    exact = jacobian(f, params)
    torch.testing.assert_close(central(math.pi / 2) / 2, exact, **EXACT)
    torch.testing.assert_close(central(1e-5) / 2e-5, exact, rtol=0.0, atol=1e-8)


def test_a_layer_takes_a_batch_at_once_and_keeps_shape_and_precision(rng: torch.Generator) -> None:
    layer = QuantumLayer(4)
    x = drawn(rng, 6, 4).float()
    out = layer(x)
    assert (out.shape, out.dtype, layer(x[0]).shape) == ((6, 4), torch.float32, (4,))
    torch.testing.assert_close(torch.stack([layer(row) for row in x]), out)
    assert bool(((layer.params >= 0) & (layer.params < 2 * math.pi)).all())
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.params += 0.5
    other.load_state_dict(layer.state_dict())
    assert other(x).equal(out)
    assert "entangle=True" in repr(layer)


def test_without_the_chain_an_output_sees_its_own_feature_alone(rng: torch.Generator) -> None:
    x = drawn(rng, 4)
    for entangle in (True, False):
        seen = jacobian(QuantumLayer(4, entangle=entangle), x.float()).abs() > 1e-6
        assert bool((seen == torch.eye(4, dtype=torch.bool)).all()) is not entangle


def two_classes(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    x = (torch.rand(40, 4, generator=rng, dtype=torch.float64) - 0.5) * math.pi
    return x, (x[:, 0] + x[:, 3] > 0).long() + 3  # labels 3 and 4


def test_training_changes_the_parameters_and_lowers_the_loss(rng: torch.Generator) -> None:
    x, y = two_classes(rng)
    losses: list[float] = []
    start = 2 * math.pi * torch.rand(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    params = train_quantum_model(
        x.numpy(), y, 3, generator=torch.Generator().manual_seed(1), on_step=lambda _, loss: losses.append(loss)
    )
    assert (params.shape, params.requires_grad, len(losses)) == ((3, 4), False, 100)
    assert float((params - start).abs().max()) > 0.1
    assert losses[-1] < 0.8 * losses[0]
    said = automl.qnode(params, x)[-1] > 0
    assert float((said == (y == 4)).double().mean()) > 0.7


def test_a_step_is_that_of_gradient_descent(rng: torch.Generator) -> None:
    x, y = two_classes(rng)
    first, second = (
        train_quantum_model(x, y, 2, steps=steps, lr=0.3, generator=torch.Generator().manual_seed(1))
        for steps in (1, 2)
    )
    gradient = jacobian(lambda p: (automl.qnode(p, x)[-1] - (2.0 * (y == 4) - 1.0)).square().mean(), first)
    torch.testing.assert_close(second, first - 0.3 * gradient, **EXACT)


def test_a_classifier_trains_as_any_module(rng: torch.Generator) -> None:
    x, y = two_classes(rng)
    model = nn.Sequential(QuantumLayer(4, 2), nn.Linear(4, 1)).double()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(model(x)[:, 0], (y == 4).double())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_gradients_of_random_circuits_vanish_with_the_qubits() -> None:
    variances = [gradient_variance(n, draws=300, generator=torch.Generator().manual_seed(0)) for n in (2, 4, 6)]
    assert variances[1] < 0.6 * variances[0]
    assert variances[2] < 0.6 * variances[1]
    expected = reference.gradient_variance_deep(10, 1000, np.random.default_rng(0))
    assert variances[0] == pytest.approx(expected, rel=0.3)
    assert gradient_variance(6, 1, draws=100) > variances[2]  # a shallow one has no plateau


# ---- the package that it needs ------------------------------------------------------------------------------------


def test_names_work_lazily() -> None:
    assert automl.qnode.device is automl.dev
    assert len(automl.dev.wires) == 4


@pytest.mark.slow
def test_without_pennylane_what_needs_it_says_so() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['pennylane'] = None\n"
            "from advanced_optimizers.automl import *\n"
            "layer = QuantumLayer(4)\n"
            "import advanced_optimizers.automl as automl, torch\n"
            "for call in (lambda: automl.qnode, lambda: automl.dev, lambda: layer(torch.zeros(4))):\n"
            "    try: call()\n"
            "    except ModuleNotFoundError as error: print(error)\n",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("advanced-optimizers[quantum]") == 3


def test_what_is_called_outside_of_a_qnode_is_measured_nowhere() -> None:
    found = quantum_neural_network([[0.1, 0.2]], [0.3, 0.4])
    assert [type(measurement).__name__ for measurement in found] == ["ExpectationMP"] * 2
