"""What ``WrappedOptimizer`` keeps of torch's contract on its own, before any algorithm is added to it."""

from __future__ import annotations

import copy
import pickle
from typing import Any, get_type_hints

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.testing import assert_close

from advanced_optimizers import FEROptimizer, GradientCorrectionOptimizer, LocalizedOptimizer
from advanced_optimizers._base import GradientTransform, WrappedOptimizer
from tests.harness import BITWISE, feed, make_gradients, make_model, make_params, through_a_file, twins

DUPLICATES = [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))]


class Noting(WrappedOptimizer):
    """A wrapper with attributes that nothing but its own ``__init__`` knows."""

    def __init__(self, params: Any) -> None:
        self.before = {"a": 1}
        super().__init__(params, SGD, {"lr": 0.1, "momentum": 0.9}, {"scale": 2.0})
        self.after = [1, 2]


def test_alone_it_is_its_base_optimizer_bit_for_bit(rng):
    params = make_params(rng)
    base_params = twins(params)
    gradients = make_gradients(rng, params, steps=5)
    feed(WrappedOptimizer(params, Adam, {"lr": 0.01}, {}), params, gradients)
    feed(Adam(base_params, lr=0.01, fused=True), base_params, gradients)
    assert_close(params, base_params, **BITWISE)


def test_a_localized_optimizer_transforms_no_gradients():
    assert issubclass(LocalizedOptimizer, WrappedOptimizer)
    assert not issubclass(LocalizedOptimizer, GradientTransform)


@pytest.mark.parametrize("kind", [FEROptimizer, GradientCorrectionOptimizer, LocalizedOptimizer])
def test_step_has_torch_s_types(kind):
    assert get_type_hints(kind.step) == get_type_hints(torch.optim.Optimizer.step)


@pytest.mark.parametrize("duplicate", DUPLICATES)
def test_an_attribute_that_no_class_lists_is_copied(duplicate, rng):
    optimizer = Noting(make_params(rng))
    copied = duplicate(optimizer)
    assert (copied.before, copied.after) == ({"a": 1}, [1, 2])
    copied.after.append(3)
    assert optimizer.after == [1, 2]
    assert copied.param_groups is copied.base.param_groups


def test_the_copy_of_an_optimizer_with_a_scheduler_steps_itself(rng):
    params = make_params(rng)
    optimizer = Noting(params)
    LambdaLR(optimizer, lambda epoch: 1.0)
    assert "step" in vars(optimizer)  # the scheduler's, which calls the original's
    twin, copied = copy.deepcopy((params, optimizer))
    (gradients,) = make_gradients(rng, params, steps=1)
    feed(copied, twin, [gradients])
    assert not any(p.equal(q) for p, q in zip(params, twin, strict=True))
    feed(optimizer, params, [gradients])
    assert_close(twin, params, **BITWISE)


def broken(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint whose own part has lost a group, while the base optimizer's is whole."""
    return {**state, "param_groups": []}


def test_a_load_that_fails_changes_nothing(rng):
    params = make_params(rng)
    optimizer, other = Noting(params), Noting(twins(params))
    feed(optimizer, params, make_gradients(rng, params, steps=2))
    feed(other, other.param_groups[0]["params"], make_gradients(rng, params, steps=4))
    other.param_groups[0]["lr"] = 0.7
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="parameter group"):
        optimizer.load_state_dict(broken(through_a_file(other.state_dict())))
    assert_close(optimizer.state_dict(), before, **BITWISE)
    assert optimizer.param_groups is optimizer.base.param_groups


def test_hyperparameters_of_the_same_name_are_refused():
    match = r"WrappedOptimizer cannot wrap SGD: both have a hyperparameter named \['lr'\]"
    with pytest.raises(ValueError, match=match):
        WrappedOptimizer(make_model().parameters(), SGD, {"lr": 0.1}, {"lr": 1.0})


def test_a_function_that_returns_something_else_is_refused():
    with pytest.raises(TypeError, match=r"base_optimizer must return a torch\.optim\.Optimizer, .* returned Linear"):
        WrappedOptimizer(make_model().parameters(), lambda params: nn.Linear(2, 2), {}, {})
