"""What torch's generic tests, rewritten, run over: each of torch's optimizers, alone and inside each wrapper."""

from __future__ import annotations

import importlib
import sys
import types
import unittest
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advanced_optimizers import ConvolutionalSGDv2, FEROptimizer, GradientCorrectionOptimizer
from advanced_optimizers._base import GradientTransform, WrappedOptimizer


def torchs_own_inputs() -> Any:
    """The module in which torch lists its optimizers and their settings.

    It is meant for a program of its own: importing it reads the command line, and needs the package ``expecttest`` for
    a base class of tests that nothing here uses.
    """
    arguments, sys.argv = sys.argv, sys.argv[:1]
    with_a_class = types.ModuleType("expecttest")
    with_a_class.__dict__["TestCase"] = unittest.TestCase
    sys.modules.setdefault("expecttest", with_a_class)
    try:
        return importlib.import_module("torch.testing._internal.common_optimizers")
    finally:
        sys.argv = arguments
        if sys.modules["expecttest"] is with_a_class:
            del sys.modules["expecttest"]


common = torchs_own_inputs()


class Nothing(GradientTransform):
    """``g' = g``."""

    def __init__(self, params: Any, base: Any, kwargs: dict[str, Any]) -> None:
        super().__init__(params, base, kwargs, {})

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        return grads


# Torch's tests leave out what is torch's default, where the convolutional optimizers have one of their own.
NO_MOMENTUM: dict[Any, dict[str, float]] = {torch.optim.SGD: {"momentum": 0.0}, torch.optim.RMSprop: {"momentum": 0.0}}

WRAPS: dict[str, Callable[..., Optimizer]] = {
    "bare": lambda params, base, kwargs: base(params, **kwargs),
    "wrapped": lambda params, base, kwargs: WrappedOptimizer(params, base, kwargs, {}),
    "nothing": Nothing,
    "fer": FEROptimizer,
    "fer together": lambda params, base, kwargs: FEROptimizer(params, base, kwargs, foreach=True),
    "correction": GradientCorrectionOptimizer,
    "correction together": lambda params, base, kwargs: GradientCorrectionOptimizer(params, base, kwargs, foreach=True),
    "convolution": lambda params, base, kwargs: ConvolutionalSGDv2(
        params, base_optimizer=base, base_optimizer_kwargs={**NO_MOMENTUM.get(base, {}), **kwargs}, kernel_every=1
    ),
}
INFOS = {
    info.optim_cls.__name__: info
    for info in common.optim_db
    if not info.step_requires_closure and not info.only_supports_sparse_grads
}


class Subject(NamedTuple):
    """One of torch's optimizers, inside a wrapper."""

    info: Any
    wrap: str

    def inputs(self) -> list[dict[str, Any]]:
        return [dict(each.kwargs) for each in self.info.optim_inputs_func(device="cpu")]

    def few(self) -> list[dict[str, Any]]:
        """Settings that differ in kind: the defaults, and the first that maximize or else decay weights."""
        inputs = self.inputs()
        special = [each for name in ("maximize", "weight_decay") for each in inputs if each.get(name)]
        return [inputs[0], *special[:1]]

    def build(self, params: Any, **kwargs: Any) -> Any:
        return WRAPS[self.wrap](params, self.info.optim_cls, kwargs)

    def made(self, **kwargs: Any) -> tuple[Any, list[nn.Parameter]]:
        """It, after two steps, and its parameters."""
        params = two()
        optimizer = self.build(params, **kwargs)
        run(optimizer, params, 2)
        return optimizer, params


def two(dtype: torch.dtype = torch.float32, *, strided: bool = False) -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    values = [torch.randn(*shape, 2, generator=rng, dtype=torch.float64).to(dtype) for shape in ((5, 3), (5, 1))]
    return [nn.Parameter(value[..., 0] if strided else value[..., 0].contiguous()) for value in values]


def loss_of(params: list[nn.Parameter]) -> Tensor:
    weight, bias = params[0], params[1]
    x = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).view(3, 4).to(weight.dtype)
    return (weight @ x + bias).abs().square().sum()


def run(optimizer: Any, params: list[nn.Parameter], steps: int) -> list[float]:
    """Trains, and returns the losses before each step and at the end."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(params)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [*losses, loss_of(params).item()]


def values(params: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


def innermost(state: dict[str, Any]) -> dict[str, Any]:
    return innermost(state["base"]) if "base" in state else state


def same(a: Any, b: Any) -> bool:
    """Whether two state dicts are equal bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.equal(b)
    return bool(a == b)


KINDS: dict[str, Callable[[Subject], None]] = {}


def kind(check: Callable[[Subject], None]) -> Callable[[Subject], None]:
    KINDS[check.__name__] = check
    return check
