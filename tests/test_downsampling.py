"""The hidden states on which gradient correction acts: the layers that a probing forward pass finds in a model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.testing import assert_close

from advanced_optimizers import GradientCorrectionOptimizer
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.gradient_correction.downsampling import Downsampling, find_downsampling
from tests.gradient_correction_models import EXAMPLE, corrected, digits, hooks, small_net
from tests.harness import BITWISE, train


def names(model: nn.Module, found: list[Downsampling]) -> list[tuple[str, str]]:
    modules = {module: name for name, module in model.named_modules()}
    weights = {weight: name for name, weight in model.named_parameters()}
    return [(modules[each.place.module], weights[each.weight] if each.weight is not None else "") for each in found]


def test_finds_the_downsampling_layers_and_the_weights_before_them():
    model = small_net()
    assert names(model, find_downsampling(model, EXAMPLE)) == [("3", "0.weight"), ("6", "4.weight")]


def test_of_a_strided_convolution_and_its_shortcut_only_one_counts():
    model = build_model("resnet18", (3, 16, 16), 10, 0.0625)
    places = find_downsampling(model, torch.zeros(1, 3, 16, 16))
    assert names(model, places) == [
        (f"{stage}.convolutions.0", f"{stage - 1}.convolutions.3.weight") for stage in (5, 7, 9)
    ] + [("11", "10.convolutions.3.weight")]


def test_strided_layer_on_the_images_does_not_count():
    model = nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    assert names(model, find_downsampling(model, EXAMPLE)) == [("2", "0.weight")]


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.MaxPool1d(2)), torch.zeros(1, 2, 8)),
        (nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.AvgPool3d(2)), torch.zeros(1, 1, 4, 4, 4)),
    ],
    ids=["1d", "3d"],
)
def test_one_and_three_dimensions(model, example, rng):
    parameters = list(model.parameters())
    optimizer = GradientCorrectionOptimizer(
        parameters, SGD, {"lr": 0.1}, gcode_strength=1.0, train_every=1, model=model, example_input=example
    )
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(example.shape, generator=rng)).square().sum().backward()
        optimizer.step()
    assert optimizer.history[-1].gcode_gate != 0.0
    assert all(torch.isfinite(p).all() for p in parameters)


def test_probe_leaves_the_model_as_it_was():
    model = small_net()
    model[1].eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    find_downsampling(model, torch.ones(2, 1, 8, 8))
    assert_close(model.state_dict(), before, **BITWISE)
    assert [m.training for m in model] == [True, False] + [True] * 8
    assert hooks(model) == 0
    assert all(p.grad is None for p in model.parameters())
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize(
    ("model", "example", "error", "match"),
    [
        ("resnet18", EXAMPLE, TypeError, r"model must be a torch.nn.Module, got 'resnet18'"),
        (nn.Linear(2, 2), None, ValueError, "example_input must be a tensor.*got None"),
        (nn.Linear(8, 2), EXAMPLE, ValueError, "model must down-sample, but Linear has neither"),
        (small_net().requires_grad_(False), EXAMPLE, ValueError, "model must have parameters that require a gradient"),
        (small_net(), EXAMPLE.double(), ValueError, r"example_input must be .* \(2, 1, 8, 8\) and torch.float64, with"),
        (small_net(), EXAMPLE, ValueError, "model must have the parameters that are optimized.*Sequential"),
        (None, EXAMPLE, ValueError, r"example_input is .*\(2, 1, 8, 8\) without model"),
    ],
)
def test_refuses_bad_models(model, example, error, match):
    params = [nn.Parameter(torch.zeros(2, 2))]
    with pytest.raises(error, match=match):
        GradientCorrectionOptimizer(params, model=model, example_input=example)
    assert not isinstance(model, nn.Module) or hooks(model) == 0


def test_gcw_acts_only_on_the_last_layer_before_each():
    model = small_net()
    optimizer = corrected(model)
    train(model, optimizer, digits(torch.Generator().manual_seed(0), 3))
    assert [name for name, p in model.named_parameters() if "memory" in optimizer.state[p]] == ["0.weight", "4.weight"]


def test_number_of_parameters():
    per_tensor, d_and_p_of_4, d_and_p_of_6 = 71, 4 * 9 + 16 + 1, 6 * 9 + 36 + 1
    assert corrected(small_net()).num_extra_parameters == 2 * per_tensor + d_and_p_of_4 + d_and_p_of_6
    assert corrected(small_net(), gcw_strength=0.0).num_extra_parameters == d_and_p_of_4 + d_and_p_of_6
    assert corrected(small_net(), gcode_strength=0.0).num_extra_parameters == 2 * per_tensor
