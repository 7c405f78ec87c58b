"""The lines of a comparison while it trains: rewritten in place in a terminal, one per finished stage otherwise."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from advanced_optimizers.experiments.compare.protocol import Plan, names
from advanced_optimizers.experiments.evidence.tunings import score
from advanced_optimizers.experiments.records.config import BaseConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

_SECONDS_BETWEEN = 0.2  # two drawings of the lines


@dataclass
class _State:
    """How far one algorithm is."""

    trials: int = 0
    runs: int = 0
    diverged: int = 0
    trained: int = 0
    best: float = -math.inf
    rate: float = math.nan


class Live:
    """Follows a comparison.

    Args:
        plan: The comparison.
        store: Its records, among which some may be there already.
        log: A file that gets one line of JSON per finished run; None for none.
        stream: Where the lines go; None for nowhere.
    """

    def __init__(self, plan: Plan, store: RunStore, log: Path | None = None, stream: TextIO | None = None) -> None:
        self.plan, self.store, self.log, self.stream = plan, store, log, stream
        self.names = names(plan.algorithms)
        self.states = {name: _State() for name in plan.algorithms}
        self.started = self.drawn = time.monotonic()
        self.height = 0
        for configs in plan.recorded(store).values():
            for config in configs:
                self._count(config)

    @property
    def done(self) -> int:
        """How many runs are recorded."""
        return sum(state.trials + state.runs for state in self.states.values())

    @property
    def total(self) -> int:
        """How many runs there will be."""
        return sum(sum(self.plan.count(name)) for name in self.states)

    def __call__(self, config: BaseConfig) -> None:
        """Notes a run that has just been recorded."""
        record = self._count(config)
        state = self.states[config.algorithm]
        state.trained += 1
        if self.log is not None and record is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_line(record)) + "\n")
        if self.stream is None:
            return
        if self.stream.isatty():
            if time.monotonic() - self.drawn > _SECONDS_BETWEEN or self.done == self.total:
                self.draw()
            return
        trials, runs = self.plan.count(config.algorithm)
        of_a_study = trials // self.plan.protocol.tunings
        if (state.trials % of_a_study == 0) if config.split == "validation" else state.runs == runs:
            print(f"  {self.line(config.algorithm)}", file=self.stream, flush=True)

    def draw(self) -> None:
        """Writes the lines over those of the last time."""
        if self.stream is None or not self.stream.isatty():
            return
        self.drawn = time.monotonic()
        up = f"\x1b[{self.height}A" if self.height else ""
        text = "".join(f"\x1b[2K  {self.line(name)}\n" for name in self.states)
        self.stream.write(f"{up}{text}")
        self.stream.flush()
        self.height = len(self.states)

    def line(self, name: str) -> str:
        """How far one algorithm is, in a line."""
        state, (trials, runs) = self.states[name], self.plan.count(name)
        wide = max(map(len, self.names.values()))
        if not state.trained and (state.trials, state.runs) == (trials, runs):
            return f"{self.names[name]:{wide}}  recorded"
        lost = f" ({state.diverged} diverged)" if state.diverged else ""
        best = f"   best val {100 * state.best:.1f} at {ALGORITHMS[name].rate} {state.rate:.2g}" if state.trials else ""
        return (
            f"{self.names[name]:{wide}}  trials {state.trials}/{trials}{lost}   runs {state.runs}/{runs}{best}"
            f"{self._left()}"
        )

    def _left(self) -> str:
        trained, rest = sum(state.trained for state in self.states.values()), self.total - self.done
        if not trained or not rest:
            return ""
        seconds = (time.monotonic() - self.started) / trained * rest
        return f"   {duration(seconds)} left"

    def _count(self, config: BaseConfig) -> RunRecord | None:
        record, state = self.store.load(config), self.states[config.algorithm]
        if config.split != "validation":
            state.runs += 1
            return record
        state.trials += 1
        if record is not None:
            state.diverged += record.status == "diverged"
            if score(record) > state.best:
                rate = record.config.hyperparameters[ALGORITHMS[config.algorithm].rate]
                state.best, state.rate = score(record), float(rate)
        return record


def duration(seconds: float) -> str:
    """Seconds in words, such as ``12 s`` or ``7 min``."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _line(record: RunRecord) -> dict[str, object]:
    config = record.config
    return {
        "run": record.run_id,
        "algorithm": config.algorithm,
        "split": config.split,
        "seed": config.seed,
        "hyperparameters": config.hyperparameters,
        "status": record.status,
        "test_accuracy": record.final.get("test_accuracy"),
    }
