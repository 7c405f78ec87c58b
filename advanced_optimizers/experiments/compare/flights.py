"""The preflights of a comparison, kept in a file: none is made twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from advanced_optimizers.experiments.compare.bench import Bench
from advanced_optimizers.experiments.compare.needs import with_needs
from advanced_optimizers.experiments.compare.own import OwnOptimizer
from advanced_optimizers.experiments.compare.preflight import Preflight, preflight
from advanced_optimizers.experiments.records.machine import threads
from advanced_optimizers.experiments.records.writing import write_if_changed
from advanced_optimizers.experiments.studies.task import Task


class Flights:
    """Makes or remembers the preflights of a comparison.

    Args:
        file: Where they are kept.
        task: The task.
        device: Where the steps are taken.
    """

    def __init__(self, file: Path, task: Task, device: str) -> None:
        self.file, self.task, self.device = file, task, device
        try:
            self.kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.kept = {}
        self._bench: Bench | None = None

    @property
    def bench(self) -> Bench:
        """What algorithms are tried on; made when it is first needed."""
        if self._bench is None:
            self._bench = Bench(self.task, self.device)
            self._bench.check_model()
        return self._bench

    def with_needs(self, own: OwnOptimizer) -> OwnOptimizer:
        """See :func:`.needs.with_needs`."""
        key = self._key("needs", own.name, own)
        if key not in self.kept:
            with threads(1):
                found = with_needs(own, self.bench)
            self.kept[key] = {name: getattr(found, name) for name in ("closure", "passes", "schedule")}
        return replace(own, **self.kept[key])

    def of(self, name: str, own: OwnOptimizer | None) -> Preflight:
        """See :func:`.preflight.preflight`."""
        key = self._key("flight", name, own)
        if key not in self.kept:
            with threads(1):  # as in a run
                self.kept[key] = asdict(preflight(name, self.bench, own))
        return Preflight.from_json(self.kept[key])

    def write(self) -> None:
        """Keeps what was found."""
        write_if_changed(self.file, json.dumps(self.kept, indent=1, sort_keys=True) + "\n")

    def _key(self, kind: str, name: str, own: OwnOptimizer | None) -> str:
        stated = "" if own is None else repr((own.space, own.fixed, own.schedule))
        return f"{kind} {name} {hashlib.sha256(f'{self.task!r} {stated}'.encode()).hexdigest()[:8]}"
