"""Infinite and NaN logits: the flipping loss shows them as cross-entropy does, and its memory never holds them."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from advanced_optimizers import FlippingErrorReduction

BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0, "equal_nan": True}
LABELS, INDICES = torch.tensor([0, 1, 2, 0]), torch.arange(4)
MASKED = "logits are not finite.*although their cross-entropy is finite"

ignoring_masks = pytest.mark.filterwarnings(f"ignore:.*{MASKED}")
every_value = pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
every_precision = pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=lambda dtype: str(dtype)[6:]
)


def trained(epoch: int, **settings: Any) -> FlippingErrorReduction:
    """A criterion in the given epoch that has seen sample 0 and sample 1 correct."""
    criterion = FlippingErrorReduction(num_samples=4, num_classes=3, total_epochs=4, **settings)
    criterion.set_epoch(1)
    criterion(3 * F.one_hot(torch.tensor([0, 1, 0, 1]), 3).float(), LABELS, INDICES)
    criterion.set_epoch(epoch)
    return criterion


def logits_of(rng: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits that are right for every sample."""
    return (torch.rand(4, 3, generator=rng) + 2 * F.one_hot(LABELS, 3)).to(dtype)


@ignoring_masks
@every_precision
@every_value
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("sample", [1, 2], ids=["was correct", "never correct"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_the_row_gets_cross_entropy_and_the_memory_is_as_if_it_had_not_come(dtype, value, place, sample, epoch, rng):
    z = logits_of(rng, dtype)
    z[sample, place] = value
    criterion, without = trained(epoch), trained(epoch)
    others = torch.arange(4) != sample
    loss = criterion(z, LABELS, INDICES)
    wide = z.double() if dtype == torch.float64 else z.float()
    rows = F.cross_entropy(wide, LABELS, reduction="none")
    rest = without(z[others], LABELS[others], INDICES[others])
    assert_close(criterion.state_dict(), without.state_dict(), **BITWISE)
    assert loss.isfinite().item() == rows.mean().isfinite().item()
    assert_close(loss, (3 * rest + rows[sample]) / 4, rtol=1e-6, atol=0, equal_nan=True)


@ignoring_masks
@every_value
@pytest.mark.parametrize("place", [0, 1])
def test_later_epochs_are_as_if_the_batch_had_not_been_seen(value, place, rng):
    criterion, without = trained(2), trained(2)
    z = logits_of(rng)
    z[:, 0] = value if place == 0 else z[:, 0]
    z[:, 1:] = value if place == 1 else z[:, 1:]
    criterion(z, LABELS, INDICES)
    for epoch in (2, 3, 4):
        criterion.set_epoch(epoch)
        without.set_epoch(epoch)
        later = logits_of(rng)
        assert_close(criterion(later, LABELS, INDICES), without(later, LABELS, INDICES), **BITWISE)
    assert_close(criterion.state_dict(), without.state_dict(), **BITWISE)
    assert without.ever_correct.all()


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_step_that_the_gradient_scaler_skips_leaves_no_trace(value, rng):
    torch.manual_seed(0)
    start = nn.Linear(5, 3)
    batches = [torch.randn(4, 5, generator=rng) for _ in range(6)]
    broken = torch.full((4, 5), value)

    def train(inputs: list[Tensor]) -> tuple[nn.Module, FlippingErrorReduction, float]:
        model, criterion = copy.deepcopy(start), trained(3, init_epochs=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for x in inputs:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = criterion(model(x), LABELS, INDICES)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return model, criterion, scaler.get_scale()

    model, criterion, scale = train([*batches[:3], broken, *batches[3:]])
    plain_model, plain_criterion, plain_scale = train(batches)
    assert (scale, plain_scale) == (2.0**9, 2.0**10)  # it did skip one
    assert_close(criterion.state_dict(), plain_criterion.state_dict(), **BITWISE)
    assert_close(model.state_dict(), plain_model.state_dict(), **BITWISE)


@pytest.mark.parametrize(
    ("settings", "size", "dtype"),
    [({}, 1e39, torch.float64), ({"temperature": 1e-3}, 1e37, torch.float32), ({"temperature": 1e-3}, 6e4, torch.half)],
    ids=["too large for the memory", "too large for the temperature", "half precision, not too large"],
)
def test_logits_that_overflow_in_the_memory(settings, size, dtype):
    criterion = trained(1, **settings)
    before = copy.deepcopy(criterion.state_dict())
    z = size * F.one_hot(LABELS, 3).to(dtype)
    if dtype is torch.half:
        criterion(z, LABELS, INDICES)
        assert criterion.ever_correct.all()
    else:
        with pytest.warns(UserWarning, match=MASKED):
            criterion(z, LABELS, INDICES)
        assert_close(criterion.state_dict(), before, **BITWISE)
    assert criterion.remembered.isfinite().all()


def test_masked_classes_are_told_once_and_train_by_cross_entropy(rng):
    criterion = trained(3)
    z = logits_of(rng)
    z[1, 2] = -math.inf
    z.requires_grad_()
    with pytest.warns(UserWarning, match=MASKED):
        criterion(z, LABELS, INDICES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        criterion(z, LABELS, INDICES).backward()
    assert z.grad.isfinite().all()
    plain = torch.autograd.grad(F.cross_entropy(z, LABELS), z)[0]
    assert_close(z.grad[1], plain[1], **BITWISE)


@every_value
def test_eval_mode_is_cross_entropy(value, rng):
    criterion = trained(3).eval()
    before = copy.deepcopy(criterion.state_dict())
    z = logits_of(rng)
    z[0, 0] = value
    assert_close(criterion(z, LABELS, INDICES), F.cross_entropy(z, LABELS, reduction="none").mean(), **BITWISE)
    assert_close(criterion.state_dict(), before, **BITWISE)
