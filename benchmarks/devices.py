"""Trains runs that were recorded on an accelerator again on a processor: whether the device matters.

Runs of different devices stand side by side in some comparisons. The rule, which was written before any of these runs:
the device does not matter if the 90 % interval of the mean difference in test accuracy, over all repeated runs, lies
within a quarter of a point on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from advanced_optimizers.experiments.data.datasets import DataError
from advanced_optimizers.experiments.evidence.statistics import mean_interval
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.machine import threads
from advanced_optimizers.experiments.records.paths import output_root, run_store
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.referee import DEFAULTS, Referee
from advanced_optimizers.experiments.studies.registry import get_study
from advanced_optimizers.experiments.studies.study import SEEDS, MissingRunsError
from advanced_optimizers.experiments.training.loop import train
from benchmarks.result import Result, Rows, cpu_environment

# The anchors, and the algorithms whose runs on an accelerator are compared with those of processors elsewhere.
REPEATED = ("sgd", "adamw", "adam", "fer-adam", "correction", "localized-static")
STUDY = "referee-cifar"
_REPEATS = Path("devices")  # in the scratch folder: in the project a configuration has one record


def run(quick: bool) -> Result:
    """Repeats all runs; quickly, untuned ones of a small study, which are trained on the processor both times.

    A repeat that was trained is kept, so that the same command goes on after an interrupt.

    Raises:
        DataError: A run has no record from an accelerator, or the data files are missing.
    """
    profile = "quick" if quick else "full"
    recorded, repeats = run_store(profile), RunStore(output_root("quick") / _REPEATS / profile)
    configs = repeated_configs(profile, recorded)
    if not quick:
        _check_recorded(configs, recorded)
    with threads(1):
        measurements = [_row(train(config, recorded), train(config, repeats)) for config in configs]
    return Result(
        name="devices",
        caption=f"Test accuracy of the last epoch: {len(configs)} runs that were recorded on one device, and the same "
        "configurations trained again on another one, with the same initial weights and batches. Difference: the first "
        "less the second, with the 90 % interval of its mean.",
        rows=_rows(measurements),
        measurements=measurements,
        environment=cpu_environment(),
    )


def repeated_configs(profile: str, store: RunStore) -> list[RunConfig]:
    """Returns the runs that are repeated, seed by seed.

    Raises:
        DataError: Tuning has no records, so it is not known which runs these are.
    """
    study = get_study(STUDY, profile)
    assert isinstance(study, Referee)
    if profile == "quick":
        return replace(study.comparison(DEFAULTS), algorithms=study.anchors, seeds=SEEDS[:2]).final_configs(store)
    try:
        return replace(study.comparison(study.tunings[0]), algorithms=REPEATED).final_configs(store)
    except MissingRunsError as error:
        raise DataError(str(error)) from error


def _check_recorded(configs: Sequence[RunConfig], store: RunStore) -> None:
    for config in configs:
        record = store.load(config)
        if record is None or record.environment["device"] == "cpu":
            raise DataError(
                f"the run {config.run_id} ({config.algorithm}, seed {config.seed}) has no record from an accelerator: "
                f"python -m advanced_optimizers.experiments run {STUDY} --profile full --device cuda"
            )


def _row(recorded: RunRecord, again: RunRecord) -> dict[str, Any]:
    return {
        "run_id": recorded.config.run_id,
        "task": recorded.config.task,
        "algorithm": recorded.config.algorithm,
        "seed": recorded.config.seed,
        "devices": [record.environment["device_name"] for record in (recorded, again)],
        "accuracies": [record.final["test_accuracy"] for record in (recorded, again)],
    }


def _rows(measurements: Sequence[dict[str, Any]]) -> Rows:
    algorithms = dict.fromkeys(row["algorithm"] for row in measurements)
    rows = [_summary(name, [m for m in measurements if m["algorithm"] == name]) for name in algorithms]
    return [*rows, _summary("all", measurements)]


def _summary(name: str, measurements: Sequence[dict[str, Any]]) -> dict[str, str]:
    first, second = zip(*(m["accuracies"] for m in measurements), strict=True)
    difference = mean_interval([a - b for a, b in zip(first, second, strict=True)], confidence=0.9)
    return {
        "Algorithm": name,
        "Recorded, %": f"{100 * mean(first):.2f}",
        "Again, %": f"{100 * mean(second):.2f}",
        "Difference, points": difference.bracket(100, 2, signed=True),
        "n": str(len(measurements)),
    }
