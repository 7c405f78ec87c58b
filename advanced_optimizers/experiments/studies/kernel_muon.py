"""Muon on hidden matrices and on the kernels of convolutions, joined with AdamW on all the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advanced_optimizers._base import build_optimizer
from advanced_optimizers._checks import check_range
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.training.joined import JoinedOptimizer

# AdamW's rate as a share of Muon's: 0.003 at Muon's 0.02, a good AdamW's.
RATIO = 0.15
# a, b, c of the author's polynomial a X + b (X X^T) X + c (X X^T)^2 X, and how often it is applied.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalized(matrix: Tensor) -> Tensor:
    """A matrix (rows, columns) with about the same singular vectors, and singular values between about 0.7 and 1.2.

    The iteration of Newton and Schulz, in float32. Torch's and the author's are in bfloat16, which is ten times as slow
    on a processor without such instructions, and rounds differently on each.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / wide.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrix else x.T


class KernelMuon(Optimizer):
    r"""Muon, on matrices and on kernels (O, I, h, w) taken as matrices (O, I h w).

    .. math::
        B \leftarrow \mu B + (1 - \mu) g, \quad
        w \leftarrow (1 - \eta \lambda) w - \eta \sqrt{\max(1, \text{out} / \text{in})} \,
        \mathrm{NS}(\mu B + (1 - \mu) g)

    Torch's own takes matrices alone. Source: Keller Jordan, github.com/KellerJordan/Muon, whose constants these are.

    Args:
        params: Matrices and kernels.
        lr: :math:`\eta \ge 0`.
        momentum: :math:`\mu` in [0, 1).
        weight_decay: :math:`\lambda \ge 0`, decoupled.

    Raises:
        ValueError: A value is out of range, or a parameter has another number of dimensions than two or four.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        check_range("lr", lr, low=0.0, high=math.inf, open_high=True)
        check_range("momentum", momentum, low=0.0, high=1.0, open_high=True)
        check_range("weight_decay", weight_decay, low=0.0, high=math.inf, open_high=True)
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of matrices and kernels."""
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.dim() not in (2, 4):
                raise ValueError(f"params must be matrices or kernels, got one of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Makes one step; returns the closure's loss, or ``None``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step(p, p.grad, group["lr"], group["momentum"], group["weight_decay"])
        return loss

    def _step(self, p: Tensor, grad: Tensor, lr: float, mu: float, decay: float) -> None:
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        buffer = state["momentum_buffer"].lerp_(grad, 1 - mu)
        update = grad.lerp(buffer, mu).flatten(1)  # Nesterov's look ahead
        scale = math.sqrt(max(1.0, update.shape[0] / update.shape[1]))
        p.mul_(1 - lr * decay)
        p.add_(orthogonalized(update).reshape(p.shape), alpha=-lr * scale)


def muon_adamw(model: nn.Module, hyperparameters: Hyperparameters, steps: int) -> Optimizer:
    """Muon on the hidden matrices and kernels, AdamW on biases, norms and the last layer.

    Args:
        model: At least two layers.
        hyperparameters: ``lr`` of Muon; optionally its ``weight_decay``, and ``adamw_ratio``, AdamW's rate over Muon's.
        steps: Not used.

    Raises:
        ValueError: The model has one layer only.
    """
    own: dict[str, Any] = dict(hyperparameters)
    ratio = own.pop("adamw_ratio", RATIO)
    params = list(model.parameters())
    hidden = [p for p in params if p.dim() >= 2][:-1]
    if not hidden:
        raise ValueError(f"model must have a hidden layer for Muon, got {type(model).__name__} with one layer")
    members = {id(p) for p in hidden}
    rest = [p for p in params if id(p) not in members]
    adamw = build_optimizer(torch.optim.AdamW, rest, lr=ratio * own["lr"], weight_decay=0.01)
    return JoinedOptimizer([KernelMuon(hidden, **own), adamw])
