"""Flipping error reduction in a wrong loop is told once; in every right loop it is silent."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from advanced_optimizers import FlippingErrorReduction
from tests.harness import through_a_file

LABELS, INDICES = torch.tensor([0, 1, 2, 0]), torch.arange(4)
VALIDATION = torch.tensor([0, 2, 1, 0])  # the labels of other samples, at the same indices
EPOCH, GRADIENTS, TWO_LABELS = "epoch was never set", "gradients disabled", "came with two labels in one epoch"


def make(epoch: int | None = 1) -> FlippingErrorReduction:
    criterion = FlippingErrorReduction(num_samples=4, num_classes=3, total_epochs=5)
    if epoch is not None:
        criterion.set_epoch(epoch)
    return criterion


@contextmanager
def telling(*texts: str) -> Iterator[None]:
    """Expects these warnings, in this order, each once and pointing to this file, and no other."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == len(texts), messages
    assert all(text in message for text, message in zip(texts, messages, strict=True)), messages
    assert {warning.filename for warning in caught} <= {__file__}


# ---- what is told ------------------------------------------------------------------------------------------------


def test_an_epoch_that_was_never_set_is_told_at_the_first_training_call(rng):
    criterion = make(epoch=None)
    z = torch.randn(4, 3, generator=rng)
    with telling():
        criterion.eval()(z, LABELS, INDICES)
    with telling(EPOCH):
        for _ in range(3):
            criterion.train()(z, LABELS, INDICES)


@pytest.mark.parametrize("told", [False, True])
def test_whether_an_epoch_was_set_is_in_the_checkpoint(told, rng):
    criterion, fresh = make(epoch=1 if told else None), make(epoch=None)
    fresh.load_state_dict(through_a_file(criterion.state_dict()))
    with telling(*(() if told else (EPOCH,))):
        fresh(torch.randn(4, 3, generator=rng), LABELS, INDICES)


@pytest.mark.parametrize("disabled", [torch.no_grad, torch.inference_mode])
def test_a_validation_in_train_mode_is_told_by_its_disabled_gradients(disabled, rng):
    criterion = make()
    with telling(GRADIENTS):
        for _ in range(3):
            criterion(torch.randn(4, 3, generator=rng), LABELS, INDICES)
            with disabled():
                criterion(torch.randn(4, 3, generator=rng), LABELS, INDICES)


def test_a_validation_in_train_mode_is_told_by_another_label_of_a_sample(rng):
    criterion = make()
    with telling(f"sample 1 {TWO_LABELS}"):
        for epoch in (1, 2):
            criterion.set_epoch(epoch)
            criterion(torch.randn(4, 3, generator=rng), LABELS, INDICES)
            criterion(torch.randn(4, 3, generator=rng), VALIDATION, INDICES)


def test_two_labels_are_told_also_where_each_step_sets_the_epoch(rng):
    criterion = make(2)
    with telling(f"sample 1 {TWO_LABELS}"):
        for labels in (LABELS, VALIDATION):
            criterion.set_epoch(2)
            criterion(torch.randn(4, 3, generator=rng), labels, INDICES)


def test_two_labels_of_a_sample_in_one_batch_are_told(rng):
    with telling(f"sample 3 {TWO_LABELS}"):
        make()(torch.randn(4, 3, generator=rng), LABELS, torch.tensor([3, 3, 1, 2]))


def test_each_kind_is_told_by_itself_and_a_deep_copy_does_not_tell_again(rng):
    criterion = make(epoch=None)
    z = torch.randn(4, 3, generator=rng)
    with telling(EPOCH, GRADIENTS, TWO_LABELS):
        for _ in range(2):
            criterion(z, LABELS, INDICES)
            with torch.no_grad():
                criterion(z, VALIDATION, INDICES)
        copy.deepcopy(criterion)(z, LABELS, INDICES)


def test_an_index_beyond_the_training_set_is_refused_also_in_validation(rng):
    for criterion in (make().train(), make().eval()):
        with pytest.raises(ValueError, match=r"indices must be in \[0, 3\], got values from 4 to 7"):
            criterion(torch.randn(4, 3, generator=rng), LABELS, INDICES + 4)


@pytest.mark.parametrize(("init_epochs", "told"), [(0, False), (4, False), (5, True), (6, True)])
def test_plain_epochs_to_the_end_are_told(init_epochs, told):
    with telling(*(["plain cross-entropy to the end"] if told else [])):
        FlippingErrorReduction(4, 3, total_epochs=5, init_epochs=init_epochs)


# ---- what is right is not told -----------------------------------------------------------------------------------


class Loop:
    """A training on four samples that draws its inputs from ``rng``; ``loss`` evaluates one batch."""

    def __init__(self, rng: torch.Generator) -> None:
        self.rng = rng
        self.model = nn.Linear(6, 3)
        self.criterion = make(epoch=None)

    def loss(self, rows: Tensor = INDICES) -> Tensor:
        return self.criterion(self.model(torch.randn(len(rows), 6, generator=self.rng)), LABELS[rows], rows)


def plain(loop: Loop, optimizer: torch.optim.Optimizer) -> None:
    loop.loss().backward()
    optimizer.step()


def accumulating(loop: Loop, optimizer: torch.optim.Optimizer) -> None:
    for rows in INDICES.split(2):
        (loop.loss(rows) / 2).backward()
    optimizer.step()


def repeating(loop: Loop, optimizer: torch.optim.Optimizer) -> None:
    torch.stack([loop.loss() for _ in range(3)]).mean().backward()
    optimizer.step()


def with_a_closure(loop: Loop, optimizer: torch.optim.Optimizer) -> None:
    def closure() -> Tensor:
        loss = loop.loss()
        loss.backward()
        return loss

    optimizer.step(closure)


def validating(loop: Loop, optimizer: torch.optim.Optimizer) -> None:
    plain(loop, optimizer)
    loop.criterion.eval()
    with torch.no_grad():
        loop.criterion(torch.randn(4, 3, generator=loop.rng), VALIDATION, INDICES)
    loop.criterion.train()


def resuming(loop: Loop, optimizer: torch.optim.Optimizer) -> None:
    plain(loop, optimizer)
    state, loop.criterion = through_a_file(loop.criterion.state_dict()), make(epoch=None)
    loop.criterion.load_state_dict(state)


def setting_the_epoch_in_every_step(loop: Loop, optimizer: torch.optim.Optimizer) -> None:
    loop.criterion.set_epoch(int(loop.criterion.epoch))
    plain(loop, optimizer)


STEPS = [plain, accumulating, repeating, with_a_closure, validating, resuming, setting_the_epoch_in_every_step]


@pytest.mark.parametrize(
    ("optimizer", "step"),
    [*((torch.optim.SGD, step) for step in STEPS), (torch.optim.LBFGS, with_a_closure)],
    ids=lambda value: value.__name__,
)
def test_a_right_loop_is_silent(optimizer, step, rng):
    loop = Loop(rng)
    with telling():
        optimizer = optimizer(loop.model.parameters(), lr=0.1)
        for epoch in (1, 2, 3):
            loop.criterion.set_epoch(epoch)
            for _ in range(2):
                optimizer.zero_grad()
                step(loop, optimizer)


def test_labels_may_change_between_epochs_and_after_a_load(rng):
    criterion = make()
    with telling():
        criterion(torch.randn(4, 3, generator=rng), LABELS, INDICES)
        criterion.set_epoch(2)
        criterion(torch.randn(4, 3, generator=rng), VALIDATION, INDICES)
        criterion.load_state_dict(criterion.state_dict())
        criterion(torch.randn(4, 3, generator=rng), LABELS, INDICES)


# ---- checkpoints -------------------------------------------------------------------------------------------------


def test_the_checkpoint_has_the_keys_that_it_always_had_also_inside_a_model(rng):
    criterion = make(3)
    criterion(4 * F.one_hot(LABELS, 3).float(), LABELS, INDICES)
    assert list(criterion.state_dict()) == ["remembered", "ever_correct", "epoch"]
    model, fresh = nn.ModuleDict({"loss": criterion}), nn.ModuleDict({"loss": make(epoch=None)})
    fresh.load_state_dict(through_a_file(model.state_dict()))
    assert_close(fresh.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"remembered": torch.zeros(4, 4)}, r"remembered must have shape \(4, 3\), got \(4, 4\)"),
        ({"ever_correct": torch.zeros(5, dtype=torch.bool)}, r"ever_correct must have shape \(4,\), got \(5,\)"),
        ({"ever_correct": torch.zeros(4)}, "ever_correct must be torch.bool, got torch.float32"),
        ({"remembered": torch.full((4, 3), torch.nan)}, r"remembered must be finite, but 4 samples.*\[0, 1, 2\]"),
        ({"epoch": torch.tensor(6)}, "epoch must be from 0 to total_epochs = 5, got 6"),
    ],
    ids=str,
)
def test_a_load_that_is_refused_changes_nothing(change, match):
    criterion, other = make(2), make(4)
    before = copy.deepcopy(criterion.state_dict())
    with pytest.raises(ValueError, match=match):
        criterion.load_state_dict({**other.state_dict(), **change})
    assert_close(criterion.state_dict(), before, rtol=0, atol=0)
