"""The mathematics of the predictors vs the reference, and the safety of corrected gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from advanced_optimizers.gradient_correction.derivatives import cosines_and_derivative
from advanced_optimizers.gradient_correction.mixing import Basis, make_safe, to_length
from advanced_optimizers.gradient_correction.predictor import (
    GCODE,
    GCW,
    as_theta,
    batch_of,
    of_rows,
    predict,
    unit_rows,
)
from advanced_optimizers.gradient_correction.together import buckets
from tests.harness import BITWISE
from tests.reference.gradient_correction import Past, complex_step, predict_with_attention, predict_with_ode
from tests.reference.gradient_correction import make_safe as slow_make_safe


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)


# ---- the predictions vs the reference ----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 7, 64, 65, 130])
def test_predictions_and_their_derivatives_equal_the_reference(rows, rng):
    """Also with more rows than a row can attend to."""
    g, m = torch.randn(2, rows, 3, generator=rng, dtype=torch.float64)
    next_gradient = torch.randn(rows, 3, generator=rng, dtype=torch.float64)
    unit, (length_g, length_m), _ = unit_rows(products_of(g, m))
    batch = batch_of(torch.tensor([rows]), g.dtype, g.device)
    past = Past(g.numpy(), m.numpy())
    for predictor, slow in ((GCW, predict_with_attention), (GCODE, predict_with_ode)):
        theta = torch.randn(1, predictor.size, generator=rng, dtype=torch.float64, requires_grad=True)
        prediction = predict(as_theta(theta, [predictor]), unit, batch)
        mix, basis = prediction.mixes, prediction.basis
        a, b = of_rows(mix * to_length(mix, mix @ basis.gram, basis), prediction)[0].unbind(dim=1)
        predicted = a[:, None] * g + length_g / length_m * b[:, None] * m
        at = theta.detach()[0].numpy()
        np.testing.assert_allclose(predicted.detach().numpy(), slow(at, past), rtol=0, atol=1e-12)
        (derivative,) = torch.autograd.grad((predicted * next_gradient).sum(), theta)
        along = complex_step(lambda t, slow=slow: (slow(t, past) * next_gradient.numpy()).sum(), at)
        np.testing.assert_allclose(derivative[0].numpy(), along, rtol=0, atol=1e-10)


@pytest.mark.parametrize("predictors", [[GCW], [GCODE], [GCW, GCODE]], ids=["gcw", "gcode", "both"])
def test_written_out_derivatives_are_those_of_torch_and_differences(predictors, rng):
    """Of tensors with unequally many rows, one of them with a gate of zero and one with equal memory and gradient."""
    counts = [2, 130, 9, 7]
    batch = batch_of(torch.tensor(counts), torch.float64, torch.device("cpu"))
    products, inner = (torch.zeros(k, len(counts), max(counts), dtype=torch.float64) for k in (3, 2))
    for i, rows in enumerate(counts):
        g, m, following = torch.randn(3, rows, 3, generator=rng, dtype=torch.float64)
        m = g if i == 3 else m
        products[:, i, :rows] = products_of(g, m)[:, 0]
        following /= following.norm()
        inner[:, i, :rows] = torch.stack([(following * each).sum(1) / each.norm() for each in (g, m)])
    unit, _, _ = unit_rows(products)
    size = sum(predictor.size for predictor in predictors)
    theta = torch.randn(len(counts), size, generator=rng, dtype=torch.float64)
    theta[2, [sum(p.size for p in predictors[: k + 1]) - 1 for k in range(len(predictors))]] = 0.0

    def cosines(at: Tensor) -> Tensor:
        mixes, basis, goal, *_ = predict(as_theta(at, predictors), unit, batch, inner.unbind())
        return (mixes @ goal) / (mixes @ basis.gram * mixes).sum(dim=2, keepdim=True).sqrt()

    pieces = as_theta(theta, predictors)
    found, derivative = cosines_and_derivative(pieces, predict(pieces, unit, batch, inner.unbind()))
    assert_close(found, cosines(theta), rtol=0, atol=1e-14)
    leaf = theta.clone().requires_grad_()
    (by_torch,) = torch.autograd.grad(cosines(leaf).sum(), leaf)
    assert_close(derivative, by_torch, rtol=0, atol=1e-12)
    along = torch.randn(theta.shape, generator=rng, dtype=torch.float64)
    ahead, behind = (cosines(theta + step * along).sum(dim=(1, 2)) for step in (1e-5, -1e-5))
    assert_close((derivative * along).sum(dim=1), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8)


# ---- safety ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
def test_safe_gradients(seed, min_cosine, own, memory):
    g, m = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    g, m = g / g.norm(), m / m.norm()
    wanted = own * g + memory * m
    a, b = make_safe(torch.tensor([[[own, memory]]]).double(), basis_of(g, m), min_cosine).flatten()
    safe = a * g + b * m
    assert_close(safe.norm(), g.norm())
    assert cosine(safe, g) >= min_cosine - 1e-7
    if wanted.norm() > 1e-6 and abs(float(cosine(wanted, g))) < 1 - 1e-6:
        np.testing.assert_allclose(safe, slow_make_safe(wanted.numpy(), g.numpy(), min_cosine), rtol=0, atol=1e-6)


def products_of(g: Tensor, m: Tensor) -> Tensor:
    return torch.stack([(g * g).sum(1), (g * m).sum(1), (m * m).sum(1)])[:, None]


def basis_of(g: Tensor, m: Tensor) -> Basis:
    gg, gm, mm = unit_rows(products_of(g, m))[0].sum(dim=2)[:, 0]
    return Basis(torch.stack([gg, gm, gm, mm]).view(1, 2, 2), gg.view(1, 1, 1), torch.eye(2)[None, :1].to(g))


@pytest.mark.parametrize("mix", [(-1.0, 0.0), (0.0, 0.0), (math.nan, 0.0), (math.inf, 1.0), (1.0, -math.inf)])
def test_an_undefined_mix_becomes_the_gradient_itself(mix, rng):
    basis = basis_of(*torch.randn(2, 4, 3, generator=rng))
    assert_close(make_safe(torch.tensor([[mix]]), basis, 0.5), torch.tensor([[[1.0, 0.0]]]), **BITWISE)


@pytest.mark.parametrize(
    ("few", "expected"),
    [
        (0, [[1000], [512] * 5, [256] * 5, [10]]),
        (1500, [[1000], [512] * 5 + [256] * 5, [10]]),
        (2000, [[1000], [512] * 5 + [256] * 5 + [10]]),
        (2**17, [[1000] + [512] * 5 + [256] * 5 + [10]]),
    ],
)
def test_few_rows_of_zeros_are_added_to_handle_tensors_together(few, expected):
    tensors = [torch.empty(rows, 1) for rows in (256, 512, 1000, 10, *[256, 512] * 4)]
    assert [[len(tensor) for tensor in bucket] for bucket in buckets(tensors, few)] == expected
