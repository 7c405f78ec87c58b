"""Our optimizers under timm's names: its groups, schedules and checkpoints act on them as on timm's own."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advanced_optimizers import (
    ConvolutionalSGDv2,
    FEROptimizer,
    FlippingErrorReduction,
    GradientCorrectionOptimizer,
    LocalizedOptimizer,
    StaticTransition,
)
from tests.framework_helpers import tensors_of

timm = pytest.importorskip("timm", reason="needs the extra `frameworks`")
from timm.optim import create_optimizer_v2, list_optimizers  # noqa: E402
from timm.scheduler import CosineLRScheduler  # noqa: E402
from timm.utils import CheckpointSaver, NativeScaler  # noqa: E402

from advanced_optimizers.integrations.timm import register_optimizers  # noqa: E402

NAMES = register_optimizers()
CLASSES = 3
every_name = pytest.mark.parametrize("name", NAMES)


def vit() -> nn.Module:
    torch.manual_seed(3)
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **sizes)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 8, 8, generator=rng), torch.randint(CLASSES, (4,), generator=rng)


def train(model: nn.Module, optimizer: Optimizer, seeds: range, every: int = 1, bfloat16: bool = False) -> None:
    for seed in seeds:
        x, y = batch(seed)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = nn.functional.cross_entropy(model(x), y) / every
        loss.backward()
        if (seed + 1) % every == 0:
            optimizer.step()
            optimizer.zero_grad()


def test_the_names():
    assert NAMES == ["convolutionalsgd", "convolutionalsgdv2", "fer", "gradientcorrection", "locallossconvsgd"]
    assert set(NAMES) <= set(list_optimizers())
    assert timm.optim.get_optimizer_info("fer").description.startswith("Gradient-consistency FER")
    assert register_optimizers() == NAMES


def test_registering_twice_says_nothing():
    with mock.patch.object(logging.Logger, "handle") as handle:
        register_optimizers()
    assert not handle.called


@every_name
def test_weight_decay_spares_biases_and_norms(name: str):
    model = vit()
    optimizer = create_optimizer_v2(model, name, lr=0.01, weight_decay=0.05)
    decays = {p: group["weight_decay"] for group in optimizer.base.param_groups for p in group["params"]}
    spared = model.no_weight_decay()
    assert {n: decays[p] for n, p in model.named_parameters()} == {
        n: 0.0 if p.ndim <= 1 or n in spared else 0.05 for n, p in model.named_parameters()
    }


@every_name
def test_layer_decay_and_a_schedule_scale_each_layers_rate(name: str):
    model = vit()
    optimizer = create_optimizer_v2(model, name, lr=0.01, layer_decay=0.5)
    schedule = CosineLRScheduler(optimizer, t_initial=10, warmup_t=2, warmup_lr_init=1e-4)
    for epoch in (0, 1, 5):
        schedule.step(epoch)
        rates = {group["lr_scale"]: group["lr"] for group in optimizer.base.param_groups}
        assert len(rates) > 2
        assert [rate / scale for scale, rate in rates.items()] == pytest.approx([rates[1.0]] * len(rates))
    before = [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, range(1))
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["fer", "gradientcorrection"])
def test_it_is_our_class_with_our_arguments(name: str):
    model, other = vit(), vit()
    kind = FEROptimizer if name == "fer" else GradientCorrectionOptimizer
    optimizer = create_optimizer_v2(model, name, lr=0.01, betas=(0.8, 0.9), eps=1e-6)
    assert type(optimizer) is kind
    train(model, optimizer, range(4))
    decay = [{"params": [], "weight_decay": 0.0}, {"params": list(other.parameters()), "weight_decay": 0.0}]
    settings = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6}
    train(other, kind(decay[1:], torch.optim.Adam, settings), range(4))
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0.0, atol=1e-6)


def test_a_momentum_reaches_the_optimizers_over_sgd():
    optimizer = create_optimizer_v2(vit(), "convolutionalsgdv2", lr=0.01, momentum=0.8, kernel_size=5)
    assert type(optimizer) is ConvolutionalSGDv2
    assert (optimizer.param_groups[0]["momentum"], optimizer.param_groups[0]["kernel_size"]) == (0.8, 5)


@pytest.mark.parametrize(("base", "kind"), [("lamb", "Lamb"), ("adamw", "AdamW"), ("sgd", "SGD"), ("momentum", "SGD")])
def test_a_base_in_timm_by_its_name(base: str, kind: str):
    optimizer = create_optimizer_v2(vit(), "fer", lr=0.01, base_optimizer=base, fer_weight=0.3)
    assert type(optimizer.base).__name__ == kind
    assert optimizer.param_groups[0]["fer_weight"] == 0.3
    if kind == "SGD":
        assert optimizer.param_groups[0]["momentum"] == 0.9  # as timm builds it
        assert optimizer.param_groups[0]["nesterov"] is (base == "sgd")


def test_an_unknown_base_is_answered_with_the_nearest_name():
    with pytest.raises(ValueError, match="no base_optimizer in timm is named 'lambb'; did you mean lamb"):
        create_optimizer_v2(vit(), "fer", base_optimizer="lambb")


def test_an_unknown_argument_is_answered_with_the_nearest_name():
    with pytest.raises(ValueError, match="no argument of 'fer' is named 'fer_wieght'; did you mean fer_weight"):
        create_optimizer_v2(vit(), "fer", fer_wieght=0.5)


def test_the_training_scripts_arguments():
    arguments = argparse.Namespace(
        opt="fer", lr=0.01, weight_decay=0.05, momentum=0.9, opt_args={"fer_weight": 0.5, "base_optimizer": "adamw"}
    )
    optimizer = timm.optim.create_optimizer(arguments, vit())
    assert type(optimizer.base).__name__ == "AdamW"
    assert len(optimizer.param_groups) == 2


@every_name
def test_lookahead_around_it(name: str):
    model = vit()
    optimizer = create_optimizer_v2(model, f"lookahead_{name}", lr=0.01)
    optimizer.param_groups[0]["lookahead_k"] = 2
    train(model, optimizer, range(4))
    assert all(p.isfinite().all() for p in model.parameters())
    assert any("lookahead_slow_buff" in state for state in optimizer._base_optimizer.state.values())


@every_name
def test_a_checkpoint_of_timm_resumes_bit_for_bit(name: str, tmp_path: Path):
    whole = vit()
    optimizer = create_optimizer_v2(whole, name, lr=0.01, weight_decay=0.05)
    train(whole, optimizer, range(4))
    CheckpointSaver(whole, optimizer, checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path)).save_checkpoint(0, 0.5)
    train(whole, optimizer, range(4, 8))
    resumed = vit()
    other = create_optimizer_v2(resumed, name, lr=0.01, weight_decay=0.05)
    timm.models.resume_checkpoint(resumed, str(tmp_path / "last.pth.tar"), other, log_info=False)
    train(resumed, other, range(4, 8))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0.0, atol=0.0)
    states = [list(tensors_of(each.state_dict())) for each in (other, optimizer)]
    torch.testing.assert_close(*states, rtol=0.0, atol=0.0)


@every_name
def test_timms_scaler_accumulates_and_clips(name: str):
    """``NativeScaler`` runs backward, clips and steps, as in timm's training script."""
    model, other = vit(), vit()
    optimizer = create_optimizer_v2(model, name, lr=0.01)
    scaler = NativeScaler("cpu")
    for seed in range(4):
        x, y = batch(seed)
        loss = nn.functional.cross_entropy(model(x), y) / 2
        scaler(loss, optimizer, clip_grad=1e9, parameters=model.parameters(), need_update=seed % 2 == 1)
        if seed % 2:
            optimizer.zero_grad()
    train(other, create_optimizer_v2(other, name, lr=0.01), range(4), every=2)
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0.0, atol=2e-3)


@every_name
def test_bfloat16(name: str):
    model = vit()
    train(model, create_optimizer_v2(model, name, lr=0.01), range(3), bfloat16=True)
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in model.parameters())


def test_local_learning_takes_a_model_of_timm_itself():
    """timm's registry passes parameters only, so the optimizer is built without it."""
    model = vit()
    optimizer = LocalizedOptimizer(model, torch.optim.SGD, {"lr": 0.05}, selection=StaticTransition(total_epochs=1))
    assert not any("localized" in name or "sigprop" in name for name in list_optimizers())
    schedule = CosineLRScheduler(optimizer, t_initial=10)
    for epoch in range(2):
        train(model, optimizer, range(2))
        optimizer.end_epoch(1.0)
        schedule.step(epoch + 1)
    assert optimizer.transition > 0


def test_the_flipping_loss_with_a_model_of_timm():
    model, criterion = vit(), FlippingErrorReduction(8, CLASSES, total_epochs=3)
    optimizer = create_optimizer_v2(model, "fer", lr=0.01)
    for epoch in (1, 2, 3):
        criterion.set_epoch(epoch)
        for seed in range(2):
            x, y = batch(seed)
            optimizer.zero_grad()
            criterion(model(x), y, torch.arange(4) + 4 * seed).backward()
            optimizer.step()
    assert criterion.remembered.any()
