r"""How close predictions come to the next gradient, and the derivative of that with respect to the parameters.

The distance of two unit vectors is :math:`2 - 2 \cos`. The derivatives are written out: torch's would take three times
as many operations, and on an accelerator it is these that cost time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from advanced_optimizers.gradient_correction.mixing import or_infinity
from advanced_optimizers.gradient_correction.predictor import (
    GCODE,
    WIDTH,
    Attended,
    Path,
    Prediction,
    Theta,
)


def cosines_and_derivative(theta: Mapping[str, Theta], prediction: Prediction) -> tuple[Tensor, Tensor]:
    r"""Cosines of predictions and the next gradient, and the derivative of their sum.

    For a prediction :math:`p` and the direction :math:`t` of the next gradient,
    :math:`\partial \cos / \partial p = (t - \cos \cdot p / |p|) / |p|`.

    Args:
        theta: The parameters by predictor.
        prediction: Made with a target.

    Returns:
        (T, K, 1), and (T, size) in the order of the parameters.
    """
    mixes, gram, target = prediction.mixes, prediction.basis.gram, prediction.target
    products = torch.bmm(mixes, gram)
    inverse = or_infinity((products * mixes).sum(dim=2, keepdim=True)).rsqrt()
    cosines = torch.bmm(mixes, target) * inverse
    shared = cosines * inverse
    of_mixes = torch.addcmul(target.mT, shared, products, value=-1.0) * inverse
    found: Theta = []
    if prediction.attended is not None:
        seen, inverse_length = prediction.attended
        mix, of_mix, own, length = (each[:, :1] for each in (mixes, of_mixes, shared, inverse))
        step, of_step = mix[..., 2:], of_mix[..., 2:]
        of_gate = of_step * inverse_length
        # The derivative with respect to D as a mix of G, M, D and the next gradient: what is along D turns nothing.
        of_g = own * length
        along = torch.addcmul(of_gate * inverse_length, step, of_g)
        of_d = torch.cat([of_g, torch.zeros_like(of_g), along, -length], dim=2) * -step
        # Its products with the rows of G and of M, as those of G, M, D and the next gradient.
        of_offset = (of_d[..., None] * prediction.products[:, :8].unflatten(1, (2, 4))).sum(dim=2)
        found += [*attention_derivative(seen, of_offset), of_gate]
    if prediction.path is not None:
        found += ode_derivative(theta[GCODE.name], prediction.path, of_mixes[:, -1:, :2])
    return cosines, torch.cat([each.flatten(1) for each in found], dim=1)


def attention_derivative(seen: Attended, of_offset: Tensor) -> Theta:
    """The derivative of :func:`attention` with respect to its parameters but the gate.

    Args:
        seen: What it computed.
        of_offset: (T, 2, C), the derivative with respect to the coefficients of D.
    """
    x, averages, of_coefficients = seen.x.mT, seen.averages.mT, of_offset.mT
    of_values = torch.bmm(of_offset, seen.weights)  # (T, 2, keys); as (T, keys, 2) several times as slow on a CPU
    of_weights = torch.bmm(of_coefficients, seen.values.mT / math.sqrt(WIDTH))
    of_scores = torch.ops.aten._softmax_backward_data(of_weights, seen.weights, 2, seen.weights.dtype)
    of_queries, of_keys = torch.bmm(of_scores, seen.keys), torch.bmm(of_scores.mT, seen.queries)
    return [
        torch.bmm(x, of_queries),
        of_queries.sum(dim=1),
        torch.bmm(averages, of_keys),
        torch.bmm(x, of_coefficients),
        torch.bmm(averages, of_values.mT),
        of_values.sum(dim=2),
    ]


def ode_derivative(theta: Theta, path: Path, of_end: Tensor) -> Theta:
    """The derivative of :func:`history_ode` with respect to its parameters.

    Args:
        theta: The parameters.
        path: What it computed.
        of_end: (T, 1, 2), the derivative with respect to y(1).
    """
    w_1, _, w_2, gate = theta
    inputs, hidden, directions = (torch.cat(each, dim=1) for each in zip(*path.stages, strict=True))
    into_hidden = w_2.mT

    def of_hidden(of_y: Tensor, stage: int) -> Tensor:
        of_activation = torch.bmm(of_y * gate, into_hidden)
        return torch.ops.aten.tanh_backward(of_activation, path.stages[stage].hidden)

    of_second = of_hidden(of_end, 1)
    of_halfway = 0.5 * torch.bmm(of_second, w_1.mT)[..., :2]
    of_stages = torch.cat([of_hidden(of_halfway, 0), of_second], dim=1)
    of_directions = torch.cat([of_halfway, of_end], dim=1)
    return [
        torch.bmm(inputs.mT, of_stages),
        of_stages.sum(dim=1),
        torch.bmm(hidden.mT, of_directions * gate),
        (of_directions * directions).sum(dim=(1, 2), keepdim=True),
    ]
