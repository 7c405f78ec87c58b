"""Torch's Muon on the kernels of convolutions as well, joined with AdamW on all that is not a hidden matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.training.joined import JoinedOptimizer

# AdamW's rate as a share of Muon's: 0.003 at Muon's 0.02, a good AdamW's.
RATIO = 0.15


class KernelMuon(torch.optim.Muon):
    """Torch's Muon, which takes matrices alone, for kernels (O, I, h, w), too, as matrices (O, I h w).

    The order of the columns does not matter: Newton and Schulz's iteration commutes with permutations. So a kernel in
    ``channels_last`` is taken as (O, h w I), which is a view of it.

    Source: the author's own code flattens kernels in the same way (Keller Jordan, github.com/KellerJordan/Muon).

    Args:
        params: Matrices and kernels.
        **settings: Those of :class:`torch.optim.Muon`.

    Raises:
        ValueError: A parameter has another number of dimensions than two or four.
    """

    def __init__(self, params: list[Tensor], **settings: Any) -> None:
        for p in params:
            if p.dim() not in (2, 4):
                raise ValueError(f"params must be matrices or kernels, got one of shape {tuple(p.shape)}")
        super().__init__([torch.zeros(1, 1)], **settings)  # checks the settings; it would refuse kernels
        self.param_groups.clear()
        self.add_param_group({"params": params})

    def _init_group(self, group: dict[str, Any], *collected: list[Tensor]) -> bool:
        """Collects parameters, gradients and momentum buffers as torch does, then views them as matrices."""
        has_complex: bool = super()._init_group(group, *collected)
        params = list(collected[0])
        for tensors in collected:
            tensors[:] = [_as_matrix(tensor, p) for tensor, p in zip(tensors, params, strict=True)]
        return has_complex


def _as_matrix(tensor: Tensor, like: Tensor) -> Tensor:
    """A view of a parameter, its gradient or its buffer as a matrix, with the columns in the parameter's order.

    Autograd lays a gradient out as its parameter; one that is laid out otherwise has no such view, and torch says so.
    """
    if like.dim() == 4 and not like.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.view(tensor.shape[0], -1)


def muon_adamw(model: nn.Module, hyperparameters: Hyperparameters, steps: int) -> Optimizer:
    """Muon on the hidden matrices and kernels, AdamW on biases, norms and the last layer.

    Args:
        model: At least two layers.
        hyperparameters: ``lr`` of Muon, which its update multiplies by ``sqrt(max(1, out / in))``; optionally its
            ``weight_decay``, decoupled, and ``adamw_ratio``, AdamW's rate over Muon's.
        steps: Not used.

    Raises:
        ValueError: The model has one layer only.
    """
    own = dict(hyperparameters)
    ratio = float(own.pop("adamw_ratio", RATIO))
    params = list(model.parameters())
    *hidden, _ = [p for p in params if p.dim() >= 2] or [None]
    if not hidden:
        raise ValueError(f"model must have a hidden layer for Muon, got {type(model).__name__} with one layer")
    members = {id(p) for p in hidden}
    rest = [p for p in params if id(p) not in members]
    adamw = build_optimizer(torch.optim.AdamW, rest, lr=ratio * float(own["lr"]), weight_decay=0.01)
    return JoinedOptimizer([KernelMuon(hidden, **own), adamw])  # type: ignore[list-item]
