"""The generated blocks about comparisons against anchors; ``blocks`` has the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from advanced_optimizers._checks import unknown_name
from advanced_optimizers.experiments.evidence.contests import unit_means
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.evidence.statistics import mean_interval
from advanced_optimizers.experiments.report.blocks.remade_table import remade_table
from advanced_optimizers.experiments.report.results.measured import OneRun
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy
from advanced_optimizers.experiments.report.results.referee_results import RefereeResults
from advanced_optimizers.experiments.report.results.study_results import StudyResults
from advanced_optimizers.experiments.report.tables import table_files
from advanced_optimizers.experiments.report.tables.evidence_tables import claims_table
from advanced_optimizers.experiments.report.tables.referee_tables import spaces_table
from advanced_optimizers.experiments.studies.registry import CLAIMS

_PENDING = "*no run yet*"


class Context(Protocol):
    """What these blocks need of the report's results."""

    root: Path

    def study(self, name: str) -> RecordedStudy[Any]:
        """The results of a study of any kind."""


def _contest(context: Context, name: str) -> RefereeResults:
    results = context.study(name)
    if not isinstance(results, RefereeResults):
        raise ValueError(f"study must be a comparison against anchors, got {name!r}")
    return results


def _checked(results: RefereeResults, algorithm: str) -> str:
    """The name of the study's only task, on which the algorithm must be run."""
    (task,) = results.study.tasks
    known = results.algorithms_on(task.name)
    if algorithm not in known:
        raise unknown_name("algorithm", algorithm, dict.fromkeys(known))
    return task.name


def _ruling(context: Context, study: str, algorithm: str, anchor: str) -> str:
    """The verdict on an algorithm against an anchor, with the difference and n."""
    results = _contest(context, study)
    for name in (algorithm, anchor):
        _checked(results, name)
    for ruling in results.rulings:
        if (ruling.comparison.algorithm, ruling.comparison.baseline) == (algorithm, anchor):
            difference = METRICS["test_accuracy"].difference(ruling.result.difference)
            return f"{ruling.words}, {difference} (n = {ruling.result.difference.n} {ruling.unit})"
    return _PENDING


def _tuned(context: Context, study: str, algorithm: str) -> str:
    """The test accuracy of an algorithm with its tuned hyperparameters, with its 95 % interval and n."""
    results = _contest(context, study)
    task = _checked(results, algorithm)
    if (task, algorithm) not in results.complete:
        return _PENDING
    units = unit_means(results.judged, task, algorithm, results.study.tunings)
    return f"{METRICS['test_accuracy'].value(mean_interval(units))} (n = {len(units)})"


def _blind(context: Context, study: str, algorithm: str) -> str:
    """What a rate that is picked blindly from the range costs, in points."""
    results = _contest(context, study)
    _checked(results, algorithm)
    cost = results.facts.blind.get(algorithm)
    return _PENDING if cost is None else f"{cost.bracket(100, 2)} points"


def _complete(context: Context, study: str) -> str:
    """How many of the algorithms of a comparison have all of their runs, and which are missing."""
    results = _contest(context, study)
    total = sum(len(results.algorithms_on(task.name)) for task in results.study.tasks)
    return f"{len(results.complete)} of {total} algorithms have all of their runs. {results.absence(total)}".rstrip()


def _decided_by(context: Context, study: str) -> str:
    """The rule that decides a comparison."""
    return _contest(context, study).study.rule


def _spaces(context: Context, study: str) -> str:
    """What each algorithm of a comparison searches, with its schedule and passes."""
    return table_files.to_markdown(spaces_table(_contest(context, study).study))


def _one_run(context: Context, task: str, algorithm: str) -> str:
    """The seconds per epoch of an algorithm as a ratio to those of the first anchor, measured in one run."""
    measured = OneRun(context.root).ratios(task)
    if not measured:
        return "*not measured yet*"
    if algorithm not in measured:
        raise unknown_name("algorithm", algorithm, measured)
    return f"{measured[algorithm].bracket(digits=2)} (n = {measured[algorithm].n})"


def _remade(context: Context, stated: str, studies: str) -> str:
    """A source's table, remade: ``stated`` is the study that has its seconds, ``studies`` the comparisons."""
    source = context.study(stated)
    if not isinstance(source, StudyResults) or not source.study.stated_seconds:
        raise ValueError(f"stated must be a study with a source's seconds, got {stated!r}")
    comparisons = [_contest(context, name) for name in studies.split(",")]
    return table_files.to_markdown(remade_table(source.study.stated_seconds, comparisons, OneRun(context.root)))


def _conclusions(context: Context, claims: str) -> str:
    """The verdicts on some claims, in a table."""
    verdicts = {}
    for key in claims.split(","):
        if key not in CLAIMS:
            raise unknown_name("claim", key, CLAIMS)
        verdicts[key] = context.study(CLAIMS[key].study).verdicts[key]
    return table_files.to_markdown(claims_table(CLAIMS, verdicts))


CONTEST_BLOCKS: Mapping[str, Callable[..., str]] = {
    "ruling": _ruling,
    "tuned": _tuned,
    "blind": _blind,
    "complete": _complete,
    "decided-by": _decided_by,
    "spaces": _spaces,
    "one-run": _one_run,
    "remade": _remade,
    "conclusions": _conclusions,
}
