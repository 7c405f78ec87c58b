"""Several optimizers as one: torch's contract holds for all of them together, bit for bit."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import OneCycleLR

from advanced_optimizers.experiments.studies.kernel_muon import KernelMuon, muon_adamw
from advanced_optimizers.experiments.training.joined import JoinedOptimizer

BITWISE = {"rtol": 0.0, "atol": 0.0}


def make_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3))
    return model.to(memory_format=torch.channels_last)


def joined(model: nn.Module) -> JoinedOptimizer:
    optimizer = muon_adamw(model, {"lr": 0.02}, 10)
    assert isinstance(optimizer, JoinedOptimizer)
    return optimizer


def loss_of(model: nn.Module, seed: int) -> Tensor:
    images = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (model(images) ** 2).sum()


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        optimizer.zero_grad()
        loss_of(model, seed).backward()
        optimizer.step()


def test_it_steps_as_its_parts_do() -> None:
    together, apart = make_model(), make_model()
    hidden, rest = (apart[0].weight, apart[2].weight), (apart[0].bias, apart[2].bias, *apart[4].parameters())
    parts = KernelMuon(list(hidden), lr=0.02), AdamW(rest, lr=0.003, weight_decay=0.01, fused=True)
    optimizer = joined(together)
    for seed in range(5):
        take_steps(together, optimizer, range(seed, seed + 1))
        apart.zero_grad()
        loss_of(apart, seed).backward()
        for part in parts:
            part.step()
    torch.testing.assert_close(list(together.parameters()), list(apart.parameters()), **BITWISE)


def test_the_state_comes_back_bit_for_bit() -> None:
    model, other = make_model(), make_model(1)
    optimizer, restored = joined(model), joined(other)
    take_steps(model, optimizer, range(3))
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    other.load_state_dict(saved["model"])
    restored.load_state_dict(saved["optimizer"])
    both = copy.deepcopy((model, optimizer))
    for kept in ((model, optimizer), (other, restored), both):
        take_steps(*kept, range(3, 6))
    for copied, one in ((other, restored), both):
        torch.testing.assert_close(list(copied.parameters()), list(model.parameters()), **BITWISE)
        assert all(part.state is one.state for part in one.parts)
    assert len(optimizer.state) == len(list(model.parameters()))


def test_a_scheduler_acts_on_every_part_from_its_own_rate() -> None:
    model = make_model()
    optimizer = joined(model)
    peaks = [group["lr"] for group in optimizer.param_groups]
    scheduler = OneCycleLR(optimizer, peaks, total_steps=11, pct_start=0.3, cycle_momentum=False)
    seen = []
    for seed in range(10):
        take_steps(model, optimizer, range(seed, seed + 1))
        scheduler.step()
        seen.append([part.param_groups[0]["lr"] for part in optimizer.parts])
    assert peaks == pytest.approx([0.02, 0.003])
    assert torch.tensor(seen).amax(dim=0).tolist() == pytest.approx(peaks, rel=0.1)
    assert seen[-1] == [group["lr"] for group in optimizer.param_groups]
    assert max(seen[-1]) < 1e-6


def test_a_group_joins_the_part_that_it_names() -> None:
    first, second, third, fourth = (nn.Parameter(torch.ones(2, 2)) for _ in range(4))
    optimizer = JoinedOptimizer([SGD([first], lr=0.1), AdamW([second], lr=0.2)])
    optimizer.add_param_group({"params": [third], "part": 0})
    optimizer.add_param_group({"params": [fourth], "lr": 0.5})
    assert [len(part.param_groups) for part in optimizer.parts] == [2, 2]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2, 0.1, 0.5]
    optimizer.load_state_dict(optimizer.state_dict())
    for p in (first, second, third, fourth):
        p.grad = torch.ones_like(p)
    optimizer.step()
    torch.testing.assert_close(third, torch.full((2, 2), 0.9))
    assert float(fourth.detach()[0, 0]) < 0.55
    with pytest.raises(ValueError, match="part must be one of 0 to 1, got 2"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "part": 2})
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [first], "part": 1})


def test_a_closure_is_called_once_and_its_loss_returned() -> None:
    model, calls = make_model(), []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        model.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    with torch.no_grad():
        loss = joined(model).step(closure)  # type: ignore[arg-type]
    assert calls == [True]
    assert loss is not None
    assert not torch.equal(loss_of(model, 0), torch.as_tensor(loss))


def test_a_parameter_has_one_part_and_there_is_one() -> None:
    p = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match="more than one parameter group"):
        JoinedOptimizer([SGD([p]), AdamW([p])])
    with pytest.raises(ValueError, match="at least one optimizer, got none"):
        JoinedOptimizer([])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_a_kernel_as_the_matrix_of_its_filters(memory_format: torch.memory_format) -> None:
    kernel = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    p = nn.Parameter(kernel.clone(memory_format=memory_format))
    matrix = nn.Parameter(kernel.flatten(1).clone())
    ours, torchs = KernelMuon([p], lr=0.1), torch.optim.Muon([matrix], lr=0.1)
    for seed in range(3):
        grad = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(seed + 1))
        p.grad, matrix.grad = grad.clone(memory_format=memory_format), grad.flatten(1).clone()
        ours.step()
        torchs.step()
    # Torch's iteration is in bfloat16.
    torch.testing.assert_close(p.flatten(1), matrix, rtol=0.0, atol=0.02)
    assert ours.param_groups[0]["params"] == [p]


def test_muon_refuses_what_is_no_matrix() -> None:
    with pytest.raises(ValueError, match=r"matrices or kernels, got one of shape \(3,\)"):
        KernelMuon([nn.Parameter(torch.ones(3))])
    with pytest.raises(ValueError, match="must have a hidden layer for Muon, got Linear"):
        muon_adamw(nn.Linear(3, 2), {"lr": 0.1}, 1)
