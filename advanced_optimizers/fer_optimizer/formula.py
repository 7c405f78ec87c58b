"""The formula of gradient-consistency FER, in numbers."""

from __future__ import annotations

import math
import sys
from typing import NamedTuple


class Correction(NamedTuple):
    """The corrected gradient as ``gradient * g + memory * m``, and the cosine between g and m."""

    cosine: float
    gradient: float
    memory: float


def consistency_correction(
    gm: float, gg: float, mm: float, weight: float, threshold: float, eps: float = sys.float_info.epsilon
) -> Correction:
    r"""Coefficients of :math:`g' = g + w\,(P(g) - g)` in terms of :math:`g` and :math:`m`.

    With :math:`c = \cos(g, m)`, :math:`s = \sqrt{1 - c^2}`, :math:`\sigma = \sqrt{1 - \tau^2}`, unit vectors
    :math:`\hat m` and :math:`\hat n = (\hat g - c\,\hat m) / s`, the projection of :math:`g` onto the cone of
    half-angle :math:`\arccos\tau` around :math:`m` is
    :math:`P(g) = \rho \lVert g \rVert (\tau \hat m + \sigma \hat n)`, :math:`\rho = \max(0, \tau c + \sigma s)`.

    Args:
        gm: The inner product of gradient and memory.
        gg: The squared norm of the gradient.
        mm: The squared norm of the memory.
        weight: :math:`w`, the fraction of the way to the projection.
        threshold: :math:`\tau`, the cosine at and above which a gradient counts as consistent.
        eps: Machine epsilon of the precision in which the products were computed.
    """
    if gg == 0.0 or mm == 0.0:
        return Correction(math.nan, 1.0, 0.0)  # a zero vector has no direction to compare
    ratio = math.sqrt(gg) / math.sqrt(mm)
    c = min(1.0, max(-1.0, gm / (math.sqrt(gg) * math.sqrt(mm))))
    if c >= threshold:
        return Correction(c, 1.0, 0.0)
    s = math.sqrt(1.0 - c * c) if 1.0 - c * c > 8.0 * eps else 0.0  # below, s is rounding error
    sigma = math.sqrt(1.0 - threshold * threshold)
    rho = max(0.0, threshold * c + sigma * s)
    # At s = 0 all directions across m are equally near, and their mean has no component across m.
    across = sigma / s if s > 0.0 else 0.0
    return Correction(c, 1.0 - weight + weight * rho * across, weight * rho * (threshold - across * c) * ratio)
