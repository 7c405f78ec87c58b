"""Functions of two variables on which optimizers can be watched: formula, gradient, minima and a starting point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from advanced_optimizers._checks import check_range

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A function f(x, y) to be minimized.

    Attributes:
        name: What it is called.
        formula: f in LaTeX.
        shows: What it is good for, in a few words.
        value: ``value(x, y)`` of tensors of any one shape.
        gradient: ``gradient(x, y)`` returns the two partial derivatives, in closed form.
        minima: The points where f is lowest.
        lowest: f there.
        start: Where every optimizer starts.
        box: The drawn part, as (left, right, bottom, top).
    """

    name: str
    formula: str
    shows: str
    value: Callable[[Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    minima: tuple[Point, ...]
    lowest: float
    start: Point
    box: Box

    def grid(self, points: int = 120) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and f over the drawn part, each float64 of shape (points, points)."""
        left, right, bottom, top = self.box
        x = torch.linspace(left, right, points, dtype=torch.float64)
        y = torch.linspace(bottom, top, points, dtype=torch.float64)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        return columns, rows, self.value(columns, rows)

    def distance(self, path: Tensor) -> Tensor:
        """The distance to the nearest minimum: (steps, 2) -> (steps,)."""
        minima = torch.tensor(self.minima, dtype=path.dtype)
        return (path[:, None, :] - minima[None, :, :]).norm(dim=-1).min(dim=1).values


def quadratic(curvatures: Point = (1.0, 50.0), degrees: float = 0.0, start: Point = (-8.0, 1.5)) -> Surface:
    """A valley with two curvatures: f = (h1 u^2 + h2 v^2) / 2, where u and v are x and y turned by an angle.

    Args:
        curvatures: The second derivatives h1 and h2 along the two axes of the valley, > 0.
        degrees: How far the valley is turned.
        start: The starting point, in x and y.
    """
    for curvature in curvatures:
        check_range("curvatures", curvature, low=0.0, open_low=True)
    (h1, h2), c, s = curvatures, math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def value(x: Tensor, y: Tensor) -> Tensor:
        u, v = c * x + s * y, -s * x + c * y
        return (h1 * u * u + h2 * v * v) / 2

    def gradient(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        u, v = h1 * (c * x + s * y), h2 * (-s * x + c * y)
        return c * u - s * v, s * u + c * v

    turned = f", turned by {degrees:g} degrees" if degrees else ""
    return Surface(
        name=f"valley{turned}",
        formula=rf"\tfrac12 ({h1:g} x^2 + {h2:g} y^2)",
        shows="zigzag and ringing" if not degrees else "a rate for each coordinate helps only along the axes",
        value=value,
        gradient=gradient,
        minima=((0.0, 0.0),),
        lowest=0.0,
        start=start,
        box=(-9.0, 4.0, -7.0 if degrees else -4.0, 4.0),
    )


def bumpy_bowl(height: float = 0.15) -> Surface:
    """A bowl with ripples that have minima of their own: f = (x^2 + y^2) / 10 + a (2 - cos 3x - cos 3y).

    Args:
        height: a >= 0, the height of the ripples.
    """
    check_range("height", height, low=0.0)
    return Surface(
        name="bumps",
        formula=rf"\tfrac{{1}}{{10}} (x^2 + y^2) + {height:g}\, (2 - \cos 3x - \cos 3y)",
        shows="inertia rolls over small bumps",
        value=lambda x, y: (x * x + y * y) / 10 + height * (2 - torch.cos(3 * x) - torch.cos(3 * y)),
        gradient=lambda x, y: (
            x / 5 + 3 * height * torch.sin(3 * x),
            y / 5 + 3 * height * torch.sin(3 * y),
        ),
        minima=((0.0, 0.0),),
        lowest=0.0,
        start=(-4.0, 3.0),
        box=(-5.0, 3.0, -3.0, 4.0),
    )


def _rosenbrock_gradient(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    off = y - x * x
    return -2 * (1 - x) - 400 * x * off, 200 * off


# Beale's function is a sum of three squares (c + x (y^k - 1))^2.
_BEALE = ((1.5, 1), (2.25, 2), (2.625, 3))


def _beale(x: Tensor, y: Tensor) -> Tensor:
    return sum(((c + x * (y**k - 1)) ** 2 for c, k in _BEALE), torch.zeros_like(x))


def _beale_gradient(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    terms = [(c + x * (y**k - 1), y**k - 1, k * x * y ** (k - 1)) for c, k in _BEALE]
    zero = torch.zeros_like(x)
    return sum((2 * t * dx for t, dx, _ in terms), zero), sum((2 * t * dy for t, _, dy in terms), zero)


_ROSENBROCK = Surface(
    name="Rosenbrock",
    formula="(1 - x)^2 + 100 (y - x^2)^2",
    shows="a narrow curved valley",
    value=lambda x, y: (1 - x) ** 2 + 100 * (y - x * x) ** 2,
    gradient=_rosenbrock_gradient,
    minima=((1.0, 1.0),),
    lowest=0.0,
    start=(-1.2, 1.0),
    box=(-1.8, 1.6, -0.8, 2.2),
)
_SADDLE = Surface(
    name="saddle",
    formula=r"\tfrac12 x^2 - \tfrac12 y^2 + \tfrac14 y^4",
    shows="waiting where the gradient is almost zero",
    value=lambda x, y: x * x / 2 - y * y / 2 + y**4 / 4,
    gradient=lambda x, y: (x, y**3 - y),
    minima=((0.0, 1.0), (0.0, -1.0)),
    lowest=-0.25,
    start=(-2.0, 0.001),
    box=(-2.4, 1.2, -1.6, 1.6),
)
_BEALE_SURFACE = Surface(
    name="Beale",
    formula=r"\sum_{k=1}^{3} \big(c_k + x (y^k - 1)\big)^2,\quad c = (1.5,\ 2.25,\ 2.625)",
    shows="plateaus beside steep walls",
    value=_beale,
    gradient=_beale_gradient,
    minima=((3.0, 0.5),),
    lowest=0.0,
    start=(-1.5, -1.5),
    box=(-3.5, 4.0, -2.0, 2.0),
)

# By a short name; the order is that of the notebook.
SURFACES = {
    "valley": quadratic(),
    "valley30": quadratic(degrees=30.0),
    "rosenbrock": _ROSENBROCK,
    "saddle": _SADDLE,
    "bumps": bumpy_bowl(),
    "beale": _BEALE_SURFACE,
}
