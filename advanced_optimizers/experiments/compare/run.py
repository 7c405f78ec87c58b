"""Runs a comparison: the function ``compare``, and what the command shares with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from advanced_optimizers.experiments.compare.code import CompareError
from advanced_optimizers.experiments.compare.comparison import Comparison
from advanced_optimizers.experiments.compare.live import Live, duration
from advanced_optimizers.experiments.compare.protocol import Plan, names
from advanced_optimizers.experiments.compare.request import Prepared, Request, missing, prepare
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.records.writing import write_if_changed
from advanced_optimizers.experiments.studies.running import Workers, run_study
from advanced_optimizers.experiments.studies.study import MissingRunsError
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

_OVERHEAD = 1.3  # of a run over its steps: evaluation and saving
_SECONDS = 0.2  # of a run, besides


def compare(
    contenders: Sequence[Any],
    against: Sequence[str] | None = None,
    *,
    task: str | None = None,
    model: Any = None,
    data: Any = None,
    budget: int | None = None,
    studies: int | None = None,
    seeds: int | None = None,
    jobs: int = 2,
    engine: str = "loky",
    margin: float | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    **further: Any,
) -> Comparison:
    """Compares optimizers under the project's protocol; finished runs are kept, so a second call trains nothing.

    Args:
        contenders: Optimizers: ``"file.py:Name"``, a class ``(params, lr, ...)``, a factory ``(model, lr, ...)``, the
            name of an algorithm of the project, or a :class:`.Contender`.
        against: Names of the algorithms that they are compared with; by default, the task's anchors.
        task: The task, such as ``mnist-mlp``; by default small digits, on which nothing is decided.
        model: Your own network, ``"file.py:build"`` or a function ``build(image_shape, num_classes)``.
        data: Your own images: a folder ``{train,test}/<class>/*.png``, ``"file.py:make"``, or a function that returns
            two datasets.
        budget: Tuning trials per study; by default the task's, or 8.
        studies: How often each optimizer is tuned; by default the task's, or 4.
        seeds: Runs per study; by default the task's, or 3.
        jobs: Runs at a time.
        engine: ``loky``, ``ray`` or ``dask``.
        margin: The largest difference in test accuracy that does not matter, in points.
        out: The folder of results; by default ``compare/<contenders>-<task>``.
        progress: Whether to print what is done.
        **further: The other fields of :class:`.Request`.

    Raises:
        CompareError: Something cannot be compared; the message says what, and the way out.
        StudyError: Some runs failed; the others are recorded.

    Source: the protocol is described in ``studies.referee``.
    """
    things = [contenders] if isinstance(contenders, str) or not isinstance(contenders, Sequence) else contenders
    request = Request(
        contenders=things,
        against=[against] if isinstance(against, str) else against,
        task=task,
        model=model,
        data=data,
        budget=budget,
        studies=studies,
        seeds=seeds,
        margin=margin,
        out=out,
        **further,
    )
    say: Callable[[str], object] = partial(print, flush=True) if progress else lambda line: None
    prepared = prepare(request, say)
    comparison = train(prepared, jobs=jobs, engine=engine, device=request.device, stream=_stream(progress), say=say)
    write(comparison, prepared.out)
    return comparison


def train(
    prepared: Prepared,
    *,
    jobs: int,
    engine: str,
    device: str,
    stream: TextIO | None,
    say: Callable[[str], object],
    command: str = "",
) -> Comparison:
    """Trains what is not recorded, and compares.

    Raises:
        CompareError: All trials of an algorithm diverged.
        StudyError: Some runs failed; the others are recorded.
    """
    plan, store = prepared.plan, prepared.store
    say(plan_line(prepared, jobs))
    facts = replace(prepared.facts, command=command)
    if missing(plan, store)[1]:
        live = Live(plan, store, prepared.out / "runs.jsonl", stream)
        live.draw()
        workers = Workers(jobs, engine, device, prepared.setups)
        try:
            run_study(plan.study, store, workers, progress=False, on_run=live)
        except MissingRunsError as error:
            raise _all_diverged(plan, store) or error from error
        live.draw()
    return Comparison(plan, store, facts)


def plan_line(prepared: Prepared, jobs: int) -> str:
    """How many runs there are, how many are recorded, and how long the others will take."""
    plan, protocol = prepared.plan, prepared.plan.protocol
    total, left = missing(plan, prepared.store)
    trials = sum(rung.trials for rung in protocol.rungs) or protocol.trials
    seconds = _seconds(prepared)
    time = f", about {duration(seconds)} on one core" if left else ""
    time += f", {duration(seconds / jobs)} on {jobs} jobs" if left and jobs > 1 else ""
    untuned = f" + {protocol.tunings * len(plan.untuned)} untuned runs" if plan.untuned else ""
    return (
        f"plan       {len(plan.algorithms)} algorithms x ({protocol.tunings} studies x {trials} trials + "
        f"{protocol.tunings * protocol.runs} runs){untuned} = {total} runs: {total - left} recorded, {left} to train"
        f"{time}"
    )


def _seconds(prepared: Prepared) -> float:
    """How long the runs take that are not recorded, on one core."""
    plan, task = prepared.plan, prepared.plan.protocol.task
    recorded = plan.recorded(prepared.store)
    spent = 0.0
    for name in plan.algorithms:
        left = sum(plan.count(name)) - len(recorded[name])
        flight = prepared.facts.preflights[name]
        steps = flight.batches * task.epochs / ALGORITHMS[name].passes
        spent += left * (steps * flight.seconds * _OVERHEAD + _SECONDS)
    return spent


def _all_diverged(plan: Plan, store: RunStore) -> CompareError | None:
    """The error for an algorithm of which every trial of a study diverged."""
    for study in plan.study.comparisons().values():
        for name in plan.algorithms:
            configs = study.trial_configs(study.tasks[0], name)
            records = [record for config in configs if (record := store.load(config)) is not None]
            if len(records) == len(configs) and all(record.status == "diverged" for record in records):
                rate = ALGORITHMS[name].rate
                lowest = min(float(config.hyperparameters[rate]) for config in configs)
                return CompareError(
                    f"all {len(records)} trials of {names([name])[name]} in a study diverged; the lowest {rate} was "
                    f"{lowest:.1e}: give --space {rate}={lowest / 1000:.0e}..{lowest:.0e}"
                )
    return None


def write(comparison: Comparison, out: Path) -> list[Path]:
    """Writes the page, the comparison as JSON, and the badge; returns the files."""
    from advanced_optimizers.experiments.compare.badge import badge

    page = comparison.save_html(out / "index.html")
    write_if_changed(out / "comparison.json", comparison.to_json())
    write_if_changed(out / "badge.svg", badge(comparison))
    return [page, out / "runs.jsonl", out / "comparison.json", out / "badge.svg"]


def _stream(progress: bool) -> TextIO | None:
    return sys.stdout if progress else None
