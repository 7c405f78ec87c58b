"""A whole comparison on the digits: what is written, killed and resumed, asked again, opened again, and merged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.compare import CompareError, Comparison, compare, run
from advanced_optimizers.experiments.compare.archive import merged, reopen
from advanced_optimizers.experiments.compare.protocol import Plan, find_task, make_protocol
from advanced_optimizers.experiments.compare.words import sentences, warnings
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import LayeredStore, RunStore
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from tests.compare_helpers import TINY, write_mine
from tests.compare_helpers import tables as tables
from tests.experiments_helpers import PYPROJECT, make_record

COMMAND = ["compare", "mine.py:Copy", "--against", "adamw", "--budget", "2", "--studies", "2", "--seeds", "1"]
SHORT = [*COMMAND, "--epochs", "1", "--jobs", "1", "--out", "out"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def first(folder: Path) -> Comparison:
    return compare([f"{write_mine(folder)}:Copy"], ["adamw"], out=folder / "out", **TINY)


def no_training(*_: object, **__: object) -> None:
    raise AssertionError("nothing should be trained")


def test_a_comparison_writes_its_files(first: Comparison, folder: Path) -> None:
    assert first.verdicts == {("Copy", "adamw"): "withheld"}
    assert {path.name for path in (folder / "out").iterdir()} >= {"index.html", "comparison.json", "badge.svg", "runs"}
    assert list(first.table().index) in (["Copy", "adamw"], ["adamw", "Copy"])
    lines = (folder / "out" / "runs.jsonl").read_text().splitlines()
    assert len(lines) == 2 * (2 * 2 + 2 + 2) == len(first.records.by_id)
    assert "WITHHELD (360 test images decide nothing" in sentences(first)[0]
    assert "Copy vs adamw" in (folder / "out" / "badge.svg").read_text()


def test_each_tuning_has_a_run_with_the_values_of_the_constructor(first: Comparison) -> None:
    (name,) = first.plan.contenders
    assert first.plan.untuned == {name: {"lr": 1e-3}, "adamw": {"lr": 1e-3}}
    own = [r for r in first.records.by_id.values() if r.config.algorithm == name and r.config.split == "test"]
    untuned = [r for r in own if r.config.hyperparameters == {"lr": 1e-3}]
    assert [r.config.seed for r in untuned] == [100, 200]
    assert first.untuned(name) == [r.final["test_accuracy"] for r in untuned]
    assert len(first.values(name)) == 2  # which these are none of
    assert first.table().loc["Copy", "untuned (%)"] == f"{100 * np.mean(first.untuned(name)):.2f}"


def test_records_of_a_users_code_hold_its_source(first: Comparison) -> None:
    own = [r for r in first.records.by_id.values() if r.config.algorithm.startswith("user:")]
    assert all(record.environment["source"]["mine.py"].startswith("\nimport torch") for record in own)
    assert not any("source" in r.environment for r in first.records.by_id.values() if r not in own)


def test_the_page_is_one_file_with_everything_in_it(first: Comparison, folder: Path) -> None:
    page = (folder / "out" / "index.html").read_text()
    assert page.count("<figure>") >= 4
    for words in ("How it was tuned", "What could be wrong", "class Copy(torch.optim.Optimizer)", "<svg"):
        assert words in page
    assert "src=" not in page
    assert 'href="http' not in page


def test_asked_again_nothing_is_trained(first: Comparison, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run_study", no_training)
    again = compare([f"{folder / 'mine.py'}:Copy"], ["adamw"], out=folder / "out", **TINY)
    assert again.to_json() == first.to_json()


def test_killed_and_resumed_the_result_is_the_same(
    first: Comparison, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 0

    class Killed(Exception):
        pass

    def kill(self: run.Live, config: RunConfig) -> None:
        nonlocal done
        done += 1
        if done == 7:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(run.Live, "__call__", kill)
        with pytest.raises(Killed):
            compare([f"{folder / 'mine.py'}:Copy"], ["adamw"], out=folder / "again", **TINY)
    compare([f"{folder / 'mine.py'}:Copy"], ["adamw"], out=folder / "again", **TINY)
    assert (folder / "again" / "comparison.json").read_text() == first.to_json()


def test_edited_code_is_another_algorithm(first: Comparison, tmp_path: Path) -> None:
    path = write_mine(tmp_path)
    path.write_text(path.read_text() + "\n# edited\n")
    prepared = run.prepare(run.Request(contenders=[f"{path}:Copy"], against=["adamw"], budget=2, out=tmp_path / "out"))
    assert prepared.plan.contenders != first.plan.contenders


@pytest.mark.slow
def test_a_page_opens_again_and_merges(first: Comparison, folder: Path, tmp_path: Path) -> None:
    page = first.save_html(tmp_path / "first.html")
    assert reopen(page).to_json() == first.to_json()
    other = compare([f"{folder / 'mine.py'}:factory"], ["adamw"], out=folder / "out", **TINY)
    second = other.save_html(tmp_path / "second.html")
    both = merged([page, second])
    assert set(both.verdicts) == {("Copy", "adamw"), ("factory", "adamw")}
    assert both.rulings[0].family == 2
    longer = compare([f"{folder / 'mine.py'}:Copy"], ["adamw"], out=folder / "out", **{**TINY, "seeds": 2})
    third = longer.save_html(tmp_path / "third.html")
    with pytest.raises(CompareError, match="not comparable, they differ in: runs 1 and 2"):
        merged([page, third])
    with pytest.raises(CompareError, match="holds no comparison"):
        reopen(write_mine(tmp_path))


@pytest.mark.slow
def test_workers_get_the_text(folder: Path, tmp_path: Path) -> None:
    found = compare([f"{folder / 'mine.py'}:sharpness"], ["adamw"], out=tmp_path, **{**TINY, "jobs": 2})
    trials = found.trials(found.plan.contenders[0])
    assert {trial.config.epochs for trial in trials} == {1}
    assert found.rows[found.plan.contenders[0]].passes == 2


def test_own_networks_and_classes(tmp_path: Path, folder: Path) -> None:
    class Local(torch.optim.SGD):
        def __init__(self, params: object, lr: float = 0.1) -> None:
            super().__init__(params, lr=lr)  # type: ignore[arg-type]

    def build(image_shape: tuple[int, int, int], num_classes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(image_shape[1] * image_shape[2], num_classes))

    found = compare([Local], ["adamw"], model=build, out=tmp_path, verdict=False, **TINY)
    assert found.plan.protocol.task.model.startswith("user:build@")
    assert ("Local", "adamw") in found.verdicts

    def few(image_shape: tuple[int, int, int], num_classes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(image_shape[1] * image_shape[2], 3))

    with pytest.raises(CompareError, match=r"must return logits of shape \(64, 10\), it returned \(64, 3\)"):
        compare([Local], ["adamw"], model=few, out=tmp_path, verdict=False, **TINY)


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, first: Comparison, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's file, and the records of the first comparison as the project's own."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    write_mine(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "runs").symlink_to(folder / "out" / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "run_study", no_training)
    return tmp_path


def test_the_command_uses_the_projects_records(
    project: Path, first: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SHORT) == 0
    printed = capsys.readouterr().out
    assert "+ 4 untuned runs = 16 runs: 16 recorded, 0 to train" in printed
    first_line, second = printed.splitlines()[:2]
    assert first_line == "compare    executes mine.py"
    assert second.startswith("compare    Copy (Copy@")
    assert "repeat   " in printed
    assert main([*SHORT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(first.to_json())
    assert main(SHORT) == 0
    assert capsys.readouterr().out.startswith("recorded   nothing has changed")
    (project / "mine.py").write_text((project / "mine.py").read_text() + "\n")
    assert main([*SHORT, "--dry-run"]) == 0
    assert "16 runs: 8 recorded, 8 to train" in capsys.readouterr().out
    assert main(["compare", "--from", "out/index.html"]) == 0
    assert "Copy against adamw" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine.py:Cpy"], "mine.py has no Cpy; did you mean Copy? It defines: Copy, "),
        (["mine.py"], "mine.py names no object: give the file and a name in it, as mine.py:Mine"),
        (["nothing.py:Mine"], "there is no file nothing.py"),
        ([], "nothing is compared"),
        (["lionn"], "no algorithm is named 'lionn'; did you mean lion"),
        (["mine.py:Copy", "--task", "mnits"], "no task is named 'mnits'"),
        (
            ["mine.py:Copy", "--fixed", "bta=1"],
            "Copy() got the hyperparameter 'bta', which its signature does not name",
        ),
        (["mine.py:Copy", "--data", "photos"], "there is no folder photos"),
        (["adamw", "--against", "adamw"], "adamw would be compared with itself"),
        (["lion", "--space", "lr=1..2"], "--space, --fixed and --schedule are for your own optimizer"),
        (["mine.py:Copy", "--margin", "0.5"], "360 test images decide nothing"),
        (["--from", "mine.py"], "mine.py holds no comparison"),
    ],
)
def test_errors_are_one_sentence(
    project: Path, arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_debug_shows_where_an_error_comes_from(project: Path) -> None:
    with pytest.raises(CompareError):
        main(["compare", "mine.py:Cpy", "--debug"])


# ---- verdicts, with made-up runs ------------------------------------------------------------------------------------


class MadeUp(RunStore):
    """Every run is recorded, with an accuracy that a function of the configuration says."""

    def __init__(self, accuracy: Callable[[RunConfig], float]) -> None:
        super().__init__(Path("made-up"))
        self.accuracy = accuracy

    def has(self, config: RunConfig) -> bool:
        return True

    def load(self, config: RunConfig) -> RunRecord | None:
        return make_record(config, test_accuracy=self.accuracy(config))


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setitem(ALGORITHMS, "user:Copy@0", replace(ALGORITHMS["adamw"], label="Copy", baseline="adamw"))
    stated = find_task("mnist-mlp")
    return Plan(protocol=make_protocol(stated, task=stated.tasks[0]), contenders=("user:Copy@0",), anchors=("adamw",))


def drawn(repeat: int, gain: float = 0.0) -> Callable[[RunConfig], float]:
    """Accuracies of equal algorithms whose tuning and seeds scatter by a tenth of a point each."""

    def accuracy(config: RunConfig) -> float:
        own = config.algorithm.startswith("user:")
        tuning = np.random.default_rng([repeat, own, config.seed // 100]).normal(scale=1e-3)
        seed = np.random.default_rng([repeat, own, config.seed, int(config.run_id[:6], 16)]).normal(scale=1e-3)
        return float(0.98 + tuning + seed + own * gain)

    return accuracy


def test_a_copy_is_no_better_and_no_worse(plan: Plan) -> None:
    found = [Comparison(plan, MadeUp(drawn(repeat))).rulings[0].verdict for repeat in range(20)]
    assert set(found) <= {"equivalent", "undecided", "better", "worse"}
    assert sum(verdict in ("better", "worse") for verdict in found) <= 1


def test_what_differs_is_told(plan: Plan) -> None:
    worse = Comparison(plan, MadeUp(drawn(0, gain=-0.02)))
    (sentence,) = sentences(worse)
    assert sentence.startswith("Copy is WORSE than adamw on mnist-mlp (margin 0.2 points): -")
    same = Comparison(plan, MadeUp(lambda config: 0.98 + config.seed * 1e-6))
    assert sentences(same)[0].startswith("Copy is EQUIVALENT to adamw")


@pytest.mark.parametrize("winner", ["copy", "anchor"])
def test_a_loser_that_chose_the_edge_of_its_range_is_told_beside_the_verdict(plan: Plan, winner: str) -> None:
    (contender,) = plan.contenders

    def rising(config: RunConfig) -> float:
        wins = (config.algorithm == contender) == (winner == "copy")
        noise = drawn(0)(config) - 0.98
        return noise + (0.98 if wins else 0.95 + 0.1 * float(config.hyperparameters["lr"]))

    (sentence,) = sentences(Comparison(plan, MadeUp(rising)))
    lost = "adamw" if winner == "copy" else "Copy"
    assert ("BETTER" if winner == "copy" else "WORSE") in sentence
    assert sentence.endswith(f"; but {lost} chose the edge of its range, and may do better beyond it.")


def test_choices_at_an_edge_and_lost_runs_are_warnings(plan: Plan) -> None:
    def rising(config: RunConfig) -> float:
        return 0.9 + 0.01 * float(config.hyperparameters["lr"])

    found = warnings(Comparison(plan, MadeUp(rising)))
    assert any("Copy chose lr at the edge of its range" in line and "may lie above 0.02" in line for line in found)


def test_a_layered_store_reads_others_and_writes_its_own(tmp_path: Path) -> None:
    config = RunConfig(dataset="folder:a b@1", model="user:m@2", algorithm="user:Copy@0")
    other = RunStore(tmp_path / "other" / "runs")
    other.save(make_record(config))
    store = LayeredStore(tmp_path / "own" / "runs", [other])
    assert store.has(config)
    assert store.load(config) == other.load(config)
    assert store.path(config).is_relative_to(tmp_path / "own")
    assert ":" not in str(store.path(config).relative_to(tmp_path))
