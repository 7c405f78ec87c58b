"""Runs: what one is asked to do (RunConfig), what came of it (RunRecord), and where records are kept (RunStore)."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from filelock import FileLock

from advanced_optimizers._checks import check_integer, check_range

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("one-cycle", "constant")
SPLITS = ("test", "validation", "none")
STATUSES = ("completed", "diverged")

Hyperparameters = dict[str, float | int | bool | str]


class RecordError(RuntimeError):
    """A record or a checkpoint is damaged; the message names the file and says what to do."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's outcome.

    Attributes:
        dataset: A name of ``data.DATASETS``.
        model: A name of ``models.MODELS``.
        algorithm: A name of ``algorithms.ALGORITHMS``.
        hyperparameters: The algorithm's own, JSON scalars.
        seed: Seeds the weights, the batches and the label noise. >= 0.
        epochs: Passes over the training set. >= 1.
        batch_size: Images a step. >= 1.
        label_noise: Share of training labels replaced by a wrong one, in [0, 1).
        data_fraction: Share of the training images used, in (0, 1].
        width: The model's width multiplier. > 0.
        precision: ``float32``, or ``bfloat16`` autocast over float32 parameters.
        schedule: ``one-cycle`` (learning rate up to ``lr`` and down to zero) or ``constant``.
        augment: Random crops and mirror images.
        split: What accuracy is measured on after each epoch: ``test``; for tuning a ``validation`` part of the training
            set; or ``none`` where only the training loss is asked for, since measuring takes time too.
    """

    dataset: str
    model: str
    algorithm: str
    hyperparameters: Hyperparameters = field(default_factory=dict)
    seed: int = 0
    epochs: int = 10
    batch_size: int = 128
    label_noise: float = 0.0
    data_fraction: float = 1.0
    width: float = 1.0
    precision: str = "float32"
    schedule: str = "one-cycle"
    augment: bool = False
    split: str = "test"

    def __post_init__(self) -> None:
        for name in ("dataset", "model", "algorithm"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string, got {getattr(self, name)!r}")
        if not isinstance(self.augment, bool):
            raise TypeError(f"augment must be True or False, got {self.augment!r}")
        check_integer("seed", self.seed, low=0)
        check_integer("epochs", self.epochs, low=1)
        check_integer("batch_size", self.batch_size, low=1)
        check_range("label_noise", self.label_noise, low=0.0, high=1.0, open_high=True)
        check_range("data_fraction", self.data_fraction, low=0.0, high=1.0, open_low=True)
        check_range("width", self.width, low=0.0, high=math.inf, open_low=True, open_high=True)
        for name in ("label_noise", "data_fraction", "width"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 0 and 0.0 are one configuration
        object.__setattr__(self, "hyperparameters", _checked(self.hyperparameters))  # a copy: an id must not change
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("schedule", self.schedule, SCHEDULES),
            ("split", self.split, SPLITS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")

    @property
    def task(self) -> str:
        """Dataset and model, as in ``mnist-mlp``."""
        return f"{self.dataset}-{self.model}"

    @property
    def run_id(self) -> str:
        """16 hexadecimal digits: a hash of the configuration, the same on every machine."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What one run gave. Written once, never edited.

    Attributes:
        config: What was asked.
        status: ``completed``, or ``diverged`` when the loss stopped being finite.
        environment: Versions, commit, device, threads, data checksum, start time.
        curves: One list for each metric, one value for each epoch. Accuracies and errors are fractions in [0, 1];
            ``seconds`` (wall) and ``cpu_seconds`` (of the process) are those of training, without evaluation.
        final: The last epoch's value of each curve.
        total_seconds: Wall seconds of training and evaluation, summed over interruptions.
        peak_memory_bytes: Of the process, or of the accelerator where one was used.
    """

    config: RunConfig
    status: str
    environment: dict[str, Any]
    curves: dict[str, list[float | None]]
    final: dict[str, float | None]
    total_seconds: float
    peak_memory_bytes: int

    @property
    def run_id(self) -> str:
        """The configuration's id."""
        return self.config.run_id

    def outcome(self) -> dict[str, Any]:
        """The part that the same configuration reproduces bit for bit on one machine: all but time and memory."""
        timing = {"seconds", "cpu_seconds", "evaluation_seconds"}
        curves = {name: _finite(values) for name, values in self.curves.items() if name not in timing}
        return {"run_id": self.run_id, "status": self.status, "curves": curves}

    def to_json(self) -> str:
        """The record as JSON; values that are not finite become null."""
        return json.dumps(_finite({"run_id": self.run_id, **asdict(self)}), indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str) -> RunRecord:
        """Reads :meth:`to_json` back.

        Raises:
            ValueError: The text is no JSON, lacks a field, or its id is not its configuration's.
        """
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        missing = {"run_id", *(f.name for f in fields(RunRecord))} - content.keys()
        if missing:
            raise ValueError(f"lacks {sorted(missing)}")
        run_id = content.pop("run_id")
        try:
            record = RunRecord(**{**content, "config": RunConfig(**content["config"])})
        except TypeError as error:
            raise ValueError(str(error)) from error
        _check_content(record)
        if record.run_id != run_id:
            raise ValueError(f"its run_id {run_id} is not that of its configuration, {record.run_id}: it was edited")
        return record


class RunStore:
    """Records under one folder, as ``<task>/<algorithm>/<run_id>.json``, beside locks and checkpoints in progress.

    Args:
        root: The folder of the records, such as ``results/runs``. Locks and checkpoints go to ``.progress`` beside it.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.progress_folder = self.root.parent / ".progress"

    def path(self, config: RunConfig) -> Path:
        """Where the record of a configuration is kept."""
        return self.root / config.task / config.algorithm / f"{config.run_id}.json"

    def checkpoint_path(self, config: RunConfig) -> Path:
        """Where a run in progress saves its checkpoint."""
        return self.progress_folder / f"{config.run_id}.pt"

    def lock(self, config: RunConfig) -> FileLock:
        """The lock that a process holds while it trains a configuration; the system frees it if the process dies."""
        self.progress_folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.progress_folder / f"{config.run_id}.lock")

    def load(self, config: RunConfig) -> RunRecord | None:
        """The record of a configuration, or None when it has not run.

        Raises:
            RecordError: The file is damaged.
        """
        path = self.path(config)
        return _read(path) if path.exists() else None

    def paths(self) -> list[Path]:
        """The files of all records, sorted."""
        return sorted(self.root.glob("*/*/*.json"))

    def records(self) -> list[RunRecord]:
        """All records, sorted by path.

        Raises:
            RecordError: One or more files are damaged; all of them are named.
        """
        records, problems = [], []
        for path in self.paths():
            try:
                records.append(_read(path))
            except RecordError as error:
                problems.append(str(error))
        if problems:
            raise RecordError("\n".join(problems))
        return records

    def save(self, record: RunRecord, *, replace: bool = False) -> Path:
        """Writes a record, whole or not at all.

        Args:
            record: What to write.
            replace: Whether it takes the place of an older record of the same configuration.

        Raises:
            FileExistsError: The run has a record already, and ``replace`` is not set.
        """
        path = self.path(record.config)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(record.to_json())
        try:
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)  # unlike a rename, this fails when the record exists
        finally:
            temporary.unlink(missing_ok=True)
        return path


def records_frame(records: Iterable[RunRecord], targets: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One row a run: its configuration (hyperparameters as ``hp_*``), final metrics, and times.

    ``seconds_per_epoch`` and ``cpu_seconds_per_epoch`` are medians over the epochs.

    Args:
        records: The runs.
        targets: Test accuracies by task, in [0, 1]; with them, ``epochs_to_target`` counts a run's :func:`epochs_to`
            its task's.
    """
    rows = []
    for record in records:
        row = _row(record)
        if targets:
            target = targets.get(record.config.task, math.nan)
            row["epochs_to_target"] = epochs_to(record.curves.get("test_accuracy", []), target)
        rows.append(row)
    return pd.DataFrame(rows)


def epochs_to(accuracies: Sequence[float | None], target: float) -> float:
    """After how many epochs an accuracy is first reached, between two epochs on the line that joins them.

    Nan where the run ended before (the count is censored: all that is known is that it is larger), 1 where the first
    epoch reached it.
    """
    before = math.nan
    for epoch, accuracy in enumerate(accuracies, start=1):
        if accuracy is not None and accuracy >= target:
            return float(epoch) if epoch == 1 else epoch - (accuracy - target) / (accuracy - before)
        before = math.nan if accuracy is None else accuracy
    return math.nan


def curves_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row a run and epoch (from 1), one column a curve."""
    frames = []
    for record in records:
        config = record.config
        frame = pd.DataFrame({name: pd.Series(values, dtype=float) for name, values in record.curves.items()})
        frame.insert(0, "epoch", range(1, len(frame) + 1))
        for name in ("seed", "split", "label_noise", "algorithm", "task"):
            frame.insert(0, name, getattr(config, name))
        frame.insert(0, "run_id", record.run_id)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _row(record: RunRecord) -> dict[str, Any]:
    config = asdict(record.config)
    hyperparameters = config.pop("hyperparameters")
    return {
        "run_id": record.run_id,
        "task": record.config.task,
        **config,
        **{f"hp_{name}": value for name, value in hyperparameters.items()},
        "status": record.status,
        "commit": record.environment.get("git_commit"),
        **{name: math.nan if value is None else value for name, value in record.final.items()},
        "seconds_per_epoch": _median(record.curves.get("seconds", [])),
        "cpu_seconds_per_epoch": _median(record.curves.get("cpu_seconds", [])),
        "total_seconds": record.total_seconds,
        "peak_memory_bytes": record.peak_memory_bytes,
    }


def _median(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return median(known) if known else math.nan


def _read(path: Path) -> RunRecord:
    try:
        record = RunRecord.from_json(path.read_text())
        if path.stem != record.run_id:
            raise ValueError(f"it holds the run {record.run_id}")
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordError(
            f"the record {path} is damaged ({error}): restore it from version control, or delete it and run its study "
            "again; the other records are untouched"
        ) from error
    return record


def _checked(hyperparameters: Any) -> Hyperparameters:
    if not isinstance(hyperparameters, dict):
        raise TypeError(f"hyperparameters must be a dict, got {hyperparameters!r}")
    for name, value in hyperparameters.items():
        if not isinstance(name, str) or not isinstance(value, float | int | bool | str):
            raise TypeError(f"hyperparameters must be numbers, booleans or strings by name, got {name!r}: {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"hyperparameters must be finite, got {name!r}: {value!r}")
    return dict(hyperparameters)


def _check_content(record: RunRecord) -> None:
    if record.status not in STATUSES:
        raise ValueError(f"its status is {record.status!r} instead of {' or '.join(STATUSES)}")
    for name, value in (("curves", record.curves), ("final", record.final)):
        if not isinstance(value, dict):
            raise ValueError(f"its {name} are no object")
    if not all(isinstance(values, list) for values in record.curves.values()):
        raise ValueError("a curve is no list")
    if len({len(values) for values in record.curves.values()}) > 1:
        raise ValueError("its curves differ in length")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
