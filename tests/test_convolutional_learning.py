"""How kernels learn: the gradient of their loss in closed form, where they end, and what must not move them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from advanced_optimizers import ConvolutionalSGDv2, LocalLossConvSGD
from advanced_optimizers.convolutional.convolutional_sgd_v2 import snr
from advanced_optimizers.convolutional.learning import (
    Products,
    Weights,
    gram,
    learned,
    loss_and_gradient,
    of_filters,
    of_slices,
    products_along,
)
from advanced_optimizers.convolutional.smoothing import Seen, seen_by_kernels
from tests.reference import convolutional as reference

SHAPES: dict[str, tuple[tuple[int, ...], Any]] = {
    "line": ((40,), None),
    "short line": ((5,), None),
    "matrix": ((6, 9), (-2, -1)),
    "small matrix": ((2, 3), (-2, -1)),
    "rows": ((6, 9), (-2,)),
    "columns": ((6, 9), (-1,)),
    "filters": ((5, 2, 3, 3), (-2, -1)),
    "wide filters": ((4, 2, 5, 2), (-2, -1)),
    "heights": ((4, 2, 3, 3), (-2,)),
    "large filters": ((2, 1, 20, 18), (-2, -1)),
    "conv1d": ((4, 3, 7), (-2, -1)),
}
every_shape = pytest.mark.parametrize(("shape", "axes"), SHAPES.values(), ids=SHAPES)
every_weight = pytest.mark.parametrize(
    "weights", [Weights(lam, rho) for lam in (0.0, 0.1, 1.0) for rho in (0.0, 1.0)], ids=str
)


def random(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def example(shape: tuple[int, ...], axes: Any, size: int = 5) -> tuple[Seen, Tensor, Tensor, Tensor]:
    seen = seen_by_kernels(torch.Size(shape), axes, size)
    assert seen is not None
    theta = torch.tensor([[0.4, 0.22, 0.08, 0.0], [0.5, 0.15, 0.1, 0.0]], dtype=torch.float64)[:, : size // 2 + 1]
    return seen, random(seen.shape, 1) + 0.3, random(seen.shape, 2), theta[: len(seen.axes)]


def products_of(seen: Seen, g: Tensor, s: Tensor | None, theta: Tensor) -> Products:
    if seen.are_filters:
        return of_filters([g], [s], theta.unsqueeze(0), seen)
    return of_slices(g, s, theta, seen)


def loss_of(seen: Seen, g: Tensor, s: Tensor, thetas: Tensor, weights: Weights) -> Tensor:
    """The loss through explicit matrices, for autograd."""
    y = g
    for axis, theta in zip(seen.axes, thetas, strict=True):
        n = g.shape[axis]
        b = torch.stack([torch.from_numpy(reference.neighbors(n, m)) for m in range(len(theta))])
        y = torch.tensordot(torch.tensordot(theta, b, dims=1), y, dims=([1], [axis])).movedim(0, axis)
    loss = -(g * y).sum() / (g.norm() * y.norm()) + weights.smoothness * y.var() / g.var()
    return loss - weights.signal * (s * y).sum() / (s.norm() * y.norm())


@every_weight
@every_shape
def test_the_kernel_s_gradient_equals_autograd(shape, axes, weights):
    seen, g, s, theta = example(shape, axes)
    leaf = theta.clone().requires_grad_()
    expected_loss = loss_of(seen, g, s, leaf, weights)
    (expected,) = torch.autograd.grad(expected_loss, leaf)
    losses, gradient = loss_and_gradient(theta, products_of(seen, g, s, theta), weights)
    assert_close(losses, expected_loss.detach().expand(len(losses)), rtol=0, atol=1e-12)
    assert_close(gradient, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weights", [Weights(0.1, 0.0), Weights(1.0, 1.0)], ids=str)
@every_shape
def test_the_kernel_s_gradient_equals_central_differences(shape, axes, weights):
    seen, g, s, theta = example(shape, axes)
    _, gradient = loss_and_gradient(theta, products_of(seen, g, s, theta), weights)
    h = 1e-5
    for i in range(theta.numel()):
        step = torch.zeros_like(theta).view(-1)
        step[i] = h
        up, down = (loss_of(seen, g, s, theta + sign * step.view_as(theta), weights) for sign in (1, -1))
        assert float(gradient.view(-1)[i]) == pytest.approx(float(up - down) / (2 * h), abs=1e-6)


def test_a_tap_s_derivative_is_the_published_difference():
    """Central differences of L(normalized w + h e_i), tap by tap, with relu and sum 1 after it."""
    g, size, lr = random((60,), 0).numpy(), 5, 0.01
    theta = np.array([0.4, 0.2, 0.1])
    full = np.concatenate([theta[:0:-1], theta])

    def loss(w: Any) -> float:
        w = w / w.sum()
        y = sum(tap * g[[reference.reflected(i + k - 2, len(g)) for i in range(len(g))]] for k, tap in enumerate(w))
        return reference.kernel_loss(g, np.asarray(y), None, 0.1, 0.0)

    differences = [(loss(full + 1e-4 * e) - loss(full - 1e-4 * e)) / 2e-4 for e in np.eye(size)]
    moved = np.maximum(full - lr * np.array(differences), 0)
    moved = (
        moved + moved[::-1]
    ) / 2  # the ends of the line make the two sides of a kernel differ; we keep it symmetric
    seen = Seen((60,), (0,))
    kernel = torch.tensor(theta).unsqueeze(0)
    products = of_slices(torch.tensor(g), None, kernel, seen)
    new, _ = learned(kernel, products, Weights(0.1, 0.0), lr, -1.0, through_normalization=True)
    assert new[0].tolist() == pytest.approx((moved / moved.sum())[2:], abs=1e-8)


@every_shape
def test_products(shape, axes):
    seen, g, s, _ = example(shape, axes)
    for dim in seen.axes:
        matrices = [torch.from_numpy(reference.neighbors(g.shape[dim], j)) for j in range(5)]
        moved = [torch.tensordot(b, s, dims=([1], [dim])).movedim(0, dim) for b in matrices]
        assert_close(products_along(g, s, dim, 4), torch.stack([(g * each).sum() for each in moved]))
        moved = [torch.tensordot(b, g, dims=([1], [dim])).movedim(0, dim) for b in matrices]
        auto = products_along(g, g, dim, 4)
        assert_close(gram(auto), torch.stack([torch.stack([(a * b).sum() for b in moved[:3]]) for a in moved[:3]]))


# ---- what must not move a kernel -----------------------------------------------------------------------------------

LEARNERS: dict[str, Any] = {
    "local": lambda p, **settings: LocalLossConvSGD(p, kernel_size=5, local_lr=0.05, **settings),
    "v2": lambda p, **settings: ConvolutionalSGDv2(p, kernel_size=5, kernel_lr=0.05, kernel_every=1, **settings),
}
every_learner = pytest.mark.parametrize("build", LEARNERS.values(), ids=LEARNERS)


def kernels_after(build: Any, grads: list[Tensor], **settings: Any) -> Tensor:
    p = nn.Parameter(torch.zeros_like(grads[0]))
    optimizer = build([p], **settings)
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
    return optimizer.state[p]["kernel"]


def single(shape: tuple[int, int]) -> Tensor:
    g = torch.zeros(shape)
    g[2, 3] = 5.0
    return g


@every_learner
@pytest.mark.parametrize(
    "g", [torch.zeros(6, 9), torch.full((6, 9), 0.3), torch.full((6, 9), 1e-20)], ids=["0", "c", "t"]
)
def test_a_zero_and_a_constant_gradient_teach_nothing(build, g):
    start = kernels_after(build, [torch.zeros(6, 9)])
    assert torch.equal(kernels_after(build, [g] * 3), start)


@every_learner
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_teaches_nothing_and_is_forgotten(build, bad):
    good = random((6, 9), 0).float()
    broken = good.clone()
    broken[1, 2] = bad
    start = kernels_after(build, [good])
    assert torch.equal(kernels_after(build, [good, broken]), start)
    later = kernels_after(build, [good, broken, *[good] * 3])
    assert later.isfinite().all()
    assert not torch.equal(later, start)


@every_learner
def test_a_gradient_with_one_nonzero_element_is_fine(build):
    kernel = kernels_after(build, [single((6, 9))] * 5)
    assert kernel.isfinite().all()
    assert (kernel >= 0).all()


@every_learner
@pytest.mark.parametrize("scale", [1e-6, 1e6, 2.0**-20])
def test_the_scale_of_the_gradients_does_not_matter(build, scale):
    grads = [random((6, 9), seed) for seed in range(8)]
    expected = kernels_after(build, grads)
    assert_close(kernels_after(build, [scale * g for g in grads]), expected, rtol=0, atol=1e-12)
    assert not torch.equal(expected, kernels_after(build, grads[:1]))


def test_kernels_learn_from_every_nth_gradient_alone():
    grads = [random((6, 9), seed) for seed in range(6)]
    kernels = [kernels_after(ConvolutionalSGDv2, grads[:n], kernel_every=3) for n in range(1, 7)]
    assert [torch.equal(a, b) for a, b in itertools.pairwise(kernels)] == [True, False, True, True, False]


# ---- where kernels go ----------------------------------------------------------------------------------------------


def side_taps(smoothness: float, steps: int = 2000, local_lr: float = 0.05) -> Tensor:
    """The end of a kernel on white noise; the products are what they are expected to be for it."""
    theta = torch.full((1, 3), 0.2, dtype=torch.float64)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    auto = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    with_gradient, nothing = auto[:, :3], torch.zeros(1, 3, dtype=torch.float64)
    products = Products(auto, with_gradient, nothing, one, zero, zero)
    for _ in range(steps):
        theta, _ = learned(theta, products, Weights(smoothness, 0.0), local_lr, 0.01, through_normalization=True)
    return theta[0]


@pytest.mark.parametrize(
    ("smoothness", "u"),
    [
        (0.1, 0.062),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in ((0.01, 0.015), (0.3, 0.092), (1.0, 0.126), (3.0, 0.156))
        ),
    ],
)
def test_white_gradients_end_at_equal_side_taps(smoothness, u):
    assert side_taps(smoothness).tolist() == pytest.approx([1 - 4 * u, u, u], abs=2e-3)


def test_without_a_variance_the_kernel_becomes_the_identity():
    assert side_taps(0.0).tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-2)


@pytest.mark.parametrize(("smoothness", "u"), [(0.1, 0.062), (1.0, 0.126)])
def test_the_optimizer_gets_there_on_noise(smoothness, u):
    p = nn.Parameter(torch.zeros(10_000))
    optimizer = LocalLossConvSGD([p], kernel_size=5, local_lr=0.1, smoothness_weight=smoothness)
    rng = torch.Generator().manual_seed(0)
    for _ in range(300):
        p.grad = torch.randn(10_000, generator=rng)
        optimizer.step()
    assert optimizer.get_kernels()[0][:2].tolist() == pytest.approx([u, u], abs=5e-3)
    losses = optimizer.get_local_losses()
    assert len(losses) == 300
    assert losses[-1] < losses[0]


# ---- signal and noise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ratio", [4.0, pytest.param(0.25, marks=pytest.mark.slow), pytest.param(0.0, marks=pytest.mark.slow)]
)
def test_the_ratio_of_signal_and_noise(ratio):
    rng = torch.Generator().manual_seed(0)
    shape, steps = (100, 100), 200
    signal = math.sqrt(ratio) * torch.randn(shape, generator=rng)
    p = nn.Parameter(torch.zeros(shape))
    optimizer = ConvolutionalSGDv2([p], kernel_every=1, noise_estimation_momentum=0.9)
    for _ in range(steps):
        p.grad = signal + torch.randn(shape, generator=rng)
        optimizer.step()
    assert optimizer.get_stats()["snr"][0] == pytest.approx(ratio, rel=0.1, abs=0.02)


def test_the_floor_of_the_ratio_is_what_the_average_leaves_of_the_noise():
    assert math.isnan(snr(1.0, 1.0, seen=1, beta=0.9))
    left = (1 - 0.99) / (1 + 0.99)
    assert snr(2.0 + left * 3.0, 5.0, seen=10**6, beta=0.99) == pytest.approx(2 / 3)
    assert snr(left * 3.0 - 1e-9, 3.0, seen=10**6, beta=0.99) == 0.0


def test_stats_of_the_present_gradients():
    p = nn.Parameter(torch.zeros(100, 100))
    vector = nn.Parameter(torch.zeros(100))
    optimizer = ConvolutionalSGDv2([vector, p], kernel_size=5, kernel_lr=0.0)
    for each in (p, vector):
        each.grad = torch.randn(each.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    stats = optimizer.get_stats()
    assert stats["length_ratio"] == pytest.approx({1: 0.287}, abs=0.01)  # |w|^2 of the Gaussian, once per axis
    assert stats["cosine"] == pytest.approx({1: 0.564}, abs=0.01)  # (w0 / |w|)^2
    assert math.isnan(stats["snr"][1])
