"""Which calls in a forward pass down-sample a hidden state of shape (B, C, sides), judged by arguments and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

# Numbers of dimensions of a hidden state with one, two or three sides.
DIMENSIONS = (3, 4, 5)
_OTHERS = frozenset({"conv1d", "conv2d", "conv3d", "interpolate", "pixel_unshuffle"})
_REDUCTIONS = frozenset({"mean", "sum", "amax"})


class ChannelsLastError(ValueError):
    """A model down-samples hidden states whose channels are in the last dimension."""


def input_of(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The hidden state that a torch function may down-sample, or None for other functions.

    These are pooling, convolutions, ``interpolate``, ``pixel_unshuffle``, slices with steps along all sides, and
    averages, sums and maxima over all sides. With one side, slices and a reduction with ``keepdim`` do not count,
    because (B, length, features) looks the same, and there the last dimension is not a side.

    Raises:
        ChannelsLastError: A slice has steps along the sides of a hidden state with its channels last.
    """
    name = getattr(function, "__name__", "")
    hidden = args[0] if args else kwargs.get("input")
    if not isinstance(hidden, Tensor) or hidden.dim() not in DIMENSIONS:
        return None
    if name == "__getitem__":
        counts = _skips_positions(hidden, args[1])
    elif name in _REDUCTIONS:
        counts = _is_over_all_sides(hidden, args, kwargs)
    else:
        counts = "pool" in name or name in _OTHERS
    return hidden if counts else None


def shrinks(hidden: Tensor, output: Any) -> bool:
    """Whether a side of the output, a tensor with as many sides as ``hidden`` or none, is half as long or shorter."""
    output = output[0] if isinstance(output, tuple) else output  # with indices
    if hidden.dim() not in DIMENSIONS or not isinstance(output, Tensor) or output.dim() not in (2, hidden.dim()):
        return False
    large_sides = hidden.shape[2:]
    small_sides = output.shape[2:] or [1] * len(large_sides)
    return any(s < large and s <= math.ceil(large / 2) for large, s in zip(large_sides, small_sides, strict=True))


def _skips_positions(hidden: Tensor, index: Any) -> bool:
    steps = _steps(index if isinstance(index, tuple) else (index,), hidden.dim())
    if hidden.dim() == 3 or steps is None or steps[0] != 1:
        return False
    if steps[-1] == 1 and min(steps[1:-1]) > 1 and hidden.requires_grad:
        raise ChannelsLastError(
            "model must have its channels in dimension 1, but it takes every other position of a hidden state of shape "
            f"{tuple(hidden.shape)} along the dimensions before the last: without model, the gradients of the "
            "parameters are corrected instead"
        )
    return steps[1] == 1 and min(steps[2:]) > 1


def _steps(index: tuple[Any, ...], dimensions: int) -> list[int] | None:
    """The step along each dimension, or None if the index is more than slices."""
    if any(not isinstance(each, slice) and each is not Ellipsis for each in index):
        return None
    slices = [each for each in index if isinstance(each, slice)]
    at = next((i for i, each in enumerate(index) if each is Ellipsis), len(index))
    everything = [slice(None)] * (dimensions - len(slices))
    return [1 if each.step is None else int(each.step) for each in slices[:at] + everything + slices[at:]]


def _is_over_all_sides(hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    given = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    keeps = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    dimensions: list[Any] = list(given) if isinstance(given, tuple | list) else [given]
    if not all(isinstance(d, int) for d in dimensions) or (hidden.dim() == 3 and keeps):
        return False
    return {d % hidden.dim() for d in dimensions} == set(range(2, hidden.dim()))
