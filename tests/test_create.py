"""Optimizers by name: every public one is there, and the name builds what the class builds."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import advanced_optimizers
from advanced_optimizers import (
    FEROptimizer,
    GradientCorrectionOptimizer,
    LocalizedOptimizer,
    MuAdam,
    MuAdamW,
    MuReadout,
    MuSGD,
    SigPropNet,
    SigPropOptimizer,
    StaticTransition,
    create_optimizer,
    list_optimizers,
    set_base_shapes,
)
from advanced_optimizers._create import summary, takes_parameters
from tests.test_completeness import OPTIMIZERS

MODELS = {"sigprop": lambda: SigPropNet(4, [6, 6], 2)}
FURTHER: dict[str, dict[str, Any]] = {
    "mu_transfer": {
        "base_model_config": {"width": 4},
        "target_model_config": {"width": 8},
        "base_hyperparams": {"lr": 0.1},
    }
}


def plain(width: int = 8, readout: type[nn.Linear] = nn.Linear) -> nn.Module:
    hidden = [nn.Linear(3, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, readout(width, 2))


def model_for(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name in ("mu_sgd", "mu_adam", "mu_adamw"):
        return set_base_shapes(plain(8, MuReadout), plain(4, MuReadout))
    return MODELS.get(name, plain)()


def made(name: str, **arguments: Any) -> Optimizer:
    return create_optimizer(name, model_for(name), **{**FURTHER.get(name, {"lr": 0.1}), **arguments})


def test_the_list():
    assert list_optimizers() == sorted(list_optimizers())
    assert {"fer", "gradient_correction", "localized", "sigprop", "mu_sgd", "mu_adam", "mu_adamw"} <= set(
        list_optimizers()
    )
    assert list_optimizers("mu_*") == ["mu_adam", "mu_adamw", "mu_sgd", "mu_transfer"]
    assert list_optimizers(filter="nothing*") == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.__name__)
def test_every_class_of_optimizers_has_a_name(optimizer: type):
    assert optimizer in {type(made(name)) for name in list_optimizers()}


@pytest.mark.parametrize("name", list_optimizers())
def test_every_name_builds_an_optimizer_that_steps(name: str):
    model = model_for(name)
    optimizer = create_optimizer(name, model, **FURTHER.get(name, {"lr": 0.1}))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert summary(name)


def test_a_new_public_optimizer_is_there_without_an_edit(monkeypatch: pytest.MonkeyPatch):
    module = importlib.import_module("advanced_optimizers._create")

    class QuickSGDOptimizer(torch.optim.SGD):
        """Quick."""

    monkeypatch.setattr(advanced_optimizers, "__all__", [*advanced_optimizers.__all__, "QuickSGDOptimizer"])
    monkeypatch.setattr(advanced_optimizers, "QuickSGDOptimizer", QuickSGDOptimizer, raising=False)
    module._optimizers.cache_clear()
    try:
        assert "quick_sgd" in list_optimizers()
        assert type(create_optimizer("quick-sgd", plain(), lr=0.1)) is QuickSGDOptimizer
    finally:
        module._optimizers.cache_clear()


@pytest.mark.parametrize("name", ["fer", "FER", "Fer"])
def test_case_makes_no_difference(name: str):
    assert type(create_optimizer(name, plain())) is FEROptimizer


@pytest.mark.parametrize("name", ["gradient_correction", "gradient-correction", "GradientCorrection"])
def test_separators_make_no_difference(name: str):
    assert type(create_optimizer(name, plain())) is GradientCorrectionOptimizer


# What a call must be equal to; ``m`` is the model.
SAME = {
    "a base's settings": (
        "fer",
        {"lr": 0.1, "weight_decay": 0.2, "fer_weight": 0.5},
        lambda m: FEROptimizer(m.parameters(), torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.2}, fer_weight=0.5),
    ),
    "a base's name": (
        "gradient_correction",
        {"base_optimizer": "sgd", "lr": 0.1, "momentum": 0.9},
        lambda m: GradientCorrectionOptimizer(m.parameters(), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    ),
    "settings in both places": (
        "fer",
        {"base_optimizer": "AdamW", "base_optimizer_kwargs": {"eps": 0.1}, "lr": 0.5},
        lambda m: FEROptimizer(m.parameters(), torch.optim.AdamW, {"eps": 0.1, "lr": 0.5}),
    ),
    "nothing": ("fer", {}, lambda m: FEROptimizer(m.parameters())),
    "the function's arguments": (
        "gradient_correction",
        {"lr": 0.1, "use_gcw": False},
        lambda m: GradientCorrectionOptimizer(m.parameters(), torch.optim.Adam, {"lr": 0.1}, gcw_strength=0.0),
    ),
    "a schedule": (
        "localized",
        {"lr": 0.1, "selection": StaticTransition(total_epochs=3)},
        lambda m: LocalizedOptimizer(m, torch.optim.SGD, {"lr": 0.1}, selection=StaticTransition(total_epochs=3)),
    ),
    "a schedule's name": (
        "localized",
        {"lr": 0.1, "momentum": 0.9, "selection_mode": "static", "total_epochs": 3},
        lambda m: LocalizedOptimizer(
            m, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, selection=StaticTransition(total_epochs=3)
        ),
    ),
    "a network of its own": (
        "sigprop",
        {"signal_lr": 0.3, "betas": (0.8, 0.9)},
        lambda m: SigPropOptimizer(m, signal_lr=0.3, base_optimizer_kwargs={"betas": (0.8, 0.9)}),
    ),
    "muP": ("mu_sgd", {"lr": 0.1, "momentum": 0.9}, lambda m: MuSGD(m, lr=0.1, momentum=0.9)),
    "muP with another optimizer": ("mu_adam", {"impl": torch.optim.NAdam}, lambda m: MuAdam(m, impl=torch.optim.NAdam)),
    "muP's own setting": ("mu_adamw", {"decoupled_wd": True}, lambda m: MuAdamW(m, decoupled_wd=True)),
}


@pytest.mark.parametrize("case", SAME)
def test_a_call_is_that_of_the_class(case: str):
    name, arguments, wanted = SAME[case]
    optimizer, other = create_optimizer(name, model_for(name), **arguments), wanted(model_for(name))
    assert type(optimizer) is type(other)
    for group, its in zip(optimizer.param_groups, other.param_groups, strict=True):
        assert {k: v for k, v in group.items() if k != "params"} == {k: v for k, v in its.items() if k != "params"}
        assert [p.shape for p in group["params"]] == [p.shape for p in its["params"]]
    assert getattr(optimizer, "selection", None) == getattr(other, "selection", None)


def test_parameters_groups_and_a_model_are_taken():
    model = plain()
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters(), "fer_weight": 0.3}]
    optimizer = create_optimizer("fer", groups, lr=0.1)
    assert [(group["lr"], group["fer_weight"]) for group in optimizer.param_groups] == [(0.5, 0.1), (0.1, 0.3)]
    of_model, of_parameters = create_optimizer("fer", model), create_optimizer("fer", model.parameters())
    assert of_model.param_groups[0]["params"] == of_parameters.param_groups[0]["params"] == list(model.parameters())


def test_a_function_as_base_takes_any_setting():
    def base(params: Any, **settings: Any) -> Optimizer:
        return torch.optim.SGD(params, **settings)

    optimizer = create_optimizer("fer", plain(), base_optimizer=base, lr=0.1, momentum=0.9)
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_who_needs_the_model():
    of_parameters = ["convolutional_sgd", "convolutional_sgdv2", "fer", "gradient_correction", "local_loss_conv_sgd"]
    assert [name for name in list_optimizers() if takes_parameters(name)] == of_parameters
