"""The differentiable search: architecture steps on validation batches, weight steps on training batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advanced_optimizers._checks import check_choice, check_integer, check_range
from advanced_optimizers.automl.architecture_search.bilevel import architecture_gradient, momentum_settings
from advanced_optimizers.automl.architecture_search.genotype import Genotype
from advanced_optimizers.automl.architecture_search.loaders import (
    Loader,
    check_finite,
    check_loaders,
    endless,
    images_and_labels,
)
from advanced_optimizers.automl.architecture_search.networks import CellNetwork, SearchNetwork, Shape

ORDERS = ("first", "second")


def search_architecture(
    train_loader: Loader,
    val_loader: Loader,
    epochs: int = 50,
    *,
    model: SearchNetwork | None = None,
    order: str = "second",
    lr: float = 0.025,
    lr_min: float = 0.001,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float = 5.0,
    alpha_lr: float = 3e-4,
    alpha_weight_decay: float = 1e-3,
    on_epoch: Callable[[int, SearchNetwork], None] | None = None,
) -> SearchNetwork:
    r"""Searches for a cell by gradient: DARTS, algorithm 1.

    Each step first moves :math:`\alpha` by Adam along the gradient of the validation loss
    (:func:`.architecture_gradient`), then the weights by SGD along that of the training loss. Read off the cell with
    :meth:`.SearchNetwork.genotype` and train it from scratch with :func:`retrain`: the shared weights are of no use
    after the search.

    Args:
        train_loader: Batches (images, labels) for the weights; read once per epoch.
        val_loader: Batches for the architecture, of other samples.
        epochs: Passes over ``train_loader``, >= 1; published: 50.
        model: The network to search with; by default two cells with 16 channels, for as many classes as the labels of
            the first epoch have. It is trained in place.
        order: ``second`` looks one step of the weights ahead, with a rate of ``lr``; ``first`` (:math:`\xi = 0`) takes
            about a third of the time.
        lr: The weights' first rate, > 0; it falls to ``lr_min`` along half a cosine.
        lr_min: The last one, >= 0.
        momentum: The weights', in [0, 1).
        weight_decay: The weights', >= 0.
        clip: Largest norm of the weights' gradient, > 0.
        alpha_lr: Adam's rate for the architecture, > 0. It moves an entry of :math:`\alpha` by about that much a step,
            so a search that is shorter than the published one (about 20,000 steps) needs a larger rate.
        alpha_weight_decay: Adam's L2 penalty on :math:`\alpha`, >= 0.
        on_epoch: Called after each epoch with its number (from 1) and the network.

    Returns:
        The network, searched.

    Raises:
        ValueError: A value is out of range, a loader is empty, the two overlap, a batch has one image, or the loss is
            not finite; the message says which operation was the first.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import search_architecture
        >>> batches = [(torch.randn(8, 1, 8, 8), torch.arange(8) % 2) for _ in range(4)]
        >>> found = search_architecture(batches[:2], batches[2:], epochs=1, order="first")
        >>> len(found.genotype().operations)
        6

    References:
        Liu, Simonyan, Yang: DARTS: Differentiable Architecture Search. ICLR 2019, arXiv 1806.09055, algorithm 1.

    Limitations: a searched cell is not better than a random one of the same size unless runs show it; the report's
    section on architecture search has ours.
    """
    check_integer("epochs", epochs, low=1)
    check_choice("order", order, ORDERS)
    for name, value in (("lr", lr), ("clip", clip), ("alpha_lr", alpha_lr)):
        check_range(name, value, low=0.0, high=math.inf, open_low=True, open_high=True)
    check_loaders(train_loader, val_loader)
    model = _default_network(train_loader) if model is None else model
    architect = torch.optim.Adam([model.alpha], lr=alpha_lr, betas=(0.5, 0.999), weight_decay=alpha_weight_decay)
    optimizer = torch.optim.SGD(model.shared, lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=lr_min)
    val_batches = endless(val_loader)
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in train_loader:
            train = images_and_labels(batch, model.alpha.device)
            val = images_and_labels(next(val_batches), model.alpha.device)
            xi = optimizer.param_groups[0]["lr"] if order == "second" else 0.0
            architecture_step(model, architect, optimizer, train, val, xi=xi)
            weight_step(model, optimizer, train, clip=clip)
        schedule.step()
        if on_epoch is not None:
            on_epoch(epoch, model)
    return model


def architecture_step(
    model: SearchNetwork,
    architect: torch.optim.Optimizer,
    optimizer: torch.optim.Optimizer,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    *,
    xi: float,
) -> None:
    """One step of the architecture: step 1 of algorithm 1. Weights and buffers of the network stay as they are.

    Args:
        model: The network; only its ``alpha`` moves.
        architect: The optimizer of ``alpha``.
        optimizer: The weights' SGD, whose momentum and weight decay the unrolled step has.
        train: A training batch.
        val: A validation batch.
        xi: Rate of the unrolled step, >= 0; 0 is first order.
    """
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    (model.alpha.grad,) = architecture_gradient(
        lambda: _loss(model, *train),
        lambda: _loss(model, *val),
        model.shared,
        [model.alpha],
        xi=xi,
        **momentum_settings(optimizer, model.shared),  # type: ignore[arg-type]
    )
    for name, buffer in model.named_buffers():  # the extra passes are none of the training's
        buffer.copy_(kept[name])
    architect.step()
    architect.zero_grad()


def weight_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: tuple[Tensor, Tensor],
    *,
    clip: float,
    weights: Tensor | None = None,
) -> float:
    """One step of the weights; returns the training loss.

    Args:
        model: A :class:`.SearchNetwork` or :class:`.CellNetwork`.
        optimizer: That of the weights.
        train: A training batch.
        clip: Largest norm of the gradient, > 0.
        weights: Weights of the operations, for a network that takes some; operations with a weight of zero are not
            trained. None for the network's own.
    """
    optimizer.zero_grad()
    # The gradient of alpha is not wanted here, so alpha is taken as it is.
    fixed = model.weights.detach() if weights is None and isinstance(model, SearchNetwork) else weights
    loss = _loss(model, *train) if fixed is None else _loss(model, *train, fixed)
    loss.backward()
    torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.grad is not None), clip)
    optimizer.step()
    return float(loss.detach())


def retrain(
    genotype: Genotype,
    train_loader: Loader,
    epochs: int,
    *,
    shape: Shape = Shape(),  # noqa: B008  (it is immutable)
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float = 5.0,
) -> CellNetwork:
    """Trains a cell from scratch: the last network of :func:`training`, in evaluation mode."""
    settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "clip": clip}
    *_, network = training(genotype, train_loader, epochs, shape=shape, **settings)
    return network.eval()


def training(
    genotype: Genotype,
    train_loader: Loader,
    epochs: int,
    *,
    shape: Shape = Shape(),  # noqa: B008  (it is immutable)
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float = 5.0,
) -> Iterator[CellNetwork]:
    """Trains a cell epoch by epoch: SGD with momentum, its rate falling to zero along half a cosine, step by step.

    Args:
        genotype: The cell.
        train_loader: Batches (images, labels), with a length.
        epochs: Passes over it, >= 1.
        shape: The frame around the cells.
        lr: First rate, > 0.
        momentum: In [0, 1).
        weight_decay: >= 0.
        clip: Largest norm of the gradient, > 0.

    Yields:
        The network after each epoch, the same object each time; whoever asks for no more has stopped it early.

    Departures from the paper: no auxiliary head, drop path or cutout, which belong to its 20 cells and 600 epochs.
    """
    check_integer("epochs", epochs, low=1)
    network = CellNetwork(genotype, shape)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    steps = epochs * _length(train_loader)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    device = network.classifier.weight.device
    for _ in range(epochs):
        network.train()
        for batch in train_loader:
            weight_step(network, optimizer, images_and_labels(batch, device), clip=clip)
            schedule.step()
        yield network


@torch.no_grad()
def accuracy(network: nn.Module, loader: Loader, weights: Tensor | None = None) -> float:
    """The share of a loader's images that a network classifies correctly in evaluation mode, in [0, 1].

    Args:
        network: A :class:`.SearchNetwork` or :class:`.CellNetwork`.
        loader: Batches (images, labels).
        weights: Weights of the operations, for a network that takes some; None for its own.
    """
    network.eval()
    hits = [
        (network(images) if weights is None else network(images, weights)).argmax(1) == labels
        for images, labels, *_ in loader
    ]
    if not hits:
        raise ValueError("loader must have at least one batch, got none")
    return float(torch.cat(hits).float().mean())


def _loss(model: nn.Module, images: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    loss = cross_entropy(model(images) if weights is None else model(images, weights), labels)
    check_finite(loss, model, images, weights)
    return loss


def _default_network(train_loader: Loader) -> SearchNetwork:
    batches = [(batch[0].shape[1], int(batch[1].max())) for batch in train_loader]
    return SearchNetwork(Shape(batches[0][0], max(2, 1 + max(label for _, label in batches))))


def _length(loader: Any) -> int:
    if not hasattr(loader, "__len__"):
        raise ValueError("train_loader must have a length, which the schedule needs: make it a list of batches")
    return len(loader)
