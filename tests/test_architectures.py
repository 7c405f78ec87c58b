"""Public architectures train with every wrapper; what cannot work is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from advanced_optimizers import (
    FEROptimizer,
    FlippingErrorReduction,
    GradientCorrectionOptimizer,
    LocalizedOptimizer,
    MuSGD,
    SigPropOptimizer,
    SigPropSequential,
    set_base_shapes,
)
from tests.architectures import ARCHITECTURES, CLASSES, Architecture

Loss = Callable[[Tensor, Tensor], Tensor]
CORRECTED = [name for name, each in ARCHITECTURES.items() if not each.refused]
REFUSED = [name for name, each in ARCHITECTURES.items() if each.refused]


def losses_of(
    architecture: Architecture,
    model: nn.Module,
    optimizer: Optimizer,
    rng: torch.Generator,
    steps: int,
    loss_of: Loss = F.cross_entropy,
) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        x, y = architecture.batch(rng)
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# ---- gradient correction of hidden states --------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRECTED)
def test_hidden_states_are_corrected_at_the_expected_places(name, rng):
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    example, _ = architecture.batch(rng, 2)
    optimizer = GradientCorrectionOptimizer(
        model.parameters(), SGD, {"lr": 1e-3}, train_every=1, model=model, example_input=example
    )
    assert tuple(hidden.name for hidden in optimizer._hidden) == architecture.corrected
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # where one were not reached, the optimizer would warn
        losses = losses_of(architecture, model, optimizer, rng, 2)
    assert all(torch.tensor(losses).isfinite())
    assert all(hidden.steps == 1 and hidden.values[0, -1] != 0.0 for hidden in optimizer._hidden)  # open gates
    placed = [p for p in model.parameters() if "memory" in optimizer.state[p]]
    assert placed
    optimizer.detach()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("name", REFUSED)
def test_where_hidden_states_cannot_be_corrected_this_is_said(name, rng):
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    example, _ = architecture.batch(rng, 2)
    with pytest.raises(ValueError, match=f"{architecture.refused}.*without model, the gradients"):
        GradientCorrectionOptimizer(model.parameters(), model=model, example_input=example)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


# ---- every other wrapper -------------------------------------------------------------------------------------------

WRAPPERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "FEROptimizer": lambda model: FEROptimizer(model.parameters(), Adam, {"lr": 1e-3}),
    "GradientCorrectionOptimizer": lambda model: GradientCorrectionOptimizer(model.parameters(), train_every=1),
    "LocalizedOptimizer": lambda model: LocalizedOptimizer(model, SGD, {"lr": 1e-3}),
    # Each is its own base, because muP's output layers are modules of their own.
    "MuSGD": lambda model: MuSGD(set_base_shapes(model, None), lr=1e-3),
}
# Localized learning needs layers that are modules.
REFUSALS = {("all functions", "LocalizedOptimizer"): "model must have at least two"}


@pytest.mark.parametrize(
    "wrapper",
    [  # gradient correction sees what FER sees
        pytest.param(name, marks=[pytest.mark.slow] * (name == "GradientCorrectionOptimizer")) for name in WRAPPERS
    ],
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_trains_with_every_wrapper(name, wrapper, rng):
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    refusal = REFUSALS.get((name, wrapper))
    if refusal is not None:
        with pytest.raises(ValueError, match=refusal):
            WRAPPERS[wrapper](model)
        return
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = WRAPPERS[wrapper](model)
    losses = losses_of(architecture, model, optimizer, rng, 2)
    assert all(torch.tensor(losses).isfinite())
    assert all(p.isfinite().all() for p in model.parameters())
    assert any(not p.equal(b) for p, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["MNIST example", "GPT"])
def test_trains_with_the_flipping_loss(name, rng):
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    criterion = FlippingErrorReduction(num_samples=4, num_classes=CLASSES, total_epochs=3)
    optimizer = SGD(model.parameters(), lr=1e-3)
    for epoch in (1, 2, 3):
        criterion.set_epoch(epoch)
        loss_of = lambda logits, y: criterion(logits, y, torch.arange(4))  # noqa: E731
        assert all(torch.tensor(losses_of(architecture, model, optimizer, rng, 1, loss_of)).isfinite())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_signal_propagation_takes_what_is_sequential(name, rng):
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    if not isinstance(model, nn.Sequential):
        with pytest.raises(TypeError, match=rf"model must be .*{type(model).__name__}"):
            SigPropSequential(model, architecture.shape, CLASSES)
        return
    net = SigPropSequential(model, architecture.shape, CLASSES)
    x, y = architecture.batch(rng)
    optimizer = SigPropOptimizer(net, lr=1e-3)
    loss = sum(net.local_losses(x, y))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
