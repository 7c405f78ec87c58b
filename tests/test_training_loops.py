"""What a training loop may do with the algorithms, beyond what their own tests show."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from advanced_optimizers import (
    FEROptimizer,
    FlippingErrorReduction,
    MuAdam,
    MuAdamW,
    MuReadout,
    MuSGD,
    SigPropNet,
    SigPropOptimizer,
    set_base_shapes,
)
from tests.framework_helpers import CLASSES, EPOCHS, SAMPLES, assert_same, data, localized, model_for

# ---- the flipping loss -----------------------------------------------------------------------------------------------


def criterion_after(train: Callable[[nn.Module, FlippingErrorReduction, torch.Tensor], None]) -> FlippingErrorReduction:
    """The loss after three epochs of a loop that trains with a batch of indices."""
    model, criterion = model_for("fer"), FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        criterion.set_epoch(epoch)
        for indices in torch.arange(SAMPLES).split(6):
            train(model, criterion, indices)
    assert criterion.remembered.any()
    return criterion


def loss_of(model: nn.Module, criterion: FlippingErrorReduction, indices: torch.Tensor) -> torch.Tensor:
    x, y = data().tensors
    return criterion(model(x[indices]), y[indices], indices)


@pytest.mark.parametrize("kind", [SGD, Adam, FEROptimizer])
def test_the_flipping_loss_works_with_any_optimizer_schedule_and_groups(kind: Callable[..., Optimizer]):
    """In a closure as in the ordinary loop; with a schedule and a group that comes later."""
    optimizers: dict[bool, Optimizer] = {}
    schedules = {}

    def train(model: nn.Module, criterion: FlippingErrorReduction, indices: torch.Tensor, in_closure: bool) -> None:
        if in_closure not in optimizers:
            settings = {} if kind is FEROptimizer else {"lr": 0.05}
            optimizers[in_closure] = kind(model[0].parameters(), **settings)
            optimizers[in_closure].add_param_group({"params": list(model[2:].parameters()), "lr": 0.02})
            schedules[in_closure] = torch.optim.lr_scheduler.StepLR(optimizers[in_closure], 2, 0.5)
        optimizer = optimizers[in_closure]

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, criterion, indices)
            loss.backward()
            return loss

        if in_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        schedules[in_closure].step()

    in_closure, in_loop = (criterion_after(lambda *args, way=way: train(*args, way)) for way in (True, False))
    assert_same(in_closure, in_loop)


def test_the_flipping_loss_with_accumulated_gradients():
    """A batch in two halves gives the gradient and the memory of the batch."""
    results = []
    for parts in (1, 2):
        model, criterion = model_for("fer"), FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)
        for epoch in range(1, EPOCHS + 1):
            criterion.set_epoch(epoch)
            model.zero_grad()
            for indices in torch.arange(SAMPLES).chunk(parts):
                (loss_of(model, criterion, indices) / parts).backward()
        results.append(([p.grad for p in model.parameters()], criterion.remembered))
    torch.testing.assert_close(*results)


def test_the_flipping_loss_remembers_at_every_evaluation_of_lbfgs():
    evaluations = []
    optimizers: dict[int, Optimizer] = {}

    def train(model: nn.Module, criterion: FlippingErrorReduction, indices: torch.Tensor) -> None:
        optimizer = optimizers.setdefault(0, torch.optim.LBFGS(model.parameters(), max_iter=3))

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            before = criterion.remembered.clone()
            loss = loss_of(model, criterion, indices)
            evaluations.append(not torch.equal(before, criterion.remembered))
            loss.backward()
            return loss

        optimizer.step(closure)

    criterion_after(train)
    steps = EPOCHS * SAMPLES // 6
    assert len(evaluations) > steps
    assert sum(evaluations) > steps


def test_the_flipping_loss_passes_sparse_gradients_on():
    table, criterion = nn.Embedding(SAMPLES, CLASSES, sparse=True), FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)
    optimizer = torch.optim.SparseAdam(table.parameters(), lr=0.1)
    before = table.weight.detach().clone()
    for epoch in range(1, EPOCHS + 1):
        criterion.set_epoch(epoch)
        optimizer.zero_grad()
        criterion(table(torch.arange(6)), torch.arange(6) % CLASSES, torch.arange(6)).backward()
        assert table.weight.grad.is_sparse
        optimizer.step()
    assert not torch.equal(table.weight[:6], before[:6])


# ---- muP's optimizers ------------------------------------------------------------------------------------------------

every_mu = pytest.mark.parametrize("make", [MuSGD, MuAdam, MuAdamW], ids=lambda make: make.__name__)


def mu_model(dtype: torch.dtype = torch.float32) -> nn.Module:
    return model_for("mu_adamw").to(dtype)


def mu_loss(model: nn.Module, part: slice = slice(None)) -> torch.Tensor:
    x, y = data().tensors
    return nn.functional.cross_entropy(model(x[part].to(next(model.parameters()).dtype)), y[part])


@every_mu
def test_mup_s_optimizers_call_a_closure_once(make: Callable[..., Optimizer]):
    model, other = mu_model(), mu_model()
    optimizer, plain = make(model, lr=0.05), make(other, lr=0.05)
    calls = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = mu_loss(model)
        loss.backward()
        calls.append(loss)
        return loss

    assert optimizer.step(closure) is calls[0]
    mu_loss(other).backward()
    plain.step()
    assert len(calls) == 1
    assert_same(model, other)


@every_mu
def test_mup_s_optimizers_with_accumulated_gradients(make: Callable[..., Optimizer]):
    whole, halves = mu_model(torch.float64), mu_model(torch.float64)
    for model, parts in ((whole, [slice(None)]), (halves, [slice(0, 12), slice(12, 24)])):
        optimizer = make(model, lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            for part in parts:
                (mu_loss(model, part) / len(parts)).backward()
            optimizer.step()
    for p, q in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@every_mu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_mup_s_optimizers_in_every_precision(make: Callable[..., Optimizer], dtype: torch.dtype):
    model, other = mu_model(dtype), mu_model()
    for each in (model, other):
        optimizer = make(each, lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss = mu_loss(each)
            loss.backward()
            optimizer.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert p.dtype == dtype
        torch.testing.assert_close(p.float(), q, rtol=0.05, atol=0.05)


def test_mup_s_sgd_takes_sparse_gradients_as_torch_s_does():
    def embedding(width: int) -> nn.Module:
        return nn.Sequential(nn.Embedding(5, width, sparse=True), MuReadout(width, 2))

    torch.manual_seed(0)
    model = set_base_shapes(embedding(8), embedding(4))
    before = model[0].weight.detach().clone()
    model(torch.tensor([1, 2])).square().sum().backward()
    assert model[0].weight.grad.is_sparse
    MuSGD(model, lr=0.1).step()
    assert not torch.equal(model[0].weight[1:3], before[1:3])
    assert torch.equal(model[0].weight[3:], before[3:])


def test_mup_s_optimizers_refuse_lbfgs():
    with pytest.raises(ValueError, match="LBFGS"):
        MuSGD(mu_model(), impl=torch.optim.LBFGS, lr=0.1)


# ---- signal propagation ----------------------------------------------------------------------------------------------


def test_signal_propagation_leaves_sparse_and_complex_gradients_to_its_base_optimizer():
    net = SigPropNet(6, [4], 3)
    optimizer = SigPropOptimizer(net)
    p = next(net.parameters())
    p.grad = torch.ones_like(p).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


# ---- localized learning ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_localized_learning_refuses_sparse_and_complex_gradients(kind: str):
    model = model_for("localized").to(torch.complex64 if kind == "complex" else torch.float32)
    optimizer = localized(model)
    p = model[4].weight
    p.grad = torch.ones_like(p).to_sparse() if kind == "sparse" else torch.ones_like(p)
    with pytest.raises(ValueError, match=f"LocalizedOptimizer does not support {kind} gradients"):
        optimizer.step()
