"""Situations of real models: meta devices, failing calls, experts, schedules; nothing is silent."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.testing import assert_close

from advanced_optimizers import (
    MuAdam,
    MuAdamW,
    MuSGD,
    create_mu_transfer_optimizer,
    get_base_shapes,
    mu_init_,
    mu_learning_rates,
    set_base_shapes,
)
from tests.harness import BITWISE
from tests.mu_models import batch, mlp, seeded, sizes_of, train, wide

# ---- a model without weights ---------------------------------------------------------------------------------------


def on_meta(width: int, **kwargs: Any) -> nn.Module:
    with torch.device("meta"):
        return mlp(width, **kwargs)


def materialized(model: nn.Module, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return model


@pytest.mark.parametrize("table", [3, 8])
def test_the_rescaling_of_a_meta_model_is_due_until_it_has_weights(table):
    model = set_base_shapes(on_meta(32), mlp(8), delta=mlp(16), table=table)
    assert {g["lr"] for g in MuAdam(model, lr=0.1).param_groups} == {0.1, 0.025}  # to look at them is fine
    materialized(model)
    with pytest.raises(RuntimeError, match=r"meta device.*never rescaled: 2\.bias, 4\.bias, 4\.weight"):
        MuAdam(model, lr=0.1)
    set_base_shapes(model, mlp(8), delta=mlp(16), table=table)
    torch.manual_seed(3)
    expected = mlp(32)
    torch.manual_seed(3)
    for i in (0, 2, 4):
        expected[i].reset_parameters()
    set_base_shapes(expected, mlp(8), delta=mlp(16), table=table)
    assert_close(model.state_dict(), expected.state_dict(), **BITWISE)
    MuAdam(model, lr=0.1)


def test_weights_from_elsewhere_settle_what_is_due():
    trained = wide()
    from_checkpoint = set_base_shapes(on_meta(32), mlp(8), delta=mlp(16)).to_empty(device="cpu")
    from_checkpoint.load_state_dict(trained.state_dict())
    MuAdam(from_checkpoint, lr=0.1)
    kept = materialized(set_base_shapes(on_meta(32), mlp(8), delta=mlp(16), rescale_params=False))
    MuAdam(kept, lr=0.1)
    drawn = materialized(set_base_shapes(on_meta(32), mlp(8), delta=mlp(16)))
    for i in (0, 2, 4):
        mu_init_(drawn[i], nn.init.kaiming_normal_)
        nn.init.zeros_(drawn[i].bias)
    MuAdam(drawn, lr=0.1)


def test_table_9_cannot_wait():
    with pytest.raises(ValueError, match="table=9 cannot rescale a model on the meta device later"):
        set_base_shapes(on_meta(32), mlp(8), table=9)
    set_base_shapes(on_meta(32), mlp(8), table=9, rescale_params=False)


def test_the_one_call_on_a_meta_model_is_due_too():
    model = on_meta(32, readout=nn.Linear)
    create_mu_transfer_optimizer(model, {"width": 8}, {"width": 32}, {"lr": 0.1})
    with pytest.raises(RuntimeError, match="never rescaled"):
        MuAdamW(materialized(model), lr=0.1)


# ---- a call that fails ---------------------------------------------------------------------------------------------


# Adafactor and Muon are only means to make a call fail here.
ignore_kind = pytest.mark.filterwarnings("ignore:impl .* will not transfer across widths")


def adafactor(model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
    return MuAdam(model, impl=torch.optim.Adafactor, **kwargs)


def muon(model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
    return MuSGD(model, impl=torch.optim.Muon, **kwargs)


def broken(model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
    raise OSError("no space left")


@ignore_kind
@pytest.mark.parametrize(
    ("make", "hyperparams", "error", "match"),
    [
        (adafactor, {"eps": (None, 1e-3)}, ValueError, r"eps must be a number.*got \(None, 0\.001\)"),
        (MuAdamW, {"betas": 0.9}, TypeError, r"betas must be a pair.*got 0\.9"),
        (MuAdamW, {"speed": 1}, TypeError, "speed"),
        (broken, {}, OSError, "no space"),
        pytest.param(
            muon, {}, ValueError, "2D", marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch < 2.9")
        ),
    ],
)
def test_a_one_call_that_fails_leaves_the_model_alone_and_can_be_repeated(make, hyperparams, error, match):
    model = seeded(lambda: mlp(32, nn.Linear))
    before = copy.deepcopy(model.state_dict())
    marks = [set(module.__dict__) for module in model.modules()]
    for _ in range(2):
        with pytest.raises(error, match=match):
            create_mu_transfer_optimizer(model, {"width": 8}, {"width": 32}, {"lr": 0.1, **hyperparams}, optimizer=make)
        assert_close(model.state_dict(), before, **BITWISE)
        assert [set(module.__dict__) for module in model.modules()] == marks
    again = create_mu_transfer_optimizer(model, {"width": 8}, {"width": 32}, {"lr": 0.1})
    fresh = seeded(lambda: mlp(32, nn.Linear))
    create_mu_transfer_optimizer(fresh, {"width": 8}, {"width": 32}, {"lr": 0.1})
    assert_close(model.state_dict(), fresh.state_dict(), **BITWISE)
    assert {group["lr"] for group in again.param_groups} == {0.1, 0.025}


def test_adafactor_s_two_epsilons_are_fine_where_nothing_scales_them():
    with pytest.warns(UserWarning, match="Adafactor.*in proportion to the weights' own size"):
        optimizer = adafactor(wide(), lr=0.1)
    assert {group["eps"] for group in optimizer.param_groups} == {(None, 1e-3)}


def test_a_file_that_cannot_be_written_leaves_the_model_alone(tmp_path):
    model = mlp(32)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FileNotFoundError):
        set_base_shapes(model, mlp(8), file=tmp_path / "missing" / "shapes.json")
    assert_close(model.state_dict(), before, **BITWISE)
    set_base_shapes(model, mlp(8), file=tmp_path / "shapes.json")


def test_a_warning_that_is_an_error_leaves_the_model_alone():
    model = nn.MultiheadAttention(32, 2)
    before = copy.deepcopy(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="divides by the square root"):
            set_base_shapes(model, nn.MultiheadAttention(8, 2))
    assert_close(model.state_dict(), before, **BITWISE)
    with pytest.warns(UserWarning, match="divides by the square root"):
        set_base_shapes(model, nn.MultiheadAttention(8, 2))


@pytest.mark.parametrize(
    ("make", "impl", "way_out"),
    [
        (MuSGD, torch.optim.AdamW, r"use MuAdam\(impl=AdamW\)"),
        (MuSGD, torch.optim.RMSprop, r"use MuAdam\(impl=RMSprop\)"),
        (MuAdam, torch.optim.SGD, r"use MuSGD\(impl=SGD\)"),
    ],
)
def test_an_optimizer_of_the_other_kind_causes_a_warning(make, impl, way_out):
    with pytest.warns(UserWarning, match=f"does not scale as {make.__name__} assumes: {way_out}"):
        make(wide(), impl=impl, lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MuSGD(wide(), impl=torch.optim.ASGD, lr=0.1)
        MuAdam(wide(), impl=torch.optim.NAdam, lr=0.1)


# ---- experts, and sizes named as data ------------------------------------------------------------------------------


class Experts(nn.Module):
    def __init__(self, width: int, experts: int = 3) -> None:
        super().__init__()
        self.entry = nn.Linear(5, width)
        self.up = nn.Parameter(torch.randn(experts, width, 2 * width) * width**-0.5)
        self.heads = nn.Parameter(torch.randn(width // 4, 4, width) * width**-0.5)


def test_parameters_whose_widths_are_not_the_first_dimensions():
    model = set_base_shapes(Experts(32), Experts(8), delta=Experts(16))
    for make, factor in ((MuAdam, 0.25), (MuSGD, 1.0)):
        lr = {id(p): group["lr"] for group in make(model, lr=1.0).param_groups for p in group["params"]}
        assert lr[id(model.up)] == lr[id(model.heads)] == factor
    mu_init_(model, nn.init.normal_, "up", std=0.5)
    assert model.up.std().item() == pytest.approx(0.25, rel=0.1)
    torch.manual_seed(0)
    base = nn.init.kaiming_normal_(torch.empty(3, 8, 16))
    mu_init_(model, nn.init.kaiming_normal_, "up")  # for torch both widths are in its fan-in
    assert model.up.std().item() == pytest.approx(base.std().item() / 2, rel=0.15)
    with pytest.raises(ValueError, match="up has the widths"):
        set_base_shapes(Experts(32, 6), Experts(8, 3))


class Conditioned(nn.Module):
    def __init__(self, width: int, cond_dim: int, hidden: int | None = None) -> None:
        super().__init__()
        self.entry = nn.Linear(5, width)
        self.condition = nn.Linear(cond_dim, width)
        self.up, self.down = nn.Linear(width, hidden or 2 * width), nn.Linear(hidden or 2 * width, width)
        self.norm = nn.LayerNorm(cond_dim)
        self.head = nn.Linear(width, 3)


def test_a_named_size_in_the_middle_is_data():
    small, large = {"width": 16, "cond_dim": 256}, {"width": 64, "cond_dim": 256}
    model = Conditioned(64, 256)
    create_mu_transfer_optimizer(model, small, large, {"lr": 0.1})
    shapes = get_base_shapes(model)
    assert shapes["condition.weight"] == (16, None)
    assert shapes["norm.weight"] == (None,)
    assert shapes["down.weight"] == (16, 32)
    for width, match in ((64, r"cond_dim=256 .*; up\.weight produces it"), (256, "cond_dim=256 .*from the width 256")):
        with pytest.raises(ValueError, match=match):
            create_mu_transfer_optimizer(
                Conditioned(width, 256, hidden=256), {**small, "width": 16}, {**large, "width": width}, {"lr": 0.1}
            )


# ---- schedules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.9])
def test_reduce_on_plateau_works_until_it_stops(factor):
    model = wide()
    for make, lr in ((MuSGD, 0.3), (MuAdamW, 2e-3)):
        optimizer = make(model, lr=lr)
        schedule = ReduceLROnPlateau(optimizer, factor=factor, patience=0)
        for _ in range(12 if factor < 0.9 else 200):
            schedule.step(1.0)
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer.step()
        if factor < 0.5:
            assert max(group["lr"] for group in optimizer.param_groups) < 1e-7


def test_a_smallest_learning_rate_for_all_groups_is_refused_with_the_way_out():
    model = wide()
    optimizer = MuAdamW(model, lr=1e-3)
    schedule = ReduceLROnPlateau(optimizer, patience=0, min_lr=1e-4)
    for _ in range(3):
        schedule.step(1.0)
    with pytest.raises(RuntimeError, match=r"no longer in muP's ratios.*also for min_lr \(ReduceLROnPlateau\)"):
        train(model, optimizer, batch("mlp"), steps=1)
    optimizer = MuAdamW(model, lr=1e-3)
    schedule = ReduceLROnPlateau(optimizer, patience=0, min_lr=mu_learning_rates(optimizer, 1e-4))
    for _ in range(3):
        schedule.step(1.0)
        train(model, optimizer, batch("mlp"), steps=1)


# ---- messages ------------------------------------------------------------------------------------------------------


def test_twelve_attention_layers_cause_one_warning():
    def make(width: int) -> nn.Module:
        return nn.ModuleList([nn.MultiheadAttention(width, 2) for _ in range(12)])

    with pytest.warns(UserWarning, match="nn.MultiheadAttention") as caught:
        set_base_shapes(make(32), make(8))
    assert len(caught) == 1
    assert all(str(i) in str(caught[0].message) for i in range(12))


def test_messages_name_only_arguments_that_the_function_has():
    with pytest.raises(ValueError, match="base already marks") as caught:
        set_base_shapes(mlp(32), {**sizes_of(mlp(8)), "0.bias": (None,)}, delta=mlp(16))
    assert "leave out delta" in str(caught.value)
    from advanced_optimizers import make_base_shapes

    with pytest.raises(ValueError, match="base already marks") as caught:
        make_base_shapes({**sizes_of(mlp(8)), "0.bias": (None,)}, mlp(16))
    assert "leave out" not in str(caught.value)
    with pytest.raises(ValueError, match="maps a width") as caught:
        create_mu_transfer_optimizer(mlp(256, nn.Linear, hidden=100), {"width": 64}, {"width": 256}, {"lr": 0.1})
    assert "delta" not in str(caught.value)
    with pytest.raises(ValueError, match="swapped") as caught:
        create_mu_transfer_optimizer(mlp(64, nn.Linear), {"width": 256}, {"width": 64}, {"lr": 0.1})
    assert "allow_wider_base" not in str(caught.value)


# ---- NumPy's numbers -----------------------------------------------------------------------------------------------


def test_numpy_s_numbers_are_numbers():
    sizes = {name: tuple(np.int64(d) for d in dims) for name, dims in sizes_of(mlp(8)).items()}
    model = set_base_shapes(mlp(32), sizes, table=np.int64(8), rescale_params=np.bool_(True))
    assert all(type(d) is int for dims in get_base_shapes(model).values() for d in dims if d is not None)
    optimizer = MuAdamW(model, lr=np.float32(0.1), weight_decay=np.float64(0.1), betas=(np.float64(0.9), 0.99))
    assert {type(group["lr"]) for group in optimizer.param_groups} == {float}
    widths = {"width": np.int32(8)}, {"width": np.int64(32), "input_dim": np.int64(12)}
    create_mu_transfer_optimizer(mlp(32, nn.Linear), {**widths[0], "input_dim": 12}, widths[1], {"lr": np.float32(0.1)})
