"""What Nesterov's momentum is in torch, and what it does to a quadratic: statements 3 and 4 of the lecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_range

Gradient: TypeAlias = Callable[[Tensor], Tensor]


def torch_nesterov(gradient: Gradient, start: Tensor, rates: Sequence[float], momentum: float = 0.9) -> Tensor:
    """The points of ``torch.optim.SGD(nesterov=True)``, (steps + 1, n), at which it evaluates the gradient.

    Args:
        gradient: The gradient at a point.
        start: The first point, (n,).
        rates: The learning rate of each step.
        momentum: mu, in (0, 1).
    """
    point = nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([point], lr=rates[0], momentum=momentum, nesterov=True)
    path = [start.clone()]
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        point.grad = gradient(point.detach())
        optimizer.step()
        path.append(point.detach().clone())
    return torch.stack(path)


def textbook_nesterov(gradient: Gradient, start: Tensor, rates: Sequence[float], momentum: float = 0.9) -> Tensor:
    r"""The shifted points :math:`\theta_t + \mu v_t` of the textbook's form, at which *it* evaluates the gradient.

    .. math:: v_{t+1} = \mu v_t - \eta_t \nabla f(\theta_t + \mu v_t), \qquad \theta_{t+1} = \theta_t + v_{t+1}

    (Sutskever, Martens, Dahl, Hinton, *On the importance of initialization and momentum in deep learning*, 2013.)

    Args:
        gradient: The gradient at a point.
        start: The first point, (n,).
        rates: The learning rate of each step.
        momentum: mu, in (0, 1).
    """
    theta, velocity = start.clone(), torch.zeros_like(start)
    path = [theta + momentum * velocity]
    for rate in rates:
        velocity = momentum * velocity - rate * gradient(theta + momentum * velocity)
        theta = theta + velocity
        path.append(theta + momentum * velocity)
    return torch.stack(path)


def iteration_matrix(curvature: float, lr: float, momentum: float = 0.9, *, nesterov: bool = False) -> Tensor:
    """The matrix that takes (x_t, x_{t-1}) to (x_{t+1}, x_t) on f(x) = h x^2 / 2, float64 of shape (2, 2).

    Its determinant is the momentum that acts: mu without Nesterov, and mu (1 - lr h) with it.

    Args:
        curvature: h >= 0.
        lr: The learning rate, >= 0.
        momentum: mu, in [0, 1).
        nesterov: Whether the gradient is taken at the shifted point.
    """
    check_range("curvature", curvature, low=0.0)
    check_range("lr", lr, low=0.0)
    check_range("momentum", momentum, low=0.0, high=1.0, open_high=True)
    kept = 1 - lr * curvature
    if nesterov:
        return torch.tensor([[(1 + momentum) * kept, -momentum * kept], [1.0, 0.0]], dtype=torch.float64)
    return torch.tensor([[momentum + kept, -momentum], [1.0, 0.0]], dtype=torch.float64)


def rate_of_decay(matrix: Tensor) -> float:
    """The factor by which a step shrinks the distance in the long run: the largest absolute eigenvalue."""
    return float(torch.linalg.eigvals(matrix).abs().max())
