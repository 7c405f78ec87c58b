"""Progressive networks: equality with the slow twin, what stays bit for bit, and how many parameters there are."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from advanced_optimizers.automl import ProgressiveNeuralNetwork, ProgressiveNeuralnetwork
from tests.reference import continual as reference

INPUTS, OUTPUTS = 6, 3


def network(columns: int = 3, **options: Any) -> ProgressiveNeuralNetwork:
    torch.manual_seed(0)
    net = ProgressiveNeuralNetwork(INPUTS, 5, output_dim=OUTPUTS, **{"num_layers": 2, **options})
    for k in range(1, columns):
        net.add_column(INPUTS, 5 + k, output_dim=OUTPUTS)
    return net


def train(net: ProgressiveNeuralNetwork, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> None:
    net.train()
    for _ in range(5):
        optimizer.zero_grad()
        cross_entropy(net(x, len(net.columns) - 1), y).backward()
        optimizer.step()


@pytest.fixture
def x(rng: torch.Generator) -> Tensor:
    return torch.randn(20, INPUTS, generator=rng)


@pytest.fixture
def y(rng: torch.Generator) -> Tensor:
    return torch.randint(OUTPUTS, (20,), generator=rng)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_it_is_the_formula_column_by_column(x: Tensor, num_layers: int) -> None:
    net = network(num_layers=num_layers).double()
    columns, laterals = [], []
    for k, (column, lateral) in enumerate(zip(net.columns, net.lateral_connections, strict=True)):
        columns.append([(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in column.layers])
        splits = np.cumsum([5 + j for j in range(k)])[:-1]
        laterals.append([np.split(layer.weight.detach().numpy(), splits, axis=1) for layer in lateral])
    expected = reference.progressive_forward(x.double().numpy(), columns, laterals)
    for k, output in enumerate(expected):
        assert_close(net(x.double(), k), torch.from_numpy(output))


@pytest.mark.parametrize(
    "options", [{}, {"batch_norm": True}, {"adapter_dim": 4}], ids=["linear", "batch norm", "adapters"]
)
def test_earlier_columns_stay_bit_for_bit(x: Tensor, y: Tensor, options: dict[str, Any]) -> None:
    net = network(1, **options)
    # With momentum and decay: an optimizer that still holds frozen parameters must leave them alone, too.
    first = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    train(net, x, y, first)
    net.add_column(INPUTS, 7, output_dim=OUTPUTS)
    train(net, x, y, torch.optim.Adam(net.trainable_parameters(), lr=0.1))
    before, outputs = deepcopy(net.state_dict()), [net.eval()(x, k) for k in (0, 1)]
    net.add_column(INPUTS, 5, output_dim=OUTPUTS)
    newest = {name for name in net.state_dict() if name not in before}
    start = deepcopy(net.state_dict())
    train(net, x, y, torch.optim.Adam(net.parameters(), lr=0.1, weight_decay=0.1))
    first.step()
    after = net.state_dict()
    assert all(value.equal(after[name]) for name, value in before.items())
    assert all(net(x, k).equal(output) for k, output in enumerate(outputs))  # while the network is in training mode
    assert newest
    assert not any(start[name].equal(after[name]) for name in newest)
    assert {p for p in net.parameters() if p.requires_grad} == set(net.trainable_parameters())


def test_without_laterals_a_column_stands_alone(x: Tensor) -> None:
    net, alone = network(2), network(1)
    joined = net(x, 1)
    with torch.no_grad():
        for lateral in net.lateral_connections[1]:
            lateral.weight.zero_()
    alone.add_column(INPUTS, 6, output_dim=OUTPUTS)
    own: Any = net.columns[1]
    hidden = x
    for depth, layer in enumerate(own.layers[:-1]):
        hidden = own.hidden(depth, layer(hidden))
    assert_close(net(x, 1), own.layers[-1](hidden))
    assert not joined.allclose(net(x, 1))


@pytest.mark.parametrize("adapter_dim", [None, 4])
def test_every_lateral_gets_a_gradient(x: Tensor, y: Tensor, adapter_dim: int | None) -> None:
    net = network(adapter_dim=adapter_dim)
    cross_entropy(net(x, 2), y).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.trainable_parameters())
    assert len(list(net.lateral_connections[2].parameters())) == (2 if adapter_dim is None else 2 * 3)


@pytest.mark.parametrize(("d", "h", "o", "layers", "columns"), [(6, 5, 3, 1, 4), (784, 64, 2, 2, 5)])
def test_the_number_of_parameters_is_the_formula(d: int, h: int, o: int, layers: int, columns: int) -> None:
    with torch.device("meta"):
        net = ProgressiveNeuralNetwork(d, h, output_dim=o, num_layers=layers)
        for _ in range(columns - 1):
            net.add_column(d, h, output_dim=o)
    column = (d + 1) * h + (layers - 1) * (h + 1) * h + (h + 1) * o
    lateral = (layers - 1) * h * h + h * o
    assert sum(p.numel() for p in net.columns[0].parameters()) == column
    total = columns * column + columns * (columns - 1) // 2 * lateral
    assert sum(p.numel() for p in net.parameters()) == total
    newest = sum(p.numel() for p in net.trainable_parameters())
    assert newest == column + (columns - 1) * lateral
    if d == 784:
        assert (column, newest) == (54_530, 71_426)


@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "adapter_dim": 4}], ids=["linear", "all options"])
def test_three_columns_load_into_three_columns(x: Tensor, options: dict[str, Any]) -> None:
    net, fresh = network(**options), network(**options)
    train(net, x, torch.zeros(20, dtype=torch.long), torch.optim.SGD(net.trainable_parameters(), lr=1.0))
    fresh.load_state_dict(net.state_dict())
    assert all(net.eval()(x, k).equal(fresh.eval()(x, k)) for k in range(3))


def test_the_signature_of_the_source_holds(x: Tensor) -> None:
    net = ProgressiveNeuralnetwork(INPUTS, 4)
    net.add_column(INPUTS)
    assert net(x, 0).shape == (20, 4)
    assert net(x, 1).shape == (20, 64)
    assert len(net.columns) == len(net.lateral_connections) == 2
    column = net.columns[0].layers
    assert_close(net(x, 0), column[1](torch.relu(column[0](x))))


def test_unfreezing_an_earlier_column_is_refused(x: Tensor) -> None:
    net = network(2)
    net.requires_grad_(True)
    with pytest.raises(RuntimeError, match="must stay frozen"):
        net(x, 1)
