"""Bad calls of optimizers by name and of the integrations that need torch alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from advanced_optimizers import StaticTransition, create_optimizer, list_optimizers
from advanced_optimizers.integrations import IndexedDataset
from tests.bad_calls import BadCall


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def create(argument: str, value: str, *arguments: Any, **named: Any) -> BadCall:
    return BadCall("create_optimizer", argument, value, lambda: create_optimizer(*arguments, **named))


def lists(value: Any) -> BadCall:
    return BadCall("list_optimizers", "filter", repr(value), lambda: list_optimizers(value))


def indexed(argument: str, value: str, dataset: Any, **named: Any) -> BadCall:
    return BadCall("IndexedDataset", argument, value, lambda: IndexedDataset(dataset, **named)[0])


STATIC = StaticTransition(total_epochs=2)
SAMPLES = TensorDataset(torch.zeros(2, 3))
BAD_CALLS = [
    create("name", "5", 5, model()),
    create("name", "None", None, model()),
    create("name", "['fer']", ["fer"], model()),
    create("name", "<class 'torch.optim.adam.Adam'>", torch.optim.Adam, model()),
    create("named", "'fir'", "fir", model()),
    create("named", "''", "", model()),
    create("named", "'adam'", "adam", model()),
    create("model_or_params", "0.5", "fer", 0.5),
    create("model_or_params", "None", "gradient_correction", None),
    create("model_or_params", "<class 'torch.nn.modules.linear.Linear'>", "localized", nn.Linear),
    create("model", "[]", "localized", []),
    create("model", "'a net'", "sigprop", "a net"),
    create("model", "{}", "mu_sgd", {}),
    create("argument of 'fer'", "'fer_wieght'", "fer", model(), fer_wieght=0.5),
    create("argument of 'fer'", "'momentum'", "fer", model(), momentum=0.9),
    create("argument of 'fer'", "'selection_mode'", "fer", model(), selection_mode="static"),
    create("argument of 'gradient_correction'", "'gcw'", "gradient_correction", model(), gcw=True),
    create("argument of 'localized'", "'selection_mod'", "localized", model(), lr=0.1, selection_mod="static"),
    create("argument of 'sigprop'", "'learning_rate'", "sigprop", model(), learning_rate=0.1),
    create("base_optimizer", "'adamx'", "fer", model(), base_optimizer="adamx"),
    create("base_optimizer", "''", "fer", model(), base_optimizer=""),
    create("base_optimizer", "5", "fer", model(), base_optimizer=5, lr=0.1),
    create("lr", "0.1", "fer", model(), lr=0.1, base_optimizer_kwargs={"lr": 0.2}),
    create("use_gcw", "False", "gradient_correction", model(), use_gcw=False, history_decay=0.5),
    create(
        "selection_mode",
        "'static'",
        "localized",
        model(),
        lr=0.1,
        selection=STATIC,
        selection_mode="static",
    ),
    create("lr", "-0.1", "fer", model(), lr=-0.1),
    create("fer_weight", "'high'", "fer", model(), fer_weight="high"),
    create("base_optimizer_kwargs", "0.9", "fer", model(), base_optimizer_kwargs=0.9, lr=0.1),
    lists(5),
    lists(None),
    lists(["fer"]),
    indexed("dataset", "5", 5),
    indexed("dataset", "None", None),
    indexed("dataset", "Tensor", torch.zeros(3, 2)),
    indexed("dataset", "int", [1, 2]),
    indexed("key", "0", SAMPLES, key=0),
    indexed("key", "None", SAMPLES, key=None),
    indexed("key", "'index'", [{"index": 3}]),
]
