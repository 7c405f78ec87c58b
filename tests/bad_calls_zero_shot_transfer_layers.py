"""Bad calls of muTransfer: initial weights, layers and the coordinate check."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import advanced_optimizers as ours
from tests.bad_calls import BadCall
from tests.bad_calls_zero_shot_transfer import INF, NAN, rows_for
from tests.mu_models import batch, mlp, wide


def init(**kwargs: Any) -> object:
    given = {"module": kwargs.pop("module", None) or wide()[2], "initializer": nn.init.normal_, **kwargs}
    return ours.mu_init_(given.pop("module"), given.pop("initializer"), **given)


def init_of(module: Any) -> object:
    return ours.mu_init_(module, nn.init.normal_)


def kaiming(**kwargs: Any) -> object:
    return init(initializer=nn.init.kaiming_normal_, **kwargs)


def check(**kwargs: Any) -> object:
    given = {"models": {8: lambda: ours.set_base_shapes(mlp(8), None)}, "batch": batch("mlp"), **kwargs}
    given.setdefault("optimizer", lambda model: ours.MuSGD(model, lr=0.1))
    return ours.coordinate_check(given.pop("models"), given.pop("batch"), given.pop("optimizer"), **given)


def scale(**kwargs: Any) -> object:
    return ours.mu_attention_scale(**{"head_dim": 8, "base_head_dim": 8, **kwargs})


LAYERS = [
    *rows_for(
        "mu_init_",
        init,
        {
            "initializer": [("normal_", "'normal_'"), (nn.init.orthogonal_, "orthogonal_"), (None, "None")],
            "parameter": [(5, "5"), (None, "None")],
            "std": [(-1.0, "-1.0"), ("0.1", "'0.1'"), (None, "None")],
            "sdt": [(0.1, "0.1")],
            "mean": [(0.1, "0.1")],
        },
    ),
    *[
        BadCall("mu_init_", "module", shown, lambda value=value: init_of(value))
        for value, shown in ((None, "None"), ("fc", "'fc'"), (nn.Linear, "Linear"), (torch.zeros(2), "tensor"))
    ],
    *rows_for(
        "mu_init_(kaiming)", kaiming, {"mode": [("fan", "'fan'"), (1, "1")], "nonlinearity": [("rleu", "'rleu'")]}
    ),
    *rows_for(
        "MuReadout",
        lambda **kwargs: ours.MuReadout(**{"in_features": 8, "out_features": 3, **kwargs}),
        {
            "in_features": [(0, "0"), (-1, "-1"), ("8", "'8'"), (8.0, "8.0"), (None, "None")],
            "out_features": [(0, "0"), (2.5, "2.5")],
            "readout_zero_init": [("no", "'no'")],
            "output_mult": [(INF, "inf"), (0.0, "0.0"), (-1, "-1"), ("1", "'1'"), (None, "None")],
            "bias": [("no", "'no'")],
        },
    ),
    *rows_for(
        "MuReadoutConv2d",
        lambda **kwargs: ours.MuReadoutConv2d(**{"in_channels": 8, "out_channels": 3, "kernel_size": 1, **kwargs}),
        {"in_channels": [(0, "0"), ("8", "'8'")], "out_channels": [(None, "None")], "output_mult": [(NAN, "nan")]},
    ),
    *rows_for(
        "MuSharedReadout",
        lambda **kwargs: ours.MuSharedReadout(**{"weight": nn.Embedding(7, 8).weight, **kwargs}),
        {
            "weight": [(nn.Embedding(7, 8), "Embedding"), (torch.zeros(3, 4), "tensor"), (None, "None")],
            "bias": [("no", "'no'")],
            "output_mult": [(-1.0, "-1.0")],
        },
    ),
    *rows_for(
        "MuResidual",
        lambda **kwargs: ours.MuResidual(**{"branch": nn.ReLU(), **kwargs}),
        {"branch": [(None, "None"), (nn.ReLU, "ReLU"), (F.relu, "relu")], "shortcut": [("identity", "'identity'")]},
    ),
    *rows_for(
        "mu_attention_scale",
        scale,
        {
            "head_dim": [(0, "0"), (INF, "inf"), (NAN, "nan"), ("64", "'64'"), (None, "None")],
            "base_head_dim": [(-8, "-8"), ([8], "[8]")],
        },
    ),
]

COORDINATES = [
    *rows_for(
        "coordinate_check",
        check,
        {
            "models": [
                (None, "None"),
                ({}, "none"),
                ([mlp], "mlp"),
                ({8: mlp(8)}, "Sequential"),
                ({8: lambda: 5}, "5"),
                ({"8": mlp}, "'8'"),
                ({0: mlp}, "0"),
            ],
            "batch": [(None, "None"), ((1, 2, 3), "(1, 2, 3)"), (5, "5")],
            "optimizer": [(None, "None"), (torch.optim.SGD, "SGD"), (lambda model: "sgd", "'sgd'")],
            "loss": [("cross_entropy", "'cross_entropy'"), (None, "None")],
            "statistic": [("mean", "'mean'"), (torch.abs, "(8, 8)")],
            "modules": [("fc", "'fc'")],
            "steps": [(0, "0"), (2.5, "2.5"), ("3", "'3'"), (True, "True")],
            "seeds": [(0, "0"), (None, "None"), (-1, "-1")],
        },
    ),
    *rows_for(
        "coordinate_growth",
        ours.coordinate_growth,
        {
            "rows": [
                (None, "None"),
                (5, "5"),
                ("rows", "'rows'"),
                ([], "[]"),
                ([(8, 0, 1, "a", 1.0)], "(8, 0, 1, 'a', 1.0)"),
                ([ours.CoordinateRow(4, 0, 1, "a", 1.0)], "[4]"),
            ]
        },
    ),
]

BAD_CALLS: list[BadCall] = [*LAYERS, *COORDINATES]
