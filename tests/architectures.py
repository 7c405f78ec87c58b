"""Public architectures for images, as small as they still are themselves, and a language model.

A network that torchvision has is taken from there, with fewer and narrower layers. The others are written here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models as tv

CLASSES = 5


@dataclass(frozen=True)
class Architecture:
    """A network and what gradient correction must find in it.

    Attributes:
        build: Builds it.
        corrected: The down-sampling in front of which hidden states are corrected, by name and in order.
        refused: Where it cannot be corrected, what the error must say.
        shape: Of an input, without the batch.
        tokens: Whether the inputs are integers below 16.
    """

    build: Callable[[], nn.Module]
    corrected: tuple[str, ...] = ()
    refused: str = ""
    shape: tuple[int, ...] = (3, 32, 32)
    tokens: bool = False

    def batch(self, rng: torch.Generator, size: int = 4) -> tuple[Tensor, Tensor]:
        labels = torch.randint(CLASSES, (size,), generator=rng)
        if self.tokens:
            return torch.randint(16, (size, *self.shape), generator=rng), labels
        return torch.randn(size, *self.shape, generator=rng), labels


def conv_bn(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class LeNet(nn.Module):
    """Pooling by functions, after each of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 8, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(8 * 25, 24), nn.Linear(24, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class MnistExample(nn.Module):
    """Two convolutions, one pooling by a function, dropout, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 12, 3)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(12 * 36, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.relu(self.fc1(torch.flatten(self.dropout1(x), 1)))
        return F.log_softmax(self.fc2(self.dropout2(x)), dim=1)


class AllFunctions(nn.Module):
    """A forward pass without any submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(0.2 * torch.randn(6, 3, 3, 3))
        self.second = nn.Parameter(0.2 * torch.randn(8, 6, 3, 3))
        self.last = nn.Parameter(0.2 * torch.randn(CLASSES, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(F.relu(F.conv2d(x, self.first, padding=1)), scale_factor=0.5)
        x = F.relu(F.conv2d(x, weight=self.second, stride=2, padding=1))
        return F.linear(x.mean(dim=(-2, -1)), self.last)


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 6), (6, 8), (8, 8)):
        layers += [conv_bn(inputs, outputs), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 16, CLASSES))


class Inception(nn.Module):
    """Parallel branches, one of them with a pooling that keeps the sides."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one, self.three = conv_bn(inputs, outputs // 2), conv_bn(inputs, outputs // 4)
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn(inputs, outputs // 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.pooled(x)], dim=1)


class SharedPoolGoogLeNet(nn.Module):
    """GoogLeNet as it is usually written for CIFAR: one pooling module, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_layers = conv_bn(3, 8)
        self.a3, self.a4, self.a5 = Inception(8, 8), Inception(8, 8), Inception(8, 16)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.avgpool, self.linear = nn.AvgPool2d(8, stride=1), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.a3(self.pre_layers(x)))
        x = self.maxpool(self.a4(x))
        return self.linear(self.avgpool(self.a5(x)).flatten(1))


class Transition(nn.Module):
    """Of a DenseNet: a 1x1 convolution and an average by a function."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layer = conv_bn(inputs, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.layer(x), x], dim=1)


def densenet() -> nn.Module:
    blocks = [nn.Conv2d(3, 8, 3, padding=1), DenseLayer(8), Transition(12, 6), DenseLayer(6), Transition(10, 6)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES))


class SlicedShortcutBlock(nn.Module):
    """A residual block whose shortcut takes every other position and pads the channels with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv_bn(inputs, outputs, stride), conv_bn(outputs, outputs)
        self.more, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(F.pad(shortcut, (0, 0, 0, 0, 0, self.more)) + self.second(self.first(x)))


class ResNet20(nn.Module):
    """With sliced shortcuts, and a function as its last pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 6)
        self.layers = nn.ModuleList([SlicedShortcutBlock(*sizes) for sizes in ((6, 6, 1), (6, 8, 2), (8, 12, 2))])
        self.linear = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.linear(F.avg_pool2d(x, x.size()[3]).view(x.size(0), -1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.fc = conv_bn(channels, channels), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        w = F.avg_pool2d(x, x.size(2))
        return x * torch.sigmoid(self.fc(w))


def senet() -> nn.Module:
    layers = [conv_bn(3, 6), SqueezeExcite(6), conv_bn(6, 8, stride=2), SqueezeExcite(8), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, CLASSES))


class Block(nn.Module):
    """Of a transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_1(x)
        ahead = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attention(h, h, h, attn_mask=ahead, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    """Predicts one of the classes after the last token."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(16, 12), nn.Embedding(8, 12)
        self.blocks = nn.ModuleList([Block(12), Block(12)])
        self.ln, self.head = nn.LayerNorm(12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.head(self.ln(h))[:, -1]


def efficientnet() -> nn.Module:
    stages = [
        tv.efficientnet.MBConvConfig(*sizes, 1, 1.0, 1.0)
        for sizes in ((1, 3, 1, 8, 8), (6, 3, 2, 8, 8), (6, 5, 2, 8, 16))
    ]
    return tv.EfficientNet(stages, 0.2, num_classes=CLASSES, last_channel=32)


def regnet() -> nn.Module:
    sizes = tv.regnet.BlockParams.from_init_params(depth=4, w_0=8, w_a=8.0, w_m=2.0, group_width=8)
    return tv.RegNet(sizes, num_classes=CLASSES, stem_width=8)


def convnext() -> nn.Module:
    stages = [tv.convnext.CNBlockConfig(8, 16, 1), tv.convnext.CNBlockConfig(16, None, 1)]
    return tv.ConvNeXt(stages, num_classes=CLASSES)


NOTHING = "model must down-sample, but"
ARCHITECTURES = {
    "LeNet": Architecture(LeNet, ("max_pool2d in LeNet",) * 2),
    "MNIST example": Architecture(MnistExample, ("max_pool2d in MnistExample",), shape=(1, 16, 16)),
    "all functions": Architecture(
        AllFunctions, ("interpolate in AllFunctions", "conv2d in AllFunctions", "mean in AllFunctions")
    ),
    "VGG": Architecture(vgg, ("1", "3", "5")),
    "GoogLeNet, shared pool": Architecture(
        SharedPoolGoogLeNet, ("maxpool (call 1 of 2)", "maxpool (call 2 of 2)", "avgpool")
    ),
    "DenseNet, functions": Architecture(densenet, ("avg_pool2d in 2", "avg_pool2d in 4", "5")),
    "ResNet, sliced shortcuts": Architecture(
        ResNet20, ("slice in layers.1", "slice in layers.2", "avg_pool2d in ResNet20")
    ),
    "SENet, functions": Architecture(senet, ("avg_pool2d in 1", "2.0", "avg_pool2d in 3", "4")),
    "ResNet": Architecture(
        lambda: tv.ResNet(tv.resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES),
        ("maxpool", "layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"),
    ),
    "DenseNet": Architecture(
        lambda: tv.DenseNet(4, (1, 1), 8, num_classes=CLASSES),
        ("features.pool0", "features.transition1.pool", "adaptive_avg_pool2d in DenseNet"),
    ),
    "GoogLeNet": Architecture(
        lambda: tv.GoogLeNet(num_classes=CLASSES, aux_logits=False, init_weights=False),
        ("maxpool1", "maxpool2", "maxpool3", "maxpool4"),
    ),
    "MobileNetV2": Architecture(
        lambda: tv.MobileNetV2(CLASSES, 0.25, [[1, 8, 1, 1], [6, 8, 2, 2]]),
        ("features.2.conv.1.0", "adaptive_avg_pool2d in MobileNetV2"),
    ),
    "SqueezeNet": Architecture(
        lambda: tv.SqueezeNet("1_1", num_classes=CLASSES), ("features.2", "features.5", "features.8")
    ),
    "ShuffleNet": Architecture(
        lambda: tv.ShuffleNetV2([1, 1, 1], [8, 16, 16, 16, 32], num_classes=CLASSES),
        (
            "maxpool",
            "stage2.0.branch1.0",
            "stage2.0.branch2.3",
            "stage3.0.branch1.0",
            "stage3.0.branch2.3",
            "stage4.0.branch1.0",
            "stage4.0.branch2.3",
        ),
    ),
    "EfficientNet": Architecture(
        efficientnet,
        (
            "features.1.0.block.1.avgpool",
            "features.2.0.block.1.0",
            "features.2.0.block.2.avgpool",
            "features.3.0.block.1.0",
            "features.3.0.block.2.avgpool",
            "avgpool",
        ),
    ),
    "RegNet": Architecture(
        regnet,
        (
            "trunk_output.block1.block1-0.proj.0",
            "trunk_output.block1.block1-0.f.b.0",
            "trunk_output.block2.block2-0.proj.0",
            "trunk_output.block2.block2-0.f.b.0",
            "trunk_output.block3.block3-0.proj.0",
            "trunk_output.block3.block3-0.f.b.0",
            "avgpool",
        ),
    ),
    "MNASNet": Architecture(
        lambda: tv.MNASNet(0.1, CLASSES),
        ("layers.8.0.layers.3", "layers.9.0.layers.3", "layers.10.0.layers.3", "layers.12.0.layers.3"),
    ),
    "ConvNeXt": Architecture(convnext, ("features.2.1", "avgpool")),
    "ViT": Architecture(
        lambda: tv.VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=CLASSES), refused=NOTHING, shape=(3, 16, 16)
    ),
    "Swin": Architecture(
        lambda: tv.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=CLASSES),
        refused="model must have its channels in dimension 1",
    ),
    "GPT": Architecture(Gpt, refused=NOTHING, shape=(8,), tokens=True),
}
