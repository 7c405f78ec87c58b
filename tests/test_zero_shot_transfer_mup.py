"""muTransfer against the authors' package, ``mup``: groups, initial weights, training, initializers, files."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import init
from torch.testing import assert_close

import advanced_optimizers as ours
from tests.harness import BITWISE
from tests.mu_models import MODELS, batch, train

mup = pytest.importorskip("mup")

OPTIMIZERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sgd": (ours.MuSGD, mup.MuSGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}),
    "adam": (ours.MuAdam, mup.MuAdam, {"lr": 1e-2, "weight_decay": 1e-2, "fused": True}),
    "adamw": (ours.MuAdamW, mup.MuAdamW, {"lr": 1e-2, "weight_decay": 1e-2, "fused": True}),
}
every_model = pytest.mark.parametrize("name", MODELS)
# 24 is not a power of two times the base 8, so its factors are rounded somewhere.
every_width = pytest.mark.parametrize(("width", "rtol"), [(8, 0.0), (32, 0.0), (24, 1e-5)])


def pair(name: str, width: int, **kwargs: Any) -> tuple[nn.Module, nn.Module]:
    """The same model twice, from the same random numbers: ours, and with the mup package's readout."""
    models = []
    for package in (ours, mup):
        make = MODELS[name]
        base, delta = make(8, package.MuReadout, **kwargs), make(16, package.MuReadout, **kwargs)
        torch.manual_seed(5)
        model = make(width, package.MuReadout, **kwargs)
        models.append(package.set_base_shapes(model, base, delta=delta))
    return models[0], models[1]


def settings_by_parameter(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    names = {id(p): name for name, p in model.named_parameters()}
    groups = optimizer.param_groups
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


@every_model
@every_width
def test_initial_weights_equal_the_package_s(name, width, rtol):
    model, theirs = pair(name, width)
    for (key, p), (other, q) in zip(model.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == other
        assert_close(p, q, rtol=rtol, atol=0)


@every_model
@pytest.mark.parametrize("kind", OPTIMIZERS)
@every_width
def test_learning_rate_and_weight_decay_of_every_group_equal_the_package_s(name, kind, width, rtol):
    model, theirs = pair(name, width)
    make, make_theirs, kwargs = OPTIMIZERS[kind]
    got = settings_by_parameter(model, make(model, **kwargs))
    expected = settings_by_parameter(theirs, make_theirs(theirs.parameters(), **kwargs))
    assert got.keys() == expected.keys()
    for key in got:
        assert got[key] == (expected[key] if rtol == 0 else pytest.approx(expected[key], rel=1e-15)), key


@every_model
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_groups_of_the_user_are_split_as_the_package_splits_them(name, kind):
    model, theirs = pair(name, 32)
    make, make_theirs, kwargs = OPTIMIZERS[kind]

    def groups(m: nn.Module) -> list[dict[str, Any]]:
        params = list(m.parameters())
        return [{"params": params[::2], "lr": 0.3}, {"params": params[1::2], "weight_decay": 0.7}]

    got = settings_by_parameter(model, make(model, groups(model), **kwargs))
    assert got == settings_by_parameter(theirs, make_theirs(groups(theirs), **kwargs))


@every_model
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("zero_init", [False, True])
def test_twenty_steps_of_training_equal_the_package_s_bit_for_bit(name, kind, zero_init):
    model, theirs = pair(name, 32, readout_zero_init=zero_init, output_mult=2.0)
    make, make_theirs, kwargs = OPTIMIZERS[kind]
    losses = train(model, make(model, **kwargs), batch(name), steps=20)
    assert losses == train(theirs, make_theirs(theirs.parameters(), **kwargs), batch(name), steps=20)
    assert_close(list(model.parameters()), list(theirs.parameters()), **BITWISE)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_twenty_steps_at_an_odd_width_equal_the_package_s_up_to_rounding(kind):
    model, theirs = (m.double() for m in pair("mlp", 24))
    make, make_theirs, kwargs = OPTIMIZERS[kind]
    data = batch("mlp", torch.float64)
    losses = train(model, make(model, **kwargs), data, steps=20)
    others = train(theirs, make_theirs(theirs.parameters(), **kwargs), data, steps=20)
    assert losses == pytest.approx(others, rel=1e-5)  # the initial weights are rounded to float32


INITIALIZERS: list[tuple[str, dict[str, Any]]] = [
    *itertools.product(("kaiming_normal_", "kaiming_uniform_"), ({"mode": "fan_in"}, {"mode": "fan_out", "a": 1.0})),
    *itertools.product(("xavier_normal_", "xavier_uniform_"), ({}, {"gain": 2.0})),
    ("normal_", {"std": 0.02}),
    ("uniform_", {"a": -0.3, "b": 0.3}),
    ("trunc_normal_", {"std": 0.5, "a": -0.6, "b": 0.6}),
]


@pytest.mark.parametrize(("name", "kwargs"), INITIALIZERS)
@pytest.mark.parametrize("width", [8, 16, 24])
@pytest.mark.parametrize("kind", ["mlp", "convnet"])
def test_initializers_equal_the_package_s(name, kwargs, width, kind):
    model, theirs = pair(kind, width)
    layers = [
        (m, t) for m, t in zip(model.modules(), theirs.modules(), strict=True) if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    for seed, (layer, other) in enumerate(layers):
        torch.manual_seed(seed)
        ours.mu_init_(layer, getattr(init, name), **kwargs)
        torch.manual_seed(seed)
        getattr(mup.init, name)(other.weight, **kwargs)
        assert_close(layer.weight, other.weight, rtol=0 if width == 8 else 1e-5, atol=1e-8 if width != 8 else 0)
        if width == 8:  # the base: torch's own
            torch.manual_seed(seed)
            plain = torch.empty_like(layer.weight)
            assert_close(layer.weight.detach(), getattr(init, name)(plain, **kwargs).detach(), **BITWISE)


@every_model
def test_base_shape_files_are_read_by_either_package(name, tmp_path):
    model, theirs = pair(name, 32)
    mup.save_base_shapes(theirs, str(tmp_path / "theirs.bsh"))
    ours.save_base_shapes(ours.get_base_shapes(model), tmp_path / "ours.bsh")
    assert ours.load_base_shapes(tmp_path / "theirs.bsh") == ours.get_base_shapes(model)
    assert ours.load_base_shapes(tmp_path / "ours.bsh") == ours.get_base_shapes(model)
    fresh = MODELS[name](32, mup.MuReadout)
    mup.set_base_shapes(fresh, str(tmp_path / "ours.bsh"))
    for (_, p), (_, q) in zip(fresh.named_parameters(), theirs.named_parameters(), strict=True):
        assert p.infshape == q.infshape


@every_model
def test_weights_of_the_package_load_and_give_its_function(name):
    _, theirs = pair(name, 32)
    make = MODELS[name]
    model = ours.set_base_shapes(make(32), make(8), delta=make(16))
    model.load_state_dict(copy.deepcopy(theirs.state_dict()))
    assert_close(model(batch(name)[0]), theirs(batch(name)[0]), **BITWISE)
