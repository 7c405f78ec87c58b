"""What happens below the transition, what does not happen there, and what the end of an epoch decides."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.testing import assert_close

from advanced_optimizers import LocalizedOptimizer
from tests.localized_helpers import AT_ONCE, BITWISE, KWARGS, batches, localized, network, step, weights


@pytest.mark.parametrize("rule", ["hebbian", "oja", "random"])
@pytest.mark.parametrize("update_every", [1, 4])
def test_each_localized_weight_moves_by_the_same_distance_whatever_the_rule(rule, update_every):
    model = network().double()
    optimizer = localized(model, rule=rule, hebbian_lr=0.01, update_every=update_every)
    optimizer.param_groups[0]["lr"] = 0.05  # half of the rate at construction
    before = weights(optimizer)
    biases = [p.clone() for name, p in model.named_parameters() if "bias" in name]
    for x, y in batches(update_every, dtype=torch.float64):
        step(model, optimizer, x, y)
    moved = [float((a - b).norm()) for a, b in zip(weights(optimizer), before, strict=True)]
    assert moved[:3] == pytest.approx([0.005 * update_every] * 3, rel=1e-9)
    after = [p for name, p in model.named_parameters() if "bias" in name]
    assert [a.equal(b) for a, b in zip(after, biases, strict=True)] == [True, True, True, False]


def test_frozen_control_changes_nothing_below_the_transition_and_trains_the_rest():
    model = network()
    optimizer = localized(model, 2, rule="frozen")
    before = copy.deepcopy(model.state_dict())
    for x, y in batches(4):
        step(model, optimizer, x, y)
    same = {name for name, value in model.state_dict().items() if value.equal(before[name])}
    assert same == {"0.weight", "1.weight", "1.bias", "3.weight", "3.bias"}  # the running statistics still change


def test_random_control_shares_the_schedule_and_its_numbers_are_not_the_initial_weights():
    torch.manual_seed(0)
    layer = nn.Linear(54, 5)
    initial = torch.Generator().manual_seed(0)
    model = network()
    random, hebbian = localized(model, rule="random"), localized(network(), rule="hebbian")
    for losses in ([1.0, 2.0], [3.0, 1.0]):
        for loss in losses:
            random.end_epoch(loss)
            hebbian.end_epoch(loss)
            assert (random.transition, random.localized_direction) == (hebbian.transition, hebbian.localized_direction)
    before = weights(random)[0]
    step(model, random, *batches(1)[0])
    drawn = (weights(random)[0] - before).flatten()
    repeated = torch.randn(layer.weight.shape, generator=initial).flatten()[: len(drawn)]
    assert abs(float(nn.functional.cosine_similarity(drawn, repeated, dim=0))) < 0.6


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_rising_loss_reverses_the_update(weight):
    models = [network().double() for _ in range(2)]
    optimizers = [localized(model, weak_supervision_weight=weight) for model in models]
    (x, y), *_ = batches(1, dtype=torch.float64)
    before = weights(optimizers[0])
    optimizers[1].end_epoch(9.0)
    assert optimizers[1].localized_direction == -weight
    for model, optimizer in zip(models, optimizers, strict=True):
        step(model, optimizer, x, y)
    for start, forward, back in zip(before[:3], *(weights(o)[:3] for o in optimizers), strict=True):
        assert_close(back - start, -weight * (forward - start), rtol=1e-9, atol=1e-12)


def grad_fns(model: nn.Sequential, x: Tensor) -> list[bool]:
    outputs = []
    for module in model:
        x = module(x)
        outputs.append(x.grad_fn is not None)
    return outputs


@pytest.mark.parametrize(("transition", "first"), [(0, 0), (1, 3), (2, 6), (3, 8)])
def test_localized_blocks_record_nothing_and_the_others_do(transition, first):
    model = network()
    optimizer = localized(model, transition)
    assert grad_fns(model, batches(1)[0][0]) == [False] * first + [True] * (9 - first)
    for i, module in enumerate(model):
        assert all(p.requires_grad == (i >= first) and p.grad is None for p in module.parameters())
    assert [block.name for block in optimizer.blocks] == ["0", "3", "6", "8"]


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """The bytes that a forward pass saves for the backward pass, besides the weights."""
    own = {p.data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.data_ptr() not in own:
            saved[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = model(x)
    assert out.grad_fn is not None
    return sum(saved.values())


def test_saved_activations_shrink_with_the_transition():
    x = batches(1)[0][0]
    sizes = []
    for transition in range(4):
        model = network()
        localized(model, transition)
        sizes.append(saved_bytes(model, x))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    assert sizes[3] < 0.05 * sizes[0]


@pytest.mark.parametrize("transition", [0, 3])
@pytest.mark.parametrize("how", ["eval", "no_grad", "inference"])
def test_evaluation_never_moves_a_weight(transition, how):
    model = network()
    optimizer = localized(model, transition)
    before = weights(optimizer)
    (x, _), *_ = batches(1)
    if how == "eval":
        model.eval()(x)
    with torch.inference_mode() if how == "inference" else torch.no_grad():
        model(x)
    optimizer.step()
    assert_close(weights(optimizer), before, **BITWISE)


def test_what_the_user_froze_stays_frozen():
    model = network()
    model[3].weight.requires_grad_(False)
    optimizer = localized(model)
    frozen = model[3].weight.clone()
    for x, y in batches(3):
        step(model, optimizer, x, y)
    assert model[3].weight.equal(frozen)
    optimizer.detach()
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["3.weight"]


def test_a_step_without_a_forward_pass_moves_nothing_and_directions_of_two_are_added():
    model, twin = network().double(), network().double()
    optimizer, other = localized(model), localized(twin)
    (x, y), (more, _) = batches(2, dtype=torch.float64)
    step(model, optimizer, x, y)
    before = weights(optimizer)
    optimizer.step()
    assert_close(weights(optimizer)[:3], before[:3], **BITWISE)  # the last block's gradient is still there

    nn.functional.cross_entropy(model(x), y).backward()
    model(more)  # between backward and step
    optimizer.step()
    step(twin, other, x, y)
    other.step()
    nn.functional.cross_entropy(twin(torch.cat([x, more])), torch.cat([y, y])).backward()
    other.step()
    # Only the first layer has seen the same inputs in both; the later ones depend on the batch through BatchNorm.
    assert_close(weights(optimizer)[0], weights(other)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_direction_that_is_zero_or_not_finite_moves_nothing(bad):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 2))
    optimizer = localized(model, 1)
    before = weights(optimizer)[0]
    model(torch.full((4, 3), bad))
    optimizer.step()
    assert weights(optimizer)[0].equal(before)
    step(model, optimizer, torch.ones(4, 3), torch.zeros(4, dtype=torch.int64))
    assert not weights(optimizer)[0].equal(before)


def test_gradient_from_before_the_transition_moved_is_dropped():
    model = network()
    optimizer = LocalizedOptimizer(model, SGD, KWARGS, selection=AT_ONCE, max_transition=2)
    (x, y), *_ = batches(1)
    nn.functional.cross_entropy(model(x), y).backward()
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.end_epoch(1.0)
    loss.backward()
    before = weights(optimizer)
    optimizer.step()
    after = weights(optimizer)
    assert [a.equal(b) for a, b in zip(after, before, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize("kind", [float, torch.tensor], ids=["float", "tensor"])
def test_end_epoch_accepts_a_number_or_a_tensor_with_one_element(kind):
    optimizer = localized(network())
    optimizer.end_epoch(kind(0.5))
    assert optimizer.loss_history == [1.0, 0.5]


@pytest.mark.parametrize("bad", ["1.0", None, True, torch.ones(2)])
def test_end_epoch_refuses_what_is_not_a_number(bad):
    optimizer = localized(network(), 1)
    with pytest.raises(TypeError, match="train_loss must be a number, got"):
        optimizer.end_epoch(bad)
    assert optimizer.loss_history == [1.0]


def test_end_epoch_notices_that_the_localized_layers_never_ran():
    model = network()
    optimizer = localized(model)
    twin = copy.deepcopy(model)
    for x, y in batches(2):
        step(twin, optimizer, x, y)  # the training of a copy
    with pytest.raises(RuntimeError, match="the 3 localized blocks saw no forward pass"):
        optimizer.end_epoch(0.9)
    assert optimizer.loss_history == [1.0]
    step(model, optimizer, x, y)
    optimizer.end_epoch(0.9)
