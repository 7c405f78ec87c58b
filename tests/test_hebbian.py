"""The localized rules vs sums over neurons and positions, and when a layer is observed."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from advanced_optimizers.localized_learning.hebbian import (
    RULES,
    LayerObserver,
    Observers,
    hebbian,
    is_eligible,
    oja,
    random,
)
from tests.reference import localized_learning as reference

BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0}


def seen_by(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return x, layer(x)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# ---- the rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_linear_product_is_the_sum_over_pairs_of_neurons(rng, bias):
    layer = nn.Linear(4, 3, bias=bias).double()
    a, z = seen_by(layer, torch.randn(5, 4, generator=rng, dtype=torch.float64))
    expected = torch.from_numpy(reference.hebbian_linear(a.numpy(), z.numpy()))
    assert_close(hebbian(layer, a, z), expected, rtol=0, atol=1e-13)
    assert_close(hebbian(layer, a, z), torch.einsum("bo,bi->oi", z, a), rtol=0, atol=1e-13)


def test_linear_product_sums_over_further_dimensions(rng):
    layer = nn.Linear(4, 3).double()
    a, z = seen_by(layer, torch.randn(2, 5, 6, 4, generator=rng, dtype=torch.float64))
    assert_close(hebbian(layer, a, z), torch.einsum("bsto,bsti->oi", z, a), rtol=0, atol=1e-12)


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "pointwise": {"kernel_size": 1},
    "padding": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "stride that leaves a remainder": {"kernel_size": 2, "stride": 3},
    "dilation": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "groups": {"kernel_size": 3, "groups": 2},
    "depthwise": {"kernel_size": 3, "groups": 4, "padding": 1},
    "oblong": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 0), "dilation": (1, 2)},
    "same": {"kernel_size": 3, "padding": "same"},
    "same, even kernel": {"kernel_size": (2, 4), "padding": "same"},
    "same, dilation": {"kernel_size": (2, 3), "padding": "same", "dilation": (3, 2)},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "circular": {"kernel_size": (3, 2), "padding": (1, 0), "padding_mode": "circular"},
    "replicate, same": {"kernel_size": (2, 3), "padding": "same", "padding_mode": "replicate"},
    "all": {"kernel_size": 3, "stride": 2, "padding": (2, 1), "dilation": (2, 1), "groups": 2, "bias": False},
}
MODES = {"zeros": "constant", "reflect": "reflect", "circular": "wrap", "replicate": "edge"}


def padding_of(layer: nn.Conv2d) -> reference.Pads:
    if layer.padding == "valid":
        return ((0, 0), (0, 0))
    if layer.padding == "same":  # as torch documents it: an odd one is added after
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return ((totals[0] // 2, -(-totals[0] // 2)), (totals[1] // 2, -(-totals[1] // 2)))
    height, width = layer.padding
    return ((int(height), int(height)), (int(width), int(width)))


def convolution_seen(settings: dict[str, Any], rng: torch.Generator) -> tuple[nn.Conv2d, Tensor, Tensor, Any]:
    layer = nn.Conv2d(4, 6 if settings.get("groups") != 4 else 4, **settings).double()
    a, z = seen_by(layer, torch.randn(2, 4, 7, 6, generator=rng, dtype=torch.float64))
    seen = reference.patches(
        a.numpy(),
        (layer.kernel_size[0], layer.kernel_size[1]),
        (layer.stride[0], layer.stride[1]),
        padding_of(layer),
        (layer.dilation[0], layer.dilation[1]),
        MODES[layer.padding_mode],
    )
    return layer, a, z, seen


@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution_product_is_the_sum_over_positions(settings, rng):
    layer, a, z, seen = convolution_seen(settings, rng)
    assert seen.shape[-2:] == z.shape[-2:]
    expected = reference.hebbian_convolution(seen, z.numpy(), layer.groups)
    assert_close(hebbian(layer, a, z), torch.from_numpy(expected), rtol=0, atol=1e-11)


def test_convolution_product_is_the_unfolded_linear_one(rng):
    layer = nn.Conv2d(3, 5, 3, stride=2, padding=1, dilation=2)
    a, z = seen_by(layer, torch.randn(4, 3, 9, 9, generator=rng))
    unfolded = nn.functional.unfold(a, 3, dilation=2, padding=1, stride=2)
    expected = torch.einsum("bol,bkl->ok", z.flatten(2), unfolded).view_as(layer.weight)
    assert_close(hebbian(layer, a, z), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["plain", "groups", "same, even kernel"])
def test_oja_subtracts_the_squared_output_times_the_filter(name, rng):
    layer, a, z, seen = convolution_seen(CONVOLUTIONS[name], rng)
    product = reference.hebbian_convolution(seen, z.numpy(), layer.groups)
    expected = reference.oja(product, z.numpy(), layer.weight.detach().numpy())
    assert_close(oja(layer, a, z).detach(), torch.from_numpy(expected), rtol=0, atol=1e-11)


def test_oja_of_a_linear_layer_finds_the_principal_component(rng):
    """Oja's theorem: a unit's weight tends to the leading eigenvector of the input correlation, with length 1."""
    spread = torch.tensor([3.0, 1.0, 0.5, 0.2], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=rng, dtype=torch.float64)).Q
    a = torch.randn(500, 4, generator=rng, dtype=torch.float64) * spread @ rotation.T
    layer = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        for _ in range(300):
            layer.weight += 0.02 * oja(layer, a, layer(a)) / len(a)
    leading = torch.linalg.eigh(a.T @ a / len(a)).eigenvectors[:, -1]
    assert float((layer.weight.detach()[0] @ leading).abs()) == pytest.approx(1.0, abs=1e-6)
    assert float(layer.weight.detach().norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 4, 3, padding=1)], ids=["linear", "convolution"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_yields_nearly_the_direction_in_float32(layer, dtype, rng):
    a = 50 * torch.randn(*((256, 4) if isinstance(layer, nn.Linear) else (32, 4, 16, 16)), generator=rng)
    a, z = seen_by(layer, a)
    exact, rough = hebbian(layer, a, z), hebbian(layer, a.to(dtype), z.to(dtype))  # float16 sums would overflow
    assert rough.dtype == torch.float32
    assert float(nn.functional.cosine_similarity(exact.flatten(), rough.flatten(), dim=0)) > 0.9999


def test_channels_last_is_the_same(rng):
    layer = nn.Conv2d(4, 6, 3, padding=1)
    a, z = seen_by(layer, torch.randn(3, 4, 8, 8, generator=rng))
    expected = hebbian(layer, a, z)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    a, z = (t.contiguous(memory_format=torch.channels_last) for t in (a, z))
    assert_close(hebbian(layer, a, z), expected, rtol=1e-4, atol=1e-4, check_stride=False)


def test_random_direction_depends_on_its_generator_only(rng):
    layer = nn.Linear(4, 3)
    a, z = seen_by(layer, torch.randn(5, 4, generator=rng))
    source = generator()
    first, second = random(layer, a, z, source), random(layer, a, z, source)
    assert first.shape == (3, 4)
    assert not first.equal(second)
    assert random(layer, 2 * a, -z, generator()).equal(first)


# ---- which layers, and when --------------------------------------------------------------------------------------


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Named(nn.Conv2d):
    """A subclass that computes the same as its parent."""


def test_eligible_layers_compute_their_pre_activation_from_a_weight_of_their_own():
    assert is_eligible(nn.Linear(2, 2))
    assert is_eligible(nn.Conv2d(2, 2, 3, groups=2))
    assert is_eligible(Named(2, 2, 3))
    for other in (
        Doubled(2, 2),
        nn.Conv1d(2, 2, 3),
        nn.ConvTranspose2d(2, 2, 3),
        nn.BatchNorm2d(2),
        nn.Bilinear(2, 2, 2),
    ):
        assert not is_eligible(other)
    assert not is_eligible(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)))


def observed(layer: nn.Linear | nn.Conv2d, rule: str = "hebbian") -> Observers:
    observers = Observers([layer], RULES[rule], generator())
    observers.activate([layer.weight])
    return observers


def test_directions_are_added_until_they_are_collected(rng):
    layer = nn.Linear(4, 3)
    observers = observed(layer)
    x = torch.randn(6, 4, generator=rng)
    layer(x[:2])
    layer(input=x[2:])
    (direction,) = observers.collect().values()
    assert_close(direction, hebbian(layer, *seen_by(layer, x)), rtol=1e-5, atol=1e-5)
    assert not direction.requires_grad
    assert observers.collect() == {}


def test_directions_of_layers_that_share_a_weight_are_added(rng):
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    observers = Observers([first, second], hebbian, generator())
    observers.activate([first.weight])
    x = torch.randn(6, 4, generator=rng)
    z = first(x)
    y = second(z)
    (direction,) = observers.collect().values()
    with torch.no_grad():
        assert_close(direction, z.T @ x + y.T @ z, rtol=1e-5, atol=1e-5)


def test_only_active_layers_in_training_with_gradients_are_observed(rng):
    layer, x = nn.Linear(4, 3), torch.randn(6, 4, generator=rng)
    observers = observed(layer)
    layer.eval()(x)
    layer.train()
    with torch.no_grad():
        layer(x)
    with torch.inference_mode():
        layer(x)
    observers.activate([])
    assert not observers.weights
    layer(x)
    assert observers.collect() == {}
    observers.activate([layer.weight])
    assert observers.weights
    layer(x)
    assert len(observers.collect()) == 1


def test_without_a_rule_nothing_is_observed(rng):
    layer = nn.Linear(4, 3)
    observers = observed(layer, "frozen")
    layer(torch.randn(6, 4, generator=rng))
    assert not observers.weights
    assert observers.collect() == {}


@pytest.mark.parametrize(("layer", "shape"), [(nn.Linear(4, 3), (4,)), (nn.Conv2d(4, 3, 3), (4, 5, 5))])
def test_a_sample_without_a_batch_dimension_is_a_batch_of_one(layer, shape, rng):
    observers = observed(layer)
    x = torch.randn(shape, generator=rng)
    layer(x)
    (direction,) = observers.collect().values()
    assert_close(direction, hebbian(layer, *seen_by(layer, x[None])), rtol=1e-5, atol=1e-5)


def test_products_are_computed_outside_autocast(rng):
    layer = nn.Linear(4, 3)
    observers = observed(layer)
    x = 300 * torch.randn(512, 4, generator=rng)
    with torch.autocast("cpu", dtype=torch.float16):
        layer(x)
    (direction,) = observers.collect().values()
    assert torch.isfinite(direction).all()
    assert direction.abs().max() > torch.finfo(torch.float16).max


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copy_of_a_layer_is_not_observed(duplicate, rng):
    layer = nn.Linear(4, 3)
    observers = observed(layer)
    twin = duplicate(layer)
    assert not any(isinstance(hook, LayerObserver) for hook in twin._forward_hooks.values())
    twin(torch.randn(6, 4, generator=rng))
    assert observers.collect() == {}


def test_a_layer_has_one_observer():
    layer = nn.Linear(4, 3)
    observers = observed(layer)
    with pytest.raises(ValueError, match=r"one LocalizedOptimizer at a time.*detach\(\)"):
        observed(layer)
    observers.remove()
    assert not layer._forward_hooks
    observed(layer)
