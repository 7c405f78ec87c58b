"""The generated blocks of the README and the report: each key, and the function that writes its text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from advanced_optimizers._checks import check_known
from advanced_optimizers.experiments.evidence.comparisons import (
    Comparison,
    Verdict,
    metric_evidence,
    select_runs,
)
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.blocks import claim_blocks, sweep_blocks
from advanced_optimizers.experiments.report.blocks.budget import search_spaces_table, trials_table
from advanced_optimizers.experiments.report.blocks.contest_blocks import CONTEST_BLOCKS
from advanced_optimizers.experiments.report.blocks.gain_table import gains_figure
from advanced_optimizers.experiments.report.blocks.pairing import pairing_words
from advanced_optimizers.experiments.report.blocks.processors import across_processors
from advanced_optimizers.experiments.report.figures import plots
from advanced_optimizers.experiments.report.results.compared import ComparedResults
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy, StudyFigure
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.report.results.stated_values import stated_figures
from advanced_optimizers.experiments.report.results.study_results import StudyResults
from advanced_optimizers.experiments.report.results.sweep_results import SweepResults
from advanced_optimizers.experiments.report.tables import table_files, tables
from advanced_optimizers.experiments.report.tables.difference_table import differences_table, time_ratio
from advanced_optimizers.experiments.report.tables.tuning_tables import edges_table
from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES, TOPICS
from advanced_optimizers.experiments.studies.study import BaseStudy, Study


class ReportContext:
    """The results that the report is based on.

    Args:
        root: The folder that holds ``results/`` and ``figures/``.
        studies: The studies to report; None means every study of the full profile.
    """

    def __init__(self, root: Path, studies: Sequence[BaseStudy] | None = None) -> None:
        self.root = root
        self.store = RunStore(root / "results" / "runs")
        full = [study for (_, profile), study in STUDIES.items() if profile == "full"]
        self.results = {study.name: results_of(study, root) for study in (full if studies is None else studies)}

    def study(self, name: str) -> RecordedStudy[Any]:
        """The results of a study of any kind.

        Raises:
            ValueError: There is no such study.
        """
        check_known("study", name, self.results)
        return self.results[name]

    def comparison(self, name: str) -> StudyResults:
        """The results of a comparison.

        Raises:
            ValueError: There is no such study, or it is of another kind.
        """
        results = self.study(name)
        if not isinstance(results, StudyResults):
            raise ValueError(f"study must be a comparison of trained classifiers, got {name!r}")
        return results

    def compared(self, name: str) -> ComparedResults[Any]:
        """The results of a comparison, whatever its runs do.

        Raises:
            ValueError: There is no such study, or it compares no algorithms.
        """
        results = self.study(name)
        if not isinstance(results, ComparedResults):
            raise ValueError(f"study must be a comparison of algorithms, got {name!r}")
        return results

    @property
    def comparisons(self) -> list[Study]:
        """The studies that compare algorithms."""
        return [results.study for results in self.results.values() if isinstance(results, StudyResults)]

    def sweep(self, task: str) -> SweepResults:
        """The results of the sweep on a task.

        Raises:
            ValueError: There is none.
        """
        sweeps = [results for results in self.results.values() if isinstance(results, SweepResults)]
        by_task = {sweep_task.name: results for results in sweeps for sweep_task in results.study.tasks}
        check_known("task", task, by_task)
        return by_task[task]

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdicts on all claims of the studies, by key."""
        return {key: verdict for results in self.results.values() for key, verdict in results.verdicts.items()}

    @cached_property
    def figures(self) -> dict[str, StudyFigure]:
        """The figures of all studies by file name, and that of all verdicts."""
        figures = {name: figure for results in self.results.values() for name, figure in results.figures.items()}
        figures |= stated_figures(self.verdicts)
        figures |= self._gain_figures()
        return figures | ({"verdicts": self._verdict_figure()} if self.verdicts else {})

    def _gain_figures(self) -> dict[str, StudyFigure]:
        drawn = {
            f"{name.replace('_', '-')}-gains": gains_figure(topic.gains, self.results)
            for name, topic in TOPICS.items()
            if {gain.study for gain in topic.gains} <= self.results.keys() and topic.gains
        }
        return {name: figure for name, figure in drawn.items() if figure is not None}

    def _verdict_figure(self) -> StudyFigure:
        by_method: dict[str, list[plots.ShortClaim]] = {}
        for key, verdict in self.verdicts.items():
            claim = CLAIMS[key]
            by_method.setdefault(claim.method, []).append((claim.short, verdict.status, ""))
        run_ids = {run_id for verdict in self.verdicts.values() for run_id in verdict.run_ids}
        caption = f"the verdict on each of {len(self.verdicts)} claims"
        return StudyFigure(caption, partial(plots.verdicts, by_method), tuple(sorted(run_ids)))


Block: TypeAlias = Callable[..., str]


def render_block(
    context: ReportContext, key: str, arguments: Mapping[str, str], document: Mapping[str, Block] | None = None
) -> str:
    """The text of one block.

    Args:
        context: The results.
        key: A key of ``BLOCKS`` or of the document's own blocks.
        arguments: The block's arguments, as text.
        document: The blocks that the document itself can fill, by key.

    Raises:
        ValueError: The key or an argument is unknown, an argument is missing, or a value is not allowed.
    """
    known = {**BLOCKS, **(document or {})}
    block = known[check_known("key", key, known)]
    try:
        inspect.signature(block).bind(context, **arguments)
    except TypeError as error:
        names = list(inspect.signature(block).parameters)[1:]
        raise ValueError(f"{key} {error}; its arguments are {', '.join(names)}") from error
    return block(context, **arguments)


def _value(context: ReportContext, metric: str, study: str, task: str, algorithm: str, noise: str = "0") -> str:
    """A metric of the last epoch: mean ± half-width of the 95 % interval, and n."""
    results = context.compared(study)
    check_known("metric", metric, METRICS)
    _check_condition(results, task, [algorithm], noise)
    return tables.value_words(select_runs(results.frame, task, algorithm, float(noise)), metric)


def _accuracy(context: ReportContext, study: str, task: str, algorithm: str, noise: str = "0") -> str:
    """The test accuracy of the last epoch."""
    return _value(context, "test_accuracy", study, task, algorithm, noise)


def _difference(
    context: ReportContext,
    study: str,
    task: str,
    algorithm: str,
    baseline: str,
    noise: str = "0",
    metric: str = "test_accuracy",
) -> str:
    """A difference paired by seed, with its 95 % interval (not corrected for other comparisons), and n."""
    results = context.compared(study)
    check_known("metric", metric, METRICS)
    _check_condition(results, task, [algorithm, baseline], noise)
    evidence = metric_evidence(results.frame, metric, [Comparison(task, algorithm, baseline, float(noise))])
    return f"{evidence[0].estimate} (n = {evidence[0].interval.n})" if evidence else table_files.PENDING


def _ratio(context: ReportContext, study: str, task: str, algorithm: str, baseline: str) -> str:
    """The time per epoch relative to the baseline's, from epochs run side by side: median, its interval, and n."""
    results = context.comparison(study)
    _check_names(results, task, [algorithm, baseline])
    ratio = time_ratio(results.measurements, task, algorithm, baseline)
    return f"{ratio.bracket(digits=3)} (n = {ratio.n})" if ratio else "*not measured yet*"


def _pairing(context: ReportContext) -> str:
    """How much the values of both algorithms go together over the seeds, over all comparisons of the report."""
    studies = [results for results in context.results.values() if isinstance(results, StudyResults)]
    shown = [row for results in studies for rows in results.differences.values() for row in rows]
    return pairing_words([*shown, *(row for verdict in context.verdicts.values() for row in verdict.evidence)])


def _differences(
    context: ReportContext,
    study: str,
    pairs: str,
    tasks: str,
    metrics: str = "test_accuracy",
    noises: str = "0",
    name: str = "",
) -> str:
    """Differences of pairs ``algorithm:baseline`` on tasks, in metrics or (``time``) the ratio of times, as a table."""
    results = context.comparison(study)
    compared = [(first, second) for first, _, second in (pair.partition(":") for pair in pairs.split(","))]
    for task in tasks.split(","):
        for noise in noises.split(","):
            for pair in compared:
                _check_condition(results, task, [a for a in pair if (task, a) not in results.study.left_out], noise)
    for metric in metrics.split(","):
        check_known("metric", metric, [*METRICS, "time"])
    return table_files.to_markdown(
        differences_table(
            results.frame,
            results.measurements,
            compared,
            tasks=tasks.split(","),
            noises=[float(noise) for noise in noises.split(",")],
            metrics=metrics.split(","),
            labels=labels(),
        )
    )


def _search_spaces(context: ReportContext) -> str:
    """Which hyperparameters were searched for which algorithms, and in which ranges."""
    return table_files.to_markdown(search_spaces_table(context.comparisons, labels=labels()))


def _trial_lengths(context: ReportContext) -> str:
    """How long the tuning trials were, and the runs."""
    return table_files.to_markdown(trials_table(context.comparisons, labels=labels()))


def _processors(context: ReportContext) -> str:
    """In how many of the claims' comparisons the two runs of a pair were recorded on different processors."""
    records = {record.run_id: record for results in context.results.values() for record in results.records}
    rows = [row for verdict in context.verdicts.values() for row in verdict.evidence]
    across, total = across_processors(rows, records)
    return f"{across} of {total}"


def _table(context: ReportContext, study: str, name: str, tasks: str = "", algorithms: str = "") -> str:
    """One of a study's tables, by its file name in ``results/tables``; of all rows, or those of some names."""
    results = context.study(study)
    built = results.tables
    unmeasured = isinstance(results, StudyResults) and results.measurements is None
    if name not in built and (results.missing or unmeasured):
        return table_files.PENDING
    table = built[check_known("table", name, built)]
    for column, names in (("Task", tasks), ("Algorithm", algorithms)):
        table = _rows(table, column, names.split(",") if names else [])
    return table_files.to_markdown(table)


def _rows(table: pd.DataFrame, column: str, names: Sequence[str]) -> pd.DataFrame:
    """The rows with the labels of some names in a column; all of them if no name is given."""
    if not names:
        return table
    shown = labels()
    wanted = [check_known(column.lower(), shown.get(name, name), set(table.get(column, []))) for name in names]
    return table[table[column].isin(wanted)]


def _figure(context: ReportContext, name: str) -> str:
    """A figure with its caption."""
    if name not in context.figures and any(results.missing for results in context.results.values()):
        return table_files.PENDING
    check_known("figure", name, context.figures)
    figure = context.figures[name]
    return f"![{figure.caption}](figures/{name}.png)\n\n*{figure.full_caption}*"


def _runs(context: ReportContext, study: str) -> str:
    """How many runs there are, and when and on what they were recorded."""
    return context.study(study).loaded


def _protocol(context: ReportContext, study: str) -> str:
    """The protocol of a study's tasks."""
    return table_files.to_markdown(context.study(study).protocol)


def _edges(context: ReportContext) -> str:
    """The choices of all comparisons that lie at the edge of their range, each once."""
    built = [results.tables for results in context.results.values() if isinstance(results, StudyResults)]
    return table_files.to_markdown(
        edges_table([table for own in built for name, table in own.items() if name.endswith("-ranges")])
    )


def _file(context: ReportContext, path: str) -> str:
    """The text of a generated file under ``results/``, for example a benchmark's table."""
    whole = (context.root / path).resolve()
    if not whole.is_relative_to((context.root / "results").resolve()) or not whole.is_file():
        raise ValueError(f"path must be a file under results/, got {path!r}")
    return whole.read_text(encoding="utf-8").strip()


BLOCKS: dict[str, Block] = {
    "accuracy": _accuracy,
    "value": _value,
    "difference": _difference,
    "ratio": _ratio,
    "pairing": _pairing,
    "errors": claim_blocks.errors,
    "optimum": sweep_blocks.optimum,
    "shift": sweep_blocks.shift,
    "cost": sweep_blocks.cost,
    "verdict": claim_blocks.verdict,
    "symbol": claim_blocks.symbol,
    "legend": claim_blocks.legend,
    "tally": claim_blocks.tally,
    "reason": claim_blocks.reason,
    "rule": claim_blocks.rule,
    "verdict-counts": claim_blocks.verdict_counts,
    "headlines": claim_blocks.headlines,
    "claims": claim_blocks.claims,
    "shared-sentences": claim_blocks.shared_sentences,
    "rules": claim_blocks.rules,
    "changed-rules": claim_blocks.changed_rules,
    "former-rules": claim_blocks.former_rules,
    "differences": _differences,
    "search-spaces": _search_spaces,
    "trial-lengths": _trial_lengths,
    "processors": _processors,
    "table": _table,
    "figure": _figure,
    "runs": _runs,
    "protocol": _protocol,
    "edges": _edges,
    "statements": claim_blocks.statements,
    "gains": claim_blocks.gains,
    "file": _file,
    **CONTEST_BLOCKS,
}


def _check_names(results: ComparedResults[Any], task: str, algorithms: Sequence[str]) -> None:
    check_known("task", task, {task.name: task for task in results.study.tasks})
    for algorithm in algorithms:
        check_known("algorithm", algorithm, dict.fromkeys(results.study.algorithms))


def _check_condition(results: ComparedResults[Any], task: str, algorithms: Sequence[str], noise: str) -> None:
    """Raises a ValueError for a condition that is not part of the study: it is a mistake, not a run to wait for."""
    _check_names(results, task, algorithms)
    if not isinstance(results, StudyResults):
        check_known("noise", noise, {"0": 0.0})
        return
    study = results.study
    check_known("noise", noise, {f"{share:g}": share for share in study.label_noises})
    for algorithm in algorithms:
        if (task, algorithm) in study.left_out:
            raise ValueError(f"the study {study.name} leaves out {algorithm} on {task}")
