"""Trains recorded runs again, apart from their records, and compares.

On the processor and with the versions of the record, a run must come back bit for bit. Elsewhere it cannot: sums are
rounded in another order, and training amplifies the difference until the run is like one with another seed. Its last
accuracy is then compared within a tolerance: the 99 % interval of the difference of two runs that differ in the seed
alone, ``t_{n-1} * s * sqrt(2)``, where ``s`` is the standard deviation of the ``n`` recorded seeds.

Limitations: records from before the CPU capability was kept name their processor by the vendor's name alone, which
several generations share. Unless such a run comes back bit for bit, it counts as one from another processor.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS
from advanced_optimizers.experiments.evidence.statistics import mean_interval
from advanced_optimizers.experiments.records.config import BaseConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.running import Workers, recorded_configs, train_all
from advanced_optimizers.experiments.studies.study import BaseStudy

Judgment: TypeAlias = Literal["identical", "within", "DIFFERENT", "undecided"]

# What the rounding of sums depends on.
_ARITHMETIC = ("device", "device_name", "cpu_capability", "torch", "blas", "threads")
# An older record lacks some. Without its capability the processor is unknown: several generations share one name.
_NEEDED = {"cpu_capability"}
_CONFIDENCE = 0.99


@dataclass(frozen=True)
class Reproduction:
    """One run trained again.

    Attributes:
        recorded: The existing record.
        repeated: The record of training the run again.
        tolerance: By how much the last accuracy may differ on another machine, a fraction in [0, 1]; None if that is
            not known, since fewer than ``MIN_SEEDS`` seeds of the configuration are recorded.
    """

    recorded: RunRecord
    repeated: RunRecord
    tolerance: float | None = None

    @property
    def identical(self) -> bool:
        """Whether every curve is the same, bit for bit; expected on the CPU of one machine with the same torch."""
        return self.recorded.outcome() == self.repeated.outcome()

    @property
    def elsewhere(self) -> list[str]:
        """The fields of the environment that keep the run from coming back bit for bit; usually the processor."""
        before, after = self.recorded.environment, self.repeated.environment
        compared = [name for name in _ARITHMETIC if name in before or name in _NEEDED]
        changed = [name for name in compared if before.get(name) != after.get(name)]
        return changed or (["device"] if after["device"] != "cpu" else [])

    @property
    def judgment(self) -> Judgment:
        """Whether the run came back: ``identical``, ``within`` the tolerance or not, or ``undecided`` without one."""
        if self.identical:
            return "identical"
        if not self.elsewhere or self.recorded.status != self.repeated.status:
            return "DIFFERENT"
        if self.recorded.status == "diverged":
            return "within"
        before, after = _last(self.recorded), _last(self.repeated)
        if self.tolerance is None or before is None or after is None:
            return "undecided"
        return "within" if abs(before - after) <= self.tolerance else "DIFFERENT"

    def __str__(self) -> str:
        config = self.recorded.config
        name = (
            f"{config.run_id}  {config.task:22} {config.algorithm:14} noise {config.label_noise:g}  seed {config.seed}"
        )
        before, after = (_words(record) for record in (self.recorded, self.repeated))
        return f"{name}  recorded {before}, repeated {after}: {self._judged}"

    @property
    def _judged(self) -> str:
        judgment = self.judgment
        if judgment == "identical" or not self.elsewhere or self.recorded.status != self.repeated.status:
            return judgment
        if self.recorded.status == "diverged":
            return "diverged again"
        if self.tolerance is None:
            return f"{judgment}, fewer than {MIN_SEEDS} seeds are recorded"
        if judgment == "undecided":
            return "undecided, no accuracy was measured"
        limit = f"{100 * self.tolerance:.2f} points"
        return f"within {limit}" if judgment == "within" else f"{judgment}, not within {limit}"


def summary(reproductions: Sequence[Reproduction]) -> str:
    """How many runs came back, and how those were judged that cannot be identical on this machine, in one line each."""
    judged, total = Counter(r.judgment for r in reproductions), len(reproductions)
    lines = [f"{judged['identical']} of {total} runs came back bit for bit"]
    elsewhere = [r for r in reproductions if r.elsewhere and not r.identical]
    if elsewhere:
        fields = dict.fromkeys(name for r in elsewhere for name in r.elsewhere)
        lines.append(
            f"{judged['within']} more came back within the tolerance, {judged['DIFFERENT']} are different, and "
            f"{judged['undecided']} cannot be judged: bit-equality needs a CPU and the records' {', '.join(fields)}, "
            f"so the last accuracy is compared, within the {100 * _CONFIDENCE:g} % interval of the difference between "
            "two seeds (t s sqrt(2), with s from the recorded seeds)"
        )
    return "\n".join(lines)


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
    again = [Reproduction(old, new) for old, new in pairs if old is not None and new is not None]
    return [r if r.identical or not r.elsewhere else replace(r, tolerance=_tolerance(r, study, store)) for r in again]


def _tolerance(reproduction: Reproduction, study: BaseStudy, store: RunStore) -> float | None:
    """By how much two runs of a configuration with different seeds differ, or None with fewer than ``MIN_SEEDS``."""
    own = _any_seed(reproduction.recorded.config)
    records = [store.load(config) for config in recorded_configs(study, store) if _any_seed(config) == own]
    completed = [record for record in records if record is not None and record.status == "completed"]
    values = [value for record in completed if (value := _last(record)) is not None]
    if len(values) < MIN_SEEDS:
        return None
    return mean_interval(values, _CONFIDENCE).half_width * math.sqrt(2 * len(values))


def _any_seed(config: BaseConfig) -> BaseConfig:
    return replace(config, seed=0)


def _last(record: RunRecord) -> float | None:
    """The accuracy of the last epoch: on the test or validation set, or else on the training set."""
    return record.final.get("train_accuracy" if record.config.split == "none" else "test_accuracy")


def _words(record: RunRecord) -> str:
    """The last accuracy and the processor, such as ``98.17 % on AMD EPYC (AVX2)``."""
    value, environment = _last(record), record.environment
    percent = "none" if value is None else f"{100 * value:.2f} %"
    return f"{percent} on {environment['device_name']} ({environment.get('cpu_capability', 'capability unknown')})"
