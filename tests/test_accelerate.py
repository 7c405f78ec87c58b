"""Our optimizers behind accelerate's ``prepare``: they agree with a plain loop; what the wrapper hides is listed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from advanced_optimizers import FlippingErrorReduction, LocalizedOptimizer, create_optimizer
from advanced_optimizers.integrations import IndexedDataset
from tests.framework_helpers import (
    CLASSES,
    EPOCHS,
    OPTIMIZERS,
    SAMPLES,
    assert_moved,
    assert_same,
    data,
    end_epoch,
    every_optimizer,
    loader,
    loss_of,
    model_for,
    tensors_of,
    trained,
)

accelerate = pytest.importorskip("accelerate", reason="needs the extra `frameworks`")
from accelerate import Accelerator  # noqa: E402
from accelerate.state import AcceleratorState, GradientState  # noqa: E402


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Accelerate keeps the settings of the first Accelerator in a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Run:
    """A model and its optimizer, prepared."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.accelerator = Accelerator(cpu=True, **settings)
        plain = model_for(name)
        self.optimizer, self.model, self.batches = self.accelerator.prepare(OPTIMIZERS[name](plain), plain, loader())

    def train(self, epochs: int = EPOCHS) -> None:
        for _ in range(epochs):
            losses = []
            for x, y in self.batches:
                with self.accelerator.accumulate(self.model):
                    loss = loss_of(self.model, x, y)
                    self.accelerator.backward(loss)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                    losses.append(loss.item())
            end_epoch(self.optimizer.optimizer, losses)


@every_optimizer
@pytest.mark.parametrize("every", [1, 4])
def test_a_prepared_optimizer_agrees_with_a_plain_loop(name: str, every: int):
    """Also with the gradients of four batches accumulated, of which the last step has two."""
    run = Run(name, gradient_accumulation_steps=every)
    run.train()
    assert_same(run.model, trained(name, every=every))
    assert_moved(run.model, name)


@every_optimizer
def test_a_resumed_run_is_the_same(name: str, tmp_path: Path):
    whole = Run(name)
    whole.train(2)
    whole.accelerator.save_state(str(tmp_path))
    whole.train(1)
    fresh_states()
    resumed = Run(name)
    resumed.accelerator.load_state(str(tmp_path))
    resumed.train(1)
    assert_same(resumed.model, whole.model)
    states = [list(tensors_of(run.optimizer.state_dict())) for run in (resumed, whole)]
    torch.testing.assert_close(*states, rtol=0.0, atol=0.0)


def fresh_states() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "sigprop"])
def test_bfloat16(name: str):
    run = Run(name, mixed_precision="bf16")
    run.train()
    assert_moved(run.model, name)
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in run.model.parameters())


def test_a_prepared_schedule_acts_on_the_base_too():
    accelerator = Accelerator(cpu=True)
    model = model_for("fer")
    optimizer = OPTIMIZERS["fer"](model)
    prepared, schedule = accelerator.prepare(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5))
    nn.functional.cross_entropy(model(torch.ones(2, 6)), torch.tensor([0, 1])).backward()
    prepared.step()
    schedule.step()
    assert optimizer.base.param_groups[0]["lr"] == prepared.param_groups[0]["lr"] == 0.025


def test_the_flipping_loss_is_prepared_with_the_model_and_saved(tmp_path: Path):
    def started() -> tuple[Accelerator, nn.Module, torch.optim.Optimizer]:
        accelerator = Accelerator(cpu=True)
        both = nn.ModuleDict({"model": model_for("fer"), "criterion": FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)})
        return accelerator, *accelerator.prepare(both, create_optimizer("fer", both["model"], lr=0.05))

    def train(accelerator: Accelerator, both: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
        both["criterion"].set_epoch(epoch)
        for x, y, indices in loader(IndexedDataset(data())):
            accelerator.backward(both["criterion"](both["model"](x), y, indices))
            optimizer.step()
            optimizer.zero_grad()

    whole = started()
    train(*whole, 1)
    whole[0].save_state(str(tmp_path))
    train(*whole, 2)
    fresh_states()
    resumed = started()
    resumed[0].load_state(str(tmp_path))
    train(*resumed, 2)
    assert resumed[1]["criterion"].remembered.any()
    assert_same(resumed[1], whole[1])


def test_the_wrapper_hides_what_only_our_optimizers_have():
    """``prepare`` returns accelerate's own optimizer; the local learner is inside, under ``optimizer``."""
    run = Run("localized")
    assert not hasattr(run.optimizer, "end_epoch")
    assert isinstance(run.optimizer.optimizer, LocalizedOptimizer)
