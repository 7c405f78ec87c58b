"""From a number to its runs: which runs ``show`` finds, and what it says about each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.paths import run_store
from advanced_optimizers.experiments.report.lookup import Wanted, find_runs
from advanced_optimizers.experiments.studies import registry
from tests.experiments_helpers import TINY, files_under, make_record
from tests.synthetic_sweeps import FULL

FINAL = {(0.0, 0): 0.9, (0.0, 1): 0.92, (0.2, 0): 0.7, (0.2, 1): 0.7123456789}


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The runs of the tiny study, all recorded in the quick profile of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.STUDIES, ("tiny", "quick"), TINY)
    store = run_store("quick")
    for config in TINY.tuning_configs():
        store.save(make_record(config))
    for config in TINY.final_configs(store):
        store.save(make_record(config, test_accuracy=FINAL[config.label_noise, config.seed]))
    return TINY.configs(store)


def shown(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["show", "tiny", *arguments]) == 0
    return capsys.readouterr().out


def ids_in(printed: str) -> list[str]:
    return re.findall(r"^  ([0-9a-f]{16})  seed", printed, re.MULTILINE)


def chosen(configs: Sequence[RunConfig], **wanted: object) -> set[str]:
    return {c.run_id for c in configs if all(getattr(c, name) == value for name, value in wanted.items())}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--task", "digits-mlp"], {}),
        (["--algorithm", "sgd"], {"algorithm": "sgd"}),
        (["--noise", "0.2"], {"label_noise": 0.2}),
        (["--noise", "0"], {"label_noise": 0.0}),
        (["--seed", "0"], {"seed": 0}),
        (["--metric", "test_loss"], {}),
        (
            ["--algorithm", "fer-sgd", "--noise", "0.2", "--seed", "1"],
            {"algorithm": "fer-sgd", "label_noise": 0.2, "seed": 1},
        ),
    ],
    ids=" ".join,
)
def test_filters_combine(
    recorded: list[RunConfig], capsys: pytest.CaptureFixture[str], arguments: list[str], wanted: dict[str, object]
) -> None:
    found = ids_in(shown(arguments, capsys))
    assert len(found) == len(set(found))
    assert set(found) == chosen(recorded, split="test", **wanted)


def test_each_run_has_its_value_its_file_and_its_command(
    recorded: list[RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--algorithm", "sgd", "--noise", "0.2", "--metric", "test_accuracy"]
    first, second = [c for c in recorded if (c.algorithm, c.label_noise, c.split) == ("sgd", 0.2, "test")]
    printed = shown(arguments, capsys)
    lines = printed.splitlines()
    assert lines[0].startswith("digits-mlp, sgd, 20 % wrong labels, 2 epochs (lr = ")
    assert re.fullmatch(r"  test accuracy of these runs: 70\.62 ± 7\.84 % \(n = 2\)", lines[1])
    assert f"  {second.run_id}  seed 1  test_accuracy 0.7123456789" in lines
    for config in (first, second):
        path = run_store("quick").path(config)
        assert f"    file:  {path}" in lines
        assert json.loads(path.read_text())["run_id"] == config.run_id
        assert any(line.endswith(f"reproduce tiny --profile quick --only {config.run_id}") for line in lines)
    assert lines[-1] == "2 of 2 runs recorded"


def test_the_command_is_one_that_works(
    recorded: list[RunConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The made-up record is not what training gives; that it is found and trained again is what counts."""
    printed = shown(["--seed", "1", "--noise", "0", "--algorithm", "sgd"], capsys)
    (command,) = re.findall(r"again: .*?(reproduce .*)", printed)
    assert main([*command.split(), "--jobs", "1"]) == 1
    assert capsys.readouterr().out.startswith(ids_in(printed)[0])


def test_the_command_loads_ones_own_topic_too(
    recorded: list[RunConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "load_topic_file", lambda path: None)
    assert main(["--topic", "my topic.py", "show", "tiny", "--seed", "0"]) == 0
    assert " --topic 'my topic.py' reproduce tiny --profile quick --only " in capsys.readouterr().out


def test_ids_of_an_evidence_table_are_found_and_trials_too(
    recorded: list[RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    trial, run = recorded[0], recorded[-1]
    printed = shown(["--only", trial.run_id, run.run_id[:12]], capsys)
    assert set(ids_in(printed)) == {trial.run_id, run.run_id}
    assert "tuning trial: digits-mlp" in printed
    trials = ids_in(shown(["--trials", "--algorithm", trial.algorithm], capsys))
    assert set(trials) == chosen(recorded, split="validation", algorithm=trial.algorithm)


def test_nothing_is_written_and_no_figure_drawn(recorded: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    before = files_under(Path.cwd())
    shown(["--seed", "0"], capsys)
    assert files_under(Path.cwd()) == before


def test_missing_and_diverged_runs_are_named(recorded: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    store = run_store("quick")
    gone, diverged = [c for c in recorded if (c.algorithm, c.label_noise, c.split) == ("sgd", 0.0, "test")]
    store.path(gone).unlink()
    store.save(make_record(diverged, "diverged", test_accuracy=0.1), replace=True)
    printed = shown(["--algorithm", "sgd", "--noise", "0"], capsys)
    assert f"{gone.run_id}  seed 0  no record yet" in printed
    assert f"{diverged.run_id}  seed 1  test_accuracy 0.1  diverged" in printed
    assert printed.splitlines()[-1].startswith("1 of 2 runs recorded, 1 have no record: python -m ")


def test_before_the_first_run_there_is_none_to_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.STUDIES, ("tiny", "quick"), TINY)
    assert "0 of 4 runs recorded" in shown(["--trials"], capsys)
    assert main(["show", "tiny", "--seed", "0"]) == 1
    assert "tiny (quick) has no run with seed 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "digit-mlp"], "no task is named 'digit-mlp'; did you mean digits-mlp?"),
        (["--algorithm", "fer"], "no algorithm is named 'fer'; did you mean fer-sgd?"),
        (["--noise", "0.25"], "no noise is named '0.25'; did you mean 0.2"),
        (["--seed", "7"], "no seed is named '7'; did you mean 0 or 1?"),
        (["--metric", "test_acuracy"], "no metric is named 'test_acuracy'; did you mean test_accuracy"),
        (["--metric", "relative_flipping_error"], "metric must be one that these runs recorded (test_accuracy, "),
        (["--only", "zzzz"], "the study tiny (quick) has no run whose id begins with 'zzzz'"),
        (["--trials", "--seed", "1"], "the study tiny (quick) has no tuning trial with seed 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_exist_is_one_line(
    recorded: list[RunConfig], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["show", "tiny", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert message in line


def test_without_filters_the_tables_are_shown() -> None:
    assert not Wanted().anything
    assert all(Wanted(**{name: value}).anything for name, value in {"noise": 0.0, "seed": 0, "trials": True}.items())


def test_a_sweep_has_one_condition_for_each_rate_and_width(store: object) -> None:
    configs = FULL.final_configs(run_store("quick"))
    found = find_runs(configs, Wanted(algorithm=FULL.algorithms[0], seed=FULL.seeds[0]), "sweep")
    assert {config.algorithm for config in found} == {FULL.algorithms[0]}
    assert len({replace(config, seed=0).run_id for config in found}) == len(found)
