"""The contrastive loss of pairs, and how often the right partner is found."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from advanced_optimizers._checks import check_integer
from advanced_optimizers.automl.multimodal.checks import check_finite


def contrastive_loss(similarities: Tensor, *, same: Tensor | None = None) -> Tensor:
    r"""Among the n texts of a batch, which belongs to which image, and the other way around.

    .. math::
        L = \frac{1}{2n} \sum_i \Bigl(-\log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
        - \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}}\Bigr)

    Args:
        similarities: :math:`s`, (n, n), of image i and text j, already scaled; pairs are on the diagonal.
        same: Bool (n, n), True where text j would be right for image i, too. Such a text is not counted as wrong: off
            the diagonal it is left out of both sums over j. None if only the diagonal is right.

    Returns:
        The loss, a scalar: 0 at best, about log n where nothing is learned.

    Raises:
        TypeError: ``similarities`` is not a tensor of floating-point numbers.
        ValueError: A shape does not fit, a batch is empty, or a value is not finite.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import contrastive_loss
        >>> loss = contrastive_loss(torch.zeros(4, 4))  # all alike: the loss is log 4
        >>> round(loss.item(), 3)
        1.386

    References:
        Radford et al., *Learning Transferable Visual Models From Natural Language Supervision* (CLIP), ICML 2021, arXiv
        2103.00020, figure 3; recalled, since the training code is not released.

    Departures from the paper:
        ``same``: a batch of CLIP may hold a text twice, and then counts a right answer as wrong.
    """
    _check_matrix("similarities", similarities)
    n, columns = similarities.shape
    if n != columns:
        raise ValueError(f"similarities must be square, one text per image, got {tuple(similarities.shape)}")
    if same is not None:
        _check_mask("same", same, similarities)
        others = ~torch.eye(n, dtype=torch.bool, device=similarities.device)
        similarities = similarities.masked_fill(same & others, -math.inf)
    targets = torch.arange(n, device=similarities.device)
    return (cross_entropy(similarities, targets) + cross_entropy(similarities.T, targets)) / 2


def recall_at(similarities: Tensor, k: int, *, relevant: Tensor) -> float:
    """The fraction of queries with something relevant among the k most similar.

    Args:
        similarities: (queries, candidates).
        k: How many candidates count, in [1, candidates].
        relevant: Bool (queries, candidates), at least one True per query.

    Returns:
        Recall at k, in [0, 1]. A candidate that is exactly as similar as a relevant one is put before it, so that equal
        scores earn nothing.

    Raises:
        TypeError: ``similarities`` is not a tensor of floating-point numbers, or ``k`` not an integer.
        ValueError: A shape does not fit, ``k`` is out of range, or a query has nothing relevant.
    """
    _check_matrix("similarities", similarities)
    _check_mask("relevant", relevant, similarities)
    if check_integer("k", k, 1) > similarities.shape[1]:
        raise ValueError(f"k must be at most the {similarities.shape[1]} candidates, got {k}")
    without = ~relevant.any(dim=1)
    if bool(without.any()):
        raise ValueError(f"relevant must have a True in each row, got none in row {int(without.nonzero()[0])}")
    best = similarities.masked_fill(~relevant, -math.inf).amax(dim=1, keepdim=True)
    before = ((similarities >= best) & ~relevant).sum(dim=1)
    return float((before < k).double().mean())


def _check_matrix(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {getattr(values, 'dtype', values)!r}")
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} must be a matrix with at least one row and column, got {tuple(values.shape)}")
    check_finite(name, values)


def _check_mask(name: str, mask: Tensor, values: Tensor) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != values.shape:
        got = f"{mask.dtype} of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
        raise ValueError(f"{name} must be a bool tensor of shape {tuple(values.shape)}, got {got}")
