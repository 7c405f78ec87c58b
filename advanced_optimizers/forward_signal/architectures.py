"""Plain ``nn.Sequential`` models for :class:`SigPropNet` and :class:`SigPropConvNet`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_iterable, check_range

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
}


def dense_model(input_dim: int, hidden_dims: Sequence[int], output_dim: int, with_classifier: bool) -> nn.Sequential:
    """Returns ``Flatten``, then ``Linear`` and ReLU for each hidden layer, then the classifier if it is wanted."""
    input_dim = check_integer("input_dim", input_dim, 1)
    output_dim = check_integer("output_dim", output_dim, 2)
    units = check_sizes("hidden_dims", hidden_dims)
    modules: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise([input_dim, *units]):
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    if with_classifier:
        modules.append(nn.Linear(units[-1], output_dim))
    return nn.Sequential(*modules)


def vgg_model(
    image_shape: tuple[int, int, int],
    channels: Sequence[int],
    num_classes: int,
    convolutions_per_stage: int,
    width: float,
    norm: str | None,
    with_classifier: bool,
) -> nn.Sequential:
    """Returns 3x3 convolutions with norm and ReLU, a max-pool after each stage, then the classifier if it is wanted."""
    shape = check_sizes("image_shape", image_shape)
    stages = check_sizes("channels", channels)
    num_classes = check_integer("num_classes", num_classes, 2)
    convolutions_per_stage = check_integer("convolutions_per_stage", convolutions_per_stage, 1)
    width = check_range("width", width, 0.0, math.inf, open_low=True, open_high=True)
    if len(shape) != 3 or min(shape[1:]) < 2 ** len(stages):
        raise ValueError(
            f"image_shape must be (channels, height, width) with sides of at least {2 ** len(stages)} pixels for "
            f"{len(stages)} stages, got {shape}"
        )
    if norm is not None and not (isinstance(norm, str) and norm in _NORMS):
        raise ValueError(f"norm must be one of {', '.join(_NORMS)} or None, got {norm!r}")
    modules: list[nn.Module] = []
    inputs = shape[0]
    for stage in stages:
        outputs = max(1, round(stage * width))
        for _ in range(convolutions_per_stage):
            modules.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm is None))
            modules += [_NORMS[norm](outputs)] if norm else []
            modules.append(nn.ReLU(inplace=True))
            inputs = outputs
        modules.append(nn.MaxPool2d(2))
    if with_classifier:
        features = inputs * math.prod(side >> len(stages) for side in shape[1:])
        modules += [nn.Flatten(), nn.Linear(features, num_classes)]
    return nn.Sequential(*modules)


def check_sizes(name: str, sizes: Iterable[int]) -> tuple[int, ...]:
    """Returns the sizes, or raises an error that names the argument unless there are some, all positive integers."""
    listed = check_iterable(name, sizes.tolist() if isinstance(sizes, Tensor) else sizes, of="sizes")
    if not listed:
        raise ValueError(f"{name} must list at least one size, got {sizes!r}")
    return tuple(check_integer(name, size, 1) for size in listed)
