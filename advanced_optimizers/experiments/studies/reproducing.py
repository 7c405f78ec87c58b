"""Trains recorded runs again, apart from their records, and compares."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.running import Workers, recorded_configs, train_all
from advanced_optimizers.experiments.studies.study import BaseStudy


@dataclass(frozen=True)
class Reproduction:
    """One run trained again.

    Attributes:
        recorded: The existing record.
        repeated: The record of training the run again.
    """

    recorded: RunRecord
    repeated: RunRecord

    @property
    def identical(self) -> bool:
        """Whether every curve is the same, bit for bit; expected on the CPU of one machine with the same torch."""
        return self.recorded.outcome() == self.repeated.outcome()

    def __str__(self) -> str:
        config = self.recorded.config
        name = (
            f"{config.run_id}  {config.task:22} {config.algorithm:14} noise {config.label_noise:g}  seed {config.seed}"
        )
        measured = "train_accuracy" if config.split == "none" else "test_accuracy"
        before, after = (_percent(r.final.get(measured)) for r in (self.recorded, self.repeated))
        return f"{name}  recorded {before}, repeated {after}: {'identical' if self.identical else 'DIFFERENT'}"


def reproduce(
    study: BaseStudy, store: RunStore, workers: Workers | None = None, only: Sequence[str] = (), progress: bool = True
) -> list[Reproduction]:
    """Trains recorded runs again, without touching their records, and compares.

    Args:
        study: The study whose runs to train again.
        store: Where the records are; nothing in it is changed.
        workers: How runs are distributed; by default, one after the other.
        only: Prefixes of run ids; by default, all runs of the study that have a record.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: There is no recorded run, or none with such an id.
        StudyError: Some runs failed.
    """
    configs = recorded_configs(study, store)
    unknown = [prefix for prefix in only if not any(config.run_id.startswith(prefix) for config in configs)]
    if unknown or not configs:
        wanted = f"recorded run whose id begins with {unknown[0]!r}" if unknown else "recorded run"
        raise ValueError(f"the study {study.name} ({study.profile}) has no {wanted} in {store.root}")
    if only:
        configs = [config for config in configs if config.run_id.startswith(tuple(only))]
    with tempfile.TemporaryDirectory() as folder:
        scratch = RunStore(Path(folder) / "runs")
        train_all(configs, scratch, workers or Workers(), f"{study.name}: again", progress)
        pairs = [(store.load(config), scratch.load(config)) for config in configs]
    return [Reproduction(old, new) for old, new in pairs if old is not None and new is not None]


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.2f} %"
