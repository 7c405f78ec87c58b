"""Bad calls of the convolutional optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Adam

from advanced_optimizers import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
from tests.bad_calls import BadCall

INF, NAN = math.inf, math.nan
CLASSES = (ConvolutionalSGD, LocalLossConvSGD, ConvolutionalSGDv2)
STEPS: tuple[Any, ...] = (-0.1, INF, NAN, "0.1", None, True, [0.1], float, torch.ones(2))
COUNTS: tuple[Any, ...] = (0, -4, 1.5, 4.0, NAN, "4", None, True, np.float64(2.0))
# Argument -> bad values. Each must be in the message as ``repr`` shows it.
SHARED: dict[str, tuple[Any, ...]] = {
    "lr": (-0.1, INF, NAN, "fast", None, True),
    "momentum": (-0.1, 1.0, 2, NAN, "0.9", None, False),
    "kernel_size": (2, 4, *COUNTS),
    "kernel": ("boxes", 3, 0.5, [0.5, 0.5, 0.5], (0.6, 0.3, 0.1), [1.0], [0.25, "half", 0.25], [True, 0, 0], {}),
    "axes": ("flat", 1, -1, (0,), (-3,), (-1, -1), (-2, -1, 0), [], (True,), (-1.0,), {-1}),
    "min_gain": (1.0, -1.1, NAN, INF, "0", None),
    "norm_preserving": (1, 0, "yes", None),
    "permute_axes": (-1, 1.5, 2**32, "seed", True, NAN),
    "base_optimizer_kwargs": (0.1, "lr", [("lr", 0.1)]),
    "base_optimizer": ("sgd", nn.ReLU, None, 3),
    "foreach": (1, 0, "yes"),
}
OWN: dict[type, dict[str, tuple[Any, ...]]] = {
    ConvolutionalSGD: {
        "kernel_lr": STEPS,
        "adaptive_kernel": (1, "no", None),
        "process_group": ("gloo", 0, True, [0, 1]),
    },
    LocalLossConvSGD: {"local_lr": STEPS, "smoothness_weight": STEPS, "kernel_every": COUNTS},
    ConvolutionalSGDv2: {
        "kernel_lr": STEPS,
        "noise_estimation_momentum": (-0.1, 1.0, NAN, "0.99", None, True),
        "smoothness_weight": STEPS,
        "signal_weight": STEPS,
        "kernel_every": COUNTS,
        "state_dtype": (torch.float16, torch.float32, torch.int32, "bfloat16", 16, True, float),
    },
}


def params() -> list[nn.Parameter]:
    return list(nn.Linear(5, 4).parameters())


def shown(argument: str, value: Any) -> str:
    """What the message must show of a value: of taps, the tap or the list."""
    bad_taps = {"[0.25, 'half', 0.25]": "'half'", "[True, 0, 0]": "True", "{}": "got 0"}
    return bad_taps.get(repr(value), repr(value)) if argument == "kernel" else repr(value)


def rows(kind: Any, call: str, make: Callable[..., Any], settings: dict[str, tuple[Any, ...]]) -> list[BadCall]:
    return [
        BadCall(
            f"{kind.__name__}{call}",
            argument,
            shown(argument, value),
            lambda argument=argument, value=value: make(kind, {argument: value}),
        )
        for argument, values in settings.items()
        for value in values
    ]


def made(kind: Any, settings: dict[str, Any]) -> Any:
    return kind(params(), **settings)


def in_a_group(kind: Any, settings: dict[str, Any]) -> Any:
    return kind([{"params": params(), **settings}])


def in_groups(kind: type) -> dict[str, tuple[Any, ...]]:
    """The hyperparameters alone, which a group may override."""
    not_in_groups = ("base_optimizer", "base_optimizer_kwargs", "process_group", "foreach", "state_dtype")
    return {name: values for name, values in {**SHARED, **OWN[kind]}.items() if name not in not_in_groups}


def loss_row(value: Any, shown: str) -> BadCall:
    """A closure's loss that the kernel cannot follow."""

    def run() -> None:
        optimizer = ConvolutionalSGD(params())
        optimizer.step(lambda: value)

    return BadCall("ConvolutionalSGD.step", "closure", shown, run)


def load_row(kind: Any, key: str, value: Any, shown: str) -> BadCall:
    """A state that is not the optimizer's."""

    def run() -> None:
        own = params()
        optimizer = kind(own)
        for p in own:
            p.grad = torch.ones_like(p)
        optimizer.step()
        state = optimizer.state_dict()
        state["state"][0][key] = value
        optimizer.load_state_dict(state)

    return BadCall(f"{kind.__name__}.load_state_dict", key, shown, run)


BAD_CALLS: list[BadCall] = [
    *(row for kind in CLASSES for row in rows(kind, "", made, {**SHARED, **OWN[kind]})),
    *(row for kind in CLASSES for row in rows(kind, "(group)", in_a_group, in_groups(kind))),
    BadCall(
        "ConvolutionalSGD over Adam",
        "momentum",
        "0.5",
        lambda: ConvolutionalSGD(params(), 0.1, 0.5, base_optimizer=Adam),
    ),
    BadCall(
        "ConvolutionalSGD with lr twice",
        "lr",
        "0.2",
        lambda: ConvolutionalSGD(params(), 0.1, base_optimizer_kwargs={"lr": 0.2}),
    ),
    loss_row("low", "'low'"),
    loss_row(torch.ones(3), "(3,)"),
    loss_row([0.5], "[0.5]"),
    loss_row(True, "True"),
    load_row(ConvolutionalSGDv2, "kernel", torch.ones(3), "tensor([1., 1., 1.])"),
    load_row(ConvolutionalSGDv2, "kernel", None, "None"),
    load_row(ConvolutionalSGDv2, "rounding", 2, "2"),
    load_row(ConvolutionalSGDv2, "signal", torch.ones(3), "(3,)"),
    load_row(ConvolutionalSGDv2, "signal", [1.0], "[1.0]"),
    load_row(ConvolutionalSGDv2, "seen", torch.tensor(-1), "-1"),
    load_row(ConvolutionalSGDv2, "memory", torch.ones(4, 5), "'memory'"),
    load_row(LocalLossConvSGD, "signal", torch.ones(4, 5), "'signal'"),
    load_row(LocalLossConvSGD, "order", torch.ones(20), "tensor([1., 1."),
]
