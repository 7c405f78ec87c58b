"""The registry of topics: what it takes in, what it refuses, and that a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import RunData, Verdict
from advanced_optimizers.experiments.evidence.metrics import CURVES, METRICS, Metric
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.studies import registry
from advanced_optimizers.experiments.studies.baselines import LEARNING_RATES, plain
from advanced_optimizers.experiments.studies.registry import (
    CLAIMS,
    STUDIES,
    TOPICS,
    decide_claims,
    get_study,
    load_topic_file,
    register,
    topic_files,
)
from advanced_optimizers.experiments.studies.study import BaseStudy
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Algorithm, Range
from advanced_optimizers.experiments.training.models import MODELS
from advanced_optimizers.experiments.training.trackers import TRACKERS
from tests.experiments_helpers import TINY

TABLES: dict[str, dict[Any, Any]] = {
    "TOPICS": TOPICS,
    "STUDIES": STUDIES,
    "CLAIMS": CLAIMS,
    "ALGORITHMS": ALGORITHMS,
    "MODELS": MODELS,
    "METRICS": METRICS,
    "CURVES": CURVES,
    "TRACKERS": TRACKERS,
}
OWN = Algorithm(label="Own", baseline="sgd", search_space={"lr": LEARNING_RATES["sgd"]}, build=plain("sgd"))
STUDY = replace(TINY, name="own", algorithms=("sgd", "own"))
CLAIM = Claim(
    key="own-wins",
    study="own",
    method="Own",
    short="wins",
    text="Own wins.",
    source="nobody",
    rule="It always does.",
    decide=lambda data: Verdict("supported", "It did."),
)
TOPIC = Topic(title="Own", algorithms={"own": OWN}, studies=(STUDY,), claims=(CLAIM,))


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Whatever a test registers is forgotten."""
    before = {name: dict(table) for name, table in TABLES.items()}
    files = dict(registry._FILES)
    yield
    for name, table in TABLES.items():
        table.clear()
        table.update(before[name])
    registry._FILES.clear()
    registry._FILES.update(files)


def snapshot() -> dict[str, list[Any]]:
    return {name: list(table) for name, table in TABLES.items()}


def test_a_topic_is_found_by_name_in_every_table() -> None:
    register("own", TOPIC)
    assert TOPICS["own"] is TOPIC
    assert ALGORITHMS["own"] is OWN
    assert get_study("own", "quick") is STUDY
    assert decide_claims("own", RunData(pd.DataFrame()))["own-wins"].status == "supported"


@pytest.mark.parametrize(
    ("name", "topic", "message"),
    [
        ("fer", TOPIC, "the topic 'fer' "),
        ("own", replace(TOPIC, algorithms={"own": OWN, "sgd": OWN}), "the algorithm 'sgd' "),
        ("own", replace(TOPIC, models={"mlp": MODELS["mlp"]}), "the model 'mlp' "),
        ("own", replace(TOPIC, metrics=(Metric("test_accuracy", "accuracy", True),)), "the metric 'test_accuracy' "),
        ("own", replace(TOPIC, trackers={"flipping": TRACKERS["flipping"]}), "the tracker 'flipping' "),
        ("own", replace(TOPIC, studies=(replace(STUDY, name="fer"),), claims=()), r"the study \('fer', 'quick'\) "),
        ("own", replace(TOPIC, claims=(replace(CLAIM, key="fer-overhead"),)), "the claim 'fer-overhead' "),
        ("own", replace(TOPIC, algorithms={"own": replace(OWN, baseline="sdg")}), "no algorithm is named 'sdg'"),
        ("own", replace(TOPIC, claims=(replace(CLAIM, study="onw"),)), "no study is named 'onw'; did you mean own"),
        (
            "own",
            replace(TOPIC, studies=(replace(STUDY, algorithms=("sgd", "other")),)),
            "no algorithm is named 'other'",
        ),
        ("own", replace(TOPIC, studies=(replace(STUDY, metrics=("luck",)),)), "no metric is named 'luck'"),
        ("own", replace(TOPIC, studies=(replace(STUDY, curves=("luck",)),)), "no curve is named 'luck'"),
        (
            "own",
            replace(TOPIC, studies=(replace(STUDY, tasks=(replace(STUDY.tasks[0], model="mlpp"),)),)),
            "no model is named 'mlpp'",
        ),
        (
            "own",
            replace(TOPIC, studies=(replace(STUDY, tasks=(replace(STUDY.tasks[0], dataset="digit"),)),)),
            "no dataset is named 'digit'",
        ),
        ("own", replace(TOPIC, studies=(replace(STUDY, algorithms=("own",)),)), "must run sgd, the baseline of own"),
    ],
)
def test_a_refused_topic_is_named_and_changes_nothing(name: str, topic: Topic, message: str) -> None:
    before = snapshot()
    with pytest.raises(ValueError, match=message) as caught:
        register(name, topic)
    assert f"topic '{name}'" in str(caught.value)
    assert snapshot() == before


def test_a_row_without_a_learning_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"search_space must include lr, got \['mu'\]"):
        replace(OWN, search_space={"mu": Range(low=0.0, high=1.0)})


@pytest.mark.parametrize(
    ("bounds", "message"),
    [({"low": 1.0, "high": 1.0}, "high must be > 1.0"), ({"low": 0.0, "high": 1.0, "log": True}, "low must be > 0.0")],
)
def test_an_empty_range_is_refused(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Range(**bounds)


# ---- files ---------------------------------------------------------------------------------------------------------

FILE = """
from neighbor import LABEL
from tests.test_registry import OWN, Topic, replace

TOPIC = Topic(title="From a file", algorithms={"filed": replace(OWN, label=LABEL)})
"""


def test_a_file_is_loaded_once_and_may_import_its_neighbors(tmp_path: Path) -> None:
    (tmp_path / "neighbor.py").write_text("LABEL = 'Filed'\n")
    (tmp_path / "my_topic.py").write_text(FILE)
    topic = load_topic_file(tmp_path / "my_topic.py")
    assert ALGORITHMS["filed"].label == "Filed"
    assert load_topic_file(str(tmp_path / "my_topic.py")) is topic is TOPICS["my_topic"]
    assert topic_files()[-1] == tmp_path / "my_topic.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "topic must be an existing Python file, got .*my_topic"),
        ("TOPICS = 1", r"my_topic.py must define TOPIC = Topic\(...\), got TOPIC = None"),
        ("TOPIC = 1", "got TOPIC = 1"),
    ],
)
def test_a_file_without_a_topic_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "my_topic.py"
    if text is not None:
        path.write_text(text)
    before = snapshot()
    with pytest.raises(ValueError, match=message):
        load_topic_file(path)
    assert snapshot() == before
    assert path not in topic_files()


def test_a_study_of_a_kind_that_nothing_shows_is_named(tmp_path: Path) -> None:
    class Guess(BaseStudy):
        pass

    study = Guess(name="guess", title="?", profile="quick", tasks=(), algorithms=(), seeds=())
    with pytest.raises(TypeError, match=r"the study guess is a Guess, and .*RESULTS has no results"):
        results_of(study, tmp_path)
