"""Episodes: small tasks of a few classes, a few examples of each, and queries; and what they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data.omniglot import rotated

# Queries of each class, and the most drawings of each, which is what Omniglot has.
QUERIES, DRAWINGS = 5, 20


@dataclass(frozen=True)
class Characters:
    """Drawings by class, uint8, (classes, drawings, 1, 28, 28); no class is in both."""

    train: Tensor
    test: Tensor


@lru_cache(maxsize=1)
def characters(name: str) -> Characters:
    """The drawings of a dataset, those for training in four turns."""
    found = data.load(name)
    if name == "digits":
        halves = ((found.images[low], found.labels[low]) for low in (found.labels < 5, found.labels >= 5))
        train, test = (_by_class(*rotated(_enlarged(images), labels - labels.min())) for images, labels in halves)
        return Characters(train, test)
    return Characters(_by_class(*rotated(found.images, found.labels)), _by_class(found.test_images, found.test_labels))


def _by_class(images: Tensor, labels: Tensor) -> Tensor:
    """The first drawings of each class, as many as the rarest has."""
    count = min(DRAWINGS, int(torch.bincount(labels).min()))
    order = labels.argsort(stable=True)
    firsts = torch.searchsorted(labels[order], torch.arange(int(labels.max()) + 1))
    rows = order[firsts[:, None] + torch.arange(count)]
    return images[rows].permute(0, 1, 4, 2, 3).contiguous()


def _enlarged(images: Tensor) -> Tensor:
    """(N, 8, 8, 1) -> (N, 28, 28, 1), each pixel a square of 3 x 3, with a black margin."""
    larger = interpolate(images.permute(0, 3, 1, 2).float(), scale_factor=3.0, mode="nearest")
    return pad(larger, (2, 2, 2, 2)).byte().permute(0, 2, 3, 1)


# ---- episodes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Episodes:
    """Which drawings each of E episodes has.

    Attributes:
        classes: (E, ways).
        drawings: (E, ways, shots + queries); an uneven episode leaves some out.
        shots: The examples of each class, by place, (ways,).
    """

    classes: Tensor
    drawings: Tensor
    shots: tuple[int, ...]

    def support(self, episode: int, examples: Tensor) -> tuple[Tensor, Tensor]:
        """The examples of an episode and their labels, from all of them (classes, drawings, ...)."""
        chosen = zip(self.classes[episode], self.drawings[episode], self.shots, strict=True)
        rows = [examples[c, of_class[:shots]] for c, of_class, shots in chosen]
        labels = torch.arange(len(self.shots), device=examples.device)
        return torch.cat(rows), labels.repeat_interleave(torch.tensor(self.shots, device=examples.device))

    def query(self, episode: int, examples: Tensor) -> tuple[Tensor, Tensor]:
        """The queries of an episode and their labels, from all of them."""
        rows = examples[self.classes[episode][:, None], self.drawings[episode, :, -QUERIES:]]
        labels = torch.arange(len(self.shots), device=examples.device).repeat_interleave(QUERIES)
        return rows.flatten(0, 1), labels


def draw_episodes(count: int, examples: Tensor, shots: tuple[int, ...], generator: torch.Generator) -> Episodes:
    """Classes, and drawings of each, without replacement, ``shots`` of them as examples."""
    classes, drawings = examples.shape[:2]
    ways, needed = len(shots), max(shots) + QUERIES
    chosen = torch.rand(count, classes, generator=generator).topk(ways).indices
    return Episodes(chosen, torch.rand(count, ways, drawings, generator=generator).topk(needed).indices, shots)


def prepared(drawings: Tensor, device: str) -> Tensor:
    """uint8 (N, 1, 28, 28) -> float in [0, 1], channels last, which convolutions on a CPU prefer."""
    return (drawings.to(device).float() / 255.0).contiguous(memory_format=torch.channels_last)
