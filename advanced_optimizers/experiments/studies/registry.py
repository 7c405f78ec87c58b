"""The registered topics, and their studies and claims by name.

Importing the package registers every module of it that has a ``TOPIC``. A topic in a file of your own is registered by
:func:`load_topic_file` (on the command line, ``--topic FILE``), a :class:`Topic` object by :func:`register`.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from advanced_optimizers._checks import unknown_name
from advanced_optimizers.experiments.data.datasets import DATASETS
from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import RunData, Verdict
from advanced_optimizers.experiments.evidence.labels import TASKS
from advanced_optimizers.experiments.evidence.metrics import CURVES, METRICS
from advanced_optimizers.experiments.records.machine import FURTHER_SOURCES
from advanced_optimizers.experiments.records.paths import check_profile
from advanced_optimizers.experiments.studies.kind_study import KindStudy
from advanced_optimizers.experiments.studies.study import BaseStudy, Study
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.models import MODELS
from advanced_optimizers.experiments.training.trackers import TRACKERS

TOPICS: dict[str, Topic] = {}
STUDIES: dict[tuple[str, str], BaseStudy] = {}
CLAIMS: dict[str, Claim] = {}
# By metric and task, the largest difference that does not matter.
MARGINS: dict[tuple[str, str], float] = {}
# The topic files that were loaded, with the topics' names; worker processes load them too.
_FILES: dict[Path, str] = {}
# What the names of their modules begin with, so that a file random.py hides no other module.
_MODULE = "advanced_optimizers_topic_"


def register(name: str, topic: Topic) -> None:
    """Adds a topic, so that its algorithms, studies and so on can be used by name.

    Args:
        name: The topic's name.
        topic: What it consists of.

    Raises:
        ValueError: A name is already taken, or the topic uses an unknown name; nothing is added then.
    """
    additions: list[tuple[str, dict[Any, Any], Mapping[Any, Any]]] = [
        ("topic", TOPICS, {name: topic}),
        ("algorithm", ALGORITHMS, topic.algorithms),
        ("model", MODELS, topic.models),
        ("metric", METRICS, {metric.column: metric for metric in topic.metrics}),
        ("curve", CURVES, {curve.column: curve for curve in topic.curves}),
        ("tracker", TRACKERS, topic.trackers),
        ("task", TASKS, topic.tasks),
        ("study", STUDIES, {(study.name, study.profile): study for study in topic.studies}),
        ("claim", CLAIMS, {claim.key: claim for claim in topic.claims}),
        (
            "margin",
            MARGINS,
            {(metric, task): m for metric, by_task in topic.margins.items() for task, m in by_task.items()},
        ),
    ]
    for kind, table, rows in additions:
        for taken in table.keys() & rows.keys():
            raise ValueError(f"topic {name!r} must use new names, but the {kind} {taken!r} is already registered")
    _check_names(name, topic)
    for _, table, rows in additions:
        table.update(rows)


def _check_names(name: str, topic: Topic) -> None:
    """Raises a ValueError for the first name that the topic uses but that is not registered."""
    algorithms, models = {**ALGORITHMS, **topic.algorithms}, {**MODELS, **topic.models}
    metrics = {*METRICS, *(metric.column for metric in topic.metrics)}
    curves = {*CURVES, *(curve.column for curve in topic.curves)}
    studies = {study.name for study in topic.studies}
    compared = [study for study in topic.studies if isinstance(study, Study | KindStudy)]
    kinds = [study for study in topic.studies if isinstance(study, KindStudy)]
    own_claims = {claim.key: claim for claim in topic.claims}
    baselines = [row.baseline for row in topic.algorithms.values() if row.baseline is not None]
    used: list[tuple[str, str, Collection[str]]] = [
        *(("algorithm", baseline, algorithms) for baseline in baselines),
        *(("study", claim.study, studies) for claim in topic.claims),
        *(("algorithm", algorithm, algorithms) for study in topic.studies for algorithm in study.algorithms),
        *(("model", model, models) for study in topic.studies for task in study.tasks for model in task.models),
        *(
            ("dataset", dataset, DATASETS)
            for study in topic.studies
            for task in study.tasks
            for dataset in (*task.datasets, *task.alternatives)
        ),
        *(("claim", key, {**CLAIMS, **own_claims}) for statement in topic.statements for key in statement.claims),
        *(("algorithm", name, algorithms) for gain in topic.gains for name in (gain.algorithm, gain.baseline)),
        *(("study", gain.study, {*studies, *(name for name, _ in STUDIES)}) for gain in topic.gains),
        *(("metric", gain.metric, metrics) for gain in topic.gains),
        *(("metric", metric, metrics) for study in compared for metric in study.metrics),
        *(("metric", metric, metrics) for study in kinds for metric in study.constants),
        *(("curve", curve, curves) for study in compared for curve in study.curves),
    ]
    for kind, wanted, known in used:
        if wanted not in known:
            raise ValueError(f"topic {name!r}: {unknown_name(kind, wanted, known)}")
    for study in topic.studies:
        for algorithm in study.algorithms:
            baseline = algorithms[algorithm].baseline
            if baseline is not None and baseline not in study.algorithms:
                raise ValueError(
                    f"topic {name!r}: the study {study.name} must run {baseline}, the baseline of {algorithm}"
                )


def load_topics() -> None:
    """Registers the topic of each module of this package that has one.

    A topic without algorithms and models of its own is about those of the others, so it comes after them.
    """
    package = __name__.rpartition(".")[0]
    names = [module_info.name for module_info in pkgutil.iter_modules([str(Path(__file__).parent)])]
    found = {name: getattr(importlib.import_module(f"{package}.{name}"), "TOPIC", None) for name in names}
    topics = {name: topic for name, topic in found.items() if isinstance(topic, Topic) and name not in TOPICS}
    for name in sorted(topics, key=lambda name: not (topics[name].algorithms or topics[name].models)):
        register(name, topics[name])


def load_topic_file(path: str | Path) -> Topic:
    """Registers the topic of a Python file. A file that is already loaded is not loaded again.

    The file's folder is added to the import path, so that the file can import its neighbors.

    Args:
        path: A Python file with a :class:`Topic` named ``TOPIC``.

    Raises:
        ValueError: There is no such file, it has no ``TOPIC``, or :func:`register` rejects it.
    """
    file = Path(path).expanduser().resolve()
    if file in _FILES:
        return TOPICS[_FILES[file]]
    if not file.is_file():
        raise ValueError(f"topic must be an existing Python file, got {str(path)!r}")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(f"{_MODULE}{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"topic must be a Python file, got {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its data classes look themselves up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    topic = getattr(module, "TOPIC", None)
    if not isinstance(topic, Topic):
        raise ValueError(f"{file.name} must define TOPIC = Topic(...), got TOPIC = {topic!r}")
    register(file.stem, topic)
    _FILES[file] = file.stem
    FURTHER_SOURCES.append(file)
    return topic


def topic_files() -> tuple[Path, ...]:
    """The files that :func:`load_topic_file` has loaded."""
    return tuple(_FILES)


def study_names() -> list[str]:
    """The names of all studies, sorted."""
    return sorted({name for name, _ in STUDIES})


def get_study(name: str, profile: str, dataset: str | None = None) -> BaseStudy:
    """The study of that name in a profile.

    Args:
        name: The study's name.
        profile: ``quick`` or ``full``.
        dataset: Another dataset for the tasks that have this alternative, see :meth:`.BaseStudy.on`; None for none.

    Raises:
        ValueError: There is none; the message suggests the nearest names.
    """
    check_profile(profile)
    if (name, profile) not in STUDIES:
        raise unknown_name("study", name, study_names(), cutoff=0.3)
    study = STUDIES[name, profile]
    return study if dataset is None else study.on(dataset)


def decide_claims(study: str, data: RunData) -> dict[str, Verdict]:
    """Applies the rules of a study's claims to its runs; returns the verdicts by claim key."""
    return {key: claim.decide(data) for key, claim in CLAIMS.items() if claim.study == study}
