"""Selective localized learning learns in which order the layers run from every pass, and never localizes the output."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.testing import assert_close

from advanced_optimizers import LocalizedOptimizer, StaticTransition
from tests.localized_helpers import AT_ONCE, BITWISE

ONE_BY_ONE = StaticTransition(total_epochs=4, warmup=0.0, power=1.0)


class Layered(nn.Module):
    """Six layers and a head; ``plan`` says which layers run, in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.ModuleList([nn.Linear(8, 8) for _ in range(6)])
        self.head = nn.Linear(8, 3)
        self.plan: list[int] = list(range(6))

    def forward(self, x: Tensor) -> Tensor:
        for i in self.plan:
            x = torch.relu(self.l[i](x))
        out: Tensor = self.head(x)
        return out


def make(model: nn.Module, highest: int, **settings: Any) -> LocalizedOptimizer:
    settings = {"selection": AT_ONCE, "update_every": 1, **settings}
    return LocalizedOptimizer(model, SGD, {"lr": 0.05}, max_transition=highest, **settings)


def train(model: nn.Module, optimizer: LocalizedOptimizer, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        out = model(torch.randn(4, 8))
        outputs = out.values() if isinstance(out, dict) else out if isinstance(out, tuple) else (out,)
        sum(o.square().mean() for o in outputs).backward()
        optimizer.step()


def names(optimizer: LocalizedOptimizer) -> list[str]:
    return [block.name for block in optimizer.blocks]


def learns(module: nn.Module) -> bool:
    return all(p.requires_grad for p in module.parameters())


IN_ORDER = [f"l.{i}" for i in range(6)]


def test_a_layer_that_is_skipped_in_the_first_batch_takes_its_place_later():
    model = Layered()
    optimizer = make(model, 5)
    model.plan = [0, 2, 4, 5]
    train(model, optimizer)
    assert names(optimizer) == ["l.0", "l.2", "l.4", "l.5", "head", "l.1", "l.3"]
    model.plan = list(range(6))
    train(model, optimizer)
    optimizer.end_epoch(1.0)
    assert names(optimizer) == [*IN_ORDER, "head"]
    assert optimizer.transition == 5
    assert [learns(layer) for layer in (*model.l, model.head)] == [False] * 5 + [True] * 2


def test_layers_skipped_at_random_are_ordered_all_the_same():
    model = Layered()
    optimizer = make(model, 5, selection=ONE_BY_ONE)
    rng = random.Random(0)
    for _ in range(4):
        for _ in range(12):
            model.plan = [i for i in range(6) if rng.random() < 0.6]
            train(model, optimizer)
        optimizer.end_epoch(1.0)
        assert learns(model.head)
    assert names(optimizer)[: optimizer.transition] == IN_ORDER[: optimizer.transition]


def test_what_never_ran_is_not_localized():
    model = Layered()
    optimizer = make(model, 6)
    model.plan = [0, 1, 2]
    train(model, optimizer)
    with pytest.warns(UserWarning, match=r"stays at 3, because \['head'\] compute.* and \['l.3', 'l.4', 'l.5'\] never"):
        optimizer.end_epoch(1.0)
    assert optimizer.transition == 3
    assert [learns(layer) for layer in (*model.l, model.head)] == [False] * 3 + [True] * 4


def test_a_layer_that_first_runs_below_the_transition_is_localized_in_its_place():
    model = Layered()
    optimizer = make(model, 2)
    model.plan = [0, 2, 3]
    train(model, optimizer)
    optimizer.end_epoch(1.0)
    assert [learns(layer) for layer in model.l] == [False, True, False, True, True, True]
    model.plan = [0, 1, 2, 3]
    train(model, optimizer)
    optimizer.end_epoch(0.9)
    assert [learns(layer) for layer in model.l] == [False, False, True, True, True, True]


def test_layers_of_which_only_one_runs_at_a_time_can_both_be_localized():
    model = Layered()
    optimizer = make(model, 3)
    for plan in ([0, 1, 3], [0, 2, 3]) * 2:
        model.plan = plan
        train(model, optimizer)
    optimizer.end_epoch(1.0)
    assert names(optimizer)[:4] == ["l.0", "l.1", "l.2", "l.3"]
    assert not learns(model.l[1])
    assert not learns(model.l[2])


@pytest.mark.parametrize(("highest", "fine"), [(1, True), (2, False), (3, True)])
def test_layers_in_changing_order_cannot_be_parted(highest, fine):
    model = Layered()
    optimizer = make(model, highest)
    for plan in ([0, 1, 2, 3, 4, 5], [0, 2, 1, 3, 4, 5]):
        model.plan = plan
        train(model, optimizer)
    if fine:
        optimizer.end_epoch(1.0)
        assert sum(not learns(layer) for layer in model.l) == highest
    else:
        with pytest.raises(
            RuntimeError, match=r"cannot move to 2, between 'l.[12]' and 'l.[12]'.*ran before the other"
        ):
            optimizer.end_epoch(1.0)


def test_a_contradiction_by_way_of_other_layers_counts():
    model = Layered()
    optimizer = make(model, 2)
    for plan in ([0, 1, 5], [1, 2, 5], [2, 0, 5]):
        model.plan = plan
        train(model, optimizer)
    with pytest.raises(RuntimeError, match="cannot move to 2"):
        optimizer.end_epoch(1.0)


def test_a_first_batch_in_evaluation_shows_nothing():
    model = Layered()
    optimizer = make(model, 5)
    model.plan = [5, 4, 3]
    model.eval()
    model(torch.randn(4, 8))
    model.train()
    with torch.no_grad():
        model(torch.randn(4, 8))
    model.plan = list(range(6))
    train(model, optimizer)
    optimizer.end_epoch(1.0)
    assert names(optimizer) == [*IN_ORDER, "head"]


def test_without_a_pass_in_training_mode_nothing_is_localized():
    model = Layered().eval()
    optimizer = make(model, 5)
    train(model, optimizer)
    with pytest.raises(RuntimeError, match="no forward pass of the model in training mode with gradients enabled has"):
        optimizer.end_epoch(1.0)
    assert learns(model)


# ---- what computes the output ------------------------------------------------------------------------------------


class Heads(nn.Module):
    """A trunk with an auxiliary head in the middle, and two heads at its end."""

    def __init__(self, returned: Callable[..., Any], auxiliary: bool = True) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))
        self.side = nn.Sequential(nn.Linear(8, 3), nn.LayerNorm(3))
        self.left, self.right = nn.Linear(8, 3), nn.Linear(8, 3)
        self.returned = returned
        self.auxiliary = auxiliary

    def forward(self, x: Tensor) -> Any:
        a = torch.relu(self.a(x))
        side = torch.log_softmax(self.side(a), dim=1) if self.training and self.auxiliary else None
        b = torch.relu(self.b(a))
        c = self.c(b) + b
        return self.returned(side, self.left(c) * 2, self.right(c), b)


RETURNED: dict[str, Callable[..., Any]] = {
    "tuple": lambda side, left, right, b: (side, left, right),
    "dict": lambda side, left, right, b: {"side": side, "logits": left, "right": right},
    "sum": lambda side, left, right, b: left + right + side,
    "features too": lambda side, left, right, b: (side, left, right, b),
}


@pytest.mark.parametrize("returned", RETURNED.values(), ids=RETURNED)
def test_no_head_is_localized(returned):
    model = Heads(returned)
    optimizer = make(model, 5)
    train(model, optimizer)
    assert names(optimizer) == ["a", "b", "c", "side.0", "left", "right"]
    with pytest.warns(
        UserWarning, match=r"stays at 3, because \['side.0', 'left', 'right'\] compute the model's output"
    ):
        optimizer.end_epoch(1.0)
    assert [n for n, module in model.named_children() if not learns(module)] == ["a", "b", "c"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns once
        train(model, optimizer, 2)
        optimizer.end_epoch(0.9)


def test_a_layer_that_computes_the_output_when_others_are_skipped_is_not_localized():
    class Headless(Layered):
        def forward(self, x: Tensor) -> Tensor:
            for i in self.plan:
                x = x + torch.relu(self.l[i](x))
            return x

    model = Headless()
    del model.head
    optimizer = make(model, 4)
    for plan in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3]):
        model.plan = plan
        train(model, optimizer)
    optimizer.end_epoch(1.0)
    assert optimizer.transition == 4
    assert learns(model.l[3])
    assert learns(model.l[5])


class Siamese(nn.Module):
    """One encoder that runs for both inputs, each of its layers twice."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)
        self.encoder = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.cat([self.encoder(x), self.encoder(-x)], dim=1))
        return out


def test_layers_that_run_twice_stand_where_they_first_run():
    model = Siamese()
    optimizer = make(model, 2)
    train(model, optimizer)
    optimizer.end_epoch(1.0)
    assert names(optimizer) == ["encoder.0", "encoder.2", "head"]
    assert [p.requires_grad for p in model.parameters()] == [True] * 2 + [False] * 4


def test_the_order_that_the_first_pass_shows_replaces_the_listed_one():
    """The transition has moved before anything ran."""
    model = Siamese()
    optimizer = make(model, 2)
    optimizer.end_epoch(1.0)
    assert not learns(model.head)
    train(model, optimizer)
    assert learns(model.head)
    assert not any(p.requires_grad for p in model.encoder.parameters())


def test_a_model_that_is_only_called_in_parts_is_ordered_too():
    model = Siamese()
    optimizer = make(model, 2)
    x = torch.randn(4, 8)
    model.head(torch.cat([model.encoder(x), x], dim=1)).sum().backward()
    optimizer.step()
    optimizer.end_epoch(1.0)
    assert names(optimizer) == ["encoder.0", "encoder.2", "head"]


def test_what_the_passes_have_shown_is_in_the_checkpoint():
    models = [Layered(), Layered()]
    optimizers = [make(model, 5, selection=ONE_BY_ONE) for model in models]
    models[0].plan = [0, 2, 4]
    train(models[0], optimizers[0])
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    assert names(optimizers[1]) == names(optimizers[0])
    for model, optimizer in zip(models, optimizers, strict=True):
        torch.manual_seed(1)
        for _ in range(2):
            for plan in ([0, 1, 2], [2, 3, 4, 5]):
                model.plan = plan
                train(model, optimizer)
            optimizer.end_epoch(1.0)
        assert names(optimizer) == [*IN_ORDER, "head"]
    assert_close(list(models[1].parameters()), list(models[0].parameters()), **BITWISE)
    assert optimizers[1].transition == optimizers[0].transition > 0


def test_an_older_checkpoint_with_only_the_first_order_loads():
    model, twin = Layered(), Layered()
    optimizer, resumed = make(model, 5), make(twin, 5)
    train(model, optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    for name in ("passes", "kept", "settings"):
        del state["localized"][name]
    for name in ("epoch_steps", "loss_sum", "loss_count"):
        del state["localized"]["schedule"][name]
    resumed.load_state_dict(state)
    assert names(resumed) == [*IN_ORDER, "head"]
    train(twin, resumed)
    resumed.end_epoch(1.0)
    assert resumed.transition == 5
    assert learns(twin.head)


def test_copying_the_model_alone_copies_no_recorder():
    model = Layered()
    optimizer = make(model, 5)
    twin = copy.deepcopy(model)
    twin.plan = [5, 0]
    twin(torch.randn(4, 8))
    train(model, optimizer)
    assert names(optimizer) == [*IN_ORDER, "head"]
