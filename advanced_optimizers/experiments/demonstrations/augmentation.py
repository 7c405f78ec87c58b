"""Random shifts, rotations and reflections of images, as one resampling of a whole batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from advanced_optimizers._checks import check_integer, check_range


def augmented(
    images: Tensor,
    *,
    shift: int = 0,
    degrees: float = 0.0,
    flip: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Each image moved at random, with bilinear resampling; what comes in from outside has the batch's darkest value.

    Args:
        images: (B, C, H, W), of a floating-point type. Not modified.
        shift: The largest shift along each side in whole pixels, >= 0.
        degrees: The largest rotation, in [0, 180].
        flip: Whether to mirror left to right with probability 1/2.
        generator: Source of the random draws; None means torch's own.
    """
    check_integer("shift", shift, low=0)
    check_range("degrees", degrees, low=0.0, high=180.0)
    count, (height, width) = len(images), images.shape[-2:]
    angles = math.radians(degrees) * (2 * torch.rand(count, generator=generator) - 1)
    moves = torch.randint(-shift, shift + 1, (2, count), generator=generator)
    mirrored = torch.randint(0, 2, (count,), generator=generator) * flip
    sign = 1.0 - 2.0 * mirrored
    # Each row maps a place of the new image to one of the old, in coordinates from -1 to 1.
    across = torch.stack([sign * angles.cos(), -angles.sin(), 2 * moves[0] / width], dim=1)
    down = torch.stack([sign * angles.sin(), angles.cos(), 2 * moves[1] / height], dim=1)
    theta = torch.stack([across, down], dim=1).to(images)
    background = images.amin()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images - background, grid, align_corners=False) + background
