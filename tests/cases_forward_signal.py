"""The row of SigPropOptimizer: torch's contract for an optimizer of a network's layers.

The contract tests train the user's own modules with an ordinary loss, and the optimizer steps with these gradients like
any other. Its training by local losses is tested in ``test_forward_signal*.py``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW

from advanced_optimizers import SigPropOptimizer, SigPropSequential
from tests.case import BadValue, Case


def for_model(model: nn.Module, **settings: Any) -> SigPropOptimizer:
    """The optimizer of a model's own modules; every module with weights is a layer."""
    modules = model if isinstance(model, nn.Sequential) else nn.Sequential(model)
    first = next(module for module in modules if isinstance(module, nn.Linear | nn.Conv2d))
    shape = (1, 8, 8) if isinstance(first, nn.Conv2d) else (first.in_features,)
    classes = next(p for p in reversed(list(model.parameters()))).numel()
    return SigPropOptimizer(SigPropSequential(modules, shape, classes, output="targets"), **settings)


SIGPROP = Case(
    name="sigprop",
    build=for_model,
    variants={
        "adam": {"lr": 1e-2, "signal_lr": 1e-3},
        "sgd": {"lr": 0.1, "base_optimizer": SGD, "base_optimizer_kwargs": {"momentum": 0.9, "nesterov": True}},
        "weight decay": {"base_optimizer": AdamW, "base_optimizer_kwargs": {"weight_decay": 0.1}},
    },
    reference=None,  # needs the forward pass: test_forward_signal.py
    limit=None,  # as above
    group_override=({}, {}),
    newest_setting=("maximize", False),  # the base optimizer's, since it has none of its own
    bad_values=(
        BadValue({"lr": -0.1}, ValueError, r"lr must be >= 0.*got -0\.1"),
        BadValue({"lr": math.nan}, ValueError, "lr must be .*got nan"),
        BadValue({"lr": "fast"}, TypeError, "lr must be a number.*'fast'"),
        BadValue({"signal_lr": -0.1}, ValueError, r"signal_lr must be >= 0.*got -0\.1"),
        BadValue({"signal_lr": True}, TypeError, "signal_lr must be a number, got True"),
        BadValue({"base_optimizer": "adam"}, TypeError, "base_optimizer must be .*'adam'"),
        BadValue({"base_optimizer": nn.ReLU}, TypeError, "base_optimizer must .*ReLU"),
        BadValue({"base_optimizer": torch.optim.LBFGS}, ValueError, "LBFGS doesn't support per-parameter options"),
        BadValue({"base_optimizer_kwargs": {"lr": 0.1}}, ValueError, r"lr must be given as lr, .*got 0\.1"),
        BadValue({"base_optimizer_kwargs": 0.9}, TypeError, r"base_optimizer_kwargs must be a dict.*got 0\.9"),
    ),
    learning={"lr": 5e-3},
    for_model=for_model,
    learns_from_gradients=False,
)
