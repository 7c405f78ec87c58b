"""muTransfer's mathematics: the tables and their equivalence, golden values, base width, depth."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.testing import assert_close

from advanced_optimizers import (
    FEROptimizer,
    MuAdam,
    MuAdamW,
    MuReadout,
    MuResidual,
    MuSGD,
    MuSharedReadout,
    mu_attention_scale,
    set_base_shapes,
)
from tests.harness import BITWISE
from tests.mu_models import MODELS, batch, mlp, residual_mlp, seeded, train
from tests.reference.zero_shot_transfer import SlowMLP

EXACT = {"fused": False, "foreach": False}
SETTINGS: dict[str, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
    "sgd": (MuSGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "adam": (MuAdam, {"lr": 0.01, "weight_decay": 0.01, "eps": 1e-3, **EXACT}),
    "adamw": (MuAdamW, {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-3, **EXACT}),
}
every_kind = pytest.mark.parametrize("kind", SETTINGS)
every_table = pytest.mark.parametrize("table", [3, 8, 9])


# ---- the tables --------------------------------------------------------------------------------------------------


@every_kind
@every_table
def test_equals_the_tables_written_as_formulas(kind, table):
    sizes, base_sizes = [12, 24, 24, 5], [12, 8, 8, 5]
    make, kwargs = SETTINGS[kind]
    model = seeded(lambda: mlp(24))
    drawn = [
        (m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for m in model if isinstance(m, nn.Linear)
    ]
    assert [w.shape[0] for w, _ in drawn] == sizes[1:]
    slow = SlowMLP(drawn, base_sizes, table)
    set_base_shapes(model, mlp(8), delta=mlp(16), table=table)
    optimizer = make(model, **kwargs)
    x, labels = batch("mlp", torch.float64)
    for t in range(1, 13):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        assert loss.item() == pytest.approx(slow.loss(x.numpy(), labels.numpy()), rel=1e-11)
        if kind == "sgd":
            slow.sgd(**kwargs)
        else:
            own = {k: v for k, v in kwargs.items() if k not in EXACT}
            slow.adam(t=t, decoupled=kind == "adamw", **own)
    layers = [m for m in model if isinstance(m, nn.Linear)]
    for layer, pair in zip(layers, slow.layers, strict=True):
        for name, expected in zip(("weight", "bias"), pair, strict=True):
            divided = parametrize.is_parametrized(layer, name)
            p = layer.parametrizations[name].original if divided else layer._parameters[name]
            np.testing.assert_allclose(p.detach().numpy(), expected.value, rtol=1e-8, atol=1e-12)


@settings(max_examples=25)
@given(
    kind=st.sampled_from(sorted(SETTINGS)),
    base=st.integers(1, 9),
    width=st.integers(2, 20),
    seed=st.integers(0, 1000),
    lr=st.floats(1e-3, 0.2),
    weight_decay=st.sampled_from([0.0, 0.1]),
)
def test_the_three_tables_are_one_function_all_through_training(kind, base, width, seed, lr, weight_decay):
    make, kwargs = SETTINGS[kind]
    data, losses, outputs = batch("mlp", torch.float64), [], []
    for table in (3, 8, 9):
        model = seeded(lambda: mlp(width), seed)
        set_base_shapes(model, mlp(base), delta=mlp(base + 1), table=table, allow_wider_base=True)
        losses.append(train(model, make(model, **{**kwargs, "lr": lr, "weight_decay": weight_decay}), data, steps=6))
        outputs.append(model(data[0]))
    for loss, output in zip(losses[1:], outputs[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-9)
        assert_close(output, outputs[0], rtol=1e-8, atol=1e-10)


@every_kind
@pytest.mark.parametrize("name", MODELS)
def test_the_tables_agree_for_every_kind_of_layer(kind, name):
    make, kwargs = SETTINGS[kind]
    losses = []
    for table in (3, 8, 9):
        model = seeded(lambda: MODELS[name](24))
        set_base_shapes(model, MODELS[name](8), delta=MODELS[name](16), table=table)
        losses.append(train(model, make(model, **kwargs), batch(name, torch.float64), steps=5))
    assert losses[1] == pytest.approx(losses[0], rel=1e-7)
    assert losses[2] == pytest.approx(losses[0], rel=1e-7)
    sp = seeded(lambda: MODELS[name](24))
    plain = train(set_base_shapes(sp, None), make(sp, **kwargs), batch(name, torch.float64), steps=5)
    assert plain[-1] != pytest.approx(losses[0][-1], rel=1e-3)  # so the agreement means something


class Tied(nn.Module):
    def __init__(self, width: int, head_first: bool = False) -> None:
        super().__init__()
        tokens = nn.Embedding(7, width)
        if head_first:
            self.head = MuSharedReadout(tokens.weight)
        self.tokens = tokens
        self.hidden = nn.Linear(width, width)
        if not head_first:
            self.head = MuSharedReadout(tokens.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.tokens(tokens))))


@pytest.mark.parametrize("head_first", [False, True])
def test_tied_embeddings_agree_in_tables_8_and_9_and_are_refused_in_table_3(head_first):
    data = (torch.arange(7), torch.arange(7).roll(1))
    losses = []
    for table in (8, 9):
        model = seeded(lambda: Tied(12, head_first))
        weight = model.tokens.weight.detach().clone()
        set_base_shapes(model, Tied(4, head_first), table=table)
        assert_close(model.tokens.weight.detach(), weight)  # an embedding's init is right as it is
        assert len([p for p in model.parameters() if tuple(p.shape) == (7, 12)]) == 1
        losses.append(train(model, MuAdamW(model, lr=0.02, **EXACT), data, steps=8))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    with pytest.raises(ValueError, match=r"one tensor, but table 3 .*table=8 or table=9"):
        set_base_shapes(Tied(12, head_first), Tied(4, head_first), table=3)


# ---- golden values -----------------------------------------------------------------------------------------------


def no_bias_mlp(width: int, **kwargs: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3072, width, bias=False),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
        nn.ReLU(),
        MuReadout(width, 10, bias=False, **kwargs),
    )


@pytest.mark.parametrize(("width", "r"), [(64, 1.0), (128, 2.0), (8192, 128.0)])
def test_golden_factors_of_the_width_sweep_s_mlp(width, r):
    with torch.device("meta"):
        model = set_base_shapes(no_bias_mlp(width), no_bias_mlp(64), delta=no_bias_mlp(128))
    for make, factors in ((MuSGD, (r, 1.0, r)), (MuAdam, (1.0, 1 / r, 1.0))):
        optimizer = make(model, lr=1.0)
        lr = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert tuple(lr[id(p)] for p in model.parameters()) == factors
    assert model[4].multiplier == 1 / r


def test_readout_divides_its_input_and_multiplies_it_by_output_mult_but_not_its_bias():
    model = set_base_shapes(nn.Sequential(MuReadout(8, 3, output_mult=32.0)), {"0.weight": (3, 2), "0.bias": (3,)})
    x = torch.randn(4, 8)
    assert_close(model(x), 32 / 4 * x @ model[0].weight.T + model[0].bias)


def test_zero_readout_starts_every_width_at_the_same_loss():
    model = set_base_shapes(no_bias_mlp(96, readout_zero_init=True), no_bias_mlp(64))
    loss = F.cross_entropy(model(torch.randn(5, 3072)), torch.arange(5))
    assert loss.item() == pytest.approx(2.302585, abs=1e-6)


def test_attention_scale_is_the_usual_one_at_the_base_and_falls_as_one_over_d():
    assert mu_attention_scale(64, 64) == 1 / 8
    assert mu_attention_scale(256, 64) == 8 / 256
    with pytest.raises(ValueError, match=r"head_dim must be >= 1.*got 0"):
        mu_attention_scale(0, 64)


@pytest.mark.parametrize("make", [MuSGD, MuAdam, MuAdamW])
def test_decoupled_decay_is_left_alone_and_the_product_with_lr_is_kept_otherwise(make):
    model = set_base_shapes(mlp(32), mlp(8), delta=mlp(16))
    kept = make(model, lr=0.1, weight_decay=0.3)
    assert len(kept.param_groups) > 1
    assert all(g["lr"] * g["weight_decay"] == pytest.approx(0.03) for g in kept.param_groups)
    alone = make(model, lr=0.1, weight_decay=0.3, decoupled_wd=True)
    assert {g["weight_decay"] for g in alone.param_groups} == {0.3}


def test_any_optimizer_can_be_the_implementation_a_gradient_transform_too():
    model = set_base_shapes(mlp(32), mlp(8), delta=mlp(16))
    fer = MuSGD(model, impl=FEROptimizer, base_optimizer=SGD, base_optimizer_kwargs={"lr": 0.1}, fer_weight=0.0)
    twin = copy.deepcopy(model)
    losses = train(model, fer, batch("mlp"), steps=4)
    assert losses == train(twin, MuSGD(twin, lr=0.1), batch("mlp"), steps=4)
    rms = MuAdam(model, impl=torch.optim.RMSprop, lr=0.1)
    assert {g["lr"] for g in rms.param_groups} == {0.1, 0.1 / 4}


# ---- base width --------------------------------------------------------------------------------------------------


@every_kind
@every_table
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("with_delta", [True, False])
def test_at_the_base_width_it_is_standard_parametrization_bit_for_bit(kind, table, name, with_delta):
    plain_optimizer = {"sgd": SGD, "adam": Adam, "adamw": AdamW}[kind]
    make, kwargs = SETTINGS[kind]
    model = MODELS[name](8)
    torch.manual_seed(0)
    plain = MODELS[name](8, nn.Linear)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "extra_state" not in k})
    before = [p.detach().clone() for p in model.parameters()]
    set_base_shapes(model, MODELS[name](8), delta=MODELS[name](16) if with_delta else None, table=table)
    assert_close([p.detach() for p in model.parameters()], before, **BITWISE)
    optimizer = make(model, **kwargs)
    losses = train(model, optimizer, batch(name), steps=3)
    assert losses == train(plain, plain_optimizer(plain.parameters(), **kwargs), batch(name), steps=3)


# ---- depth -------------------------------------------------------------------------------------------------------


def test_depth_scales_the_branches_and_adam_s_learning_rate_inside_them():
    model = residual_mlp(16, 8)
    set_base_shapes(model, residual_mlp(8, 8), depth=8, base_depth=2)
    x = torch.randn(3, 16)
    assert_close(model[1](x), x + 0.5 * model[1].branch(x))
    inside = {id(p) for p in model[1:9].parameters()}
    for make, weight, bias in ((MuAdamW, 0.025, 0.05), (MuSGD, 0.1, 0.2)):
        optimizer = make(model, lr=0.1)
        found = {(g["lr"], p.dim()) for g in optimizer.param_groups for p in g["params"] if id(p) in inside}
        assert found == {(weight, 2), (bias, 1)}
    outside = {g["lr"] for g in MuAdamW(model, lr=0.1).param_groups for p in g["params"] if id(p) not in inside}
    assert outside == {0.1}


def test_depth_is_refused_without_marked_branches_or_half_given():
    with pytest.raises(ValueError, match="depth is 8 and base_depth 2, but the model has no MuResidual"):
        set_base_shapes(mlp(16), mlp(8), depth=8, base_depth=2)
    with pytest.raises(ValueError, match="given together, got 8 and None"):
        set_base_shapes(residual_mlp(16, 8), residual_mlp(8, 8), depth=8)
    with pytest.raises(ValueError, match="depth must be >= 1, got 0"):
        set_base_shapes(residual_mlp(16, 1), residual_mlp(8, 1), depth=0, base_depth=1)
    with pytest.raises(ValueError, match="another inside its branch"):
        set_base_shapes(MuResidual(MuResidual(nn.Identity())), None)
    set_base_shapes(mlp(16), mlp(8), depth=2, base_depth=2)


def test_sizes_stay_the_same_as_the_model_gets_deeper():
    def size(depth: int, scaled: bool) -> float:
        torch.manual_seed(1)
        model = residual_mlp(64, depth)
        set_base_shapes(model, None, depth=depth if scaled else None, base_depth=2 if scaled else None)
        return model[:-1](torch.randn(16, 12)).abs().mean().item()

    assert size(32, scaled=True) < 2 * size(2, scaled=True)
    assert size(32, scaled=False) > 4 * size(2, scaled=False)


# ---- transfer ----------------------------------------------------------------------------------------------------


def test_the_best_learning_rate_stays_in_mup_and_falls_with_width_in_standard_parametrization():
    rng = torch.Generator().manual_seed(11)
    x = torch.randn(256, 12, generator=rng)
    teacher, readout = torch.randn(12, 24, generator=rng), torch.randn(24, 5, generator=rng)
    data = (x, ((x @ teacher).tanh() @ readout).argmax(dim=1))
    rates = [2.0**-k for k in range(9, 3, -1)]

    def losses(width: int, base: nn.Module | None) -> list[float]:
        final = []
        for lr in rates:
            torch.manual_seed(0)
            model = set_base_shapes(mlp(width, readout_zero_init=True), base, delta=None if base is None else mlp(64))
            final.append(sum(train(model, MuAdam(model, lr=lr), data, steps=25)[-5:]))
        return final

    narrow, wide = losses(32, mlp(32)), losses(256, mlp(32))
    standard = losses(256, None)
    assert narrow.index(min(narrow)) == wide.index(min(wide)) == len(rates) - 1
    assert standard.index(min(standard)) <= len(rates) - 3  # at least two octaves lower
    assert all(w < 1.02 * n for w, n in zip(wide, narrow, strict=True))  # wider is better, at every learning rate
    assert min(wide) < 0.7 * min(narrow)
