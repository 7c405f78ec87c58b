"""Selective localized learning on models of all kinds: branches, order of execution, compilation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from advanced_optimizers import FEROptimizer, LocalizedOptimizer, StaticTransition
from advanced_optimizers.experiments.training.models import build_model
from tests.localized_helpers import AT_ONCE, BITWISE, KWARGS, batches, localized, network, step, weights

# ---- residual networks and other graphs --------------------------------------------------------------------------


def test_resnet_learns_localized_up_to_a_residual_block():
    torch.manual_seed(0)
    model = build_model("resnet18", (3, 8, 8), 4, width=0.0625)
    assert isinstance(model, nn.Sequential)
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, selection=AT_ONCE, max_transition=4, update_every=1)
    optimizer.end_epoch(1.0)
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 3, 8, 8, generator=rng), torch.randint(4, (4,), generator=rng)
    recorded: dict[nn.Module, bool] = {}
    for module in model.modules():
        module.register_forward_hook(lambda module, a, out: recorded.update({module: out.requires_grad}))
    before = weights(optimizer)
    first = step(model, optimizer, x, y)
    assert [block.name for block in optimizer.blocks] == ["0", "3", "4", "5", "6", "7", "8", "9", "10", "13"]
    assert not any(recorded[part] for module in list(model)[:6] for part in module.modules())  # shortcuts too
    assert all(recorded[layer] for block in optimizer.blocks[4:] for layer in block.layers)
    moved = [float((a - b).norm()) for a, b in zip(weights(optimizer), before, strict=True)]
    assert moved[:8] == pytest.approx([1e-3] * 8, rel=1e-3)  # stem, two blocks of two, one of three
    for _ in range(8):
        last = step(model, optimizer, x, y)
    assert last < first


class Scrambled(nn.Module):
    """Runs its children in another order than it lists them; has a skip connection and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.second = nn.Linear(5, 5)
        self.idle = nn.Linear(5, 5)
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.LayerNorm(5))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        out: Tensor = self.head(h + torch.tanh(self.second(h))) * self.scale
        return out


def test_blocks_are_in_the_order_of_the_first_forward_pass():
    model = Scrambled()
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, selection=StaticTransition(total_epochs=2), max_transition=2)
    assert [block.name for block in optimizer.blocks] == ["head", "second", "idle", "first.1"]
    (x, y), *_ = batches(1)
    step(model, optimizer, x, y)
    assert [block.name for block in optimizer.blocks] == ["first.1", "second", "head", "idle"]
    assert len(optimizer.blocks[0].params) == 4  # with the LayerNorm that follows
    optimizer.end_epoch(1.0)
    optimizer.end_epoch(0.9)
    step(model, optimizer, x, y)
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"head.weight", "head.bias", "scale"}
    assert not any(p.requires_grad for block in optimizer.blocks[:2] for p in block.params)


def test_order_of_execution_is_in_the_checkpoint():
    settings: dict[str, Any] = {"selection": AT_ONCE, "max_transition": 2, "update_every": 2}
    torch.manual_seed(0)
    model, twin = Scrambled(), Scrambled()
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, **settings)
    data = batches(6)
    step(model, optimizer, *data[0])
    optimizer.end_epoch(1.0)
    step(model, optimizer, *data[1])
    twin.load_state_dict(model.state_dict())
    resumed = LocalizedOptimizer(twin, SGD, KWARGS, **settings)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [block.name for block in resumed.blocks] == ["first.1", "second", "head", "idle"]
    for net, each in ((model, optimizer), (twin, resumed)):
        for x, y in data[2:]:
            step(net, each, x, y)
    assert_close(list(twin.parameters()), list(model.parameters()), **BITWISE)


class Twice(nn.Module):
    """One layer that runs twice, before and after another."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(4, 4)
        self.again = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.again(torch.tanh(self.again(torch.tanh(self.start(x)))))
        out: Tensor = self.head(h)
        return out


def test_a_layer_that_runs_twice_learns_from_the_sum_of_both():
    model = Twice().double()
    optimizer = localized(model, 2, hebbian_lr=0.01)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        a = torch.tanh(model.start(x))
        z = model.again(a)
        b = torch.tanh(z)
        direction = z.T @ a + model.again(b).T @ b
        expected = model.again.weight + 0.01 * direction / direction.norm()
    step(model, optimizer, x, torch.randint(3, (6,), generator=rng))
    assert_close(model.again.weight.detach(), expected, rtol=0, atol=1e-12)


def test_gradient_with_respect_to_the_input_flows_through_localized_layers():
    """The weights must not change before the end of the backward pass, which uses them."""
    model = network().double()
    optimizer = localized(model)
    (x, y), *_ = batches(1, dtype=torch.float64)
    twin = copy.deepcopy(model)
    x.requires_grad_(True)
    step(model, optimizer, x, y)
    shown = x.grad
    x.grad = None
    nn.functional.cross_entropy(twin(x), y).backward()
    assert_close(shown, x.grad, rtol=0, atol=1e-12)


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Sequential) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return out


def test_activation_checkpointing_changes_nothing():
    plain, inner = network().double(), network().double()
    model = Checkpointed(inner)
    optimizers = [localized(plain, 2), localized(model, 2)]
    for x, y in batches(3, dtype=torch.float64):
        step(plain, optimizers[0], x, y)
        step(model, optimizers[1], x, y)
    assert_close([p.detach() for p in inner.parameters()], [p.detach() for p in plain.parameters()], rtol=0, atol=1e-12)


# ---- precision, compilation, other wrappers ----------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["hebbian", "oja", "random", "frozen"])
def test_autocast_in_channels_last_follows_float32(rule):
    models = [network(), network().to(memory_format=torch.channels_last)]  # type: ignore[call-overload]
    optimizers = [localized(model, 3, rule=rule, hebbian_lr=0.05) for model in models]
    before = weights(optimizers[0])[:3]
    for x, y in batches(5):
        step(models[0], optimizers[0], x, y)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = models[1](x.contiguous(memory_format=torch.channels_last))
        optimizers[1].zero_grad()
        nn.functional.cross_entropy(out.float(), y).backward()
        optimizers[1].step()
    after = [weights(optimizer)[:3] for optimizer in optimizers]
    for start, exact, rough in zip(before, *after, strict=True):
        assert rough.dtype == torch.float32
        if rule == "frozen":
            assert rough.equal(start)
        else:
            assert (rough - exact).norm() < 0.05 * (exact - start).norm()


@pytest.mark.filterwarnings("ignore")  # dynamo warns about what it does not trace
@pytest.mark.parametrize(
    ("given", "update_every"), [pytest.param("the model", 2, marks=pytest.mark.slow), ("the compiled model", 1)]
)
def test_compiled_model_equals_eager(given, update_every):
    torch._dynamo.reset()
    model, twin = network(), network()
    compiled = torch.compile(twin, backend="eager", fullgraph=True)
    settings: dict[str, Any] = {
        "selection": StaticTransition(total_epochs=3, power=1.0),
        "update_every": update_every,
        "hebbian_lr": 0.05,
    }
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, **settings)
    other = LocalizedOptimizer(twin if given == "the model" else compiled, SGD, KWARGS, **settings)
    for epoch in range(3):
        for x, y in batches(4, seed=epoch):
            step(model, optimizer, x, y)
            step(compiled, other, x, y)
        assert optimizer.transition == other.transition == epoch
        optimizer.end_epoch(1.0)
        other.end_epoch(1.0)
    assert_close(list(twin.parameters()), list(model.parameters()), **BITWISE)


@pytest.mark.parametrize("bad", [None, [nn.Linear(2, 2)], nn.Linear(2, 2).parameters()])
def test_what_is_not_a_model_is_refused(bad):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got"):
        LocalizedOptimizer(bad, SGD, KWARGS)


@pytest.mark.parametrize(("value", "error"), [(-1, "max_transition must be >= 0"), (4, "max_transition must be <= 3")])
def test_transition_beyond_the_model_is_refused(value, error):
    with pytest.raises(ValueError, match=f"{error}, got {value}"):
        LocalizedOptimizer(network(), SGD, KWARGS, max_transition=value)
    with pytest.raises(TypeError, match=r"max_transition must be an integer, got 1\.0"):
        LocalizedOptimizer(network(), SGD, KWARGS, max_transition=1.0)  # type: ignore[arg-type]


def test_another_transform_can_be_the_base():
    model = network()
    optimizer = LocalizedOptimizer(
        model, FEROptimizer, {"base_optimizer": SGD, "base_optimizer_kwargs": KWARGS}, selection=AT_ONCE, update_every=1
    )
    optimizer.end_epoch(1.0)
    before = weights(optimizer)
    for x, y in batches(3):
        step(model, optimizer, x, y)
    assert all(not a.equal(b) for a, b in zip(weights(optimizer), before, strict=True))
    assert isinstance(optimizer.base, FEROptimizer)
    assert len(optimizer.base.consistency_history) == 2


def test_parameters_added_later_learn_by_gradient():
    model = network()
    optimizer = localized(model)
    scale = nn.Parameter(torch.ones(()))
    optimizer.add_param_group({"params": [scale], "lr": 0.5})
    for x, y in batches(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x) * scale, y).backward()
        optimizer.step()
    assert scale.item() != 1.0
    with pytest.raises(ValueError, match=r"hebbian_lr must be >= 0.*got -1\.0"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "hebbian_lr": -1.0})
