"""Made-up records of a comparison against anchors: a store that has every run, except those of some algorithms."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.tuning import place_in
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from tests.experiments_helpers import make_record

# By how much an algorithm's accuracy is above 0.98; all others are within a tenth of a point of it, by their name.
GAINS = {"lion": -0.03, "muon-adamw": 0.004, "sigprop": -0.012}


def accuracy_of(config: RunConfig) -> float:
    """Made up: best in the middle of the range of rates, and lower with noisy labels and small batches."""
    rng = np.random.default_rng(int(config.run_id[:8], 16))
    row = ALGORITHMS[config.algorithm]
    place = place_in(float(config.hyperparameters[row.rate]), row.search_space[row.rate])
    own = GAINS.get(config.algorithm, (sum(map(ord, config.algorithm)) % 9 - 4) / 4000)
    lost = 0.08 * (place - 0.55) ** 2 + 0.03 * config.label_noise + 0.004 * abs(math.log2(config.batch_size / 128))
    diverges = place > 0.95 and config.split == "validation"
    return 0.1 if diverges else float(0.98 + own - lost + rng.normal(scale=5e-4))


class MadeUpRuns(RunStore):
    """Every run is recorded, with a made-up accuracy.

    Args:
        root: A folder, which stays empty.
        absent: The algorithms without runs of the comparison.
        no_trial: The algorithms without any record.
    """

    def __init__(self, root: Path, absent: Collection[str] = (), no_trial: Collection[str] = ()) -> None:
        super().__init__(root)
        self.absent, self.no_trial = absent, no_trial

    def has(self, config: RunConfig) -> bool:
        missing = config.algorithm in self.absent and config.split != "validation"
        return not missing and config.algorithm not in self.no_trial

    def load(self, config: RunConfig) -> RunRecord | None:
        if not self.has(config):
            return None
        last = accuracy_of(config)
        record = make_record(config, test_accuracy=last, cpu_seconds=2.0)
        epochs = np.arange(1, config.epochs + 1)
        record.curves["test_accuracy"] = [last - 0.03 * (1 / e - 1 / config.epochs) for e in epochs]
        return record
