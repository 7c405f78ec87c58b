"""A comparison in words: the sentences first, then the table, then what may be wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from advanced_optimizers.experiments.compare.comparison import Comparison
from advanced_optimizers.experiments.compare.protocol import Plan
from advanced_optimizers.experiments.compare.spaces import words as range_words
from advanced_optimizers.experiments.evidence.contests import Ruling, binomial_error
from advanced_optimizers.experiments.evidence.tunings import scatter
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.studies.tuning import place_in


def sentences(comparison: Comparison) -> list[str]:
    """One sentence per contender and anchor."""
    return [_sentence(comparison, ruling) for ruling in comparison.judged]


def _sentence(comparison: Comparison, ruling: Ruling) -> str:
    protocol, c = comparison.plan.protocol, ruling.comparison
    name, anchor = comparison.names[c.algorithm], comparison.names[c.baseline]
    difference = f"{ruling.result.difference.bracket(100, signed=True)} points"
    counts = f"{protocol.tunings} tunings x {protocol.runs} seeds"
    if ruling.verdict == "withheld":
        return (
            f"{name} against {anchor} on {comparison.shown_task}: {difference}, {counts}; the verdict is WITHHELD "
            f"({protocol.withheld})."
        )
    joined = {"better": "than", "worse": "than", "equivalent": "to"}.get(ruling.verdict, "against")
    head = f"{ruling.verdict.upper()} {joined} {anchor}"
    rest = ruling.words.removeprefix(ruling.verdict).strip()
    margin = "" if protocol.margin is None else f" (margin {100 * protocol.margin:g} points)"
    further = [part for part in (rest, _held_back(comparison, ruling)) if part]
    return "; ".join([f"{name} is {head} on {comparison.shown_task}{margin}: {difference}, {counts}", *further]) + "."


def _held_back(comparison: Comparison, ruling: Ruling) -> str:
    """What whoever lost may be better than: nobody should read of a loss without it."""
    lost = {"better": ruling.comparison.baseline, "worse": ruling.comparison.algorithm}.get(ruling.verdict)
    if lost is None or not any(_edges(comparison, lost)):
        return ""
    return f"but {comparison.names[lost]} chose the edge of its range, and may do better beyond it"


def warnings(comparison: Comparison) -> list[str]:
    """What may be wrong, in sentences."""
    found = [
        *(f"{text}" for flight in comparison.facts.preflights.values() for text in flight.warnings),
        *(text for name in comparison.plan.algorithms for text in _edges(comparison, name)),
        *(text for name in comparison.plan.algorithms for text in _unlearnt(comparison, name)),
        *_versions(comparison),
    ]
    if comparison.plan.protocol.tunings == 1:
        found.append("with one tuning, what tuning again would change is not in the intervals: give --studies 4")
    return found


def _edges(comparison: Comparison, name: str) -> Iterator[str]:
    """One sentence per hyperparameter and end of its range."""
    for key in comparison.rows[name].search_space:
        ends: dict[str, list[str]] = {}
        for number, tuning in enumerate(comparison.tunings[name], start=1):
            if tuning.at_the_edge(key):
                value = float(tuning.chosen[key])
                end = "above" if place_in(value, tuning.ranges[key]) > 0.5 else "below"
                ends.setdefault(end, []).append(f"{value:.2g} in study {number}")
        for end, choices in ends.items():
            space = comparison.tunings[name][0].ranges[key]
            bound = space.high if end == "above" else space.low
            yield (
                f"{comparison.names[name]} chose {key} at the edge of its range ({', '.join(choices)}): the best may "
                f"lie {end} {bound:.2g}"
            )


def _unlearnt(comparison: Comparison, name: str) -> Iterator[str]:
    frame, shown = comparison.results.frame, comparison.names[name]
    runs = frame[(frame["algorithm"] == name) & frame["variant"].isin(comparison.plan.study.tunings)]
    if lost := int(runs["unlearnt"].sum()):
        yield f"{lost} of {len(runs)} runs of {shown} diverged or learned nothing; they count as they ended"
    trials = comparison.trials(name)
    if diverged := sum(trial.status == "diverged" for trial in trials):
        yield f"{diverged} of {len(trials)} tuning trials of {shown} diverged"


def _versions(comparison: Comparison) -> Iterator[str]:
    """What differs among the runs on the test set that should not."""
    tested = [r.environment for r in comparison.records.by_id.values() if r.config.split == "test"]
    for key, what in (("torch", "versions of torch"), ("device_name", "processors"), ("data_checksum", "data sets")):
        found = sorted({str(environment[key]) for environment in tested})
        if len(found) > 1:
            yield f"the runs were recorded with {len(found)} {what}: {', '.join(name[:40] for name in found)}"


def notes(comparison: Comparison) -> list[str]:
    """What helps to read the numbers."""
    protocol, lines = comparison.plan.protocol, []
    for name in comparison.plan.contenders:
        values = comparison.values(name)
        if len(values) > 1 and len(values[0]) > 1:
            found = scatter([values])
            lines.append(
                f"tuning again moved {comparison.names[name]} by {100 * found.tuning:.2f} points (sd), seeds by "
                f"{100 * found.seeds:.2f}"
            )
    accuracy = float(np.mean(comparison.units(comparison.plan.anchors[0])))
    error = 100 * binomial_error(accuracy, protocol.test_images)
    lines.append(
        f"another test set of {protocol.test_images} images would change an accuracy by about {error:.2f} points; "
        "intervals do not contain this"
    )
    return lines


def tuned(comparison: Comparison) -> list[dict[str, str]]:
    """How each algorithm was tuned: one row per hyperparameter."""
    rows = []
    for name in comparison.plan.algorithms:
        tunings = comparison.tunings[name]
        for key, space in tunings[0].ranges.items():
            chosen = [f"{float(t.chosen[key]):.3g}{' (edge)' if t.at_the_edge(key) else ''}" for t in tunings]
            status = Counter(trial.status for trial in comparison.trials(name))
            rows.append(
                {
                    "algorithm": comparison.names[name],
                    "hyperparameter": key,
                    "range": range_words(space),
                    "chosen by study": ", ".join(chosen),
                    "trials": f"{len(comparison.trials(name))} ({status['diverged']} diverged)",
                    "schedule": _task_of(comparison.plan, name).schedule,
                    "epochs": str(comparison.trials(name)[0].config.points),
                }
            )
    return rows


def _task_of(plan: Plan, algorithm: str) -> Task:
    """The task with the schedule and the epochs of an algorithm."""
    study = plan.study
    return study.comparison(study.tunings[0]).protocol(study.tasks[0], algorithm)


def summary(comparison: Comparison) -> str:
    """What the command prints at the end, without the files that were written."""
    lines = [*sentences(comparison), *_terminal_table(comparison)]
    lines += [f"warning  {text}" for text in warnings(comparison)]
    lines += [f"note     {text}" for text in notes(comparison)]
    return "\n".join(lines)


def _terminal_table(comparison: Comparison) -> list[str]:
    """The table against the first anchor; the sentences have the others."""
    anchor = comparison.names[comparison.plan.anchors[0]]
    table = comparison.table()
    kept = [
        column
        for column in table.columns
        if not column.startswith(("vs ", "verdict vs ", "P(> ")) or column.endswith((f" {anchor}", f" {anchor})"))
    ]
    shorter = {f"verdict vs {anchor}": "verdict", f"P(> {anchor})": "P(>)"}
    heads = ["", *(shorter.get(column, column) for column in kept)]
    rows = [heads, *([str(name), *(_short(row[column]) for column in kept)] for name, row in table.iterrows())]
    widths = [max(len(row[place]) for row in rows) for place in range(len(heads))]
    return [f"  {'  '.join(map(str.ljust, row, widths))}".rstrip() for row in rows]


def _short(cell: object) -> str:
    """A verdict without what it would need, which the sentence says."""
    return str(cell).partition(" (would")[0]
