"""The noise of mini-batch gradients, what a small last batch does, and what curves say: statements 14 and 15."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from advanced_optimizers.experiments.data import datasets as data


class GradientNoise(NamedTuple):
    """The gradients of single samples of a network, and what follows from them.

    Attributes:
        gradients: One row per sample, (N, parameters).
    """

    gradients: Tensor

    @property
    def signal(self) -> float:
        """The squared norm of the full gradient."""
        return float(self.gradients.mean(dim=0).square().sum())

    @property
    def spread(self) -> float:
        """S^2, the sum over the parameters of the variance between samples (N - 1 in the denominator)."""
        return float(self.gradients.var(dim=0).sum())

    def predicted(self, batch_size: int) -> float:
        """E |g_B - g|^2 = (1 - B / N) S^2 / B, for batches drawn without replacement."""
        return (1 - batch_size / len(self.gradients)) * self.spread / batch_size

    def measured(self, batch_size: int, draws: int = 200, seed: int = 0) -> float:
        """The mean of |g_B - g|^2 over random batches."""
        generator = torch.Generator().manual_seed(seed)
        full, total = self.gradients.mean(dim=0), 0.0
        for _ in range(draws):
            chosen = torch.randperm(len(self.gradients), generator=generator)[:batch_size]
            total += float((self.gradients[chosen].mean(dim=0) - full).square().sum())
        return total / draws


def sample_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> GradientNoise:
    """The gradient of the cross-entropy of every sample.

    Args:
        model: A small network: every sample's gradient is kept.
        images: (N, C, H, W).
        labels: (N,).
    """
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, values, (image[None],)), label[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
    return GradientNoise(torch.cat([g.flatten(1) for g in found.values()], dim=1))


class Curves(NamedTuple):
    """Train loss, validation loss and validation accuracy after each epoch."""

    train_loss: list[float]
    validation_loss: list[float]
    accuracy: list[float]


def mlp(pixels: int, units: Sequence[int] = (128,), dropout: float = 0.0) -> nn.Sequential:
    """A classifier of ten classes with ReLU and, after each hidden layer, dropout."""
    sizes = [pixels, *units]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def part_of(name: str, images: int) -> data.Dataset:
    """The first ``images`` training images of a dataset, balanced over the classes, with all of its test images."""
    dataset = data.load(name)
    return data.take_fraction(dataset, images / len(dataset.images))


def normalized(dataset: data.Dataset) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels, as a network takes them."""

    def whole(images: Tensor, labels: Tensor) -> Tensor:
        (batch,) = data.Batches(images, labels, dataset.mean, dataset.std, len(images))
        return batch.images

    return (
        whole(dataset.images, dataset.labels),
        dataset.labels,
        whole(dataset.test_images, dataset.test_labels),
        dataset.test_labels,
    )


def around_the_last_step(
    model: nn.Module, dataset: data.Dataset, batch_size: int, lr: float, epochs: int = 4, seed: int = 0
) -> list[tuple[float, float]]:
    """Gradient descent: the accuracy on the test images before and after the last step of each epoch.

    The last batch has the images that are left, which may be few.

    Args:
        model: Trained in place.
        dataset: What it is trained on.
        batch_size: Images per step.
        lr: The learning rate, the same for a batch of any size.
        epochs: Passes over the training images.
        seed: Of the order of the images.
    """
    images, labels, test_images, test_labels = normalized(dataset)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    torch.manual_seed(seed)

    def step(chosen: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()

    @torch.no_grad()
    def accuracy() -> float:
        return float((model(test_images).argmax(dim=1) == test_labels).double().mean())

    found = []
    for _ in range(epochs):
        *batches, last = torch.randperm(len(images)).split(batch_size)
        for chosen in batches:
            step(chosen)
        before = accuracy()
        step(last)
        found.append((before, accuracy()))
    return found


def train_and_watch(
    model: nn.Module, dataset: data.Dataset, epochs: int, lr: float = 1e-3, batch_size: int = 50, seed: int = 0
) -> Curves:
    """Trains a network with Adam, and evaluates it on training and test images after each epoch.

    Args:
        model: Trained in place.
        dataset: What it is trained on; its test images serve as validation images.
        epochs: Passes over the training images.
        lr: Adam's learning rate.
        batch_size: Images per step.
        seed: Of the order of the images, and of dropout.
    """
    images, labels, test_images, test_labels = normalized(dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    curves = Curves([], [], [])
    torch.manual_seed(seed)
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(len(images)).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(test_images)
            curves.train_loss.append(float(F.cross_entropy(model(images), labels)))
            curves.validation_loss.append(float(F.cross_entropy(logits, test_labels)))
            curves.accuracy.append(float((logits.argmax(dim=1) == test_labels).double().mean()))
    return curves
