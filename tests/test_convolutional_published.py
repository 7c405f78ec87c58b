"""What the published code does, and where the package agrees with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from advanced_optimizers import ConvolutionalSGD, LocalLossConvSGD
from advanced_optimizers.experiments.studies import registry  # noqa: F401  (it registers the networks)
from advanced_optimizers.experiments.training.models import build_model
from tests.reference.convolutional_published import (
    AsPublished,
    PublishedConvolutionalSGD,
    PublishedConvolutionalSGDv2,
    PublishedLocalLossConvSGD,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [3, 5])
def test_version_1_agrees_but_for_the_ends_and_the_blend(size):
    p, q = (nn.Parameter(torch.zeros(6, 50, dtype=torch.float64)) for _ in range(2))
    ours = ConvolutionalSGD([p], kernel_size=size, kernel_lr=0.1, min_gain=-1.0)
    theirs = AsPublished([q], PublishedConvolutionalSGD(size, kernel_lr=0.1))
    losses = torch.rand(20, generator=torch.Generator().manual_seed(0)).tolist()
    for seed, loss in enumerate(losses):
        p.grad = q.grad = noise(6, 50, seed=seed)
        ours.step(lambda loss=loss: loss)
        theirs.step(lambda loss=loss: loss)
    ends = size // 2
    inside = p.detach().view(-1)[ends:-ends]
    torch.testing.assert_close(inside, q.detach().view(-1)[ends:-ends], rtol=0, atol=1e-12)
    assert not torch.allclose(p.detach().view(-1)[:ends], q.detach().view(-1)[:ends])
    np.testing.assert_allclose(np.stack(theirs.transform.history), torch.stack(ours.get_kernel_history()), atol=1e-14)


def test_the_local_loss_agrees_on_a_long_line_without_a_variance():
    p, q = (nn.Parameter(torch.zeros(5000, dtype=torch.float64)) for _ in range(2))
    ours = LocalLossConvSGD([p], kernel_size=5, local_lr=0.05, smoothness_weight=0.0, min_gain=-1.0)
    theirs = AsPublished([q], PublishedLocalLossConvSGD(5, 0.05, 0.0))
    for seed in range(20):
        p.grad = q.grad = noise(5000, seed=seed)
        ours.step()
        theirs.step()
    np.testing.assert_allclose(theirs.transform.kernels[0], ours.get_kernels()[0], atol=1e-3)
    assert ours.get_kernels()[0][2] > 0.3
    np.testing.assert_allclose(theirs.transform.losses[0], ours.get_local_losses(), atol=2e-3)


def test_the_published_variance_weighs_nothing_at_the_size_of_real_gradients():
    kernels = []
    for smoothness in (0.0, 0.1):
        p = nn.Parameter(torch.zeros(2000, dtype=torch.float64))
        optimizer = AsPublished([p], PublishedLocalLossConvSGD(5, 0.05, smoothness))
        for seed in range(10):
            p.grad = 0.01 * noise(2000, seed=seed)
            optimizer.step()
        kernels.append(optimizer.transform.kernels[0])
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-5)


def test_version_2_starts_as_a_box_and_enlarges_even_sizes():
    published = PublishedConvolutionalSGDv2(kernel_size=5)
    assert published.kernel(1).tolist() == pytest.approx([0.179, 0.208, 0.227, 0.208, 0.179], abs=1e-3)
    assert published.kernel(2).min() >= 0.0387
    assert published.kernel(2).max() <= 0.0430
    assert PublishedConvolutionalSGDv2(kernel_size=4).size == 5


@pytest.mark.parametrize(
    ("shape", "axes"), [((128, 784), 2), ((4, 784), 1), ((64, 3, 3, 3), 1), ((8, 3, 7, 7), 2), ((10,), 1), ((4,), 0)]
)
def test_version_2_smooths_two_axes_of_large_filters_alone(shape, axes):
    assert PublishedConvolutionalSGDv2(kernel_size=5).axes_of(np.zeros(shape)) == axes


def test_version_2_learns_every_fifth_step_and_stays_a_box():
    published = PublishedConvolutionalSGDv2(kernel_size=5)
    start = published.kernel(2)
    for seed in range(5):
        before = published.kernel(2)
        published.transform([0.01 * noise(12, 20, seed=seed).numpy()])
        assert np.array_equal(before, published.kernel(2)) == (seed < 4)
    assert np.abs(published.kernel(2) - start).max() < 0.01


def test_only_the_first_version_s_kernel_hears_the_loss():
    for transform in (PublishedLocalLossConvSGD(), PublishedConvolutionalSGDv2()):
        p = nn.Parameter(torch.zeros(20))
        p.grad = noise(20).float()
        optimizer = AsPublished([p], transform)
        assert optimizer.step(lambda: 0.5) == 0.5
    model = PublishedConvolutionalSGD(5, kernel_lr=0.1)
    for loss in (1.0, 0.5):
        model.hear(loss)
    assert model.w[2] == pytest.approx(0.27273, abs=1e-5)


# ---- the published test networks -------------------------------------------------------------------------------------

NETWORKS = {
    "simplenet": [784, 128, 128, 10],
    "deepnet": [784, *[64] * 6, 10],
    "illconditioned": [784, 256, 128, 10],
}


def linear_layers(name: str, width: float = 1.0) -> list[nn.Linear]:
    torch.manual_seed(0)
    model = build_model(name, (1, 28, 28), 10, width)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    return [layer for layer in model if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(("name", "sizes"), NETWORKS.items())
def test_the_networks_have_the_published_sizes(name, sizes):
    layers = linear_layers(name)
    assert [layer.in_features for layer in layers] + [10] == sizes
    assert [layer.out_features for layer in layers] == sizes[1:]
    assert linear_layers(name, 0.5)[0].out_features == sizes[1] // 2


def test_the_ill_conditioned_network_s_weights_have_unlike_scales():
    bounds = [layer.weight.abs().max().item() * layer.in_features**0.5 for layer in linear_layers("illconditioned")]
    assert bounds == pytest.approx([10.0, 0.1, 5.0], rel=0.02)
