"""The tested properties of signal propagation are tests that can fail: each one sees the rule that breaks it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from advanced_optimizers import SigPropNet
from benchmarks import locality


def names_that_hold() -> set[str]:
    return {row["property"] for row in locality.run(quick=True).measurements if row["holds"]}


def test_what_holds_and_what_does_not() -> None:
    failing = {p.name for p in locality.PROPERTIES} - names_that_hold()
    assert failing == {
        "hidden layers need no label beside the two streams",
        "a neuron's update needs no other neuron of its layer",
    }


def test_errors_that_travel_back_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_loss_for_all(net: Any, x: Tensor, y: Tensor) -> list[Tensor]:
        whole = torch.nn.functional.cross_entropy(net(x), y)
        return [whole] * (len(net.layers) + 1)

    monkeypatch.setattr(SigPropNet, "local_losses", one_loss_for_all)
    assert not locality.no_error_travels_back()
    assert not locality.later_weights_are_not_read()


def test_samples_that_look_at_each_other_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SigPropNet.local_losses

    def centered(net: Any, x: Tensor, y: Tensor) -> Any:
        return original(net, x - x.mean(dim=0), y)

    monkeypatch.setattr(SigPropNet, "local_losses", centered)
    assert not locality.one_sample_at_a_time()


def test_learning_at_the_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late:
        def __init__(self, net: SigPropNet, *rates: float) -> None:
            self.net = net

        def learn(self, x: Tensor, y: Tensor) -> None:
            self.net(x)
            with torch.no_grad():
                for p in self.net.parameters():
                    p.add_(1.0)

    monkeypatch.setattr(locality, "create_sigprop_optimizer", Late)
    assert not locality.learns_when_reached()
