"""SigProp's networks: how a model is cut into layers, its norms and dropout, its outputs, and what is refused."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from advanced_optimizers import LocalLoss, SigPropConvNet, SigPropNet, SigPropOptimizer, SigPropSequential
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.forward_signal.layers import split_into_blocks
from tests.forward_signal_models import conv_model, labels
from tests.harness import BITWISE

IMAGES = (1, 8, 8)


def kinds(net: SigPropSequential) -> list[list[str]]:
    return [[type(module).__name__ for module in layer.block] for layer in net.layers]


# ---- cutting -----------------------------------------------------------------------------------------------------


def test_layer_takes_all_modules_up_to_the_next_weights():
    net = SigPropSequential(conv_model(), IMAGES, 3)
    assert kinds(net) == [
        ["Conv2d", "BatchNorm2d", "ReLU", "Dropout2d"],
        ["Conv2d", "BatchNorm2d", "LeakyReLU", "MaxPool2d", "Flatten"],
        ["Linear", "ReLU", "Dropout"],
    ]
    assert isinstance(net.output.linear, nn.Linear)


def test_modules_before_the_first_weights_belong_to_the_first_layer():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    assert kinds(SigPropSequential(model, IMAGES, 3)) == [["Flatten", "Linear", "ReLU"]]


def test_norms_prelu_and_frozen_weights_are_no_layers_but_submodules_are():
    submodule = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    frozen = nn.Linear(8, 8).requires_grad_(False)
    model = nn.Sequential(
        *(nn.LayerNorm(8), nn.Linear(8, 8), nn.PReLU(), frozen, nn.GroupNorm(2, 8), nn.RMSNorm(8)),
        *(submodule, nn.BatchNorm1d(8), nn.Linear(8, 3)),
    )
    assert kinds(SigPropSequential(model, (8,), 3)) == [
        ["LayerNorm", "Linear", "PReLU", "Linear", "GroupNorm", "RMSNorm"],
        ["Sequential", "BatchNorm1d"],
    ]


def test_sequential_without_weights_has_no_blocks():
    assert split_into_blocks(nn.Sequential(nn.Flatten(), nn.ReLU())) == []
    assert split_into_blocks(nn.Sequential()) == []


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet18"])
def test_models_of_the_studies_are_wrapped_as_they_are(name, rng):
    model = build_model(name, (1, 8, 8), 4, width=0.125).to(memory_format=torch.channels_last)
    net = SigPropSequential(model, (1, 8, 8), 4)
    x, y = torch.randn(6, 8, 8, 1, generator=rng).permute(0, 3, 1, 2), labels(rng, 6, 4)
    before = copy.deepcopy(model.state_dict())
    SigPropOptimizer(net).learn(x, y)
    assert all(not torch.equal(model.state_dict()[name], before[name]) for name, _ in model.named_parameters())
    assert_close(net.eval()(x), model.eval()(x), **BITWISE)


def test_wrapping_keeps_the_modules_their_modes_and_statistics():
    model = conv_model(dropout=0.5)
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    net = SigPropSequential(model, IMAGES, 3)
    assert [module.training for module in model] == [i != 1 for i in range(len(model))]
    assert_close(model.state_dict(), before, **BITWISE)
    assert [m for layer in net.layers for m in layer.block] + [net.output.linear] == list(model)


def test_generator_follows_the_model_s_precision_and_activation():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    net = SigPropSequential(model, (4,), 3)
    assert {p.dtype for p in net.generator.parameters()} == {net.contexts.dtype} == {torch.float64}
    (targets,) = net.targets()
    assert targets.shape == (3, 6)
    assert targets.min() < 0 < targets.max() < 1
    (linear,) = SigPropSequential(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)), (4,), 3).targets()
    assert_close(linear, F.layer_norm(linear, (6,)), rtol=1e-3, atol=1e-3)  # a linear layer's targets are linear too


# ---- the networks built here -------------------------------------------------------------------------------------


def test_dense_network_is_the_coursework_s_call():
    parameters = list(inspect.signature(SigPropNet).parameters.values())
    assert [p.name for p in parameters[:3]] == ["input_dim", "hidden_dims", "output_dim"]
    assert {p.kind for p in parameters[3:]} == {inspect.Parameter.KEYWORD_ONLY}
    net = SigPropNet(784, [512, 256], 10)
    assert kinds(net) == [["Flatten", "Linear", "ReLU"], ["Linear", "ReLU"]]
    images = torch.randn(2, 1, 28, 28)
    assert_close(net(images), net(images.flatten(1)), **BITWISE)
    assert net(images).shape == (2, 10)
    assert len(net.local_losses(images, torch.tensor([3, 9]))) == 3


def test_convolutional_network_has_stages_depth_width_and_norm():
    net = SigPropConvNet((2, 12, 8), (8, 16), 5, convolutions_per_stage=2, width=0.5)
    block = ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds(net) == [block, [*block, "MaxPool2d"], block, [*block, "MaxPool2d", "Flatten"]]
    assert [layer.block[0].out_channels for layer in net.layers] == [4, 4, 8, 8]
    assert [tuple(t.shape) for t in net.targets()] == [(5, 4, 12, 8), (5, 4, 6, 4), (5, 8, 6, 4), (5, 8 * 3 * 2)]
    assert net(torch.randn(3, 2, 12, 8)).shape == (3, 5)
    assert "InstanceNorm2d" in kinds(SigPropConvNet((1, 8, 8), [4], 3, norm="instance"))[0]
    bare = SigPropConvNet((1, 8, 8), [4], 3, norm=None)
    assert kinds(bare) == [["Conv2d", "ReLU", "MaxPool2d", "Flatten"]]
    assert bare.layers[0].block[0].bias is not None


# ---- norms and dropout -------------------------------------------------------------------------------------------


def test_targets_do_not_touch_the_running_statistics(rng):
    model = conv_model()
    plain = copy.deepcopy(model)
    net = SigPropSequential(model, IMAGES, 3)
    for _ in range(3):
        x = torch.randn(12, *IMAGES, generator=rng)
        net.local_losses(x, labels(rng, 12, 3))
        plain(x)
    assert_close(dict(model.named_buffers()), dict(plain.named_buffers()), **BITWISE)
    assert all(module.training for module in net.modules())
    assert all(getattr(module, "track_running_stats", True) for module in net.modules())


def test_batch_norm_takes_the_targets_own_statistics_over_the_classes():
    net = SigPropSequential(conv_model(), IMAGES, 3)
    first, second, _ = net.targets()
    normed = F.batch_norm(F.conv2d(first, *net.layers[1].block[0].parameters()), None, None, training=True)
    assert_close(second, F.max_pool2d(F.leaky_relu(normed, 0.1), 2).flatten(1), rtol=1e-4, atol=1e-5)
    assert_close(net.eval().targets(), net.train().targets(), **BITWISE)


def test_targets_are_deterministic_where_activations_drop_out(rng):
    net = SigPropSequential(conv_model(dropout=0.5), IMAGES, 3)
    x, y = torch.randn(12, *IMAGES, generator=rng), labels(rng, 12, 3)
    assert_close(net.targets(), net.targets(), **BITWISE)
    assert not torch.equal(net(x), net(x))
    h, _, _ = net.layers[0].propagate(x, net.contexts, y)
    assert (h == 0).flatten(2).all(2).float().mean() > 0.2  # whole channels dropped
    one, other = (net.layers[0].propagate(x, net.contexts, y) for _ in range(2))
    assert not torch.equal(one.h, other.h)
    assert_close(one.t, other.t, **BITWISE)


def test_mode_of_modules_survives_an_error_in_a_layer(rng):
    class Broken(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 3:  # the shape at the start, the activations, then the targets
                raise RuntimeError("broken")
            return super().forward(x)

    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Broken(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    net = SigPropSequential(model, (4,), 3)
    with pytest.raises(RuntimeError, match="broken"):
        net.local_losses(torch.randn(6, 4, generator=rng), labels(rng, 6, 3))
    assert all(module.training for module in net.modules())
    assert model[3].track_running_stats


# ---- outputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_classifier_is_the_model_itself(training, rng):
    model = conv_model()
    net = SigPropSequential(model, IMAGES, 3).train(training)
    x = torch.randn(5, *IMAGES, generator=rng)
    assert_close(net(x), model(x), **BITWISE)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(net(x), model(x), **BITWISE)


@pytest.mark.parametrize("image", [True, False], ids=["image", "dense"])
def test_comparing_with_every_class_is_a_linear_layer_of_targets(image, rng):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()) if image else conv_model()[:-1]
    net = SigPropSequential(model, IMAGES, 3, loss=LocalLoss(temperature=0.5), output="targets").eval()
    x = torch.randn(5, *IMAGES, generator=rng)
    h, t = model(x).flatten(1), net.targets()[-1].flatten(1)
    assert_close(net(x), F.linear(h, t / (0.5 * t.shape[1] ** 0.5)), rtol=1e-4, atol=1e-5)
    h1, _, loss = net.output.propagate(h, t, labels(rng, 5, 3))
    assert loss is None
    assert not h1.requires_grad


def test_comparing_with_every_class_trains_all_weights(rng):
    net = SigPropSequential(conv_model(), IMAGES, 3, output="targets")
    assert [layer.block[0].__class__.__name__ for layer in net.layers] == ["Conv2d", "Conv2d", "Linear", "Linear"]
    assert len(net.local_losses(torch.randn(5, *IMAGES, generator=rng), labels(rng, 5, 3))) == 4


def test_neutral_output_weighs_the_activations_with_the_target_of_a_uniform_context(rng):
    model = conv_model()
    net = SigPropSequential(model, IMAGES, 3, output="neutral").eval()
    assert_close(net.contexts, torch.cat([torch.eye(3), torch.full((1, 3), 1 / 3)]))
    x = torch.randn(5, *IMAGES, generator=rng)
    neutral = net.targets()[-1][3]
    assert neutral.shape == (16,)
    assert_close(net(x), model[-1](model[:-1](x) * neutral), **BITWISE)
    losses = net.local_losses(x, torch.tensor([0, 1, 2, 0, 1]))
    assert_close(losses[-1], F.cross_entropy(net(x), torch.tensor([0, 1, 2, 0, 1])), **BITWISE)


@pytest.mark.parametrize("output", ["classifier", "targets", "neutral"])
def test_saves_and_loads(output, rng):
    net = SigPropSequential(conv_model(), IMAGES, 3, output=output)
    SigPropOptimizer(net).learn(torch.randn(8, *IMAGES, generator=rng), labels(rng, 8, 3))
    other = SigPropSequential(conv_model(), IMAGES, 3, output=output)
    other.load_state_dict(net.state_dict())
    x = torch.randn(5, *IMAGES, generator=rng)
    assert_close(other.eval()(x), net.eval()(x), **BITWISE)
    assert_close(copy.deepcopy(net)(x), net(x), **BITWISE)


# ---- bad input ---------------------------------------------------------------------------------------------------

TWO = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
SHARED = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("model", "arguments", "error", "match"),
    [
        (nn.Linear(4, 3), {}, TypeError, "model must be an nn.Sequential.*got Linear"),
        (nn.Sequential(nn.Linear(4, 3)), {}, ValueError, "model must have a layer to train before its last Linear"),
        (nn.Sequential(nn.ReLU()), {"output": "targets"}, ValueError, "model must have a layer to train"),
        (nn.Sequential(nn.ReLU()), {}, ValueError, "model must end with the Linear"),
        (TWO[:2], {}, ValueError, r"model must end with the Linear.*ReLU"),
        (nn.Sequential(*TWO, nn.LogSoftmax(1)), {}, ValueError, "model must end with the Linear.*LogSoftmax"),
        (TWO, {"num_classes": 5}, ValueError, "num_classes must equal the 3 outputs of model's last Linear, got 5"),
        (TWO, {"num_classes": 1}, ValueError, "num_classes must be >= 2.*got 1"),
        (TWO, {"num_classes": 3.0}, TypeError, r"num_classes must be an integer, got 3\.0"),
        (TWO, {"input_shape": (5,)}, ValueError, r"input_shape \(5,\) does not fit the model"),
        (TWO, {"input_shape": (0,)}, ValueError, "input_shape must be >= 1.*got 0"),
        (TWO, {"loss": "l2"}, ValueError, "no local loss is named 'l2'"),
        (TWO, {"output": "target"}, ValueError, "no output is named 'target'; did you mean targets"),
        (nn.Sequential(SHARED, nn.ReLU(), SHARED, nn.Linear(4, 3)), {}, ValueError, "must not share weights.*layer 2"),
        (
            nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Linear(2, 6), nn.PReLU(2), nn.Flatten(), nn.Linear(12, 3)),
            *({}, ValueError, r"first layer must apply its activation to the shape .*\(12,\).* PReLU"),
        ),
    ],
)
def test_sequential_refuses(model, arguments, error, match):
    settings: dict[str, Any] = {"input_shape": (4,), "num_classes": 3, **arguments}
    with pytest.raises(error, match=match):
        SigPropSequential(model, **settings)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"input_dim": 0}, "input_dim must be >= 1.*got 0"),
        ({"hidden_dims": []}, r"hidden_dims must list at least one size, got \[\]"),
        ({"hidden_dims": [4, 0]}, "hidden_dims must be >= 1.*got 0"),
        ({"output_dim": 1}, "output_dim must be >= 2.*got 1"),
    ],
)
def test_dense_network_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        SigPropNet(**{"input_dim": 4, "hidden_dims": [6], "output_dim": 3, **arguments})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"image_shape": (1, 3, 8)}, r"image_shape must be .*at least 4 pixels for 2 stages, got \(1, 3, 8\)"),
        ({"image_shape": (8, 8)}, "image_shape must be"),
        ({"channels": ()}, r"channels must list .*got \(\)"),
        ({"channels": (4, 0)}, "channels must be >= 1.*got 0"),
        ({"num_classes": 1}, "num_classes must be >= 2.*got 1"),
        ({"convolutions_per_stage": 0}, "convolutions_per_stage must be >= 1.*got 0"),
        ({"width": 0.0}, r"width must be > 0.*got 0\.0"),
        ({"norm": "layer"}, "norm must be one of batch, instance or None, got 'layer'"),
    ],
)
def test_convolutional_network_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        SigPropConvNet(**{"image_shape": (1, 8, 8), "channels": (4, 4), "num_classes": 3, **arguments})


GOOD_X, GOOD_Y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (GOOD_X, torch.tensor([0, 1, 3, 0, 1]), "y must contain labels from 0 to num_classes - 1 = 2, got 3"),
        (GOOD_X, torch.tensor([0, -1, 2, 0, 1]), "y must contain labels from 0 to num_classes - 1 = 2, got -1"),
        (GOOD_X, GOOD_Y[:4], r"y must be int64 labels of shape \(5,\), got torch.int64 of shape \(4,\)"),
        (GOOD_X, GOOD_Y.float(), r"y must be int64 .*got torch.float32 of shape \(5,\)"),
        (GOOD_X, F.one_hot(GOOD_Y, 3), r"y must be int64 .*\(5,\), got torch.int64 of shape \(5, 3\)"),
        (torch.randn(5, 3), GOOD_Y, r"x must be floating-point of shape \(batch, 4\), got .*\(5, 3\)"),
        (torch.zeros(5, 4, dtype=torch.uint8), GOOD_Y, "x must be floating-point.*got torch.uint8"),
        (GOOD_X[:0], GOOD_Y[:0], r"x must be .*\(0, 4\)"),
    ],
)
def test_batch_that_does_not_fit_is_refused_and_nothing_learned(x, y, match):
    net = SigPropSequential(copy.deepcopy(TWO), (4,), 3)
    optimizer = SigPropOptimizer(net)
    before = copy.deepcopy(net.state_dict())
    for learn in (net.local_losses, optimizer.learn):
        with pytest.raises(ValueError, match=match):
            learn(x, y)
    assert_close(net.state_dict(), before, **BITWISE)
