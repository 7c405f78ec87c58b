"""The rows of gradient-consistency FER: one tensor at a time, as on the CPU, and all together, as elsewhere."""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from advanced_optimizers import FEROptimizer
from tests.case import SGD_KWARGS, BadValue, Case, TransformRun
from tests.reference.fer import ConsistencyFER

FER = Case(
    name="fer",
    build=FEROptimizer,
    variants={
        "defaults over sgd": {"base_optimizer": SGD, "base_optimizer_kwargs": SGD_KWARGS},
        "adam": {"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 1e-2}, "fer_weight": 1.0, "memory_size": 4},
        "weight decay": {
            "base_optimizer": AdamW,
            "base_optimizer_kwargs": {"lr": 1e-2, "weight_decay": 0.1},
            "fer_weight": 0.5,
            "consistency_threshold": 0.2,
            "memory_size": 3,
        },
        "l2 and nesterov": {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "weight_decay": 1e-2, "nesterov": True},
            "fer_weight": 2.0,
            "consistency_threshold": 0.0,
            "memory_size": 10,
        },
        "last gradient only": {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {"lr": 0.1},
            "consistency_threshold": 1.0,
            "memory_size": 1,
        },
    },
    reference=lambda params, settings: TransformRun(
        params, settings, ConsistencyFER, lambda fer, i: {"memory": fer.memories[i]}
    ),
    limit=(
        {"base_optimizer": SGD, "base_optimizer_kwargs": {**SGD_KWARGS, "weight_decay": 0.01}, "fer_weight": 0.0},
        lambda params: SGD(params, **SGD_KWARGS, weight_decay=0.01),
    ),
    group_override=(
        {"lr": 0.01, "fer_weight": 0.7, "consistency_threshold": 0.5, "memory_size": 2},
        {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "lr": 0.01},
            "fer_weight": 0.7,
            "consistency_threshold": 0.5,
            "memory_size": 2,
        },
    ),
    newest_setting=("memory_size", 1000),
    bad_values=(
        BadValue({"base_optimizer_kwargs": {"lr": -0.1}}, ValueError, r"lr must be >= 0.*got -0\.1"),
        BadValue({"base_optimizer_kwargs": {"lr": "fast"}}, TypeError, r"lr must be a number.*'fast'"),
        BadValue({"base_optimizer_kwargs": 1e-3}, TypeError, r"base_optimizer_kwargs must be .*0\.001"),
        BadValue({"fer_weight": -0.1}, ValueError, r"fer_weight must be >= 0.*got -0\.1"),
        BadValue({"fer_weight": math.inf}, ValueError, r"fer_weight must be .*got inf"),
        BadValue({"fer_weight": math.nan}, ValueError, r"fer_weight must be .*got nan"),
        BadValue({"fer_weight": True}, TypeError, r"fer_weight must be a number, got True"),
        BadValue({"consistency_threshold": 1.1}, ValueError, r"consistency_threshold must be .*<= 1.*got 1\.1"),
        BadValue({"consistency_threshold": -1.1}, ValueError, r"consistency_threshold must be >= -1.*got -1\.1"),
        BadValue({"consistency_threshold": math.nan}, ValueError, r"consistency_threshold must be .*got nan"),
        BadValue({"memory_size": 0}, ValueError, r"memory_size must be >= 1.*got 0"),
        BadValue({"memory_size": 2.5}, TypeError, r"memory_size must be an integer, got 2\.5"),
        BadValue({"base_optimizer": "adam"}, TypeError, r"base_optimizer must be .*'adam'"),
        BadValue({"base_optimizer": nn.ReLU, "base_optimizer_kwargs": {}}, TypeError, "base_optimizer must .*ReLU"),
        BadValue({"base_optimizer": nn.Linear}, TypeError, "base_optimizer must .*Linear"),
        BadValue(
            {"base_optimizer": torch.optim.LBFGS}, ValueError, "base_optimizer must step without a closure.*LBFGS"
        ),
        BadValue({"base_optimizer": FEROptimizer, "base_optimizer_kwargs": {}}, ValueError, "cannot wrap.*fer_weight"),
    ),
    bad_overrides=(
        BadValue({"lr": -1.0}, ValueError, r"lr must be >= 0.*got -1\.0"),
        BadValue({"fer_weight": -1.0}, ValueError, r"fer_weight must be >= 0.*got -1\.0"),
        BadValue({"consistency_threshold": 2}, ValueError, "consistency_threshold must be .*got 2"),
        BadValue({"memory_size": 0}, ValueError, "memory_size must be >= 1.*got 0"),
    ),
    minimizing={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02}, "memory_size": 10},
    learning={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 5e-3}},
    is_transform=True,
)

FER_TOGETHER = dataclasses.replace(
    FER,
    name="fer together",
    build=functools.partial(FEROptimizer, foreach=True),
    bad_values=(BadValue({"foreach": 1}, TypeError, "foreach must be .*got 1"),),
    bad_overrides=(),
    not_applicable={
        name: "thousands of small steps are slow together; tests/test_together.py shows that each is that of fer"
        for name in ("test_reaches_the_minimizer", "test_learns_the_digits")
    },
)
