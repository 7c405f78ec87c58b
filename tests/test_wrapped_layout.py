"""State, scratch and gradients lie in memory as their parameter does, whatever happens to the parameter's layout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer
from torch.testing import assert_close

from advanced_optimizers import ConvolutionalSGD, ConvolutionalSGDv2, FEROptimizer, GradientCorrectionOptimizer
from advanced_optimizers._base import WrappedOptimizer
from tests.cases_scaled import Scaled
from tests.harness import BITWISE, through_a_file

Make = Callable[[list[nn.Parameter]], Optimizer]

FUSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (Adam, {"lr": 1e-3}),
    "amsgrad": (Adam, {"lr": 1e-3, "amsgrad": True, "fused": True}),
    "adamw": (AdamW, {"lr": 1e-3}),
    "sgd": (SGD, {"lr": 1e-2, "momentum": 0.9, "fused": True}),
    "adagrad": (Adagrad, {"lr": 1e-2, "fused": True}),
}
WRAPPERS: dict[str, Callable[[Any, Any, dict[str, Any]], Optimizer]] = {
    "plain": lambda params, base, kwargs: WrappedOptimizer(params, base, kwargs, {}),
    "scaled": Scaled,
    "fer": FEROptimizer,
    "correction": GradientCorrectionOptimizer,
    "fer over correction": lambda params, base, kwargs: FEROptimizer(
        params, GradientCorrectionOptimizer, {"base_optimizer": base, "base_optimizer_kwargs": kwargs}
    ),
    "convolution": lambda params, base, kwargs: ConvolutionalSGD(
        params, kernel_size=5, base_optimizer=base, base_optimizer_kwargs=kwargs
    ),
    "convolution v2": lambda params, base, kwargs: ConvolutionalSGDv2(
        params, kernel_size=5, kernel_lr=0.1, kernel_every=1, base_optimizer=base, base_optimizer_kwargs=kwargs
    ),
}
# Each changes the layout of a weight, and what a model with this weight looks like.
CHANGES: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "channels_last": ((8, 3, 3, 3), lambda t: t.contiguous(memory_format=torch.channels_last)),
    "channels_last_3d": ((4, 3, 2, 3, 2), lambda t: t.contiguous(memory_format=torch.channels_last_3d)),
    "transposed": ((6, 5), lambda t: t.t().contiguous().t()),
    "permuted": ((4, 3, 5), lambda t: t.permute(2, 0, 1).contiguous().permute(1, 2, 0)),
    "strided": ((6, 5), lambda t: torch.stack([t, torch.full_like(t, 7.0)], dim=-1)[..., 0]),
}


# Every wrapper over Adam, and every fused optimizer inside the plainest wrapper.
PAIRS = [*((wrap, "adam") for wrap in WRAPPERS), *(("plain", base) for base in FUSED if base != "adam")]
every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def tensors_of(optimizer: Optimizer, p: Tensor) -> list[Tensor]:
    """All tensors of the parameter's size that the optimizer and those inside it keep."""
    found, states = [], [optimizer.state[p]]
    while states:
        for value in states.pop().values():
            if isinstance(value, dict):
                states.append(value)
            elif isinstance(value, Tensor) and value.shape == p.shape:
                found.append(value)
    return found


def steps(optimizer: Optimizer, p: nn.Parameter, seed: int, change: Callable[[Tensor], Tensor], count: int = 6) -> None:
    rng = torch.Generator().manual_seed(seed)
    drift = torch.randn(p.shape, generator=rng)
    for _ in range(count):
        p.grad = change(drift + torch.randn(p.shape, generator=rng))
        optimizer.step()


@pytest.mark.parametrize(("wrapper", "fused"), PAIRS)
@pytest.mark.parametrize("layout", CHANGES)
def test_a_parameter_whose_layout_changes_is_trained_as_before(wrapper, fused, layout):
    wrap, base, (shape, relayout) = WRAPPERS[wrapper], FUSED[fused], CHANGES[layout]
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    trained = []
    for changes in (False, True):
        p = nn.Parameter(start.clone())
        optimizer = wrap([p], *base)
        steps(optimizer, p, 1, lambda g: g)
        if changes:
            p.data = relayout(p.data)  # as model.to(memory_format=...) does
        steps(optimizer, p, 2, relayout if changes else (lambda g: g))
        trained.append(p.detach())
    assert_close(trained[1], trained[0], rtol=0, atol=5e-6, check_stride=False)


@every_wrapper
@pytest.mark.parametrize("layout", [name for name in CHANGES if name != "strided"])
def test_state_follows_the_parameter_s_layout(wrap, layout):
    shape, relayout = CHANGES[layout]
    p = nn.Parameter(torch.randn(shape))
    optimizer = wrap([p], Adam, {"lr": 1e-3})
    steps(optimizer, p, 1, lambda g: g)
    p.data = relayout(p.data)
    steps(optimizer, p, 2, lambda g: g, count=1)
    kept = tensors_of(optimizer, p)
    assert len(kept) >= 2
    assert {t.stride() for t in kept} == {p.stride()}


@every_wrapper
@pytest.mark.parametrize("layout", CHANGES)
def test_a_checkpoint_goes_into_a_model_of_another_layout(wrap, layout):
    shape, relayout = CHANGES[layout]
    p = nn.Parameter(torch.randn(shape))
    optimizer = wrap([p], Adam, {"lr": 1e-3})
    steps(optimizer, p, 1, lambda g: g)
    other = nn.Parameter(relayout(p.detach().clone()))
    resumed = wrap([other], Adam, {"lr": 1e-3})
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    steps(resumed, other, 2, lambda g: g)
    steps(optimizer, p, 2, lambda g: g)
    assert_close(other.detach(), p.detach(), rtol=0, atol=5e-6, check_stride=False)


@every_wrapper
def test_a_copy_changes_its_layout_apart(wrap):
    p = nn.Parameter(torch.randn(8, 3, 3, 3))
    optimizer = wrap([p], Adam, {"lr": 1e-3})
    steps(optimizer, p, 1, lambda g: g)
    ((twin,), copied) = copy.deepcopy(([p], optimizer))
    twin.data = twin.data.contiguous(memory_format=torch.channels_last)
    steps(copied, twin, 2, lambda g: g)
    steps(optimizer, p, 2, lambda g: g)
    assert_close(twin.detach(), p.detach(), rtol=0, atol=5e-6, check_stride=False)


@pytest.mark.parametrize("base", FUSED.values(), ids=FUSED)
def test_what_lies_between_the_elements_of_a_parameter_is_left_alone(base):
    p = nn.Parameter(torch.zeros(4))
    optimizer = WrappedOptimizer([p], *base, {})
    steps(optimizer, p, 1, lambda g: g)
    memory = torch.zeros(8)
    memory[::2] = p.data
    p.data = memory[::2]
    steps(optimizer, p, 2, lambda g: g)
    assert not memory[1::2].any()
    assert optimizer.param_groups[0]["fused"] is False


@pytest.mark.parametrize("make", [lambda params: torch.optim.Adam(params, lr=1e-3), FEROptimizer], ids=["adam", "fer"])
def test_a_convolution_goes_on_after_channels_last(make: Make):
    def run(channels_last: bool) -> Tensor:
        torch.manual_seed(0)
        model = nn.Conv2d(3, 8, 3)
        optimizer = make(list(model.parameters()))
        rng = torch.Generator().manual_seed(1)
        for step in range(20):
            if step == 10 and channels_last:
                model.to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            model(torch.randn(4, 3, 8, 8, generator=rng)).square().mean().backward()
            optimizer.step()
        return model.weight.detach()

    assert_close(run(True), run(False), rtol=0, atol=1e-6, check_stride=False)


def test_a_gradient_of_another_layout_reaches_the_fused_kernel_in_order_and_is_put_back():
    p, q = (nn.Parameter(torch.zeros(5, 7)) for _ in range(2))
    wrapped, plain = WrappedOptimizer([p], Adam, {"lr": 0.1}, {}), WrappedOptimizer([q], Adam, {"lr": 0.1}, {})
    rng = torch.Generator().manual_seed(0)
    for _ in range(3):
        grad = torch.randn(5, 7, generator=rng)
        p.grad, q.grad = grad.t().contiguous().t(), grad
        given = p.grad
        wrapped.step()
        plain.step()
        assert p.grad is given
    assert_close(p, q, **BITWISE)


@pytest.mark.parametrize(("wrapper", "fused"), [pair for pair in PAIRS if pair[1] != "adagrad"])
def test_lazy_parameters(wrapper, fused):
    """Adagrad itself allocates its state when it is built, for which a parameter needs a shape."""
    wrap, base = WRAPPERS[wrapper], FUSED[fused]
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyConv1d(2, 1))
    optimizer = wrap(list(model.parameters()), *base)
    x = torch.randn(3, 6, 5)
    model(x)
    before = copy.deepcopy(list(model.parameters()))
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    assert all(not p.equal(b) for p, b in zip(model.parameters(), before, strict=True))
    assert optimizer.param_groups[0]["fused"] is True
