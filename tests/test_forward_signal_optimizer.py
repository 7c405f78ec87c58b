"""SigPropOptimizer: its two ways to train, checkpoints, copies, schedulers, precision and memory."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.testing import assert_close

from advanced_optimizers import (
    FEROptimizer,
    LocalLoss,
    SigPropNet,
    SigPropOptimizer,
    SigPropSequential,
    create_sigprop_optimizer,
)
from benchmarks.memory import AllocationTrace
from tests.forward_signal_models import conv_model, image_batches, labels
from tests.harness import BITWISE, through_a_file

IMAGES = (1, 8, 8)
Step = Callable[[SigPropOptimizer, Tensor, Tensor], Any]


def network(dropout: float = 0.0, **options: Any) -> SigPropSequential:
    return SigPropSequential(conv_model(dropout), IMAGES, 3, **options)


def ordinary_step(optimizer: SigPropOptimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    sum(optimizer.net.local_losses(x, y)).backward()
    optimizer.step()


def learn_step(optimizer: SigPropOptimizer, x: Tensor, y: Tensor) -> None:
    optimizer.learn(x, y)


BOTH = pytest.mark.parametrize("step", [ordinary_step, learn_step], ids=["loop", "learn"])


def momentum_sgd(net: SigPropSequential, **more: Any) -> SigPropOptimizer:
    return SigPropOptimizer(net, 0.05, 0.02, base_optimizer=SGD, base_optimizer_kwargs={"momentum": 0.9, **more})


OPTIMIZERS: dict[str, Callable[[SigPropSequential], SigPropOptimizer]] = {
    "adam": lambda net: create_sigprop_optimizer(net, 1e-2, 3e-3),
    "sgd": lambda net: momentum_sgd(net, weight_decay=1e-2),
    "adamw": lambda net: SigPropOptimizer(net, base_optimizer=AdamW, base_optimizer_kwargs={"foreach": True}),
    "fer": lambda net: SigPropOptimizer(net, 1e-2, base_optimizer=FEROptimizer),
}
EVERY_OPTIMIZER = pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)


# ---- two ways to train -------------------------------------------------------------------------------------------


@EVERY_OPTIMIZER
@pytest.mark.parametrize("options", [{}, {"output": "targets"}, {"output": "neutral"}, {"fixed_signal": True}], ids=str)
def test_learn_and_the_ordinary_loop_give_the_same_bits(build, options, rng):
    net = network(loss=LocalLoss("target_topk", top_k=3), **options)
    twin = copy.deepcopy(net)
    learning, looping = build(net), build(twin)
    for x, y in image_batches(rng, 5):
        losses = twin.local_losses(x, y)
        looping.zero_grad()
        sum(losses).backward()
        looping.step()
        result = learning.learn(x, y)
        assert_close(result.losses, torch.stack(losses).detach(), **BITWISE)
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)
    assert_close(learning.state_dict(), looping.state_dict(), **BITWISE)


def test_both_ways_draw_the_same_dropout(rng):
    net = network(dropout=0.3)
    twin = copy.deepcopy(net)
    batches = image_batches(rng, 3)
    for model, step in ((net, learn_step), (twin, ordinary_step)):
        torch.manual_seed(5)
        optimizer = create_sigprop_optimizer(model)
        for x, y in batches:
            step(optimizer, x, y)
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_both_ways_give_the_same_bits_in_bfloat16_autocast(layout, rng):
    net = network().to(memory_format=layout)
    twin = copy.deepcopy(net)
    learning, looping = create_sigprop_optimizer(net), create_sigprop_optimizer(twin)
    with torch.autocast("cpu", torch.bfloat16):
        for x, y in image_batches(rng, 4):
            x = x.contiguous(memory_format=layout)
            losses, scores = learning.learn(x, y)  # all batches in one context: its cached weights would be stale
            assert losses.dtype == scores.dtype == torch.float32
            looping.zero_grad()
            other = sum(twin.local_losses(x, y))
            with torch.autocast("cpu", enabled=False):
                other.backward()
            looping.step()
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_bfloat16_autocast_is_near_float32(rng):
    net = network()
    twin = copy.deepcopy(net)
    wide, narrow = create_sigprop_optimizer(net), create_sigprop_optimizer(twin)
    for x, y in image_batches(rng, 3):
        expected = wide.learn(x, y)
        with torch.autocast("cpu", torch.bfloat16):
            result = narrow.learn(x, y)
        assert_close(result.losses, expected.losses, rtol=0.03, atol=0.03)


def test_learn_gives_the_losses_and_scores_from_before_its_updates(rng):
    net = network()
    (x, y), *_ = image_batches(rng, 1)
    twin = copy.deepcopy(net)
    losses, scores = create_sigprop_optimizer(net).learn(x, y)
    assert_close(losses, torch.stack(twin.local_losses(x, y)).detach(), **BITWISE)
    assert_close(scores, copy.deepcopy(twin)(x).detach(), **BITWISE)
    assert not losses.requires_grad
    assert not scores.requires_grad


def test_learn_drops_old_gradients_and_leaves_none(rng):
    net = network()
    twin = copy.deepcopy(net)
    (x, y), *_ = image_batches(rng, 1)
    for p in net.parameters():
        p.grad = torch.full_like(p, 1e3)
    create_sigprop_optimizer(net).learn(x, y)
    create_sigprop_optimizer(twin).learn(x, y)
    assert all(p.grad is None for p in net.parameters())
    assert_close(net.state_dict(), twin.state_dict(), **BITWISE)


def test_learn_works_where_gradients_are_off(rng):
    net = network()
    before = copy.deepcopy(net.state_dict())
    (x, y), *_ = image_batches(rng, 1)
    with torch.no_grad():
        create_sigprop_optimizer(net).learn(x, y)
    assert all(not torch.equal(net.state_dict()[name], before[name]) for name, _ in net.named_parameters())


@BOTH
def test_learns_the_digits(step, rng):
    datasets = pytest.importorskip("sklearn.datasets")
    images, targets = datasets.load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(targets)
    order = torch.randperm(len(y), generator=rng)
    train, test = order[:1400], order[1400:]
    net = SigPropNet(64, [64, 32], 10)
    optimizer = create_sigprop_optimizer(net, 1e-2, 1e-2)
    for _ in range(10):
        for batch in train[torch.randperm(len(train), generator=rng)].split(64):
            step(optimizer, x[batch], y[batch])
    assert (net(x[test]).argmax(dim=1) == y[test]).double().mean() > 0.93


@pytest.mark.parametrize("output", ["classifier", "targets", "neutral"])
@pytest.mark.parametrize("name", ["label_direct", "target_max_all", "target_max", "target_topk"])
def test_every_softmax_loss_and_output_learns(name, output, rng):
    net = network(loss=name, output=output)
    optimizer = create_sigprop_optimizer(net, 1e-2, 1e-2)
    patterns = torch.randn(3, *IMAGES, generator=rng)
    for _ in range(40):
        y = labels(rng, 24, 3)
        optimizer.learn(patterns[y] + 0.5 * torch.randn(24, *IMAGES, generator=rng), y)
    y = labels(rng, 200, 3)
    x = patterns[y] + 0.5 * torch.randn(200, *IMAGES, generator=rng)
    assert (net.eval()(x).argmax(dim=1) == y).double().mean() > 0.95


# ---- memory ------------------------------------------------------------------------------------------------------


def peak_of_activations(depth: int, step: Step) -> int:
    net = SigPropNet(64, [64] * depth, 4)
    optimizer = SigPropOptimizer(net, base_optimizer=SGD)
    x, y = torch.randn(256, 64), torch.zeros(256, dtype=torch.int64)
    step(optimizer, x, y)
    optimizer.zero_grad()
    with AllocationTrace() as trace:
        step(optimizer, x, y)
    return trace.peak


def test_memory_of_learn_does_not_grow_with_depth():
    learn = {depth: peak_of_activations(depth, learn_step) for depth in (4, 16)}
    loop = {depth: peak_of_activations(depth, ordinary_step) for depth in (4, 16)}
    assert learn[16] < 1.05 * learn[4]
    assert loop[16] > 2.9 * loop[4]
    assert learn[4] < loop[4]


# ---- groups and schedulers ---------------------------------------------------------------------------------------


def test_one_group_per_layer_and_one_for_the_signal():
    net = network()
    optimizer = create_sigprop_optimizer(net, lr=0.1, signal_lr=0.02)
    units = [list(layer.block.parameters()) for layer in net.layers]
    expected = [units[0], list(net.generator.parameters()), *units[1:], list(net.output.parameters())]
    assert [group["params"] for group in optimizer.param_groups] == expected
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.02, 0.1, 0.1, 0.1]
    assert optimizer.param_groups == [group for base in optimizer.bases for group in base.param_groups]
    shared = [group for base in optimizer.bases for group in base.param_groups]
    assert all(a is b for a, b in zip(optimizer.param_groups, shared, strict=True))
    assert [type(base) for base in optimizer.bases] == [Adam] * 4


def test_what_does_not_learn_has_no_group():
    assert len(create_sigprop_optimizer(network(fixed_signal=True)).param_groups) == 4
    targets = create_sigprop_optimizer(network(output="targets"))
    assert len(targets.param_groups) == 5
    assert targets.bases[-1] is None


@BOTH
@pytest.mark.parametrize("kind", [LambdaLR, OneCycleLR])
def test_schedulers_drive_all_layers_without_a_warning(step, kind, rng):
    net = network()
    optimizer = create_sigprop_optimizer(net, 1e-2, 3e-3)
    if kind is LambdaLR:
        scheduler: Any = LambdaLR(optimizer, lambda batch: float(batch < 2))
    else:
        scheduler = OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch, (x, y) in enumerate(image_batches(rng, 4)):
            before = copy.deepcopy(dict(net.named_parameters()))
            step(optimizer, x, y)
            moved = [not torch.equal(p, before[name]) for name, p in net.named_parameters()]
            assert set(moved) == {kind is OneCycleLR or batch < 2}
            scheduler.step()
    lrs = [group["lr"] for group in optimizer.param_groups]
    assert lrs == [0.0] * 5 if kind is LambdaLR else lrs[1] == pytest.approx(0.3 * lrs[0])


@BOTH
def test_layer_with_its_own_learning_rate(step, rng):
    net = network()
    optimizer = create_sigprop_optimizer(net)
    optimizer.param_groups[2]["lr"] = 0.0
    frozen, moving = list(net.layers[1].parameters()), list(net.layers[2].parameters())
    before = copy.deepcopy([frozen, moving])
    for x, y in image_batches(rng, 2):
        step(optimizer, x, y)
    assert_close(frozen, before[0], check_stride=False, **BITWISE)
    assert not torch.equal(moving[0], before[1][0])


# ---- checkpoints and copies --------------------------------------------------------------------------------------


@BOTH
@EVERY_OPTIMIZER
@pytest.mark.parametrize("carry", [copy.deepcopy, through_a_file, lambda state: state], ids=["copy", "file", "itself"])
def test_resumes_bit_for_bit_in_a_fresh_object(build, step, carry, rng):
    net, batches = network(), image_batches(rng, 6)
    optimizer = build(net)
    for batch in batches[:3]:
        step(optimizer, *batch)
    twin = network()
    twin.load_state_dict(carry(net.state_dict()))
    resumed = build(twin)
    resumed.load_state_dict(carry(optimizer.state_dict()))
    assert_close(resumed.state_dict(), optimizer.state_dict(), **BITWISE)
    for stepped in (resumed, optimizer):  # one after the other: shared state would have changed
        for batch in batches[3:]:
            step(stepped, *batch)
    assert_close(twin.state_dict(), net.state_dict(), **BITWISE)
    assert_close(resumed.state_dict(), optimizer.state_dict(), **BITWISE)


def test_loaded_learning_rates_and_a_scheduler_made_before_act(rng):
    net = network()
    saved = create_sigprop_optimizer(net, 0.1, 0.2).state_dict()
    optimizer = create_sigprop_optimizer(net)
    scheduler = LambdaLR(optimizer, lambda epoch: 0.0 if epoch else 1.0)
    optimizer.load_state_dict(saved)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2, 0.1, 0.1, 0.1]
    (x, y), *_ = image_batches(rng, 1)
    optimizer.learn(x, y)
    scheduler.step()
    before = copy.deepcopy(list(net.parameters()))
    optimizer.learn(x, y)
    assert_close(list(net.parameters()), before, check_stride=False, **BITWISE)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_with_its_network_and_is_independent_afterwards(duplicate, rng):
    net, batches = network(), image_batches(rng, 4)
    optimizer = create_sigprop_optimizer(net)
    optimizer.learn(*batches[0])
    twin, copied = duplicate((net, optimizer))
    assert copied.net is twin
    before = copy.deepcopy(net.state_dict())
    for batch in batches[1:]:
        copied.learn(*batch)
    assert_close(net.state_dict(), before, **BITWISE)
    for batch in batches[1:]:
        optimizer.learn(*batch)
    assert_close(twin.state_dict(), net.state_dict(), **BITWISE)
    copied.param_groups[0]["lr"] = 0.5
    assert copied.bases[0].param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["lr"] != 0.5


def test_checkpoint_of_something_else_is_refused_and_changes_nothing(rng):
    net = network()
    optimizer = create_sigprop_optimizer(net)
    optimizer.learn(*image_batches(rng, 1)[0])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="4 base optimizers under 'bases', got the keys"):
        optimizer.load_state_dict(Adam(net.parameters()).state_dict())
    with pytest.raises(ValueError, match="4 base optimizers under 'bases', got 3 of them"):
        optimizer.load_state_dict(create_sigprop_optimizer(SigPropNet(4, [3, 3], 3)).state_dict())
    with pytest.raises(ValueError, match="parameter group"):  # the first layer has no signal to learn there
        optimizer.load_state_dict(create_sigprop_optimizer(network(fixed_signal=True)).state_dict())
    other = copy.deepcopy(before)
    other["bases"][3]["param_groups"][0]["params"] = [0]
    with pytest.raises(ValueError, match="doesn't match"):
        optimizer.load_state_dict(other)
    assert_close(optimizer.state_dict(), before, **BITWISE)


# ---- torch's other promises --------------------------------------------------------------------------------------


def test_closure_is_called_once_with_gradients_enabled_and_its_loss_returned(rng):
    net = network()
    optimizer = create_sigprop_optimizer(net)
    (x, y), *_ = image_batches(rng, 1)
    calls: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        calls.append(sum(net.local_losses(x, y)))
        calls[-1].backward()
        return calls[-1]

    before = copy.deepcopy(list(net.parameters()))
    with torch.no_grad():
        loss = optimizer.step(closure)
    assert len(calls) == 1
    assert loss is calls[0]
    assert all(not torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert optimizer.step() is None


def test_step_without_gradients_moves_nothing(rng):
    net = network()
    before = copy.deepcopy(list(net.parameters()))
    momentum_sgd(net, weight_decay=0.1).step()
    assert_close(list(net.parameters()), before, **BITWISE)


def test_grad_scaler_changes_nothing_in_the_ordinary_loop_and_skips_an_overflow(rng):
    net = network()
    twin = copy.deepcopy(net)
    batches = image_batches(rng, 3)
    for model, scaler in ((net, torch.amp.GradScaler("cpu", 1024.0)), (twin, torch.amp.GradScaler(enabled=False))):
        optimizer = momentum_sgd(model)
        for x, y in batches:
            optimizer.zero_grad()
            scaler.scale(sum(model.local_losses(x, y))).backward()
            scaler.step(optimizer)
            scaler.update()
    assert_close(list(net.parameters()), list(twin.parameters()), rtol=1e-4, atol=1e-6)
    scaler = torch.amp.GradScaler("cpu", 1024.0)
    optimizer, before = momentum_sgd(net), copy.deepcopy(list(net.parameters()))
    scaler.scale(sum(net.local_losses(batches[0][0] * torch.inf, batches[0][1]))).backward()
    scaler.step(optimizer)
    assert_close(list(net.parameters()), before, check_stride=False, **BITWISE)


def test_repr_names_the_layers_rates():
    assert repr(create_sigprop_optimizer(network(), 0.1, 0.2)).count("lr: 0.1") == 4
