"""Weights that are computed (weight_norm, spectral_norm, pruning) do not hide a layer from muP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.testing import assert_close

from advanced_optimizers import (
    MuAdam,
    MuReadout,
    create_mu_transfer_optimizer,
    get_base_shapes,
    mu_init_,
    set_base_shapes,
)
from tests.mu_models import mlp

NORMS: dict[str, Callable[..., nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "old weight_norm": old_weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "old spectral_norm": old_spectral_norm,
}
every_norm = pytest.mark.parametrize("norm", NORMS)
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")


def normed(norm: str, width: int, where: int = 1, output: Callable[..., nn.Module] = MuReadout, **kwargs: Any):
    model = nn.Sequential(nn.Linear(5, width), nn.Linear(width, width), output(width, 3))
    NORMS[norm](model[where], **kwargs)
    return model


@every_norm
def test_a_hidden_layer_with_a_norm_gets_its_learning_rates_and_its_bias_s_scale(norm):
    plain = nn.Linear(32, 32)
    model = normed(norm, 32)
    with torch.no_grad():
        model[1].bias.copy_(plain.bias)
    set_base_shapes(model, normed(norm, 8))
    assert_close(model[1].bias, 2 * plain.bias)  # it was drawn with 1 / sqrt(32) and should be with 1 / sqrt(8)
    lr = {p: group["lr"] for group in MuAdam(model, lr=1.0).param_groups for p in group["params"]}
    own = {name: lr[p] for name, p in model[1].named_parameters() if name != "bias"}
    assert {name: value for name, value in own.items() if value == 0.25}.keys() == {
        name for name, p in model[1].named_parameters() if p.shape == (32, 32)
    }
    assert lr[model[1].bias] == 1.0
    again = normed(norm, 32)
    assert get_base_shapes(set_base_shapes(again, get_base_shapes(model))) == get_base_shapes(model)


@every_norm
def test_an_output_layer_cannot_hide_behind_a_norm(norm):
    with pytest.raises(ValueError, match=r"2\..* maps a width \(8 -> 32\) to 3 outputs"):
        set_base_shapes(normed(norm, 32, 2, nn.Linear), normed(norm, 8, 2, nn.Linear))
    with pytest.raises(ValueError, match="whose weight is computed"):
        set_base_shapes(normed(norm, 32, 2), normed(norm, 8, 2))
    with pytest.raises(ValueError, match="the weight of 2, the model's output layer, is computed"):
        create_mu_transfer_optimizer(normed(norm, 32, 2, nn.Linear), {"width": 8}, {"width": 32}, {"lr": 0.1})


@every_norm
def test_a_norm_that_fixes_another_scale_than_mup_s_is_refused(norm):
    if "spectral" in norm:
        with pytest.raises(ValueError, match=r"0\..* with spectral_norm.*8 -> 32 x 5"):
            set_base_shapes(normed(norm, 32, 0), normed(norm, 8, 0))
        return
    set_base_shapes(normed(norm, 32, 0), normed(norm, 8, 0))
    for dim in (None, 1):
        where = 1 if dim is None else 0
        with pytest.raises(ValueError, match=r"with weight_norm, whose norms are sums over its outputs.*pass dim=0"):
            set_base_shapes(normed(norm, 32, where, dim=dim), normed(norm, 8, where, dim=dim))
    with pytest.raises(ValueError, match="weight_norm, which table=9 cannot store"):
        set_base_shapes(normed(norm, 32, 0), normed(norm, 8, 0), table=9)


@every_norm
def test_the_one_call_sees_through_norms(norm):
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 3))
    NORMS[norm](model[1])
    create_mu_transfer_optimizer(model, {"width": 8}, {"width": 32}, {"lr": 0.1})
    bases = [dims for name, dims in get_base_shapes(model).items() if name.startswith("1.") and dims == (8, 8)]
    assert len(bases) == 1
    if "weight" in norm:
        entry = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 3))
        NORMS[norm](entry[0])
        create_mu_transfer_optimizer(entry, {"width": 8}, {"width": 32}, {"lr": 0.1})
        assert (8, None) in {dims for name, dims in get_base_shapes(entry).items() if name.startswith("0.")}


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_a_normed_weight_can_be_initialized_and_an_older_hook_s_is_refused(norm):
    model = set_base_shapes(normed(norm, 32), normed(norm, 8))
    torch.manual_seed(0)
    mu_init_(model[1], nn.init.normal_, std=0.5)
    if norm == "weight_norm":
        assert model[1].weight.std().item() == pytest.approx(0.25, rel=0.1)
    older = set_base_shapes(normed(f"old {norm}", 32), normed(f"old {norm}", 8))
    with pytest.raises(RuntimeError, match="'weight' of Linear is computed by a hook"):
        mu_init_(older[1], nn.init.normal_)


def test_a_pruned_output_layer_is_refused_and_a_pruned_hidden_layer_is_fine():
    model, base = mlp(32), mlp(8)
    for each in (model, base):
        prune.random_unstructured(each[2], "weight", amount=0.3)
    set_base_shapes(model, base)
    assert {g["lr"] for g in MuAdam(model, [model[2].weight_orig], lr=1.0).param_groups} == {0.25}
    plain, plain_base = mlp(32, nn.Linear), mlp(8, nn.Linear)
    for each in (plain, plain_base):
        prune.random_unstructured(each[4], "weight", amount=0.3)
    with pytest.raises(ValueError, match=r"4\.weight_orig maps a width"):
        set_base_shapes(plain, plain_base)


def test_transposed_convolution_with_weight_norm_has_its_fan_in_first():
    def make(inputs: int, outputs: int, **kwargs: Any) -> nn.Module:
        return parametrizations.weight_norm(nn.ConvTranspose1d(inputs, outputs, 3), **kwargs)

    set_base_shapes(make(32, 16), make(8, 4))  # its default norms are over the outputs, which grow like the inputs
    with pytest.raises(ValueError, match="pass dim=1"):
        set_base_shapes(make(32, 32), make(8, 4))
    torch.manual_seed(0)
    model = set_base_shapes(make(64, 64, dim=1), make(4, 16, dim=1))
    plain = nn.ConvTranspose1d(4, 16, 3)
    assert model.weight.std().item() == pytest.approx(plain.weight.std().item() / 4, rel=0.1)
    lr = {p.shape: g["lr"] for g in MuAdam(model, lr=1.0).param_groups for p in g["params"]}
    assert lr[model.parametrizations.weight.original1.shape] == 1 / 16
