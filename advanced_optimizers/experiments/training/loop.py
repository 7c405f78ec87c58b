"""The one training loop: train(config, store) -> RunRecord, with checkpoints between epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import filelock
import torch
from torch.nn import functional as F

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.records import checks
from advanced_optimizers.experiments.records.checkpoints import damaged_checkpoint, load_checkpoint, save_checkpoint
from advanced_optimizers.experiments.records.config import BaseConfig, KindConfig, RunConfig
from advanced_optimizers.experiments.records.machine import (
    environment,
    peak_memory,
    reset_peak_memory,
    source_checksum,
    sources_of,
)
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.training.algorithms import build_learner
from advanced_optimizers.experiments.training.kinds import perform
from advanced_optimizers.experiments.training.learners import Learner, Setting
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.experiments.training.seeding import seed_everything
from advanced_optimizers.experiments.training.trackers import TRACKERS

CHECKPOINT_SECONDS = 5.0  # short runs are sooner trained again than their state is written after each epoch
_EVALUATION_BATCH = 1000

EpochCallback = Callable[[int, dict[str, float]], None]
Curves = dict[str, list[float]]


class RunBusyError(RuntimeError):
    """Another process is training this run right now."""


def train(config: BaseConfig, store: RunStore, device: str = "cpu", on_epoch: EpochCallback | None = None) -> RunRecord:
    """Trains one configuration of any kind, or returns its record if it has one.

    Its state is saved after an epoch if the last time was five seconds ago. A run that was killed resumes there. On the
    CPU its outcome is the same, bit for bit. If the code, the data or the machine is another one by then, the run
    starts over, and a warning says so.

    Args:
        config: What to train.
        store: Where to save its record, and its checkpoint while it runs.
        device: ``cpu``, ``cuda``, ...
        on_epoch: Called after each epoch with its number (from 1) and its metrics.

    Raises:
        RunBusyError: Another process is training it.
        RecordError: Its record or checkpoint is damaged.
        DataError: A data file is missing or damaged.
    """
    return train_or_load(config, store, device, on_epoch)[0]


def train_or_load(
    config: BaseConfig, store: RunStore, device: str = "cpu", on_epoch: EpochCallback | None = None
) -> tuple[RunRecord, bool]:
    """Like :func:`train`, but also returns whether this call trained the run."""
    record = store.load(config)
    if record is not None:
        _remove(store.checkpoint_path(config))  # left by a process that was killed after saving
        return record, False
    try:
        with store.lock(config).acquire(blocking=False):
            record = store.load(config)  # another process may have finished it meanwhile
            trained = record is None
            if record is None:
                record = _run(config, store.checkpoint_path(config), torch.device(device), on_epoch)
                store.save(record)
            _remove(store.checkpoint_path(config))
            return record, trained
    except filelock.Timeout as error:
        name = f"{config.run_id} ({config.task}, {config.algorithm})"
        raise RunBusyError(f"the run {name} is being trained by another process") from error


def _run(config: BaseConfig, checkpoint: Path, device: torch.device, on_epoch: EpochCallback | None) -> RunRecord:
    if isinstance(config, RunConfig):
        return _Run(config, checkpoint, device).finish(on_epoch)
    if isinstance(config, KindConfig):
        return perform(config, device, on_epoch)
    raise TypeError(f"config must be a RunConfig or a KindConfig, got {type(config).__name__}")


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint that is not needed any more; one that cannot be removed does no harm."""
    with suppress(OSError):
        checkpoint.unlink(missing_ok=True)


class _Run:
    """One run in progress: its learner, its batches, and its curves so far."""

    def __init__(self, config: RunConfig, checkpoint: Path, device: torch.device) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.device = device
        self.dataset = dataset_of(config)
        self.environment = {
            **environment(device),
            "data_checksum": self.dataset.checksum,
            "num_classes": self.dataset.num_classes,
        }
        self.generator = torch.Generator().manual_seed(config.seed)
        self.train_batches, self.test_batches = _batches(config, self.dataset, self.generator, device)
        self.learner = self._build_learner()
        self.trackers = {name: make(len(self.dataset.test_labels)) for name, make in TRACKERS.items()}
        self.curves: Curves = {}
        self.total_seconds = 0.0
        self.started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.saved_at = time.monotonic()
        self._resume()

    @property
    def epochs_done(self) -> int:
        return len(self.curves.get("train_loss", []))

    @property
    def diverged(self) -> bool:
        return self.epochs_done > 0 and not math.isfinite(self.curves["train_loss"][-1])

    def finish(self, on_epoch: EpochCallback | None) -> RunRecord:
        reset_peak_memory(self.device)
        while self.epochs_done < self.config.epochs and not self.diverged:
            started = time.perf_counter()
            metrics = self._epoch(self.epochs_done + 1)
            self._append(metrics)
            self.total_seconds += time.perf_counter() - started
            if time.monotonic() - self.saved_at >= CHECKPOINT_SECONDS:
                self._save_checkpoint()
            if on_epoch is not None:
                on_epoch(self.epochs_done, metrics)
        return RunRecord(
            config=self.config,
            status="diverged" if self.diverged else "completed",
            environment=self._environment(),
            curves={name: list(values) for name, values in self.curves.items()},
            final={name: values[-1] for name, values in self.curves.items()},
            total_seconds=self.total_seconds,
            peak_memory_bytes=peak_memory(self.device),
        )

    def _append(self, metrics: dict[str, float]) -> None:
        """Adds an epoch's metrics to the curves."""
        uneven = metrics.keys() ^ self.curves.keys()
        if self.curves and uneven:
            raise ValueError(f"metrics must be the same after every epoch, but not every epoch has {sorted(uneven)}")
        for name, value in metrics.items():
            self.curves.setdefault(name, []).append(float(value))

    def _build_learner(self) -> Learner:
        config, dataset = self.config, self.dataset
        seed_everything(config.seed)
        model = build_model(config.model, dataset.image_shape, dataset.num_classes, config.width)
        model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        setting = Setting(
            config=config,
            model=model,
            num_samples=len(dataset.labels),
            num_classes=dataset.num_classes,
            image_shape=dataset.image_shape,
            steps_per_epoch=len(self.train_batches),
        )
        return build_learner(setting)

    def _epoch(self, epoch: int) -> dict[str, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        metrics = self._train_epoch(epoch)
        self._synchronize()
        metrics["seconds"], metrics["cpu_seconds"] = time.perf_counter() - wall, time.process_time() - cpu
        wall = time.perf_counter()
        metrics |= self._evaluate()
        metrics["evaluation_seconds"] = time.perf_counter() - wall
        return metrics | self.learner.end_epoch()

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self.learner.start_epoch(epoch)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        seen = 0
        for batch in self.train_batches:
            result = self.learner.step(batch)
            seen += len(batch.labels)
            loss_sum += result.loss.double() * len(batch.labels)
            correct += result.correct
            if self.device.type == "cpu" and not math.isfinite(result.loss):
                break  # on other devices the sum shows it after the epoch: a check per step would wait for the device
        return {"train_loss": float(loss_sum) / seen, "train_accuracy": int(correct) / seen}

    def _evaluate(self) -> dict[str, float]:
        if self.config.split == "none":
            return {}
        logits = torch.cat([self.learner.predict(batch.images) for batch in self.test_batches])
        labels = self.dataset.test_labels.to(self.device)
        right = logits.argmax(dim=1) == labels
        metrics = {
            "test_loss": float(F.cross_entropy(logits, labels)),
            "test_accuracy": float(right.double().mean()),
        }
        for tracker in self.trackers.values():
            metrics |= tracker.update(right)
        return metrics

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def _binding(self) -> dict[str, Any]:
        """What must not change between two epochs of a run, for its record to be true of all of them."""
        return {"run_id": self.config.run_id, **self.environment, "source_checksum": source_checksum()}

    def _save_checkpoint(self) -> None:
        state = {
            "learner": self.learner.state_dict(),
            "trackers": {name: tracker.state_dict() for name, tracker in self.trackers.items()},
            "curves": self.curves,
            "generator": self.generator.get_state(),
            "global_generator": torch.get_rng_state(),
            "total_seconds": self.total_seconds,
            "started_at": self.started_at,
        }
        save_checkpoint(self.checkpoint, state, self._binding)
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint, self.device, self._binding)
        if state is None:
            return
        try:
            checks.check_curves(checks.finite_or_null(state["curves"]), self.config.epochs)
            self.learner.load_state_dict(state["learner"])
            for name, tracker in self.trackers.items():
                tracker.load_state_dict(state["trackers"][name])
            self.generator.set_state(state["generator"].cpu())
            torch.set_rng_state(state["global_generator"].cpu())
            self.curves = state["curves"]
            self.total_seconds = state["total_seconds"]
            self.started_at = state["started_at"]
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise damaged_checkpoint(self.checkpoint, reason) from error

    def _environment(self) -> dict[str, Any]:
        finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
        own = sources_of((self.config.algorithm, self.config.model, self.config.dataset))
        source = {"source": own} if own else {}
        return {**self.environment, **source, "started_at": self.started_at, "finished_at": finished}


def dataset_of(config: RunConfig) -> data.Dataset:
    """What a run trains and measures on: its part of the data, with its labels' noise."""
    dataset = data.load(config.dataset)
    if config.split == "validation":
        dataset = data.split_validation(dataset)
    if config.data_fraction < 1.0:
        dataset = data.take_fraction(dataset, config.data_fraction)
    return _with_noise(dataset, config) if config.label_noise > 0.0 else dataset


def _with_noise(dataset: data.Dataset, config: RunConfig) -> data.Dataset:
    """The dataset with noisy labels; those of a validation split are noisy, too: it is a part of the training set.

    The checksum stays: it is that of the data from which the run's configuration makes the rest.
    """
    noisy = [
        data.corrupt_labels(labels, config.label_noise, dataset.num_classes, config.seed)
        for labels in (dataset.labels, dataset.test_labels)
    ]
    held_out = noisy[1] if config.split == "validation" else dataset.test_labels
    return replace(dataset, labels=noisy[0], test_labels=held_out)


def _batches(
    config: RunConfig, dataset: data.Dataset, generator: torch.Generator, device: torch.device
) -> tuple[data.Batches, data.Batches]:
    train_batches = data.Batches(
        dataset.images,
        dataset.labels,
        dataset.mean,
        dataset.std,
        config.batch_size,
        generator=generator,
        shuffle=True,
        augment=config.augment,
        device=device,
    )
    test_batches = data.Batches(
        dataset.test_images, dataset.test_labels, dataset.mean, dataset.std, _EVALUATION_BATCH, device=device
    )
    return train_batches, test_batches
