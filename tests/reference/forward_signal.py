"""Signal propagation, slow and literal: sample by sample, target by target, position by position, in float64.

Nothing here imports the package. Every sample has its own context and its own target, and both streams go through the
same loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Comparison = Callable[[list[Tensor], list[Tensor], list[Tensor], list[int]], Tensor]


# ---- layers: one sample at a time -------------------------------------------------------------------------------


@dataclass
class Dense:
    """relu(W v + b)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, v: Tensor) -> Tensor:
        rows = [(self.weight[i] * v.reshape(-1)).sum() + self.bias[i] for i in range(len(self.bias))]
        return torch.relu(torch.stack(rows))

    @property
    def params(self) -> list[Tensor]:
        return [self.weight, self.bias]


@dataclass
class Conv:
    """relu of a 3x3 convolution with padding 1, then the largest of each 2x2 square."""

    weight: Tensor
    bias: Tensor

    def __call__(self, v: Tensor) -> Tensor:
        _, height, width = v.shape
        padded = torch.zeros(v.shape[0], height + 2, width + 2, dtype=v.dtype)
        padded[:, 1:-1, 1:-1] = v
        maps = []
        for kernel, bias in zip(self.weight, self.bias, strict=True):
            pixels = [
                [torch.relu((kernel * padded[:, i : i + 3, j : j + 3]).sum() + bias) for j in range(width)]
                for i in range(height)
            ]
            pooled = [
                [
                    torch.stack([pixels[i][j], pixels[i + 1][j], pixels[i][j + 1], pixels[i + 1][j + 1]]).amax()
                    for j in range(0, width, 2)
                ]
                for i in range(0, height, 2)
            ]
            maps.append(torch.stack([torch.stack(row) for row in pooled]))
        return torch.stack(maps)

    @property
    def params(self) -> list[Tensor]:
        return [self.weight, self.bias]


@dataclass
class Generator:
    """t_1 = relu(layer norm of S c + d); the values of an image lie channel by channel within each position."""

    weight: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor
    shape: tuple[int, ...]

    def __call__(self, c: Tensor) -> Tensor:
        z = torch.stack([(self.weight[i] * c).sum() + self.bias[i] for i in range(len(self.bias))])
        mean = z.sum() / len(z)
        variance = (z - mean).square().sum() / len(z)
        t = torch.relu(self.gain * (z - mean) / torch.sqrt(variance + 1e-5) + self.shift)
        if len(self.shape) == 1:
            return t
        channels, height, width = self.shape
        out = torch.zeros(self.shape, dtype=t.dtype)
        for k in range(channels):
            for i in range(height):
                for j in range(width):
                    out[k, i, j] = t[(i * width + j) * channels + k]
        return out

    @property
    def params(self) -> list[Tensor]:
        return [self.weight, self.bias, self.gain, self.shift]


# ---- local losses: one pair at a time ---------------------------------------------------------------------------


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """The inner product, divided by the square root of the number of values."""
    return (a.reshape(-1) * b.reshape(-1)).sum() / math.sqrt(a.numel())


def log_softmax(scores: list[Tensor], j: int) -> Tensor:
    return scores[j] - torch.log(sum((torch.exp(s) for s in scores), torch.zeros((), dtype=torch.float64)))


def affinities(t0: list[Tensor], i: int) -> list[float]:
    """G_i: the similarities of sample i's incoming target to all incoming targets."""
    return [float(similarity(t0[i], other)) for other in t0]


def positives(name: str, t0: list[Tensor], y: list[int], i: int, top_k: int) -> list[int]:
    """M_i: the indices in the batch whose targets are positives of sample i; labels only break ties of affinities."""
    G = [round(g, 12) for g in affinities(t0, i)]
    nearest_first = sorted(range(len(G)), key=lambda j: (-G[j], y[j]))
    if name == "target_max_all":
        return [j for j in nearest_first if G[j] == max(G)]
    return nearest_first[: 1 if name == "target_max" else top_k]


def softmax_loss(name: str, temperature: float, top_k: int) -> Comparison:
    """The library's v9, v14 and v15: sample i against the batch's targets, with the positives from the targets."""

    def loss(h: list[Tensor], t: list[Tensor], t0: list[Tensor], y: list[int]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i in range(len(h)):
            scores = [similarity(h[i], t[j]) / temperature for j in range(len(t))]
            for j in positives(name, t0, y, i, top_k):
                total = total - log_softmax(scores, j)
        return total / len(h)

    return loss


def squared_distance(h: list[Tensor], t: list[Tensor], t0: list[Tensor], y: list[int]) -> Tensor:
    pairs = zip(h, t, strict=True)
    return sum(((b - a).square().sum() / a.numel() for a, b in pairs), torch.zeros(())) / len(h)


def cosine(h: list[Tensor], t: list[Tensor], t0: list[Tensor], y: list[int]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for a, b in zip(h, t, strict=True):
        total = total + 1.0 - (a * b).sum() / torch.sqrt(a.square().sum() * b.square().sum())
    return total / len(h)


# ---- the network ------------------------------------------------------------------------------------------------


@dataclass
class SigProp:
    """Layers, the generator of the first targets, and a classifier that sees the last layer's activations."""

    layers: list[Dense | Conv]
    generator: Generator
    classifier: tuple[Tensor, Tensor]
    num_classes: int
    loss: str
    temperature: float = 1.0
    top_k: int = 6
    lr: float = 0.1
    signal_lr: float = 0.1
    losses: list[float] = field(default_factory=list)

    def learn(self, x: Tensor, y: list[int]) -> list[list[float]]:
        """One batch, one sweep: each layer is updated as soon as it is reached, by plain SGD. Returns the scores."""
        self.losses = []
        h, t = list(x), [self._context(label) for label in y]
        classes = [self._context(k) for k in range(self.num_classes)]
        for number, layer in enumerate(self.layers):
            targets = self.generator if number == 0 else layer
            params = [(p, self.lr) for p in layer.params]
            if number == 0:
                params += [(p, self.signal_lr) for p in self.generator.params]
            _require_gradients(params)
            h1, t1, classes1 = [layer(v) for v in h], [targets(c) for c in t], [targets(c) for c in classes]
            loss = self._direct(h1, classes1, y) if self.loss == "label_direct" else self._compare()(h1, t1, t, y)
            self._update(loss, params)
            h, t, classes = ([v.detach() for v in stream] for stream in (h1, t1, classes1))
        weight, bias = self.classifier
        params = [(weight, self.lr), (bias, self.lr)]
        _require_gradients(params)
        scores = [[(weight[k] * v.reshape(-1)).sum() + bias[k] for k in range(self.num_classes)] for v in h]
        loss = -sum((log_softmax(s, label) for s, label in zip(scores, y, strict=True)), torch.zeros(())) / len(y)
        self._update(loss, params)
        return [[float(s.detach()) for s in row] for row in scores]

    def _context(self, label: int) -> Tensor:
        return torch.tensor([1.0 if k == label else 0.0 for k in range(self.num_classes)], dtype=torch.float64)

    def _direct(self, h: list[Tensor], t: list[Tensor], y: list[int]) -> Tensor:
        """v1: sample i against one target per class."""
        total = torch.zeros((), dtype=torch.float64)
        for i in range(len(h)):
            total = total - log_softmax([similarity(h[i], t[k]) / self.temperature for k in range(len(t))], y[i])
        return total / len(h)

    def _compare(self) -> Comparison:
        named = {"squared_distance": squared_distance, "cosine": cosine}
        return named.get(self.loss) or softmax_loss(self.loss, self.temperature, self.top_k)

    def _update(self, loss: Tensor, params: list[tuple[Tensor, float]]) -> None:
        self.losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, [p for p, _ in params])
        with torch.no_grad():
            for (p, lr), g in zip(params, gradients, strict=True):
                p -= lr * g


def _require_gradients(params: list[tuple[Tensor, float]]) -> None:
    for p, _ in params:
        p.requires_grad_(True)
