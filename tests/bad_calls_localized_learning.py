"""Bad calls of localized learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from advanced_optimizers import DynamicTransition, LocalizedOptimizer, StaticTransition, create_localized_optimizer
from tests.bad_calls import BadCall


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def tied() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    return net


def attached() -> nn.Sequential:
    net = model()
    net.other = LocalizedOptimizer(net)  # type: ignore[assignment]  # keeps it alive
    return net


class WithoutLr(torch.optim.SGD):
    """An optimizer whose groups have no learning rate."""

    def __init__(self, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        for group in self.param_groups:
            del group["lr"]
        del self.defaults["lr"]


def build(**kwargs: Any) -> Callable[[], object]:
    return lambda: LocalizedOptimizer(**{"model": model(), "base_optimizer_kwargs": {"lr": 0.1}, **kwargs})


def create(**kwargs: Any) -> Callable[[], object]:
    return lambda: create_localized_optimizer(**{"model": model(), "lr": 0.1, **kwargs})


def on(method: str, value: Any, **kwargs: Any) -> Callable[[], object]:
    return lambda: getattr(LocalizedOptimizer(model(), **kwargs), method)(value)


def loaded(**kwargs: Any) -> Callable[[], object]:
    """Loads the checkpoint of an optimizer that was built with other settings."""
    return lambda: LocalizedOptimizer(model()).load_state_dict(LocalizedOptimizer(model(), **kwargs).state_dict())


def with_transition_3() -> None:
    optimizer = LocalizedOptimizer(model(), max_transition=1)
    state = optimizer.state_dict()
    state["localized"]["schedule"]["transition"] = 3
    optimizer.load_state_dict(state)


def row(call: str, argument: str, value: Any, run: Callable[[], object], shown: str | None = None) -> BadCall:
    return BadCall(call, argument, repr(value) if shown is None else shown, run)


NUMBERS: dict[str, list[Any]] = {
    "hebbian_lr": [-0.1, math.nan, math.inf, "fast", None, True],
    "weak_supervision_weight": [-1, math.nan, math.inf, "no", None, False],
    "update_every": [0, -8, 1.5, "8", None],
    "steps_per_epoch": [0, -1, 2.5, "epoch", True],
    "max_transition": [-1, 3, 1.0, "all"],
}

BAD_CALLS: list[BadCall] = [
    # LocalizedOptimizer
    *(
        row("LocalizedOptimizer", name, value, build(**{name: value}))
        for name, values in NUMBERS.items()
        for value in values
    ),
    *(
        row("LocalizedOptimizer", "selection", value, build(selection=value))
        for value in ("dynamic", 3, DynamicTransition, StaticTransition)
    ),
    *(row("LocalizedOptimizer", "rule", value, build(rule=value)) for value in ("anti", None, 1, ["oja"])),
    *(row("LocalizedOptimizer", "model", value, build(model=value)) for value in (None, nn.Linear, "resnet18", [])),
    row("LocalizedOptimizer", "model", "", build(model=model().requires_grad_(False)), "requires_grad=False"),
    row("LocalizedOptimizer", "model", "", build(model=nn.Linear(3, 2)), "got 1"),
    row("LocalizedOptimizer", "model", "", build(model=nn.Sequential(nn.LayerNorm(3), nn.PReLU())), "got 0"),
    row("LocalizedOptimizer", "model", "", build(model=nn.DataParallel(model())), "DataParallel"),
    row("LocalizedOptimizer", "model", "", lambda: LocalizedOptimizer(tied()), "(3, 3)"),
    row("LocalizedOptimizer", "model", "", lambda: LocalizedOptimizer(attached()), "already attached"),
    row("LocalizedOptimizer", "base_optimizer", "sgd", build(base_optimizer="sgd")),
    row("LocalizedOptimizer", "base_optimizer", nn.Linear, build(base_optimizer=nn.Linear)),
    row("LocalizedOptimizer", "base_optimizer", "", build(base_optimizer=WithoutLr), "momentum"),
    row("LocalizedOptimizer", "base_optimizer_kwargs", 0.1, build(base_optimizer_kwargs=0.1)),
    *(
        row("LocalizedOptimizer", "lr", value, build(base_optimizer_kwargs={"lr": value}))
        for value in (0.0, -0.1, math.inf, math.nan, "fast")
    ),
    # Its methods
    *(row("end_epoch", "train_loss", value, on("end_epoch", value)) for value in ("x", None, True, [1.0])),
    row("end_epoch", "train_loss", "", on("end_epoch", torch.ones(2)), "tensor([1., 1.])"),
    *(row("observe", "loss", value, on("observe", value, steps_per_epoch=2)) for value in ("x", None, True, {})),
    row("observe", "loss", "", on("observe", torch.ones(2), steps_per_epoch=2), "tensor([1., 1.])"),
    *(row("load_state_dict", "state_dict", value, on("load_state_dict", value)) for value in (None, "state", 3, [])),
    row("load_state_dict", "state_dict", "", on("load_state_dict", {"model": {}}), "['model']"),
    row("load_state_dict", "rule", "oja", loaded(rule="oja")),
    row("load_state_dict", "update_every", 2, loaded(update_every=2)),
    row("load_state_dict", "weak_supervision_weight", 0.5, loaded(weak_supervision_weight=0.5)),
    row("load_state_dict", "transition of state_dict", 3, with_transition_3),
    row(
        "add_param_group",
        "hebbian_lr",
        -1.0,
        on("add_param_group", {"params": [nn.Parameter(torch.ones(2))], "hebbian_lr": -1.0}),
    ),
    # create_localized_optimizer
    *(
        row("create_localized_optimizer", "selection_mode", value, create(selection_mode=value))
        for value in ("fixed", 1)
    ),
    *(
        row("create_localized_optimizer", name, value, create(selection_mode=mode, **{name: value}))
        for mode, name, value in (
            ("static", "alpha", 0.5),
            ("static", "shift", 2),
            ("dynamic", "power", 1.0),
            ("static", "power", 1.5),  # without total_epochs
            ("static", "warmup", 0.2),
            ("dynamic", "warmup", 0.3),
            ("static", "total_epochs", 0),
            ("dynamic", "total_epochs", "ten"),
            ("dynamic", "alpha", "small"),
        )
    ),
    *(row("create_localized_optimizer", "lr", value, create(lr=value)) for value in (0.0, -1.0, None, math.inf)),
    row("create_localized_optimizer", "base_optimizer_kwargs", "", create(base_optimizer_kwargs={"lr": 0.3}), "0.3"),
    row("create_localized_optimizer", "base_optimizer_kwargs", 0.9, create(base_optimizer_kwargs=0.9)),
    row("create_localized_optimizer", "steps_per_epoch", 1.5, create(steps_per_epoch=1.5)),
    # The schedules
    *(
        row("StaticTransition", name, value, lambda kwargs={"total_epochs": 5, name: value}: StaticTransition(**kwargs))
        for name, value in (
            ("total_epochs", 0),
            ("total_epochs", 2.5),
            ("total_epochs", "ten"),
            ("warmup", 1.0),
            ("warmup", -0.1),
            ("warmup", None),
            ("power", 0.0),
            ("power", math.inf),
            ("power", "slow"),
        )
    ),
    *(
        row(
            "DynamicTransition",
            name,
            value,
            lambda kwargs={"total_epochs": 5, name: value}: DynamicTransition(**kwargs),
        )
        for name, value in (
            ("alpha", -0.5),
            ("alpha", math.nan),
            ("alpha", math.inf),
            ("alpha", None),
            ("shift", 0),
            ("shift", 1.5),
            ("total_epochs", -1),
            ("warmup", 1.5),
            ("warmup", "none"),
        )
    ),
]
