r"""Do the initial weights have muP's scale? Where the base is a model with weights, this can be measured.

The standard deviation of a matrix-like weight must fall as :math:`1/\sqrt{\text{fan\_in}}`, that of a vector-like one
must stay the same. So, with :math:`m` the ratio of the fan-ins,
:math:`\text{std}(w)/\text{std}(w_0)\cdot\sqrt m` (or without :math:`\sqrt m`) is 1 if the weights are right.

It is :math:`\sqrt m` for an initializer whose standard deviation is constant, and it moves away from 1 with
``mode="fan_out"`` where inputs and outputs grow by different factors.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules.conv import _ConvNd

from advanced_optimizers.zero_shot_transfer.base_shapes import MuShape, ShapeSource, without_module_prefix
from advanced_optimizers.zero_shot_transfer.init import mu_init_
from advanced_optimizers.zero_shot_transfer.places import Place, places_of

# A weight counts as wrong if it is off by more than this factor and these standard errors. In 200,000 simulated pairs
# of normal weights this happened by chance 117 times for 4 elements in the base and twice for 16.
FACTOR, ERRORS, FEWEST_ELEMENTS = 1.1, 5.0, 32


class Measured(NamedTuple):
    """One weight's scale.

    Attributes:
        place: Where the weight is.
        std: The standard deviation that it should have in the base model, for an initializer that knows no width.
        factor: How many times too large it is; 1 is right.
        error: The standard error of the logarithm of ``factor``.
    """

    place: Place
    std: float
    factor: float
    error: float

    @property
    def is_wrong(self) -> bool:
        """Whether the factor differs from 1 by more than chance explains."""
        return abs(math.log(self.factor)) > math.log(FACTOR) + ERRORS * self.error


def model_with_weights(*sources: ShapeSource | None) -> nn.Module | None:
    """Returns the first source that is a model whose parameters have values."""
    for source in sources:
        if isinstance(source, nn.Module) and not any(p.is_meta for p in source.parameters()):
            return source
    return None


@torch.no_grad()
def measure(
    places: Sequence[Place], shapes: Sequence[MuShape], corrections: Sequence[float], reference: nn.Module
) -> list[Measured]:
    """Returns the scale of every weight whose size differs from ``reference``, after its correction.

    Left out are biases, gains, embeddings (a model may multiply their output by a width of its own), weights that are
    zero in either model, and those with fewer than ``FEWEST_ELEMENTS`` elements.
    """
    theirs = places_of(reference)
    names = without_module_prefix([place.key for place in theirs])
    known = {name: place for name, place in zip(names, theirs, strict=True) if place.is_whole}
    embedded = {id(place.p) for place in places if isinstance(place.layer, nn.Embedding | nn.EmbeddingBag)}
    total: dict[tuple[int, str], float] = {}  # a weight_norm's correction is its gain's
    for place, correction in zip(places, corrections, strict=True):
        total[id(place.layer), place.tensor] = total.get((id(place.layer), place.tensor), 1.0) * correction
    found: list[Measured] = []
    seen: set[int] = set()
    names = without_module_prefix([place.key for place in places])
    for name, place, shape in zip(names, places, shapes, strict=True):
        if id(place.p) in seen | embedded or name not in known or not _is_a_map(place, shape):
            continue
        seen.add(id(place.p))
        twin = known[name]
        if place.p.shape == twin.p.shape or place.p.is_meta or min(place.p.numel(), twin.p.numel()) < FEWEST_ELEMENTS:
            continue
        (own, own_error), (other, other_error) = _spread(place.value), _spread(twin.value)
        if not (0 < own < math.inf and 0 < other < math.inf):
            continue
        fan_in = shape.dims[shape.fan_in]
        is_matrix = len(shape.infinite) == 2
        wanted = math.sqrt(twin.p.shape[shape.fan_in] / fan_in.size) if is_matrix else 1.0
        std = other * math.sqrt(twin.p.shape[shape.fan_in] / (fan_in.base or 1)) if is_matrix else other
        factor = own * total[id(place.layer), place.tensor] / other / wanted
        found.append(Measured(place, std, factor, math.hypot(own_error, other_error)))
    return found


def warn_of_scale(measured: Sequence[Measured], stacklevel: int) -> None:
    """Warns once about all weights whose scale is not muP's."""
    wrong = [f"{m.place.full_name} ({m.factor:.3g})" for m in measured if m.is_wrong]
    if wrong:
        warnings.warn(
            f"the initial weights of {len(wrong)} of {len(measured)} layers are not of muP's scale. Measured against "
            f"the base model, they are so many times as large as they should be: {', '.join(wrong)}. The standard "
            "deviation of their initializer does not fall as 1 / sqrt(fan-in) (a constant one, mode='fan_out'), or one "
            "of the two models has been trained. Pass reinitialize=True to set_base_shapes to draw them again, or draw "
            "them with mu_init_",
            stacklevel=stacklevel,
        )


def check_can_be_drawn(measured: Sequence[Measured]) -> None:
    """Refuses to draw a weight that one of torch's older hooks would overwrite at the next forward pass."""
    for m in measured:
        if m.place.computed_by and m.place.module is m.place.layer:
            raise ValueError(
                f"reinitialize=True cannot draw {m.place.full_name}, from which a hook computes {m.place.tensor!r}: "
                "use torch.nn.utils.parametrizations instead of torch.nn.utils, or apply it after set_base_shapes"
            )


def reinitialize_weights(measured: Sequence[Measured]) -> None:
    """Draws the weights again, from normal distributions that have the base model's standard deviation at its width."""
    for m in measured:
        mu_init_(m.place.layer, init.normal_, m.place.tensor, std=m.std)


def _is_a_map(place: Place, shape: MuShape) -> bool:
    if not place.is_whole:
        return False
    is_weight = place.tensor == "weight" and isinstance(place.layer, nn.Linear | _ConvNd)
    return len(shape.infinite) == 2 or (len(shape.infinite) == 1 and is_weight)


@torch.no_grad()
def _spread(weight: Tensor) -> tuple[float, float]:
    """Returns the root mean square, and the standard error of its logarithm if the entries are independent.

    The entries' own kurtosis is used if it is larger than a normal distribution's.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    n = weight.numel()
    rms = float(torch.linalg.vector_norm(weight, 2, dtype=dtype)) / math.sqrt(n)
    if not 0 < rms < math.inf:
        return rms, math.inf
    kurtosis = float(torch.linalg.vector_norm(weight / rms, 4, dtype=dtype)) ** 4 / n
    return rms, math.sqrt(max(2.0, kurtosis - 1.0) / (4 * n))
