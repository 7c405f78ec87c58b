"""The demonstrations of the toolbox notebooks: formulas against torch, scikit-learn and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advanced_optimizers.experiments.demonstrations.adaptive import effective_rates, learn_rare_features
from advanced_optimizers.experiments.demonstrations.layers import (
    batch_norm_by_hand,
    dropout_moments,
    ensemble,
    geometric_mean_error,
    project,
)
from advanced_optimizers.experiments.demonstrations.momentum import (
    iteration_matrix,
    rate_of_decay,
    textbook_nesterov,
    torch_nesterov,
)
from advanced_optimizers.experiments.demonstrations.noise import (
    around_the_last_step,
    mlp,
    normalized,
    part_of,
    sample_gradients,
    train_and_watch,
)
from advanced_optimizers.experiments.demonstrations.priors import FEATURES, l1_by, one_weight, selected
from advanced_optimizers.experiments.demonstrations.scaling import (
    accuracy_by_scale,
    condition_numbers,
    rescale_one_feature,
)
from advanced_optimizers.experiments.demonstrations.smoothing import (
    adam_by_hand,
    half_life,
    smoothed,
    variance_factor,
    window,
)
from advanced_optimizers.experiments.demonstrations.surfaces import quadratic
from advanced_optimizers.experiments.demonstrations.trajectories import OPTIMIZERS, descend

CURVATURES = torch.tensor([1.0, 50.0], dtype=torch.float64)
START = torch.tensor([-8.0, 1.5], dtype=torch.float64)


# ---- Nesterov ------------------------------------------------------------------------------------------------------


def apart(rates: list[float]) -> float:
    ours, textbook = (f(lambda p: CURVATURES * p, START, rates) for f in (torch_nesterov, textbook_nesterov))
    return float((ours - textbook).abs().max())


def test_torchs_nesterov_is_the_textbooks_shifted_point_until_the_rate_changes() -> None:
    assert apart([0.01] * 50) < 1e-14
    assert apart([0.01] * 25 + [0.001] * 25) > 0.5


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("curvature", "lr"), [(1.0, 0.01), (50.0, 0.01), (50.0, 0.02)])
def test_the_iteration_matrix_is_torchs_step(nesterov: bool, curvature: float, lr: float) -> None:
    way = descend(quadratic((curvature, 1.0)), OPTIMIZERS["Nesterov" if nesterov else "Momentum"], lr, 40).path[:, 0]
    matrix = iteration_matrix(curvature, lr, nesterov=nesterov)
    for step in range(2, 40):  # the first step has no velocity yet
        expected = matrix @ torch.stack([way[step], way[step - 1]])
        assert float(way[step + 1]) == pytest.approx(float(expected[0]), abs=1e-12)
    assert float(torch.det(matrix)) == pytest.approx(0.9 * (1 - lr * curvature if nesterov else 1))


def test_nesterovs_largest_stable_rate_is_the_lower_one() -> None:
    # 2 (1 + mu) / h for momentum, 2 (1 + mu) / ((1 + 2 mu) h) for Nesterov
    for nesterov, limit in ((False, 3.8 / 50), (True, 3.8 / (2.8 * 50))):
        assert rate_of_decay(iteration_matrix(50.0, 0.999 * limit, nesterov=nesterov)) < 1
        assert rate_of_decay(iteration_matrix(50.0, 1.001 * limit, nesterov=nesterov)) > 1


# ---- smoothing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_responses(beta: float) -> None:
    steps = torch.arange(30, dtype=torch.float64)
    impulse, ones = torch.eye(30, dtype=torch.float64)[0], torch.ones(30, dtype=torch.float64)
    torch.testing.assert_close(smoothed(impulse, beta), (1 - beta) * beta**steps)
    torch.testing.assert_close(smoothed(ones, beta), 1 - beta ** (steps + 1))
    torch.testing.assert_close(smoothed(ones, beta, corrected=True), ones)


def test_half_lives_and_windows() -> None:
    assert [round(half_life(beta), 1) for beta in (0.9, 0.99, 0.999)] == [6.6, 69.0, 692.8]
    assert window(0.9) == pytest.approx(10)
    steps = torch.arange(2000, dtype=torch.float64)
    assert float(((1 - 0.9) * 0.9**steps * (steps + 1)).sum()) == pytest.approx(window(0.9))


def test_what_smoothing_leaves_of_noise() -> None:
    noise = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))
    assert float(smoothed(noise, 0.9)[200:].var()) == pytest.approx(variance_factor(0.9), rel=0.05)


def test_adam_by_hand_is_torchs() -> None:
    gradients = list(torch.randn(30, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    point = nn.Parameter(torch.zeros(7, dtype=torch.float64))
    adam = torch.optim.Adam([point], lr=0.1)
    for gradient in gradients:
        point.grad = gradient
        adam.step()
    torch.testing.assert_close(adam_by_hand(gradients, 0.1), point.detach(), rtol=0, atol=1e-12)
    first, uncorrected = (adam_by_hand(gradients[:1], 0.1, corrected=c) for c in (True, False))
    torch.testing.assert_close(first, -0.1 * gradients[0].sign(), rtol=1e-4, atol=0)
    torch.testing.assert_close(uncorrected / first, torch.full_like(first, 0.1 / math.sqrt(0.001)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("function", [half_life, window, variance_factor, lambda b: smoothed(torch.ones(2), b)])
def test_a_bad_beta_is_named(function: object) -> None:
    with pytest.raises(ValueError, match="beta must be"):
        function(1.0)  # type: ignore[operator]


# ---- adaptive rates ------------------------------------------------------------------------------------------------


def test_adagrads_step_falls_and_rmsprops_stays() -> None:
    moved = effective_rates({name: OPTIMIZERS[name] for name in ("Adagrad", "RMSprop", "GD")}, lr=0.1, steps=1000)
    assert float(moved["Adagrad"][999] / moved["Adagrad"][9]) == pytest.approx(0.1, rel=0.05)
    assert float(moved["RMSprop"][999]) == pytest.approx(0.1, rel=0.05)
    torch.testing.assert_close(moved["GD"], torch.full_like(moved["GD"], 0.1))


def test_rare_features_get_larger_steps_and_none_is_removed() -> None:
    descent, adagrad = (learn_rare_features(OPTIMIZERS[name], 0.3, steps=500) for name in ("GD", "Adagrad"))
    assert descent.step_ratio == 1.0
    assert adagrad.step_ratio > 3
    assert adagrad.rare < 0.5 * descent.rare
    assert adagrad.unused == descent.unused == 0


# ---- noise and curves ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels, _, _ = normalized(part_of("digits", 300))
    return images, labels


def test_sample_gradients_average_to_the_gradient_of_all(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    model = mlp(64, (8,))
    noise = sample_gradients(model, *digits)
    F.cross_entropy(model(digits[0]), digits[1]).backward()
    full = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(noise.gradients.mean(dim=0), full, rtol=1e-4, atol=1e-6)
    assert noise.signal == pytest.approx(float(full.square().sum()), rel=1e-3)


def test_the_law_of_the_noise(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    noise = sample_gradients(mlp(64, (8,)), *digits)
    for size in (1, 8, 64, 150, 280):
        assert noise.measured(size, draws=300) == pytest.approx(noise.predicted(size), rel=0.25), size
    assert noise.predicted(300) == 0.0
    assert noise.measured(300, draws=3) < 1e-10
    assert noise.predicted(150) == pytest.approx(0.5 * noise.spread / 150)


def test_a_last_step_on_few_images_does_damage() -> None:
    worst = {}
    for images, batch_size in ((1416, 64), (1400, 50)):  # eight are left, and none
        torch.manual_seed(0)
        around = around_the_last_step(mlp(64), part_of("digits", images), batch_size, lr=0.3, epochs=4)
        worst[batch_size] = max(before - after for before, after in around)
    assert worst[64] > 0.05 > 0.03 > worst[50]


def test_a_network_learns_few_images_by_heart() -> None:
    torch.manual_seed(0)
    curves = train_and_watch(mlp(64), part_of("digits", 150), 60, lr=1e-2)
    assert curves.train_loss[-1] < 0.01
    assert min(curves.validation_loss) < curves.validation_loss[-1]
    assert curves.accuracy[-1] > 0.85
    assert [len(curve) for curve in curves] == [60] * 3


# ---- priors and zeros ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["l1", "l2"])
@pytest.mark.parametrize("strength", [0.01, 0.1, 0.5, 2.0])
def test_a_penalty_is_a_prior(kind: str, strength: float) -> None:
    fit = one_weight(kind, strength)
    assert fit.most_probable == pytest.approx(fit.penalized, abs=1e-6)


def test_only_l1_reaches_zero() -> None:
    assert one_weight("l1", 2.0).penalized == 0.0
    assert 0.0 < one_weight("l2", 2.0).penalized < one_weight("l2", 0.1).penalized


def test_l1_selects_and_l2_does_not() -> None:
    kept = [selected("l1", c) for c in (0.05, 0.2, 1.0)]
    assert [total for total, _ in kept] == sorted(total for total, _ in kept)
    assert kept[0][0] < 10
    assert kept[1][1] == 5, "the true features stay"
    assert {selected("l2", c)[0] for c in (0.05, 1.0)} == {FEATURES}


def test_only_a_proximal_step_makes_zeros() -> None:
    descent = l1_by(OPTIMIZERS["GD"], steps=1000)
    assert descent.exact == l1_by(OPTIMIZERS["Adam"], lr=0.01, steps=1000).exact == 0
    assert descent.small > 20, "they are small all the same"
    assert l1_by(OPTIMIZERS["GD"], steps=1000, proximal=True).exact > 20


# ---- normalization ---------------------------------------------------------------------------------------------------


def test_condition_numbers() -> None:
    numbers = condition_numbers()
    assert numbers["raw"] == pytest.approx(1.0e6, rel=0.05)
    assert numbers["centered"] == pytest.approx(7.6e4, rel=0.05)
    assert numbers["/ standard deviation"] == pytest.approx(470, rel=0.05)
    assert numbers["/ variance"] == pytest.approx(5.0e5, rel=0.05)


def test_what_a_rescaled_feature_changes() -> None:
    change = rescale_one_feature()
    assert change.least_squares < 1e-10
    assert change.ridge > 1e-3
    assert change.first_axis > 0.999
    assert rescale_one_feature(factor=1.0).ridge == 0.0


def test_scales_change_the_speed() -> None:
    fits = accuracy_by_scale("digits", 720, epochs=2)
    assert fits["standardized"].test > fits["0 to 1"].test
    assert all(abs(fit.train - fit.test) < 0.08 for fit in fits.values())


# ---- layers -------------------------------------------------------------------------------------------------------


def test_batch_norm_by_hand_is_torchs() -> None:
    x = 3 * torch.randn(13, 5, generator=torch.Generator().manual_seed(0)) + 2
    layer = nn.BatchNorm1d(5)
    by_hand = batch_norm_by_hand(x)
    torch.testing.assert_close(layer(x), by_hand.output)
    torch.testing.assert_close(layer.running_mean, by_hand.running_mean)
    torch.testing.assert_close(layer.running_var, by_hand.running_var)
    assert not torch.allclose(layer.running_var, 0.9 + 0.1 * x.var(dim=0, unbiased=False), rtol=1e-4)


def test_max_norm_shortens_the_long_rows_alone() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(project(weight, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4]]), rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_mean_and_doubles_the_square() -> None:
    moments = dropout_moments(0.5)
    assert moments["evaluation"] == moments["without"]
    assert moments["training"][0] == pytest.approx(moments["without"][0], rel=0.02)
    assert moments["training"][1] == pytest.approx(2 * moments["without"][1], rel=0.03)


def test_one_layer_after_the_mask_is_the_geometric_mean() -> None:
    assert geometric_mean_error() < 1e-12


def test_ensembles_of_masks() -> None:
    torch.manual_seed(0)
    model, images = mlp(64, (32,), dropout=0.5), torch.randn(50, 1, 8, 8)
    labels = torch.arange(50) % 10
    found = ensemble(model, images, labels, masks=20)
    assert list(found) == ["one mask", "mean of 10", "mean of 20", "geometric mean of 20", "evaluation"]
    model.eval()
    assert found["evaluation"].nll == pytest.approx(float(F.cross_entropy(model(images), labels).detach()), rel=1e-5)
    # The arithmetic mean of probabilities is at least as likely as masks are on average (Jensen).
    torch.manual_seed(0)
    model.train()
    single = np.mean([float(F.cross_entropy(model(images), labels).detach()) for _ in range(20)])
    assert found["mean of 20"].nll <= single
