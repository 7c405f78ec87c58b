"""The precision of a run: float32, or bfloat16 autocast, fast also where the processor has no bfloat16 instructions.

Without them, torch's convolutions in bfloat16 are more than ten times as slow as in float32. They are then computed in
float32 from factors rounded to bfloat16, and the result is rounded to bfloat16, forward and backward: what the
instructions do, up to the order of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_PRODUCTS = (torch.conv1d, torch.conv2d, torch.conv3d, F.linear)


def autocast_of(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Returns a function that makes a context for the forward pass.

    Args:
        precision: ``float32`` or ``bfloat16``; see ``RunConfig``.
        device: Where the model is.
    """
    enabled = precision == "bfloat16"
    if enabled and device.type == "cpu" and not has_bfloat16():
        return _emulated
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=enabled)


def has_bfloat16() -> bool:
    """Whether torch has fast products of bfloat16 tensors on this processor."""
    # Without this library, torch has no such function either.
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def _emulated() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16), _ProductsInFloat32():
        yield


class _ProductsInFloat32(TorchFunctionMode):
    """Computes convolutions and linear layers in float32, with their inputs and their output rounded to bfloat16."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls a function of torch, in its own way or in ours."""
        kwargs = kwargs or {}
        if func not in _PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            output: Tensor = func(*map(_rounded, args), **{name: _rounded(value) for name, value in kwargs.items()})
        return output.bfloat16()


def _rounded(value: Any) -> Any:
    """A tensor rounded to bfloat16, in float32; its gradient is rounded in the same way. Anything else as it is."""
    return value.bfloat16().float() if isinstance(value, Tensor) and value.is_floating_point() else value
