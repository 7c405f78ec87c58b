"""The topics that there are, and their studies and claims by name.

Every module of this package with a ``TOPIC`` is found and registered when the package is imported; a file of one's own
is registered by :func:`load_topic_file` (on the command line ``--topic FILE``), an object by :func:`register`.
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
from advanced_optimizers.experiments.evidence.metrics import CURVES, METRICS
from advanced_optimizers.experiments.records.paths import check_profile
from advanced_optimizers.experiments.studies.study import BaseStudy, Study
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.models import MODELS
from advanced_optimizers.experiments.training.trackers import TRACKERS

TOPICS: dict[str, Topic] = {}
STUDIES: dict[tuple[str, str], BaseStudy] = {}
CLAIMS: dict[str, Claim] = {}
# Files of topics that were loaded, with their names; worker processes load them too.
_FILES: dict[Path, str] = {}


def register(name: str, topic: Topic) -> None:
    """Adds a topic: its algorithms, studies and all the rest can then be used by name.

    Args:
        name: The topic's name.
        topic: What it consists of.

    Raises:
        ValueError: A name is taken already, or the topic uses one that there is not; nothing was added then.
    """
    additions: list[tuple[str, dict[Any, Any], Mapping[Any, Any]]] = [
        ("topic", TOPICS, {name: topic}),
        ("algorithm", ALGORITHMS, topic.algorithms),
        ("model", MODELS, topic.models),
        ("metric", METRICS, {metric.column: metric for metric in topic.metrics}),
        ("curve", CURVES, {curve.column: curve for curve in topic.curves}),
        ("tracker", TRACKERS, topic.trackers),
        ("study", STUDIES, {(study.name, study.profile): study for study in topic.studies}),
        ("claim", CLAIMS, {claim.key: claim for claim in topic.claims}),
    ]
    for kind, table, rows in additions:
        for taken in table.keys() & rows.keys():
            raise ValueError(f"topic {name!r} must have names of its own, the {kind} {taken!r} is there already")
    _check_names(name, topic)
    for _, table, rows in additions:
        table.update(rows)


def _check_names(name: str, topic: Topic) -> None:
    """Raises a ValueError for the first name that the topic uses and nobody registered."""
    algorithms, models = {**ALGORITHMS, **topic.algorithms}, {**MODELS, **topic.models}
    metrics = {*METRICS, *(metric.column for metric in topic.metrics)}
    curves = {*CURVES, *(curve.column for curve in topic.curves)}
    studies = {study.name for study in topic.studies}
    baselines = [row.baseline for row in topic.algorithms.values() if row.baseline is not None]
    used: list[tuple[str, str, Collection[str]]] = [
        *(("algorithm", baseline, algorithms) for baseline in baselines),
        *(("study", claim.study, studies) for claim in topic.claims),
        *(("algorithm", algorithm, algorithms) for study in topic.studies for algorithm in study.algorithms),
        *(("model", task.model, models) for study in topic.studies for task in study.tasks),
        *(("dataset", task.dataset, DATASETS) for study in topic.studies for task in study.tasks),
        *(("metric", m, metrics) for study in topic.studies if isinstance(study, Study) for m in study.metrics),
        *(("curve", c, curves) for study in topic.studies if isinstance(study, Study) for c in study.curves),
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
    """Registers the topic of every module of this package that has one."""
    package = __name__.rpartition(".")[0]
    for module_info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{package}.{module_info.name}")
        topic = getattr(module, "TOPIC", None)
        if isinstance(topic, Topic) and module_info.name not in TOPICS:
            register(module_info.name, topic)


def load_topic_file(path: str | Path) -> Topic:
    """Registers the topic of a Python file; a file that was loaded before is not loaded again.

    The file's folder is put on the import path, so that the file can import its neighbors.

    Args:
        path: A Python file with a :class:`Topic` named ``TOPIC``.

    Raises:
        ValueError: There is no such file, it has no ``TOPIC``, or :func:`register` refuses it.
    """
    file = Path(path).expanduser().resolve()
    if file in _FILES:
        return TOPICS[_FILES[file]]
    if not file.is_file():
        raise ValueError(f"topic must be a Python file, got {str(path)!r}, and there is no such file")
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"topic must be a Python file, got {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    topic = getattr(module, "TOPIC", None)
    if not isinstance(topic, Topic):
        raise ValueError(f"{file.name} must define TOPIC = Topic(...), it has {topic!r}")
    register(file.stem, topic)
    _FILES[file] = file.stem
    return topic


def topic_files() -> tuple[Path, ...]:
    """The files that :func:`load_topic_file` has loaded."""
    return tuple(_FILES)


def study_names() -> list[str]:
    """The studies' names."""
    return sorted({name for name, _ in STUDIES})


def get_study(name: str, profile: str) -> BaseStudy:
    """The study of that name in a profile.

    Raises:
        ValueError: There is none; the nearest names are given.
    """
    check_profile(profile)
    if (name, profile) not in STUDIES:
        raise unknown_name("study", name, study_names(), cutoff=0.3)
    return STUDIES[name, profile]


def decide_claims(study: str, data: RunData) -> dict[str, Verdict]:
    """Applies the rules of a study's claims to its runs; the verdicts by the claims' keys."""
    return {key: claim.decide(data) for key, claim in CLAIMS.items() if claim.study == study}
