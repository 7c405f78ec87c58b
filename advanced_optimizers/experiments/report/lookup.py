"""From a number to its runs: which runs of a study it comes from, their values, and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from advanced_optimizers._checks import unknown_name
from advanced_optimizers.experiments.evidence.metrics import METRICS, noise_words
from advanced_optimizers.experiments.records.config import BaseConfig
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy
from advanced_optimizers.experiments.report.tables.tables import value_words
from advanced_optimizers.experiments.studies.kind_study import KindStudy
from advanced_optimizers.experiments.studies.study import BaseStudy, Study
from advanced_optimizers.experiments.studies.variants import VariantStudy


@dataclass(frozen=True)
class Wanted:
    """Which runs to find; what is None does not matter.

    Attributes:
        task: Dataset and model, as in ``mnist-mlp``.
        algorithm: The algorithm's name.
        noise: The fraction of noisy training labels, in [0, 1].
        seed: The run's seed.
        only: Ids of runs, or their first characters; with ids, tuning trials are found as well.
        trials: Whether to find tuning trials instead of the runs of the comparison.
        metric: The quantity to print: a key of ``METRICS``. None means those that the study compares.
    """

    task: str | None = None
    algorithm: str | None = None
    noise: float | None = None
    seed: int | None = None
    only: Sequence[str] = ()
    trials: bool = False
    metric: str | None = None

    @property
    def anything(self) -> bool:
        """Whether runs are asked for at all."""
        return self != Wanted()


# The filters with their names for the user, and what they look at.
_FILTERS: dict[str, Callable[[BaseConfig], Any]] = {
    "task": lambda config: config.task,
    "algorithm": lambda config: config.algorithm,
    "noise": lambda config: config.label_noise,
    "seed": lambda config: config.seed,
}


def find_runs(configs: Iterable[BaseConfig], wanted: Wanted, study: str) -> list[BaseConfig]:
    """The configurations that fit every filter, in their order.

    Args:
        configs: All runs that the study is based on.
        wanted: The filters.
        study: The study's name, for errors.

    Raises:
        ValueError: No run has such a name, number or id (the message suggests the nearest), or none fits all filters.
    """
    every = list(configs)
    for name, of in _FILTERS.items():
        value = getattr(wanted, name)
        if value is not None and value not in (known := dict.fromkeys(map(of, every))):
            raise unknown_name(name, _written(value), [_written(one) for one in known])
    for prefix in wanted.only:
        if not any(config.run_id.startswith(prefix) for config in every):
            raise ValueError(f"the study {study} has no run whose id begins with {prefix!r}")
    fitting = [config for config in every if _fits(config, wanted)]
    if not fitting:
        asked = [f"{name} {_written(value)}" for name in _FILTERS if (value := getattr(wanted, name)) is not None]
        kind = "tuning trial" if wanted.trials else "run"
        raise ValueError(f"the study {study} has no {kind} with {', '.join(asked) or 'such an id'}")
    return fitting


def describe_runs(results: RecordedStudy[Any], wanted: Wanted, again: Callable[[str], str]) -> list[str]:
    """The runs as lines of text: for each condition its value as the report has it, then its runs.

    Args:
        results: The study's results.
        wanted: Which runs.
        again: The command that trains a run again, by the run's id.

    Raises:
        ValueError: There are no such runs, or the metric is unknown or not recorded in any of them.
        RecordError: A record is damaged.
    """
    study = results.study
    configs = find_runs(results.expected, wanted, f"{study.name} ({study.profile})")
    records = {config.run_id: record for config in configs if (record := results.store.load(config)) is not None}
    targets = study.targets if isinstance(study, Study) else None
    frame = records_frame(records.values(), targets)
    metrics = _metrics(study, wanted.metric, frame)
    by_condition: dict[str, list[BaseConfig]] = {}
    for config in configs:
        by_condition.setdefault(replace(config, seed=0).run_id, []).append(config)
    lines = []
    for runs in by_condition.values():
        rows = frame if frame.empty else frame[frame["run_id"].isin([config.run_id for config in runs])]
        lines.append(_condition(runs[0]))
        for metric in metrics:
            lines.append(f"  {METRICS[metric].name} of these runs: {value_words(_by_seed(rows), metric)}")
        for config in runs:
            lines.append(f"  {config.run_id}  seed {config.seed}  {_values(records.get(config.run_id), rows, metrics)}")
            if config.run_id in records:
                lines.append(f"    file:  {results.store.path(config)}")
                lines.append(f"    again: {again(config.run_id)}")
        lines.append("")
    missing = len(configs) - len(records)
    untrained = f", {missing} have no record: {study.command}" if missing else ""
    return [*lines, f"{len(records)} of {len(configs)} runs recorded{untrained}"]


def _fits(config: BaseConfig, wanted: Wanted) -> bool:
    if wanted.only:
        chosen = config.run_id.startswith(tuple(wanted.only)) and (config.split == "validation" or not wanted.trials)
    else:
        chosen = (config.split == "validation") == wanted.trials
    return chosen and all(getattr(wanted, name) in (None, of(config)) for name, of in _FILTERS.items())


def _metrics(study: BaseStudy, metric: str | None, frame: pd.DataFrame) -> list[str]:
    """The metrics to print: the one that is asked for, or those that the study compares and that are recorded."""
    recorded = [name for name in METRICS if name in frame and frame[name].notna().any()]
    if metric is None:
        compared = study.metrics if isinstance(study, Study | VariantStudy | KindStudy) else ("train_loss",)
        return [name for name in compared if name in recorded]
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if metric not in recorded and not frame.empty:
        raise ValueError(f"metric must be one that these runs recorded ({', '.join(recorded)}), got {metric!r}")
    return [metric]


def _condition(config: BaseConfig) -> str:
    """What runs have in common that differ in the seed alone."""
    values = ", ".join(f"{name} = {_written(value)}" for name, value in config.hyperparameters.items())
    chosen = f" ({values})" if values else ""
    kind = "tuning trial: " if config.split == "validation" else ""
    where = f"{config.task}, {config.algorithm}, {noise_words(config.label_noise)}"
    return f"{kind}{where}, {config.extent}{chosen}"


def _values(record: RunRecord | None, rows: pd.DataFrame, metrics: Sequence[str]) -> str:
    """The recorded values of one run, in the unit in which they are recorded."""
    if record is None:
        return "no record yet"
    (row,) = rows[rows["run_id"] == record.run_id].to_dict("records")
    known = [f"{name} {_written(row[name])}" for name in metrics if pd.notna(row[name])]
    return "  ".join([*known, *(["diverged"] if record.status == "diverged" else [])])


def _by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows if rows.empty else rows.set_index("seed").sort_index()


def _written(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
