"""What the tests of selective localized learning share: a small network, batches, and an optimizer for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from advanced_optimizers import LocalizedOptimizer, StaticTransition

BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0}
KWARGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}
AT_ONCE = StaticTransition(total_epochs=1)


def network(seed: int = 0) -> nn.Sequential:
    """Four blocks: two convolutions, one with BatchNorm, and two linear layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(54, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


def batches(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(6, 1, 8, 8, generator=rng, dtype=dtype), torch.randint(3, (6,), generator=rng))
        for _ in range(count)
    ]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def localized(model: nn.Module, transition: int | None = None, **settings: Any) -> LocalizedOptimizer:
    """The optimizer in its second epoch, with ``transition`` blocks localized; by default all but the last."""
    highest = 3 if transition is None else transition
    settings = {"selection": AT_ONCE, "max_transition": highest, "update_every": 1, **settings}
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, **settings)
    optimizer.end_epoch(1.0)
    assert optimizer.transition == highest
    return optimizer


def weights(optimizer: LocalizedOptimizer) -> list[Tensor]:
    return [layer.weight.detach().clone() for block in optimizer.blocks for layer in block.layers]
