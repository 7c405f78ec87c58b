"""Two modalities, slow and literal: attention head by head by ``einsum``, the contrastive loss by loops in NumPy.

Nothing here imports the package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def cross_modal_block(x: Tensor, y: Tensor, weights: Mapping[str, Tensor], num_heads: int) -> Tensor:
    """One direction for one sample: x (length, dim) attends to y (other length, dim)."""
    d = x.shape[1]
    w, b = weights["attention.in_proj_weight"], weights["attention.in_proj_bias"]
    q, k, v = (
        (torch.einsum("oi,li->lo", w[s * d : (s + 1) * d], z) + b[s * d : (s + 1) * d]).view(len(z), num_heads, -1)
        for s, z in enumerate((x, y, y))
    )
    scores = torch.einsum("ahc,bhc->hab", q, k) / math.sqrt(d // num_heads)
    mixed = torch.einsum("hab,bhc->ahc", scores.exp() / scores.exp().sum(dim=2, keepdim=True), v).reshape(len(x), d)
    out = torch.einsum("oi,li->lo", weights["attention.out_proj.weight"], mixed) + weights["attention.out_proj.bias"]
    hidden = layer_norm(x + out, weights["norm1.weight"], weights["norm1.bias"])
    wide = torch.einsum("oi,li->lo", weights["ff.0.weight"], hidden) + weights["ff.0.bias"]
    back = torch.einsum("oi,li->lo", weights["ff.2.weight"], wide.clamp(min=0)) + weights["ff.2.bias"]
    return layer_norm(hidden + back, weights["norm2.weight"], weights["norm2.bias"])


def layer_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    centered = x - x.mean(dim=1, keepdim=True)
    return centered / (centered.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * gain + shift


def contrastive_loss(similarities: np.ndarray, same: np.ndarray) -> float:
    """The mean over rows and columns of -log of the share of the right partner, among those that are not as right."""
    n = len(similarities)
    total = 0.0
    for s, others_right in ((similarities, same), (similarities.T, same.T)):
        for i in range(n):
            among = [j for j in range(n) if j == i or not others_right[i, j]]
            total -= s[i, i] - math.log(sum(math.exp(s[i, j]) for j in among))
    return total / (2 * n)


def recall_at(similarities: np.ndarray, k: int, relevant: np.ndarray) -> float:
    """By sorting each row, the most similar first, and among equal ones the irrelevant first."""
    hits = 0
    for row, right in zip(similarities, relevant, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], right[j]))
        hits += any(right[j] for j in order[:k])
    return hits / len(similarities)
