"""A small network with two down-sampling layers, with gradient correction for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from advanced_optimizers import GradientCorrectionOptimizer

EXAMPLE = torch.zeros(2, 1, 8, 8)
OVER_SGD: dict[str, Any] = {"base_optimizer": SGD, "base_optimizer_kwargs": {"lr": 0.05, "momentum": 0.9}}


def small_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 3),
        )


def digits(rng: torch.Generator, count: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of noisy images with three patterns, so that there is something to learn."""
    patterns = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = [torch.randint(3, (12,), generator=rng) for _ in range(count)]
    return [(patterns[y] + 0.5 * torch.randn(12, 1, 8, 8, generator=rng), y) for y in labels]


def corrected(model: nn.Module, **settings: Any) -> GradientCorrectionOptimizer:
    settings = {"gcw_strength": 0.5, "gcode_strength": 0.8, "train_every": 2, **OVER_SGD, **settings}
    example = EXAMPLE.to(next(model.parameters()).dtype)
    return GradientCorrectionOptimizer(model.parameters(), **settings, model=model, example_input=example)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
