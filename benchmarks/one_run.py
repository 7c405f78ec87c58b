"""CPU seconds per epoch of every algorithm of the comparison, all in turn in one run, as ratios to the first anchor.

All steps run in one thread, so that the processor's time is that of the clock on the wall of a quiet machine.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from advanced_optimizers.experiments.evidence.medians import coverage, median_interval, ratios
from advanced_optimizers.experiments.records.machine import threads
from advanced_optimizers.experiments.studies.referee import Referee
from advanced_optimizers.experiments.studies.registry import STUDIES
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from benchmarks.epochs import THREADS, Plan, measure_in_turn
from benchmarks.result import Result, Rows, cpu_environment

FULL = Plan(pairs=7, epochs=3, pair_seconds=0.03, warm_up=2)
QUICK = Plan(pairs=3, epochs=2, pair_seconds=0.005, warm_up=1)


def run(quick: bool) -> Result:
    """Measures all algorithms of the comparisons, task by task.

    Raises:
        DataError: The data files of a task are missing.
    """
    plan = QUICK if quick else FULL
    with threads(THREADS):
        measurements = [
            row for compared in comparisons("quick" if quick else "full") for row in measure(*compared, plan)
        ]
        return Result(
            name="one_run",
            caption="CPU seconds of a training epoch, batches included: all algorithms of the comparison in turn over "
            f"the same batches, {THREADS} thread, spread over the run's epochs and scaled to an epoch. {plan.pairs} "
            "rounds, technical repeats on one machine. Ratio to the first anchor: median over the rounds, with its "
            f"order-statistic interval (exact coverage {100 * coverage(plan.pairs):.1f} %).",
            rows=_rows(measurements),
            measurements=measurements,
            environment=cpu_environment(),
        )


def comparisons(profile: str) -> list[tuple[Task, tuple[str, ...], str]]:
    """Returns each task of a profile's comparisons once, with all its algorithms and the first anchor."""
    found: dict[str, tuple[Task, tuple[str, ...], str]] = {}
    for (_, of_profile), study in STUDIES.items():
        if of_profile == profile and isinstance(study, Referee):
            for task in study.tasks:
                _, before, _ = found.get(task.name, (task, (), ""))
                found[task.name] = (task, tuple(dict.fromkeys((*before, *study.algorithms))), study.anchors[0])
    return list(found.values())


def measure(task: Task, algorithms: tuple[str, ...], anchor: str, plan: Plan) -> list[dict[str, Any]]:
    """Measures all algorithms of a task, and returns one row for each but the anchor."""
    measured = measure_in_turn(task, algorithms, anchor, plan, clock=time.process_time)
    return [
        {
            "task": task.name,
            "algorithm": name,
            "baseline": anchor,
            "pairs": measured.pairs(name, anchor),
            "batches_per_pair": measured.batches,
            "batches_per_epoch": measured.batches_per_epoch,
        }
        for name in algorithms
        if name != anchor
    ]


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    rows = []
    for m in measurements:
        base, ratio = median(seconds for _, seconds in m["pairs"]), median_interval(ratios(m["pairs"]))
        rows.append(
            {
                "Task": m["task"],
                "Algorithm": ALGORITHMS[m["algorithm"]].label,
                "s per epoch": f"{base * ratio.estimate:.2f}",
                "Anchor": ALGORITHMS[m["baseline"]].label,
                "Ratio": f"{ratio.estimate:.3f} ({ratio.low:.3f}-{ratio.high:.3f})",
            }
        )
    return rows
