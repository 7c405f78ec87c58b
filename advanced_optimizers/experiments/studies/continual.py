"""Continual learning: what fine-tuning forgets, what a penalty, replay or a new column keeps, and what each costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.claims.continual import CLAIMS, MARGINS, SIZES
from advanced_optimizers.experiments.studies.continual_runs import ARMS, ContinualRun, StrengthRun
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask, TradeOff
from advanced_optimizers.experiments.studies.progressive_runs import METHODS, TransferRun
from advanced_optimizers.experiments.studies.study import SEEDS, MissingRunsError
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm

TRIAL_SEED = 100
# Where nothing is tuned.
_STRENGTH = 100.0


@dataclass(frozen=True, kw_only=True)
class ContinualStudy(KindStudy):
    """A comparison in which every algorithm with a penalty takes the best of the same strengths on each task.

    A trial is a run of all strengths with a seed of its own, measured on training images that are held out.

    Attributes:
        tuned: Whether there are trials.
        trial_tasks: Of so many tasks of the sequence.
    """

    tuned: bool
    trial_tasks: int

    def trial(self, task: KindTask, algorithm: str) -> StrengthRun:
        """All strengths of an algorithm on a task."""
        run = self._config(task, algorithm, TRIAL_SEED)
        fields = {name: value for name, value in run.content.items() if name not in ("kind", "hyperparameters")}
        return StrengthRun(**{**fields, "tasks": self.trial_tasks, "held_out": True})

    def tuning_configs(self) -> Sequence[KindConfig]:
        """See :class:`.BaseStudy`."""
        if not self.tuned:
            return []
        return [self.trial(task, name) for task in self.tasks for name in self.algorithms if has_penalty(name)]

    def final_configs(self, store: RunStore) -> list[KindConfig]:
        """See :class:`.BaseStudy`; each run has the strength that did best in its algorithm's trial on its task."""
        strengths = {
            (task.name, name): self._strength(store, task, name)
            for task in self.tasks
            for name in self.algorithms
            if has_penalty(name)
        }
        return [
            replace(config, hyperparameters={"lambda": strengths[config.task, config.algorithm]})
            if has_penalty(config.algorithm)
            else config
            for config in super().final_configs(store)
        ]

    def _strength(self, store: RunStore, task: KindTask, algorithm: str) -> float:
        if not self.tuned:
            return _STRENGTH
        record = store.load(self.trial(task, algorithm))
        if record is None or record.status != "completed":
            raise MissingRunsError(f"the trial of {algorithm} on {task.name} has no complete record: {self.command}")
        accuracies = [float(value or 0.0) for value in record.curves["test_accuracy"]]
        return 10.0 ** (1 + accuracies.index(max(accuracies)))


def has_penalty(algorithm: str) -> bool:
    """Whether an algorithm has a strength to choose."""
    return algorithm in ARMS and bool(ARMS[algorithm].estimator)


def _task(kind: type[ContinualRun] | type[TransferRun], protocol: dict[str, str | float], **fields: Any) -> KindTask:
    def config(algorithm: str, seed: int) -> ContinualRun | TransferRun:
        return kind(algorithm=algorithm, seed=seed, **fields)

    example = config("continual-finetuning", 0)
    return KindTask(task=example.task, reads=example.datasets, config=config, protocol=protocol)


def _sequence(kind: type[ContinualRun], **fields: Any) -> KindTask:
    example = kind(algorithm="continual-finetuning", **fields)
    protocol: dict[str, str | float] = {
        "Tasks": example.tasks,
        "Images": example.images,
        "Epochs per task": example.epochs,
        "Images per step": example.batch_size,
    }
    return _task(kind, protocol, **fields)


def _transfer(last_images: int, **fields: Any) -> KindTask:
    example = TransferRun(algorithm="transfer-scratch", last_images=last_images, **fields)
    protocol: dict[str, str | float] = {
        "Images of four tasks": example.images,
        "Images of the last": last_images,
        "Steps of the last": example.steps,
    }
    return _task(TransferRun, protocol, last_images=last_images, **fields)


_SMALL: dict[str, Any] = {
    "dataset": "digits",
    "images": 600,
    "batch_size": 32,
    "hidden": 64,
    "shrink": 1,
    "fisher_images": 50,
}
_SPLIT = ("split-task", "split-domain", "split-class")
_BY_STRENGTH = ("continual-finetuning", "continual-ewc", "continual-l2", "continual-shuffled")
_SPLIT_ARMS = ("continual-finetuning", "continual-ewc", "continual-replay-200")
_EACH = tuple(f"task{number}_accuracy" for number in (1, 2, 3))
_SUMMARY = ("forgetting", "learned")


def _studies(profile: str, seeds: tuple[int, ...], small: dict[str, Any]) -> tuple[KindStudy, ...]:
    epochs = {"epochs": 4} if small else {}
    columns = {"dataset": "digits", "images": 1400, "hidden": 16, "epochs": 3} if small else {}
    return (
        ContinualStudy(
            name="continual",
            title="What does a network keep of earlier tasks, and is it the Fisher information that keeps it?",
            profile=profile,
            tasks=(_sequence(ContinualRun, **small, **epochs),),
            algorithms=(*ARMS, "continual-joint"),
            seeds=seeds,
            metrics=("test_accuracy", *_EACH, *_SUMMARY, "learning_seconds"),
            curves=("task1_accuracy",),
            tuned=not small,
            trial_tasks=2,
        ),
        KindStudy(
            name="continual-transfer",
            title="Do earlier columns help a last task that has few images?",
            profile=profile,
            tasks=tuple(_transfer(size, **columns) for size in (SIZES[1:3] if small else SIZES)),
            algorithms=tuple(METHODS),
            seeds=seeds,
            metrics=("test_accuracy", "old_accuracy", "old_lost", "old_changed", "total_parameters"),
            sizes={f"{'digits' if small else 'mnist'}-transfer-{size}": size for size in SIZES},
            over="Training images of the last task",
        ),
        ContinualStudy(
            name="continual-split",
            title="Two classes after the other: with the task known, with shared outputs, with an output per class",
            profile=profile,
            tasks=tuple(_sequence(ContinualRun, scenario=each, tasks=5, **small, **epochs) for each in _SPLIT),
            algorithms=_SPLIT_ARMS,
            seeds=seeds,
            metrics=("test_accuracy", *_SUMMARY),
            curves=("task1_accuracy",),
            tuned=not small,
            trial_tasks=5,
        ),
        KindStudy(
            name="continual-strengths",
            title="What is kept of an old task and learned of a new one, by the strength of the penalty?",
            profile=profile,
            tasks=(_sequence(StrengthRun, tasks=2, **small, **epochs),),
            algorithms=_BY_STRENGTH,
            seeds=seeds[:1] if small else seeds[:3],
            metrics=("test_accuracy", "old_tasks", "new_tasks"),
            curves=("old_tasks", "new_tasks"),
            trade_offs=(TradeOff("new_tasks", "old_tasks"),),
        ),
    )


def _row(label: str, baseline: str = "continual-finetuning", *, control: bool = False) -> Algorithm:
    return Algorithm(label=label, baseline=baseline, timed=False, control=control)


_ALGORITHMS = {
    "continual-finetuning": Algorithm(label="Fine-tuning", baseline=None, timed=False),
    "continual-ewc": _row("EWC, exact Fisher"),
    "continual-ewc-sampled": _row("EWC, sampled labels"),
    "continual-ewc-empirical": _row("EWC, labels of the data"),
    "continual-ewc-online": _row("EWC, online"),
    "continual-ewc-batch-mean": _row("EWC, squared batch means (control)", control=True),
    "continual-l2": _row("L2 to earlier weights (control)", control=True),
    "continual-shuffled": _row("EWC, shuffled Fisher (control)", control=True),
    "continual-replay-200": _row("Replay of 200"),
    "continual-replay-1000": _row("Replay of 1,000"),
    "continual-joint": _row("Joint training (control)", control=True),
    "transfer-scratch": Algorithm(label="A column from scratch", baseline=None, timed=False),
    "transfer-progressive": _row("Progressive network", "transfer-scratch"),
    "transfer-random": _row("Random earlier columns (control)", "transfer-scratch", control=True),
    "transfer-finetuning": _row("One network, fine-tuned", "transfer-scratch"),
    "transfer-ewc": _row("One network, EWC", "transfer-scratch"),
    "transfer-wide": _row("One wider network, fine-tuned", "transfer-scratch"),
}

TOPIC = Topic(
    title="Continual learning",
    tasks={
        "mnist-permuted": "MNIST, permuted",
        "mnist-permuted-strengths": "MNIST, permuted, two tasks",
        "mnist-split-task": "MNIST, split, task known",
        "mnist-split-domain": "MNIST, split, shared outputs",
        "mnist-split-class": "MNIST, split, by class",
        **{f"mnist-transfer-{size}": f"MNIST, last task of {size:,} images" for size in SIZES},
    },
    algorithms=_ALGORITHMS,
    studies=(*_studies("full", SEEDS, {}), *_studies("quick", SEEDS[:2], _SMALL)),
    claims=CLAIMS,
    metrics=(
        Metric("forgetting", "accuracy lost on earlier tasks", False, "points"),
        Metric("first_forgotten", "accuracy lost on task 1", False, "points"),
        Metric("learned", "accuracy when just learned", True, best=1.0),
        Metric("worst_task", "lowest accuracy of a task", True, best=1.0),
        *(Metric(f"task{number}_accuracy", f"accuracy on task {number}", True, best=1.0) for number in (1, 2, 3)),
        Metric("learning_seconds", "CPU time of training", False, "s", "s", 1.0, 1),
        Metric("old_tasks", "accuracy on the old task", True, best=1.0),
        Metric("new_tasks", "accuracy on the new task", True, best=1.0),
        Metric("old_accuracy", "accuracy on earlier tasks", True, best=1.0),
        Metric("old_lost", "accuracy lost on earlier tasks", False, "points"),
        Metric("old_changed", "earlier outputs that changed", False),
        Metric("total_parameters", "parameters of the whole network", False, "", "", 1.0, 0),
    ),
    curves=(
        Curve("task1_accuracy", "task1", "accuracy on the first task by epoch", by_base=False),
        Curve("old_tasks", "kept", "accuracy on the old task by strength", by_base=False, over="log10 of lambda"),
        Curve("new_tasks", "gained", "accuracy on the new task by strength", by_base=False, over="log10 of lambda"),
    ),
    margins={"test_accuracy": MARGINS},
)
