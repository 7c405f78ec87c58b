import pytest
import torch
from torch import nn

from advanced_optimizers.experiments.training.models import MODELS, build_model

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]


def num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("image_shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_reach_every_parameter(name, image_shape):
    torch.manual_seed(0)
    model = build_model(name, image_shape, num_classes=7, width=0.25)
    for parameter in model.parameters():
        if not parameter.any():  # an output layer that starts at zero passes on no gradient
            nn.init.normal_(parameter)
    logits = model(torch.randn(4, *image_shape))
    assert logits.shape == (4, 7)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize(
    ("name", "image_shape", "expected"),
    [
        ("mlp", (1, 28, 28), (784 + 1) * 512 + (512 + 1) * 10),
        ("mlp", (1, 8, 8), (64 + 1) * 512 + (512 + 1) * 10),
        # 3x3 convolutions without bias, two values per channel in each BatchNorm, and the linear layer.
        (
            "convnet",
            (3, 32, 32),
            9 * (3 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 2 * 2 * (16 + 32 + 64) + 65 * 10,
        ),
        # The published 11,689,512 with 3x3 instead of 7x7 weights in the stem and 10 instead of 1000 classes.
        ("resnet18", (3, 32, 32), 11_689_512 - 64 * 3 * (49 - 9) - 513 * 990),
    ],
)
def test_number_of_parameters(name, image_shape, expected):
    assert num_parameters(build_model(name, image_shape, num_classes=10)) == expected


def test_resnet18_has_62_parameter_tensors():
    assert len(list(build_model("resnet18", (3, 32, 32), 10).parameters())) == 62


@pytest.mark.parametrize("training", [True, False])
def test_resnet18_equals_torchvision_with_the_small_image_stem(training):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = build_model("resnet18", (3, 32, 32), 10)
    reference = torchvision.models.resnet18(num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            theirs.copy_(ours)
    model.train(training)
    reference.train(training)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), reference(images))


def test_convnet_is_its_formula():
    torch.manual_seed(0)
    model = build_model("convnet", (3, 16, 16), 10).eval()
    weights = [p for p in model.parameters() if p.ndim == 4]
    x = images = torch.randn(2, 3, 16, 16)
    for number, weight in enumerate(weights):
        # In evaluation mode, a fresh BatchNorm only divides by sqrt(1 + eps).
        x = (nn.functional.conv2d(x, weight, padding=1) / (1 + 1e-5) ** 0.5).relu()
        if number in (1, 3):
            x = nn.functional.max_pool2d(x, 2)
    linear = model[-1]
    torch.testing.assert_close(model(images), x.amax((2, 3)) @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("name", ["convnet", "resnet18"])
def test_channels_last_gives_the_same_logits(name):
    torch.manual_seed(0)
    model = build_model(name, (3, 32, 32), 10, width=0.25).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_gives_the_same_network(name):
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_model(name, (1, 8, 8), 10, width=0.25).state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_mlp_starts_from_torch_defaults():
    torch.manual_seed(5)
    model = build_model("mlp", (1, 8, 8), 10)
    torch.manual_seed(5)
    expected = [*nn.Linear(64, 512).parameters(), *nn.Linear(512, 10).parameters()]
    torch.testing.assert_close(list(model.parameters()), expected, rtol=0, atol=0)


def test_mlp2_has_two_hidden_layers():
    model = build_model("mlp2", (1, 28, 28), 10)
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(512, 784), (256, 512), (10, 256)]
    assert [type(module) for module in model] == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


@pytest.mark.parametrize("name", MODELS)
def test_width_scales_the_hidden_sizes(name):
    narrow = build_model(name, (1, 8, 8), 10, width=0.5)
    wide = build_model(name, (1, 8, 8), 10, width=2.0)
    hidden_narrow = [p.shape[0] for p in list(narrow.parameters())[:-2]]
    hidden_wide = [p.shape[0] for p in list(wide.parameters())[:-2]]
    assert [4 * h for h in hidden_narrow] == hidden_wide
    assert build_model(name, (1, 8, 8), 10, width=1e-6)(torch.randn(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet", (3, 32, 32), 10), "'resnet'.*did you mean resnet18"),
        (("transformer", (3, 32, 32), 10), "'transformer'.*mlp or mlp2 or .*resnet18"),
        (("mlp", (1, 8, 8), 1), "num_classes.*1"),
        (("mlp", (1, 8, 8), 10, 0.0), "width.*0.0"),
        (("mlp", (8, 8), 10), r"image_shape.*\(8, 8\)"),
        (("mlp", (1, 0, 8), 10), r"image_shape.*\(1, 0, 8\)"),
        (("convnet", (1, 3, 8), 10), r"at least 4 pixels for 'convnet'.*\(1, 3, 8\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(*arguments)
