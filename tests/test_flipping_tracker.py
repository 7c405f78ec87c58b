"""The flipping errors vs the reference, by hand, and their state."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advanced_optimizers import FlippingErrors, FlippingTracker
from tests.harness import through_a_file
from tests.reference import fer as reference


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=6))
def test_tracker_equals_the_reference(epochs):
    tracker = FlippingTracker(7)
    for last in range(1, len(epochs) + 1):
        errors = tracker.update(torch.tensor(epochs[last - 1]))
        assert errors == pytest.approx(reference.flipping_errors(epochs[:last]), nan_ok=True)


def test_tracker_by_hand():
    tracker = FlippingTracker(4)
    assert tracker.update(torch.tensor([True, True, False, False])) == FlippingErrors(0, 0.0, 0.0)
    assert tracker.update(torch.tensor([False, True, False, True])) == FlippingErrors(1, 0.5, 0.25)
    errors = tracker.update(torch.ones(4, dtype=torch.bool))
    assert errors.wrongly_flipped == 0
    assert math.isnan(errors.relative)
    assert tracker.update(torch.zeros(4, dtype=torch.bool)) == FlippingErrors(4, 1.0, 1.0)


def test_tracker_state_round_trip_is_independent():
    tracker, fresh = FlippingTracker(3), FlippingTracker(3)
    tracker.update(torch.tensor([True, False, False]))
    state = through_a_file(tracker.state_dict())
    fresh.load_state_dict(state)
    tracker.update(torch.tensor([True, True, True]))
    state["ever_correct"].fill_(True)
    assert fresh.update(torch.tensor([False, False, True])) == FlippingErrors(1, 0.5, 1 / 3)


def test_tracker_refuses_a_bad_state_and_keeps_its_own():
    tracker = FlippingTracker(3)
    tracker.update(torch.tensor([True, False, False]))
    for state in (FlippingTracker(2).state_dict(), {}, {"ever_correct": torch.ones(3)}, None):
        with pytest.raises((TypeError, ValueError)):
            tracker.load_state_dict(state)
    assert tracker.ever_correct.tolist() == [True, False, False]
