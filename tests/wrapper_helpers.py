"""What the tests of ``WrappedOptimizer`` share: one of each kind of wrapper, trained for a few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from advanced_optimizers import ConvolutionalSGDv2, FEROptimizer, GradientCorrectionOptimizer, LocalLossConvSGD
from advanced_optimizers._base import WrappedOptimizer
from tests.cases_scaled import Scaled
from tests.harness import feed, make_gradients, make_params

Wrap = Callable[..., Any]

ADAM: dict[str, Any] = {"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 1e-2}}
WRAPPERS: dict[str, Wrap] = {
    "plain": lambda params: WrappedOptimizer(params, Adam, {"lr": 1e-2}, {}),
    "scaled": lambda params: Scaled(params, **ADAM),
    "fer": lambda params: FEROptimizer(params, **ADAM),
    "fer over sgd": lambda params: FEROptimizer(params, SGD, {"lr": 1e-2}),
    "correction": lambda params: GradientCorrectionOptimizer(params, **ADAM),
    "convolution": lambda params: ConvolutionalSGDv2(params, 1e-2, kernel_every=2),
    "fer over convolution over adam": lambda params: FEROptimizer(params, LocalLossConvSGD, ADAM),
    "fer over correction": lambda params: FEROptimizer(params, GradientCorrectionOptimizer, ADAM),
}
every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def trained(wrap: Wrap, rng: torch.Generator, steps: int = 3) -> tuple[Any, list[nn.Parameter]]:
    params = make_params(rng, shapes=[(5,), (4, 3)])
    optimizer = wrap(params)
    feed(optimizer, params, make_gradients(rng, params, steps))
    return optimizer, params


def chain(optimizer: Any) -> list[Any]:
    """The optimizer and those inside it."""
    inside = getattr(optimizer, "base", None)
    return [optimizer, *(chain(inside) if inside is not None else [])]
