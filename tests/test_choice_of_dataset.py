"""A study on another dataset: the same protocol, with names and records of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data.datasets import DATASETS
from advanced_optimizers.experiments.records.paths import project_root, run_store
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.studies import registry
from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES, get_study, register
from advanced_optimizers.experiments.studies.study import BaseStudy, Study
from advanced_optimizers.experiments.studies.sweep import WidthSweep
from advanced_optimizers.experiments.studies.task import Task
from tests.data_helpers import random_arrays, write_cifar
from tests.experiments_helpers import PYPROJECT, TINY, Recorded, make_record

FULL = [
    study
    for (_, profile), study in STUDIES.items()
    if profile == "full" and any(getattr(task, "dataset", "") == "cifar10-jpeg" for task in study.tasks)
]
CHOICES = ("cifar10-jpeg", "cifar10", "cifar10-jpeg-own")
TASKS = (
    TINY.tasks[0],
    Task(dataset="cifar10-jpeg", model="mlp", epochs=2, tuning_epochs=1, alternatives=("cifar10",)),
)
TWO = replace(TINY, name="two", profile="full", tasks=TASKS, targets={"cifar10-jpeg-mlp": 0.5, "mnist-mlp": 0.9})


@pytest.mark.parametrize("dataset", CHOICES[1:])
@pytest.mark.parametrize("study", FULL, ids=lambda study: study.name)
def test_only_names_differ_on_another_dataset(study: BaseStudy, dataset: str, tmp_path: Path) -> None:
    other = study.on(dataset)
    stated, chosen = (each.configs(Recorded(tmp_path)) for each in (study, other))
    assert len(stated) == len(chosen)
    moved = 0
    for ours, theirs in zip(stated, chosen, strict=True):
        expected = {known.name: getattr(ours, known.name) for known in fields(ours)}
        if ours.dataset == "cifar10-jpeg":
            expected["dataset"] = dataset
            moved += 1
            assert theirs.run_id != ours.run_id
        assert expected == {known.name: getattr(theirs, known.name) for known in fields(theirs)}
    assert moved


@pytest.mark.parametrize("study", FULL, ids=lambda study: study.name)
def test_every_full_study_on_cifar10_jpeg_offers_the_original(study: BaseStudy) -> None:
    assert study.datasets == CHOICES
    assert set(study.datasets) <= set(DATASETS)
    assert study.on("cifar10-jpeg") is study
    other = study.on("cifar10")
    assert other.name == f"{study.name}-cifar10"
    assert other.command == (
        f"python -m advanced_optimizers.experiments run {study.name} --profile full --dataset cifar10"
    )
    assert "cifar10-jpeg" not in {task.dataset for task in other.tasks}
    assert not [claim for claim in CLAIMS.values() if claim.study == other.name]


def test_what_is_stated_by_task_moves_with_the_task() -> None:
    wider = replace(TASKS[1], width=2.0)
    study = replace(
        TWO, protocols={("cifar10-jpeg-mlp", "adam"): wider}, left_out=frozenset({("cifar10-jpeg-mlp", "fer-sgd")})
    )
    other = study.on("cifar10")
    assert [task.name for task in other.tasks] == ["digits-mlp", "cifar10-mlp"]
    assert other.left_out == {("cifar10-mlp", "fer-sgd")}
    assert other.targets == {"cifar10-mlp": 0.5, "mnist-mlp": 0.9}
    protocol: Mapping[tuple[str, str], Task] = other.protocols
    assert protocol == {("cifar10-mlp", "adam"): replace(wider, dataset="cifar10")}


def test_the_tables_on_another_dataset_have_its_name_and_no_verdict(tmp_path: Path) -> None:
    stated = get_study("fer", "full")
    assert isinstance(stated, Study)
    study = replace(stated, algorithms=("sgd", "fer-sgd"), seeds=(0, 1), trials=1, label_noises=(0.0,)).on("cifar10")
    store = RunStore(tmp_path / "results" / "runs")
    for configs in (study.tuning_configs(), study.final_configs(Recorded(tmp_path))):
        for config in configs:
            store.save(make_record(config))
    results = results_of(study, tmp_path)
    assert results.missing == []
    assert results.verdicts == {}
    assert all(name.startswith("fer-cifar10-") for name in (*results.tables, *results.figures))
    assert not [name for name in results.tables if "claims" in name or "evidence" in name]
    accuracy = results.tables["fer-cifar10-test-accuracy"]
    text = accuracy.to_string()
    assert "CIFAR-10, " in text
    assert "jpeg" not in text


@pytest.mark.parametrize(
    ("study", "dataset", "message"),
    [
        (TWO, "cifar100", r"dataset must be one of cifar10-jpeg, cifar10 for two \(full\), got 'cifar100'"),
        (TWO, "mnist", r"dataset must be one of .*, got 'mnist'"),
        (TINY, "cifar10", r"dataset cannot be chosen for tiny \(quick\) on digits, got 'cifar10'"),
    ],
)
def test_another_choice_is_an_error_that_names_the_choices(study: Study, dataset: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study.on(dataset)


def test_a_topic_with_an_unknown_alternative_is_refused() -> None:
    topic = replace(registry.TOPICS["baselines"], margins={})
    bad = replace(TWO, tasks=(replace(TASKS[1], alternatives=("cifar11",)),))
    with pytest.raises(ValueError, match="no dataset is named 'cifar11'; did you mean cifar10"):
        register("more", replace(topic, algorithms={}, studies=(bad,)))


def test_a_sweep_moves_too() -> None:
    sweep = get_study("mutransfer", "full", "cifar10-jpeg-own")
    assert isinstance(sweep, WidthSweep)
    assert [task.name for task in sweep.tasks] == ["mnist-mlp3", "cifar10-jpeg-own-mlp3"]


def test_runs_on_different_pixels_are_named(tmp_path: Path) -> None:
    study = replace(TWO.on("cifar10"), tasks=(TASKS[1].on("cifar10"),), algorithms=("sgd",))
    store = RunStore(tmp_path / "results" / "runs")
    for configs in (study.tuning_configs(), study.final_configs(Recorded(tmp_path))):
        for config in configs:
            store.save(make_record(config))
    assert "not comparable" not in results_of(study, tmp_path).loaded
    record = store.load(study.final_configs(store)[0])
    assert record is not None
    store.save(replace(record, environment={**record.environment, "data_checksum": "f" * 64}), replace=True)
    assert "\nnot comparable: runs on cifar10 were trained on different data" in results_of(study, tmp_path).loaded


# --- The command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose one full study has a choice, and whose data folder has a small CIFAR-10 and no archive."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADVANCED_OPTIMIZERS_DATA", str(tmp_path / "data"))
    data._load.cache_clear()
    arrays = random_arrays(32, 3)
    labels = torch.arange(20) % 10
    write_cifar(tmp_path / "data", datasets.CIFAR10, arrays._replace(labels=labels), monkeypatch)
    study = replace(TWO, tasks=(replace(TASKS[1], batch_size=8),), algorithms=("sgd",), targets={})
    monkeypatch.setattr(registry, "STUDIES", {("two", "full"): study})
    return tmp_path


def test_a_study_is_run_shown_listed_and_reproduced_on_the_original(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["two", "--profile", "full", "--dataset", "cifar10"]
    assert main(["run", *chosen, "--jobs", "1"]) == 0
    assert "two-cifar10 (full): 0 runs loaded" in capsys.readouterr().out
    records = run_store("full").records()
    assert {record.config.task for record in records} == {"cifar10-mlp"}
    assert {record.environment["data_checksum"] for record in records if record.config.split == "test"} == {
        data.load("cifar10").checksum
    }
    assert main(["show", *chosen]) == 0
    shown = capsys.readouterr().out
    assert "no claim is decided on cifar10" in shown
    assert "two-cifar10-test-accuracy" in shown
    assert main(["list", "--dataset", "cifar10"]) == 0
    assert f"two-cifar10 full  {len(records):3} runs recorded  cifar10-mlp" in capsys.readouterr().out
    assert main(["reproduce", *chosen, "--jobs", "1", "--only", records[0].run_id]) == 0
    assert "1 of 1 runs came back bit for bit" in capsys.readouterr().out
    # The study itself has none of these records, and its own data are not replaced by the others.
    assert main(["show", "two", "--profile", "full"]) == 0
    assert "no claim is decided" not in (shown := capsys.readouterr().out)
    assert shown.startswith("0 of ")
    assert main(["run", "two", "--profile", "full", "--jobs", "1"]) == 1
    error = capsys.readouterr().err
    assert "cifar10_jpeg.zip is missing" in error
    assert "--dataset cifar10" in error


def test_a_list_names_the_choices_and_refuses_others(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "--dataset" in (listed := capsys.readouterr().out)
    assert "cifar10-jpeg, cifar10" in listed
    assert main(["list", "--dataset", "cifar11"]) == 1
    assert "dataset must be one of cifar10-jpeg, cifar10, got 'cifar11'" in capsys.readouterr().err
    for command in ("run", "show", "reproduce"):
        assert main([command, "two", "--profile", "full", "--dataset", "mnist"]) == 1
        assert "dataset must be one of cifar10-jpeg, cifar10 for two (full), got 'mnist'" in capsys.readouterr().err
    assert project_root() == project
