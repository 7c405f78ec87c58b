"""Our optimizers and losses in Hugging Face's Trainer, which agrees with a plain loop; and the callback."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset, IterableDataset, SequentialSampler

from advanced_optimizers import FEROptimizer, FlippingErrorReduction, LocalizedOptimizer, MuReadout, set_base_shapes
from advanced_optimizers.integrations import IndexedDataset
from tests.framework_helpers import OPTIMIZERS, assert_same, tensors_of

pytest.importorskip("transformers", reason="needs the extra `frameworks`")
pytest.importorskip("accelerate", reason="needs the extra `frameworks`")
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from advanced_optimizers.integrations.transformers import EpochCallback, FlippingErrorClassifier

SAMPLES, LENGTH, WORDS, CLASSES, BATCH, EPOCHS = 12, 5, 20, 3, 4, 2
STEPS = SAMPLES // BATCH
OURS = ("fer", "gradient correction", "convolution", "localized", "mu_adamw")


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """The Trainer collects garbage at each start, which takes a second among the objects of so many modules."""
    gc.freeze()
    yield
    gc.unfreeze()


class Sentences(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(1)
        self.words = torch.randint(WORDS, (SAMPLES, LENGTH), generator=rng)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.words[index], "labels": int(self.words[index, 0]) % CLASSES}


def bert() -> Any:
    torch.manual_seed(3)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=WORDS, num_labels=CLASSES, max_position_embeddings=LENGTH, **sizes, **dropout)
    model = BertForSequenceClassification(config)
    model.accepts_loss_kwargs = False  # its loss is a mean over the batch, whatever its signature says
    return model


class WideReadout(nn.Module):
    """A model of its own kind, since a BERT has no muP readout."""

    accepts_loss_kwargs = False

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = nn.Sequential(nn.Embedding(WORDS, width), nn.Linear(width, width), nn.ReLU(), nn.Flatten())
        self.layers = nn.Sequential(*hidden, MuReadout(LENGTH * width, CLASSES))

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.layers(input_ids)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def with_mup() -> nn.Module:
    torch.manual_seed(3)
    return set_base_shapes(WideReadout(8), WideReadout(4))


def with_flipping(total_epochs: int = EPOCHS) -> FlippingErrorClassifier:
    return FlippingErrorClassifier(bert(), FlippingErrorReduction(SAMPLES, CLASSES, total_epochs))


def model_for(name: str) -> nn.Module:
    return {"flipping": with_flipping, "mu_adamw": with_mup}.get(name, bert)()


def optimizer_for(name: str, model: nn.Module) -> Optimizer:
    return OPTIMIZERS["fer" if name == "flipping" else name](model)


class InOrder(Trainer):
    """Reads the samples in their order, as the plain loop does."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(range(SAMPLES))


def trainer(folder: Path, model: nn.Module, optimizer: Optimizer, **settings: Any) -> Trainer:
    arguments = TrainingArguments(
        folder,
        **{
            "num_train_epochs": EPOCHS,
            "per_device_train_batch_size": BATCH,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_strategy": "no",
            "remove_unused_columns": False,
            "dataloader_pin_memory": False,
            "seed": 5,
            **settings,
        },
    )
    dataset = Sentences() if not isinstance(model, FlippingErrorClassifier) else IndexedDataset(Sentences())
    return InOrder(
        model,
        arguments,
        train_dataset=dataset,
        eval_dataset=Sentences(),
        optimizers=(optimizer, None),
        callbacks=[EpochCallback()],
    )


def fit(folder: Path, name: str, *, checkpoint: Path | None = None, **settings: Any) -> Trainer:
    model = model_for(name)
    run = trainer(folder, model, optimizer_for(name, model), **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "EpochCallback found neither")
        run.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return run


def batches(run: Trainer) -> Iterator[Any]:
    """The batches of one epoch."""
    for start in range(0, SAMPLES, BATCH):
        yield default_data_collator([run.train_dataset[i] for i in range(start, start + BATCH)])


def plain(name: str, run: Trainer, every: int = 1) -> tuple[nn.Module, Optimizer]:
    model = model_for(name)
    optimizer = optimizer_for(name, model)
    for epoch in range(EPOCHS):
        if isinstance(model, FlippingErrorClassifier):
            model.criterion.set_epoch(epoch + 1)
        losses = []
        for i, batch in enumerate(batches(run), start=1):
            loss = model(**batch)["loss"]
            (loss / every).backward()
            losses.append(loss.item())
            if i % every == 0 or i == STEPS:
                optimizer.step()
                optimizer.zero_grad()
        if isinstance(optimizer, LocalizedOptimizer):
            optimizer.end_epoch(sum(losses) / len(losses))
    return model, optimizer


def assert_moved(model: nn.Module, name: str) -> None:
    before = model_for(name).state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", [*OURS, "flipping"])
def test_the_trainer_agrees_with_a_plain_loop(name: str, tmp_path: Path):
    run = fit(tmp_path, name)
    model, _ = plain(name, run)
    assert_same(run.model, model)
    assert_moved(model, name)


@pytest.mark.parametrize("name", [*OURS, "flipping"])
def test_accumulated_gradients_agree_with_a_plain_loop(name: str, tmp_path: Path):
    run = fit(tmp_path, name, gradient_accumulation_steps=STEPS)
    model, _ = plain(name, run, every=STEPS)
    assert_same(run.model, model)


@pytest.mark.parametrize("name", [*OURS, "flipping"])
def test_a_resumed_run_is_the_same(name: str, tmp_path: Path):
    """From a checkpoint in the middle of an epoch, or after its last step, the run ends with the same bits."""
    settings = {"save_strategy": "steps", "save_steps": 1}
    whole = fit(tmp_path / "whole", name, **settings)
    for step in (STEPS - 1, STEPS):
        checkpoint = tmp_path / "whole" / f"checkpoint-{step}"
        resumed = fit(tmp_path / "resumed", name, checkpoint=checkpoint, **{**settings, "save_strategy": "no"})
        assert resumed.state.global_step == EPOCHS * STEPS
        assert_same(resumed.model, whole.model)
        states = [list(tensors_of(run.optimizer.state_dict())) for run in (resumed, whole)]
        torch.testing.assert_close(*states, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_a_resumed_local_learner_heard_the_same_losses(strategy: str, tmp_path: Path):
    settings = {"save_strategy": strategy, "save_steps": STEPS - 1}
    whole = fit(tmp_path / "whole", "localized", **settings)
    step = STEPS - 1 if strategy == "steps" else STEPS
    resumed = fit(
        tmp_path / "resumed",
        "localized",
        checkpoint=tmp_path / "whole" / f"checkpoint-{step}",
        **{**settings, "save_strategy": "no"},
    )
    assert _local(resumed).loss_history == pytest.approx(_local(whole).loss_history, rel=1e-6)


def _local(run: Trainer) -> LocalizedOptimizer:
    return getattr(run.optimizer, "optimizer", run.optimizer)


@pytest.mark.parametrize("name", [*OURS, "flipping"])
def test_bfloat16(name: str, tmp_path: Path):
    run = fit(tmp_path, name, bf16=True)
    assert_moved(run.model, name)
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in run.model.parameters())


# ---- the callback ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"logging_strategy": "steps", "logging_steps": 2},
        {"logging_strategy": "steps", "logging_steps": STEPS},
        {"logging_strategy": "epoch"},
        {"gradient_accumulation_steps": STEPS},
    ],
    ids=str,
)
def test_the_local_learner_hears_each_epochs_loss(settings: dict[str, Any], tmp_path: Path):
    run = fit(tmp_path, "localized", **settings)
    _, optimizer = plain("localized", run, settings.get("gradient_accumulation_steps", 1))
    assert _local(run).transition == optimizer.transition == optimizer.max_transition
    assert _local(run).loss_history == pytest.approx(optimizer.loss_history, rel=1e-5)


def test_a_second_run_goes_on_with_the_same_learner(tmp_path: Path):
    model = bert()
    optimizer = OPTIMIZERS["localized"](model)
    for _ in range(2):
        trainer(tmp_path, model, optimizer, num_train_epochs=1).train()
    assert len(optimizer.loss_history) == 2


def test_a_run_longer_than_the_loss_was_built_for_is_refused_at_its_start(tmp_path: Path):
    model = with_flipping(total_epochs=1)
    with pytest.raises(ValueError, match=r"total_epochs .* 2 epochs, got 1"):
        trainer(tmp_path, model, FEROptimizer(model.parameters())).train()


def test_a_callback_with_nothing_to_do_says_so(tmp_path: Path):
    model = bert()
    with pytest.warns(UserWarning, match="EpochCallback found neither a LocalizedOptimizer"):
        trainer(tmp_path, model, FEROptimizer(model.parameters()), num_train_epochs=1).train()


def test_optimizer_cls_and_kwargs(tmp_path: Path):
    """The other way in which the Trainer takes an optimizer: it splits the parameters into groups itself."""
    arguments = TrainingArguments(
        tmp_path, max_steps=2, use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", weight_decay=0.1
    )
    settings = {"base_optimizer_kwargs": {"lr": 0.05}, "fer_weight": 0.8}
    run = Trainer(bert(), arguments, train_dataset=Sentences(), optimizer_cls_and_kwargs=(FEROptimizer, settings))
    run.train()
    decays = [group["weight_decay"] for group in run.optimizer.param_groups]
    assert sorted(decays) == [0.0, 0.1]
    assert_moved(run.model, "fer")


def test_a_dataset_without_a_length_has_no_last_epoch(tmp_path: Path):
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield from map(IndexedDataset(Sentences()).__getitem__, range(SAMPLES))

    run = trainer(tmp_path, model := with_flipping(), FEROptimizer(model.parameters()), max_steps=2)
    run.train_dataset = Stream()
    run.train()
    assert int(model.criterion.epoch) == 1
    assert run.state.global_step == 2


# ---- the classifier with the flipping loss ---------------------------------------------------------------------------


def test_an_evaluation_is_plain_cross_entropy_and_remembers_nothing(tmp_path: Path):
    run = fit(tmp_path, "flipping")
    before = run.model.criterion.remembered.clone()
    found = run.evaluate()
    logits = [(run.model(input_ids=batch["input_ids"])["logits"], batch["labels"]) for batch in batches(run)]
    losses = [nn.functional.cross_entropy(*pair).item() for pair in logits]
    assert found["eval_loss"] == pytest.approx(sum(losses) / STEPS, rel=1e-5)
    assert before.any()
    assert torch.equal(run.model.criterion.remembered, before)


def test_training_without_indices_is_an_error():
    model = with_flipping()
    with pytest.raises(ValueError, match=r"index must be given in training, got None: wrap .* IndexedDataset"):
        model(input_ids=torch.zeros(2, LENGTH, dtype=torch.int64), labels=torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("model", "criterion", "match"),
    [
        ("bert", FlippingErrorReduction(2, 2, 2), r"model must be a torch\.nn\.Module, got 'bert'"),
        (nn.Linear, FlippingErrorReduction(2, 2, 2), r"model must be a torch\.nn\.Module, got <class .*Linear"),
        (nn.Linear(2, 2), nn.CrossEntropyLoss(), r"criterion must be a FlippingErrorReduction, got CrossEntropyLoss"),
        (nn.Linear(2, 2), FlippingErrorReduction, r"criterion must be a FlippingErrorReduction, got <class"),
        (nn.Linear(2, 2), None, r"criterion must be a FlippingErrorReduction, got None"),
    ],
)
def test_a_classifier_of_something_else_is_refused(model: Any, criterion: Any, match: str):
    with pytest.raises(TypeError, match=match):
        FlippingErrorClassifier(model, criterion)
