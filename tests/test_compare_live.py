"""The lines of a comparison while it trains, and what ends it early."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import torch

from advanced_optimizers.experiments.compare.live import Live, duration
from advanced_optimizers.experiments.compare.own import OwnContender
from advanced_optimizers.experiments.compare.protocol import Plan, find_task, make_protocol
from advanced_optimizers.experiments.compare.run import _all_diverged
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.contender import Contender, made_by
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Range
from tests.compare_helpers import tables as tables
from tests.experiments_helpers import make_record

DIGITS = find_task("digits")
PLAN = Plan(
    protocol=make_protocol(DIGITS, task=DIGITS.tasks[0], budget=2, studies=2, seeds=1),
    contenders=("lion",),
    anchors=("adamw",),
)


class Terminal(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


class Growing(RunStore):
    """Has the runs that were added."""

    def __init__(self, status: str = "completed") -> None:
        super().__init__(Path("growing"))
        self.ids: set[str] = set()
        self.status = status

    def has(self, config: RunConfig) -> bool:
        return config.run_id in self.ids

    def load(self, config: RunConfig) -> RunRecord | None:
        if not self.has(config):
            return None
        record = make_record(config, test_accuracy=0.9)
        if self.status == "completed":
            return record
        lost = {"train_loss": None, "test_accuracy": None}
        return replace(record, status="diverged", final={**record.final, **lost})


def follow(stream: Terminal, log: Path) -> None:
    store = Growing()
    live = Live(PLAN, store, log, stream)
    live.draw()
    for config in PLAN.study.tuning_configs():
        store.ids.add(config.run_id)
        live(config)
    live.draw()


def test_lines_are_rewritten_in_a_terminal(tmp_path: Path) -> None:
    stream = Terminal(is_terminal=True)
    follow(stream, tmp_path / "runs.jsonl")
    text = stream.getvalue()
    assert text.startswith("\x1b[2K  adamw  trials 0/4   runs 0/2\n\x1b[2K  lion ")
    assert "\x1b[2A" in text
    assert "trials 4/4   runs 0/2   best val 90.0 at lr" in text.rpartition("\x1b[2A")[2]
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 8


def test_elsewhere_a_finished_stage_is_a_line(tmp_path: Path) -> None:
    stream = Terminal(is_terminal=False)
    follow(stream, tmp_path / "runs.jsonl")
    lines = stream.getvalue().splitlines()
    assert [line.split()[:3] for line in lines] == [
        [name, "trials", f"{count}/4"] for count in (2, 4) for name in ("adamw", "lion")
    ]
    assert "\x1b" not in stream.getvalue()


def test_recorded_ones_are_said_to_be(tmp_path: Path) -> None:
    store = Growing()
    store.ids = {config.run_id for config in PLAN.study.tuning_configs()}
    store.ids |= {config.run_id for config in PLAN.study.configs(store)}
    assert Live(PLAN, store).line("adamw").split() == ["adamw", "recorded"]


def test_durations_are_in_words() -> None:
    assert [duration(s) for s in (0.1, 65, 130, 9000)] == ["1 s", "65 s", "2 min", "2.5 h"]


def test_where_every_trial_diverged_the_rate_to_try_is_named() -> None:
    store = Growing(status="diverged")
    store.ids = {config.run_id for config in PLAN.study.tuning_configs()}
    error = _all_diverged(PLAN, store)
    assert error is not None
    assert "all 2 trials of adamw in a study diverged; the lowest lr was" in str(error)
    assert "give --space lr=" in str(error)
    assert _all_diverged(PLAN, Growing()) is None


def test_a_row_of_the_comparison_can_be_a_users_own() -> None:
    row = Contender(
        label="My SGD",
        baseline=None,
        make=made_by("torch.optim:SGD", momentum=0.5),
        space=Range(low=0.01, high=1.0, log=True),
        default=0.1,
        decay="none",
    )
    own = OwnContender(row, "adamw")
    own()
    assert own.name.startswith("user:My-SGD@")
    assert OwnContender(replace(row, make=made_by("torch.optim:SGD", momentum=0.6)), "adamw").name != own.name
    assert ALGORITHMS[own.name].baseline == "adamw"
    assert isinstance(row.make(torch.nn.Linear(2, 2), {"lr": 0.1}, 10), torch.optim.SGD)
