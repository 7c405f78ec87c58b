"""The coursework's one call for a plain model: its result, the dimensions it takes for widths, what it refuses."""

from __future__ import annotations

import copy
import inspect
import math
import warnings

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.testing import assert_close

from advanced_optimizers import (
    MuAdamW,
    MuSGD,
    create_mu_transfer_optimizer,
    set_base_shapes,
)
from advanced_optimizers.zero_shot_transfer.module_state import mu_shapes
from tests.harness import BITWISE
from tests.mu_models import mlp, residual_mlp, seeded, train


def plain_mlp(width: int, inputs: int = 784) -> nn.Sequential:
    return mlp(width, nn.Linear, inputs=inputs)


BASE, TARGET, TUNED = {"width": 64, "depth": 2}, {"width": 256, "depth": 2}, {"lr": 1e-3, "weight_decay": 0.1}


def test_signature_is_the_coursework_s():
    parameters = list(inspect.signature(create_mu_transfer_optimizer).parameters)
    assert parameters[:4] == ["model", "base_model_config", "target_model_config", "base_hyperparams"]


@pytest.mark.parametrize("inputs", [784, 3072])  # 3072 is a multiple of 256
def test_one_call_is_table_3_with_a_base_model(inputs):
    plain = seeded(lambda: plain_mlp(256, inputs))
    marked = seeded(lambda: mlp(256, inputs=inputs))
    assert_close(list(plain.parameters()), list(marked.parameters()), **BITWISE)
    optimizer = create_mu_transfer_optimizer(plain, BASE, TARGET, TUNED)
    assert isinstance(optimizer, AdamW)
    set_base_shapes(marked, mlp(64, inputs=inputs), delta=mlp(128, inputs=inputs), table=3)
    data = (torch.randn(8, inputs, dtype=torch.float64), torch.arange(8) % 5)
    losses = train(plain, optimizer, data, steps=5)
    assert losses == train(marked, MuAdamW(marked, **TUNED), data, steps=5)
    assert_close(list(plain.parameters()), list(marked.parameters()), **BITWISE)


def test_one_call_takes_the_other_optimizers_and_their_settings():
    optimizer = create_mu_transfer_optimizer(
        plain_mlp(256), BASE, TARGET, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, optimizer=MuSGD
    )
    assert isinstance(optimizer, SGD)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == pytest.approx([0.1 / 4, 0.1, 0.4])


def test_one_call_recognizes_convolutions_embeddings_norms_and_attention():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(64, 32)  # the vocabulary is a multiple of the width, and no width
            self.conv = nn.Conv1d(32, 64, 32)  # so is the kernel
            self.norm = nn.BatchNorm1d(64)
            self.attention = nn.MultiheadAttention(64, 2)
            self.head = nn.Linear(64, 96)  # and the number of classes

    net = Net()
    with pytest.warns(UserWarning, match="attention is an nn.MultiheadAttention, which divides by the square root"):
        create_mu_transfer_optimizer(net, {"width": 8}, {"width": 32}, {"lr": 0.1})
    bases = {
        name: [dim.base for dim in mu_shapes(net.get_submodule(module))[own].dims]
        for name in dict(net.named_parameters())
        for module, _, own in [name.rpartition(".")]
    }
    assert bases["tokens.weight"] == [None, 8]
    assert bases["conv.weight"] == [16, 8, None]
    assert bases["norm.bias"] == [16]
    assert bases["attention.in_proj_weight"] == [48, 16]
    assert bases["head.weight"] == [None, 16]
    assert bases["head.bias"] == [None]


def test_one_call_at_the_base_width_changes_nothing():
    model = plain_mlp(64)
    before = copy.deepcopy(model.state_dict())
    optimizer = create_mu_transfer_optimizer(model, BASE, BASE, TUNED)
    assert_close(model.state_dict(), before, **BITWISE)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-3]


def test_one_call_scales_marked_branches_by_depth_and_warns_where_none_is_marked():
    model = residual_mlp(32, 4)
    optimizer = create_mu_transfer_optimizer(model, {"width": 8, "depth": 1}, {"width": 32, "depth": 4}, {"lr": 0.1})
    assert model[1].multiplier == 0.5
    assert {g["lr"] for g in optimizer.param_groups} == {0.1, 0.1 / 2, 0.1 / 8, 0.1 / 4}
    with pytest.warns(UserWarning, match=r"depth differs \(2 in the base, 8 here\).*only width"):
        create_mu_transfer_optimizer(plain_mlp(256), BASE, {"width": 256, "depth": 8}, TUNED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_mu_transfer_optimizer(plain_mlp(256), BASE, TARGET, TUNED)


def test_ends_that_are_as_large_as_the_width_must_be_named():
    square = plain_mlp(64, inputs=64)
    small, large = {"width": 16}, {"width": 64}
    with pytest.raises(ValueError, match=r"dimension 1 of 0\.weight is 64, which is the width.*'input_dim': 64"):
        create_mu_transfer_optimizer(square, small, large, TUNED)
    optimizer = create_mu_transfer_optimizer(square, {**small, "input_dim": 64}, {**large, "input_dim": 64}, TUNED)
    lr = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert [lr[id(square[i].weight)] for i in (0, 2, 4)] == [1e-3, 1e-3 / 4, 1e-3 / 4]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"base_model_config": {"width": 32}}, ValueError, "'depth' must be in both"),
        (
            {"base_model_config": {"width": 512, "depth": 2}},
            ValueError,
            "512 and target_model_config 256: are they swapped",
        ),
        ({"base_model_config": {"depth": 2}}, ValueError, "base_model_config must contain 'width'"),
        ({"base_model_config": 64}, TypeError, "base_model_config must be a dict.*got 64"),
        ({"target_model_config": {"width": 2.0, "depth": 2}}, TypeError, r"\['width'\] must be an integer, got 2\.0"),
        ({"target_model_config": {"width": 256, "depth": 0}}, ValueError, r"\['depth'\] must be >= 1.*got 0"),
        ({"target_model_config": {**TARGET, "classes": 5}}, ValueError, "'classes' must be the same in both"),
        ({"base_hyperparams": {"weight_decay": 0.1}}, ValueError, "base_hyperparams must be a dict with 'lr'"),
        ({"base_hyperparams": {"lr": -1.0}}, ValueError, r"lr must be >= 0.*got -1\.0"),
        ({"base_hyperparams": {"lr": 1e-3, "weight_decay": -1.0}}, ValueError, "weight_decay"),
        ({"base_hyperparams": {"lr": 1e-3, "speed": 1.0}}, TypeError, "speed"),
        (
            {"model": plain_mlp(64)},
            ValueError,
            "no dimension .* = 256; it fits the base's width 64: are the two swapped",
        ),
        ({"model": plain_mlp(100)}, ValueError, "no dimension that is a multiple"),
        (
            {"model": mlp(256, nn.Linear, hidden=100)},
            ValueError,
            r"2\.weight maps a width \(64 -> 256\) to 100 outputs",
        ),
        ({"model": nn.ReLU()}, ValueError, "linear or convolutional layer"),
        ({"model": nn.Sequential(nn.LSTM(4, 256), nn.Linear(256, 5))}, ValueError, "recurrent layers .*LSTM"),
        (
            {"model": nn.Sequential(nn.LazyLinear(256), nn.Linear(256, 5))},
            ValueError,
            r"parameter 0\.weight of model has no shape yet",
        ),
    ],
)
def test_one_call_refuses_bad_input_and_leaves_the_model_alone(arguments, error, match):
    given = {
        "model": plain_mlp(256),
        "base_model_config": BASE,
        "target_model_config": TARGET,
        "base_hyperparams": TUNED,
        **arguments,
    }
    is_lazy = any(isinstance(m, nn.LazyLinear) for m in given["model"].modules())
    before = None if is_lazy else copy.deepcopy(given["model"].state_dict())
    with pytest.raises(error, match=match):
        create_mu_transfer_optimizer(**given)
    if before is not None:
        assert_close(given["model"].state_dict(), before, **BITWISE)


def test_one_call_twice_is_refused():
    model = plain_mlp(256)
    create_mu_transfer_optimizer(model, BASE, TARGET, TUNED)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="already rescaled"):
        create_mu_transfer_optimizer(model, BASE, TARGET, TUNED)
    create_mu_transfer_optimizer(model, BASE, TARGET, TUNED, rescale_params=False)
    assert_close(model.state_dict(), before, **BITWISE)
    assert math.isfinite(model(torch.randn(2, 784)).sum().item())
