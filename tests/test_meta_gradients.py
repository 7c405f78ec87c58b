"""MAML, Meta-SGD and Reptile: closed forms, a slow loop, finite differences, tasks at once against one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from advanced_optimizers.automl import MAML, MetaSGD, Reptile
from tests.reference import meta_learning as reference

RATE, STEPS = 0.1, 3
A = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.4], [0.0, -0.4, 1.5]])
C = np.array([1.0, -2.0, 0.5])


class Point(nn.Module):
    """A model that is a point theta, whatever the data."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([0.3, 0.7, -1.1], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.theta.expand(len(x), 3)


def quadratic(outputs: Tensor, minima: Tensor) -> Tensor:
    away = outputs - minima
    return 0.5 * torch.einsum("ni,ij,nj->n", away, torch.from_numpy(A), away).mean()


POINT = (torch.zeros(1, 1, dtype=torch.float64), torch.from_numpy(C)[None])


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def regression(tasks: int = 4, seed: int = 1) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    drawn = torch.randn(4, tasks, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (drawn[0], drawn[1, ..., :2]), (drawn[2], drawn[3, ..., :2])


def plain_loss(weights: Any, x: Tensor, y: Tensor) -> Tensor:
    w1, b1, w2, b2 = weights
    return mse_loss(torch.tanh(x @ w1.T + b1) @ w2.T + b2, y)


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("first_order", "closed_form"),
    [(False, reference.maml_gradient), (True, reference.first_order_gradient)],
)
@pytest.mark.parametrize("steps", [0, 1, STEPS])
def test_the_meta_gradient_of_a_quadratic_task(first_order: bool, closed_form: Callable[..., Any], steps: int) -> None:
    maml = MAML(Point(), RATE, first_order=first_order, loss=quadratic)
    maml.meta_update(POINT, POINT, steps).backward()
    expected = closed_form(maml.model.theta.detach().numpy(), C, A, RATE, steps)
    np.testing.assert_allclose(gradients(maml)[0].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, STEPS])
def test_the_direction_of_reptile_on_a_quadratic_task(steps: int) -> None:
    reptile = Reptile(Point(), RATE, loss=quadratic)
    reptile.meta_update(POINT, steps)
    expected = reference.reptile_direction(reptile.model.theta.detach().numpy(), C, A, RATE, steps)
    np.testing.assert_allclose(gradients(reptile)[0].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("first_order", [False, True])
def test_a_network_against_a_loop_that_keeps_its_graph(first_order: bool) -> None:
    support, query = regression()
    maml = MAML(network(), RATE, first_order=first_order, loss=mse_loss)
    maml.meta_batch(support, query, STEPS).backward()
    weights = [p.detach().clone().requires_grad_() for p in maml.parameters()]
    rates = [RATE] * len(weights)
    losses = [
        reference.query_loss(plain_loss, weights, (sx, sy), (qx, qy), rates, STEPS, first_order=first_order)
        for sx, sy, qx, qy in zip(*support, *query, strict=True)
    ]
    torch.stack(losses).mean().backward()
    torch.testing.assert_close(gradients(maml), [w.grad for w in weights])


def test_finite_differences_of_the_outer_loss() -> None:
    support, query = ((data[0], labels[0]) for data, labels in regression(tasks=1))
    maml = MAML(network(), RATE, loss=mse_loss)
    maml.meta_update(support, query, 2).backward()
    weight, gradient = maml.model[0].weight, maml.model[0].weight.grad
    assert gradient is not None
    for i, j in ((0, 0), (3, 2)):
        sides = []
        for shift in (1e-6, -1e-6):
            with torch.no_grad():
                weight[i, j] += shift
                sides.append(float(maml.meta_update(support, query, 2)))
                weight[i, j] -= shift
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(float(gradient[i, j]), rel=1e-5)


@pytest.mark.parametrize("make", [MAML, MetaSGD])
def test_tasks_at_once_are_the_mean_of_the_tasks(make: type[MAML] | type[MetaSGD]) -> None:
    support, query = regression()
    together, alone = make(network(), RATE, loss=mse_loss), make(network(), RATE, loss=mse_loss)
    together.meta_batch(support, query, 2).backward()
    for k in range(4):
        (alone.meta_update((support[0][k], support[1][k]), (query[0][k], query[1][k]), 2) / 4).backward()
    assert len(gradients(together)) == (4 if make is MAML else 8)
    torch.testing.assert_close(gradients(together), gradients(alone))


def test_meta_sgd_with_equal_sizes_is_maml_and_learns_them() -> None:
    support, query = regression()
    maml, meta_sgd = MAML(network(), RATE, loss=mse_loss), MetaSGD(network(), RATE, loss=mse_loss)
    losses = [m.meta_batch(support, query, 2) for m in (maml, meta_sgd)]
    torch.testing.assert_close(losses[0], losses[1])
    losses[1].backward()
    # d loss / d alpha of the last step alone would be -g . g': with one step it is exactly that.
    one = MetaSGD(network(), RATE, loss=mse_loss)
    x, y, qx, qy = support[0][0], support[1][0], query[0][0], query[1][0]
    one.meta_update((x, y), (qx, qy), 1).backward()
    own = torch.autograd.grad(mse_loss(one.model(x), y), list(one.model.parameters()))
    moved = network()
    with torch.no_grad():
        for p, g in zip(moved.parameters(), own, strict=True):
            p -= RATE * g
    after = torch.autograd.grad(mse_loss(moved(qx), qy), list(moved.parameters()))
    torch.testing.assert_close([r.grad for r in one.rates], [-a * g for a, g in zip(after, own, strict=True)])


def test_meta_sgd_warns_of_more_steps_than_were_trained() -> None:
    support, query = regression()
    meta_sgd = MetaSGD(network(), RATE, loss=mse_loss)
    meta_sgd.meta_batch(support, query, 2)
    again = MetaSGD(network(), RATE, loss=mse_loss)
    again.load_state_dict(meta_sgd.state_dict())
    with pytest.warns(UserWarning, match="num_inner_steps is 3, but the step sizes were learned for 2"):
        again.outputs_by_step(support, query[0], 3)


def test_reptile_with_one_step_is_joint_training() -> None:
    support, _ = regression()
    reptile, joint = Reptile(network(), RATE, loss=mse_loss), network()
    reptile.meta_batch(support, 1)
    (RATE * mse_loss(joint(support[0]), support[1])).backward()
    torch.testing.assert_close(gradients(reptile), gradients(joint))


@pytest.mark.parametrize("make", [MAML, MetaSGD, Reptile])
def test_adapting_leaves_the_model_alone(make: Any) -> None:
    support, query = regression()
    learner = make(network(), RATE, loss=mse_loss)
    before = [p.detach().clone() for p in learner.parameters()]
    kept = list(learner.parameters())
    weights = learner.adapt((support[0][0], support[1][0]), 2)
    outputs = learner.outputs_by_step(support, query[0], 2)
    assert all(p is q and torch.equal(p, b) for p, q, b in zip(learner.parameters(), kept, before, strict=True))
    torch.testing.assert_close(outputs[0, 2], learner.forward_with_weights(query[0][0], weights).detach())
    torch.testing.assert_close(outputs[0, 0], learner(query[0][0]).detach())
    assert not outputs.requires_grad


def test_a_frozen_parameter_stays_in_the_steps_too() -> None:
    support, _ = regression()
    model = network()
    model[0].weight.requires_grad_(False)
    weights = MAML(model, RATE, loss=mse_loss).adapt((support[0][0], support[1][0]), 2)
    assert set(weights) == {"0.bias", "2.weight", "2.bias"}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.memory(x)[0][:, -1])


def attending() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(18, 2)),
        (1, 5, 5),
    ),
    "recurrence": (Recurrent, (3, 3)),
    "attention": (attending, (3, 4)),
    "dropout": (lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)), (3,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_any_model_learns_to_learn(name: str) -> None:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    maml = MAML(make(), 0.1)
    labels = torch.tensor([0, 1, 0, 1])
    maml.meta_update((torch.randn(4, *shape), labels), (torch.randn(4, *shape), labels), 2).backward()
    assert all(g.isfinite().all() for g in gradients(maml))
    assert len(gradients(maml)) == len(list(maml.parameters()))


def test_it_learns_to_learn() -> None:
    """Tasks y = a x with a of either sign: the best shared line is 0, and steps find the slope."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    maml = MAML(nn.Linear(1, 1), 0.05, loss=mse_loss)
    optimizer = torch.optim.Adam(maml.parameters(), 0.02)

    def tasks(count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        slopes = 2.0 * torch.randn(count, 1, 1, generator=generator)
        x = torch.randn(2, count, 10, 1, generator=generator)
        return (x[0], slopes * x[0]), (x[1], slopes * x[1])

    for _ in range(200):
        optimizer.zero_grad()
        maml.meta_batch(*tasks(10), num_inner_steps=5).backward()
        optimizer.step()
    support, query = tasks(100)
    errors = (maml.outputs_by_step(support, query[0], 5) - query[1][:, None]).square().mean(dim=(0, 2, 3))
    assert errors[5] < 0.5 * errors[0]
    assert errors[0] < 6.0  # the variance of the slopes is 4


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_the_step() -> None:
    support, query = regression()
    maml = MAML(network(), 1e200, loss=mse_loss)
    with pytest.raises(RuntimeError, match=r"not finite at inner step 2 \(tasks: 4 of 4\): take fewer steps"):
        maml.meta_batch(support, query, 3)
    assert not maml.outputs_by_step(support, query[0], 3)[:, 3].isfinite().any()


def test_classes_that_the_support_set_lacks_are_named() -> None:
    maml = MAML(nn.Linear(3, 4))
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"query_set must have classes that support_set has, got \[2, 3\] besides"):
        maml.meta_update((x, torch.tensor([0, 1])), (x, torch.tensor([2, 3])))


def test_the_loss_is_cross_entropy_by_default() -> None:
    maml, x, y = MAML(network()), torch.randn(2, 3).double(), torch.tensor([0, 1])
    torch.testing.assert_close(maml.meta_update((x, y), (x, y), 0), cross_entropy(maml(x), y))
