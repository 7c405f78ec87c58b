"""Training: the same run has the same outcome, killed or not, and its record says what happened."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.records.machine import threads
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.running import Workers, train_all
from advanced_optimizers.experiments.training import loop as training
from advanced_optimizers.experiments.training.loop import RunBusyError, train
from advanced_optimizers.experiments.training.seeding import seed_everything
from tests.experiments_helpers import (
    CONVNET,
    FOR_ANY_MODEL,
    Stopped,
    lock_held_elsewhere,
    make_config,
    make_record,
    never,
    train_until,
)

DIVERGING = {"lr": 1e30}


@pytest.fixture
def made_batches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The Batches that runs create, with their images, their labels, and the order in which they yielded them."""
    made: list[Any] = []

    class Watched(data.Batches):
        def __init__(self, images: Tensor, labels: Tensor, *arguments: Any, **options: Any) -> None:
            super().__init__(images, labels, *arguments, **options)
            self.images, self.labels, self.order = images, labels, []
            made.append(self)

        def __iter__(self) -> Iterator[data.Batch]:
            for batch in super().__iter__():
                self.order += batch.indices.tolist()
                yield batch

    monkeypatch.setattr(data, "Batches", Watched)
    return made


@pytest.fixture
def made_learners(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The learners that runs build, with their initial weights, their steps, and their predictions."""
    made: list[Any] = []

    class Watched:
        def __init__(self, setting: Any) -> None:
            self.weights = [p.detach().clone() for p in setting.model.parameters()]
            self.learner = build(setting)
            self.steps: list[tuple[int, float, int]] = []
            self.predictions: list[Tensor] = []
            made.append(self)

        def step(self, batch: data.Batch) -> Any:
            result = self.learner.step(batch)
            self.steps.append((len(batch.labels), float(result.loss), int(result.correct)))
            return result

        def predict(self, images: Tensor) -> Tensor:
            self.predictions.append(self.learner.predict(images))
            return self.predictions[-1]

        def __getattr__(self, name: str) -> Any:
            return getattr(self.learner, name)

    build = training.build_learner
    monkeypatch.setattr(training, "build_learner", Watched)
    return made


# --- The same run again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"label_noise": 0.2}, CONVNET], ids=["mlp", "convnet"])
@pytest.mark.parametrize("algorithm", ["sgd", "fer-adam", "flipping-sgd"])
def test_the_same_run_has_the_same_outcome(
    store: RunStore, other_store: RunStore, algorithm: str, changes: dict[str, Any]
) -> None:
    config = make_config(algorithm=algorithm, **changes)
    torch.manual_seed(99)  # what happened before must not matter
    first = train(config, store)
    assert train(config, other_store).outcome() == first.outcome()


def test_another_seed_has_another_outcome(store: RunStore) -> None:
    one, other = (train(make_config(seed=seed), store) for seed in (0, 1))
    assert one.curves["train_loss"] != other.curves["train_loss"]
    assert one.curves["test_loss"] != other.curves["test_loss"]


def test_the_seed_decides_weights_and_batches(
    store: RunStore, made_batches: list[Any], made_learners: list[Any]
) -> None:
    for seed in (0, 1):
        train(make_config(seed=seed), store)
    orders = [batches.order for batches in made_batches[::2]]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    assert not any(torch.equal(a, b) for a, b in zip(made_learners[0].weights, made_learners[1].weights, strict=True))


def test_every_epoch_has_its_own_order(store: RunStore, made_batches: list[Any]) -> None:
    train(make_config(), store)
    order, samples = made_batches[0].order, len(made_batches[0].labels)
    assert sorted(order[:samples]) == sorted(order[samples:]) == list(range(samples))
    assert order[:samples] != order[samples:]


def test_algorithms_of_one_seed_share_weights_batches_and_label_noise(
    store: RunStore, made_batches: list[Any], made_learners: list[Any]
) -> None:
    configs = [make_config(algorithm=name, label_noise=0.2, seed=3, epochs=1) for name in FOR_ANY_MODEL]
    configs = [config for config in configs if config.model == "mlp"]  # the same network, to compare weights
    for config in configs:
        train(config, store)
    assert len(made_learners) == len(configs)
    first, *others = made_batches[::2]
    for batches, learner in zip(others, made_learners[1:], strict=True):
        assert torch.equal(batches.labels, first.labels)
        assert batches.order == first.order
        torch.testing.assert_close(learner.weights, made_learners[0].weights, rtol=0.0, atol=0.0)


def test_label_noise_is_in_the_training_labels_alone(store: RunStore, made_batches: list[Any]) -> None:
    digits = data.load("digits")
    for seed in (0, 1):
        train(make_config(label_noise=0.2, seed=seed, epochs=1, data_fraction=1.0), store)
    train_0, test_0, train_1, _ = made_batches
    for batches in (train_0, train_1):
        assert int((batches.labels != digits.labels).sum()) == round(0.2 * len(digits.labels))
    assert not torch.equal(train_0.labels, train_1.labels)
    assert torch.equal(test_0.labels, digits.test_labels)


# --- Diverged runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def diverged(store: RunStore) -> RunRecord:
    train(make_config(epochs=4, hyperparameters=DIVERGING), store)
    record = store.load(make_config(epochs=4, hyperparameters=DIVERGING))
    assert record is not None
    return record


def test_a_diverged_run_is_recorded_with_its_curves(diverged: RunRecord) -> None:
    assert diverged.status == "diverged"
    lengths = {len(values) for values in diverged.curves.values()}
    assert len(lengths) == 1
    assert 1 <= lengths.pop() < 4
    assert diverged.curves["train_loss"][-1] is None
    assert diverged.final["train_loss"] is None
    for name in ("train_accuracy", "test_accuracy"):
        accuracy = diverged.final[name]
        assert accuracy is not None
        assert 0.0 <= accuracy <= 1.0


def test_a_study_goes_on_after_a_diverged_run(store: RunStore) -> None:
    configs = [make_config(hyperparameters=DIVERGING), make_config()]
    assert train_all(configs, store, Workers(), "", progress=False) == 2
    records = [store.load(config) for config in configs]
    assert [record.status for record in records if record is not None] == ["diverged", "completed"]


def test_a_diverged_run_stops_where_it_diverged(store: RunStore, made_learners: list[Any]) -> None:
    train(make_config(epochs=4, hyperparameters=DIVERGING), store)
    losses = [loss for _, loss, _ in made_learners[0].steps]
    assert all(math.isfinite(loss) for loss in losses[:-1])
    assert not math.isfinite(losses[-1])


def test_a_diverged_run_has_the_same_outcome(store: RunStore, other_store: RunStore) -> None:
    config = make_config(hyperparameters=DIVERGING)
    first = train(config, store)
    assert train(config, store).outcome() == first.outcome()  # loaded
    assert train(config, other_store).outcome() == first.outcome()  # trained again


def test_a_diverged_run_does_not_train_on_after_a_stop(
    store: RunStore, other_store: RunStore, diverged: RunRecord
) -> None:
    config = diverged.config
    train_until(len(diverged.curves["train_loss"]), config, other_store)
    train(config, other_store, on_epoch=never)
    resumed = other_store.load(config)
    assert resumed is not None
    assert resumed.outcome() == diverged.outcome()


# --- One process per run ---------------------------------------------------------------------------------------------


def test_a_run_that_another_process_trains_is_busy(store: RunStore) -> None:
    config = make_config()
    with lock_held_elsewhere(config, store):
        with pytest.raises(RunBusyError, match=config.run_id):
            train(config, store)
        assert train(make_config(seed=1), store).status == "completed"
    assert store.load(config) is None
    assert train(config, store).status == "completed"  # the other process ended without a record


def test_a_failed_run_frees_its_lock(store: RunStore) -> None:
    config = make_config()
    train_until(1, config, store)
    with store.lock(config).acquire(blocking=False):
        pass


def test_a_recorded_run_is_loaded(store: RunStore) -> None:
    config = make_config()
    first = train(config, store)
    assert train(config, store, on_epoch=never) == first


def test_a_run_that_another_process_finished_in_between_is_loaded(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    answers: list[RunRecord | None] = [None, make_record(config)]
    monkeypatch.setattr(RunStore, "load", lambda self, asked: answers.pop(0))
    assert train(config, store, on_epoch=never) == make_record(config)
    assert store.paths() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "digit"}, "'digit'; did you mean digits"),
        ({"model": "mpl"}, "'mpl'; did you mean mlp"),
        ({"algorithm": "sdg", "hyperparameters": {"lr": 0.1}}, "'sdg'; did you mean .*sgd"),
        ({"hyperparameters": {}}, "must include lr"),
    ],
)
def test_an_impossible_run_is_refused_and_leaves_nothing(
    store: RunStore, changes: dict[str, Any], message: str
) -> None:
    config = make_config(**changes)
    with pytest.raises(ValueError, match=message):
        train(config, store)
    assert store.paths() == []
    assert not store.checkpoint_path(config).exists()


# --- What is measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sgd", "fer-sgd", "flipping-sgd"])
def test_the_curves_are_what_was_predicted(store: RunStore, made_learners: list[Any], algorithm: str) -> None:
    record = train(make_config(algorithm=algorithm, epochs=3, label_noise=0.2), store)
    labels = data.load("digits").test_labels
    steps, predictions = made_learners[0].steps, made_learners[0].predictions
    assert len(predictions) == 3
    per_epoch = len(steps) // 3
    ever_right = torch.zeros(len(labels), dtype=torch.bool)
    for epoch, logits in enumerate(predictions):
        sizes, losses, correct = (torch.tensor(v) for v in zip(*steps[epoch * per_epoch :][:per_epoch], strict=True))
        right = logits.argmax(dim=1) == labels
        flipped = int((ever_right & ~right).sum())
        ever_right |= right
        expected = {
            "train_loss": float((losses * sizes).sum() / sizes.sum()),
            "train_accuracy": int(correct.sum()) / int(sizes.sum()),
            "test_loss": float(F.cross_entropy(logits, labels)),
            "test_accuracy": int(right.sum()) / len(labels),
            "wrongly_flipped": flipped,
            "relative_flipping_error": flipped / int((~right).sum()),
            "absolute_flipping_error": flipped / len(labels),
        }
        assert {name: record.curves[name][epoch] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_a_run_without_a_split_trains_the_same_and_measures_nothing_else(
    store: RunStore, made_learners: list[Any]
) -> None:
    measured, plain = (train(make_config(split=split), store) for split in ("test", "none"))
    assert [len(learner.predictions) for learner in made_learners] == [len(measured.curves["train_loss"]), 0]
    assert not {"test_loss", "test_accuracy", "wrongly_flipped"} & plain.curves.keys()
    for name in ("train_loss", "train_accuracy"):
        assert plain.curves[name] == measured.curves[name]


OWN_CURVES = {"fer-sgd": {"consistency"}, "flipping-sgd": {"ever_correct"}, "sgd": set()}
CURVES = {
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "wrongly_flipped",
    "relative_flipping_error",
    "absolute_flipping_error",
    "seconds",
    "cpu_seconds",
    "evaluation_seconds",
    "lr",
}


@pytest.mark.parametrize("algorithm", OWN_CURVES)
def test_a_record_has_every_curve_for_every_epoch(store: RunStore, algorithm: str) -> None:
    record = train(make_config(algorithm=algorithm, epochs=3), store)
    assert set(record.curves) == CURVES | OWN_CURVES[algorithm]
    assert {len(values) for values in record.curves.values()} == {3}
    assert record.final == {name: values[-1] for name, values in record.curves.items()}
    for name in ("seconds", "cpu_seconds", "evaluation_seconds"):
        assert all(value is not None and value > 0 for value in record.curves[name])
    spent = sum(value or 0.0 for name in ("seconds", "evaluation_seconds") for value in record.curves[name])
    assert record.total_seconds >= spent
    assert record.peak_memory_bytes > 2**20


def test_on_epoch_is_given_each_epoch(store: RunStore) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    record = train(make_config(epochs=3), store, on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)))
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert {name: [metrics[name] for _, metrics in seen] for name in record.curves} == record.curves


@pytest.mark.parametrize("changes", [{}, {"split": "validation"}, {"split": "validation", "data_fraction": 0.5}])
def test_a_validation_run_never_sees_the_test_set(
    store: RunStore, made_batches: list[Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    numbered = _numbered_digits()
    monkeypatch.setattr(data, "load", lambda name: numbered)
    train(make_config(**{"epochs": 1, "data_fraction": 1.0, **changes}), store)
    trained, measured = ({_number(image) for image in batches.images} for batches in made_batches)
    train_set, test_set = ({_number(image) for image in images} for images in (numbered.images, numbered.test_images))
    assert not trained & measured
    assert trained <= train_set
    if not changes:
        assert (trained, measured) == (train_set, test_set)
        return
    assert measured <= train_set
    assert not (trained | measured) & test_set
    assert len(measured) == round(0.1 * len(train_set))
    assert len(trained) == round(changes.get("data_fraction", 1.0) * (len(train_set) - len(measured)))


def _numbered_digits() -> data.Dataset:
    """The digits, with a number in the first pixels of each image that identifies it."""
    digits = data.load("digits")
    images, test_images = digits.images.clone(), digits.test_images.clone()
    for number, image in enumerate([*images, *test_images]):
        image[0, 0], image[0, 1] = number // 256, number % 256
    return replace(digits, images=images, test_images=test_images)


def _number(image: Tensor) -> int:
    return 256 * int(image[0, 0]) + int(image[0, 1])


def test_the_data_checksum_is_that_of_the_split(store: RunStore) -> None:
    checksums = [
        train(make_config(epochs=1, **changes), store).environment["data_checksum"]
        for changes in ({}, {"split": "validation"}, {"data_fraction": 0.5})
    ]
    assert len(set(checksums)) == 3


# --- Seeds and threads -----------------------------------------------------------------------------------------------


def test_seed_everything_seeds_every_generator() -> None:
    def draw() -> tuple[float, float, float]:
        seed_everything(5)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    assert draw() == draw()


def test_threads_are_set_for_a_while() -> None:
    before = torch.get_num_threads()

    def fail_on_more_threads() -> None:
        with threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise Stopped

    with pytest.raises(Stopped):
        fail_on_more_threads()
    assert torch.get_num_threads() == before
