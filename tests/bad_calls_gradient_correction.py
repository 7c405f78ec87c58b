"""Bad calls of gradient correction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import SGD

from advanced_optimizers import GradientCorrectionOptimizer, create_gradient_correction_optimizer
from tests.architectures import Gpt
from tests.bad_calls import BadCall
from tests.gradient_correction_models import EXAMPLE, small_net

INF, NAN = math.inf, math.nan
# Argument -> bad values. Each must be in the message as ``repr`` shows it.
SETTINGS: dict[str, tuple[Any, ...]] = {
    "gcw_strength": (-0.1, INF, NAN, "0.1", None, True, [0.1], float, torch.ones(2)),
    "gcode_strength": (-1, -INF, NAN, "strong", None, False, 1j),
    "history_decay": (0.0, 1.0, -0.5, 2, NAN, "0.9", None),
    "min_cosine": (-0.1, 1.1, NAN, INF, "half", None),
    "predictor_lr": (-1e-3, INF, NAN, "1e-3", None, {}),
    "train_every": (0, -4, 1.5, 4.0, NAN, "4", None, True, np.float64(2.0)),
}


def optimizer(**settings: Any) -> GradientCorrectionOptimizer:
    return GradientCorrectionOptimizer(nn.Linear(3, 2).parameters(), SGD, {"lr": 0.1}, **settings)


def created(**settings: Any) -> GradientCorrectionOptimizer:
    return create_gradient_correction_optimizer(nn.Linear(3, 2).parameters(), **settings)


def with_model(model: Any, example_input: Any) -> GradientCorrectionOptimizer:
    return GradientCorrectionOptimizer(nn.Linear(3, 2).parameters(), model=model, example_input=example_input)


def rows(call: str, make: Any, settings: dict[str, tuple[Any, ...]]) -> list[BadCall]:
    return [
        BadCall(call, argument, repr(value), lambda argument=argument, value=value: make(**{argument: value}))
        for argument, values in settings.items()
        for value in values
    ]


def in_a_group(**settings: Any) -> GradientCorrectionOptimizer:
    group = {"params": list(nn.Linear(3, 2).parameters()), **settings}
    return GradientCorrectionOptimizer([group], SGD, {"lr": 0.1})


def added(**settings: Any) -> None:
    optimizer().add_param_group({"params": list(nn.Linear(3, 2).parameters()), **settings})


def frozen() -> nn.Module:
    return small_net().requires_grad_(False)


def channels_last() -> nn.Module:
    class Merging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(1, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x.movedim(1, -1))[:, ::2, ::2, :]

    return Merging()


def loaded(**changed: Any) -> None:
    made = optimizer()
    made.load_state_dict({**made.state_dict(), **changed})


def loaded_rounding(rounding: Any) -> None:
    p = nn.Parameter(torch.zeros(2, 2))
    made = GradientCorrectionOptimizer([p], state_dtype=torch.bfloat16)
    p.grad = torch.ones(2, 2)
    made.step()
    saved = made.state_dict()
    saved["state"][0] = {**saved["state"][0], "rounding": rounding}
    made.load_state_dict(saved)


CLASS = "GradientCorrectionOptimizer"
IN_A_GROUP = {name: values[:2] for name, values in SETTINGS.items()}
BAD_CALLS = [
    *rows(CLASS, optimizer, SETTINGS),
    *rows(CLASS, optimizer, {"state_dtype": (torch.float16, torch.float32, torch.int32, "bfloat16", 16, True, float)}),
    *rows(f"{CLASS}.load_state_dict", loaded_rounding, {"rounding": (None, "1", 1.5, True, 2, 2**64 + 1)}),
    *rows(f"{CLASS}, a group", in_a_group, IN_A_GROUP),
    *rows(f"{CLASS}.add_param_group", added, IN_A_GROUP),
    *rows(
        CLASS,
        lambda **given: GradientCorrectionOptimizer(nn.Linear(3, 2).parameters(), SGD, **given),
        {"base_optimizer_kwargs": (1e-3, [("lr", 0.1)], "lr")},
    ),
    *rows(
        CLASS,
        lambda **given: GradientCorrectionOptimizer(nn.Linear(3, 2).parameters(), **given),
        {"base_optimizer": ("adam", None, nn.ReLU, 3)},
    ),
    BadCall(CLASS, "model", "'resnet18'", lambda: with_model("resnet18", EXAMPLE)),
    BadCall(CLASS, "model", repr(nn.Linear), lambda: with_model(nn.Linear, EXAMPLE)),
    BadCall(CLASS, "model", "[Parameter", lambda: with_model(list(nn.Linear(1, 1).parameters()), EXAMPLE)),
    BadCall(CLASS, "model", "Linear has neither", lambda: with_model(nn.Linear(8, 2), EXAMPLE)),
    BadCall(CLASS, "model", "Gpt has neither", lambda: with_model(Gpt(), torch.zeros(2, 8, dtype=torch.int64))),
    BadCall(CLASS, "model", "Sequential has none, or all are frozen", lambda: with_model(frozen(), EXAMPLE)),
    BadCall(CLASS, "model", "Flatten has none, or all", lambda: with_model(nn.Flatten(), EXAMPLE)),
    BadCall(CLASS, "model", "none of params is in this Sequential", lambda: with_model(small_net(), EXAMPLE)),
    BadCall(CLASS, "model", "(2, 8, 8, 4)", lambda: with_model(channels_last(), EXAMPLE)),
    BadCall(CLASS, "example_input", "None", lambda: with_model(small_net(), None)),
    BadCall(CLASS, "example_input", "(2, 1, 8, 8)", lambda: with_model(small_net(), (2, 1, 8, 8))),
    BadCall(CLASS, "example_input", "array([0., 0.])", lambda: with_model(small_net(), np.zeros(2))),
    BadCall(CLASS, "example_input", "torch.float64", lambda: with_model(small_net(), EXAMPLE.double())),
    BadCall(CLASS, "example_input", "torch.int64", lambda: with_model(small_net(), EXAMPLE.long())),
    BadCall(CLASS, "example_input", "(2, 3, 8, 8)", lambda: with_model(small_net(), torch.zeros(2, 3, 8, 8))),
    BadCall(CLASS, "example_input", "(0, 1, 8, 8)", lambda: with_model(small_net(), EXAMPLE[:0])),
    BadCall(CLASS, "example_input", "(1, 8, 8) without", lambda: with_model(None, EXAMPLE[0])),
    BadCall(CLASS, "example_input", "'images' without", lambda: with_model(None, "images")),
    *rows(
        "create_gradient_correction_optimizer",
        created,
        {
            "lr": (-1e-3, INF, NAN, "1e-3", None, True, SGD),
            "use_gcw": ("no", "False", 0, 1.0, None),
            "use_gcode": ("yes", 1, None, []),
            "gcw_strength": (-0.1, INF, NAN, "0.1", None),
            "device": ("banana", "cuda", "cuda:7", "cpu:x", 3, -1, 0.5, [], torch.float32, torch.device("meta")),
        },
    ),
    BadCall(
        "create_gradient_correction_optimizer",
        "gcw_strength",
        "-2.0",
        lambda: created(use_gcw=False, gcw_strength=-2.0),
    ),
    BadCall(
        "create_gradient_correction_optimizer",
        "example_input",
        "(2, 1, 8, 8) without model",
        lambda: created(example_input=EXAMPLE),
    ),
    BadCall(f"{CLASS}.load_state_dict", "hidden", "got 5", lambda: loaded(hidden=5)),
    BadCall(f"{CLASS}.load_state_dict", "history", "got 5", lambda: loaded(history=5)),
    BadCall("create_gradient_correction_optimizer", "model", "'net'", lambda: created(model="net")),
]
