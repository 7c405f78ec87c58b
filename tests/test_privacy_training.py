"""DP-SGD on Opacus: equality with a loop over samples, the noise, the account, and what is left behind."""

from __future__ import annotations

import math
import sys
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from advanced_optimizers.automl import PrivacyCost, noise_multiplier_for, train_private
from tests.reference import privacy as reference

pytest.importorskip("opacus", reason="needs the extra `dp`")
pytestmark = pytest.mark.filterwarnings("ignore:Optimal order")


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Tanh(), nn.Linear(5, 3))


def convolutional() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.Tanh(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(4, 3))


def samples(rng: torch.Generator, n: int = 20) -> tuple[Tensor, Tensor]:
    return 3 * torch.randn(n, 1, 6, 6, generator=rng), torch.randint(3, (n,), generator=rng)


def train(model: nn.Module, x: Tensor, y: Tensor, lr: float = 0.5, **options: float) -> PrivacyCost:
    settings = {
        "noise_multiplier": 0.0,
        "batch_size": len(x),
        "steps": 4,
        "generator": torch.Generator().manual_seed(0),
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return train_private(model, optimizer, x, y, **{**settings, **options})  # type: ignore[arg-type]


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("make", [dense, convolutional])
def test_without_noise_it_is_a_loop_over_clipped_samples(rng: torch.Generator, make) -> None:
    x, y = samples(rng)
    model, slow = make(), make()
    slow.load_state_dict(model.state_dict())
    cost = train(model, x, y, max_grad_norm=0.3)
    reference.dp_sgd(slow, x, y, cross_entropy, max_norm=0.3, lr=0.5, steps=4)
    assert_close(flat(model), flat(slow), rtol=1e-4, atol=1e-5)
    assert cost == PrivacyCost(0.0, 1.0, 4)


def test_without_noise_and_clipping_it_is_gradient_descent(rng: torch.Generator) -> None:
    x, y = samples(rng)
    model, plain = dense(), dense()
    plain.load_state_dict(model.state_dict())
    train(model, x, y, max_grad_norm=1e6)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    for _ in range(4):
        optimizer.zero_grad()
        cross_entropy(plain(x), y).backward()
        optimizer.step()
    assert_close(flat(model), flat(plain), rtol=1e-4, atol=1e-5)


def test_the_noise_is_that_of_the_formula_even_in_an_empty_batch(rng: torch.Generator) -> None:
    """One sample per step on average: a third of the batches is empty, and those steps are noise alone."""
    x, y = torch.randn(20, 300, generator=rng), torch.randint(40, (20,), generator=rng)
    model, losses, moved = nn.Linear(300, 40), [], []
    before = flat(model)

    def note(step: int, loss: float) -> None:
        nonlocal before
        losses.append(loss)
        moved.append(flat(model) - before)
        before = flat(model)

    cost = train(model, x, y, lr=0.1, noise_multiplier=2.0, max_grad_norm=0.5, batch_size=1, steps=20, on_step=note)
    empty = [change for change, loss in zip(moved, losses, strict=True) if math.isnan(loss)]
    assert 2 <= len(empty) <= 14
    noise = torch.cat(empty)
    assert float(noise.std()) == pytest.approx(0.1 * 2.0 * 0.5 / 1, rel=4 / math.sqrt(2 * len(noise)))
    assert cost == PrivacyCost(2.0, 1 / 20, 20)


def test_batches_are_drawn_at_the_rate_and_the_seed_repeats_them(rng: torch.Generator) -> None:
    x, y = samples(rng, 400)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model, losses = dense(), []
        cost = train(
            model,
            x,
            y,
            noise_multiplier=1.0,
            batch_size=30,
            steps=30,
            generator=torch.Generator().manual_seed(seed),
            on_step=lambda step, loss, losses=losses: losses.append(loss),
        )
        runs.append((flat(model), losses))
    assert cost.sample_rate == 1 / 14  # 400 / 30, rounded up
    assert runs[0][0].equal(runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not runs[0][0].equal(runs[2][0])


def test_nothing_is_left_on_the_model(rng: torch.Generator) -> None:
    x, y = samples(rng)
    model = dense().eval()
    before = [set(vars(p)) for p in model.parameters()]
    with pytest.raises(FloatingPointError, match="loss of step 1"):
        train(model, x.index_fill(0, torch.tensor(0), math.nan), y)
    train(model, x, y)
    assert [set(vars(p)) for p in model.parameters()] == before
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in model.modules())
    assert not model.training
    assert {"1.weight", "3.bias"} <= set(model.state_dict())


# ---- the account -----------------------------------------------------------------------------------------------------


def test_the_account_is_the_other_packages() -> None:
    accounting = pytest.importorskip("dp_accounting", reason="needs dp-accounting")
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    def epsilon(accountant, cost: PrivacyCost) -> float:
        event = accounting.PoissonSampledDpEvent(cost.sample_rate, accounting.GaussianDpEvent(cost.noise_multiplier))
        return accountant.compose(accounting.SelfComposedDpEvent(event, cost.steps)).get_epsilon(1e-5)

    readme = PrivacyCost(1.1, 240 / 60_000, 60 * 250)  # a run of Opacus's own example, which it states as 2.91
    for cost in (readme, PrivacyCost(0.798, 0.01, 500)):
        assert cost.epsilon(1e-5) == pytest.approx(epsilon(RdpAccountant(), cost), rel=1e-3)
    assert readme.epsilon(1e-5) == pytest.approx(2.503, abs=2e-3)
    assert cost.epsilon(1e-5, accountant="prv") == pytest.approx(epsilon(PLDAccountant(), cost), rel=0.02)


def test_the_account_grows_with_steps_and_falls_with_noise() -> None:
    cost = PrivacyCost(0.8, 0.01, 500)
    assert PrivacyCost(0.8, 0.01, 600).epsilon() > cost.epsilon() > PrivacyCost(0.9, 0.01, 500).epsilon()
    assert PrivacyCost(0.8, 0.02, 500).epsilon() > cost.epsilon() > cost.epsilon(1e-4)
    assert PrivacyCost(0.0, 0.01, 500).epsilon() == math.inf
    assert PrivacyCost(0.0, 0.01, 0).epsilon() == 0.0


def test_a_delta_that_promises_nothing_is_heard() -> None:
    cost = PrivacyCost(1.0, 0.1, 10, samples=1000)
    with pytest.warns(UserWarning, match=r"delta = 0.001 promises nothing of 1000 samples"):
        cost.epsilon(1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cost.epsilon(1e-4) == PrivacyCost(1.0, 0.1, 10).epsilon(1e-4)
    assert cost == PrivacyCost(1.0, 0.1, 10)


def test_the_noise_for_an_epsilon_costs_no_more(rng: torch.Generator) -> None:
    sigma = noise_multiplier_for(3.0, 1e-5, sample_rate=0.01, steps=500)
    assert sigma == pytest.approx(0.798, abs=1e-3)
    assert 2.997 <= PrivacyCost(sigma, 0.01, 500).epsilon(1e-5) <= 3.0


def test_without_opacus_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    for name in ("opacus", "opacus.accountants"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (lambda: PrivacyCost(1.0, 0.1, 10).epsilon(), lambda: train(dense(), *samples(rng))):
        with pytest.raises(ModuleNotFoundError, match=r"advanced-optimizers\[dp\]"):
            call()
