"""Our optimizers and losses in Lightning's Trainer, which agrees with a plain loop; and the callback."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from advanced_optimizers import FEROptimizer, FlippingErrorReduction, LocalizedOptimizer
from advanced_optimizers.integrations import IndexedDataset
from tests.framework_helpers import (
    BATCH,
    CLASSES,
    EPOCHS,
    OPTIMIZERS,
    SAMPLES,
    assert_moved,
    assert_same,
    data,
    every_optimizer,
    loader,
    localized,
    loss_of,
    model_for,
    train,
    trained,
)

lightning = pytest.importorskip("lightning.pytorch", reason="needs the extra `frameworks`")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

from advanced_optimizers.integrations.lightning import EpochCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Classifier(lightning.LightningModule):
    """A model and its optimizer; with ``flipping`` the loss remembers samples."""

    def __init__(self, name: str, *, flipping: bool = False, total_epochs: int = EPOCHS, returns_loss: bool = True):
        super().__init__()
        self.name, self.returns_loss = name, returns_loss
        self.model = model_for(name)
        self.criterion = FlippingErrorReduction(SAMPLES, CLASSES, total_epochs, mu=1.0) if flipping else None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if not self.returns_loss:
            return None
        x, y, *indices = batch
        return loss_of(self.model, x, y) if self.criterion is None else self.criterion(self.model(x), y, *indices)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.model(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return OPTIMIZERS[self.name](self.model)


def trainer(folder: Path, epochs: int = EPOCHS, callbacks: tuple[Any, ...] = (), **settings: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[EpochCallback(), *callbacks],
        **{"enable_checkpointing": bool(callbacks), **quiet, **settings},
    )


class Resumable(DataLoader[Any]):
    """A loader that goes on where it was; from torch's own, Lightning reads an epoch from its beginning again."""

    position = start = 0

    def __iter__(self) -> Iterator[Any]:
        start, self.start = self.start, 0
        for i, batch in enumerate(super().__iter__()):
            if i >= start:
                self.position = i + 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.start = state_dict["position"] % len(self)


def fit(module: Any, folder: Path, *args: Any, checkpoint: Path | None = None, dataset: Any = None, **settings: Any):
    run = trainer(folder, *args, **settings)
    run.fit(
        module,
        Resumable(dataset or data(), BATCH),
        ckpt_path=checkpoint,
        **({"weights_only": True} if checkpoint else {}),
    )
    return run


@every_optimizer
def test_the_trainer_agrees_with_a_plain_loop(name: str, tmp_path: Path):
    module = Classifier(name)
    fit(module, tmp_path)
    assert_same(module.model, trained(name))
    assert_moved(module.model, name)


@every_optimizer
def test_accumulated_gradients_agree_with_a_plain_loop(name: str, tmp_path: Path):
    module = Classifier(name)
    fit(module, tmp_path, accumulate_grad_batches=4)  # the last step of an epoch has two batches
    assert_same(module.model, trained(name, every=4))


def checkpoints(folder: Path, **settings: Any) -> Any:
    return ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **settings)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "flipping"])
@pytest.mark.parametrize("steps", [1, None], ids=["every step", "every epoch"])
def test_a_resumed_run_is_the_same(name: str, steps: int | None, tmp_path: Path):
    """From each checkpoint, in the middle of an epoch and at its end, the run ends with the same bits."""
    flipping = name == "flipping"
    arguments = {"name": "fer" if flipping else name, "flipping": flipping}
    dataset = IndexedDataset(data()) if flipping else data()
    whole = Classifier(**arguments)
    saved = checkpoints(tmp_path / "saved", every_n_train_steps=steps)
    run = fit(whole, tmp_path, callbacks=(saved,), dataset=dataset)
    batches = SAMPLES // BATCH
    for step in (batches - 1, batches, 2 * batches - 2) if steps else (batches, 2 * batches):
        resumed = Classifier(**arguments)
        checkpoint = tmp_path / "saved" / f"step={step}.ckpt"
        other = fit(resumed, tmp_path, dataset=dataset, checkpoint=checkpoint)
        assert other.global_step == EPOCHS * batches
        assert_same(resumed, whole)
        if name == "localized":
            assert other.optimizers[0].loss_history == run.optimizers[0].loss_history


@pytest.mark.parametrize("name", [*OPTIMIZERS, "flipping"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16(name: str, precision: str, tmp_path: Path):
    flipping = name == "flipping"
    module = Classifier("fer" if flipping else name, flipping=flipping)
    fit(module, tmp_path, precision=precision, dataset=IndexedDataset(data()) if flipping else None)
    assert_moved(module.model, module.name)
    wanted = torch.float32 if precision == "bf16-mixed" else torch.bfloat16
    assert all(p.isfinite().all() and p.dtype == wanted for p in module.parameters())


# ---- the callback ----------------------------------------------------------------------------------------------------


def losses_of_epochs(accumulate: int = 1) -> list[float]:
    model = model_for("localized")
    optimizer = localized(model)
    train(model, optimizer, every=accumulate)
    return optimizer.loss_history


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_local_learner_hears_each_epochs_loss(accumulate: int, tmp_path: Path):
    run = fit(Classifier("localized"), tmp_path, accumulate_grad_batches=accumulate)
    (optimizer,) = run.optimizers
    assert isinstance(optimizer, LocalizedOptimizer)
    assert optimizer.loss_history == pytest.approx(losses_of_epochs(accumulate), rel=1e-6)
    assert optimizer.transition == 1


def test_the_epoch_is_over_before_validation_and_checkpoints(tmp_path: Path):
    class Listener(lightning.Callback):
        def __init__(self) -> None:
            self.heard: list[int] = []

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            self.heard.append(len(trainer.optimizers[0].loss_history))

    module, listener = Classifier("localized"), Listener()
    trainer(tmp_path, callbacks=(listener,), num_sanity_val_steps=0).fit(module, loader(), loader())
    assert listener.heard == [1, 2, 3]


def test_an_epoch_of_limited_or_skipped_batches_ends_too(tmp_path: Path):
    class Skipping(Classifier):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 2 else None

    for module, settings in ((Classifier("localized"), {"limit_train_batches": 2}), (Skipping("localized"), {})):
        run = fit(module, tmp_path, **settings)
        assert len(run.optimizers[0].loss_history) == EPOCHS


def test_the_flipping_loss_hears_each_epoch_and_remembers(tmp_path: Path):
    module = Classifier("fer", flipping=True)
    heard = []
    module.criterion.register_forward_pre_hook(lambda criterion, args: heard.append(int(criterion.epoch)))
    fit(module, tmp_path, dataset=IndexedDataset(data()))
    assert heard == [epoch for epoch in (1, 2, 3) for _ in range(SAMPLES // BATCH)]
    model, criterion = model_for("fer"), FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS, mu=1.0)
    optimizer = OPTIMIZERS["fer"](model)
    for epoch in range(1, EPOCHS + 1):
        criterion.set_epoch(epoch)
        for x, y, indices in loader(IndexedDataset(data())):
            optimizer.zero_grad()
            criterion(model(x), y, indices).backward()
            optimizer.step()
    assert_same(module.criterion, criterion)
    assert_same(module.model, model)


def test_a_module_that_steps_by_itself_agrees_with_a_plain_loop(tmp_path: Path):
    class Manual(Classifier):
        def __init__(self) -> None:
            super().__init__("localized")
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = loss_of(self.model, *batch)
            self.manual_backward(loss)
            optimizer.step()
            return loss

    module = Manual()
    run = fit(module, tmp_path)
    assert_same(module.model, trained("localized"))
    assert run.optimizers[0].loss_history == pytest.approx(losses_of_epochs(), rel=1e-6)


def test_a_run_longer_than_the_loss_was_built_for_is_refused_at_its_start(tmp_path: Path):
    module = Classifier("fer", flipping=True, total_epochs=2)
    with pytest.raises(ValueError, match=r"total_epochs .* 3 epochs, got 2"):
        fit(module, tmp_path, dataset=IndexedDataset(data()))
    assert_same(module.model, model_for("fer"))


def test_a_step_without_a_loss_is_an_error(tmp_path: Path):
    with pytest.raises(RuntimeError, match="training_step of Classifier must return the loss, got None"):
        fit(Classifier("localized", returns_loss=False), tmp_path)


def test_a_callback_with_nothing_to_do_says_so(tmp_path: Path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(Classifier("fer"), tmp_path, 1)
    assert sum("EpochCallback found neither a LocalizedOptimizer" in str(w.message) for w in caught) == 1


def test_clipping_and_a_schedule(tmp_path: Path):
    class Scheduled(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = FEROptimizer(self.model.parameters(), base_optimizer_kwargs={"lr": 0.05})
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    module = Scheduled("fer")
    run = fit(module, tmp_path, gradient_clip_val=0.1)
    model = model_for("fer")
    optimizer = FEROptimizer(model.parameters(), base_optimizer_kwargs={"lr": 0.05})
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5**epoch
        for x, y in loader():
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
    assert run.optimizers[0].base.param_groups[0]["lr"] == 0.05 * 0.5**EPOCHS
    assert_same(module.model, model)
