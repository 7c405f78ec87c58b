"""Small models for the tests of muTransfer; the class of the readout is an argument, so that mup's fits too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers import MuReadout, MuResidual, mu_attention_scale, set_base_shapes

ReadoutClass = Callable[..., nn.Module]


def mlp(width: int, readout: ReadoutClass = MuReadout, inputs: int = 12, hidden: int | None = None, **kwargs: Any):
    """d -> n -> n -> 5; ``hidden`` sets the second hidden size separately."""
    second = width if hidden is None else hidden
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, second), nn.ReLU(), readout(second, 5, **kwargs)
    )


def convnet(width: int, readout: ReadoutClass = MuReadout, **kwargs: Any):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.GroupNorm(2, 2 * width),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        readout(2 * width, 5, **kwargs),
    )


class Block(nn.Module):
    def __init__(self, width: int, heads: int, base_head_dim: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, mu_attention_scale(width // heads, base_head_dim)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Tokens (B, T) -> the class of the last one; the head size grows with width."""

    def __init__(self, width: int, readout: ReadoutClass = MuReadout, **kwargs: Any) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, width)
        self.positions = nn.Parameter(0.1 * torch.randn(1, 6, width))
        self.block = Block(width, heads=2, base_head_dim=4)
        self.norm = nn.LayerNorm(width)
        self.head = readout(width, 5, **kwargs)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions
        return self.head(self.norm(self.block(x))[:, -1])


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "convnet": convnet, "transformer": Transformer}


def batch(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(7)
    labels = torch.randint(5, (8,), generator=rng)
    if name == "transformer":
        return torch.randint(11, (8, 6), generator=rng), labels
    shape = (8, 12) if name == "mlp" else (8, 1, 6, 6)
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype), labels


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: tuple[Tensor, Tensor], steps: int) -> list[float]:
    """The loss before each step."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data[0]), data[1])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def wide(name: str = "mlp", **kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    make = MODELS[name]
    return set_base_shapes(make(32), make(8), delta=make(16), **kwargs)


def sizes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def residual_mlp(width: int, depth: int) -> nn.Module:
    blocks = [MuResidual(nn.Sequential(nn.Linear(width, width), nn.Tanh())) for _ in range(depth)]
    return nn.Sequential(nn.Linear(12, width), *blocks, MuReadout(width, 5))


def seeded(make: Callable[[], nn.Module], seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return make().double()
