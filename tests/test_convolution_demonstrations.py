"""The demonstrations of the convolutional optimizers' notebook: formulas against the optimizers and a simulation."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.optim import SGD

from advanced_optimizers import ConvolutionalSGD, LocalLossConvSGD
from advanced_optimizers.convolutional.convolutional_sgd import followed
from advanced_optimizers.experiments.demonstrations.convolution import (
    box,
    expected_center,
    gain,
    least_eigenvalue,
    needed_share,
    on_white,
    softmax_of_a_gaussian,
    white_side_tap,
)
from advanced_optimizers.experiments.demonstrations.convolution_training import (
    Gradients,
    directions,
    follow,
    gradients_during,
    neighbor_correlation,
)
from advanced_optimizers.experiments.demonstrations.noise import mlp, part_of

GAUSSIAN = (0.0545, 0.2442, 0.4026, 0.2442, 0.0545)


# ---- formulas ------------------------------------------------------------------------------------------------------


def test_the_gain_of_a_kernel_is_what_it_does_to_a_cosine():
    omega = np.linspace(0.0, np.pi, 301)
    assert gain(box(5), omega).min() == pytest.approx(-0.25, abs=1e-4)
    wave = np.cos(1.1 * np.arange(2000))
    y = ndimage.convolve1d(wave, GAUSSIAN)
    np.testing.assert_allclose(y[5:-5], gain(GAUSSIAN, np.array([1.1])) * wave[5:-5], atol=1e-12)


def test_the_published_softmax_is_nearly_a_box():
    taps = softmax_of_a_gaussian(5, sigma=1.25)
    assert taps.tolist() == pytest.approx([0.179, 0.208, 0.227, 0.208, 0.179], abs=1e-3)


def test_one_padding_keeps_descent_where_the_gain_is_positive():
    ours, torchs = ([least_eigenvalue(GAUSSIAN, n, padding) for n in range(3, 20)] for padding in ("reflect", "mirror"))
    assert min(ours) >= gain(GAUSSIAN, np.linspace(0.0, np.pi, 301)).min() - 1e-12 > 0
    assert torchs[0] == pytest.approx(-0.0064, abs=1e-4)


@pytest.mark.parametrize("taps", [GAUSSIAN, (0.05, 0.05, 0.8, 0.05, 0.05)])
def test_a_white_gradient_s_length_and_cosine(taps):
    g = np.random.default_rng(0).standard_normal(100_000)
    y = ndimage.convolve1d(g, taps)
    length, cosine, useful = on_white(taps)
    lengths = np.linalg.norm(y), np.linalg.norm(g)
    assert lengths[0] / lengths[1] == pytest.approx(length, rel=0.01)
    assert g @ y / lengths[0] / lengths[1] == pytest.approx(cosine, rel=0.01)
    assert useful == pytest.approx(length * cosine)


def test_side_taps_by_the_weight_of_the_variance():
    found = [white_side_tap(lam) for lam in (0.0, 0.01, 0.1, 1.0, 3.0)]
    assert found == pytest.approx([0.0, 0.015, 0.062, 0.126, 0.156], abs=1e-3)
    u, h = found[2], 1e-4

    def loss(sides: list[float]) -> float:
        w = np.array([*sides[:2], 1 - sum(sides), *sides[2:]])
        return -w[2] / np.linalg.norm(w) + 0.1 * float(w @ w)

    for side in range(4):  # no single tap can be moved to the better
        assert all(loss([u + d * (i == side) for i in range(4)]) > loss([u] * 4) for d in (-h, h))


@pytest.mark.parametrize("fell", [0.3, 0.5, 0.9])
def test_the_center_settles_where_its_rule_s_expectation_stands_still(fell):
    rng, lr, centers = np.random.default_rng(0), 0.03, []
    taps, last = torch.full((3,), 0.2, dtype=torch.float64), torch.zeros(())
    for falls in rng.random(2000) < fell:
        taps = followed(taps, last - 1.0 if falls else last + 1.0, last, lr)
        centers.append(float(taps[0]))
    assert np.mean(centers[200:]) == pytest.approx(expected_center(lr, fell=fell), abs=0.02)


def test_the_share_that_a_center_needs():
    assert expected_center(0.001) == pytest.approx(0.208, abs=5e-4)
    assert needed_share(0.79, 0.001) == pytest.approx(0.9964, abs=1e-4)
    assert expected_center(0.001, fell=needed_share(0.6, 0.001)) == pytest.approx(0.6)
    with pytest.raises(ValueError, match=r"kernel_lr=0.* never moves the center when fell=1"):
        expected_center(0.0, fell=1.0)


# ---- training ------------------------------------------------------------------------------------------------------


def test_a_training_is_followed_step_by_step():
    torch.manual_seed(0)
    part, model = part_of("digits", 200), mlp(64, (8,))
    before = [p.detach().clone() for p in model.parameters()]
    make = partial(ConvolutionalSGD, lr=0.1, kernel_size=5, kernel_lr=0.1)
    found = follow(model, make, ConvolutionalSGD.get_kernel, part, epochs=2, batch_size=64, every=2)
    assert len(found.losses) == 2 * (200 // 64)
    assert (list(found.steps), found.values.shape) == ([2, 4, 6], (3, 5))
    taps = torch.full((3,), 0.2, dtype=torch.float64)
    for last, loss in itertools.pairwise(found.losses.double()):
        taps = followed(taps, loss, last, 0.1)
    assert found.values[-1, 2:].tolist() == pytest.approx(taps.tolist())
    assert found.fell == sum(b < a for a, b in itertools.pairwise(found.losses.tolist())) / 5
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def found_gradients(epochs: int = 1, **settings: Any) -> list[Any]:
    torch.manual_seed(0)
    model, make = mlp(64, (8,)), partial(SGD, lr=0.05)
    return list(gradients_during(model, part_of("digits", 160), epochs, make=make, **settings))


def test_mini_batches_average_to_the_full_gradient():
    start, later = found_gradients(batch_size=8, batches=400)
    assert set(start) == {"1.weight", "3.weight"}
    for name, g in start.items():
        assert g.small.shape == (400, *g.full.shape)
        assert float(g.noise.mean(dim=0).norm() / g.full.norm()) < 0.2
        assert g.alignment() < g.averaged(0.9) < 1
        assert not torch.equal(g.full, later[name].full)
    whole = found_gradients(batch_size=160, batches=2)[0]["1.weight"]
    assert whole.alignment() == pytest.approx(1.0, abs=1e-5)


def test_what_smoothing_does_to_the_alignment():
    full, noise = torch.ones(3, 4), torch.tensor([2.0, -2.0, 2.0, -2.0])
    g = Gradients(full, torch.stack([full + noise, full - noise]))
    assert g.alignment() == pytest.approx(5**-0.5)
    assert g.alignment(lambda small: (small + small.roll(1, dims=-1)) / 2) == pytest.approx(1.0)


@pytest.mark.parametrize(("axes", "shape"), [((-1,), None), ((-2,), None), ((-2, -1), (3, 4, 5))])
def test_directions_are_smoothed_gradients(axes, shape):
    gradients = torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    make = partial(ConvolutionalSGD, lr=1.0, momentum=0.0, kernel="gaussian", kernel_size=5, axes=axes)
    expected: Tensor = gradients.view(4, 3, 4, 5) if shape else gradients
    taps = ConvolutionalSGD([nn.Parameter(torch.zeros(1))], kernel="gaussian", kernel_size=5).get_kernel().numpy()
    for axis in axes:
        expected = torch.from_numpy(ndimage.convolve1d(expected.numpy(), taps, axis=axis))
    torch.testing.assert_close(directions(make, gradients, shape), expected.view(4, 3, 20))


def test_neighbors_are_as_alike_as_smoothing_makes_them():
    white = torch.randn(50, 400, generator=torch.Generator().manual_seed(0))
    smooth = torch.from_numpy(ndimage.convolve1d(white.numpy(), [0.25, 0.5, 0.25], axis=1))
    assert neighbor_correlation(white, 1) == pytest.approx(0.0, abs=0.02)
    assert neighbor_correlation(smooth, 1) == pytest.approx(2 / 3, abs=0.02)
    assert neighbor_correlation(smooth, 0) == pytest.approx(0.0, abs=0.02)


def test_a_last_layer_s_kernel_goes_where_white_gradients_send_it():
    torch.manual_seed(0)
    make = partial(LocalLossConvSGD, lr=0.003, kernel_size=5, local_lr=0.05, smoothness_weight=1.0)
    found = follow(mlp(64, (32,)), make, lambda o: o.get_kernels()[2], part_of("digits", 480), 4, 8, every=10)
    center = float(found.values[-8:, 2].mean())
    assert center == pytest.approx(1 - 4 * white_side_tap(1.0), abs=0.06)
