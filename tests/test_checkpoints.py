"""Interrupted runs resume as if they had never stopped, and a damaged checkpoint is never used."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from advanced_optimizers.experiments.records import machine
from advanced_optimizers.experiments.records.checkpoints import save_checkpoint
from advanced_optimizers.experiments.records.record import RecordError
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.running import StudyError, Workers, train_all
from advanced_optimizers.experiments.training import loop as training
from advanced_optimizers.experiments.training.loop import train
from tests.experiments_helpers import kill_in_the_middle, make_config, make_record, train_until
from tests.learner_helpers import every_kind


def parts_of(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a checkpoint is bound to, and its state."""
    line, _, saved = checkpoint.read_bytes()[64:].partition(b"\n")
    return json.loads(line), torch.load(io.BytesIO(saved), weights_only=True)


def saved_state(checkpoint: Path) -> dict[str, Any]:
    return parts_of(checkpoint)[1]


# --- Interrupted runs ------------------------------------------------------------------------------------------------


@every_kind
def test_a_run_goes_on_after_each_epoch_as_if_never_stopped(
    store: RunStore, other_store: RunStore, algorithm: str
) -> None:
    config = make_config(algorithm=algorithm, epochs=2, label_noise=0.2)
    for epoch in (1, 2):
        train_until(epoch, config, store)
        assert store.load(config) is None
        torch.rand(1)  # another process would have drawn other numbers
    seen: list[int] = []
    record = train(config, store, on_epoch=lambda epoch, metrics: seen.append(epoch))
    assert seen == []  # all epochs were done, only the record was missing
    assert record.outcome() == train(config, other_store).outcome()


@pytest.mark.slow
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


def test_the_state_is_saved_once_seconds_would_be_lost(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(training.time, "monotonic", lambda: now)
    config = make_config(epochs=5)
    saved: list[float] = []
    monkeypatch.setattr(training, "save_checkpoint", lambda *arguments: saved.append(now))

    def two_seconds_pass(epoch: int, metrics: dict[str, float]) -> None:
        nonlocal now
        now += 2

    train(config, store, on_epoch=two_seconds_pass)
    assert saved == [6.0]  # after 0, 2, 4, 6 and 8 seconds an epoch ends


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
    one_epoch = saved_state(store.checkpoint_path(config))["total_seconds"]
    train_until(2, config, store)
    record = train(config, store)
    assert record.total_seconds == 3 * one_epoch > 0
    assert record.curves["seconds"] == [10, 10, 10]


def test_started_at_is_that_of_the_first_start(store: RunStore) -> None:
    config = make_config()
    train_until(1, config, store)
    started = saved_state(store.checkpoint_path(config))["started_at"]
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


@pytest.mark.parametrize("kind", ["folder", "pickle of a class", "pickle of a list"])
def test_something_else_in_its_place_is_named_and_nothing_unsafe_is_advised(store: RunStore, kind: str) -> None:
    config = make_config()
    train_until(1, config, store)
    checkpoint = store.checkpoint_path(config)
    binding, _ = parts_of(checkpoint)
    checkpoint.unlink()
    if kind == "folder":
        checkpoint.mkdir()
    else:
        saved = pickle.dumps(Path("somewhere") if kind == "pickle of a class" else [1, 2], protocol=2)
        content = json.dumps(binding).encode() + b"\n" + saved
        checkpoint.write_bytes(hashlib.sha256(content).hexdigest().encode() + content)
    with pytest.raises(RecordError, match="Delete it") as caught:
        train(config, store)
    assert str(checkpoint) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert caught.value.__cause__ is None or "weights_only" not in str(caught.value.__cause__)


STATES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ragged": lambda state: state["curves"]["test_loss"].pop(),
    "too long": lambda state: [values.extend(values * 3) for values in state["curves"].values()],
    "empty": lambda state: state["curves"].clear(),
    "curves of text": lambda state: state["curves"].update(train_loss=["0.5"]),
    "lacks the learner": lambda state: state.pop("learner"),
    "another network": lambda state: state["learner"].update(model={}),
    "a generator of text": lambda state: state.update(generator="seed"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_cannot_be_the_runs_is_refused(store: RunStore, name: str) -> None:
    config = make_config(epochs=3)
    train_until(1, config, store)
    binding, state = parts_of(store.checkpoint_path(config))
    STATES[name](state)
    save_checkpoint(store.checkpoint_path(config), state, binding)
    with pytest.raises(RecordError, match="Delete it") as caught:
        train(config, store)
    assert str(store.checkpoint_path(config)) in str(caught.value)


def test_a_run_whose_metrics_come_and_go_is_refused_at_once(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[dict[str, float]] = [{"train_loss": 1.0, "own": 1.0}, {"train_loss": 1.0}]
    monkeypatch.setattr(training._Run, "_epoch", lambda self, epoch: epochs[epoch - 1])
    with pytest.raises(ValueError, match=r"not every epoch has \['own'\]"):
        train(make_config(), store)


# --- Bound to what they continue -------------------------------------------------------------------------------------


OTHERS = {
    "git_commit": "0123456789abcdef",
    "git_dirty": "unknown",
    "torch": "1.0.0",
    "package_version": "0.0.1",
    "device_name": "Another processor",
    "data_checksum": "0" * 64,
    "source_checksum": "0" * 64,
    "run_id": "0" * 16,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_something_else_starts_over_and_says_so(
    store: RunStore, other_store: RunStore, name: str
) -> None:
    config = make_config()
    train_until(1, config, store)
    binding, state = parts_of(store.checkpoint_path(config))
    save_checkpoint(store.checkpoint_path(config), state, {**binding, name: OTHERS[name]})
    epochs: list[int] = []
    with pytest.warns(UserWarning, match=f"starts over: {name} was '{OTHERS[name]}' and is") as warned:
        record = train(config, store, on_epoch=lambda epoch, metrics: epochs.append(epoch))
    assert str(store.checkpoint_path(config)) in str(warned[0].message)
    assert "\n" not in str(warned[0].message)
    assert epochs == [1, 2]
    assert record.outcome() == train(config, other_store).outcome()


def test_the_checkpoint_of_another_run_is_not_taken(store: RunStore, other_store: RunStore) -> None:
    config, other = make_config(), make_config(seed=1)
    train_until(1, other, store)
    store.checkpoint_path(other).rename(store.checkpoint_path(config))
    with pytest.warns(UserWarning, match=f"run_id was '{other.run_id}' and is '{config.run_id}'"):
        record = train(config, store)
    assert record.outcome() == train(config, other_store).outcome()


def test_a_checkpoint_from_before_they_were_bound_starts_over(store: RunStore) -> None:
    config = make_config()
    train_until(1, config, store)
    _, _, old = store.checkpoint_path(config).read_bytes()[64:].partition(b"\n")
    store.checkpoint_path(config).write_bytes(hashlib.sha256(old).hexdigest().encode() + old)
    with pytest.warns(UserWarning, match="starts over: it does not say which run, data and code it continues"):
        assert train(config, store).status == "completed"


def test_an_edit_that_is_not_committed_starts_over(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = tmp_path / "own.py"
    monkeypatch.setattr(machine, "FURTHER_SOURCES", [topic])
    config = make_config()
    topic.write_text("lr = 1")
    train_until(1, config, store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_until(2, config, store)
    topic.write_text("lr = 2")
    machine._checksum_of.cache_clear()  # as in another process
    with pytest.warns(UserWarning, match="starts over: source_checksum was"):
        train(config, store)
