"""What an optimizer that smooths gradients does while a network trains, and what smoothing does to real gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.demonstrations.noise import normalized

# Makes an optimizer of a list of parameters.
Make: TypeAlias = Callable[[list[nn.Parameter]], Any]


class Followed(NamedTuple):
    """A training, watched.

    Attributes:
        losses: (steps,), each batch's loss before its step.
        steps: After which steps something was read from the optimizer.
        values: (reads, ...), what was read.
    """

    losses: Tensor
    steps: range
    values: Tensor

    @property
    def fell(self) -> float:
        """The share of losses that are lower than the one before."""
        return float((self.losses[1:] < self.losses[:-1]).double().mean())


def follow(
    model: nn.Module,
    make: Make,
    read: Callable[[Any], Tensor],
    dataset: data.Dataset,
    epochs: int,
    batch_size: int,
    every: int = 1,
    seed: int = 0,
) -> Followed:
    """Trains a network with an optimizer that hears each batch's loss, and reads something from it now and then.

    Args:
        model: Trained in place.
        make: Makes the optimizer.
        read: Takes the optimizer; the shape of what it returns must not change.
        dataset: Its training images are used.
        epochs: Passes over the images.
        batch_size: Images per step; a last batch that is smaller is left out.
        every: After how many steps each to read.
        seed: Of the order of the images.
    """
    images, labels, _, _ = normalized(dataset)
    optimizer = make(list(model.parameters()))
    losses, values = [], []
    for step, chosen in enumerate(_batches(len(images), epochs, batch_size, seed), start=1):
        losses.append(_backward(model, images[chosen], labels[chosen]))
        optimizer.step(lambda: losses[-1])
        if step % every == 0:
            values.append(read(optimizer))
    return Followed(torch.stack(losses), range(every, len(losses) + 1, every), torch.stack(values))


# ---- mini-batches and the full gradient ----------------------------------------------------------------------------


class Gradients(NamedTuple):
    """The gradients of one weight at one point of training.

    Attributes:
        full: That of all images.
        small: (batches, *shape), those of mini-batches.
    """

    full: Tensor
    small: Tensor

    @property
    def noise(self) -> Tensor:
        """What mini-batches add, (batches, *shape)."""
        return self.small - self.full

    def alignment(self, smooth: Callable[[Tensor], Tensor] | None = None) -> float:
        """The mean cosine of the full gradient with a mini-batch's, smoothed or as it is.

        Args:
            smooth: Takes all mini-batches' gradients at once, and returns as many of the same shape.
        """
        smoothed = self.small if smooth is None else smooth(self.small)
        return float(F.cosine_similarity(smoothed.flatten(1), self.full.flatten()[None]).mean())

    def averaged(self, beta: float) -> float:
        """The same for exponential averages over mini-batches, which smooth over time: the mean of the later half."""
        average, cosines = torch.zeros_like(self.full), []
        for g in self.small:
            average.mul_(beta).add_(g, alpha=1.0 - beta)
            cosines.append(F.cosine_similarity(average.flatten(), self.full.flatten(), dim=0))
        return float(torch.stack(cosines[len(cosines) // 2 :]).mean())


def gradients_during(
    model: nn.Module,
    dataset: data.Dataset,
    epochs: int,
    *,
    make: Make,
    batch_size: int = 8,
    batches: int = 100,
    seed: int = 0,
) -> Iterator[Mapping[str, Gradients]]:
    """The gradients of a network's weights before its training and after each epoch, by the weight's name.

    Args:
        model: Trained in place, between what is yielded.
        dataset: Its training images are used.
        epochs: Passes over the images.
        make: Makes the optimizer that trains it.
        batch_size: Images per step, and of the mini-batches.
        batches: How many mini-batches' gradients to return; random ones, each without a repeated image.
        seed: Of all orders.
    """
    images, labels, _, _ = normalized(dataset)
    optimizer = make(list(model.parameters()))
    yield _gradients(model, images, labels, batch_size, batches, seed)
    for epoch in range(1, epochs + 1):
        for chosen in _batches(len(images), 1, batch_size, seed + epoch):
            _backward(model, images[chosen], labels[chosen])
            optimizer.step()
        yield _gradients(model, images, labels, batch_size, batches, seed)


def _gradients(
    model: nn.Module, images: Tensor, labels: Tensor, batch_size: int, batches: int, seed: int
) -> dict[str, Gradients]:
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}

    def of(chosen: Tensor | slice) -> list[Tensor]:
        _backward(model, images[chosen], labels[chosen])
        return [p.grad.clone() for p in weights.values() if p.grad is not None]

    rng = torch.Generator().manual_seed(seed)
    full = of(slice(None))
    small = [of(torch.randperm(len(images), generator=rng)[:batch_size]) for _ in range(batches)]
    stacked = [torch.stack(each) for each in zip(*small, strict=True)]
    return {name: Gradients(*pair) for name, *pair in zip(weights, full, stacked, strict=True)}


def directions(make: Make, gradients: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
    """What an optimizer makes of gradients: minus its first step, from zero.

    Args:
        make: Makes an optimizer with the rate 1, and one kernel for the last two axes of a tensor.
        gradients: Matrices, (batches, rows, columns).
        shape: How it is to see each of them, as images of a height and width; default one image (1, rows, columns).
    """
    seen = gradients.view(len(gradients), *((1, *gradients.shape[1:]) if shape is None else shape))
    p = nn.Parameter(torch.zeros_like(seen))
    p.grad = seen
    make([p]).step()
    return -p.detach().view(gradients.shape)


def neighbor_correlation(x: Tensor, dim: int) -> float:
    """The correlation of an element with the next one along an axis, over all of a tensor."""
    n = x.shape[dim]
    first, second = x.narrow(dim, 0, n - 1), x.narrow(dim, 1, n - 1)
    return float((first * second).sum() / (first.square().sum() * second.square().sum()).sqrt())


# ---- one pass ------------------------------------------------------------------------------------------------------


def _batches(images: int, epochs: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(images, generator=rng)
        yield from order[: images // batch_size * batch_size].split(batch_size)


def _backward(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    model.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    return loss.detach()
