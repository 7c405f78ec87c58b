"""Small models and batches for the tests of forward signal propagation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def labels(rng: torch.Generator, count: int, classes: int) -> Tensor:
    return torch.randint(classes, (count,), generator=rng)


def conv_model(dropout: float = 0.0) -> nn.Sequential:
    """Two convolutions, a dense layer and a classifier, for images of shape (1, 8, 8) and three classes."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout2d(dropout)),
        *(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(32, 16), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(16, 3),
    )


def image_batches(rng: torch.Generator, count: int, size: int = 12) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(size, 1, 8, 8, generator=rng), labels(rng, size, 3)) for _ in range(count)]
