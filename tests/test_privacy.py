"""Gaussian noise and clipping: exact guarantees, what a sample can change, and what attacks find."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from advanced_optimizers.automl import (
    DifferentialPrivacy,
    clip_per_sample,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_noise,
    invert_gradient,
    membership_auc,
    per_sample_gradients,
    private_average,
)
from tests.reference import privacy as reference


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def samples(rng: torch.Generator, n: int = 12) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 2, 3, generator=rng), torch.randint(3, (n,), generator=rng)


# ---- the exact mechanism ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epsilon", "s"), [(0.0, 1.0), (0.5, 2.0), (1.0, 0.7), (3.0, 0.4), (8.0, 0.3)])
def test_delta_is_the_integral_of_what_exceeds(epsilon: float, s: float) -> None:
    assert gaussian_delta(epsilon, s) == pytest.approx(reference.delta_by_integral(epsilon, s), rel=1e-5)


def test_delta_survives_numbers_that_overflow() -> None:
    assert gaussian_delta(2000.0, 1.0) == 0.0
    assert gaussian_delta(2000.0, 0.01) == pytest.approx(1.0)
    assert gaussian_delta(1.0, 1e4) == 0.0


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-2])
def test_the_exact_noise_is_the_smallest(epsilon: float, delta: float) -> None:
    sigma = gaussian_noise(epsilon, delta)
    assert gaussian_delta(epsilon, sigma) <= delta < gaussian_delta(epsilon, sigma * (1 - 1e-6))
    assert gaussian_noise(epsilon, delta, sensitivity=2.5) == pytest.approx(2.5 * sigma)
    assert gaussian_noise(1.1 * epsilon, delta) < sigma
    assert gaussian_noise(epsilon, 1.1 * delta) < sigma
    assert gaussian_epsilon(sigma, delta) == pytest.approx(epsilon, rel=1e-6)


def test_the_classical_noise_is_too_much_below_8_and_too_little_above() -> None:
    """Its formula, beyond the epsilon of 1 up to which it is proved and where we refuse it."""
    deltas = {e: gaussian_delta(e, math.sqrt(2 * math.log(1.25e5)) / e) for e in (0.5, 1.0, 3.0, 8.0, 10.0, 20.0)}
    assert deltas == pytest.approx({0.5: 1.6e-8, 1: 4.1e-8, 3: 3.2e-7, 8: 8.0e-6, 10: 2.3e-5, 20: 1.5e-3}, rel=0.03)
    assert gaussian_noise(0.999, 1e-5, mechanism="classical") == pytest.approx(4.850, abs=1e-3)
    assert gaussian_noise(1.0, 1e-5) == pytest.approx(3.731, abs=1e-3)


def test_releases_add_up_as_their_precisions_do() -> None:
    spent = [gaussian_epsilon(4.845, 1e-5, releases=t) for t in (1, 10, 100, 1000)]
    assert spent == pytest.approx([0.75, 2.69, 10.39, 48.4], rel=3e-3)
    assert gaussian_epsilon(1e6, 1e-5) == 0.0  # delta alone permits that


def test_the_noise_is_the_other_packages() -> None:
    pytest.importorskip("dp_accounting", reason="needs dp-accounting")
    from dp_accounting.pld.common import DifferentialPrivacyParameters
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    for epsilon in (0.3, 1.0, 4.0):
        theirs = GaussianPrivacyLoss.from_privacy_guarantee(DifferentialPrivacyParameters(epsilon, 1e-5))
        assert gaussian_noise(epsilon, 1e-5) == pytest.approx(theirs.standard_deviation, rel=1e-4)


# ---- noise on gradients ----------------------------------------------------------------------------------------------


def test_noise_has_the_deviation_and_no_mean(rng: torch.Generator) -> None:
    privacy, n = DifferentialPrivacy(0.8, 1e-5, generator=rng), 100_000
    noise = privacy.add_noise(torch.full((n,), 3.0), sensitivity=2.0) - 3.0
    sigma = gaussian_noise(0.8, 1e-5, 2.0)
    assert abs(float(noise.mean())) < 4 * sigma / math.sqrt(n)
    assert abs(float(noise.std()) - sigma) < 4 * sigma / math.sqrt(2 * n)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_noise_keeps_form_and_dtype_and_leaves_its_input(rng: torch.Generator, dtype: torch.dtype) -> None:
    gradients = [torch.ones(3, 2, dtype=dtype), torch.ones((), dtype=dtype)]
    first, second = (
        DifferentialPrivacy(generator=torch.Generator().manual_seed(seed)).add_noise(gradients) for seed in (1, 2)
    )
    assert [g.shape for g in first] == [g.shape for g in gradients]
    assert {g.dtype for g in (*first, *second)} == {dtype}
    assert all(g.eq(1).all() for g in gradients)
    assert not first[0].equal(second[0])
    assert DifferentialPrivacy(generator=torch.Generator().manual_seed(1)).add_noise(gradients)[0].equal(first[0])


def test_calls_are_counted() -> None:
    privacy = DifferentialPrivacy(1.0, 1e-5)
    assert privacy.spent() == 0.0
    privacy.add_noise(torch.zeros(2))
    assert privacy.spent() == pytest.approx(1.0, rel=1e-6)
    for _ in range(99):
        privacy.add_noise([torch.zeros(2), torch.zeros(3)])
    assert privacy.spent() == gaussian_epsilon(privacy.noise_multiplier, 1e-5, 100)
    assert privacy.spent() > 10.0


# ---- clipping --------------------------------------------------------------------------------------------------------


def test_clipping_shortens_and_keeps_the_direction() -> None:
    clip = DifferentialPrivacy().clip_gradients
    weight, bias = clip([torch.tensor([3.0, 0.0]), torch.tensor([4.0])], max_norm=1.0)
    assert_close(torch.cat([weight, bias]), torch.tensor([0.6, 0.0, 0.8]))
    short = torch.tensor([0.3, -0.4])
    assert clip(short, max_norm=0.6).equal(short)
    assert clip(torch.zeros(3)).equal(torch.zeros(3))
    assert float(clip(1e20 * torch.ones(4), max_norm=2.0).norm()) == pytest.approx(2.0)


def test_gradients_of_samples_are_those_of_a_loop(rng: torch.Generator) -> None:
    model, (x, y) = network(), samples(rng)
    model[1].bias.requires_grad_(False)
    own = per_sample_gradients(model, x, y)
    model[1].bias.requires_grad_(True)
    for i, expected in enumerate(reference.gradient_of_each(model, x, y, cross_entropy)):
        for g, wanted in zip(own, [expected[0], *expected[2:]], strict=True):
            assert_close(g[i], wanted)


def test_samples_are_clipped_over_all_parameters(rng: torch.Generator) -> None:
    model, (x, y) = network(), samples(rng)
    gradients = per_sample_gradients(model, x, y)
    own = [g.sum(dim=0) for g in clip_per_sample(gradients, 0.5)]
    for g, wanted in zip(
        own, reference.clipped_sum(reference.gradient_of_each(model, x, y, cross_entropy), 0.5), strict=True
    ):
        assert_close(g, wanted)


@given(
    st.lists(st.lists(st.floats(-1e8, 1e8), min_size=4, max_size=4), min_size=1, max_size=6),
    st.floats(1e-3, 1e3),
    st.data(),
)
def test_no_sample_changes_the_sum_by_more_than_the_norm(
    rows: list[list[float]], max_norm: float, data: st.DataObject
) -> None:
    values = torch.tensor(rows, dtype=torch.float64)
    total = torch.cat([g.sum(dim=0) for g in clip_per_sample([values[:, :1], values[:, 1:]], max_norm)])
    left_out = data.draw(st.integers(0, len(rows) - 1))
    others = values[torch.arange(len(rows)) != left_out]
    rest = (
        torch.cat([g.sum(dim=0) for g in clip_per_sample([others[:, :1], others[:, 1:]], max_norm)])
        if len(others)
        else torch.zeros(4, dtype=torch.float64)
    )
    assert float((total - rest).norm()) <= max_norm * (1 + 1e-9)


# ---- clients ---------------------------------------------------------------------------------------------------------


def clients_of(model: nn.Module, count: int, scale: float, rng: torch.Generator) -> list[nn.Module]:
    clients = [network() for _ in range(count)]
    for client in clients:
        client.load_state_dict(
            {k: v + scale * torch.randn(v.shape, generator=rng) for k, v in model.state_dict().items()}
        )
    return clients


def test_clients_are_averaged_as_by_loops(rng: torch.Generator) -> None:
    model = network()
    clients, start = clients_of(model, 4, 0.5, rng), [p.detach().clone() for p in model.parameters()]
    wanted = reference.averaged(start, [[p.detach() for p in c.parameters()] for c in clients], 0.7, 5.0)
    private_average(model, clients, max_norm=0.7, noise_multiplier=0.0, expected_clients=5.0)
    for p, w in zip(model.parameters(), wanted, strict=True):
        assert_close(p.detach(), w)


def test_without_noise_and_clipping_it_is_the_mean(rng: torch.Generator) -> None:
    model = network()
    clients = clients_of(model, 3, 0.5, rng)
    private_average(model, clients, max_norm=1e6, noise_multiplier=0.0, expected_clients=3)
    for p, *own in zip(model.parameters(), *(c.parameters() for c in clients), strict=True):
        assert_close(p, torch.stack(own).mean(dim=0))


def test_noise_of_a_round_is_that_of_the_formula(rng: torch.Generator) -> None:
    model = nn.Linear(200, 200)
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    private_average(model, [], max_norm=2.0, noise_multiplier=1.5, expected_clients=10, generator=rng)
    noise = torch.cat([p.detach().flatten() for p in model.parameters()]) - start
    assert float(noise.std()) == pytest.approx(1.5 * 2.0 / 10, rel=4 / math.sqrt(2 * len(noise)))


def test_a_client_that_sends_nan_counts_as_none(rng: torch.Generator) -> None:
    model, other = network(), network()
    other.load_state_dict(model.state_dict())
    good, bad = clients_of(model, 2, 0.1, rng)
    nn.init.constant_(bad[1].bias, math.nan)
    with pytest.warns(UserWarning, match="client 1 sent"):
        private_average(model, [good, bad], max_norm=1.0, noise_multiplier=0.0, expected_clients=2)
    private_average(other, [good], max_norm=1.0, noise_multiplier=0.0, expected_clients=2)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert p.equal(q)


# ---- attacks ---------------------------------------------------------------------------------------------------------


def test_one_gradient_shows_its_input_and_clipping_does_not_hide_it(rng: torch.Generator) -> None:
    model, (x, y) = network().double(), samples(rng)
    x = x.double()
    gradients = [g[0] for g in per_sample_gradients(model, x[:1], y[:1])]
    privacy = DifferentialPrivacy(3.0, 1e-5, generator=rng)
    short = privacy.clip_gradients(gradients, max_norm=0.1)
    noisy = privacy.add_noise(short, sensitivity=0.1)
    assert_close(invert_gradient(gradients[0], gradients[1]), x[0].flatten(), atol=1e-12, rtol=1e-12)
    assert_close(invert_gradient(short[0], short[1]), x[0].flatten(), atol=1e-12, rtol=1e-12)
    assert float((invert_gradient(noisy[0], noisy[1]) - x[0].flatten()).norm() / x[0].norm()) > 0.3
    assert int(gradients[-1].argmin()) == int(y[0])  # and the label


def test_the_area_under_the_curve_counts_pairs(rng: torch.Generator) -> None:
    members = torch.randint(6, (40,), generator=rng).double()
    others = torch.randint(2, 8, (25,), generator=rng).double()
    assert membership_auc(members, others) == pytest.approx(reference.auc(members.tolist(), others.tolist()))
    assert membership_auc(others + 10, members) == 0.0
    assert membership_auc(members, members) == pytest.approx(0.5)
