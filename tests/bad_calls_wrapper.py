"""Bad calls of a wrapped optimizer: FER's constructors, ``add_param_group`` and ``load_state_dict``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer

from advanced_optimizers import FEROptimizer, create_fer_optimizer
from tests.bad_calls import BadCall


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape or (2,)))


def optimizer() -> FEROptimizer:
    """It has made a step."""
    p = parameter(3)
    made = FEROptimizer([p])
    p.grad = torch.ones(3)
    made.step()
    return made


def built(argument: str, value: Any, text: str = "") -> BadCall:
    return BadCall(
        "FEROptimizer", argument, text or repr(value), lambda: FEROptimizer([parameter()], **{argument: value})
    )


def on_params(value: Callable[[], Any], text: str) -> BadCall:
    return BadCall("FEROptimizer", "params", text, lambda: FEROptimizer(value()))


def with_kwargs(argument: str, value: Any, text: str = "") -> BadCall:
    call = "FEROptimizer(base_optimizer_kwargs)"
    kwargs = {"lr": 1e-3} | {argument: value}
    return BadCall(call, argument, text or repr(value), lambda: FEROptimizer([parameter()], torch.optim.Adam, kwargs))


def created(argument: str, value: Any, text: str = "") -> BadCall:
    call = "create_fer_optimizer"
    return BadCall(
        call, argument, text or repr(value), lambda: create_fer_optimizer([parameter()], **{argument: value})
    )


def added(argument: str, value: Any, text: str = "") -> BadCall:
    return BadCall(
        "add_param_group",
        argument,
        text or repr(value),
        lambda: optimizer().add_param_group({"params": [parameter()], argument: value}),
    )


def loaded(argument: str, value: Any, text: str = "") -> BadCall:
    """A checkpoint with a value of its only group changed."""

    def run() -> None:
        made = optimizer()
        state = made.state_dict()
        state["param_groups"][0][argument] = value
        made.load_state_dict(state)

    return BadCall("load_state_dict(param_groups)", argument, text or repr(value), run)


def loaded_as(argument: str, text: str, change: Callable[[dict[str, Any]], Any]) -> BadCall:
    def run() -> None:
        made = optimizer()
        made.load_state_dict(change(made.state_dict()))

    return BadCall("load_state_dict", argument, text, run)


def of_bare_adam(state: dict[str, Any]) -> dict[str, Any]:
    groups = [{"lr": 0.1, "params": [0]}]
    return {"state": {0: state["state"][0]["base"]}, "param_groups": groups}


def non_leaf() -> torch.Tensor:
    return parameter(2) * 2


def twice() -> list[dict[str, Any]]:
    p = parameter(7)
    return [{"params": [p]}, {"params": [p]}]


def assigned(value: Any, text: str) -> BadCall:
    return BadCall("param_groups = ", "param_groups", text, lambda: setattr(optimizer(), "param_groups", value))


BAD_CALLS: list[BadCall] = [
    on_params(lambda: 5, "5"),
    on_params(lambda: None, "None"),
    on_params(lambda: "weights", "'weights'"),
    on_params(lambda: parameter(), "one Tensor"),
    on_params(lambda: [], "[]"),
    on_params(lambda: iter(()), "empty"),
    on_params(lambda: [3], "got 3"),
    on_params(lambda: [nn.Linear(2, 2)], "Linear(in_features=2"),
    on_params(lambda: nn.Linear(3, 2), "Linear(in_features=3"),
    on_params(lambda: [{"lr": 0.1}], "['lr']"),
    on_params(lambda: [{"params": 5}], "got 5"),
    on_params(lambda: [{"params": None}], "got None"),
    on_params(lambda: [{"params": "all"}], "'all'"),
    on_params(lambda: [{"params": [1.5]}], "got 1.5"),
    on_params(lambda: {"params": [1]}, "{'params': [1]}"),
    on_params(lambda: [non_leaf()], "MulBackward"),
    on_params(lambda: [{"params": [non_leaf()]}], "(2,)"),
    on_params(twice, "(7,)"),
    on_params(lambda: [{"params": {parameter()}}], "a set"),
    BadCall(
        "FEROptimizer(group)",
        "fer_wieght",
        "0.75",
        lambda: FEROptimizer([{"params": [parameter()], "fer_wieght": 0.75}]),
    ),
    built("base_optimizer", "adam"),
    built("base_optimizer", 3),
    built("base_optimizer", None),
    built("base_optimizer", nn.ReLU, "ReLU"),
    built("base_optimizer", Optimizer, "torch.optim.optimizer.Optimizer"),
    built("base_optimizer", LBFGS, "LBFGS"),
    built("base_optimizer", lambda params, lr: nn.Identity(), "Identity"),
    built("base_optimizer_kwargs", 1e-3),
    built("base_optimizer_kwargs", [0.1]),
    built("base_optimizer_kwargs", "lr=0.1"),
    *(built("fer_weight", value) for value in (-0.1, math.inf, math.nan, "0.1", None, True, [0.1])),
    *(built("consistency_threshold", value) for value in (1.1, -1.1, math.nan, "high", None, False)),
    *(built("memory_size", value) for value in (0, -3, 2.5, math.inf, "1000", None, True)),
    *(with_kwargs("lr", value) for value in (-1.0, math.inf, math.nan, "fast", None, True)),
    with_kwargs("lr", torch.tensor([0.1, 0.2]), "tensor([0.1000, 0.2000])"),
    *(with_kwargs("betas", value) for value in (0.9, (0.9,), None, (2.0, 0.5), "ab")),
    *(with_kwargs("eps", value) for value in (-1.0, "small")),
    *(with_kwargs("weight_decay", value) for value in (-0.5, "none")),
    with_kwargs("momentum", 0.9),
    *(created("lr", value) for value in (-1.0, math.inf, math.nan, "fast", None)),
    *(created("fer_weight", value) for value in (-1.0, math.inf, "a")),
    *(created("consistency_threshold", value) for value in (2.0, math.nan, "a")),
    BadCall("create_fer_optimizer", "params", "5", lambda: create_fer_optimizer(5)),  # type: ignore[arg-type]
    *(added("lr", value) for value in (-1.0, math.inf, math.nan, "fast", None)),
    *(added("fer_weight", value) for value in (-1.0, math.inf, "a", None)),
    *(added("consistency_threshold", value) for value in (2.0, "a")),
    *(added("memory_size", value) for value in (0, 1.5)),
    *(added(name, 0.25) for name in ("fer_wieght", "wieght_decay", "memory_sise", "beta")),
    *(added("params", value) for value in (5, None, "all")),
    BadCall("add_param_group", "param_group", "5", lambda: optimizer().add_param_group(5)),  # type: ignore[arg-type]
    BadCall("add_param_group", "params", "['lr']", lambda: optimizer().add_param_group({"lr": 0.1})),
    *(loaded("lr", value) for value in (-1.0, math.inf, "fast")),
    *(loaded("fer_weight", value) for value in (-5, math.nan, "a")),
    *(loaded("consistency_threshold", value) for value in (2.0, None)),
    *(loaded("memory_size", value) for value in (0, 2.5)),
    loaded("fer_wieght", 0.5),
    loaded("params", 5),
    loaded("params", [0, 1], "got 2"),
    loaded_as("state_dict", "got 5", lambda _: 5),
    loaded_as("state_dict", "['param_groups']", lambda s: {"param_groups": s["param_groups"]}),
    loaded_as("param_groups", "['state']", lambda s: {"state": s["state"]}),
    loaded_as("param_groups", "got 3", lambda s: {**s, "param_groups": 3}),
    loaded_as("state", "got None", lambda s: {**s, "state": None}),
    loaded_as("state", "got 7", lambda s: {**s, "state": {0: 7}}),
    loaded_as("memory", "(2,)", lambda s: {**s, "state": {0: {**s["state"][0], "memory": torch.ones(2)}}}),
    loaded_as("memory", "'full'", lambda s: {**s, "state": {0: {**s["state"][0], "memory": "full"}}}),
    loaded_as("consistency_history", "'a'", lambda s: {**s, "consistency_history": ["a"]}),
    loaded_as("state_dict", "exp_avg", of_bare_adam),
    loaded_as("base", "got 9", lambda s: {**s, "state": {0: {**s["state"][0], "base": 9}}}),
    assigned(5, "got 5"),
    assigned(None, "got None"),
    assigned([None], "[None]"),
    assigned([{"lr": 0.125}], "{'lr': 0.125}"),
    assigned({"params": []}, "{'params': []}"),
    BadCall("step", "closure", "got 5", lambda: optimizer().step(5)),  # type: ignore[call-overload]
    BadCall("step", "closure", "'loss'", lambda: optimizer().step("loss")),  # type: ignore[call-overload]
]  # fmt: skip
