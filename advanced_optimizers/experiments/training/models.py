"""The networks that the studies train, for images of any size and with PyTorch's default initialization.

Topics may register their own networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_range, unknown_name

ImageShape: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Model:
    """One row of ``MODELS``.

    Attributes:
        label: Its name in tables and figures.
        build: ``build(image_shape, num_classes, width)`` returns the network.
        smallest_side: The smallest height and width that an image may have, in pixels.
    """

    label: str
    build: Callable[[ImageShape, int, float], nn.Module] = field(repr=False)
    smallest_side: int = 1


def build_model(name: str, image_shape: ImageShape, num_classes: int, width: float = 1.0) -> nn.Module:
    """Builds one of ``MODELS`` for images of shape (B, C, H, W); its output is logits of shape (B, num_classes).

    Args:
        name: ``mlp``: one hidden layer of 512 units with ReLU.
            ``mlp2``: two hidden layers, of 512 and 256 units.
            ``convnet``: three stages of two 3x3 convolutions with BatchNorm and ReLU, of 16, 32 and 64 channels, a
            max-pool after each of the first two, a global max-pool after the last.
            ``vgg``: four 3x3 convolutions with BatchNorm and ReLU, of 32, 64, 128 and 128 channels, a max-pool after
            each of the first three, and a linear layer over all positions.
            ``resnet18``: ResNet-18 (He et al., 2016, arXiv:1512.03385) for small images: its stem is a 3x3
            convolution of stride 1 without a max-pool.
            Or the name of a network that a topic registered.
        image_shape: (C, H, W); the convolutional networks need sides of at least 4 pixels.
        num_classes: Number of logits, at least 2.
        width: Multiplier of the number of hidden units or channels, > 0.

    Raises:
        ValueError: There is no model of that name, or a size is out of range.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    check_integer("num_classes", num_classes, 2)
    check_range("width", width, 0.0, open_low=True)
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (channels, height, width), each at least 1, got {image_shape}")
    model = MODELS[name]
    if min(image_shape[1:]) < model.smallest_side:
        raise ValueError(
            f"image_shape must have sides of at least {model.smallest_side} pixels for {name!r}, got {image_shape}"
        )
    return model.build(image_shape, num_classes, width)


def scaled(units: int, width: float) -> int:
    """The number of units or channels times a width multiplier, at least 1."""
    return max(1, round(units * width))


def mlp(image_shape: ImageShape, num_classes: int, width: float, *, hidden: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them: ``hidden`` units, from the input on; without any, a linear model."""
    sizes = [math.prod(image_shape), *(scaled(units, width) for units in hidden)]
    layers = [layer for inputs, outputs in pairwise(sizes) for layer in (nn.Linear(inputs, outputs), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], num_classes))


def _conv_bn(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    # No bias: the normalization that follows would cancel it.
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)]


def _convnet(image_shape: ImageShape, num_classes: int, width: float) -> nn.Sequential:
    first, second, third = (scaled(outputs, width) for outputs in (16, 32, 64))

    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            *_conv_bn(inputs, outputs),
            nn.ReLU(inplace=True),
            *_conv_bn(outputs, outputs),
            nn.ReLU(inplace=True),
        ]

    return nn.Sequential(
        *stage(image_shape[0], first),
        nn.MaxPool2d(2),
        *stage(first, second),
        nn.MaxPool2d(2),
        *stage(second, third),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(third, num_classes),
    )


def _vgg(image_shape: ImageShape, num_classes: int, width: float) -> nn.Sequential:
    channels, *sides = image_shape
    layers: list[nn.Module] = []
    for outputs, pools in ((32, True), (64, True), (128, True), (128, False)):
        outputs = scaled(outputs, width)
        layers += [*_conv_bn(channels, outputs), nn.ReLU(inplace=True)]
        # A side of one pixel cannot be halved.
        if pools and min(sides) > 1:
            layers.append(nn.MaxPool2d(2))
            sides = [side // 2 for side in sides]
        channels = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(sides), num_classes))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: relu(convolutions(x) + shortcut(x))."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_conv_bn(inputs, outputs, stride),
            nn.ReLU(inplace=True),
            *_conv_bn(outputs, outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        out: Tensor = self.activation(self.convolutions(x) + self.shortcut(x))
        return out


class ResNet18(nn.Sequential):
    """ResNet-18 for small images: four stages of two residual blocks, of 64 to 512 channels times ``width``."""

    def __init__(self, image_shape: ImageShape, num_classes: int, width: float = 1.0) -> None:
        stages = [scaled(outputs, width) for outputs in (64, 128, 256, 512)]
        layers: list[nn.Module] = [*_conv_bn(image_shape[0], stages[0]), nn.ReLU(inplace=True)]
        inputs = stages[0]
        for number, outputs in enumerate(stages):
            layers.append(ResidualBlock(inputs, outputs, stride=1 if number == 0 else 2))
            layers.append(ResidualBlock(outputs, outputs, stride=1))
            inputs = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))


MODELS: dict[str, Model] = {
    "mlp": Model(label="MLP", build=partial(mlp, hidden=(512,))),
    "mlp2": Model(label="MLP of 512-256", build=partial(mlp, hidden=(512, 256))),
    "convnet": Model(label="ConvNet", build=_convnet, smallest_side=4),
    "vgg": Model(label="VGG", build=_vgg, smallest_side=4),
    "resnet18": Model(label="ResNet-18", build=ResNet18, smallest_side=4),
}
