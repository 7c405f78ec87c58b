"""The rows of gradient correction without a model: one tensor at a time, as on the CPU, and all together."""

from __future__ import annotations

import dataclasses
import functools
import math

from torch import nn
from torch.optim import SGD, Adam, AdamW

from advanced_optimizers import GradientCorrectionOptimizer
from tests.case import SGD_KWARGS, BadValue, Case, TransformRun
from tests.reference.gradient_correction import GradientCorrection

GRADIENT_CORRECTION = Case(
    name="gradient correction",
    build=GradientCorrectionOptimizer,
    variants={
        "defaults over sgd": {"base_optimizer": SGD, "base_optimizer_kwargs": SGD_KWARGS},
        "strong, over adam": {
            "base_optimizer": Adam,
            "base_optimizer_kwargs": {"lr": 1e-2},
            "gcw_strength": 1.0,
            "gcode_strength": 0.7,
            "history_decay": 0.6,
            "predictor_lr": 0.1,
            "train_every": 1,
            "min_cosine": 0.97,
        },
        "gcw alone, weight decay": {
            "base_optimizer": AdamW,
            "base_optimizer_kwargs": {"lr": 1e-2, "weight_decay": 0.1},
            "gcw_strength": 0.5,
            "gcode_strength": 0.0,
        },
        "gcode alone": {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "weight_decay": 1e-2, "nesterov": True},
            "gcw_strength": 0.0,
            "gcode_strength": 2.0,
            "predictor_lr": 0.1,
            "min_cosine": 0.0,
            "train_every": 2,
        },
    },
    reference=lambda params, settings: TransformRun(
        params, settings, GradientCorrection, lambda correction, i: correction.state(i)
    ),
    limit=(
        {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "weight_decay": 0.01},
            "gcw_strength": 0.0,
            "gcode_strength": 0.0,
        },
        lambda params: SGD(params, **SGD_KWARGS, weight_decay=0.01),
    ),
    group_override=(
        {"lr": 0.01, "gcw_strength": 0.7, "gcode_strength": 0.0, "history_decay": 0.5, "predictor_lr": 0.2},
        {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "lr": 0.01},
            "gcw_strength": 0.7,
            "gcode_strength": 0.0,
            "history_decay": 0.5,
            "predictor_lr": 0.2,
        },
    ),
    newest_setting=("train_every", 4),
    bad_values=(
        BadValue({"base_optimizer_kwargs": {"lr": -0.1}}, ValueError, r"lr must be >= 0.*got -0\.1"),
        BadValue({"base_optimizer_kwargs": 1e-3}, TypeError, r"base_optimizer_kwargs must be .*0\.001"),
        BadValue({"gcw_strength": -0.1}, ValueError, r"gcw_strength must be >= 0.*got -0\.1"),
        BadValue({"gcw_strength": math.inf}, ValueError, r"gcw_strength must be .*got inf"),
        BadValue({"gcw_strength": True}, TypeError, r"gcw_strength must be a number, got True"),
        BadValue({"gcode_strength": -1}, ValueError, r"gcode_strength must be >= 0.*got -1"),
        BadValue({"gcode_strength": math.nan}, ValueError, r"gcode_strength must be .*got nan"),
        BadValue({"history_decay": 1.0}, ValueError, r"history_decay must be .*< 1.*got 1\.0"),
        BadValue({"history_decay": 0.0}, ValueError, r"history_decay must be > 0.*got 0\.0"),
        BadValue({"min_cosine": 1.1}, ValueError, r"min_cosine must be .*<= 1.*got 1\.1"),
        BadValue({"min_cosine": -0.1}, ValueError, r"min_cosine must be >= 0.*got -0\.1"),
        BadValue({"predictor_lr": -1.0}, ValueError, r"predictor_lr must be >= 0.*got -1\.0"),
        BadValue({"strength": 1.0}, TypeError, "strength"),
        BadValue({"train_every": 0}, ValueError, "train_every must be >= 1, got 0"),
        BadValue({"train_every": 1.5}, TypeError, r"train_every must be an integer, got 1\.5"),
        BadValue({"base_optimizer": nn.ReLU, "base_optimizer_kwargs": {}}, TypeError, "base_optimizer must .*ReLU"),
        BadValue(
            {"base_optimizer": GradientCorrectionOptimizer, "base_optimizer_kwargs": {}},
            ValueError,
            "cannot wrap.*gcode_strength",
        ),
    ),
    bad_overrides=(
        BadValue({"lr": -1.0}, ValueError, r"lr must be >= 0.*got -1\.0"),
        BadValue({"gcw_strength": -1.0}, ValueError, r"gcw_strength must be >= 0.*got -1\.0"),
        BadValue({"gcode_strength": math.inf}, ValueError, "gcode_strength must be .*got inf"),
        BadValue({"history_decay": 2}, ValueError, "history_decay must be .*got 2"),
        BadValue({"min_cosine": 2}, ValueError, "min_cosine must be .*got 2"),
        BadValue({"predictor_lr": -1}, ValueError, "predictor_lr must be .*got -1"),
        BadValue({"train_every": 0}, ValueError, "train_every must be >= 1.*got 0"),
    ),
    minimizing={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02}},
    learning={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 5e-3}, "gcw_strength": 0.5},
    is_transform=True,
)

TOGETHER = dataclasses.replace(
    GRADIENT_CORRECTION,
    name="correction together",
    build=functools.partial(GradientCorrectionOptimizer, foreach=True),
    bad_values=(BadValue({"foreach": 1}, TypeError, "foreach must be .*got 1"),),
    bad_overrides=(),
    not_applicable={
        name: "thousands of small steps are slow together; tests/test_together.py shows that each is that of one by one"
        for name in ("test_reaches_the_minimizer", "test_learns_the_digits")
    },
)
