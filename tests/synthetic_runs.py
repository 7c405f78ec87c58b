"""Made-up run records with known effects, for the tests of statistics, claims, figures, tables and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from tests.experiments_helpers import ENVIRONMENT

TASKS = {"mnist-mlp": 0.97, "cifar10-jpeg-convnet": 0.78}
ALGORITHMS = ("sgd", "adam", "fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam")
GAINS = {"sgd": 0.0, "adam": 0.004, "fer-sgd": 0.003, "fer-adam": 0.004, "flipping-sgd": 0.01, "flipping-adam": 0.012}
EPOCHS = 10


def make_config(task: str, algorithm: str, seed: int, label_noise: float = 0.0) -> RunConfig:
    dataset, model = task.rsplit("-", 1)
    hyperparameters = {"lr": 0.1 if algorithm.endswith("sgd") else 0.001}
    if algorithm.startswith("fer"):
        hyperparameters |= {"fer_weight": 0.3, "memory_size": 100}
    return RunConfig(
        dataset=dataset,
        model=model,
        algorithm=algorithm,
        hyperparameters=hyperparameters,
        seed=seed,
        epochs=EPOCHS,
        label_noise=label_noise,
    )


def make_record(config: RunConfig, final_accuracy: float | None = None, status: str = "completed") -> RunRecord:
    """A record whose accuracy rises to ``final_accuracy``; by default, to the task's plus a gain and some noise."""
    noise = np.random.default_rng([config.seed, list(TASKS).index(config.task), ALGORITHMS.index(config.algorithm)])
    goal = final_accuracy
    if goal is None:
        shared = np.random.default_rng([config.seed, 7]).normal(0, 0.003)
        goal = TASKS[config.task] - 0.3 * config.label_noise + GAINS[config.algorithm] + shared + noise.normal(0, 0.001)
    ramp = 1 - np.exp(-np.arange(1, EPOCHS + 1) / 2.0)
    accuracy = goal * ramp / ramp[-1] + np.append(noise.normal(0, 0.004, EPOCHS - 1), 0.0)
    flips = 0.6 * ramp - 4 * GAINS[config.algorithm] + noise.normal(0, 0.01, EPOCHS)
    curves: dict[str, list[float | None]] = {
        "train_loss": (2.3 * np.exp(-np.arange(EPOCHS) / 3)).tolist(),
        "train_accuracy": np.minimum(accuracy + 0.01, 1.0).tolist(),
        "test_loss": (2.3 * np.exp(-np.arange(EPOCHS) / 4)).tolist(),
        "test_accuracy": accuracy.tolist(),
        "seconds": (2.0 + noise.random(EPOCHS)).tolist(),
        "cpu_seconds": (2.0 + noise.random(EPOCHS)).tolist(),
        "wrongly_flipped": np.round(1000 * flips.clip(0)).tolist(),
        "relative_flipping_error": flips.clip(0).tolist(),
        "absolute_flipping_error": (0.1 * flips.clip(0)).tolist(),
    }
    if config.algorithm.startswith("fer"):
        curves["consistency"] = (0.3 * np.exp(-np.arange(EPOCHS) / 5) + noise.normal(0, 0.01, EPOCHS)).tolist()
    if status == "diverged":
        curves["train_loss"][-1] = None
    curves = {name: values[-config.epochs :] for name, values in curves.items()}  # a tuning trial is shorter
    return RunRecord(
        config=config,
        status=status,
        environment={**ENVIRONMENT, "started_at": f"2026-01-{config.seed + 1:02d}T00:00:00+00:00"},
        curves=curves,
        final={name: values[-1] for name, values in curves.items()},
        total_seconds=30.0,
        peak_memory_bytes=512 * 2**20,
    )


def make_records(
    tasks: Sequence[str] = tuple(TASKS),
    algorithms: Sequence[str] = ALGORITHMS,
    label_noises: Sequence[float] = (0.0, 0.2),
    seeds: Sequence[int] = range(5),
) -> list[RunRecord]:
    return [
        make_record(make_config(task, algorithm, seed, label_noise))
        for task in tasks
        for label_noise in label_noises
        for algorithm in algorithms
        for seed in seeds
    ]


def make_measurements(ratios: Mapping[tuple[str, str], float], tasks: Sequence[str] = tuple(TASKS)) -> dict:
    """A measurement file's content: nine pairs of epochs for each (algorithm, baseline) and task."""
    jitter = np.random.default_rng(0).normal(0, 0.002, 9)
    jitter -= np.median(jitter)
    return {
        "measurements": [
            {
                "task": task,
                "algorithm": algorithm,
                "baseline": baseline,
                "pairs": [[2.0 * ratio * (1 + j), 2.0] for j in jitter],
            }
            for task in tasks
            for (algorithm, baseline), ratio in ratios.items()
        ],
        "environment": {"device_name": "A processor", "threads": 2},
    }
