"""Display names, and the order in which tables and figures show algorithms and tasks."""

from __future__ import annotations

from advanced_optimizers.experiments.data.datasets import DATASETS
from advanced_optimizers.experiments.evidence.metrics import Labels, noise_words
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.models import MODELS

# The display names of tasks other than a dataset with a model; there is no label noise on them.
TASKS: dict[str, str] = {}


def labels() -> dict[str, str]:
    """The display names of all tasks, then of all algorithms, each baseline followed by what is compared with it."""
    baselines = [name for name, algorithm in ALGORITHMS.items() if algorithm.baseline is None]
    algorithms = {
        name: algorithm.label
        for baseline in baselines
        for name, algorithm in ALGORITHMS.items()
        if baseline in (name, algorithm.baseline)
    }
    return {**_tasks(), **algorithms}


def _tasks() -> dict[str, str]:
    of_networks = {
        f"{dataset}-{name}": f"{words}, {model.label}"
        for dataset, words in DATASETS.items()
        for name, model in MODELS.items()
    }
    return {**of_networks, **TASKS}


def label(name: str) -> str:
    """The display name of an algorithm or a task."""
    return ALGORITHMS[name].label if name in ALGORITHMS else _tasks().get(name, name)


def where(task: str, label_noise: float, names: Labels | None = None) -> str:
    """A task and its level of label noise, for display; with names as given, or those of :func:`labels`."""
    name = label(task) if names is None else names.get(task, task)
    return name if task in TASKS else f"{name}, {noise_words(label_noise)}"
