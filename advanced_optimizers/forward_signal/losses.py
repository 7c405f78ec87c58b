"""The local losses of signal propagation: how far the activations of a layer are from its targets.

Notation, as in Kohan, Rietman, Siegelmann (arXiv 2204.01723) and the authors' library (``amassivek/signalpropagation``
at b4cbef2, read for its formulas): :math:`h` (B, ...) are the activations of a layer, :math:`t` (C, ...) its targets,
and :math:`t^0` the incoming targets. The target stream is deterministic, so a class has *one* target, and the target of
sample :math:`i` is :math:`t_{y_i}`: the library's B x B matrices of comparisons repeat the columns of a B x C matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from advanced_optimizers._checks import check_integer, check_range, unknown_name

__all__ = ["LOCAL_LOSSES", "LOSSES_OF_SAMPLES", "LocalLoss", "positives", "similarities"]

# Name here -> name in the authors' library, or the source of the loss.
LOCAL_LOSSES = {
    "label_direct": "v1_input_label_direct",
    "target_max_all": "v9_input_target_max_all",
    "target_max": "v14_input_target_max_rand",
    "target_topk": "v15_input_target_topk",
    "squared_distance": "the authors' slides, sum ||t - h||^2",
    "cosine": "the authors' slides, cosine similarity",
}
# In these, a sample's loss does not depend on the other samples of its batch; the others' softmax runs over the batch.
LOSSES_OF_SAMPLES = ("label_direct", "squared_distance", "cosine")


def similarities(h: Tensor, t: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Returns how similar activations and targets are, :math:`S_{ik} = \langle h_i, t_k \rangle / (T \sqrt D)`.

    Args:
        h: (B, ...), with D values per sample.
        t: (C, ...), with the same shape after the first dimension.
        temperature: T > 0.

    Returns:
        (B, C), in float32 or wider. The library divides by the number of positions instead: 1 in dense layers, width
        times height for images.
    """
    rows, columns = _as_rows(h, t)
    scale = 1.0 / (temperature * math.sqrt(rows.shape[1]))
    # The targets are scaled, which are few; scaled with the products, the activations' gradient would cost a pass more.
    return at_least_float32(rows @ (columns * scale).T)


def positives(name: str, affinity: Tensor, counts: Tensor, top_k: int) -> Tensor:
    """Counts how many targets of class :math:`k` in the batch are positives of a sample of class :math:`c`.

    With the affinities :math:`G` of the incoming targets, among the classes that the batch contains:

    - ``target_max_all``: all targets of the classes :math:`k` with the largest :math:`G_{ck}`.
    - ``target_max``: one target of that class; among equal ones, that of the lowest class.
    - ``target_topk``: the ``top_k`` targets with the largest :math:`G_{ck}`; among equal ones, those of the lowest
      classes.

    Args:
        name: One of the three.
        affinity: :math:`G`, (C, C).
        counts: Number of samples of each class in the batch, int64 (C,).
        top_k: For ``target_topk``.

    Returns:
        (C, C), whole numbers in the dtype of ``affinity``.
    """
    affinity = affinity.masked_fill(counts == 0, -math.inf)
    if name == "target_max_all":
        return (affinity == affinity.amax(dim=1, keepdim=True)) * counts.to(affinity.dtype)
    if name == "target_max":
        return F.one_hot(affinity.argmax(dim=1), len(counts)).to(affinity.dtype)
    order = affinity.argsort(dim=1, descending=True, stable=True)
    available = counts[order]
    before = available.cumsum(dim=1) - available
    taken = torch.minimum((top_k - before).clamp(min=0), available)
    return torch.zeros_like(affinity).scatter(1, order, taken.to(affinity.dtype))


@dataclass(frozen=True)
class LocalLoss:
    r"""The loss of one layer, averaged over the batch.

    With :math:`S` from :func:`similarities`, which divides by the temperature:

    - ``label_direct``: :math:`-\log \mathrm{softmax}_k(S_{ik})` at :math:`k = y_i`, over one target per class.
    - ``target_max_all``, ``target_max``, ``target_topk``: the softmax runs over the batch's B targets :math:`t_{y_j}`,
      and the loss is :math:`-\sum_j M_{ij} \log \mathrm{softmax}_j(S_{ij})` with :math:`M` from :func:`positives`.
      Labels enter only through the targets. The sum is not divided by the number of positives.
    - ``squared_distance``: :math:`\lVert h_i - t_{y_i} \rVert^2 / D`.
    - ``cosine``: :math:`1 - \cos(h_i, t_{y_i})`.

    Args:
        name: One of ``LOCAL_LOSSES``.
        temperature: Divides the similarities of the four softmax losses, > 0.
        top_k: Number of positives per sample for ``target_topk``, >= 1. If the batch has fewer samples of the sample's
            class, samples of the classes with the nearest targets count as positives too.

    Raises:
        ValueError: There is no loss of that name, or a value is out of range.

    Limitations:
        ``squared_distance`` and ``cosine`` have no negatives. Layers that can shrink or rotate both streams alike then
        collapse: all targets become equal, which costs nothing and carries no information. A fixed signal keeps the
        targets of the first layer apart, and a BatchNorm keeps those of its own layer apart; without either, use a
        softmax loss.

        ``target_max*`` find the nearest target by an inner product that is not normalized, as the library does. If
        another class has a much longer target, that class becomes the positive.
    """

    name: str = "label_direct"
    temperature: float = 1.0
    top_k: int = 6

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in LOCAL_LOSSES:
            raise unknown_name("local loss", self.name, LOCAL_LOSSES, most=2)
        temperature = check_range("temperature", self.temperature, 0.0, math.inf, open_low=True, open_high=True)
        object.__setattr__(self, "temperature", temperature)  # the dataclass is frozen
        object.__setattr__(self, "top_k", check_integer("top_k", self.top_k, 1))

    def __call__(self, h: Tensor, t: Tensor, t0: Tensor, y: Tensor) -> Tensor:
        """Returns the scalar loss, in float32 or wider.

        Args:
            h: The layer's activations, (B, ...).
            t: The layer's targets, (C, ...).
            t0: The incoming targets, from which the layer computed its own, (C, ...).
            y: Labels, int64 (B,).
        """
        if self.name == "squared_distance":
            return (at_least_float32(h) - at_least_float32(t)[y]).square().mean()
        if self.name == "cosine":
            rows, columns = _as_rows(at_least_float32(h), at_least_float32(t))
            return 1.0 - F.cosine_similarity(rows, columns[y], dim=1).mean()
        if torch.is_autocast_enabled(h.device.type):
            # The softmax does not see what all targets share; without it, bfloat16 resolves their differences better.
            t = t - t.mean(dim=0)
        scores = similarities(h, t, self.temperature)
        if self.name == "label_direct":
            return F.cross_entropy(scores, y)
        counts = torch.bincount(y, minlength=len(t))
        with torch.no_grad(), torch.autocast(t0.device.type, enabled=False):
            affinity = similarities(at_least_float32(t0), at_least_float32(t0))
        positive_counts = positives(self.name, affinity, counts, self.top_k)[y]
        normalizer = torch.logsumexp(scores + counts.to(scores.dtype).log(), dim=1)
        return (positive_counts.sum(dim=1) * normalizer - (positive_counts * scores).sum(dim=1)).mean()


def _as_rows(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both as (rows, D), in the order of the activations in memory, so that they need not be copied."""
    if h.dim() == 4 and h.is_contiguous(memory_format=torch.channels_last):
        h, t = h.permute(0, 2, 3, 1), t.permute(0, 2, 3, 1)
    return h.flatten(1), t.flatten(1)


def at_least_float32(signal: Tensor) -> Tensor:
    """Returns the tensor in float32, or unchanged if its precision is wider."""
    wide = torch.promote_types(signal.dtype, torch.float32)
    return signal if signal.dtype == wide else signal.to(wide)
