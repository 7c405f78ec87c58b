"""Interrupted runs resume as if they had never stopped, and a damaged checkpoint is never used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from advanced_optimizers.experiments.records.checkpoints import load_checkpoint
from advanced_optimizers.experiments.records.record import RecordError
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.running import StudyError, Workers, train_all
from advanced_optimizers.experiments.training import loop as training
from advanced_optimizers.experiments.training.loop import train
from tests.experiments_helpers import CONVNET, FOR_ANY_MODEL, kill_in_the_middle, make_config, make_record, train_until

# --- Interrupted runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"label_noise": 0.2}, CONVNET], ids=["mlp", "convnet"])
@pytest.mark.parametrize("algorithm", FOR_ANY_MODEL)
def test_a_run_goes_on_after_each_epoch_as_if_never_stopped(
    store: RunStore, other_store: RunStore, algorithm: str, changes: dict[str, Any]
) -> None:
    config = make_config(algorithm=algorithm, epochs=3, **changes)
    for epoch in (1, 2, 3):
        train_until(epoch, config, store)
        assert store.load(config) is None
        torch.rand(1)  # another process would have drawn other numbers
    seen: list[int] = []
    record = train(config, store, on_epoch=lambda epoch, metrics: seen.append(epoch))
    assert seen == []  # all epochs were done, only the record was missing
    assert record.outcome() == train(config, other_store).outcome()


@pytest.mark.parametrize("algorithm", ["sgd", "fer-adam", "flipping-sgd"])
def test_a_killed_run_ends_as_if_never_killed(store: RunStore, other_store: RunStore, algorithm: str) -> None:
    config = make_config(algorithm=algorithm, epochs=8, batch_size=16, label_noise=0.2)
    other = make_config(algorithm=algorithm, seed=1)
    kill_in_the_middle(config, store)
    assert store.checkpoint_path(config).exists()
    # Leftovers of a process that was killed while it wrote.
    store.checkpoint_path(config).with_suffix(".4242.tmp").write_bytes(b"half a checkpoint")
    epochs: list[int] = []
    record = train(config, store, on_epoch=lambda epoch, metrics: epochs.append(epoch))
    assert 1 <= len(epochs) < config.epochs
    assert epochs == list(range(config.epochs + 1 - len(epochs), config.epochs + 1))
    assert record.outcome() == train(config, other_store).outcome()
    assert train_all([config, other], store, Workers(), "", progress=False) == 1


@pytest.mark.parametrize("stop", [True, False])
def test_the_checkpoint_is_removed_with_the_record(store: RunStore, stop: bool) -> None:
    config = make_config()
    if stop:
        train_until(1, config, store)
        assert store.checkpoint_path(config).exists()
    train(config, store)
    assert list(store.progress_folder.glob("*.pt")) == []
    assert list(store.progress_folder.glob("*.tmp")) == []


def test_a_checkpoint_that_outlived_its_run_is_removed(store: RunStore) -> None:
    config = make_config()
    train_until(2, config, store)
    store.save(make_record(config))  # killed after saving the record and before removing the checkpoint
    train(config, store)
    assert not store.checkpoint_path(config).exists()


def test_total_seconds_are_summed_over_interruptions(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    config = make_config(epochs=3)
    train_until(1, config, store)
    one_epoch = load_checkpoint(store.checkpoint_path(config), torch.device("cpu"))["total_seconds"]
    train_until(2, config, store)
    record = train(config, store)
    assert record.total_seconds == 3 * one_epoch > 0
    assert record.curves["seconds"] == [10, 10, 10]


def test_started_at_is_that_of_the_first_start(store: RunStore) -> None:
    config = make_config()
    train_until(1, config, store)
    started = load_checkpoint(store.checkpoint_path(config), torch.device("cpu"))["started_at"]
    assert train(config, store).environment["started_at"] == started


# --- Damaged checkpoints ---------------------------------------------------------------------------------------------


def _with_a_flipped_bit(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "cut at the end": lambda content: content[:-1],
    "longer": lambda content: content + b"0",
    "garbage": lambda content: bytes(range(256)) * 100,
    "text": lambda content: b"this is not a checkpoint",
    "without its checksum": lambda content: content[64:],
    "one bit": _with_a_flipped_bit,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_other_runs_go_on(store: RunStore, name: str) -> None:
    config, other = make_config(epochs=3), make_config(seed=1)
    train_until(1, config, store)
    checkpoint = store.checkpoint_path(config)
    checkpoint.write_bytes(DAMAGES[name](checkpoint.read_bytes()))
    damaged = checkpoint.read_bytes()
    with pytest.raises(RecordError, match="Delete it") as caught:
        train(config, store)
    assert str(checkpoint) in str(caught.value)
    assert checkpoint.read_bytes() == damaged
    with pytest.raises(StudyError, match="1 of 2 runs failed") as failed:
        train_all([config, other], store, Workers(), "", progress=False)
    assert str(failed.value).count(str(checkpoint)) == 1
    assert [record.config for record in store.records()] == [other]
    checkpoint.unlink()
    assert train(config, store).status == "completed"
