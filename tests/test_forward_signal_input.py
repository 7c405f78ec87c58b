"""Forward signal propagation: what is refused, what is accepted though it looks unusual."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.testing import assert_close

from advanced_optimizers import (
    LocalLoss,
    SigPropConvNet,
    SigPropNet,
    SigPropOptimizer,
    SigPropPipeline,
    SigPropSequential,
    create_sigprop_optimizer,
)
from tests.forward_signal_models import conv_model, image_batches
from tests.harness import BITWISE, through_a_file


def network(**options) -> SigPropSequential:
    return SigPropSequential(conv_model(), (1, 8, 8), 3, **options)


# ---- numbers of other kinds ----------------------------------------------------------------------------------------


def test_numpys_numbers_and_arrays_are_python_s():
    torch.manual_seed(0)
    net = SigPropConvNet(
        np.array([1, 8, 8]),
        np.array([4, 4]),
        np.int64(3),
        convolutions_per_stage=np.int32(1),
        width=np.float32(1.5),
        fixed_signal=np.bool_(False),
        loss=LocalLoss("target_topk", np.float64(2.0), np.int64(2)),
    )
    torch.manual_seed(0)
    expected = SigPropConvNet((1, 8, 8), (4, 4), 3, width=1.5, loss=LocalLoss("target_topk", 2.0, 2))
    assert_close(net.state_dict(), expected.state_dict(), **BITWISE)
    assert (net.num_classes, net.input_shape) == (3, (1, 8, 8))
    assert [type(value) for value in (net.num_classes, *net.input_shape)] == [int] * 4
    loss = net.layers[0].loss
    assert (loss.temperature, loss.top_k, type(loss.top_k)) == (2.0, 2, int)
    dense = SigPropNet(np.int64(4), np.array([6, 5]), torch.tensor([0, 1, 2]).max() + 1)
    assert [layer.block[-2].out_features for layer in dense.layers] == [6, 5]
    assert (
        SigPropNet(4, torch.tensor([6]), 3, fixed_signal=np.bool_(True)).generator.projection.weight.requires_grad
        is False
    )
    optimizer = SigPropOptimizer(dense, np.float32(0.5), np.float64(0.25))
    assert [(group["lr"], type(group["lr"])) for group in optimizer.param_groups][:2] == [(0.5, float), (0.25, float)]
    pipeline = SigPropPipeline(optimizer, np.int64(2), costs=np.array([1.0, 2.0, 3.0]), queue_length=np.int8(1))
    assert pipeline.costs == [1.0, 2.0, 3.0]
    assert [type(value) for value in (pipeline.stages, pipeline.queue_length)] == [int, int]
    assert SigPropPipeline(optimizer, 2, costs=torch.tensor([1.0, 2.0, 3.0])).costs == [1.0, 2.0, 3.0]


def test_generators_are_read_once():
    net = SigPropNet(4, (units for units in (6, 5)), 3)
    assert [layer.block[-2].out_features for layer in net.layers] == [6, 5]
    model = nn.Sequential(nn.Linear(4, 3))
    assert SigPropSequential(model, (n for n in (4,)), 3, output="targets").input_shape == (4,)


def test_a_learning_rate_in_a_tensor_stays_one(rng):
    net = network()
    twin = copy.deepcopy(net)
    lr = torch.tensor(0.05)
    optimizer = SigPropOptimizer(net, lr, base_optimizer=SGD)
    expected = SigPropOptimizer(twin, 0.05, base_optimizer=SGD)
    assert optimizer.param_groups[0]["lr"] is lr
    for x, y in image_batches(rng, 2):
        optimizer.learn(x, y)
        expected.learn(x, y)
    assert_close(net.state_dict(), twin.state_dict(), rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_inputs_have_the_networks_precision(dtype, rng):
    net = network().to(dtype)
    (x, y), *_ = image_batches(rng, 1)
    create_sigprop_optimizer(net).learn(x.to(dtype), y)
    with pytest.raises(ValueError, match=rf"x must have the network's dtype {dtype}, got torch\.float32: pass x\.to"):
        create_sigprop_optimizer(net).learn(x, y)


def test_autocast_takes_the_precisions_that_it_casts(rng):
    (x, y), *_ = image_batches(rng, 1)
    optimizer = create_sigprop_optimizer(network())
    with torch.autocast("cpu", torch.bfloat16):
        optimizer.learn(x.bfloat16(), y)
        with pytest.raises(ValueError, match=r"x must have the network's dtype torch\.float32, got torch\.float64"):
            optimizer.learn(x.double(), y)


# ---- layers that are frozen --------------------------------------------------------------------------------------


def test_a_layer_that_is_frozen_later_stays_as_it_is_both_ways(rng):
    net = network()
    twin = copy.deepcopy(net)
    learning, looping = create_sigprop_optimizer(net), create_sigprop_optimizer(twin)
    before = copy.deepcopy(list(net.layers[1].parameters()))
    for model in (net, twin):
        model.layers[1].requires_grad_(False)
    for x, y in image_batches(rng, 3):
        result = learning.learn(x, y)
        looping.zero_grad()
        sum(twin.local_losses(x, y)).backward()
        looping.step()
        assert len(result.losses) == 4
        assert not result.scores.requires_grad
    assert_close(list(net.layers[1].parameters()), before, **BITWISE)
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)


def test_a_frozen_network_still_has_losses_and_scores(rng):
    net = network().requires_grad_(False)
    (x, y), *_ = image_batches(rng, 1)
    assert len(net.local_losses(x, y)) == 4
    assert net(x).shape == (12, 3)


# ---- layout in memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resumed", [False, True], ids=["converted", "resumed"])
@pytest.mark.parametrize("way", ["learn", "loop"])
def test_state_of_another_layout_is_paired_with_the_right_elements(way, resumed, rng):
    net = SigPropConvNet((1, 8, 8), (4, 8), 3, norm=None).double()
    twin = copy.deepcopy(net)
    optimizer, other = create_sigprop_optimizer(net, 1e-2), create_sigprop_optimizer(twin, 1e-2)
    batches = [(x.double(), y) for x, y in image_batches(rng, 8)]

    def train(trained: SigPropOptimizer, some: list) -> None:
        for x, y in some:
            if way == "learn":
                trained.learn(x, y)
            else:
                trained.zero_grad()
                sum(trained.net.local_losses(x, y)).backward()
                trained.step()

    train(optimizer, batches)
    train(other, batches[:4])
    twin.to(memory_format=torch.channels_last)
    if resumed:
        saved = through_a_file(other.state_dict())
        other = create_sigprop_optimizer(twin, 1e-2)
        other.load_state_dict(saved)
    train(other, batches[4:])
    assert_close(list(twin.parameters()), list(net.parameters()), rtol=0.0, atol=1e-5, check_stride=False)


# ---- checkpoints -------------------------------------------------------------------------------------------------


def test_an_edited_checkpoint_loads_the_edit(rng):
    optimizer = create_sigprop_optimizer(network())
    optimizer.learn(*image_batches(rng, 1)[0])
    state = through_a_file(optimizer.state_dict())
    state["param_groups"][1]["lr"] = 0.25
    optimizer.load_state_dict(state)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 0.25, 1e-3, 1e-3, 1e-3]
    assert optimizer.bases[0] is not None
    assert optimizer.bases[0].param_groups[1]["lr"] == 0.25
    assert optimizer.state_dict()["param_groups"][1]["lr"] == 0.25


def test_state_shows_what_the_base_optimizers_hold(rng):
    optimizer = create_sigprop_optimizer(network())
    assert not optimizer.state
    optimizer.learn(*image_batches(rng, 1)[0])
    held = {p: state for base in optimizer.bases if base is not None for p, state in base.state.items()}
    assert held
    assert optimizer.state == held
    assert optimizer.state_dict()["state"] == {}


def test_assigned_groups_are_those_that_the_base_optimizers_step_with(rng):
    optimizer = create_sigprop_optimizer(network())
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
    twin = copy.deepcopy(optimizer)
    for either in (optimizer, twin):
        for group in either.param_groups:
            group["lr"] = 0.0
        before = copy.deepcopy(list(either.net.parameters()))
        either.learn(*image_batches(rng, 1)[0])
        assert_close(list(either.net.parameters()), before, **BITWISE)


# ---- bad input ---------------------------------------------------------------------------------------------------


def test_signatures_are_the_coursework_s():
    parameters = inspect.signature(create_sigprop_optimizer).parameters
    assert list(parameters) == ["model", "lr", "signal_lr"]
    own = inspect.signature(SigPropOptimizer).parameters
    assert list(own) == ["net", "lr", "signal_lr", "base_optimizer", "base_optimizer_kwargs", "process_group"]
    assert inspect.signature(SigPropOptimizer.step).return_annotation == "float | None"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"lr": -0.1}, ValueError, r"lr must be >= 0.*got -0\.1"),
        ({"signal_lr": -0.1}, ValueError, r"signal_lr must be >= 0.*got -0\.1"),
        ({"lr": "fast"}, TypeError, "lr must be a number.*'fast'"),
        ({"base_optimizer": "adam"}, TypeError, "base_optimizer must be .*'adam'"),
        ({"base_optimizer": torch.optim.LBFGS}, ValueError, "LBFGS doesn't support per-parameter options"),
        ({"base_optimizer_kwargs": {"lr": 0.1}}, ValueError, r"lr must be given as lr, .*got 0\.1"),
        ({"base_optimizer_kwargs": 0.9}, TypeError, r"base_optimizer_kwargs must be a dict.*got 0\.9"),
        ({"net": nn.Sequential(nn.Linear(2, 2))}, TypeError, r"SigProp network, got Sequential: wrap it.*SigPropSequ"),
        ({"net": [torch.zeros(2)]}, TypeError, r"net must be a SigProp network, got \[tensor"),
    ],
)
def test_refuses_bad_values(arguments, error, match):
    with pytest.raises(error, match=match):
        SigPropOptimizer(**{"net": network(), **arguments})


def test_create_refuses_a_plain_module_and_bad_rates():
    with pytest.raises(TypeError, match=r"wrap it in SigPropSequential\(model, input_shape, num_classes\)"):
        create_sigprop_optimizer(nn.Sequential(nn.Linear(2, 2)), 1e-3, 1e-3)
    with pytest.raises(ValueError, match="signal_lr must be >= 0"):
        create_sigprop_optimizer(network(), 1e-3, -1.0)


def test_groups_cannot_be_added():
    optimizer: Optimizer = create_sigprop_optimizer(network())
    with pytest.raises(TypeError, match="takes its groups from the network's layers"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    assert len(optimizer.param_groups) == 5


def test_assigned_groups_must_be_the_layers():
    optimizer = create_sigprop_optimizer(network())
    groups = optimizer.param_groups
    for other in (groups[:-1], groups[::-1], [{**groups[0], "params": []}, *groups[1:]]):
        with pytest.raises(ValueError, match="param_groups must be the 5 groups of the network's layers"):
            optimizer.param_groups = other
    with pytest.raises(TypeError, match="param_groups must be a list of group dicts"):
        optimizer.param_groups = [None]
    with SigPropPipeline(optimizer), pytest.raises(RuntimeError, match="cannot be assigned in an open SigPropPipeline"):
        optimizer.param_groups = groups
    assert all(own is group for own, group in zip(optimizer.param_groups, groups, strict=True))
