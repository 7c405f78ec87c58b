"""A small project with made-up records and a report that is filled from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.blocks import blocks as report_blocks
from advanced_optimizers.experiments.report.report import FILES, run_report
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.studies.task import Task
from tests.synthetic_runs import make_measurements, make_record

STUDY = Study(
    name="fer",
    title="A small study",
    profile="full",
    tasks=(Task(dataset="mnist", model="mlp", epochs=10, tuning_epochs=3),),
    algorithms=("sgd", "fer-sgd", "flipping-sgd"),
    label_noises=(0.0, 0.2),
    seeds=(0, 1, 2, 3, 4),
    trials=2,
    metrics=("test_accuracy", "relative_flipping_error"),
    curves=("test_accuracy", "relative_flipping_error", "consistency"),
    left_out=frozenset({("mnist-mlp", "flipping-sgd")}),
)

README = """# Title

FER reaches <!-- result:accuracy study=fer task=mnist-mlp algorithm=fer-sgd noise=0 -->?<!-- /result --> on MNIST.

<!-- result:table study=fer name=fer-test-accuracy -->
<!-- /result -->

Needs Python 3.10+. Run `echo 0.5` or
```python
FEROptimizer(model.parameters(), fer_weight=0.1)
```
"""

REPORT = """# Report

Momentum is 0.9 in this section, which states no result.

## 3. Results

<!-- results -->
The verdict is <!-- result:verdict claim=fer-beats-baselines -->?<!-- /result -->: the source claims
<!-- claimed -->97.1 % against 95.2 %<!-- /claimed -->.

<!-- result:figure name=fer-test-accuracy -->
<!-- /result -->
<!-- /results -->
"""


TRANSLATED = """# Заголовок

FER достигает <!-- result:accuracy study=fer task=mnist-mlp algorithm=fer-sgd noise=0 -->?<!-- /result --> на MNIST.

<!-- result:table study=fer name=fer-test-accuracy -->
<!-- /result -->
"""


def make_project(root: Path) -> Path:
    """Writes the project into a folder, fills its report, and returns the folder."""
    store = RunStore(root / "results" / "runs")
    for config in STUDY.tuning_configs():
        store.save(make_record(config))
    for config in STUDY.final_configs(store):
        store.save(make_record(config))
    (root / "results" / "benchmarks").mkdir()
    measurements = make_measurements({("fer-sgd", "sgd"): 1.02, ("other", "sgd"): 3.0}, tasks=["mnist-mlp"])
    (root / "results" / "benchmarks" / "epoch_overhead.json").write_text(json.dumps(measurements))
    (root / "README.md").write_text(README)
    (root / "README.ru.md").write_text(TRANSLATED)
    (root / "coursework_report.md").write_text(REPORT)
    for file in FILES:
        if not (root / file).exists():
            (root / file).write_text("# Отчёт\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_blocks, "STUDIES", {("fer", "full"): STUDY})
        assert run_report(root, check=False) == []
    return root


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def record_of(root: Path, choose: Callable[[str], bool] = lambda text: '"split": "test"' in text) -> Path:
    return next(p for p in sorted((root / "results" / "runs").rglob("*.json")) if choose(p.read_text()))
