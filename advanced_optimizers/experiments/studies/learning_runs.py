"""What runs of one task after the other are made of: a network, its batches, and importances that are controls."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advanced_optimizers.experiments.data.task_sequences import Stage

Importance = dict[str, Tensor]
# Batches of the wrong Fisher information, whose gradients are squared after they are averaged.
WRONG_BATCH = 100


def network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers with ReLU."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def batches_of(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of an epoch in random order, without the images that fill no batch."""
    order = torch.randperm(count, generator=generator)
    yield from order[: max(count // size, 1) * size].split(size)


@torch.no_grad()
def accuracy(model: nn.Module, stage: Stage) -> float:
    """The share of a task's test images whose class has the largest logit."""
    found = model(stage.test_inputs)[:, stage.classes].argmax(dim=1)
    return float((found == stage.test_labels).float().mean())


def batch_mean_fisher(model: nn.Module, stage: Stage, images: int) -> Importance:
    """Wrong on purpose: squares of the gradients of whole batches, which is about the batch size too small."""
    named = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    batches = list(zip(stage.inputs[:images].split(WRONG_BATCH), stage.labels[:images].split(WRONG_BATCH), strict=True))
    for inputs, labels in batches:
        loss = cross_entropy(model(inputs)[:, stage.classes], labels)
        for name, g in zip(named, torch.autograd.grad(loss, list(named.values())), strict=True):
            total[name] += g.square() / len(batches)
    return total


def flattened(fisher: Importance, generator: torch.Generator) -> Importance:
    """A control: every weight as important as the mean, so that the penalty is a plain distance."""
    mean = sum(float(f.sum()) for f in fisher.values()) / sum(f.numel() for f in fisher.values())
    return {name: torch.full_like(f, mean) for name, f in fisher.items()}


def shuffled(fisher: Importance, generator: torch.Generator) -> Importance:
    """A control: within each tensor, the same importances at other weights."""
    return {name: f.flatten()[torch.randperm(f.numel(), generator=generator)].view_as(f) for name, f in fisher.items()}
