"""The layers that muP treats apart, those with traps, and initial weights."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from advanced_optimizers import (
    MuAdam,
    MuReadoutConv1d,
    MuReadoutConv2d,
    MuSGD,
    MuSharedReadout,
    mu_init_,
    set_base_shapes,
)
from tests.harness import BITWISE
from tests.mu_models import Transformer, batch, wide

# ---- layers with traps ---------------------------------------------------------------------------------------------


def rms(p: Tensor) -> float:
    return p.detach().square().mean().sqrt().item()


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d])
def test_transposed_convolution_has_its_fan_in_first(kind):
    def make(inputs: int, outputs: int, base_in: int, base_out: int) -> nn.Module:
        torch.manual_seed(0)
        return set_base_shapes(kind(inputs, outputs, 3), kind(base_in, base_out, 3))

    plain = rms(kind(16, 16, 3).weight)
    hidden = make(1024, 64, 16, 16)  # 64 times the inputs, 4 times the outputs
    assert rms(hidden.weight) == pytest.approx(plain / 8, rel=0.1)  # 1 / fan-in
    assert rms(hidden.bias) == pytest.approx(rms(kind(16, 16, 3).bias), rel=0.6)
    entry = make(3, 1024, 3, 16)
    assert rms(entry.weight) == pytest.approx(rms(kind(3, 16, 3).weight), rel=0.3)  # constant
    lr = {p.dim() > 1: g["lr"] for g in MuAdam(hidden, lr=1.0).param_groups for p in g["params"]}
    assert lr == {True: 1 / 64, False: 1.0}
    lr = {p.dim() > 1: g["lr"] for g in MuSGD(hidden, lr=1.0).param_groups for p in g["params"]}
    assert lr == {True: 4 / 64, False: 4.0}


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_depthwise_convolution_is_vector_like(kind):
    model = set_base_shapes(kind(32, 32, 3, groups=32), kind(8, 8, 3, groups=8))
    assert {g["lr"] for g in MuSGD(model, lr=1.0).param_groups} == {4.0}
    assert {g["lr"] for g in MuAdam(model, lr=1.0).param_groups} == {1.0}
    assert rms(model.weight) == pytest.approx(1 / 3 / 3**0.5, rel=0.1)  # torch's, for a fan-in of 9


def test_embeddings_and_norms_are_vector_like_and_keep_their_init():
    model, base = Transformer(32), Transformer(8)
    before = copy.deepcopy(model.state_dict())
    set_base_shapes(model, base)
    for name in ("tokens.weight", "positions", "norm.weight", "block.norm1.bias"):
        assert_close(model.state_dict()[name], before[name], **BITWISE)
        p = model.get_parameter(name)
        assert [g["lr"] for g in MuSGD(model, [p], lr=1.0).param_groups] == [4.0]
        assert [g["lr"] for g in MuAdam(model, [p], lr=1.0).param_groups] == [1.0]


@pytest.mark.parametrize(("kind", "x"), [(MuReadoutConv1d, (2, 32, 9)), (MuReadoutConv2d, (2, 32, 9, 9))])
def test_convolutional_readouts(kind, x):
    torch.manual_seed(0)
    plain = kind(32, 3, 3)
    model = set_base_shapes(copy.deepcopy(plain), kind(8, 3, 3))
    assert_close(model.weight, 2 * plain.weight, **BITWISE)
    assert_close(model.bias, 2 * plain.bias, **BITWISE)
    inputs = torch.randn(x)
    functional = F.conv1d if kind is MuReadoutConv1d else F.conv2d
    assert_close(model(inputs), functional(inputs / 4, model.weight, model.bias))
    assert not kind(4, 3, 1, readout_zero_init=True).weight.any()


def test_shared_readout_has_a_bias_that_fits_and_shares_the_tensor():
    embedding, base = nn.Embedding(7, 32), nn.Embedding(7, 8)
    model = nn.ModuleList([embedding, MuSharedReadout(embedding.weight)])
    set_base_shapes(model, nn.ModuleList([base, MuSharedReadout(base.weight)]))
    x = torch.randn(2, 32)
    assert_close(model[1](x), x / 4 @ embedding.weight.T + model[1].bias)
    assert copy.deepcopy(model)[1].weight is not model[1].weight
    twin = copy.deepcopy(model)
    assert twin[1].weight is twin[0].weight
    assert [len(g["params"]) for g in MuAdam(model, lr=0.1).param_groups] == [2]


def test_recurrent_layers_and_attention_start_at_mup_s_variance():
    torch.manual_seed(0)
    lstm, base = nn.LSTM(6, 128), nn.LSTM(6, 8)
    set_base_shapes(lstm, nn.LSTM(6, 8))
    assert rms(lstm.weight_ih_l0) == pytest.approx(rms(base.weight_ih_l0), rel=0.15)  # inputs: constant
    assert rms(lstm.bias_hh_l0) == pytest.approx(rms(base.bias_hh_l0), rel=0.4)
    assert rms(lstm.weight_hh_l0) == pytest.approx(rms(base.weight_hh_l0) / 4, rel=0.15)  # hidden: 1 / fan-in
    with pytest.warns(UserWarning, match="divides by the square root of its head size 32"):
        attention = set_base_shapes(nn.MultiheadAttention(128, 4), nn.MultiheadAttention(8, 4))
    assert rms(attention.in_proj_weight) == pytest.approx(rms(nn.MultiheadAttention(8, 4).in_proj_weight) / 4, rel=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_base_shapes(nn.MultiheadAttention(128, 16), nn.MultiheadAttention(8, 1))  # heads of 8 in both


@pytest.mark.parametrize("table", [3, 8, 9])
def test_init_stores_what_the_table_says_so_that_the_function_is_the_same(table):
    model = wide(table=table)
    for seed, i in enumerate((0, 2, 4)):
        torch.manual_seed(seed)
        mu_init_(model[i], nn.init.normal_, std=0.3)
        mu_init_(model[i], nn.init.constant_, "bias", val=0.5)
    expected = wide()
    for seed, i in enumerate((0, 2, 4)):
        torch.manual_seed(seed)
        mu_init_(expected[i], nn.init.normal_, std=0.3)
        mu_init_(expected[i], nn.init.constant_, "bias", val=0.5)
    assert_close(model(batch("mlp")[0]), expected(batch("mlp")[0]))
    assert_close(expected[2].bias.detach(), torch.full((32,), 0.5))
    assert rms(expected[2].weight) == pytest.approx(0.15, rel=0.1)


def test_init_refuses_what_it_does_not_know():
    model = wide()
    with pytest.raises(RuntimeError, match="Linear has no base shape for 'weight'"):
        mu_init_(nn.Linear(2, 3), nn.init.normal_)
    with pytest.raises(RuntimeError, match="no base shape for 'wieght'"):
        mu_init_(model[0], nn.init.normal_, "wieght")
    with pytest.raises(ValueError, match=r"initializer must be one of .*orthogonal_"):
        mu_init_(model[0], nn.init.orthogonal_)
    for initializer, kwargs in (
        (nn.init.ones_, {}),
        (nn.init.uniform_, {}),
        (nn.init.normal_, {"mean": 0.1}),
        (nn.init.trunc_normal_, {"b": 1.0}),
    ):
        with pytest.raises(ValueError, match="nonzero mean"):
            mu_init_(model[2], initializer, **kwargs)
        mu_init_(model[0], initializer, **kwargs)  # one infinite dimension
    assert not mu_init_(model[2], nn.init.zeros_).any()
