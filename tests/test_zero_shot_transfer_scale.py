"""The scale of the initial weights, measured against the base: what is reported and drawn again, no false alarms."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from advanced_optimizers import MuReadout, coordinate_check, coordinate_growth, set_base_shapes
from advanced_optimizers.zero_shot_transfer import MuAdam
from tests.harness import BITWISE
from tests.mu_models import MODELS, batch, mlp, sizes_of

Init = Callable[[torch.Tensor], Any]


def drawn(width: int, init: Init, seed: int = 0, **kwargs: Any) -> nn.Module:
    torch.manual_seed(seed)
    model = mlp(width, **kwargs)
    for p in model.parameters():
        if p.dim() > 1:
            init(p)
    return model


def constant(p: torch.Tensor) -> Any:
    return nn.init.trunc_normal_(p, std=0.02)


def fan_out(p: torch.Tensor) -> Any:
    return nn.init.kaiming_normal_(p, mode="fan_out")


def messages(model: nn.Module, base: Any, **kwargs: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        set_base_shapes(model, base, **kwargs)
    return [str(warning.message) for warning in caught]


def factor_of(name: str, message: str) -> float:
    return float(message.partition(f"{name} (")[2].partition(")")[0])


# ---- what is reported ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [3, 8, 9])
def test_a_constant_standard_deviation_is_reported_once_with_names_and_factors(table):
    found = messages(drawn(128, constant), drawn(16, constant, 1), table=table)
    assert len(found) == 1
    assert "of 2 of 3 layers are not of muP's scale" in found[0]
    assert factor_of("2.weight", found[0]) == pytest.approx(math.sqrt(8), rel=0.15)
    assert factor_of("4.weight", found[0]) == pytest.approx(math.sqrt(8), rel=0.25)  # a readout is corrected as torch's
    assert "0.weight" not in found[0]
    assert "reinitialize=True" in found[0]


def test_the_delta_serves_if_the_base_has_no_weights():
    for base, delta in ((mlp(16).to("meta"), drawn(32, constant)), (sizes_of(mlp(16)), drawn(32, constant))):
        (found,) = messages(drawn(128, constant, 1), base, delta=delta)
        assert factor_of("2.weight", found) == pytest.approx(2, rel=0.15)  # from 32 to 128
    assert messages(drawn(128, constant), sizes_of(mlp(16))) == []


def test_fan_out_is_reported_where_it_differs_from_fan_in():
    (found,) = messages(drawn(64, fan_out), drawn(16, fan_out, 1))
    assert factor_of("0.weight", found) == pytest.approx(1 / 2, rel=0.2)  # the inputs do not grow
    assert "2.weight" not in found
    (found,) = messages(drawn(64, fan_out, hidden=512), drawn(16, fan_out, 1, hidden=32))
    assert factor_of("2.weight", found) == pytest.approx(1 / 2, rel=0.15)  # sqrt(4 / 16)


class Experts(nn.Module):
    """Two stacks of linear maps, (experts, in, out)."""

    def __init__(self, width: int, exponent: float) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, width, 2 * width) * width**exponent)
        self.down = nn.Parameter(torch.randn(3, 2 * width, width) * (2 * width) ** exponent)


def test_custom_parameters_are_measured_too():
    (found,) = messages(Experts(64, 0.0), Experts(16, 0.0))
    assert factor_of("up", found) == pytest.approx(2, rel=0.1)
    assert messages(Experts(64, -0.5), Experts(16, -0.5)) == []
    model = Experts(64, 0.0)
    set_base_shapes(model, Experts(16, 0.0), reinitialize=True)
    assert model.up.std().item() == pytest.approx(1 / 2, rel=0.1)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_normed_weights_are_measured_as_the_layer_sees_them(norm):
    def make(width: int) -> nn.Module:
        model = nn.Sequential(nn.Linear(5, width), nn.Linear(width, width), MuReadout(width, 3))
        nn.init.normal_(model[1].weight, std=0.2)
        norm(model[1])
        return model

    found = messages(make(64), make(16))
    if norm is parametrizations.spectral_norm:  # it fixes the scale itself
        assert found == []
    else:
        assert factor_of("1.parametrizations.weight.original1", found[0]) == pytest.approx(2, rel=0.15)
        model = set_base_shapes(make(64), make(16), reinitialize=True)
        assert model[1].weight.std().item() == pytest.approx(0.1, rel=0.1)


# ---- what is drawn again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [3, 8, 9])
def test_reinitialize_gives_mup_s_scale_with_the_base_s_standard_deviation(table):
    model = drawn(128, constant)
    before = copy.deepcopy(model.state_dict())
    assert messages(model, drawn(16, constant, 1), reinitialize=True, table=table) == []
    assert model[2].weight.std().item() == pytest.approx(0.02 / math.sqrt(8), rel=0.1)
    assert model[0].weight.std().item() == pytest.approx(0.02, rel=0.15)
    readout = {3: 0.02 / 8, 8: 0.02, 9: 0.02 / math.sqrt(8)}[table]
    assert model[4]._parameters["weight"].std().item() == pytest.approx(readout, rel=0.2)
    if table == 8:
        assert_close(model.state_dict()["0.bias"], before["0.bias"], **BITWISE)


def test_reinitialize_makes_the_coordinate_check_flat():
    def growth(**kwargs: Any) -> float:
        def make(width: int) -> nn.Module:
            return set_base_shapes(drawn(width, lambda p: nn.init.normal_(p, std=0.2), width), base, **kwargs)

        base = drawn(16, lambda p: nn.init.normal_(p, std=0.2))
        models = {width: lambda width=width: make(width) for width in (32, 64, 256)}
        rows = coordinate_check(models, batch("mlp"), lambda m: MuAdam(m, lr=0.01), steps=1, modules=lambda n: n == "2")
        return coordinate_growth(rows)[0].exponent

    with pytest.warns(UserWarning, match="not of muP's scale"):
        assert growth() == pytest.approx(0.5, abs=0.1)
    assert growth(reinitialize=True) == pytest.approx(0.0, abs=0.1)


def test_zeros_stay_zero_and_the_base_width_is_left_alone():
    model = drawn(64, lambda p: nn.init.zeros_(p))
    assert messages(model, drawn(16, constant)) == []
    fresh = drawn(64, lambda p: nn.init.zeros_(p))
    set_base_shapes(fresh, drawn(16, constant), reinitialize=True)
    assert not fresh[2].weight.any()
    same = drawn(16, constant)
    before = copy.deepcopy(same.state_dict())
    set_base_shapes(same, drawn(16, constant, 1), delta=drawn(32, constant), reinitialize=True)
    del before["4._extra_state"]
    assert_close({name: same.state_dict()[name] for name in before}, before, **BITWISE)


def test_reinitialize_is_refused_where_nothing_can_be_measured():
    for arguments, match in (
        ({"base": sizes_of(mlp(8))}, "needs a base .* that is a model with weights"),
        ({"base": mlp(8).to("meta")}, "needs a base .* that is a model with weights"),
        ({"base": mlp(8), "rescale_params": False}, "rescale_params=False keeps them"),
    ):
        model = mlp(32)
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ValueError, match=match):
            set_base_shapes(model, arguments.pop("base"), reinitialize=True, **arguments)
        assert_close(model.state_dict(), before, **BITWISE)


# ---- no false alarms -----------------------------------------------------------------------------------------------

RIGHT: dict[str, Init] = {
    "kaiming_uniform": lambda p: nn.init.kaiming_uniform_(p, a=math.sqrt(5)),
    "kaiming_normal": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
    "zeros": nn.init.zeros_,
    "sparse": lambda p: nn.init.sparse_(p, sparsity=0.9, std=p.shape[1] ** -0.5),
}


@pytest.mark.parametrize("name", RIGHT)
def test_no_alarm_for_weights_of_the_right_scale_however_small(name):
    """Pairs of layers for each initializer, from 2 x 2 weights on."""
    for width in (2, 4, 6, 8, 16):
        for seed in range(30):
            torch.manual_seed(seed)
            model, base = nn.Linear(2 * width, 2 * width), nn.Linear(width, width)
            for layer in (model, base):
                RIGHT[name](layer.weight)
            assert messages(model, base) == [], (width, seed)


@pytest.mark.parametrize("name", MODELS)
def test_no_alarm_for_torch_s_own_layers(name):
    for seed in range(10):
        torch.manual_seed(seed)
        assert messages(MODELS[name](32), MODELS[name](8), delta=MODELS[name](16)) == []
        assert messages(nn.LSTM(6, 32, 2), nn.LSTM(6, 8, 2)) == []
        assert messages(nn.MultiheadAttention(32, 8), nn.MultiheadAttention(8, 2)) == []


def test_no_alarm_for_embeddings_nor_where_weights_are_kept():
    def tokens(width: int) -> nn.Module:
        embedding = nn.Embedding(50, width)
        nn.init.normal_(embedding.weight, std=width**-0.5)  # the model multiplies its output by sqrt(width)
        return embedding

    assert messages(tokens(64), tokens(16)) == []
    assert messages(drawn(64, constant), drawn(16, constant), rescale_params=False) == []


def test_small_factors_are_found_in_weights_of_usual_size():
    found = messages(drawn(32, constant), drawn(16, constant, 1))
    assert "2.weight" in found[0]  # 16 x 16 against 32 x 32, off by sqrt(2)
