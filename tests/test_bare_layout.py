"""Optimizers of torch's own that we build fused without being asked follow the layout of their parameters in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.testing import assert_close

from advanced_optimizers import (
    FEROptimizer,
    MuAdam,
    MuAdamW,
    MuSGD,
    SigPropSequential,
    create_mu_transfer_optimizer,
    create_sigprop_optimizer,
    set_base_shapes,
)
from advanced_optimizers._base import ready_for_fused
from tests.harness import BITWISE, through_a_file
from tests.test_wrapped_layout import CHANGES, steps

Make = Callable[[nn.Module], Optimizer]


class Holder(nn.Module):
    """One weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


def marked(model: nn.Module) -> nn.Module:
    return set_base_shapes(model, None)


MAKES: dict[str, Make] = {
    "mu adam": lambda model: MuAdam(marked(model), lr=1e-3),
    "mu adamw": lambda model: MuAdamW(marked(model), lr=1e-3),
    "mu adam over fer": lambda model: MuAdam(marked(model), impl=FEROptimizer),
    "fused mu sgd": lambda model: MuSGD(marked(model), lr=1e-2, momentum=0.9, fused=True),
}
every_make = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


@every_make
@pytest.mark.parametrize("layout", CHANGES)
def test_a_parameter_whose_layout_changes_is_trained_as_before(make, layout):
    shape, relayout = CHANGES[layout]
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    trained = []
    for changes in (False, True):
        model = Holder(start.clone())
        optimizer, p = make(model), model.weight
        assert optimizer.param_groups[0].get("fused")
        steps(optimizer, p, 1, lambda g: g)
        if changes:
            p.data = relayout(p.data)
        steps(optimizer, p, 2, relayout if changes else lambda g: g)
        trained.append(p.detach())
    assert_close(trained[1], trained[0], rtol=0, atol=5e-6, check_stride=False)


@every_make
@pytest.mark.parametrize("layout", CHANGES)
def test_a_checkpoint_goes_into_a_model_of_another_layout(make, layout):
    shape, relayout = CHANGES[layout]
    model = Holder(torch.randn(shape))
    optimizer = make(model)
    steps(optimizer, model.weight, 1, lambda g: g)
    other = Holder(relayout(model.weight.detach().clone()))
    resumed = make(other)
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    steps(resumed, other.weight, 2, lambda g: g)
    steps(optimizer, model.weight, 2, lambda g: g)
    assert_close(other.weight.detach(), model.weight.detach(), rtol=0, atol=5e-6, check_stride=False)


def test_the_one_call_goes_on_after_channels_last():
    def run(channels_last: bool) -> Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 3))
        optimizer = create_mu_transfer_optimizer(model, {"width": 4}, {"width": 8}, {"lr": 1e-3})
        rng = torch.Generator().manual_seed(1)
        for step in range(20):
            if step == 10 and channels_last:
                model.to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            model(torch.randn(4, 3, 8, 8, generator=rng)).square().mean().backward()
            optimizer.step()
        return model[2].weight.detach()

    assert_close(run(True), run(False), rtol=0, atol=1e-6, check_stride=False)


@pytest.mark.parametrize("make", [MAKES["mu adam"], MAKES["fused mu sgd"]], ids=["mu adam", "fused mu sgd"])
def test_what_lies_between_the_elements_of_a_parameter_is_left_alone(make):
    model = Holder(torch.zeros(4))
    optimizer = make(model)
    steps(optimizer, model.weight, 1, lambda g: g)
    memory = torch.zeros(8)
    memory[::2] = model.weight.data
    model.weight.data = memory[::2]
    steps(optimizer, model.weight, 2, lambda g: g)
    assert not memory[1::2].any()
    assert memory[::2].all()


def test_signal_propagation_leaves_what_lies_between_the_elements_alone():
    torch.manual_seed(0)
    net = SigPropSequential(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (4,), 3)
    optimizer = create_sigprop_optimizer(net)
    weight = max(net.parameters(), key=lambda p: p.shape == (6, 4))
    memory = torch.zeros(6, 8)
    memory[:, ::2] = weight.data
    weight.data = memory[:, ::2]
    before = memory.clone()
    optimizer.learn(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert not memory[:, 1::2].any()
    assert not memory.equal(before)


def test_a_gradient_of_another_layout_is_paired_with_the_right_elements():
    p, q = (nn.Parameter(torch.zeros(5, 7)) for _ in range(2))
    fused, plain = Adam([p], lr=0.1, fused=True), Adam([q], lr=0.1, fused=True)
    rng = torch.Generator().manual_seed(0)
    for _ in range(3):
        grad: Any = torch.randn(5, 7, generator=rng)
        p.grad, q.grad = grad.t().contiguous().t(), grad
        ready_for_fused(fused)
        fused.step()
        plain.step()
    assert_close(p, q, **BITWISE)
