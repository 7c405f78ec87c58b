"""The blocks about sweeps of learning rates over widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advanced_optimizers._checks import check_known
from advanced_optimizers.experiments.evidence.optima import optimum_bounds, shift_bounds
from advanced_optimizers.experiments.evidence.transfers import find_transfer
from advanced_optimizers.experiments.report.results.sweep_results import SweepResults
from advanced_optimizers.experiments.report.tables.table_files import PENDING

if TYPE_CHECKING:
    from advanced_optimizers.experiments.report.blocks.blocks import ReportContext


def optimum(context: ReportContext, task: str, algorithm: str, units: str) -> str:
    """log2 of the best learning rate of a sweep: mean ± half-width of the 95 % interval, and n."""
    results = context.sweep(task)
    _check_width(results, task, algorithm, units)
    bounds = optimum_bounds(results.optima, task, algorithm, int(units))
    return f"{bounds.place()} (n = {bounds.n})" if bounds else PENDING


def shift(context: ReportContext, task: str, algorithm: str, start: str, units: str) -> str:
    """How many octaves the best learning rate moves between two widths, with its 95 % interval, and n."""
    results = context.sweep(task)
    for width in (start, units):
        _check_width(results, task, algorithm, width)
    bounds = shift_bounds(results.optima, task, algorithm, int(units), int(start))
    return f"{bounds.move()} octaves (n = {bounds.n})" if bounds else PENDING


def cost(context: ReportContext, task: str, algorithm: str, start: str, ratio: str) -> str:
    """The CPU ``time`` of tuning narrow and training wide once over that of tuning wide, or the ``loss`` it gives."""
    results = context.sweep(task)
    _check_width(results, task, algorithm, start)
    check_known("ratio", ratio, {"time": 0, "loss": 0})
    transfer = find_transfer(results.points, task, algorithm, int(start))
    if transfer is None:
        return PENDING if results.missing else "*not tried*"
    words = transfer.time_ratio.bracket(digits=3) if ratio == "time" else transfer.loss_words
    return f"{words} (n = {len(transfer.losses)})"


def _check_width(results: SweepResults, task: str, algorithm: str, units: str) -> None:
    (sweep_task,) = (known for known in results.study.tasks if known.name == task)
    check_known("algorithm", algorithm, dict.fromkeys(results.study.algorithms))
    check_known("width", units, {str(n): n for n in sweep_task.units})
