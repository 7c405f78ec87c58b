"""Tasks of regression that differ in two numbers: sine waves, each with its amplitude and its phase.

Source: Finn, Abbeel, Levine, ICML 2017, arXiv 1703.03400, section 5.1. A prediction of zero has a mean squared error of
4.25, half the mean square of the amplitude; the best one that ignores the task, -1.62 cos x, one of 3.00.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

AMPLITUDES, PHASES, INPUTS = (0.1, 5.0), (0.0, math.pi), (-5.0, 5.0)


def sinusoid_tasks(tasks: int, points: int, generator: torch.Generator, *, grid: int = 0) -> tuple[Tensor, Tensor]:
    r"""Draws sine waves :math:`y = A \sin(x - \varphi)`, and points of each.

    Args:
        tasks: The number of waves.
        points: Points of each at random.
        generator: Source of all random draws; the same state draws the same waves, whatever ``grid`` is.
        grid: Further points of each at equal distances over the whole range.

    Returns:
        x and y, (tasks, points + grid, 1); the random points come first.
    """
    amplitude, phase = (_uniform(bounds, (tasks, 1, 1), generator) for bounds in (AMPLITUDES, PHASES))
    x = _uniform(INPUTS, (tasks, points, 1), generator)
    if grid:
        even = torch.linspace(*INPUTS, grid)[:, None].expand(tasks, grid, 1)
        x = torch.cat((x, even), dim=1)
    return x, amplitude * (x - phase).sin()


def _uniform(bounds: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator)
