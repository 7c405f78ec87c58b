"""``torch.compile`` of the model, of the loss and of the step, with each optimizer: the same bits as without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from advanced_optimizers import FlippingErrorReduction
from tests.framework_helpers import (
    CLASSES,
    EPOCHS,
    FROM_PARAMETERS,
    OPTIMIZERS,
    SAMPLES,
    assert_same,
    data,
    end_epoch,
    loader,
    loss_of,
    model_for,
    trained,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # dynamo warns about what it does not trace


@pytest.fixture(autouse=True)
def reset() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(what: Any, **settings: Any) -> Any:
    return torch.compile(what, backend="eager", **settings)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "sigprop"])
def test_a_compiled_model_trains_as_an_ordinary_one(name: str):
    model = model_for(name)
    optimizer = OPTIMIZERS[name](model)
    fast = compiled(model, fullgraph=True)
    for _ in range(EPOCHS):
        losses = []
        for x, y in loader():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(fast(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        end_epoch(optimizer, losses)
    assert_same(model, trained(name))


def test_compiled_local_losses_train_a_network_as_ordinary_ones():
    net = model_for("sigprop")
    optimizer = OPTIMIZERS["sigprop"](net)
    losses = compiled(net.local_losses)
    for _ in range(EPOCHS):
        for x, y in loader():
            optimizer.zero_grad()
            torch.stack(losses(x, y)).sum().backward()
            optimizer.step()
    assert_same(net, trained("sigprop"))


# Of gradient transforms, the contract's tests compile the step.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "sigprop" else name
        for name in OPTIMIZERS
        if name not in FROM_PARAMETERS
    ],
)
def test_a_compiled_step_is_the_step(name: str):
    model = model_for(name)
    optimizer = OPTIMIZERS[name](model)
    step = compiled(optimizer.step)
    for _ in range(EPOCHS):
        losses = []
        for x, y in loader():
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            step()
            losses.append(loss.item())
        end_epoch(optimizer, losses)
    assert_same(model, trained(name))


@pytest.mark.slow
def test_a_compiled_flipping_loss_is_the_loss():
    results = []
    for wrap in (compiled, lambda criterion: criterion):
        model, criterion = model_for("fer"), FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)
        optimizer, loss = OPTIMIZERS["fer"](model), wrap(criterion)
        x, y = data().tensors
        for epoch in range(1, EPOCHS + 1):
            criterion.set_epoch(epoch)
            for indices in torch.arange(SAMPLES).split(4):
                optimizer.zero_grad()
                loss(model(x[indices]), y[indices], indices).backward()
                optimizer.step()
        results.append(nn.ModuleList([model, criterion]))
    assert results[0][1].remembered.any()
    assert_same(*results)
