"""Smoothing with symmetric kernels: SciPy's, what padding keeps, descent, and the limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.testing import assert_close

from advanced_optimizers import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
from advanced_optimizers.convolutional.kernels import (
    all_taps,
    gaussian,
    identity,
    least_gain,
    onto_simplex,
    total,
    uniform,
    with_least_gain,
)
from advanced_optimizers.convolutional.smoothing import neighbor_matrices
from tests.harness import BITWISE
from tests.reference import convolutional as reference

WIDE = (0.4, 0.22, 0.08)
SHAPES = [
    (1, 9), (9, 1), (6, 9), (2, 3), (2, 2), (16, 3, 3, 3), (8, 1, 3, 3), (4, 4, 1, 1), (4, 3, 5, 5), (3, 5, 1, 4),
    (2, 2, 20, 30), (4, 3, 7), (2, 3, 3, 3, 3), (40, 70),
]  # fmt: skip


def taps(theta: tuple[float, ...]) -> list[float]:
    return [*reversed(theta[1:]), *theta]


def smoothed(g: Tensor, theta: tuple[float, ...] = WIDE, **settings: Any) -> Tensor:
    """A fixed kernel's Wg, read off a step of plain SGD."""
    p = nn.Parameter(torch.zeros_like(g))
    defaults = {"axes": None, "min_gain": -1.0, "adaptive_kernel": False}
    kernel: Any = {"kernel_size": 2 * len(theta) - 1, "kernel": taps(theta)}
    optimizer = ConvolutionalSGD([p], 1.0, 0.0, **{**defaults, **kernel, **settings})
    p.grad = g
    optimizer.step()
    return -p.detach()


def random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- SciPy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [(0.5, 0.25), WIDE, (0.4, 0.15, 0.1, 0.05)], ids=["3", "5", "7"])
@pytest.mark.parametrize("shape", [(5,), (7,), (8,), *SHAPES])
def test_one_line_equals_scipy(shape, theta):
    g = random(shape)
    expected = ndimage.convolve1d(g.numpy().reshape(-1), taps(theta), mode="reflect").reshape(shape)
    unchanged = g.numel() < 2 * len(theta) - 1
    assert_close(smoothed(g, theta), g if unchanged else torch.from_numpy(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("theta", [(0.5, 0.25), WIDE, (0.4, 0.15, 0.1, 0.05)], ids=["3", "5", "7"])
@pytest.mark.parametrize("axes", [(-2, -1), (-2,), (-1,)], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_two_axes_equal_scipy(shape, axes, theta):
    g = random(shape)
    expected = g.numpy()
    for axis in axes:
        if not (len(shape) == 3 and axis == -2):  # of Conv1d only the last axis has neighbors
            expected = ndimage.convolve1d(expected, taps(theta), axis=axis, mode="reflect")
    assert_close(smoothed(g, theta, axes=axes), torch.from_numpy(expected), rtol=0, atol=1e-12)


LAYOUTS = {
    "transposed": lambda g: g.transpose(0, 1).contiguous().transpose(0, 1),
    "channels_last": lambda g: g.contiguous(memory_format=torch.channels_last),
}


def test_two_axes_are_the_outer_product_of_two_kernels():
    g = random((6, 9))
    expected = ndimage.convolve(g.numpy(), np.outer(taps(WIDE), taps(WIDE)), mode="reflect")
    assert_close(smoothed(g, axes=(-2, -1)), torch.from_numpy(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("axes", [None, (-2, -1)], ids=str)
@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_in_memory_does_not_matter(axes, change):
    g = random((6, 4, 3, 3))
    assert_close(smoothed(change(g), axes=axes), smoothed(g, axes=axes), rtol=0, atol=1e-15, check_stride=False)


@pytest.mark.parametrize("axes", [None, (-2, -1)], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (4,), (0, 3), (1, 1), (2, 2, 1, 1)])
def test_what_is_too_small_is_left_as_it_is(axes, shape):
    g = random(shape)
    p = nn.Parameter(torch.zeros_like(g))
    optimizer = ConvolutionalSGD([p], kernel_size=5, axes=axes)
    assert optimizer._transform([p], [g], optimizer.param_groups[0])[0] is g


def test_vectors_have_no_second_axis():
    g = random((50,))
    assert_close(smoothed(g, axes=(-2, -1)), g, **BITWISE)
    assert not torch.equal(smoothed(g), g)


@pytest.mark.parametrize("n", [1, 2, 3, 12])
def test_the_padded_line_has_a_cosine_transform(n):
    b = neighbor_matrices(n, 6, torch.float64, torch.device("cpu"))
    for m in range(7):
        assert_close(b[m], torch.from_numpy(reference.neighbors(n, m)), rtol=0, atol=0)
        assert_close(b[m], b[m].T, rtol=0, atol=0)
    for m in range(1, 4):
        for k in range(1, 4):
            product = b[m + k] + (b[abs(m - k)] if m != k else 2 * b[0])
            assert_close(b[m] @ b[k], product, rtol=0, atol=0)


# ---- invariants ----------------------------------------------------------------------------------------------------

every_axes = pytest.mark.parametrize("axes", [None, (-2, -1), (-1,)], ids=str)


@every_axes
@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3)])
def test_what_smoothing_keeps(axes, shape):
    g, h = random(shape), random(shape, seed=1)
    y = smoothed(g, axes=axes)
    constant = torch.full(shape, 3.0, dtype=torch.float64)
    assert_close(smoothed(constant, axes=axes), constant, rtol=0, atol=1e-14)
    assert_close(y.sum(), g.sum(), rtol=0, atol=1e-13)
    assert_close(smoothed(2 * g - 3 * h, axes=axes), 2 * y - 3 * smoothed(h, axes=axes), rtol=0, atol=1e-13)
    assert y.norm() <= g.norm()
    assert_close(torch.vdot(smoothed(h, axes=axes).view(-1), g.view(-1)), torch.vdot(h.view(-1), y.view(-1)))


@every_axes
def test_reversing_an_axis_commutes_with_smoothing(axes):
    g = random((6, 9))
    flipped = (0, 1) if axes is None else axes
    assert_close(smoothed(g.flip(flipped), axes=axes), smoothed(g, axes=axes).flip(flipped), rtol=0, atol=1e-14)


def test_white_noise_is_as_much_shorter_as_the_kernel_s_norm():
    g = torch.randn(10**6, generator=torch.Generator().manual_seed(0))
    y = smoothed(g)
    norm = math.sqrt(sum(w * w for w in taps(WIDE)))
    assert float(y.norm() / g.norm()) == pytest.approx(norm, rel=0.01)
    assert float(torch.dot(y, g) / (y.norm() * g.norm())) == pytest.approx(WIDE[0] / norm, rel=0.01)


@every_axes
def test_the_length_can_be_kept(axes):
    g = random((6, 9))
    y, kept = smoothed(g, axes=axes), smoothed(g, axes=axes, norm_preserving=True)
    assert_close(kept, y * g.norm() / y.norm())
    assert not smoothed(torch.zeros(6, 9), axes=axes, norm_preserving=True).any()


# ---- descent -------------------------------------------------------------------------------------------------------


def random_kernels(size: int, count: int = 500) -> Tensor:
    theta = torch.rand(count, size // 2 + 1, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return theta / total(theta)


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
def test_the_least_gain_is_that_of_a_search(size):
    theta = random_kernels(size, 60)
    expected = [reference.least_gain(each) for each in theta.numpy()]
    assert_close(least_gain(theta), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_known_kernels():
    assert float(least_gain(torch.tensor(uniform(5)))) == pytest.approx(-0.25)
    assert gaussian(5) == pytest.approx((0.4026, 0.2442, 0.0545), abs=1e-4)
    assert float(least_gain(torch.tensor(gaussian(5)))) == pytest.approx(0.0232, abs=1e-4)
    assert float(least_gain(torch.tensor([0.8, 0.05, 0.05]))) == pytest.approx(0.6875, abs=1e-4)
    made_safe = with_least_gain(torch.tensor(uniform(5), dtype=torch.float64), 0.0)
    assert made_safe.tolist() == pytest.approx([0.36, 0.16, 0.16])  # t = .2
    assert with_least_gain(torch.tensor(identity(5)), 0.99).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("size", [3, 5])
def test_the_blend_is_the_least_that_works(size):
    theta = random_kernels(size)
    blended = with_least_gain(theta, 0.01)
    short = least_gain(theta) < 0.01
    assert 0 < short.sum() < len(theta)
    assert_close(least_gain(blended[short]), torch.full_like(blended[short][:, 0], 0.01), rtol=0, atol=1e-12)
    assert_close(blended[~short], theta[~short], **BITWISE)
    assert_close(total(blended), torch.ones_like(total(blended)), rtol=0, atol=1e-14)


def test_taps_come_back_to_the_simplex():
    theta = torch.tensor([[0.5, -0.1, 0.3], [-1.0, -1.0, -0.5], [0.2, 0.2, 0.2]])
    kept = onto_simplex(theta)
    assert (kept >= 0).all()
    assert_close(total(kept), torch.ones(3, 1))
    assert_close(kept[1], torch.full((3,), 0.2))
    assert_close(all_taps(kept[2]), torch.full((5,), 0.2))


@pytest.mark.parametrize("start", ["uniform", "gaussian"])
@pytest.mark.parametrize("size", [3, 5, 7])
@every_axes
def test_every_gradient_keeps_a_direction_of_descent(start, size, axes):
    for seed in range(50):
        g = random((7, 12), seed)
        y = smoothed(g, uniform(size), axes=axes, kernel=start, min_gain=0.01)
        assert torch.vdot(g.view(-1), y.view(-1)) > 0.009 * g.square().sum()


def test_the_worst_gradient_of_the_box_is_turned_around_without_the_blend():
    g = torch.cos(1.823 * torch.arange(1000, dtype=torch.float64))
    assert float(torch.dot(g, smoothed(g, uniform(5))) / torch.dot(g, g)) == pytest.approx(-0.248, abs=2e-3)
    assert torch.dot(g, smoothed(g, uniform(5), min_gain=0.01)) > 0
    # Reflection about the last element itself, as published, breaks descent even where the transform is positive.
    matrix = ndimage.convolve1d(np.eye(3), taps(gaussian(5)), axis=0, mode="mirror")
    assert np.linalg.eigvalsh(matrix + matrix.T).min() < 0
    matrix = ndimage.convolve1d(np.eye(3), taps(gaussian(5)), axis=0, mode="reflect")
    assert np.linalg.eigvalsh(matrix + matrix.T).min() > 0


# ---- limits --------------------------------------------------------------------------------------------------------

FIXED: dict[str, tuple[Any, dict[str, Any]]] = {
    "v1": (ConvolutionalSGD, {"adaptive_kernel": False}),
    "v1, kernel_lr": (ConvolutionalSGD, {"adaptive_kernel": False, "kernel_lr": 0.0}),
    "local": (LocalLossConvSGD, {"local_lr": 0.0}),
    "v2": (ConvolutionalSGDv2, {"kernel_lr": 0.0}),
}


@pytest.mark.parametrize(("kind", "settings"), FIXED.values(), ids=FIXED)
@pytest.mark.parametrize(
    "kernel", [{"kernel_size": 1}, {"kernel_size": 5, "kernel": "identity"}, {"kernel": [0, 1, 0]}]
)
def test_one_tap_and_the_identity_hand_on_the_gradient_itself(kind, settings, kernel):
    p = nn.Parameter(torch.zeros(4, 6))
    optimizer = kind([p], **settings, **kernel)
    p.grad = torch.tensor([-0.0, math.inf, math.nan, 1.0, 2.0, 3.0]).expand(4, 6).clone()
    (result,) = optimizer._transform([p], [p.grad], optimizer.param_groups[0])
    assert result is p.grad
    assert p not in optimizer.state


# ---- permuted axes -------------------------------------------------------------------------------------------------


@every_axes
@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3)])
def test_permuted_axes_are_those_of_the_state(axes, shape):
    g = random(shape)
    p = nn.Parameter(torch.zeros_like(g))
    settings: Any = {"kernel_size": 5, "kernel": taps(WIDE), "axes": axes, "min_gain": -1.0}
    optimizer = ConvolutionalSGD([p], 1.0, 0.0, permute_axes=3, **settings)
    p.grad = g
    optimizer.step()
    order = optimizer.state[p]["order"]
    x = g.view(-1) if axes is None else g
    smoothed_axes = [0] if axes is None else [x.dim() + axis for axis in axes]
    orders = order.split([x.shape[axis] for axis in smoothed_axes])
    inner = x
    for axis, of_axis in zip(smoothed_axes, orders, strict=True):
        assert sorted(of_axis.tolist()) == list(range(x.shape[axis]))
        inner = inner.index_select(axis, of_axis)
    expected = smoothed(inner, axes=axes)
    for axis, of_axis in zip(smoothed_axes, orders, strict=True):
        expected = expected.index_select(axis, of_axis.argsort())
    assert_close(-p.detach(), expected.view(shape), rtol=0, atol=1e-14)
    assert not torch.allclose(-p.detach(), smoothed(g, axes=axes))


def test_a_seed_gives_the_same_order_again_and_each_tensor_its_own():
    def orders(seed: int) -> list[Tensor]:
        params = [nn.Parameter(torch.zeros(20)) for _ in range(2)]
        optimizer = ConvolutionalSGD(params, permute_axes=seed)
        for p in params:
            p.grad = torch.ones(20)
        optimizer.step()
        return [optimizer.state[p]["order"] for p in params]

    first, second = orders(3)
    assert [first.equal(order) for order in orders(3)] == [True, False]
    assert not first.equal(second)
    assert not first.equal(orders(4)[0])
