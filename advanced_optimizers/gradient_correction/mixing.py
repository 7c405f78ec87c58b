r"""Mixes of a few gradients: their lengths and cosines follow from the inner products of what is mixed.

Of each tensor there are the gradient :math:`G` and others, such as its memory :math:`M`. A mix is given by a
coefficient for each of these n: for T tensors with K mixes each, (T, K, n). G has length 1, the others have any length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Basis(NamedTuple):
    """What is mixed.

    Attributes:
        gram: (T, n, n), the inner products, the gradient's first.
        squared: (T, 1, 1), the gradient's squared length: 1, or 0 for a gradient of zeros.
        gradient: (T, 1, n), the coefficients of the gradient itself: 1, then zeros.
    """

    gram: Tensor
    squared: Tensor
    gradient: Tensor


def or_infinity(x: Tensor) -> Tensor:
    """What to divide by for a quotient of 0 where x is not positive; what is too small for a reciprocal counts as 0."""
    return torch.threshold(x, torch.finfo(x.dtype).tiny, math.inf)


def to_length(mixes: Tensor, products: Tensor, basis: Basis) -> Tensor:
    """(T, K, 1), what scales mixes (T, K, n) to the length of G: 1 exactly for G itself, 0 for a mix of length 0.

    Args:
        mixes: The mixes.
        products: Their inner products with the basis.
        basis: What they are mixed of.
    """
    return (basis.squared / or_infinity((products * mixes).sum(dim=2, keepdim=True))).sqrt()


def combine(predictions: Tensor, strengths: Sequence[float], basis: Basis) -> Tensor:
    r""":math:`g + \sum_k \alpha_k (\hat g_k - g)`, each prediction scaled to the length of g; (T, 1, n).

    Args:
        predictions: (T, K, n).
        strengths: :math:`\alpha_k`.
        basis: What they are mixed of.
    """
    mix, scale = basis.gradient, to_length(predictions, torch.bmm(predictions, basis.gram), basis)
    offsets = torch.addcmul(mix, predictions, scale, value=-1.0)  # the other way around
    for strength, offset in zip(strengths, offsets.split(1, dim=1), strict=True):
        mix = torch.sub(mix, offset, alpha=strength)
    return mix


def make_safe(mix: Tensor, basis: Basis, min_cosine: float, also: Tensor | None = None) -> Tensor:
    """Scales a mix to the length of g, and turns it back toward g where their cosine is below ``min_cosine``.

    Where this is not defined, the result is g: for a gradient of zeros, for a mix that is zero or not finite, and for
    one that points exactly against g.

    Args:
        mix: (T, 1, n).
        basis: What it is mixed of.
        min_cosine: In [0, 1].
        also: (T, 1), where false, the result is g, too.
    """
    products = torch.bmm(mix, basis.gram)
    scale = to_length(mix, products, basis)
    c = products[..., :1] * scale
    across = torch.addcmul(basis.squared, c, c, value=-1.0)  # 1 - c^2
    # In the plane of g and the mix: min_cosine along g, the rest of the length across g.
    turn = torch.threshold(across, 8.0 * torch.finfo(c.dtype).eps, math.inf).rsqrt() * math.sqrt(
        1.0 - min_cosine * min_cosine
    )
    turn = turn.masked_fill(c >= min_cosine, 1.0)
    along = (min_cosine - turn * c).relu()  # 0 where nothing is turned
    scale = scale * turn
    safe = torch.addcmul(along * basis.gradient, scale, mix)
    defined = scale > 0.0
    return torch.where(defined if also is None else defined & also[..., None], safe, basis.gradient)
