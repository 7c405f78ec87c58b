"""The networks that the studies train, for images of any size and with PyTorch's own initialisation."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_range, unknown_name
from advanced_optimizers.zero_shot_transfer import MuReadout, set_base_shapes

_HIDDEN_UNITS = {"mlp": (512,), "mlp2": (512, 256)}
# Units of mlp3 at width 1, and its multipliers: those tuned in the MLP example of the mup package, for ReLU and
# cross-entropy. With multipliers of 1 the standard parametrisation's optimum hardly moves (its issue 52).
MLP3_UNITS = 64
_INPUT_MULT, _OUTPUT_MULT = 2.0**-8, 32.0
MODELS = ("mlp", "mlp2", "mlp3", "convnet", "vgg", "resnet18")


def build_model(name: str, image_shape: tuple[int, int, int], num_classes: int, width: float = 1.0) -> nn.Module:
    """Build one of ``MODELS`` for images of shape (B, C, H, W); its output is logits of shape (B, num_classes).

    Args:
        name: ``mlp``: one hidden layer of 512 units with ReLU.
            ``mlp2``: two hidden layers, of 512 and 256 units.
            ``mlp3``: two hidden layers of 64 units, without biases, and an output that starts at zero: the network of
            muP's width sweeps, with the multipliers of the ``mup`` package's MLP example. It is in the standard
            parametrisation; ``set_base_shapes(model, base, rescale_params=False)`` turns it into a muP model.
            ``convnet``: three stages of two 3x3 convolutions with BatchNorm and ReLU, of 16, 32 and 64 channels, a
            max-pool after each of the first two, a global max-pool after the last.
            ``vgg``: four 3x3 convolutions with BatchNorm and ReLU, of 32, 64, 128 and 128 channels, a max-pool after
            each of the first three, and a linear layer that reads all positions.
            ``resnet18``: ResNet-18 (He et al., 2016, arXiv:1512.03385) with the 3x3 stem, stride 1, and no max-pool
            that small images need.
        image_shape: (C, H, W); the convolutional networks need sides of at least 4 pixels.
        num_classes: Number of logits, at least 2.
        width: Factor on the number of hidden units or channels, above 0.

    Raises:
        ValueError: If there is no model of that name, or a size is out of range.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    check_integer("num_classes", num_classes, 2)
    check_range("width", width, 0.0, open_low=True)
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (channels, height, width), each at least 1, got {image_shape}")
    if name == "mlp3":
        return _mlp3(math.prod(image_shape), num_classes, _scaled(MLP3_UNITS, width))
    if name in _HIDDEN_UNITS:
        return _mlp(image_shape, num_classes, [_scaled(units, width) for units in _HIDDEN_UNITS[name]])
    if min(image_shape[1:]) < 4:
        raise ValueError(f"image_shape must have sides of at least 4 pixels for {name!r}, got {image_shape}")
    if name == "convnet":
        return _convnet(image_shape[0], num_classes, width)
    if name == "vgg":
        return _vgg(image_shape, num_classes, width)
    return ResNet18(image_shape[0], num_classes, width)


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _mlp(image_shape: tuple[int, int, int], num_classes: int, hidden: list[int]) -> nn.Sequential:
    sizes = [math.prod(image_shape), *hidden]
    layers = [layer for inputs, outputs in pairwise(sizes) for layer in (nn.Linear(inputs, outputs), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], num_classes))


class ScaledLinear(nn.Linear):
    """A linear layer without bias, ``scale * W x``, whose initial output does not depend on ``scale``.

    The weights are drawn from a normal distribution with standard deviation ``1 / (scale * sqrt(inputs))``. What the
    scale changes is how far a step of SGD moves the output: by ``scale ** 2`` times as much.
    """

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0) -> None:
        self.scale = scale
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Draws the weights."""
        nn.init.normal_(self.weight, std=1 / (self.scale * math.sqrt(self.in_features)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return self.scale * super().forward(x)


def _mlp3(inputs: int, num_classes: int, units: int) -> nn.Sequential:
    model = nn.Sequential(
        nn.Flatten(),
        ScaledLinear(inputs, units, scale=math.sqrt(_INPUT_MULT)),
        nn.ReLU(),
        ScaledLinear(units, units),
        nn.ReLU(),
        MuReadout(units, num_classes, bias=False, readout_zero_init=True, output_mult=_OUTPUT_MULT),
    )
    set_base_shapes(model, None)  # its own base: the standard parametrisation
    return model


def _conv_bn(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    # The normalisation that follows would cancel a bias.
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)]


def _convnet(channels: int, num_classes: int, width: float) -> nn.Sequential:
    first, second, third = (_scaled(outputs, width) for outputs in (16, 32, 64))

    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            *_conv_bn(inputs, outputs),
            nn.ReLU(inplace=True),
            *_conv_bn(outputs, outputs),
            nn.ReLU(inplace=True),
        ]

    return nn.Sequential(
        *stage(channels, first),
        nn.MaxPool2d(2),
        *stage(first, second),
        nn.MaxPool2d(2),
        *stage(second, third),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(third, num_classes),
    )


def _vgg(image_shape: tuple[int, int, int], num_classes: int, width: float) -> nn.Sequential:
    channels, *sides = image_shape
    layers: list[nn.Module] = []
    for outputs, pools in ((32, True), (64, True), (128, True), (128, False)):
        outputs = _scaled(outputs, width)
        layers += [*_conv_bn(channels, outputs), nn.ReLU(inplace=True)]
        # A side of one pixel is as small as it gets.
        if pools and min(sides) > 1:
            layers.append(nn.MaxPool2d(2))
            sides = [side // 2 for side in sides]
        channels = outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(sides), num_classes))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: relu(convolutions(x) + shortcut(x))."""

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

    def __init__(self, channels: int, num_classes: int, width: float) -> None:
        stages = [_scaled(outputs, width) for outputs in (64, 128, 256, 512)]
        layers: list[nn.Module] = [*_conv_bn(channels, stages[0]), nn.ReLU(inplace=True)]
        inputs = stages[0]
        for number, outputs in enumerate(stages):
            layers.append(ResidualBlock(inputs, outputs, stride=1 if number == 0 else 2))
            layers.append(ResidualBlock(outputs, outputs, stride=1))
            inputs = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))
