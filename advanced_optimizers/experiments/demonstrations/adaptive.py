"""Step sizes of one's own for every parameter: statements 5 and 6 of the lecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers.experiments.demonstrations.trajectories import MakeOptimizer


def effective_rates(
    optimizers: Mapping[str, MakeOptimizer], lr: float = 0.1, steps: int = 1000, parameters: int = 200
) -> dict[str, Tensor]:
    """How far optimizers move for a gradient of size one: steps of noise with a constant variance, (steps,) each.

    Args:
        optimizers: By name, ``optimizer(params, lr=lr)``.
        lr: Their learning rate.
        steps: The number of steps.
        parameters: Over how many parameters the root mean square is taken.
    """
    found = {}
    for name, make in optimizers.items():
        generator = torch.Generator().manual_seed(0)
        point = nn.Parameter(torch.zeros(parameters, dtype=torch.float64))
        optimizer, moved = make([point], lr=lr), []
        for _ in range(steps):
            before = point.detach().clone()
            point.grad = torch.randn(parameters, generator=generator, dtype=torch.float64)
            optimizer.step()
            moved.append((point.detach() - before).square().mean().sqrt() / point.grad.square().mean().sqrt())
        found[name] = torch.stack(moved)
    return found


class RareFeatures(NamedTuple):
    """What was learned of features of different frequency.

    Attributes:
        common: Mean squared error of the weights of the 20 most frequent features, relative to weights of zero.
        rare: The same for the 100 least frequent features.
        unused: How many weights are exactly zero.
        step_ratio: The mean step size of the rare features over that of the common ones, in the last step.
    """

    common: float
    rare: float
    unused: int
    step_ratio: float


_FEATURES, _BATCH = 200, 64


def learn_rare_features(make: MakeOptimizer, lr: float, steps: int = 1500, seed: int = 0) -> RareFeatures:
    """Logistic regression whose feature j is present with probability 1 / j; every feature matters as much when it is.

    Args:
        make: ``make(params, lr=lr)`` builds the optimizer.
        lr: Its learning rate.
        steps: Batches of 64 new samples.
        seed: Of the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    frequency = 1 / torch.arange(1, _FEATURES + 1, dtype=torch.float64)
    truth = torch.where(torch.rand(_FEATURES, generator=generator) < 0.5, -1.0, 1.0).double()
    weights = nn.Parameter(torch.zeros(_FEATURES, dtype=torch.float64))
    optimizer = make([weights], lr=lr)
    for _ in range(steps):
        present = (torch.rand(_BATCH, _FEATURES, generator=generator) < frequency).double()
        labels = (torch.rand(_BATCH, generator=generator) < torch.sigmoid(present @ truth)).double()
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(present @ weights, labels).backward()
        optimizer.step()
    learned, error = weights.detach(), (weights.detach() - truth).square()
    sizes = _step_sizes(optimizer, weights, lr)
    return RareFeatures(
        common=float(error[:20].mean()),
        rare=float(error[100:].mean()),
        unused=int((learned == 0).sum()),
        step_ratio=float(sizes[100:].mean() / sizes[:20].mean()),
    )


def _step_sizes(optimizer: torch.optim.Optimizer, weights: nn.Parameter, lr: float) -> Tensor:
    """Lr for every parameter, divided by the root of what Adagrad has summed up if it keeps such a sum."""
    total = optimizer.state[weights].get("sum")
    return torch.full_like(weights, lr) if total is None else lr / (total.sqrt() + 1e-10)
