"""The row of selective localized learning."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Adam

from advanced_optimizers import LocalizedOptimizer, create_localized_optimizer
from tests.case import BadValue, Case, Settings

MOMENTUM: Settings = {"momentum": 0.9}
# After the first end_epoch, all blocks but the last are localized.
AT_ONCE: Settings = {"lr": 0.1, "selection_mode": "static", "total_epochs": 1}


def build(model: nn.Module, **settings: Any) -> LocalizedOptimizer:
    """The optimizer after its first epoch; with ``AT_ONCE`` all blocks but the last are localized."""
    optimizer = create_localized_optimizer(model, **settings)
    optimizer.end_epoch(1.0)
    return optimizer


LOCALIZED = Case(
    name="localized",
    build=build,
    variants={
        "hebbian": {**AT_ONCE, "base_optimizer_kwargs": MOMENTUM},
        "oja and weight decay": {
            **AT_ONCE,
            "hebbian_lr": 0.01,
            "rule": "oja",
            "update_every": 3,
            "base_optimizer_kwargs": {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2, "fused": True},
        },
        "random": {**AT_ONCE, "rule": "random", "update_every": 1},
        "frozen": {**AT_ONCE, "rule": "frozen"},
        "dynamic over adam": {"lr": 0.01, "base_optimizer": Adam},
    },
    reference=None,  # needs the forward pass: test_localized_learning.py
    limit=None,  # as above
    group_override=({}, {}),
    newest_setting=("hebbian_lr", 0.001),
    bad_values=(
        BadValue({"lr": -0.1}, ValueError, r"lr must be >= 0.*got -0\.1"),
        BadValue({"lr": 0.0}, ValueError, r"lr must be > 0.*got 0\.0"),
        BadValue({"lr": "fast"}, TypeError, "lr must be a number.*'fast'"),
        BadValue({"lr": 0.1, "hebbian_lr": -1e-3}, ValueError, r"hebbian_lr must be >= 0.*got -0\.001"),
        BadValue({"lr": 0.1, "hebbian_lr": math.nan}, ValueError, "hebbian_lr must be .*got nan"),
        BadValue({"lr": 0.1, "selection_mode": "fixed"}, ValueError, "selection_mode must be .*got 'fixed'"),
        BadValue({"lr": 0.1, "weak_supervision_weight": -1}, ValueError, "weak_supervision_weight must be .*got -1"),
        BadValue({"lr": 0.1, "weak_supervision_weight": math.inf}, ValueError, "weak_supervision_weight .*got inf"),
        BadValue({"lr": 0.1, "rule": "anti"}, ValueError, "rule must be 'hebbian' or .*'frozen', got 'anti'"),
        BadValue({"lr": 0.1, "update_every": 0}, ValueError, "update_every must be >= 1.*got 0"),
        BadValue({"lr": 0.1, "update_every": 1.5}, TypeError, r"update_every must be an integer, got 1\.5"),
        BadValue({"lr": 0.1, "alpha": -1.0}, ValueError, r"alpha must be >= 0.*got -1\.0"),
        BadValue({"lr": 0.1, "shift": 0}, ValueError, "shift must be >= 1.*got 0"),
        BadValue({"lr": 0.1, "total_epochs": 0}, ValueError, "total_epochs must be >= 1.*got 0"),
        BadValue({"lr": 0.1, "warmup": 1.0}, ValueError, r"warmup must be .*< 1.*got 1\.0"),
        BadValue({**AT_ONCE, "warmup": -0.1}, ValueError, r"warmup must be >= 0.*got -0\.1"),
        BadValue({**AT_ONCE, "total_epochs": 2.0}, TypeError, r"total_epochs must be an integer, got 2\.0"),
        BadValue({**AT_ONCE, "power": 0.0}, ValueError, r"power must be > 0.*got 0\.0"),
        BadValue({"lr": 0.1, "base_optimizer": "sgd"}, TypeError, "base_optimizer must be .*'sgd'"),
        BadValue({"lr": 0.1, "base_optimizer": torch.optim.LBFGS}, ValueError, "must step without a closure.*LBFGS"),
        BadValue({"lr": 0.1, "base_optimizer_kwargs": {"lr": 0.2}}, ValueError, "base_optimizer_kwargs .*without lr"),
        BadValue({"lr": 0.1, "base_optimizer_kwargs": 0.9}, ValueError, r"base_optimizer_kwargs must be .*got 0\.9"),
        BadValue({"lr": 0.1}, ValueError, "model must have at least two blocks .*got 1"),
    ),
    learning={"lr": 0.2, "base_optimizer_kwargs": MOMENTUM},
    for_model=build,
    learns_from_gradients=False,
)
