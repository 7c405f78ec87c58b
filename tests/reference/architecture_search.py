"""Architecture search, slow and literal: exact second derivatives, and all sequences of a controller.

Nothing here imports the package.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def exact_architecture_gradient(
    train_loss: Callable[[Sequence[Tensor], Tensor], Tensor],
    val_loss: Callable[[Sequence[Tensor], Tensor], Tensor],
    weights: Sequence[Tensor],
    alpha: Tensor,
    xi: float,
    momentum: float,
    weight_decay: float,
    buffers: Sequence[Tensor],
) -> Tensor:
    """d L_val(w'(alpha), alpha) / d alpha, differentiated through w' = w - xi (mu b + grad L_train + lambda w)."""
    inner = torch.autograd.grad(train_loss(weights, alpha), weights, create_graph=True)
    ahead = [w - xi * (momentum * b + g + weight_decay * w) for w, g, b in zip(weights, inner, buffers, strict=True)]
    return torch.autograd.grad(val_loss(ahead, alpha), alpha)[0]


def mixed(x: Tensor, alpha: Tensor, operations: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """sum_o exp(alpha_o) / sum_o' exp(alpha_o') o(x)."""
    total = sum(torch.exp(a) for a in alpha)
    out = torch.zeros_like(x)
    for a, operation in zip(alpha, operations, strict=True):
        out = out + torch.exp(a) / total * operation(x)
    return out


def sequences(steps: int, options: int) -> Iterator[tuple[int, ...]]:
    """Every sequence of choices."""
    return itertools.product(range(options), repeat=steps)


def exact_policy_gradient(
    log_prob: Callable[[tuple[int, ...]], Tensor],
    reward: Callable[[tuple[int, ...]], float],
    parameters: Sequence[Tensor],
    steps: int,
    options: int,
) -> list[Tensor]:
    """grad J = sum_a pi(a) R(a) grad log pi(a), over all sequences a."""
    total = [torch.zeros_like(p) for p in parameters]
    for a in sequences(steps, options):
        log_p = log_prob(a)
        grads = torch.autograd.grad(log_p, parameters, allow_unused=True)
        for sum_, g in zip(total, grads, strict=True):
            if g is not None:
                sum_ += log_p.detach().exp() * reward(a) * g
    return total
