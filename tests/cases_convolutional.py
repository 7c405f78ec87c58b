"""The rows of the convolutional optimizers."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import LBFGS, SGD, Adam, AdamW

from advanced_optimizers import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
from tests.case import SGD_KWARGS, BadValue, Case, Settings, TransformRun
from tests.reference import convolutional

OVER_SGD: Settings = {"base_optimizer": SGD, "base_optimizer_kwargs": SGD_KWARGS}
DECAYING: Settings = {"base_optimizer": AdamW, "base_optimizer_kwargs": {"lr": 1e-2, "weight_decay": 0.1}}
NESTEROV: Settings = {
    "base_optimizer": SGD,
    "base_optimizer_kwargs": {**SGD_KWARGS, "weight_decay": 1e-2, "nesterov": True},
}
LIMIT: Settings = {"base_optimizer": SGD, "base_optimizer_kwargs": {**SGD_KWARGS, "weight_decay": 0.01}}
WIDE = [0.05, 0.2, 0.5, 0.2, 0.05]


def plain_sgd(params: Any) -> SGD:
    return SGD(params, **SGD_KWARGS, weight_decay=0.01)


SHARED_BAD_VALUES = (
    *(BadValue({"lr": lr}, ValueError, rf"lr must be >= 0.*got {lr}") for lr in (-0.1, math.nan)),
    BadValue({"base_optimizer_kwargs": 1e-3}, TypeError, r"base_optimizer_kwargs must be .*0\.001"),
    BadValue({"base_optimizer": LBFGS}, ValueError, "base_optimizer must step without a closure.*LBFGS"),
    BadValue({"momentum": -0.1}, ValueError, r"momentum must be >= 0.*got -0\.1"),
    BadValue({"momentum": 1.0}, ValueError, r"momentum must be .*< 1.*got 1\.0"),
    BadValue({"kernel_size": 0}, ValueError, "kernel_size must be >= 1, got 0"),
    BadValue({"kernel_size": -1}, ValueError, "kernel_size must be >= 1, got -1"),
    BadValue({"kernel_size": 2}, ValueError, "kernel_size must be odd.*got 2"),
    BadValue({"kernel_size": 4.0}, TypeError, r"kernel_size must be an integer, got 4\.0"),
    BadValue({"kernel_size": True}, TypeError, "kernel_size must be an integer, got True"),
    BadValue({"kernel": "gauss"}, ValueError, "no kernel is named 'gauss'; did you mean gaussian"),
    BadValue({"kernel": 3}, TypeError, "kernel must be a list of taps, got 3"),
    BadValue({"kernel": [0.25, 0.5, 0.2]}, ValueError, "kernel must be symmetric"),
    BadValue({"kernel": [0.5, 0.5, 0.5]}, ValueError, "kernel must have the sum 1"),
    BadValue({"kernel": [0.6, -0.2, 0.6]}, ValueError, r"kernel must be >= 0.*got -0\.2"),
    BadValue({"kernel": WIDE}, ValueError, "kernel must have kernel_size=3 taps, got 5"),
    BadValue({"axes": (0,)}, ValueError, r"axes must be one of None.*got \(0,\)"),
    BadValue({"axes": "flat"}, ValueError, "axes must be one of None.*got 'flat'"),
    BadValue({"min_gain": 1.0}, ValueError, r"min_gain must be .*< 1.*got 1\.0"),
    BadValue({"min_gain": -1.5}, ValueError, r"min_gain must be >= -1.*got -1\.5"),
    BadValue({"norm_preserving": "no"}, TypeError, "norm_preserving must be True or False, got 'no'"),
    BadValue({"permute_axes": -1}, ValueError, "permute_axes must be >= 0, got -1"),
    BadValue({"permute_axes": 1.5}, TypeError, r"permute_axes must be an integer, got 1\.5"),
    BadValue(
        {"lr": 0.5, "base_optimizer_kwargs": {"lr": 0.1}}, ValueError, r"lr is given twice, as 0\.5 and .* as 0\.1"
    ),
    BadValue({"momentum": 0.5, "base_optimizer": Adam}, ValueError, r"momentum=0\.5 cannot be given .*Adam"),
)
SHARED_BAD_OVERRIDES = (
    BadValue({"lr": -1.0}, ValueError, r"lr must be >= 0.*got -1\.0"),
    BadValue({"momentum": 1.0}, ValueError, r"momentum must be .*< 1.*got 1\.0"),
    BadValue({"kernel_size": 2}, ValueError, "kernel_size must be odd.*got 2"),
    BadValue({"kernel": "boxy"}, ValueError, "no kernel is named 'boxy'"),
    BadValue({"axes": (-3,)}, ValueError, r"axes must be .*got \(-3,\)"),
    BadValue({"min_gain": 2}, ValueError, "min_gain must be .*got 2"),
)

CONVOLUTIONAL_SGD = Case(
    name="convolutional sgd",
    build=ConvolutionalSGD,
    variants={
        "defaults over sgd": OVER_SGD,
        "five taps, weight decay": {**DECAYING, "kernel_size": 5},
        "both axes, kept length": {**NESTEROV, "kernel_size": 5, "axes": (-2, -1), "norm_preserving": True},
        "last axis, box of seven": {**OVER_SGD, "kernel_size": 7, "axes": (-1,), "min_gain": -1.0},
        "first axis, own taps": {**OVER_SGD, "kernel_size": 5, "axes": (-2,), "kernel": WIDE},
    },
    reference=lambda params, settings: TransformRun(
        params, settings, convolutional.ConvolutionalSGD, lambda transform, i: {}
    ),
    limit=({**LIMIT, "kernel": "identity", "adaptive_kernel": False}, plain_sgd),
    group_override=(
        {"lr": 0.01, "kernel_size": 5, "kernel": WIDE, "axes": (-1,)},
        {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "lr": 0.01},
            "kernel_size": 5,
            "kernel": WIDE,
            "axes": (-1,),
        },
    ),
    newest_setting=("min_gain", 0.01),
    bad_values=(
        *SHARED_BAD_VALUES,
        BadValue({"kernel_lr": -0.1}, ValueError, r"kernel_lr must be >= 0.*got -0\.1"),
        BadValue({"kernel_lr": math.nan}, ValueError, "kernel_lr must be .*got nan"),
        BadValue({"kernel_lr": math.inf}, ValueError, "kernel_lr must be .*got inf"),
        BadValue({"adaptive_kernel": 1}, TypeError, "adaptive_kernel must be True or False, got 1"),
        BadValue(
            {"base_optimizer": LocalLossConvSGD, "base_optimizer_kwargs": {}}, ValueError, "cannot wrap.*kernel_size"
        ),
    ),
    bad_overrides=(*SHARED_BAD_OVERRIDES, BadValue({"kernel_lr": -1}, ValueError, "kernel_lr must be .*got -1")),
    minimizing={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02}},
    learning={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 5e-3}},
    is_transform=True,
    not_applicable={
        "test_closure_is_called_once_with_gradients_enabled_and_its_loss_returned": "a closure's loss moves the "
        "kernel, so training without one is another run; tests/test_convolutional_sgd.py tests its closures"
    },
)

LOCAL_LOSS = Case(
    name="local loss",
    build=LocalLossConvSGD,
    variants={
        "defaults over sgd": OVER_SGD,
        "fast, weight decay": {**DECAYING, "kernel_size": 5, "local_lr": 0.1, "smoothness_weight": 1.0},
        "both axes, no variance": {
            **NESTEROV,
            "kernel_size": 5,
            "axes": (-2, -1),
            "local_lr": 0.05,
            "smoothness_weight": 0.0,
            "kernel_every": 2,
        },
        "own taps, kept length": {**OVER_SGD, "local_lr": 0.1, "kernel": [0.2, 0.6, 0.2], "norm_preserving": True},
    },
    reference=lambda params, settings: TransformRun(
        params, settings, convolutional.local_loss, lambda transform, i: transform.state(i)
    ),
    limit=({**LIMIT, "kernel": "identity", "local_lr": 0.0}, plain_sgd),
    group_override=(
        {"lr": 0.01, "kernel_size": 5, "local_lr": 0.05, "smoothness_weight": 1.0},
        {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "lr": 0.01},
            "kernel_size": 5,
            "local_lr": 0.05,
            "smoothness_weight": 1.0,
        },
    ),
    newest_setting=("kernel_every", 1),
    bad_values=(
        *SHARED_BAD_VALUES,
        BadValue({"local_lr": -0.1}, ValueError, r"local_lr must be >= 0.*got -0\.1"),
        BadValue({"local_lr": math.nan}, ValueError, "local_lr must be .*got nan"),
        BadValue({"smoothness_weight": -1.0}, ValueError, r"smoothness_weight must be >= 0.*got -1\.0"),
        BadValue({"smoothness_weight": math.inf}, ValueError, "smoothness_weight must be .*got inf"),
        BadValue({"kernel_every": 0}, ValueError, "kernel_every must be >= 1, got 0"),
        BadValue(
            {"base_optimizer": ConvolutionalSGDv2, "base_optimizer_kwargs": {}}, ValueError, "cannot wrap.*kernel_size"
        ),
    ),
    bad_overrides=(*SHARED_BAD_OVERRIDES, BadValue({"local_lr": -1}, ValueError, "local_lr must be .*got -1")),
    minimizing={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02}},
    learning={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 5e-3}},
    is_transform=True,
)

VERSION_2 = Case(
    name="convolutional sgd v2",
    build=ConvolutionalSGDv2,
    variants={
        "defaults over sgd": OVER_SGD,
        "five taps, fast, weight decay": {
            **DECAYING,
            "kernel_size": 5,
            "kernel_lr": 0.1,
            "noise_estimation_momentum": 0.5,
            "kernel_every": 1,
        },
        "one line, kept length": {
            **NESTEROV,
            "kernel_size": 5,
            "axes": None,
            "kernel_every": 2,
            "norm_preserving": True,
        },
        "last axis, seven taps": {
            **OVER_SGD,
            "kernel_size": 7,
            "axes": (-1,),
            "kernel": [1 / 7] * 7,
            "kernel_every": 2,
            "smoothness_weight": 1.0,
            "signal_weight": 0.5,
        },
        "fixed": {**OVER_SGD, "kernel_size": 5, "kernel_lr": 0.0},
    },
    reference=lambda params, settings: TransformRun(
        params, settings, convolutional.version_2, lambda transform, i: transform.state(i)
    ),
    limit=({**LIMIT, "kernel": "identity", "kernel_lr": 0.0}, plain_sgd),
    group_override=(
        {"lr": 0.01, "kernel_size": 5, "kernel_lr": 0.05, "kernel_every": 2},
        {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "lr": 0.01},
            "kernel_size": 5,
            "kernel_lr": 0.05,
            "kernel_every": 2,
        },
    ),
    newest_setting=("signal_weight", 1.0),
    bad_values=(
        *SHARED_BAD_VALUES,
        BadValue({"kernel_lr": -0.1}, ValueError, r"kernel_lr must be >= 0.*got -0\.1"),
        BadValue({"kernel_lr": math.inf}, ValueError, "kernel_lr must be .*got inf"),
        BadValue({"noise_estimation_momentum": 1.0}, ValueError, r"noise_estimation_momentum must be .*got 1\.0"),
        BadValue({"noise_estimation_momentum": -0.1}, ValueError, r"noise_estimation_momentum must be .*got -0\.1"),
        BadValue({"smoothness_weight": -1.0}, ValueError, r"smoothness_weight must be >= 0.*got -1\.0"),
        BadValue({"signal_weight": -1.0}, ValueError, r"signal_weight must be >= 0.*got -1\.0"),
        BadValue({"kernel_every": 1.5}, TypeError, r"kernel_every must be an integer, got 1\.5"),
        BadValue(
            {"base_optimizer": ConvolutionalSGD, "base_optimizer_kwargs": {}}, ValueError, "cannot wrap.*kernel_size"
        ),
    ),
    bad_overrides=(
        *SHARED_BAD_OVERRIDES,
        BadValue({"kernel_lr": -1}, ValueError, "kernel_lr must be .*got -1"),
        BadValue({"kernel_every": 0}, ValueError, "kernel_every must be >= 1.*got 0"),
    ),
    minimizing={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02}},
    learning={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 5e-3}},
    is_transform=True,
)
