"""Selective localized learning: training equals the slow twin and, at transition 0, the base optimizer."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from torch.testing import assert_close

from advanced_optimizers import DynamicTransition, LocalizedOptimizer, StaticTransition, create_localized_optimizer
from tests.localized_helpers import AT_ONCE, BITWISE, KWARGS, batches, network, step
from tests.reference.localized_learning import LocalizedTraining

# ---- training as a whole -----------------------------------------------------------------------------------------

LOSSES = [2.0, 1.8, 1.9, 1.7, 1.7, 1.9, 1.0, 0.9]  # rises twice, so the direction is reversed
COURSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "static": (
        {"selection": StaticTransition(total_epochs=6, warmup=0.2, power=1.0), "update_every": 1},
        {"static": (6, Fraction(1, 5), 1)},
    ),
    "static, every third step": (
        {"selection": StaticTransition(total_epochs=7, power=2.0), "update_every": 3},
        {"static": (7, Fraction(1, 10), 2), "update_every": 3},
    ),
    "dynamic": (
        {"selection": DynamicTransition(alpha=1.1, total_epochs=8, warmup=0.3), "update_every": 1},
        {"dynamic": (1.1, 1, 3)},
    ),
    "dynamic, oja": (
        {"selection": DynamicTransition(alpha=1.3, shift=2), "update_every": 2, "rule": "oja"},
        {"dynamic": (1.3, 2, 1), "update_every": 2, "with_oja": True},
    ),
}


@pytest.mark.parametrize(("settings", "course"), COURSES.values(), ids=COURSES)
@pytest.mark.parametrize("weak_supervision_weight", [0.1, 1.0, 0.0])
def test_training_equals_the_reference(settings, course, weak_supervision_weight):
    model = network().double()
    twin = copy.deepcopy(model)
    kwargs = {"hebbian_lr": 0.02, "weak_supervision_weight": weak_supervision_weight, "max_transition": 3}
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, **kwargs, **settings)
    reference = LocalizedTraining(
        list(twin), [0, 3, 6, 8], **KWARGS, hebbian_lr=0.02, weak_supervision_weight=weak_supervision_weight,
        highest=3, **course,
    )  # fmt: skip
    transitions = []
    for epoch, train_loss in enumerate(LOSSES):
        assert optimizer.transition == reference.transition
        assert optimizer.localized_direction == reference.sigma
        transitions.append(optimizer.transition)
        for i, (x, y) in enumerate(batches(4, seed=epoch, dtype=torch.float64)):
            lr = 0.1 * 0.8**epoch / (1 + 0.3 * (i % 3))  # as a scheduler would
            optimizer.param_groups[0]["lr"] = lr
            assert step(model, optimizer, x, y) == pytest.approx(reference.step(x, y, lr), abs=1e-10)
        assert_close(list(model.parameters()), list(twin.parameters()), rtol=0, atol=1e-10)
        assert_close(list(model.buffers()), list(twin.buffers()), rtol=0, atol=1e-10)
        optimizer.end_epoch(train_loss)
        reference.end_epoch(train_loss)
    assert transitions[0] == 0
    assert transitions[-1] >= 2
    assert optimizer.loss_history == LOSSES


@pytest.mark.parametrize("scheduled", [False, True], ids=["constant", "one-cycle"])
@pytest.mark.parametrize("how", ["highest is 0", "not yet"])
@pytest.mark.parametrize("rule", ["hebbian", "random"])
def test_at_transition_zero_it_is_the_base_optimizer_bit_for_bit(scheduled, how, rule):
    model = network()
    twin = copy.deepcopy(model)
    kwargs = {**KWARGS, "nesterov": True, "fused": True}
    highest = {"max_transition": 0} if how == "highest is 0" else {}
    optimizer = LocalizedOptimizer(model, SGD, kwargs, selection=AT_ONCE, rule=rule, **highest)
    plain = SGD(twin.parameters(), **kwargs)  # type: ignore[arg-type]
    for net, each in ((model, optimizer), (twin, plain)):
        scheduler = OneCycleLR(each, max_lr=0.2, total_steps=13) if scheduled else None
        for i, (x, y) in enumerate(batches(12)):
            step(net, each, x, y)
            if scheduler is not None:
                scheduler.step()
            if i % 4 == 3 and isinstance(each, LocalizedOptimizer) and how == "highest is 0":
                each.end_epoch(1.0)
    assert_close(list(model.parameters()), list(twin.parameters()), **BITWISE)
    assert_close(list(model.buffers()), list(twin.buffers()), **BITWISE)


def test_the_coursework_s_calls():
    parameters = inspect.signature(create_localized_optimizer).parameters
    positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["model", "lr", "hebbian_lr", "selection_mode", "weak_supervision_weight"]
    assert [parameters[name].default for name in positional[2:]] == [0.001, "dynamic", 0.1]
    optimizer = create_localized_optimizer(network(), 0.05, 0.002, "dynamic", 0.3)
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert optimizer.param_groups[0]["hebbian_lr"] == 0.002
    assert optimizer.weak_supervision_weight == 0.3
    assert optimizer.selection == DynamicTransition()
    assert optimizer.max_transition == 2
    assert isinstance(optimizer.base, SGD)
    static = create_localized_optimizer(
        network(), lr=0.05, selection_mode="static", total_epochs=5, warmup=0.2, power=1.5, max_transition=3
    )
    assert static.selection == StaticTransition(total_epochs=5, warmup=0.2, power=1.5)
    dynamic = create_localized_optimizer(network(), 0.1, alpha=0.7, shift=2, total_epochs=5, warmup=0.3)
    assert dynamic.selection == DynamicTransition(alpha=0.7, shift=2, total_epochs=5, warmup=0.3)


def test_two_blocks_localize_the_first():
    assert create_localized_optimizer(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), 0.1).max_transition == 1


def digits() -> Iterator[tuple[Tensor, Tensor]]:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    rng = torch.Generator().manual_seed(0)
    order = torch.randperm(1400, generator=rng)
    x, y = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels)
    yield from ((x[batch], y[batch]) for batch in order.split(64))
    yield x[1400:], y[1400:]


@pytest.mark.parametrize(
    "selection", [StaticTransition(total_epochs=10), DynamicTransition()], ids=["static", "dynamic"]
)
def test_learns_the_digits_while_the_transition_moves(selection):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    *train_batches, (test_x, test_y) = digits()
    optimizer = LocalizedOptimizer(model, SGD, {"lr": 0.05, "momentum": 0.9}, selection=selection)
    for _ in range(10):
        losses = [step(model, optimizer, x, y) for x, y in train_batches]
        optimizer.end_epoch(sum(losses) / len(losses))
    assert optimizer.transition == 2
    assert (model.eval()(test_x).argmax(dim=1) == test_y).double().mean() > 0.93
