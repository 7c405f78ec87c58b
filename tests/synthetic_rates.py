"""Made-up records of a sweep of the learning rate, whose accuracies are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies.rate_sweep import RateSweep
from advanced_optimizers.experiments.studies.registry import get_study
from tests.experiments_helpers import ENVIRONMENT

SWEEP = get_study("lecture-adam-rates", "full")
assert isinstance(SWEEP, RateSweep)

# The accuracy of a run by its configuration.
Accuracy = Callable[[RunConfig], float]


def peaked(best: dict[str, float], height: float = 0.95, width: float = 0.02) -> Accuracy:
    """Accuracies that fall by ``width`` for each half decade squared from the task's best rate, with a little noise."""

    def accuracy(config: RunConfig) -> float:
        lr = float(config.hyperparameters["lr"])
        noise = np.random.default_rng([config.seed, len(config.task), round(1e6 * lr)]).normal(0, 1e-3)
        steps = 2 * (math.log10(lr) - math.log10(best[config.task]))
        return max(0.1, height - width * steps**2 + noise)

    return accuracy


def rate_record(config: RunConfig, accuracy: float, status: str = "completed") -> RunRecord:
    curves: dict[str, list[float | None]] = {
        "train_loss": [1.0] * config.epochs,
        "test_accuracy": [accuracy] * config.epochs,
        "cpu_seconds": [1.0] * config.epochs,
        "seconds": [1.0] * config.epochs,
    }
    return RunRecord(
        config=config,
        status=status,
        environment=dict(ENVIRONMENT),
        curves=curves,
        final={name: values[-1] for name, values in curves.items()},
        total_seconds=1.0,
        peak_memory_bytes=1,
    )
