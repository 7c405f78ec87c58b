"""The three optimizers in a training loop: closures, kernels that follow the loss, state, histories, nesting."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.testing import assert_close

from advanced_optimizers import (
    ConvolutionalSGD,
    ConvolutionalSGDv2,
    FEROptimizer,
    LocalLossConvSGD,
    create_optimizer,
    list_optimizers,
)
from advanced_optimizers.convolutional.history import LENGTH, History
from tests.harness import BITWISE, feed, make_batches, make_gradients, make_model, make_params, through_a_file, twins

KINDS = (ConvolutionalSGD, LocalLossConvSGD, ConvolutionalSGDv2)
every_kind = pytest.mark.parametrize("kind", KINDS)


# ---- names and calls -----------------------------------------------------------------------------------------------


def test_the_published_signatures():
    def positional(kind: type) -> list[tuple[str, Any]]:
        parameters = inspect.signature(kind).parameters.values()
        return [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]

    shared = [("lr", 0.01), ("momentum", 0.9), ("kernel_size", 3)]
    assert positional(ConvolutionalSGD) == [*shared, ("adaptive_kernel", True), ("kernel_lr", 0.001)]
    assert positional(LocalLossConvSGD) == [*shared, ("local_lr", 0.001), ("smoothness_weight", 0.1)]
    assert positional(ConvolutionalSGDv2) == [*shared, ("kernel_lr", 0.01), ("noise_estimation_momentum", 0.99)]


def test_the_readme_s_calls_run(rng):
    model, (batch,) = make_model(), make_batches(rng, 1)
    optimizer = ConvolutionalSGDv2(model.parameters(), lr=0.01, momentum=0.9, kernel_size=5, kernel_lr=0.005)

    def closure() -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    loss = closure()
    loss.backward()
    assert optimizer.step(closure).item() == pytest.approx(loss.item())
    kernels = optimizer.get_kernels()
    assert {place: kernel.shape for place, kernel in kernels["2d"].items()} == {0: (5, 5), 4: (5, 5)}
    assert kernels["1d"] == {}
    assert kernels["2d"][0].sum() == pytest.approx(1.0)
    assert set(optimizer.get_stats()) == {"length_ratio", "cosine", "snr"}


def test_their_names():
    assert set(list_optimizers("conv*")) == {"convolutional_sgd", "convolutional_sgdv2"}
    params = make_params(torch.Generator().manual_seed(0))
    optimizer: Any = create_optimizer("convolutional_sgd_v2", params, lr=0.2, kernel_size=5, weight_decay=0.1)
    assert type(optimizer) is ConvolutionalSGDv2
    assert [optimizer.param_groups[0][name] for name in ("lr", "momentum", "weight_decay")] == [0.2, 0.9, 0.1]
    over_adam: Any = create_optimizer("local_loss_conv_sgd", params, lr=0.2, base_optimizer="adam")
    assert (type(over_adam.base), over_adam.param_groups[0]["lr"]) == (Adam, 0.2)


# ---- closures ------------------------------------------------------------------------------------------------------


def trained(kind: Any, way: str) -> tuple[list[nn.Parameter], Any]:
    """Three steps with one of the ways to tell the loss."""
    torch.manual_seed(0)
    model = make_model()
    follows = {"kernel_lr": 1.0} if kind is ConvolutionalSGD else {}
    optimizer = kind(model.parameters(), 0.01, kernel_size=5, **follows)
    for x, y in make_batches(torch.Generator().manual_seed(1), 1) * 4:  # so that the loss falls
        calls = []

        def seeds(x: Tensor = x, y: Tensor = y, calls: list[int] = calls) -> Tensor:
            calls.append(1)
            return nn.functional.cross_entropy(model(x), y)

        def torchs(x: Tensor = x, y: Tensor = y, calls: list[int] = calls) -> Tensor:
            calls.append(1)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        shown = [p.grad.clone() for p in model.parameters()]
        closure = {"seed's": seeds, "torch's": torchs}.get(way)
        loss = optimizer.step(closure)
        assert (loss is None, len(calls)) == ((True, 0) if closure is None else (False, 1))
        assert_close([p.grad for p in model.parameters()], shown, **BITWISE)
    return list(model.parameters()), optimizer


@every_kind
def test_both_kinds_of_closures_give_the_same_step(kind):
    params, _ = trained(kind, "seed's")
    others, _ = trained(kind, "torch's")
    assert_close(params, others, rtol=0, atol=1e-7)
    without, _ = trained(kind, "none")
    assert all(torch.equal(a, b) for a, b in zip(params, without, strict=True)) == (kind is not ConvolutionalSGD)


# ---- version 1's kernel --------------------------------------------------------------------------------------------


def hearing(losses: list[Any], **settings: Any) -> ConvolutionalSGD:
    p = nn.Parameter(torch.zeros(8))
    optimizer = ConvolutionalSGD([p], kernel_size=5, **{"kernel_lr": 0.1, **settings})
    for loss in losses:
        p.grad = torch.ones(8)
        optimizer.step(lambda loss=loss: loss)
    return optimizer


def test_a_scripted_sequence_of_losses():
    history = hearing([1.0, 0.5, 0.7]).get_kernel_history()
    sides, centers = (0.2, 0.18182, 0.18364), (0.2, 0.27273, 0.26545)
    expected = [[side, side, center, side, side] for side, center in zip(sides, centers, strict=True)]
    assert_close(torch.stack(history).float(), torch.tensor(expected), rtol=0, atol=1e-5)


def test_equal_losses_count_as_not_fallen_and_nan_as_none():
    assert float(hearing([1.0, 0.5, 0.5]).get_kernel()[2]) == pytest.approx(0.9 * 0.3 / 1.1 + 0.02)
    fell = hearing([1.0, 0.5]).get_kernel()
    assert_close(hearing([math.nan, 1.0, math.nan, 0.5, math.nan]).get_kernel(), fell, **BITWISE)
    assert_close(hearing([torch.tensor(1.0), torch.tensor([0.5])]).get_kernel(), fell, **BITWISE)
    assert_close(hearing([1.0, None, 0.5]).get_kernel(), fell, **BITWISE)


@pytest.mark.parametrize("settings", [{"adaptive_kernel": False}, {"kernel_lr": 0.0}], ids=str)
def test_a_kernel_that_does_not_follow(settings):
    optimizer = hearing([1.0, 0.5, 0.2], **settings)
    assert_close(optimizer.get_kernel(), torch.full((5,), 0.2, dtype=torch.float64), rtol=0, atol=1e-15)


def test_what_smooths_is_the_blend():
    optimizer = hearing([])
    assert optimizer.get_kernel(effective=True).tolist() == pytest.approx([0.1584, 0.1584, 0.3664, 0.1584, 0.1584])
    p = optimizer.param_groups[0]["params"][0]
    p.grad = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    optimizer.step()
    moved = -p.detach() / 0.01
    assert moved[1:6].tolist() == pytest.approx(optimizer.get_kernel(effective=True).tolist(), abs=1e-6)


def test_no_loss_acts_on_its_own_step():
    first, second = hearing([1.0, 0.5]), hearing([1.0, 2.0])
    assert torch.equal(first.param_groups[0]["params"][0], second.param_groups[0]["params"][0])
    assert not torch.equal(first.get_kernel(), second.get_kernel())


@pytest.mark.slow
def test_coin_tosses_keep_the_kernel_near_the_box():
    losses = torch.rand(4000, generator=torch.Generator().manual_seed(0)).tolist()
    optimizer = hearing(losses, kernel_lr=0.001)
    centers = torch.stack(optimizer.get_kernel_history())[:, 2]
    assert float(centers[-200:].mean()) == pytest.approx(0.208, abs=0.003)
    # Until the center passes that of the least blend, what smooths does not change at all.
    assert_close(optimizer.get_kernel(effective=True), hearing([]).get_kernel(effective=True), rtol=0, atol=1e-12)


def test_each_group_has_its_kernel():
    params = [nn.Parameter(torch.zeros(8)) for _ in range(2)]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "kernel_size": 3, "kernel_lr": 0.5}]
    optimizer = ConvolutionalSGD(groups, kernel_size=5, kernel_lr=0.1)
    for loss in (1.0, 0.5):
        feed(optimizer, params, [[torch.ones(8)] * 2])
        optimizer.step(lambda loss=loss: loss)
    assert float(optimizer.get_kernel(0)[2]) == pytest.approx(0.3 / 1.1)
    assert float(optimizer.get_kernel(1)[1]) == pytest.approx((1 / 3 + 0.5) / 1.5)
    assert [len(optimizer.get_kernel_history(group)) for group in (0, 1)] == [2, 2]


def test_it_hears_the_loss_inside_another_transform():
    p = nn.Parameter(torch.zeros(8))
    optimizer: Any = FEROptimizer([p], ConvolutionalSGD, {"kernel_size": 5, "kernel_lr": 0.1})
    for loss in (1.0, 0.5):
        p.grad = torch.ones(8)
        optimizer.step(lambda loss=loss: loss)
    assert float(optimizer.base.get_kernel()[2]) == pytest.approx(0.3 / 1.1)


def test_a_private_model_s_loss_is_not_followed():
    p = nn.Parameter(torch.zeros(8))
    p.grad, p.grad_sample = torch.ones(8), torch.ones(2, 8)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"ConvolutionalSGD\(adaptive_kernel=True\) cannot train.*Opacus"):
        ConvolutionalSGD([p]).step(lambda: 1.0)
    ConvolutionalSGD([p], adaptive_kernel=False).step(lambda: 1.0)


# ---- state ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carry", [copy.deepcopy, through_a_file], ids=["copy", "file"])
def test_a_followed_kernel_resumes_bit_for_bit(carry):
    losses = [1.0, 0.5, 0.7, 0.6, 0.8]
    optimizer = hearing(losses[:3])
    twin = twins(optimizer.param_groups[0]["params"])
    resumed = ConvolutionalSGD(twin, kernel_size=5, kernel_lr=0.1)
    resumed.load_state_dict(carry(optimizer.state_dict()))
    for loss in losses[3:]:
        for each in (optimizer, resumed):
            each.param_groups[0]["params"][0].grad = torch.linspace(0, 1, 8)
            each.step(lambda loss=loss: loss)
    assert_close(resumed.get_kernel(), optimizer.get_kernel(), **BITWISE)
    assert_close(twin, optimizer.param_groups[0]["params"], **BITWISE)
    assert resumed.get_kernel_history()[-1].equal(optimizer.get_kernel_history()[-1])


@every_kind
def test_histories_are_not_in_a_checkpoint(kind, rng):
    params = make_params(rng)
    optimizer = kind(params)
    feed(optimizer, params, make_gradients(rng, params, steps=2))
    assert optimizer.state_dict().keys() == {"state", "param_groups"}


@every_kind
def test_permuted_axes_resume_bit_for_bit(kind, rng):
    params = make_params(rng)
    settings: dict[str, Any] = {"kernel_size": 5, "permute_axes": 1}
    optimizer, gradients = kind(params, **settings), make_gradients(rng, params, steps=8)
    feed(optimizer, params, gradients[:4])
    twin = twins(params)
    resumed = kind(twin, **{**settings, "permute_axes": 2})  # the checkpoint's orders count
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    feed(optimizer, params, gradients[4:])
    feed(resumed, twin, gradients[4:])
    assert_close(twin, params, **BITWISE)


def test_settings_that_the_kernels_depend_on_cannot_change():
    p = nn.Parameter(torch.zeros(6, 9))
    optimizer = ConvolutionalSGDv2([p])
    p.grad = torch.ones(6, 9)
    optimizer.step()
    optimizer.param_groups[0]["kernel_size"] = 5
    with pytest.raises(ValueError, match=r"kernel_size=5 .* shape \(2, 3\), but .* \(6, 9\) has one of shape \(2, 2\)"):
        optimizer.step()


def test_a_history_stays_short():
    history = History()
    for i in range(10 * LENGTH):
        history.append(torch.tensor(i))
    rows = [int(row) for row in history.read()]
    assert LENGTH // 2 <= len(rows) <= LENGTH
    assert rows == list(range(0, 10 * LENGTH, history.every))


# ---- what is built on it -------------------------------------------------------------------------------------------


def test_version_2_leaves_biases_and_norms_alone(rng):
    model = make_model()
    optimizer = ConvolutionalSGDv2(model.parameters(), kernel_size=5)
    x, y = make_batches(rng, 1)[0]
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    kept = [place for place, p in enumerate(model.parameters()) if "kernel" in optimizer.state[p]]
    assert kept == [0, 4]


def test_weight_decay_is_not_smoothed(rng):
    params, others = make_params(rng), make_params(rng)
    for p, q in zip(params, others, strict=True):
        q.data.copy_(p)
    decay = {"weight_decay": 0.1}
    optimizer = ConvolutionalSGD(params, 0.1, 0.0, kernel_size=5, base_optimizer_kwargs=decay)
    feed(optimizer, params, [[torch.zeros_like(p) for p in params]])
    feed(SGD(others, 0.1, **decay), others, [[torch.zeros_like(p) for p in others]])
    assert_close(params, others, **BITWISE)
