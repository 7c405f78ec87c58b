"""The blocks over which the transition moves, and when it moves."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.localized_learning.blocks import Block, find_units, make_blocks
from advanced_optimizers.localized_learning.transition import DynamicTransition, Schedule, StaticTransition
from tests.reference import localized_learning as reference


def blocks_of(model: nn.Module) -> tuple[Block, ...]:
    return make_blocks(find_units(model))


def names(model: nn.Module) -> list[str]:
    return [block.name for block in blocks_of(model)]


# ---- blocks ------------------------------------------------------------------------------------------------------


def test_convnet_has_a_block_for_each_convolution_and_one_for_the_classifier():
    model = build_model("convnet", (3, 32, 32), 10)
    blocks = blocks_of(model)
    assert [len(block.layers) for block in blocks] == [1] * 7
    assert [len(block.params) for block in blocks] == [3] * 6 + [2]  # BatchNorm goes with the convolution before it
    assert [p for block in blocks for p in block.params] == list(model.parameters())


def test_resnet_has_a_block_for_each_residual_block():
    blocks = blocks_of(build_model("resnet18", (3, 32, 32), 10, width=0.125))
    assert len(blocks) == 10
    # The first residual block of each later stage has a convolution in its shortcut.
    assert [len(block.layers) for block in blocks] == [1, 2, 2, 3, 2, 3, 2, 3, 2, 1]


def test_normalization_of_the_input_goes_with_the_first_block_and_other_layers_with_the_previous_one():
    model = nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.PReLU(), nn.ConvTranspose2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 2)
    )
    blocks = blocks_of(model)
    assert names(model) == ["0", "5"]
    assert set(blocks[0].params) == {p for module in model[:4] for p in module.parameters()}


class Branching(nn.Module):
    """Runs its children in another order than it lists them; has a list, a skip, a parameter and an idle head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh())])
        self.norm = nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.ones(()))
        self.idle = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.layers[0](x))
        out: Tensor = self.head(h + self.layers[1](h)) * self.scale
        return out


class Wrapped(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


def test_units_are_the_children_with_containers_and_wrappers_opened():
    assert [name for name, _ in find_units(Branching())] == ["head", "layers.0", "layers.1.0", "norm", "idle"]
    assert [name for name, _ in find_units(Wrapped(Wrapped(Branching())))][1] == "inner.inner.layers.0"
    assert names(Wrapped(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))) == ["inner.0", "inner.1"]


class OwnForward(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self[0](x) + self[1](x)
        return out


def test_a_sequential_with_a_forward_of_its_own_is_one_unit():
    parallel = OwnForward(nn.Linear(2, 2), nn.Linear(2, 2))
    assert names(nn.Sequential(parallel, nn.Linear(2, 2))) == ["0", "1"]


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (nn.Linear(2, 2), 1),
        (nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), 1),
        (nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), nn.BatchNorm1d(2)), 0),
    ],
)
def test_a_model_with_fewer_than_two_blocks_is_refused(model, found):
    with pytest.raises(ValueError, match=rf"model must have at least two blocks.*got {found}: "):
        blocks_of(model)


def test_a_parameter_in_two_blocks_is_refused():
    tied = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    with pytest.raises(ValueError, match=r"must not share a parameter between blocks.*\(3, 3\) in both '0' and '2'"):
        blocks_of(tied)
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="must not share a parameter between blocks"):
        blocks_of(nn.Sequential(layer, nn.ReLU(), layer))


# ---- the static transition ---------------------------------------------------------------------------------------


def static_course(selection: StaticTransition, highest: int, epochs: int) -> list[int]:
    """The transition of each epoch."""
    schedule = Schedule(updates=[[] for _ in range(highest + 1)])
    course = [schedule.transition]
    for _ in range(epochs - 1):
        schedule.end_epoch(1.0, selection, highest, 0.1)
        course.append(schedule.transition)
    return course


@given(st.integers(1, 60), st.integers(0, 9), st.integers(0, 12), st.sampled_from([1, 2, 3]))
def test_static_transition_is_the_formula(total_epochs, tenths, highest, power):
    selection = StaticTransition(total_epochs=total_epochs, warmup=tenths / 10, power=power)
    expected = [
        reference.static_transition(epoch, total_epochs, Fraction(tenths, 10), highest, power)
        for epoch in range(1, total_epochs + 1)
    ]
    course = static_course(selection, highest, total_epochs + 3)
    assert course[:total_epochs] == expected
    assert course == sorted(course)
    if total_epochs > math.ceil(Fraction(tenths, 10) * total_epochs) > 0:
        assert course[total_epochs - 1 :] == [highest] * 4


def test_static_transition_of_the_studies():
    assert static_course(StaticTransition(total_epochs=10, power=2.0), 5, 10) == [0, 0, 0, 0, 0, 1, 2, 3, 3, 5]
    assert static_course(StaticTransition(total_epochs=10, power=1.0), 5, 10) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]


def test_static_transition_past_one_block_only_reaches_it_in_the_last_epoch():
    for power in (0.5, 1.0, 2.0):
        assert static_course(StaticTransition(total_epochs=10, power=power), 1, 10) == [0] * 9 + [1]


def test_transition_stays_when_a_longer_schedule_takes_over():
    schedule = Schedule(updates=[[] for _ in range(6)], transition=3, losses=[1.0] * 5)
    schedule.end_epoch(1.0, StaticTransition(total_epochs=100), 5, 0.1)
    assert schedule.transition == 3


def test_warmup_is_whole_epochs():
    assert static_course(StaticTransition(total_epochs=100, warmup=0.55, power=1.0), 45, 58)[54:] == [0, 1, 2, 3]


# ---- the dynamic transition --------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.floats(0.0, 10.0), min_size=6, max_size=6), min_size=3, max_size=5),
    st.floats(0.0, 2.0),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_dynamic_transition_is_the_rule_and_never_goes_down(table, alpha, shift, warmup_epochs):
    """``table[block][epoch]`` is the size that the block's update would have if it learned by SGD."""
    highest = len(table) - 1
    selection = DynamicTransition(alpha=alpha, shift=shift, total_epochs=6, warmup=(warmup_epochs - 0.5) / 6)
    schedule, expected = Schedule(updates=[[] for _ in table]), 0
    for epoch in range(1, 7):
        for block in range(schedule.transition, highest):
            schedule.updates[block].append(table[block][epoch - 1])
        before = schedule.transition
        if expected < highest:
            expected = reference.dynamic_transition(
                epoch, expected, table[expected][:epoch], alpha, shift, highest, warmup_epochs
            )
        schedule.end_epoch(1.0, selection, highest, 0.1)
        assert schedule.transition == expected
        assert before <= schedule.transition <= highest


def test_dynamic_transition_by_hand():
    selection = DynamicTransition(alpha=0.5)
    assert selection.following(2, 0, 3, [[1.0, 0.6], [], [], []]) == 0
    assert selection.following(2, 0, 3, [[1.0, 0.5], [], [], []]) == 1
    assert selection.following(3, 0, 3, [[1.0, 0.6, 0.4], [], [], []]) == 1  # the mean of the earlier ones is 0.8
    assert selection.following(3, 0, 3, [[1.0, 0.6, 0.41], [], [], []]) == 0
    assert selection.following(1, 0, 3, [[0.0], [], [], []]) == 0  # nothing to compare with
    assert selection.following(2, 0, 3, [[1.0, math.nan], [], [], []]) == 0


def test_dynamic_shift_is_a_tenth_of_the_blocks():
    updates = [[1.0, 0.1] for _ in range(30)]
    assert DynamicTransition().following(2, 4, 28, updates) == 7
    assert DynamicTransition(shift=2).following(2, 4, 28, updates) == 6
    assert DynamicTransition(shift=9).following(2, 24, 28, updates) == 28


# ---- weak supervision --------------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=8), st.floats(0.0, 1.0))
def test_direction_reverses_after_a_rising_loss(losses, weight):
    schedule = Schedule(updates=[[], []])
    assert schedule.direction == 1.0
    for i, loss in enumerate(losses):
        schedule.end_epoch(loss, StaticTransition(total_epochs=4), 1, weight)
        assert schedule.direction == reference.weak_supervision(losses[: i + 1], weight)


def test_direction_by_hand():
    schedule = Schedule(updates=[[], []])
    directions = []
    for loss in (2.0, 1.0, 1.5, 1.5, math.nan, 1.0, 0.9, math.inf):
        schedule.end_epoch(loss, StaticTransition(total_epochs=4), 1, 0.25)
        directions.append(schedule.direction)
    assert directions == [1.0, 1.0, -0.25, 1.0, -0.25, -0.25, 1.0, -0.25]
