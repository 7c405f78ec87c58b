"""Pictures of a data set: some images of each class."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from advanced_optimizers.experiments.report.figures.panels import panel_grid
from advanced_optimizers.experiments.report.figures.style import WIDTH

_GAP = 1  # pixels between images


def picture_grid(images: Tensor, labels: Tensor, per_class: int = 3) -> Figure:
    """The first images of each class: a column per class, a row per image.

    Args:
        images: All images, of shape (n, height, width, channels), as uint8, with one or three channels.
        labels: Their classes, of shape (n,).
        per_class: Images per class, >= 1; each class must have as many.
    """
    classes = labels.unique(sorted=True)
    rows = [torch.cat([_framed(images[labels == c][row]) for c in classes], dim=1) for row in range(per_class)]
    whole = torch.cat(rows)
    with panel_grid(1, 1, (WIDTH, WIDTH * whole.shape[0] / whole.shape[1])) as (figure, (axis,)):
        axis.imshow(whole.squeeze(-1), cmap="gray_r", interpolation="nearest", aspect="auto")
        axis.set_axis_off()
    return figure


def _framed(image: Tensor) -> Tensor:
    """An image with a gap around it, which is white in either color map."""
    white = 0 if image.shape[-1] == 1 else 255
    return torch.nn.functional.pad(image, (0, 0, *(_GAP,) * 4), value=white)
