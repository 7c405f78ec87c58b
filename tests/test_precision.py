"""bfloat16 on a processor without its instructions: rounded factors and results, float32 sums, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.training import precision
from advanced_optimizers.experiments.training.loop import train
from advanced_optimizers.experiments.training.models import build_model
from tests.experiments_helpers import make_config

CPU = torch.device("cpu")
ULP = 2.0**-7  # the largest relative distance of two neighbors in bfloat16


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)


def products() -> dict[str, tuple[Callable[..., Tensor], list[Tensor]]]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "conv1d": (F.conv1d, [draw(2, 3, 9), draw(4, 3, 3), draw(4)]),
        "conv2d": (F.conv2d, [draw(2, 3, 8, 8), draw(4, 3, 3, 3), draw(4)]),
        "conv3d": (F.conv3d, [draw(2, 2, 4, 4, 4), draw(3, 2, 2, 2, 2), draw(3)]),
        "linear": (F.linear, [draw(6, 5), draw(7, 5), draw(7)]),
    }


@pytest.mark.parametrize("name", products())
def test_a_product_is_that_of_rounded_factors_rounded(name: str, without: None) -> None:
    function, tensors = products()[name]
    inputs = [tensor.requires_grad_() for tensor in tensors]
    with precision.autocast_of("bfloat16", CPU)():
        output = function(*inputs)
    assert output.dtype == torch.bfloat16
    exact = [tensor.detach().bfloat16().double().requires_grad_() for tensor in tensors]
    expected = function(*exact)
    torch.testing.assert_close(output.double(), expected, rtol=ULP, atol=1e-6)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    gradients = torch.autograd.grad(output, inputs, cotangent)
    for gradient, right in zip(gradients, torch.autograd.grad(expected, exact, cotangent.double()), strict=True):
        assert gradient.dtype == torch.float32
        assert torch.equal(gradient, gradient.bfloat16().float())  # it was rounded
        torch.testing.assert_close(gradient.double(), right, rtol=ULP, atol=1e-6)


def test_a_network_has_the_outputs_and_gradients_of_torch(without: None) -> None:
    torch.manual_seed(0)
    model = build_model("convnet", (3, 16, 16), 10, 0.5)
    images = torch.randn(8, 3, 16, 16)

    def gradients(context: Any) -> tuple[Tensor, list[Tensor]]:
        with context:
            logits = model(images)
        loss = F.cross_entropy(logits.float(), torch.arange(8))
        return logits, list(torch.autograd.grad(loss, list(model.parameters())))

    ours, theirs = gradients(precision.autocast_of("bfloat16", CPU)()), gradients(torch.autocast("cpu", torch.bfloat16))
    float32 = gradients(precision.autocast_of("float32", CPU)())
    assert ours[0].dtype == theirs[0].dtype == torch.bfloat16
    torch.testing.assert_close(ours[0].float(), theirs[0].float(), rtol=0.05, atol=0.05)

    def distance(one: list[Tensor], other: list[Tensor]) -> float:
        a, b = (torch.cat([g.flatten() for g in gradients]) for gradients in (one, other))
        return float((a - b).norm() / b.norm())

    # Roundings that fall differently are of the size of the roundings themselves.
    assert distance(ours[1], theirs[1]) <= 1.5 * distance(theirs[1], float32[1])
    assert distance(ours[1], float32[1]) == pytest.approx(distance(theirs[1], float32[1]), rel=0.3)


def test_float32_and_what_is_not_cast_are_left_alone(without: None) -> None:
    layer = nn.Linear(3, 2)
    with precision.autocast_of("float32", CPU)():
        assert layer(torch.ones(1, 3)).dtype == torch.float32
    with precision.autocast_of("bfloat16", CPU)():
        output = layer(torch.ones(1, 3))
        assert F.mse_loss(output, torch.zeros_like(output)).dtype == torch.float32  # by torch's autocast
        with torch.autocast("cpu", enabled=False):
            assert layer(torch.ones(1, 3)).dtype == torch.float32


def test_with_the_instructions_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    assert isinstance(precision.autocast_of("bfloat16", CPU)(), torch.autocast)


def test_a_run_is_repeatable(tmp_path: Any, without: None) -> None:
    config = make_config(model="convnet", precision="bfloat16", epochs=1, data_fraction=0.2)
    first, second = (train(config, RunStore(tmp_path / name / "runs")) for name in "ab")
    assert first.outcome() == second.outcome()
    assert first.status == "completed"
