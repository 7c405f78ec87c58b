"""The ways of torch's optimizers over a surface, and how many steps they take to its minimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.experiments.demonstrations.surfaces import Surface

MakeOptimizer: TypeAlias = Callable[..., torch.optim.Optimizer]

# torch's own classes, with momentum 0.9 and otherwise torch's defaults; each still needs its learning rate.
# foreach=False: for one tensor the loop over tensors is the fast one.
_SGD = partial(torch.optim.SGD, foreach=False)
OPTIMIZERS: Mapping[str, MakeOptimizer] = {
    "GD": _SGD,
    "Momentum": partial(_SGD, momentum=0.9),
    "Nesterov": partial(_SGD, momentum=0.9, nesterov=True),
    "Adagrad": partial(torch.optim.Adagrad, foreach=False),
    "Adadelta": partial(torch.optim.Adadelta, foreach=False),
    "RMSprop": partial(torch.optim.RMSprop, foreach=False),
    "Adam": partial(torch.optim.Adam, foreach=False),
}


def _rates(*rates: float) -> dict[str, float]:
    return dict(zip(OPTIMIZERS, rates, strict=True))


# Learning rates at which each optimizer shows its character, by the short name of the surface. They are not the best.
DRAWN_RATES: Mapping[str, Mapping[str, float]] = {
    "valley": _rates(0.03, 0.01, 0.01, 1.0, 3.0, 0.1, 0.3),
    "valley30": _rates(0.03, 0.01, 0.01, 1.0, 3.0, 0.1, 0.3),
    "rosenbrock": _rates(0.001, 0.001, 0.001, 1.0, 0.3, 0.01, 0.1),
    "saddle": _rates(0.1, 0.1, 0.1, 0.3, 3.0, 0.05, 0.05),
    "bumps": _rates(0.1, 0.1, 0.1, 0.1, 1.0, 0.1, 0.3),
    "beale": _rates(0.01, 0.003, 0.003, 1.0, 3.0, 0.1, 0.3),
}


@dataclass(frozen=True)
class Trajectory:
    """The way of one optimizer.

    Attributes:
        lr: Its learning rate.
        path: The points from the start on, float64 of shape (steps + 1, 2). A point that is not finite ends the way
            and is left out.
        distances: The distance of each point to the nearest minimum.
    """

    lr: float
    path: Tensor
    distances: Tensor

    @property
    def final_distance(self) -> float:
        """The distance of the last point to the nearest minimum."""
        return float(self.distances[-1])


def descend(surface: Surface, optimizer: MakeOptimizer, lr: float, steps: int = 400) -> Trajectory:
    """Lets an optimizer descend from the surface's start.

    Args:
        surface: What it descends.
        optimizer: ``optimizer(params, lr=lr)`` builds it, such as a value of ``OPTIMIZERS``.
        lr: Its learning rate, > 0.
        steps: The number of steps, at least 1; every optimizer here evaluates one gradient per step.
    """
    check_range("lr", lr, low=0.0, open_low=True)
    check_integer("steps", steps, low=1)
    point = nn.Parameter(torch.tensor(surface.start, dtype=torch.float64))
    stepping = optimizer([point], lr=lr)
    path = [point.detach().clone()]
    for _ in range(steps):
        point.grad = torch.stack(surface.gradient(*point.detach()))
        stepping.step()
        if not point.isfinite().all():
            break
        path.append(point.detach().clone())
    points = torch.stack(path)
    return Trajectory(lr, points, surface.distance(points))


def descend_all(surface: Surface, rates: Mapping[str, float], steps: int = 400) -> dict[str, Trajectory]:
    """The ways of several of ``OPTIMIZERS``, by name.

    Args:
        surface: What they descend.
        rates: The learning rate of each.
        steps: The number of steps, the same for all.
    """
    return {name: descend(surface, OPTIMIZERS[name], lr, steps) for name, lr in rates.items()}


def steps_to_stay(distances: Tensor, tolerance: float = 0.05) -> int | None:
    """The first step from which all further points are within a distance of the minimum; None if the last is not.

    Args:
        distances: From a :class:`Trajectory`.
        tolerance: The distance, > 0.
    """
    outside = (~(distances <= tolerance)).nonzero()
    if not len(outside):
        return 0
    last = int(outside[-1])
    return None if last == len(distances) - 1 else last + 1


def fastest(surface: Surface, optimizer: MakeOptimizer, rates: Sequence[float], steps: int = 400) -> Trajectory:
    """The way with the learning rate of a grid that needs the fewest steps; if none arrives, the one that ends nearest.

    Args:
        surface: What the optimizer descends.
        optimizer: See :func:`descend`.
        rates: The learning rates, at least one.
        steps: The number of steps with each.
    """
    ways = [descend(surface, optimizer, lr, steps) for lr in rates]

    def rank(way: Trajectory) -> Any:
        arrived = steps_to_stay(way.distances)
        ran_away = len(way.path) <= steps
        return (ran_away, arrived is None, arrived or 0, way.final_distance)

    return min(ways, key=rank)
