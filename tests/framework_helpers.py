"""What the tests of other people's training loops share: a small problem, our optimizers for it, and a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from advanced_optimizers import (
    ConvolutionalSGDv2,
    FEROptimizer,
    GradientCorrectionOptimizer,
    LocalizedOptimizer,
    MuAdamW,
    MuReadout,
    SigPropOptimizer,
    SigPropSequential,
    StaticTransition,
    set_base_shapes,
)

SAMPLES, INPUTS, CLASSES, BATCH, EPOCHS = 24, 6, 3, 4, 3


def network(width: int = 8, readout: type[nn.Linear] = nn.Linear) -> nn.Sequential:
    hidden = [nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, readout(width, CLASSES))


def localized(model: nn.Module, lr: float = 0.05) -> LocalizedOptimizer:
    """All blocks but the last are localized after the first epoch, and updated at every second step."""
    return LocalizedOptimizer(
        model, torch.optim.SGD, {"lr": lr}, 0.01, selection=StaticTransition(total_epochs=1), update_every=2
    )


# How each optimizer is made for a model. SigProp's model is a network of its own, made from the model's layers.
OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "fer": lambda model: FEROptimizer(model.parameters(), base_optimizer_kwargs={"lr": 0.05}, fer_weight=0.8),
    "gradient correction": lambda model: GradientCorrectionOptimizer(
        model.parameters(), base_optimizer_kwargs={"lr": 0.05}, train_every=2
    ),
    "convolution": lambda model: ConvolutionalSGDv2(model.parameters(), lr=0.05, kernel_lr=0.1, kernel_every=2),
    "localized": localized,
    "sigprop": lambda model: SigPropOptimizer(model, lr=0.05),
    "mu_adamw": lambda model: MuAdamW(model, lr=0.05, weight_decay=0.1),
}
FROM_PARAMETERS = ("fer", "gradient correction", "convolution")
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
every_transform = pytest.mark.parametrize("name", FROM_PARAMETERS)


def model_for(name: str) -> nn.Module:
    torch.manual_seed(3)
    if name == "sigprop":
        return SigPropSequential(network(), (INPUTS,), CLASSES)
    if name == "mu_adamw":
        return set_base_shapes(network(8, MuReadout), network(4, MuReadout))
    return network()


def data() -> TensorDataset:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, INPUTS, generator=rng)
    return TensorDataset(x, x[:, :CLASSES].argmax(dim=1))


def loader(dataset: Any = None, **settings: Any) -> DataLoader[Any]:
    return DataLoader(data() if dataset is None else dataset, BATCH, **settings)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    if isinstance(model, SigPropSequential):
        return torch.stack(model.local_losses(x, y)).sum()
    return nn.functional.cross_entropy(model(x), y)


def end_epoch(optimizer: Optimizer, losses: list[float]) -> None:
    if isinstance(optimizer, LocalizedOptimizer):
        optimizer.end_epoch(sum(losses) / len(losses))


def train(model: nn.Module, optimizer: Optimizer, *, every: int = 1) -> None:
    """The plain loop that a framework must agree with; gradients of ``every`` batches are accumulated."""
    batches = list(loader())
    for _ in range(EPOCHS):
        losses = []
        for i, (x, y) in enumerate(batches, start=1):
            loss = loss_of(model, x, y) / every
            loss.backward()
            losses.append(loss.item() * every)
            if i % every == 0 or i == len(batches):
                optimizer.step()
                optimizer.zero_grad()
        end_epoch(optimizer, losses)


def trained(name: str, **settings: Any) -> nn.Module:
    """A model that the plain loop has trained."""
    model = model_for(name)
    train(model, OPTIMIZERS[name](model), **settings)
    return model


def tensors_of(state: Any) -> Iterator[Tensor]:
    """All tensors in nested dicts and lists; those of a dict by their keys, whatever was put in first."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in (state[key] for key in sorted(state, key=str)) if isinstance(state, dict) else state:
            yield from tensors_of(value)


def assert_same(model: nn.Module, other: nn.Module) -> None:
    """Both have the same parameters and buffers, bit for bit."""
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0.0, atol=0.0)


def assert_moved(model: nn.Module, name: str) -> None:
    """The model was trained at all."""
    before = model_for(name).state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items() if key in before)
