"""The published FER: its loss and state vs the per-sample reference, and golden numbers."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from advanced_optimizers import FlippingErrorReduction
from tests.harness import through_a_file
from tests.reference import fer as reference

BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0}
CERTAIN = 200.0  # a logit so large that its softmax is 1


def make(num_samples: int = 4, num_classes: int = 3, total_epochs: int = 240, **settings) -> FlippingErrorReduction:
    criterion = FlippingErrorReduction(num_samples, num_classes, total_epochs, **settings)
    criterion.set_epoch(1)
    return criterion


def logits_for(classes: list[int], size: float = CERTAIN, num_classes: int = 3) -> Tensor:
    return size * F.one_hot(torch.tensor(classes), num_classes).float()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none").mean()


def batch(rng: torch.Generator, size: int = 4, num_classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    logits = 2 * torch.randn(size, num_classes, generator=rng)
    return logits, torch.randint(num_classes, (size,), generator=rng), torch.arange(size)


# ---- golden numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mu", "masses"),
    [
        (1.0, {1: 0.6321, 2: 0.8647, 5: 0.9933}),
        (0.5, {1: 0.3935, 2: 0.6321, 5: 0.9179, 10: 0.9933}),
        (0.3, {1: 0.2592, 5: 0.7769, 10: 0.9502, 20: 0.9975}),
    ],
)
def test_mass_of_the_remembered_predictions(mu, masses):
    criterion = make(mu=mu)
    for updates in range(1, max(masses) + 1):
        criterion(logits_for([1]), torch.tensor([1]), torch.tensor([2]))
        if updates in masses:
            assert criterion.remembered[2].sum().item() == pytest.approx(masses[updates], abs=5e-5)


@pytest.mark.parametrize(
    ("epoch", "ce", "kd"),
    list(
        zip(
            (1, 2, 60, 120, 180, 240),
            (0.99625, 0.9925, 0.775, 0.55, 0.325, 0.1),
            (0.00375, 0.0075, 0.225, 0.45, 0.675, 0.9),
            strict=True,
        )
    ),
)
def test_weights_of_the_two_terms(epoch, ce, kd):
    criterion = make(gamma=0.1)
    criterion.set_epoch(epoch)
    assert criterion.weights() == pytest.approx((ce, kd), abs=1e-12)
    assert sum(criterion.weights()) == pytest.approx(1.0, abs=1e-15)


def test_one_update_by_hand():
    criterion = make(temperature=5.0, mu=1.0)
    z = torch.tensor([[2.0, 0.0, 0.0]])
    p = math.exp(2) / (math.exp(2) + 2)
    w = 1 - math.exp(-p)
    soft = math.exp(0.4) / (math.exp(0.4) + 2)
    criterion(z, torch.tensor([0]), torch.tensor([3]))
    assert criterion.remembered[3, 0].item() == pytest.approx(w * soft, rel=1e-6)
    assert criterion.ever_correct.tolist() == [False, False, False, True]


# ---- against the reference ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 2.0, "gamma": 0.5, "mu": 0.3, "init_epochs": 0},
        {"temperature": 1.0, "gamma": 0.0, "mu": 0.5, "init_epochs": 2},
        {"mu": 0.0},
    ],
    ids=str,
)
def test_loss_and_state_equal_the_reference_over_epochs(settings, rng):
    samples, classes, epochs = 30, 6, 5
    criterion = FlippingErrorReduction(samples, classes, epochs, **settings)
    slow = reference.FlippingErrorReduction(samples, classes, epochs, **settings)
    labels = torch.randint(classes, (samples,), generator=rng)
    for epoch in range(1, epochs + 1):
        criterion.set_epoch(epoch)
        for indices in torch.randperm(samples, generator=rng).split(8):
            y = labels[indices]
            z = 2 * torch.randn(len(y), classes, generator=rng) + 2 * F.one_hot(y, classes)
            expected = slow.loss(epoch, z.tolist(), y.tolist(), indices.tolist())
            assert criterion(z, y, indices).item() == pytest.approx(expected, rel=1e-5)
        assert_close(criterion.remembered, torch.tensor(slow.q), rtol=0, atol=1e-6)
        assert criterion.ever_correct.int().tolist() == slow.s
    assert 0 < sum(slow.s) < samples  # some samples were never correct, so both branches ran


def test_gradient_is_the_formula(rng):
    criterion = make(num_samples=4, total_epochs=10, temperature=3.0)
    z, y, i = batch(rng)
    y[0] = z[0].argmax()
    criterion(z, y, i)
    criterion.set_epoch(5)
    q, s = criterion.remembered.clone(), criterion.ever_correct.clone()
    assert s[0]
    z2 = torch.randn(4, 3, generator=rng, requires_grad=True)
    criterion(z2, y, i).backward()
    ce_w, kd_w = criterion.weights()
    ce = z2.detach().softmax(1) - F.one_hot(y, 3)
    kd = 3.0 * (q.sum(1, keepdim=True) * (z2.detach() / 3.0).softmax(1) - q)
    expected = torch.where(s[:, None], ce_w * ce + kd_w * kd, ce) / 4
    assert_close(z2.grad, expected, rtol=1e-5, atol=1e-6)


def test_loss_uses_the_state_from_before_its_own_update(rng):
    criterion = make(init_epochs=0)
    criterion.set_epoch(120)
    z, y, i = logits_for([0, 1], size=1.0), torch.tensor([0, 1]), torch.tensor([0, 1])
    assert_close(criterion(z, y, i), cross_entropy(z, y), **BITWISE)  # correct for the first time only now
    assert criterion(z, y, i) != cross_entropy(z, y)


# ---- limits and invariants ---------------------------------------------------------------------------------------


def test_gamma_one_is_cross_entropy_exactly(rng):
    criterion = make(gamma=1.0, init_epochs=0)
    for epoch in (1, 120, 240):
        criterion.set_epoch(epoch)
        z, y, i = batch(rng)
        z.requires_grad_()
        loss, plain = criterion(z, y, i), cross_entropy(z, y)
        assert_close(loss, plain, **BITWISE)
        assert_close(torch.autograd.grad(loss, z), torch.autograd.grad(plain, z), **BITWISE)
    assert criterion.ever_correct.any()


def test_no_sample_ever_correct_is_cross_entropy_exactly(rng):
    criterion = make(init_epochs=0)
    criterion.set_epoch(240)
    z, _, i = batch(rng)
    wrong = z.argmin(dim=1)
    for _ in range(3):
        assert_close(criterion(z, wrong, i), cross_entropy(z, wrong), **BITWISE)
    assert not criterion.ever_correct.any()
    assert not criterion.remembered.any()


@pytest.mark.parametrize("init_epochs", [0, 1, 2, 3])
def test_first_epochs_are_cross_entropy_and_only_the_last_of_them_is_recorded(init_epochs, rng):
    criterion = make(total_epochs=5, init_epochs=init_epochs)
    z, _, i = batch(rng)
    y = z.argmax(dim=1)
    for epoch in range(1, 6):
        criterion.set_epoch(epoch)
        plain = (criterion(z, y, i) == cross_entropy(z, y)).item()
        assert plain == (epoch <= max(init_epochs, 1))  # in the first epoch no sample has been correct yet
        assert criterion.ever_correct.all().item() == (epoch >= init_epochs)
        assert criterion.remembered.any().item() == (epoch >= init_epochs)


@pytest.mark.filterwarnings("ignore:.*epoch was never set")
def test_an_epoch_that_was_never_set_counts_as_the_first(rng):
    never, first = FlippingErrorReduction(4, 3, 10, init_epochs=0), make(total_epochs=10, init_epochs=0)
    z, _, i = batch(rng)
    for _ in range(2):
        loss = never(z, z.argmax(dim=1), i)
        assert_close(loss, first(z, z.argmax(dim=1), i), **BITWISE)
    assert loss != cross_entropy(z, z.argmax(dim=1))
    assert never.weights() == first.weights()


def test_never_correct_sample_stays_zero_and_ever_correct_is_sticky():
    criterion = make()
    y, i = torch.tensor([0, 1]), torch.tensor([0, 1])
    criterion(logits_for([0, 0]), y, i)
    remembered = criterion.remembered.clone()
    criterion(logits_for([2, 0]), y, i)  # both are wrong now
    assert criterion.ever_correct.tolist() == [True, False, False, False]
    assert_close(criterion.remembered, remembered, **BITWISE)
    assert not criterion.remembered[1:].any()


def test_eval_mode_is_cross_entropy_and_remembers_nothing(rng):
    criterion = make(init_epochs=0)
    z, _, i = batch(rng)
    y = z.argmax(dim=1)
    criterion(z, y, i)
    criterion.set_epoch(240)
    state = copy.deepcopy(criterion.state_dict())
    other = 2 * torch.randn(4, 3, generator=rng)
    criterion.eval()
    assert_close(criterion(other, y, i), cross_entropy(other, y), **BITWISE)
    assert_close(criterion.state_dict(), state, **BITWISE)


@given(st.integers(0, 10_000), st.floats(0.0, 3.0), st.floats(0.5, 10.0))
def test_remembered_predictions_are_part_of_a_distribution(seed, mu, temperature):
    rng = torch.Generator().manual_seed(seed)
    criterion = make(mu=mu, temperature=temperature)
    for epoch in range(1, 6):
        criterion.set_epoch(epoch)
        criterion(*batch(rng))
    assert (criterion.remembered >= 0).all()
    mass = criterion.remembered.sum(dim=1)
    assert (mass <= 1 + 1e-6).all()
    assert not mass[~criterion.ever_correct].any()


def test_sample_twice_in_a_batch_is_remembered_once():
    z = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.0, 0.5]])
    y, twice = torch.tensor([0, 0]), torch.tensor([3, 3])
    either = []
    for row in range(2):
        alone = make()
        alone(z[row : row + 1], y[row : row + 1], twice[:1])
        either.append(alone.remembered[3])
    criterion = make()
    criterion(z, y, twice)
    assert any(criterion.remembered[3].equal(one) for one in either)


def test_no_gradient_flows_into_the_state(rng):
    criterion = make(init_epochs=0)
    criterion.set_epoch(10)
    z, _, i = batch(rng)
    z.requires_grad_()
    for _ in range(2):
        criterion(z, z.argmax(dim=1), i).backward()
    assert not criterion.remembered.requires_grad
    assert list(criterion.parameters()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_precision(dtype, rng):
    criterion, wide = make(init_epochs=0), make(init_epochs=0)
    z, _, i = batch(rng)
    z = z.to(dtype)
    y = z.argmax(dim=1)
    for epoch in (1, 100, 240):
        criterion.set_epoch(epoch)
        wide.set_epoch(epoch)
        assert_close(criterion(z, y, i).float(), wide(z.float(), y, i), rtol=1e-5, atol=1e-6)
    assert criterion.remembered.dtype == torch.float32


def test_double_precision_logits_keep_their_precision(rng):
    criterion = make(init_epochs=0)
    z, _, i = batch(rng)
    z = z.double() + 1e-10
    y = z.argmax(dim=1)
    loss = criterion(z, y, i)
    assert_close(loss, cross_entropy(z, y), rtol=1e-14, atol=0)


# ---- checkpoint --------------------------------------------------------------------------------------------------


def test_state_dict_in_a_fresh_module_yields_the_same_loss(rng):
    criterion = make(total_epochs=10)
    z, _, i = batch(rng)
    y = z.argmax(dim=1)
    criterion(z, y, i)
    criterion.set_epoch(7)
    fresh = make(total_epochs=10)
    fresh.load_state_dict(through_a_file(criterion.state_dict()))
    assert_close(fresh.state_dict(), criterion.state_dict(), **BITWISE)
    other = torch.randn(4, 3, generator=rng)
    for _ in range(2):
        assert_close(fresh(other, y, i), criterion(other, y, i), **BITWISE)
    assert criterion(other, y, i) != cross_entropy(other, y)


def test_state_has_the_documented_size_and_repr_shows_the_settings():
    criterion = make(num_samples=1000, num_classes=10)
    size = sum(b.numel() * b.element_size() for b in (criterion.remembered, criterion.ever_correct))
    assert size == 1000 * (4 * 10 + 1)
    assert "num_samples=1000, num_classes=10, total_epochs=240, temperature=5.0, gamma=0.1, mu=1.0" in repr(criterion)


# ---- numbers of other libraries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.int64, np.float32, torch.tensor], ids=lambda number: number.__name__)
def test_takes_the_numbers_of_numpy_and_torch(number):
    count = np.int64 if number is np.float32 else number
    settings = {"temperature": number(2), "gamma": number(1), "mu": number(1), "init_epochs": count(2)}
    criterion, plain = (
        make(count(4), count(2) + 1, count(9), **settings),
        make(4, 3, 9, temperature=2.0, gamma=1.0, mu=1.0, init_epochs=2),
    )
    criterion.set_epoch(count(3))
    plain.set_epoch(3)
    for name in ("total_epochs", "temperature", "gamma", "mu", "init_epochs"):
        assert type(getattr(criterion, name)) in (int, float)
        assert getattr(criterion, name) == getattr(plain, name)
    assert_close(criterion.state_dict(), plain.state_dict(), **BITWISE)


# ---- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"num_samples": 0}, ValueError, "num_samples must be >= 1.*got 0"),
        ({"num_samples": 4.0}, TypeError, "num_samples must be an integer.*4.0"),
        ({"num_classes": 1}, ValueError, "num_classes must be >= 2.*got 1"),
        ({"total_epochs": 0}, ValueError, "total_epochs must be >= 1.*got 0"),
        ({"temperature": 0.0}, ValueError, r"temperature must be > 0.*got 0\.0"),
        ({"gamma": -0.1}, ValueError, r"gamma must be >= 0.*got -0\.1"),
        ({"gamma": 1.1}, ValueError, r"gamma must be .*<= 1.*got 1\.1"),
        ({"mu": -1.0}, ValueError, r"mu must be >= 0.*got -1\.0"),
        ({"mu": math.nan}, ValueError, "mu must be .*got nan"),
        ({"init_epochs": -1}, ValueError, "init_epochs must be >= 0.*got -1"),
    ],
    ids=str,
)
def test_refuses_bad_settings(settings, error, match):
    with pytest.raises(error, match=match):
        make(**settings)


@pytest.mark.parametrize(
    ("epoch", "error", "match"),
    [
        (0, ValueError, "epoch must be >= 1.*got 0"),
        (241, ValueError, "epoch must be <= .*240, got 241"),
        (1.5, TypeError, "epoch must be an integer"),
    ],
)
def test_refuses_bad_epochs(epoch, error, match):
    with pytest.raises(error, match=match):
        make().set_epoch(epoch)


LOGITS, LABELS, INDICES = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), torch.arange(4)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((LOGITS[:, :2], LABELS, INDICES), r"logits must have shape \(batch, 3\), got \(4, 2\)"),
        ((LOGITS[0], LABELS, INDICES), r"logits must have shape .*got \(3,\)"),
        ((LOGITS, LABELS + 1, INDICES), r"labels must be in \[0, 2\], got values from 1 to 3"),
        ((LOGITS, LABELS - 1, INDICES), r"labels must be in \[0, 2\], got values from -1 to 1"),
        ((LOGITS, LABELS, INDICES + 1), r"indices must be in \[0, 3\], got values from 1 to 4"),
        ((LOGITS, LABELS, INDICES - 2), r"indices must be in \[0, 3\], got values from -2 to 1"),
        ((LOGITS, LABELS.float(), INDICES), r"labels must be int64 of shape \(4,\), got torch.float32"),
        ((LOGITS, LABELS, INDICES.int()), r"indices must be int64 of shape \(4,\), got torch.int32"),
        ((LOGITS, F.one_hot(LABELS), INDICES), r"labels must be int64 of shape \(4,\), got .*\(4, 3\)"),
        ((LOGITS, LABELS[:3], INDICES), r"labels must be int64 of shape \(4,\), got .*\(3,\)"),
        ((LOGITS, LABELS, INDICES[:1]), r"indices must be int64 of shape \(4,\), got .*\(1,\)"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_refuses_bad_batches_and_changes_nothing(arguments, match, training):
    criterion = make().train(training)
    with pytest.raises(ValueError, match=match):
        criterion(*arguments)
    assert not criterion.ever_correct.any()
