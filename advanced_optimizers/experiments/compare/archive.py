"""A comparison as JSON inside its page, and back: with every record, so that pages can be opened and merged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from advanced_optimizers.experiments.compare.code import CompareError
from advanced_optimizers.experiments.compare.comparison import Comparison, Facts, RecordsInMemory
from advanced_optimizers.experiments.compare.preflight import Preflight
from advanced_optimizers.experiments.compare.protocol import Plan, Protocol
from advanced_optimizers.experiments.compare.spaces import words
from advanced_optimizers.experiments.records.checks import finite_or_null
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies.study import MissingRunsError
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Algorithm, Range

_FORMAT = 1
_PLACE = re.compile(r'<script type="application/json" id="comparison">(.*?)</script>', re.DOTALL)
# What differs from run to run in an environment, or is in the page already.
_OF_A_RUN = ("started_at", "finished_at")
_ELSEWHERE = "source"
_ROW = ("label", "baseline", "rate", "schedule", "passes")


def archived(comparison: Comparison) -> str:
    """The comparison as JSON that can stand inside a page."""
    plan = comparison.plan
    environments: list[dict[str, Any]] = []
    records = [_record(record, environments) for record in comparison.records.by_id.values()]
    facts = {**asdict(comparison.facts), "preflights": {k: asdict(v) for k, v in comparison.facts.preflights.items()}}
    content = {
        "format": _FORMAT,
        "protocol": plan.protocol.as_json(),
        "contenders": plan.contenders,
        "anchors": plan.anchors,
        # All of them, so that another version with other ranges in its table reads the same.
        "ranges": {
            name: _spaces({**row.search_space, **plan.ranges.get(name, {})}) for name, row in comparison.rows.items()
        },
        "defaults": plan.untuned,
        "algorithms": {
            name: {
                **{key: getattr(row, key) for key in _ROW},
                "space": _spaces(row.search_space),
                "fixed": dict(row.fixed),
            }
            for name, row in comparison.rows.items()
        },
        "facts": facts,
        "environments": environments,
        "records": records,
    }
    return json.dumps(finite_or_null(content), sort_keys=True, separators=(",", ":")).replace("</", "<\\/")


def reopen(page: str | Path) -> Comparison:
    """The comparison in a page.

    Raises:
        CompareError: There is none, or it is damaged or of another version.
    """
    try:
        found = _PLACE.search(Path(page).read_text(encoding="utf-8"))
        content = json.loads(found[1].replace("<\\/", "</")) if found else None
    except (OSError, ValueError) as error:
        raise CompareError(f"{page} cannot be read: {error}") from error
    if content is None:
        raise CompareError(f"{page} holds no comparison: give a page that this command wrote")
    if content["format"] != _FORMAT:
        raise CompareError(f"{page} is of another version of this command (format {content['format']})")
    for name, row in content["algorithms"].items():
        _make_known(name, row)
    plan = Plan(
        protocol=Protocol.from_json(content["protocol"]),
        contenders=tuple(content["contenders"]),
        anchors=tuple(content["anchors"]),
        ranges={name: _ranges(own) for name, own in content["ranges"].items()},
        untuned=content.get("defaults", {}),  # pages of earlier versions have none
    )
    records = [_read(record, content["environments"]) for record in content["records"]]
    try:
        return Comparison(plan, RecordsInMemory(records), _facts(content["facts"]))
    except MissingRunsError as error:
        raise CompareError(f"{page} was written by another version, which trained other runs: {error}") from error


def merged(pages: Sequence[str | Path]) -> Comparison:
    """The comparison in one page, or all contenders of several under their one protocol.

    Raises:
        CompareError: Their protocols differ, in what the message names.
    """
    first, *others = [reopen(page) for page in pages]
    for page, other in zip(pages[1:], others, strict=True):
        differences = first.plan.protocol.differences(other.plan.protocol)
        for key in ("anchors", "data"):
            mine, theirs = (_compared(one, key) for one in (first, other))
            differences += [] if mine == theirs else [f"{key} {mine} and {theirs}"]
        if differences:
            raise CompareError(f"{pages[0]} and {page} are not comparable, they differ in: {'; '.join(differences)}")
    every = [first, *others]
    plan = replace(
        first.plan,
        contenders=tuple(dict.fromkeys(name for one in every for name in one.plan.contenders)),
        ranges={name: own for one in every for name, own in one.plan.ranges.items()},
        untuned={name: own for one in every for name, own in one.plan.untuned.items()},
    )
    facts = Facts(
        command=first.facts.command if not others else "",
        preflights={name: flight for one in every for name, flight in one.facts.preflights.items()},
        sources={file: text for one in every for file, text in one.facts.sources.items()},
        said=tuple(dict.fromkeys(line for one in every for line in one.facts.said)),
    )
    records = [record for one in every for record in one.records.by_id.values()]
    return Comparison(plan, RecordsInMemory(records), facts)


def _compared(comparison: Comparison, key: str) -> str:
    """Further conditions that merged comparisons must share, in words."""
    plan = comparison.plan
    if key == "anchors":
        spaces = {name: {**ALGORITHMS[name].search_space, **plan.ranges.get(name, {})} for name in plan.anchors}
        return ", ".join(f"{name} ({key} {words(own)})" for name, of in spaces.items() for key, own in of.items())
    tested = [r for r in comparison.records.by_id.values() if r.config.split == "test"]
    return ", ".join(sorted({str(record.environment["data_checksum"])[:8] for record in tested}))


def _make_known(name: str, row: Mapping[str, Any]) -> None:
    """A row for an algorithm of a page, unless it is the project's; its code is not there."""
    if name in ALGORITHMS and ":" not in name:
        return

    def build(setting: Any) -> NoReturn:
        raise CompareError(f"{name} is known from a page only, which cannot be trained")

    ALGORITHMS[name] = Algorithm(
        **{key: row[key] for key in _ROW}, search_space=_ranges(row["space"]), fixed=row["fixed"], build=build
    )


def _spaces(space: Mapping[str, Range]) -> dict[str, Any]:
    return {name: asdict(own) for name, own in space.items()}


def _ranges(content: Mapping[str, Any]) -> dict[str, Range]:
    return {name: Range(**own) for name, own in content.items()}


def _facts(content: Mapping[str, Any]) -> Facts:
    flights = {name: Preflight.from_json(own) for name, own in content["preflights"].items()}
    return Facts(content["command"], flights, content["sources"], tuple(content["said"]))


def _record(record: RunRecord, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """A record, with its environment's place among the different ones."""
    shared = {k: v for k, v in record.environment.items() if k not in (*_OF_A_RUN, _ELSEWHERE)}
    if shared not in environments:
        environments.append(shared)
    content = asdict(record)
    del content["final"]  # the ends of the curves
    own = {key: record.environment[key] for key in _OF_A_RUN}
    return {**content, "environment": environments.index(shared), **own}


def _read(content: Mapping[str, Any], environments: Sequence[Mapping[str, Any]]) -> RunRecord:
    curves = content["curves"]
    return RunRecord(
        config=RunConfig(**content["config"]),
        status=content["status"],
        environment={**environments[content["environment"]], **{key: content[key] for key in _OF_A_RUN}},
        curves=curves,
        final={name: values[-1] for name, values in curves.items()},
        total_seconds=content["total_seconds"],
        peak_memory_bytes=content["peak_memory_bytes"],
    )
