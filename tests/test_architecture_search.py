"""DARTS: the mixed operation, the bilevel gradient, discretization, and the search itself."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset, TensorDataset

from advanced_optimizers.automl import DARTS, Genotype, SearchNetwork, architecture_gradient, search_architecture
from advanced_optimizers.automl.architecture_search import CellNetwork, Shape, accuracy, discretize, edges_of, retrain
from advanced_optimizers.automl.architecture_search.operations import OPERATIONS, make_operation
from advanced_optimizers.automl.architecture_search.search import architecture_step
from tests.reference.architecture_search import exact_architecture_gradient, mixed

SMALL = Shape(1, 2, 4, 2)


def batches(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Images whose class is which half is brighter."""
    labels = [torch.arange(size) % 2 for _ in range(count)]
    made = []
    for label in labels:
        images = 0.3 * torch.randn(size, 1, 8, 8)
        images[label == 1, :, :4] += 1.0
        images[label == 0, :, 4:] += 1.0
        made.append((images, label))
    return made


# ---- operations and mixtures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OPERATIONS, "none"])
@pytest.mark.parametrize("size", [7, 8])
def test_every_operation_keeps_the_shape(name: str, size: int) -> None:
    assert make_operation(name, 3)(torch.randn(2, 3, size, size)).shape == (2, 3, size, size)


def test_dilation_widens_the_field_without_more_weights() -> None:
    counts, fields = set(), []
    for name in ("conv_3x3", "dilated_conv_3x3_2", "dilated_conv_3x3_3"):
        convolution = make_operation(name, 1)[1]  # type: ignore[index]
        counts.add(convolution.weight.numel())
        x = torch.zeros(1, 1, 15, 15, requires_grad=True)
        nn.init.ones_(convolution.weight)
        convolution(x)[0, 0, 7, 7].backward()
        rows = x.grad[0, 0].abs().sum(1).nonzero()  # type: ignore[index]
        fields.append(int(rows.max() - rows.min()) + 1)
    assert (counts, fields) == ({9}, [3, 5, 7])


def test_a_mixture_is_the_softmax_weighted_sum() -> None:
    edge = DARTS(3, 6)
    edge.alpha.data = torch.linspace(-1, 1, 8)
    assert (len(edge.ops), tuple(edge.alpha.shape)) == (8, (8,))
    x = torch.randn(4, 3, 7, 7)
    inside = edge.preprocess(x)
    torch.testing.assert_close(edge(x), mixed(inside, edge.alpha, list(edge.ops)))
    assert float(edge.weights.detach().sum()) == pytest.approx(1.0)


def test_a_large_logit_leaves_one_operation() -> None:
    edge = DARTS(4, 4)
    edge.alpha.data[1] = 50.0
    x = torch.randn(4, 4, 8, 8)
    torch.testing.assert_close(edge(x), edge.ops[1](x), atol=1e-6, rtol=1e-6)


def test_operations_and_alphas_may_be_permuted_together() -> None:
    edge, order = DARTS(4, 4), [3, 0, 7, 1, 2, 6, 5, 4]
    edge.alpha.data.normal_()
    other = copy.deepcopy(edge)
    other.mixed.ops = nn.ModuleList(edge.ops[i] for i in order)
    other.alpha.data = edge.alpha.data[order]
    x = torch.randn(4, 4, 8, 8)
    torch.testing.assert_close(edge(x), other(x))


def test_a_duplicated_operation_shares_its_gradient_equally() -> None:
    edge = DARTS(4, 4, operations=("conv_1x1", "conv_3x3", "conv_3x3"))
    edge.mixed.ops[2] = edge.mixed.ops[1]
    edge.alpha.data.zero_()
    edge(torch.randn(4, 4, 8, 8)).square().sum().backward()
    assert edge.alpha.grad is not None
    torch.testing.assert_close(edge.alpha.grad[1], edge.alpha.grad[2])
    assert edge.alpha.grad[0] != 0


def test_what_changes_the_shape_is_named() -> None:
    def halving(channels: int) -> nn.Module:
        return nn.AvgPool2d(2)

    edge = DARTS(4, 4, operations=("conv_3x3", halving))
    with pytest.raises(ValueError, match=r"operation 'halving' must keep the shape .*, got \(2, 4, 4, 4\)"):
        edge(torch.randn(2, 4, 8, 8))


# ---- the gradient of the architecture -------------------------------------------------------------------------------


@pytest.mark.parametrize("xi", [0.0, 0.25, 0.5, 1.0])
def test_the_toy_problem_ends_where_the_formula_says(xi: float) -> None:
    """Figure 2 of the paper: L_val = a w - 2 a + 1, L_train = (w - a)^2. Fixed point: a = w = 2 / (1 + 2 xi)."""
    a = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([-2.0], dtype=torch.float64, requires_grad=True)

    def train() -> Tensor:
        return (w - a).square().sum()

    def val() -> Tensor:
        return (a * w - 2 * a + 1).sum()

    for _ in range(600):
        (g,) = architecture_gradient(train, val, [w], [a], xi=xi)
        (step,) = torch.autograd.grad(train(), w)
        with torch.no_grad():
            a -= 0.1 * g
            w -= 0.1 * step
    assert float(a.detach()) == pytest.approx(2 / (1 + 2 * xi), abs=1e-4)
    assert float(w.detach()) == pytest.approx(float(a.detach()), abs=1e-3)


class _Smooth:
    """A small mixture in float64, with smooth operations, so that derivatives exist everywhere."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(3)
        self.x, self.z = (torch.randn(6, 4, dtype=torch.float64, generator=draw) for _ in range(2))
        self.y = torch.randint(3, (6,), generator=draw)
        shapes = ((4, 4), (4, 4), (4, 3))
        self.weights = [torch.randn(s, dtype=torch.float64, generator=draw, requires_grad=True) for s in shapes]
        self.alpha = torch.randn(3, dtype=torch.float64, generator=draw, requires_grad=True)
        self.buffers = [torch.randn_like(w) for w in self.weights]

    def loss(self, x: Tensor, weights: Any, alpha: Tensor) -> Tensor:
        a, b, c = weights
        operations = [lambda x: (x @ a).tanh(), lambda x: (x @ b).sin(), lambda x: x]
        return cross_entropy(mixed(x, alpha, operations) @ c, self.y)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_second_order_is_the_derivative_through_the_unrolled_step(momentum: float) -> None:
    toy = _Smooth()
    settings: dict[str, Any] = {"xi": 0.3, "momentum": momentum, "weight_decay": 0.05, "buffers": toy.buffers}
    exact = exact_architecture_gradient(
        lambda w, a: toy.loss(toy.x, w, a), lambda w, a: toy.loss(toy.z, w, a), toy.weights, toy.alpha, **settings
    )
    before = [w.detach().clone() for w in toy.weights]
    (own,) = architecture_gradient(
        lambda: toy.loss(toy.x, toy.weights, toy.alpha),
        lambda: toy.loss(toy.z, toy.weights, toy.alpha),
        toy.weights,
        [toy.alpha],
        **settings,
    )
    first = torch.autograd.grad(toy.loss(toy.z, toy.weights, toy.alpha), toy.alpha)[0]
    torch.testing.assert_close(own, exact, rtol=1e-4, atol=1e-7)
    assert (first - exact).norm() > 0.05 * exact.norm()  # what the test would miss
    assert all(torch.equal(w, start) for w, start in zip(toy.weights, before, strict=True))


def test_first_order_is_the_plain_gradient() -> None:
    toy = _Smooth()

    def val() -> Tensor:
        return toy.loss(toy.z, toy.weights, toy.alpha)

    (own,) = architecture_gradient(lambda: val() * math.nan, val, toy.weights, [toy.alpha])
    assert torch.equal(own, torch.autograd.grad(val(), toy.alpha)[0])


def test_an_architecture_step_moves_alpha_alone() -> None:
    model = SearchNetwork(SMALL)
    model.cells[0].mixed[0].ops[5] = nn.BatchNorm2d(4)  # one with running statistics
    optimizer = torch.optim.SGD(model.shared, lr=0.1, momentum=0.9)
    before = copy.deepcopy(model.state_dict())
    train, val = batches(2)
    architecture_step(model, torch.optim.Adam([model.alpha], lr=0.1), optimizer, train, val, xi=0.1)
    after = model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["alpha"]
    assert all(p.grad is None for p in model.parameters())


# ---- networks and genotypes -----------------------------------------------------------------------------------------


def test_the_strongest_edges_and_operations_stay() -> None:
    edges, names = edges_of(3), ("none", "conv_3x3", "identity")
    weights = torch.tensor(
        [[0.1, 0.2, 0.7], [0.8, 0.15, 0.05], [0.1, 0.6, 0.3], [0.1, 0.5, 0.4], [0.7, 0.1, 0.2], [0.0, 0.1, 0.9]]
    )
    found = discretize(weights, edges, names)
    assert edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert found.operations == ("identity", "conv_3x3", "conv_3x3", "conv_3x3", "none", "identity")
    assert discretize(weights, edges, names, None).operations[4] == "identity"
    assert (found.skip_share, found.parameter_free_share) == (2 / 6, 3 / 6)


def test_a_genotype_survives_json() -> None:
    genotype = Genotype(edges_of(2), ("conv_3x3", "none", "identity"))
    assert Genotype.from_json(genotype.to_json()) == genotype
    with pytest.raises(ValueError, match="text must be JSON with 'edges' and 'operations'"):
        Genotype.from_json("[1]")
    with pytest.raises(ValueError, match=r"conv_3x4"):
        Genotype(edges_of(1), ("conv_3x4",))


def test_a_fixed_cell_has_the_weights_of_its_operations_only() -> None:
    empty = sum(p.numel() for p in CellNetwork(Genotype(edges_of(3), ("identity",) * 6), SMALL).parameters())
    genotype = Genotype(edges_of(3), ("conv_3x3", "none", "identity", "conv_1x1", "max_pool_3x3", "none"))
    own = sum(p.numel() for p in CellNetwork(genotype, SMALL).parameters())
    assert own - empty == sum(9 * c * c + 2 * c + c * c + 2 * c + 2 * c for c in (4, 8))


def test_alpha_is_saved_and_one_hot_weights_are_a_cell() -> None:
    model = SearchNetwork(SMALL)
    assert "alpha" in model.state_dict()
    genotype = model.genotype()
    weights = model.one_hot(genotype)
    model(torch.randn(2, 1, 7, 7), weights).sum().backward()
    trained = {
        (row, o)
        for row, mixed_ in enumerate(model.cells[0].mixed)
        for o, op in enumerate(mixed_.ops)
        if any(p.grad is not None for p in op.parameters())
    }
    assert trained <= {(int(row), int(o)) for row, o in weights.nonzero()}
    with pytest.raises(ValueError, match="genotype must have the edges"):
        model.one_hot(Genotype(edges_of(1), ("identity",)))


# ---- the search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_search_learns_and_its_cell_can_be_trained(order: str) -> None:
    data, seen = batches(8), []
    model = search_architecture(
        data[:4],
        data[4:],
        epochs=4,
        model=SearchNetwork(SMALL, num_nodes=2, operations=("conv_3x3", "identity", "avg_pool_3x3")),
        order=order,
        lr=0.1,
        alpha_lr=0.05,
        on_epoch=lambda epoch, network: seen.append((epoch, network.weights.detach().clone())),
    )
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert (seen[-1][1] - 1 / 3).abs().max() > 0.02
    assert accuracy(model, data[4:]) > 0.9
    network = retrain(model.genotype(), data[:4], epochs=5, shape=SMALL)
    assert accuracy(network, data[4:]) > 0.9


def test_an_operation_that_loses_its_numbers_is_named() -> None:
    model = SearchNetwork(SMALL, num_nodes=1, operations=("conv_1x1", "conv_3x3"))
    model.cells[0].mixed[0].ops[1][1].weight.data.fill_(math.inf)
    data = batches(2)
    with pytest.raises(ValueError, match=r"the loss must be finite, got nan: .* is cells\.0\.mixed\.0: conv_3x3"):
        search_architecture(data[:1], data[1:], epochs=1, model=model)


DATA = TensorDataset(torch.randn(8, 1, 4, 4), torch.arange(8) % 2)
ONE = [(torch.randn(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64))]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DARTS(3, 4, num_ops=1), "num_ops must be >= 2, got 1"),
        (lambda: DARTS(3, 4, num_ops=9), "num_ops must be at most 8 unless operations are named, got 9"),
        (lambda: DARTS(0, 4), "input_channels must be >= 1, got 0"),
        (lambda: SearchNetwork(SMALL, operations=("identity",)), "operations must be at least two"),
        (lambda: SearchNetwork(SMALL, operations=("identity", "conv3x3")), "did you mean conv_3x3"),
        (lambda: SearchNetwork(Shape(channels=0)), "channels must be >= 1, got 0"),
        (lambda: SearchNetwork(SMALL)(torch.randn(2, 3, 8, 8)), r"images must have shape \(B, 1, H, W\)"),
        (lambda: DARTS(3, 4)(torch.randn(2, 4, 8, 8)), r"x must have shape \(B, 3, H, W\), got \(2, 4, 8, 8\)"),
        (lambda: search_architecture(batches(1), batches(1), epochs=0), "epochs must be >= 1, got 0"),
        (lambda: search_architecture([], batches(1)), "train_loader must have at least one batch"),
        (lambda: search_architecture(batches(1), []), "val_loader must have at least one batch"),
        (lambda: search_architecture(ONE, batches(1), 1), "a batch must have at least 2 images"),
        (lambda: search_architecture(same := batches(1), same), "the same object twice"),
        (
            lambda: search_architecture(DataLoader(Subset(DATA, range(5)), 2), DataLoader(Subset(DATA, [4, 6, 7]), 2)),
            "they share 1 of the same dataset",
        ),
    ],
)
def test_bad_inputs_get_one_clear_error(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
