"""The candidate operations: each maps (B, C, H, W) to the same shape, so that they can be added."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_iterable, check_known

# channels -> a module. ``affine`` is whether its batch normalization has a scale and a shift, ``running`` whether it
# keeps running statistics.
BuildOperation = Callable[[int, bool, bool], nn.Module]


class Zero(nn.Module):
    """The operation ``none``: an edge that is not there. Zeros of the input's shape."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def _convolution(size: int, dilation: int = 1) -> BuildOperation:
    """ReLU, convolution, batch normalization. The padding keeps the size: dilation (size - 1) / 2 on each side."""

    def build(channels: int, affine: bool, running: bool) -> nn.Module:
        padding = dilation * (size - 1) // 2
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, size, padding=padding, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels, affine=affine, track_running_stats=running),
        )

    return build


def _pool(build_pool: Callable[[], nn.Module]) -> BuildOperation:
    """A pool, and batch normalization behind it, so that its output has the scale of the others'."""

    def build(channels: int, affine: bool, running: bool) -> nn.Module:
        return nn.Sequential(build_pool(), nn.BatchNorm2d(channels, affine=affine, track_running_stats=running))

    return build


# The eight operations of the source text, in its order.
OPERATIONS: tuple[str, ...] = (
    "conv_1x1",
    "conv_3x3",
    "conv_5x5",
    "max_pool_3x3",
    "avg_pool_3x3",
    "identity",
    "dilated_conv_3x3_2",
    "dilated_conv_3x3_3",
)
# The operation of an edge that is not there.
NONE = "none"
# What has no weights of its own, besides those of a normalization.
PARAMETER_FREE = frozenset({NONE, "max_pool_3x3", "avg_pool_3x3", "identity"})

_BUILD: Mapping[str, BuildOperation] = {
    "conv_1x1": _convolution(1),
    "conv_3x3": _convolution(3),
    "conv_5x5": _convolution(5),
    "max_pool_3x3": _pool(lambda: nn.MaxPool2d(3, stride=1, padding=1)),
    "avg_pool_3x3": _pool(lambda: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)),
    "identity": lambda channels, affine, running: nn.Identity(),
    "dilated_conv_3x3_2": _convolution(3, dilation=2),
    "dilated_conv_3x3_3": _convolution(3, dilation=3),
    NONE: lambda channels, affine, running: Zero(),
}


def make_operation(name: str, channels: int, *, affine: bool = True, running: bool = True) -> nn.Module:
    """One operation on ``channels`` channels at stride 1.

    Args:
        name: One of :data:`OPERATIONS`, or ``none``.
        channels: C >= 1, of its input and its output.
        affine: Whether its batch normalization learns a scale and a shift. The published search does without: they
            would rescale the operation and so compete with its weight.
        running: Whether its batch normalization keeps running statistics for evaluation.
    """
    check_known("operation", name, _BUILD)
    return _BUILD[name](check_integer("channels", channels, low=1), affine, running)


def check_operations(operations: Iterable[str] | None, num_ops: int | None = None) -> tuple[str, ...]:
    """The names of at least two known operations, or an error.

    Args:
        operations: Names; None for the first ``num_ops`` of :data:`OPERATIONS`.
        num_ops: How many there must be; None for any number.
    """
    if operations is None:
        wanted = check_integer("num_ops", len(OPERATIONS) if num_ops is None else num_ops, low=2)
        if wanted > len(OPERATIONS):
            raise ValueError(f"num_ops must be at most {len(OPERATIONS)} unless operations are named, got {wanted}")
        return OPERATIONS[:wanted]
    names = tuple(check_iterable("operations", operations, "names of operations"))
    for name in names:
        check_known("operation", name, _BUILD)
    if len(names) < 2:
        raise ValueError(f"operations must be at least two, for there is nothing to choose otherwise, got {names}")
    if num_ops is not None and len(names) != num_ops:
        raise ValueError(f"num_ops must be the number of operations, {len(names)}, got {num_ops}")
    return names
