"""Bad calls of muTransfer: base shapes, the parametrization, the one call and the optimizers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import advanced_optimizers as ours
from tests.bad_calls import BadCall
from tests.mu_models import mlp, sizes_of, wide

NAN, INF = float("nan"), float("inf")
BASE, TARGET, TUNED = {"width": 8}, {"width": 32}, {"lr": 0.1}


def with_file(call: Callable[[Path], object], text: bytes) -> Callable[[], object]:
    """A call with the path of a file that is gone afterwards."""

    def run() -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shapes"
            path.write_bytes(text)
            return call(path)

    return run


def rows_for(call: str, run: Callable[..., object], values: dict[str, list[tuple[Any, str]]]) -> list[BadCall]:
    """One row per value; ``run`` takes the argument by name."""
    return [
        BadCall(call, argument, shown, lambda argument=argument, value=value: run(**{argument: value}))
        for argument, pairs in values.items()
        for value, shown in pairs
    ]


def set_shapes(**kwargs: Any) -> object:
    given = {"model": mlp(32), "base": mlp(8), **kwargs}
    return ours.set_base_shapes(given.pop("model"), given.pop("base"), **given)


def make_shapes(**kwargs: Any) -> object:
    return ours.make_base_shapes(**{"base": mlp(8), "delta": mlp(16), **kwargs})


def create(**kwargs: Any) -> object:
    given = {"base_model_config": BASE, "target_model_config": TARGET, "base_hyperparams": TUNED, **kwargs}
    return ours.create_mu_transfer_optimizer(given.pop("model", mlp(32, nn.Linear)), **given)


def tune(**hyperparams: Any) -> object:
    return create(base_hyperparams={"lr": 0.1, **hyperparams})


def sgd(**kwargs: Any) -> object:
    return ours.MuSGD(kwargs.pop("model", None) or wide(), **{"lr": 0.1, **kwargs})


def sgd_of(model: Any) -> object:
    return ours.MuSGD(model, lr=0.1)


def adam(**kwargs: Any) -> object:
    return ours.MuAdam(wide(), **{"lr": 0.1, **kwargs})


def adamw(**kwargs: Any) -> object:
    return ours.MuAdamW(wide(), **{"lr": 0.1, **kwargs})


def rates(**kwargs: Any) -> object:
    return ours.mu_learning_rates(**{"optimizer": sgd(), "lr": 0.1, **kwargs})


def sizes_with(**entries: Any) -> dict[str, Any]:
    return {**sizes_of(mlp(8)), **{name.replace("_", "."): dims for name, dims in entries.items()}}


ZERO_BASE = sizes_with(**{"0_weight": (0, 12), "0_bias": (0,)})
TORCH_SGD = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)

SHAPES = [
    *rows_for(
        "set_base_shapes",
        set_shapes,
        {
            "model": [("mlp", "'mlp'"), (nn.Linear, "Linear"), (None, "None"), (sizes_of(mlp(8)), "0.weight")],
            "base": [
                (3, "3"),
                (nn.Linear, "Linear"),
                ([mlp(8)], "Sequential"),
                ({"0.weight": 8}, "8"),
                (sizes_with(**{"0_weight": ("8", 12)}), "('8', 12)"),
                (sizes_with(**{"0_weight": (8.0, 12)}), "(8.0, 12)"),
                (sizes_with(**{"0_weight": (True, 12)}), "(True, 12)"),
                (ZERO_BASE, "0 in base"),
                (mlp(64), "64 -> 32"),
                (nn.Sequential(nn.Linear(12, 8)), "2.bias"),
            ],
            "delta": [(16, "16"), (mlp(8), "6 parameters"), (nn.Linear, "Linear"), ({"0.weight": "8"}, "'8'")],
            "rescale_params": [("no", "'no'"), (0, "0"), (None, "None")],
            "reinitialize": [("no", "'no'"), (1, "1")],
            "table": [(7, "7"), ("8", "'8'"), (None, "None"), ([8], "[8]")],
            "depth": [(4, "4")],
            "base_depth": [(2, "2")],
            "allow_wider_base": [("yes", "'yes'")],
            "file": [(5, "5"), (True, "True")],
        },
    ),
    *rows_for(
        "set_base_shapes, depths",
        lambda **kwargs: set_shapes(**{"depth": 4, "base_depth": 2, **kwargs}),
        {
            "depth": [(0, "0"), (-1, "-1"), (2.5, "2.5"), ("4", "'4'"), (NAN, "nan"), (4, "4")],
            "base_depth": [(0, "0"), (1.5, "1.5"), (True, "True")],
        },
    ),
    *rows_for(
        "set_base_shapes(base=sizes)",
        lambda **kwargs: set_shapes(base=sizes_of(mlp(8)), **kwargs),
        {"reinitialize": [(True, "dict")]},
    ),
    *rows_for(
        "set_base_shapes(rescale_params=False)",
        lambda **kwargs: set_shapes(rescale_params=False, **kwargs),
        {"reinitialize": [(True, "rescale_params=False")]},
    ),
    *rows_for(
        "get_base_shapes", ours.get_base_shapes, {"model": [("mlp", "'mlp'"), (None, "None"), (nn.ReLU, "ReLU")]}
    ),
    *rows_for(
        "make_base_shapes",
        make_shapes,
        {
            "base": [(5, "5"), (None, "None"), ({"a": 3}, "3"), (sizes_with(**{"0_bias": (None,)}), "(None,)")],
            "delta": [(5, "5"), (None, "None"), (mlp(8), "6 parameters"), (nn.Linear(2, 2), "weight")],
            "file": [(5, "5")],
        },
    ),
    *rows_for(
        "save_base_shapes",
        lambda **kwargs: ours.save_base_shapes(**{"shapes": {"a": (8, None)}, "file": "unused", **kwargs}),
        {
            "shapes": [(None, "None"), ([8], "[8]"), ({"a": 3}, "3"), ({5: [8]}, "5"), ({"a": [-1]}, "[-1]")],
            "file": [(5, "5"), (None, "None")],
        },
    ),
    *rows_for("load_base_shapes", ours.load_base_shapes, {"file": [(5, "5"), (None, "None")]}),
    *[
        BadCall(call, argument, shown, with_file(run, text))
        for call, argument, run in (
            ("load_base_shapes", "file", ours.load_base_shapes),
            ("set_base_shapes", "base", lambda path: set_shapes(base=path)),
        )
        for text, shown in (
            (b"fc.weight: 64", "fc.weight: 64"),
            (b"{broken", "shapes' contains no base shapes"),
            (b'{"a": [1.5]}', "[1.5]"),
            (b"[1, 2]", "[1, 2]"),
            (b"PK\x03\x04\xff\xff", "no base shapes: 'utf-8' codec"),
        )
    ],
]

ONE_CALL = [
    *rows_for(
        "create_mu_transfer_optimizer",
        create,
        {
            "model": [("mlp", "'mlp'"), (nn.Linear, "Linear"), (None, "None"), (nn.ReLU(), "ReLU"), (mlp(20), "32")],
            "base_model_config": [
                (64, "64"),
                ([("width", 8)], "('width', 8)"),
                ({}, "{}"),
                ({"widht": 8}, "'widht'"),
                ({"width": 8, "dept": 2}, "'dept'"),
                ({"width": "8"}, "'8'"),
                ({"width": 0}, "0"),
                ({"width": 8.5}, "8.5"),
                ({"width": None}, "None"),
                ({"width": 64}, "width 64"),
                ({"width": 8, 5: 5}, "5"),
            ],
            "target_model_config": [
                (None, "None"),
                ({"width": 0}, "0"),
                ({"width": -32}, "-32"),
                ({"width": "32"}, "'32'"),
                ({"width": NAN}, "nan"),
                ({"Widths": 32}, "'Widths'"),
            ],
            "base_hyperparams": [(0.1, "0.1"), (None, "None"), ({}, "{}"), ({"learning_rate": 0.1}, "'learning_rate'")],
            "optimizer": [("adamw", "'adamw'"), (torch.optim.AdamW, "AdamW"), (None, "None")],
            "rescale_params": [("no", "'no'")],
        },
    ),
    BadCall(
        "create_mu_transfer_optimizer",
        "depth",
        "{'width': 8, 'depth': 2}",
        lambda: create(base_model_config={"width": 8, "depth": 2}),
    ),
    BadCall(
        "create_mu_transfer_optimizer",
        "input_dim",
        "12",
        lambda: create(base_model_config={"width": 8, "input_dim": 12}),
    ),
    *rows_for(
        "create_mu_transfer_optimizer(base_hyperparams)",
        tune,
        {
            "lr": [(INF, "inf"), (NAN, "nan"), ("0.1", "'0.1'"), (None, "None"), (-0.1, "-0.1"), (True, "True")],
            "weight_decay": [(-1.0, "-1.0"), ("0.1", "'0.1'"), (INF, "inf")],
            "betas": [(0.9, "0.9"), ((0.9, 1.0), "1.0"), ("0.9", "'0.9'")],
            "eps": [(-1e-8, "-1e-08"), ("small", "'small'")],
            "amsgrad": [("no", "'no'")],
        },
    ),
]

OPTIMIZERS = [
    *rows_for(
        "MuSGD",
        sgd,
        {
            "params": [
                (5, "5"),
                ("weight", "'weight'"),
                ({"params": []}, "params"),
                ([], "none"),
                ([5], "got 5"),
                ([{"lr": 0.1}], "{'lr': 0.1}"),
                ([{"params": 5}], "tensors, got 5"),
                ([nn.Parameter(torch.zeros(3))], "(3,)"),
            ],
            "impl": [("sgd", "'sgd'"), (5, "5"), (nn.Linear, "Linear"), (None, "None")],
            "lr": [(INF, "inf"), (NAN, "nan"), (-0.1, "-0.1"), ("0.1", "'0.1'"), (None, "None"), ([0.1], "[0.1]")],
            "momentum": [(-0.9, "-0.9"), ("0.9", "'0.9'"), (INF, "inf")],
            "weight_decay": [(-1, "-1"), (NAN, "nan"), ("0", "'0'")],
            "nesterov": [("no", "'no'")],
            "maximize": [(1, "1")],
            "decoupled_wd": [("no", "'no'"), (None, "None")],
        },
    ),
    *[
        BadCall("MuSGD", "model", shown, lambda value=value: sgd_of(value))
        for value, shown in ((None, "NoneType"), ([nn.Linear(2, 2)], "list"), (nn.Linear, "type"))
    ],
    BadCall(
        "MuSGD",
        "momemtum",
        "0.5",
        lambda: (m := wide()) and ours.MuSGD(m, [{"params": list(m.parameters()), "momemtum": 0.5}], lr=0.1),
    ),
    BadCall(
        "MuSGD(group)",
        "lr",
        "inf",
        lambda: (m := wide()) and ours.MuSGD(m, [{"params": m.parameters(), "lr": INF}], lr=1),
    ),
    *rows_for(
        "MuAdam",
        adam,
        {
            "betas": [(0.9, "0.9"), ((0.9, 1.0), "1.0"), ((), "()"), ((0.9, "x"), "'x'"), (None, "None")],
            "eps": [(-1.0, "-1.0"), (None, "None"), (INF, "inf")],
            "lr": [(INF, "inf"), ("fast", "'fast'")],
            "amsgrad": [("no", "'no'")],
            "decoupled_wd": [("no", "'no'")],
            "impl": [(torch.nn.Linear, "Linear"), (1, "1")],
        },
    ),
    *rows_for("MuAdamW", adamw, {"impl": [(torch.optim.SGD, "SGD")], "decoupled_wd": [(2, "2")], "lr": [(-1, "-1")]}),
    *rows_for(
        "mu_learning_rates",
        rates,
        {
            "optimizer": [(None, "None"), ("sgd", "'sgd'"), (TORCH_SGD, "SGD")],
            "lr": [(INF, "inf"), (-1, "-1"), ("1", "'1'"), (None, "None")],
        },
    ),
]

BAD_CALLS: list[BadCall] = [*SHAPES, *ONE_CALL, *OPTIMIZERS]
