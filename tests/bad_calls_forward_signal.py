"""Bad calls of forward signal propagation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from advanced_optimizers import (
    LocalLoss,
    SigPropConvNet,
    SigPropNet,
    SigPropOptimizer,
    SigPropPipeline,
    SigPropSequential,
    create_sigprop_optimizer,
)
from tests.bad_calls import BadCall


def dense(**changed: Any) -> SigPropNet:
    return SigPropNet(**{"input_dim": 4, "hidden_dims": [6, 5], "output_dim": 3, **changed})


def images(**changed: Any) -> SigPropConvNet:
    return SigPropConvNet(**{"image_shape": (1, 8, 8), "channels": (4, 4), "num_classes": 3, **changed})


def sequential(**changed: Any) -> SigPropSequential:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    return SigPropSequential(**{"model": model, "input_shape": (4,), "num_classes": 3, **changed})


def optimizer(**changed: Any) -> SigPropOptimizer:
    return SigPropOptimizer(**{"net": dense(), **changed})


def create(**changed: Any) -> SigPropOptimizer:
    return create_sigprop_optimizer(**{"model": dense(), **changed})


def pipeline(**changed: Any) -> SigPropPipeline:
    return SigPropPipeline(**{"optimizer": optimizer(), "stages": 2, **changed})


X, Y = torch.zeros(5, 4), torch.tensor([0, 1, 2, 0, 1])


def learn(x: Any = X, y: Any = Y) -> object:
    return optimizer().learn(x, y)


def local_losses(x: Any = X, y: Any = Y) -> object:
    return dense().local_losses(x, y)


def submit(x: Any = X, y: Any = Y) -> object:
    with pipeline(costs=[1, 1, 1]) as opened:
        return opened.submit(x, y)


def learn_frozen() -> object:
    net = dense()
    trained = SigPropOptimizer(net)
    net.requires_grad_(False)
    return trained.learn(X, Y)


def submit_frozen() -> object:
    net = dense()
    trained = SigPropOptimizer(net)
    net.requires_grad_(False)
    with SigPropPipeline(trained, 2, costs=[1, 1, 1]) as opened:
        return opened.submit(X, Y)


def flat_image_model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(6, 3))


def load(change: Callable[[dict[str, Any]], Any]) -> object:
    trained = optimizer()
    trained.learn(X, Y)
    saved = trained.state_dict()
    changed = change(saved)
    trained.load_state_dict(saved if changed is None else changed)
    return trained


def with_base(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(saved: dict[str, Any]) -> None:
        saved["bases"][0] = value

    return change


def with_lr(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(saved: dict[str, Any]) -> None:
        saved["bases"][1]["param_groups"][0]["lr"] = value

    return change


def with_shown_lr(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(saved: dict[str, Any]) -> None:
        saved["param_groups"][0]["lr"] = value

    return change


def with_moment(value: Tensor) -> Callable[[dict[str, Any]], None]:
    def change(saved: dict[str, Any]) -> None:
        saved["bases"][1]["state"][0]["exp_avg"] = value

    return change


def rows(call: str, function: Callable[..., Any], argument: str, values: list[tuple[Any, str]]) -> list[BadCall]:
    """A row for each value of one argument, given with the text that the message must show."""
    return [
        BadCall(call, argument, text, lambda value=value: function(**{argument: value}))  # type: ignore[misc]
        for value, text in values
    ]


NOT_SIZES: list[tuple[Any, str]] = [
    *((5, "5"), ("64", "'64'"), (None, "None"), ([], "[]"), ([4, 0], "0"), ([4, -1], "-1"), ([4, 2.5], "2.5")),
    *(([4, "8"], "'8'"), ([4, True], "True"), ([4, math.nan], "nan"), ([[4, 4]], "[4, 4]"), (nn.Linear, "Linear")),
]
NOT_A_COUNT: list[tuple[Any, str]] = [
    *((0, "0"), (-3, "-3"), (2.5, "2.5"), ("8", "'8'"), (None, "None"), (True, "True"), ([8], "[8]")),
    *((math.nan, "nan"), (math.inf, "inf"), (torch.ones(2), "tensor")),
]
NOT_CLASSES = [*NOT_A_COUNT, (1, "1")]
NOT_POSITIVE: list[tuple[Any, str]] = [
    *((0.0, "0.0"), (-1.0, "-1.0"), (math.nan, "nan"), (math.inf, "inf"), ("1", "'1'"), (None, "None")),
    *((True, "True"), ([1.0], "[1.0]")),
]
NOT_A_RATE: list[tuple[Any, str]] = [
    *((-0.1, "-0.1"), (math.nan, "nan"), (math.inf, "inf"), ("0.1", "'0.1'"), (None, "None"), (True, "True")),
    *(([0.1], "[0.1]"), (torch.ones(2), "tensor"), (torch.tensor(-0.5), "-0.5"), (1j, "1j")),
]
NOT_A_FLAG: list[tuple[Any, str]] = [("no", "'no'"), (1, "1"), (None, "None"), (torch.ones(1), "tensor")]
NOT_A_LOSS: list[tuple[Any, str]] = [
    *(("labels_direct", "'labels_direct'"), (5, "5"), (None, "None"), (["cosine"], "['cosine']"), ("", "''")),
    *((nn.CrossEntropyLoss(), "CrossEntropyLoss()"), (LocalLoss, "LocalLoss"), (b"cosine", "b'cosine'")),
]
NOT_AN_OUTPUT: list[tuple[Any, str]] = [
    *(("target", "'target'"), (5, "5"), (None, "None"), (["targets"], "['targets']"), (True, "True")),
]
NOT_A_NETWORK: list[tuple[Any, str]] = [
    *((5, "5"), (None, "None"), ("net", "'net'"), (SigPropNet, "SigPropNet"), (nn.Linear(2, 2), "Linear")),
    *((nn.Sequential(nn.Linear(2, 2)), "Sequential"), ([torch.zeros(2)], "[tensor([0., 0.])]")),
]
NOT_AN_X: list[tuple[Any, str]] = [
    *((X.double(), "torch.float64"), (X.half(), "torch.float16"), (X.bfloat16(), "torch.bfloat16")),
    *((X.long(), "torch.int64"), (X.bool(), "torch.bool"), (X.to(torch.uint8), "torch.uint8"), (X[:0], "(0, 4)")),
    *((X.to(torch.complex64), "torch.complex64"), (X[:, :3], "(5, 3)"), (X[0], "(4,)"), (X.tolist(), "[[0.0")),
    *((None, "None"), ("x", "'x'"), (X.to("meta"), "meta"), (X.numpy(), "array(")),
]
NOT_A_Y: list[tuple[Any, str]] = [
    *((Y.float(), "torch.float32"), (Y.int(), "torch.int32"), (Y.bool(), "torch.bool"), (Y[:4], "(4,)")),
    *((Y[:, None], "(5, 1)"), (Y[0], "()"), (Y + 1, "3"), (Y - 1, "-1"), (Y.tolist(), "[0, 1, 2, 0, 1]")),
    *((None, "None"), (nn.functional.one_hot(Y, 3), "(5, 3)"), (Y.to("meta"), "meta"), (Y[:0], "(0,)")),
]
FROZEN = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).requires_grad_(False)

BAD_CALLS: list[BadCall] = [
    *rows("SigPropNet", dense, "input_dim", [*NOT_A_COUNT, ((4,), "(4,)")]),
    *rows("SigPropNet", dense, "hidden_dims", NOT_SIZES),
    *rows("SigPropNet", dense, "output_dim", NOT_CLASSES),
    *rows("SigPropNet", dense, "loss", NOT_A_LOSS),
    *rows("SigPropNet", dense, "output", NOT_AN_OUTPUT),
    *rows("SigPropNet", dense, "fixed_signal", NOT_A_FLAG),
    *rows("SigPropConvNet", images, "image_shape", [*NOT_SIZES, ((8, 8), "(8, 8)"), ((1, 3, 8), "(1, 3, 8)")]),
    *rows("SigPropConvNet", images, "channels", NOT_SIZES),
    *rows("SigPropConvNet", images, "num_classes", NOT_CLASSES),
    *rows("SigPropConvNet", images, "convolutions_per_stage", NOT_A_COUNT),
    *rows("SigPropConvNet", images, "width", NOT_POSITIVE),
    *rows(
        *("SigPropConvNet", images, "norm"),
        [("layer", "'layer'"), (5, "5"), (True, "True"), (["batch"], "['batch']"), (nn.BatchNorm2d, "BatchNorm2d")],
    ),
    *rows("SigPropConvNet", images, "loss", NOT_A_LOSS[:2]),
    *rows("SigPropConvNet", images, "output", NOT_AN_OUTPUT[:2]),
    *rows("SigPropConvNet", images, "fixed_signal", NOT_A_FLAG[:1]),
    *rows(
        *("SigPropSequential", sequential, "model"),
        [
            *((5, "5"), (None, "None"), (nn.Linear(4, 3), "Linear"), (nn.Sequential, "Sequential")),
            *(
                ([nn.Linear(4, 3)], "[Linear("),
                (nn.Sequential(), "[]"),
                (nn.Sequential(nn.Linear(4, 3)), "(0): Linear"),
            ),
            *((nn.Sequential(nn.Linear(4, 6), nn.ReLU()), "ReLU"), (flat_image_model(), "(4,)")),
        ],
    ),
    BadCall("SigPropSequential", "model", "(1): ReLU", lambda: sequential(model=FROZEN, output="targets")),
    *rows("SigPropSequential", sequential, "input_shape", [*NOT_SIZES, (6, "6"), ((5,), "(5,)"), ((2, 4), "(2, 3)")]),
    *rows("SigPropSequential", sequential, "num_classes", [*NOT_CLASSES, (5, "5")]),
    *rows("SigPropSequential", sequential, "loss", NOT_A_LOSS),
    *rows("SigPropSequential", sequential, "output", NOT_AN_OUTPUT),
    *rows("SigPropSequential", sequential, "fixed_signal", NOT_A_FLAG),
    *rows("LocalLoss", LocalLoss, "name", NOT_A_LOSS),
    *rows("LocalLoss", LocalLoss, "temperature", NOT_POSITIVE),
    *rows("LocalLoss", LocalLoss, "top_k", NOT_A_COUNT),
    *rows(
        "SigPropOptimizer", optimizer, "net", [*NOT_A_NETWORK, (dense().requires_grad_(False), "requires_grad=False")]
    ),
    *rows("SigPropOptimizer", optimizer, "lr", NOT_A_RATE),
    *rows("SigPropOptimizer", optimizer, "signal_lr", NOT_A_RATE),
    *rows("SigPropOptimizer", optimizer, "base_optimizer", [("adam", "'adam'"), (None, "None"), (nn.Linear, "Linear")]),
    *rows(
        *("SigPropOptimizer", optimizer, "base_optimizer_kwargs"),
        [(0.9, "0.9"), ("momentum", "'momentum'"), ([("betas", (0.9, 0.99))], "betas"), ({"lr": 0.25}, "0.25")],
    ),
    *rows("SigPropOptimizer", optimizer, "process_group", [("gloo", "'gloo'"), (0, "0"), (-100, "-100")]),
    *rows("create_sigprop_optimizer", create, "model", NOT_A_NETWORK),
    *rows("create_sigprop_optimizer", create, "lr", NOT_A_RATE),
    *rows("create_sigprop_optimizer", create, "signal_lr", NOT_A_RATE),
    *(
        row
        for call, function in (("learn", learn), ("local_losses", local_losses), ("submit", submit))
        for row in (*rows(call, function, "x", NOT_AN_X), *rows(call, function, "y", NOT_A_Y))
    ),
    BadCall("learn", "net", "requires_grad=False", learn_frozen),
    BadCall("submit", "net", "requires_grad=False", submit_frozen),
    *rows("step", lambda closure: optimizer().step(closure), "closure", [(5, "5"), (torch.ones(1), "tensor")]),
    BadCall("SigPropOptimizer.load_state_dict", "state_dict", "5", lambda: load(lambda saved: 5)),
    BadCall("SigPropOptimizer.load_state_dict", "state_dict", "None", lambda: optimizer().load_state_dict(None)),  # type: ignore[arg-type]
    BadCall("SigPropOptimizer.load_state_dict", "state_dict", "[]", lambda: load(lambda saved: {})),
    BadCall(
        "SigPropOptimizer.load_state_dict",
        "bases",
        "2 of them",
        lambda: load(lambda saved: {**saved, "bases": saved["bases"][:2]}),
    ),
    BadCall("SigPropOptimizer.load_state_dict", "bases", "['x']", lambda: load(with_base(["x"]))),
    BadCall("SigPropOptimizer.load_state_dict", "bases", "{'state': {}}", lambda: load(with_base({"state": {}}))),
    BadCall("SigPropOptimizer.load_state_dict", "lr", "-5", lambda: load(with_lr(-5))),
    BadCall("SigPropOptimizer.load_state_dict", "lr", "nan", lambda: load(with_lr(math.nan))),
    BadCall("SigPropOptimizer.load_state_dict", "lr", "'fast'", lambda: load(with_lr("fast"))),
    BadCall("SigPropOptimizer.load_state_dict", "lr", "-7", lambda: load(with_shown_lr(-7))),
    BadCall(
        "SigPropOptimizer.load_state_dict",
        "param_groups",
        "got []",
        lambda: load(lambda saved: saved | {"param_groups": []}),
    ),
    BadCall("SigPropOptimizer.load_state_dict", "exp_avg", "(2, 2)", lambda: load(with_moment(torch.zeros(2, 2)))),
    *rows(
        *("SigPropPipeline", pipeline, "optimizer"),
        [(5, "5"), (None, "None"), (SigPropOptimizer, "SigPropOptimizer'>"), (SGD([torch.zeros(1)]), "SGD")],
    ),
    *rows("SigPropPipeline", pipeline, "stages", [*NOT_A_COUNT, (4, "4")]),
    *rows("SigPropPipeline", pipeline, "queue_length", NOT_A_COUNT),
    *rows("SigPropPipeline", pipeline, "threads", NOT_A_COUNT),
    *rows(
        *("SigPropPipeline", pipeline, "costs"),
        [
            *((5, "5"), ("abc", "'abc'"), ([1, 2], "[1, 2]"), ([1, 2, -3], "-3"), ([1, 2, math.nan], "nan")),
            *(([1, 2, math.inf], "inf"), ([1, 2, "3"], "'3'"), ([1, 2, None], "None"), (torch.tensor(5.0), "5.0")),
        ],
    ),
]
