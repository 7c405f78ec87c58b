r"""The gradient of the architecture, first and second order (DARTS, section 2.3).

.. math::
    w' = w - \xi \nabla_w L_{train}(w, \alpha), \qquad
    \nabla_\alpha L_{val}(w', \alpha) - \xi \nabla^2_{\alpha, w} L_{train}(w, \alpha) \nabla_{w'} L_{val}(w', \alpha)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from advanced_optimizers._checks import check_range

# epsilon = R / || grad_{w'} L_val ||: footnote 2 of the paper.
R = 0.01
Loss = Callable[[], Tensor]


def architecture_gradient(
    train_loss: Loss,
    val_loss: Loss,
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
    *,
    xi: float = 0.0,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    buffers: Sequence[Tensor | None] = (),
    r: float = R,
) -> list[Tensor]:
    r"""The gradient of the validation loss in :math:`\alpha` after one unrolled step of the weights (equation 7).

    The unrolled step is that of SGD, :math:`w' = w - \xi (\mu b + \nabla_w L_{train} + \lambda w)`, with its momentum
    buffer :math:`b`. The mixed second derivative is a finite difference over :math:`w \pm \epsilon \nabla_{w'} L_{val}`
    with :math:`\epsilon = r / \lVert \nabla_{w'} L_{val} \rVert` (equation 8), which costs two more gradients.

    Args:
        train_loss: The training loss at the present values, as a function without arguments.
        val_loss: The validation loss, likewise.
        weights: :math:`w`. Restored bit for bit.
        alphas: :math:`\alpha`. Not modified, and no ``grad`` is written.
        xi: :math:`\xi \ge 0`, the rate of the unrolled step; 0 is first order.
        momentum: :math:`\mu` in [0, 1).
        weight_decay: :math:`\lambda \ge 0`.
        buffers: :math:`b`, one per weight, None for those that have none; empty for none at all.
        r: Size of the finite difference, > 0.

    Returns:
        One gradient per ``alphas``; zeros where a loss does not depend on it.
    """
    check_range("xi", xi, low=0.0, high=float("inf"), open_high=True)
    check_range("r", r, low=0.0, open_low=True)
    if xi == 0.0:
        return _gradients(val_loss(), alphas)
    kept = [w.detach().clone() for w in weights]
    buffers = buffers or [None] * len(weights)
    try:
        steps = _gradients(train_loss(), weights)
        with torch.no_grad():
            for w, step, buffer in zip(weights, steps, buffers, strict=True):
                step.add_(w, alpha=weight_decay)
                if buffer is not None:
                    step.add_(buffer, alpha=momentum)
                w.sub_(step, alpha=xi)
        both = _gradients(val_loss(), [*alphas, *weights])
        direct, ahead = both[: len(alphas)], both[len(alphas) :]
        norm = torch.sqrt(sum((g.square().sum() for g in ahead), torch.zeros((), device=ahead[0].device)))
        if norm == 0:  # no way to move along: the mixed term is zero as well
            return direct
        epsilon = r / norm
        plus = _gradients_at(kept, ahead, epsilon, train_loss, weights, alphas)
        minus = _gradients_at(kept, ahead, -epsilon, train_loss, weights, alphas)
    finally:
        _restore(weights, kept)
    return [d - xi * (p - m) / (2 * epsilon) for d, p, m in zip(direct, plus, minus, strict=True)]


def momentum_settings(optimizer: Optimizer, weights: Sequence[Tensor]) -> dict[str, object]:
    """The arguments of :func:`architecture_gradient` that an SGD's next step depends on.

    Args:
        optimizer: One with a single group; without ``momentum`` in it, the unrolled step is plain gradient descent.
        weights: Its parameters, in the order wanted.
    """
    (group,) = optimizer.param_groups
    return {
        "momentum": group.get("momentum", 0.0),
        "weight_decay": group.get("weight_decay", 0.0),
        "buffers": [optimizer.state[w].get("momentum_buffer") if w in optimizer.state else None for w in weights],
    }


def _gradients_at(
    kept: Sequence[Tensor],
    direction: Sequence[Tensor],
    epsilon: Tensor,
    loss: Loss,
    weights: Sequence[Tensor],
    alphas: Sequence[Tensor],
) -> list[Tensor]:
    """The gradient in alpha at w + epsilon d."""
    with torch.no_grad():
        for w, start, d in zip(weights, kept, direction, strict=True):
            w.copy_(start + epsilon * d)
    return _gradients(loss(), alphas)


@torch.no_grad()
def _restore(weights: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
    for w, value in zip(weights, kept, strict=True):
        w.copy_(value)


def _gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(inputs), allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]
