"""LoCal+SGD written as plainly as its formulas: updates during the forward pass, neuron by neuron, in float64.

Nothing here imports the package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]
Pads = tuple[tuple[int, int], tuple[int, int]]

# ---- the rules ---------------------------------------------------------------------------------------------------


def hebbian_linear(a: Array, z: Array) -> Array:
    """sum_b z_b a_b^T: every connection gets the product of the two values that it connects."""
    product = np.zeros((z.shape[1], a.shape[1]))
    for a_b, z_b in zip(a, z, strict=True):
        for o in range(len(z_b)):
            for i in range(len(a_b)):
                product[o, i] += z_b[o] * a_b[i]
    return product


def patches(
    a: Array,
    size: tuple[int, int],
    stride: tuple[int, int],
    pads: Pads,
    dilation: tuple[int, int],
    mode: str = "constant",
) -> Array:
    """(B, C, kh, kw, H', W'): the patch of the input for each output position of a convolution."""
    padded = np.pad(a, ((0, 0), (0, 0), *pads), mode=mode)  # type: ignore[call-overload]
    rows = range(0, padded.shape[2] - dilation[0] * (size[0] - 1), stride[0])
    columns = range(0, padded.shape[3] - dilation[1] * (size[1] - 1), stride[1])
    seen = np.zeros((*a.shape[:2], *size, len(rows), len(columns)))
    for y, top in enumerate(rows):
        for x, left in enumerate(columns):
            for i in range(size[0]):
                for j in range(size[1]):
                    seen[:, :, i, j, y, x] = padded[:, :, top + i * dilation[0], left + j * dilation[1]]
    return seen


def hebbian_convolution(seen: Array, z: Array, groups: int) -> Array:
    """The sum of z_o times its patch over batch and positions; a group sees only its own channels."""
    outputs, channels = z.shape[1], seen.shape[1] // groups
    product = np.zeros((outputs, channels, *seen.shape[2:4]))
    for b in range(len(z)):
        for o in range(outputs):
            first = o // (outputs // groups) * channels
            for y in range(z.shape[2]):
                for x in range(z.shape[3]):
                    product[o] += z[b, o, y, x] * seen[b, first : first + channels, :, :, y, x]
    return product


def oja(product: Array, z: Array, weight: Array) -> Array:
    """Subtracts z_o^2 W_o, summed over batch and positions."""
    decayed = product.copy()
    for o in range(len(weight)):
        decayed[o] -= float((z[:, o] ** 2).sum()) * weight[o]
    return decayed


def normalized(product: Array) -> Array:
    return product / math.sqrt(float((product**2).sum()))


# ---- the transition ----------------------------------------------------------------------------------------------


def static_transition(epoch: int, total_epochs: int, warmup: Fraction, highest: int, power: int) -> int:
    """floor(highest * clip((e - e0) / (E - e0), 0, 1)^p), in exact fractions; in the first epoch all use SGD."""
    first = math.ceil(warmup * total_epochs)
    if epoch == 1 or epoch <= first:
        return 0
    share = min(Fraction(epoch - first, total_epochs - first), Fraction(1))
    return math.floor(highest * share**power)


def dynamic_transition(
    epoch: int, transition: int, updates: list[float], alpha: float, shift: int, highest: int, warmup_epochs: int
) -> int:
    """The transition of epoch + 1, from the updates of the block at the transition in epochs 1 .. epoch."""
    before = updates[:-1]
    if epoch < warmup_epochs or not before:
        return transition
    average = sum(before) / len(before)
    return min(transition + shift, highest) if updates[-1] <= alpha * average else transition


def weak_supervision(losses: list[float], weight: float) -> float:
    """Sigma in the next epoch."""
    return -weight if len(losses) > 1 and not losses[-1] <= losses[-2] else 1.0


# ---- training ----------------------------------------------------------------------------------------------------


@dataclass
class LocalizedTraining:
    """A chain of modules in float64. ``starts`` holds the index of the first module of each block.

    Below the transition nothing is recorded for a backward pass, and each weight is updated as soon as its layer has
    computed its pre-activation. Above it, SGD with momentum and weight decay is written out.
    """

    modules: list[nn.Module]
    starts: list[int]
    lr: float
    momentum: float
    weight_decay: float
    hebbian_lr: float
    weak_supervision_weight: float
    highest: int
    update_every: int = 1
    with_oja: bool = False
    static: tuple[int, Fraction, int] | None = None  # total epochs, warm-up, power
    dynamic: tuple[float, int, int] | None = None  # alpha, shift, warm-up epochs
    transition: int = 0
    sigma: float = 1.0
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    updates: dict[int, list[float]] = field(default_factory=dict)
    buffers: dict[Tensor, Tensor] = field(default_factory=dict)
    epoch_start: dict[Tensor, Tensor] = field(default_factory=dict)
    lr_sum: float = 0.0

    def weights(self, block: int) -> list[Tensor]:
        ends = [*self.starts[1:], len(self.modules)]
        own = self.modules[self.starts[block] : ends[block]]
        return [module.weight for module in own if isinstance(module, nn.Linear | nn.Conv2d)]

    def step(self, x: Tensor, y: Tensor, lr: float) -> float:
        if not self.epoch_start:
            every = [weight for block in range(len(self.starts)) for weight in self.weights(block)]
            self.epoch_start = {weight: weight.detach().clone() for weight in every}
        boundary = self.starts[self.transition]
        h = x
        with torch.no_grad():
            for module in self.modules[:boundary]:
                h = self._localized(module, h, lr)
        h = h.detach()
        for module in self.modules[boundary:]:
            h = module(h)
        loss = nn.functional.cross_entropy(h, y)
        params = [p for module in self.modules[boundary:] for p in module.parameters()]
        for p, g in zip(params, torch.autograd.grad(loss, params), strict=True):
            self._sgd(p, g, lr)
        self.steps += 1
        self.lr_sum += lr
        return float(loss.detach())

    def _localized(self, module: nn.Module, a: Tensor, lr: float) -> Tensor:
        z: Tensor = module(a)
        if isinstance(module, nn.Linear | nn.Conv2d) and self.steps % self.update_every == 0:
            direction = normalized(self._direction(module, a.numpy(), z.numpy()))
            distance = self.sigma * self.update_every * self.hebbian_lr * lr / self.lr
            module.weight += distance * torch.from_numpy(direction)
        return z

    def _direction(self, module: nn.Linear | nn.Conv2d, a: Array, z: Array) -> Array:
        if isinstance(module, nn.Linear):
            product = hebbian_linear(a, z)
        else:
            (ph, pw), (kh, kw) = module.padding, module.kernel_size
            assert not isinstance(ph, str)
            pads = ((int(ph), int(ph)), (int(pw), int(pw)))
            seen = patches(a, (kh, kw), (module.stride[0], module.stride[1]), pads, (1, 1))
            product = hebbian_convolution(seen, z, module.groups)
        return oja(product, z, module.weight.detach().numpy()) if self.with_oja else product

    def _sgd(self, p: Tensor, g: Tensor, lr: float) -> None:
        with torch.no_grad():
            g = g + self.weight_decay * p
            self.buffers[p] = self.momentum * self.buffers[p] + g if p in self.buffers else g
            p -= lr * self.buffers[p]

    def end_epoch(self, loss: float) -> None:
        for block in range(self.transition, len(self.starts)):
            moved = sum(float(((w.detach() - self.epoch_start[w]) ** 2).sum()) for w in self.weights(block))
            self.updates.setdefault(block, []).append(math.sqrt(moved) / self.lr_sum)
        self.losses.append(loss)
        self.sigma = weak_supervision(self.losses, self.weak_supervision_weight)
        epoch = len(self.losses)
        if self.static is not None:
            total, warmup, power = self.static
            self.transition = max(self.transition, static_transition(epoch + 1, total, warmup, self.highest, power))
        if self.dynamic is not None:
            alpha, shift, warmup_epochs = self.dynamic
            self.transition = dynamic_transition(
                epoch, self.transition, self.updates[self.transition], alpha, shift, self.highest, warmup_epochs
            )
        self.epoch_start, self.lr_sum = {}, 0.0
