"""What keeps base shapes (copies, checkpoints, wrappers), and what keeps the ratios of the learning rates."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, OneCycleLR
from torch.testing import assert_close

from advanced_optimizers import (
    MuAdam,
    MuAdamW,
    MuReadout,
    MuResidual,
    MuSGD,
    get_base_shapes,
    mu_learning_rates,
    set_base_shapes,
)
from tests.harness import BITWISE
from tests.mu_models import MODELS, batch, mlp, sizes_of, train, wide

ADAMW: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}


# ---- what keeps base shapes -----------------------------------------------------------------------------------------


def through_pickle(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle])
def test_copies_know_their_base_shapes(name, duplicate):
    model = wide(name)
    twin = duplicate(model)
    assert get_base_shapes(twin) == get_base_shapes(model)
    losses = train(model, MuAdamW(model, **ADAMW), batch(name), steps=3)
    assert losses == train(twin, MuAdamW(twin, **ADAMW), batch(name), steps=3)


@pytest.mark.parametrize("table", [3, 8, 9])
@pytest.mark.parametrize("name", MODELS)
def test_checkpoint_continues_bit_for_bit_in_a_fresh_model(name, table):
    make = MODELS[name]
    model = wide(name, table=table)
    optimizer = MuAdamW(model, **ADAMW)
    train(model, optimizer, batch(name), steps=3)
    file = io.BytesIO()
    shapes = get_base_shapes(model)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "shapes": shapes}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh = set_base_shapes(make(32), saved["shapes"], rescale_params=False, table=table)
    fresh.load_state_dict(saved["model"])
    resumed = MuAdamW(fresh, **ADAMW)
    resumed.load_state_dict(saved["optimizer"])
    losses = train(model, optimizer, batch(name), steps=3)
    assert losses == train(fresh, resumed, batch(name), steps=3)
    assert_close(fresh.state_dict(), model.state_dict(), **BITWISE)


def test_weights_alone_give_the_same_function_in_a_fresh_model_and_are_not_rescaled_again():
    model = nn.Sequential(nn.Linear(12, 32), MuResidual(nn.Linear(32, 32)), MuReadout(32, 5))
    fresh = copy.deepcopy(model)
    base = nn.Sequential(nn.Linear(12, 8), MuResidual(nn.Linear(8, 8)), MuReadout(8, 5))
    set_base_shapes(model, base, depth=4, base_depth=1)
    x = torch.randn(4, 12)
    with pytest.raises(RuntimeError, match="MuResidual does not know its multiplier"):
        fresh(x)
    fresh.load_state_dict(model.state_dict())
    assert_close(fresh(x), model(x), **BITWISE)
    with pytest.raises(RuntimeError, match="has no base shapes"):
        MuAdam(fresh, lr=0.1)
    with pytest.raises(RuntimeError, match=r"already rescaled.*rescale_params=False"):
        set_base_shapes(fresh, base, depth=4, base_depth=1)
    set_base_shapes(fresh, base, depth=4, base_depth=1, rescale_params=False)
    assert_close(fresh(x), model(x), **BITWISE)
    other = set_base_shapes(nn.Sequential(nn.Linear(12, 32), MuResidual(nn.Linear(32, 32)), MuReadout(32, 5)), None)
    with pytest.raises(ValueError, match=r"MuResidual has the multiplier 1\.0 and the checkpoint has 0\.5"):
        other.load_state_dict(model.state_dict())


def test_functional_call_with_other_parameters_keeps_the_multipliers():
    model = wide()
    x, labels = batch("mlp")
    params = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert_close(torch.func.functional_call(model, params, x), model(x), **BITWISE)
    stacked = {name: torch.stack([p, 2 * p]) for name, p in params.items()}
    both = torch.func.vmap(lambda p: torch.func.functional_call(model, p, x))(stacked)
    assert_close(both[0], model(x))
    grads = torch.func.grad(lambda p: F.cross_entropy(torch.func.functional_call(model, p, x), labels))(params)
    F.cross_entropy(model(x), labels).backward()
    assert_close(grads, {name: p.grad for name, p in model.named_parameters()})


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def in_ddp(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def in_fsdp(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process has nothing to shard
        return FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))


def in_fsdp2(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    return model


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize("wrap", [in_ddp, in_fsdp, in_fsdp2])
@pytest.mark.parametrize("table", [3, 8])
def test_wrapped_models_know_their_base_shapes(wrap, table, one_process):
    model = wide(table=table)
    losses = train(model, MuAdamW(model, **ADAMW), batch("mlp"), steps=4)
    wrapped = wrap(wide(table=table))
    assert get_base_shapes(wrapped) == get_base_shapes(model)
    optimizer = MuAdamW(wrapped, **ADAMW)
    assert sorted(g["lr"] for g in optimizer.param_groups) == sorted(
        g["lr"] for g in MuAdamW(model, **ADAMW).param_groups
    )
    assert losses == pytest.approx(train(wrapped, optimizer, batch("mlp"), steps=4), rel=1e-6)


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
def test_fsdp_that_flattens_parameters_is_told_the_option(one_process):
    from torch.distributed.fsdp import FullyShardedDataParallel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = FullyShardedDataParallel(wide(), use_orig_params=False, device_id=torch.device("cpu"))
    with pytest.raises(RuntimeError, match="use_orig_params=True"):
        MuAdam(wrapped, lr=0.1)


def test_compiled_models_know_their_base_shapes():
    model = wide()
    compiled = torch.compile(model, backend="eager")
    assert get_base_shapes(compiled) == get_base_shapes(model)
    assert len(MuAdam(compiled, lr=0.1).param_groups) == 2
    assert get_base_shapes(set_base_shapes(torch.compile(mlp(32), backend="eager"), mlp(8))) == get_base_shapes(model)


# ---- learning rates stay in their ratios ---------------------------------------------------------------------------


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    train(model, optimizer, batch("mlp"), steps=1)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(
    "schedule",
    [
        lambda opt: OneCycleLR(opt, max_lr=0.1, total_steps=20, cycle_momentum=False),
        lambda opt: CosineAnnealingLR(opt, T_max=3, eta_min=1e-3),
    ],
)
def test_schedule_with_absolute_learning_rates_is_refused_at_the_next_step(schedule):
    model = wide()
    optimizer = MuAdamW(model, lr=0.01)
    schedule(optimizer).step()
    with pytest.raises(RuntimeError, match=r"no longer in muP's ratios .*mu_learning_rates"):
        step(model, optimizer)
    for group, lr in zip(optimizer.param_groups, mu_learning_rates(optimizer, 0.02), strict=True):
        group["lr"] = lr
    step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.5
    with pytest.raises(RuntimeError, match="no longer in muP's ratios"):
        step(model, optimizer)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda opt: LambdaLR(opt, lambda t: 0.0 if t < 2 else 0.3**t),
        lambda opt: CosineAnnealingLR(opt, T_max=7),
        lambda opt: LinearLR(opt, 0.1, 1.0, total_iters=5),
        lambda opt: OneCycleLR(opt, max_lr=mu_learning_rates(opt, 0.3), total_steps=20),
    ],
)
def test_schedules_that_multiply_are_fine(schedule):
    model = wide()
    optimizer = MuSGD(model, [{"params": [*model[0].parameters()]}, {"params": [*model[1:].parameters()], "lr": 0.5}],
                      lr=0.01, momentum=0.9)  # fmt: skip
    scheduler = schedule(optimizer)
    for _ in range(12):
        step(model, optimizer)
        scheduler.step()


def test_group_that_is_added_later_is_refused():
    model = wide()
    optimizer = MuSGD(model, model[:4].parameters(), lr=0.1)
    optimizer.add_param_group({"params": list(model[4].parameters())})
    with pytest.raises(RuntimeError, match="add_param_group, without muP's multipliers"):
        step(model, optimizer)


def test_learning_rate_may_be_a_tensor_and_groups_do_not_share_it():
    model = wide()
    optimizer = MuAdam(model, lr=torch.tensor(0.1), foreach=False)
    assert sorted(float(g["lr"]) for g in optimizer.param_groups) == pytest.approx([0.025, 0.1])
    step(model, optimizer)


def test_user_s_own_groups_are_left_as_they_are_and_names_are_kept():
    model = wide()
    groups = [{"params": list(model.named_parameters()), "lr": 0.3}]
    optimizer = MuSGD(model, groups, lr=0.1)
    assert groups == [{"params": list(model.named_parameters()), "lr": 0.3}]
    assert sorted(name for g in optimizer.param_groups for name in g["param_names"]) == sorted(sizes_of(model))


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (lambda m: (m.parameters(),), TypeError, "MuSGD takes the model.*got generator"),
        (lambda m: (mlp(4),), RuntimeError, "Sequential has no base shapes"),
        (lambda m: (m, next(m.parameters())), TypeError, "params must be an iterable"),
        (lambda m: (m, set(m.parameters())), TypeError, "params must be ordered"),
        (lambda m: (m, [nn.Parameter(torch.zeros(3))]), ValueError, r"shape \(3,\) without a base shape"),
        (lambda m: (m, None, "sgd"), TypeError, "impl must be .*'sgd'"),
    ],
)
def test_optimizers_refuse_bad_input(arguments, error, match):
    with pytest.raises(error, match=match):
        MuSGD(*arguments(wide()), lr=0.1)
    with pytest.raises(ValueError, match=r"lr must be >= 0.*got -0\.1"):
        MuSGD(wide(), lr=-0.1)
    with pytest.raises(ValueError, match="must come from MuSGD"):
        mu_learning_rates(torch.optim.SGD(mlp(4).parameters(), lr=0.1), 0.1)
