"""Captions for images, made from their labels and shapes, and pairs of images and captions that may not belong.

A caption has four words: the class, and whether the image is in the lower, middle or upper third of the training
images by slant, by mass and by width. So it takes both to say whether a caption is right, and many images share one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The words after the class, for the lower, the middle and the upper third of slant, of mass and of width.
_WORDS = (
    ("leaning right", "of average slant", "leaning left"),
    ("light", "of average weight", "heavy"),
    ("narrow", "of average width", "wide"),
)


def shapes(images: Tensor) -> Tensor:
    r"""Slant, mass and width of what is drawn, from the moments of the pixels.

    With the mass :math:`m_{00}` and the central moments :math:`\mu`: slant :math:`\mu_{11} / \mu_{02}`, how far to the
    side it leans per row; width :math:`\sqrt{\mu_{20} / m_{00}}`, in pixels. Of an image without any, all three are 0.

    Args:
        images: uint8 (N, H, W, C); the channels are added.

    Returns:
        (N, 3), float32.
    """
    count, height, width, _ = images.shape
    pixels = images.float().sum(dim=3).view(count, -1) / 255
    y = torch.arange(float(height)).repeat_interleave(width)
    x = torch.arange(float(width)).repeat(height)
    mass, at_y, at_x, yy, xx, xy = (pixels @ torch.stack([torch.ones_like(x), y, x, y * y, x * x, x * y], dim=1)).T
    inked = mass.clamp_min(1e-6)
    at_y, at_x = at_y / inked, at_x / inked
    across, down = xx / inked - at_x.square(), yy / inked - at_y.square()
    slant = (xy / inked - at_y * at_x) / down.clamp_min(1e-6)
    return torch.stack([slant, mass, across.clamp_min(0.0).sqrt()], dim=1)


@dataclass(frozen=True)
class Captioner:
    """Describes images by thirds of the images that it was made from.

    Attributes:
        num_classes: The number of classes; their words come first in the vocabulary.
        cuts: The limits between the thirds, (2, 3).
    """

    num_classes: int
    cuts: Tensor

    @classmethod
    def of(cls, images: Tensor, num_classes: int) -> Captioner:
        """The captioner with the thirds of these images, uint8 (N, H, W, C)."""
        return cls(num_classes, torch.quantile(shapes(images), torch.tensor([1 / 3, 2 / 3]), dim=0))

    @property
    def vocabulary(self) -> int:
        """The number of words; a word stands at one place of a caption only."""
        return self.num_classes + 3 * len(_WORDS)

    def describe(self, images: Tensor, labels: Tensor) -> Tensor:
        """Captions, int64 (N, 4), of words in [0, vocabulary).

        Args:
            images: uint8 (N, H, W, C).
            labels: int64 (N,), in [0, num_classes).
        """
        thirds = (shapes(images)[:, None] > self.cuts).sum(dim=1)
        first_words = self.num_classes + 3 * torch.arange(len(_WORDS))
        return torch.cat([labels[:, None], first_words + thirds], dim=1)

    def text(self, caption: Tensor) -> str:
        """A caption, int64 (4,), in words, such as ``7, leaning right, heavy, of average width``."""
        first, *others = caption.tolist()
        names = [name for three in _WORDS for name in three]
        return ", ".join([str(first), *(names[word - self.num_classes] for word in others)])


def pair_up(captions: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gives about half of the images the caption of another image, drawn uniformly.

    So images and captions alone look the same in right and in wrong pairs. Where the other image has the same caption,
    the pair is right.

    Args:
        captions: int64 (N, words), one per image, N >= 2.
        generator: Source of the draws.

    Returns:
        Captions (N, words), and whether each belongs to the image of its row, bool (N,).
    """
    count = len(captions)
    others = (torch.arange(count) + torch.randint(1, count, (count,), generator=generator)) % count
    wrong = torch.rand(count, generator=generator) < 0.5
    given = torch.where(wrong[:, None], captions[others], captions)
    return given, (given == captions).all(dim=1)
