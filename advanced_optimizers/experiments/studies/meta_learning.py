"""Learning to learn: sine waves by gradient steps, and characters by steps or by distances.

The trials that set the lengths and margins used one seed, and are no part of the records. What was cut, since all runs
of the full profile have to fit into half an hour of one core: the waves' 8,000 meta-batches are 2,000; an arm with ten
inner steps in training, an inner rate of 0.001, and the control that is told amplitude and phase; of the characters,
training with 60 ways, distances that are not squared, a learned temperature, and batch statistics at test time. MAML on
characters has a small perceptron on drawings of half the size, so it is no fair contest with the convolutions of the
others.
"""

from __future__ import annotations

from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.studies.claims.meta_learning import (
    ACCURACY,
    CLAIMS,
    DRAWINGS,
    DRAWINGS_STUDY,
    ERROR,
    WAVES,
    WAVES_STUDY,
)
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask
from advanced_optimizers.experiments.studies.meta_learning_few_shot import SETTINGS, TESTED_STEPS, FewShotRun
from advanced_optimizers.experiments.studies.meta_learning_sinusoid import COMPARED, SHOTS, TASKS, SinusoidRun
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm

PRETRAINING, PIXELS = "pretraining", "few-shot-pixels"

# Label, and whether it only shows what a part contributes.
_WAVES = {
    PRETRAINING: ("Pretraining, fine-tuning", False),
    "fine-tuning": ("Fine-tuning alone", True),
    "maml": ("MAML", False),
    "maml-first-order": ("MAML, first order", False),
    "maml-5-steps": ("MAML, five steps", False),
    "maml-lr-0.1": ("MAML, steps of 0.1", True),
    "maml-lr-0.5": ("MAML, steps of 0.5", True),
    "meta-sgd": ("Meta-SGD", False),
    "reptile": ("Reptile", False),
}
_DRAWINGS = {
    PIXELS: ("Pixels", False),
    "few-shot-untrained": ("Untrained features", True),
    "few-shot-classifier": ("Features of a classifier", True),
    "maml-characters": ("MAML, perceptron", False),
    "prototypes": ("Prototypes", False),
    "prototypes-cosine": ("Prototypes, cosine", True),
    "prototypes-5-way": ("Prototypes, 5-way training", True),
    "matching": ("Matching, temperature 10", False),
    "matching-as-published": ("Matching, as published", False),
    "matching-full-context": ("Matching, full context", False),
}

# Meta-batches of the methods that take several steps in each, so that none takes much longer than MAML: their share.
_SHARES = {"maml-5-steps": 0.4, "reptile": 0.2}


def _rows(names: dict[str, tuple[str, bool]], baseline: str) -> dict[str, Algorithm]:
    return {
        name: Algorithm(label=label, baseline=None if name == baseline else baseline, timed=False, control=control)
        for name, (label, control) in names.items()
    }


def _waves(profile: str, iterations: int, test_tasks: int, seeds: tuple[int, ...]) -> KindStudy:
    def config(algorithm: str, seed: int) -> SinusoidRun:
        share = _SHARES.get(algorithm, 1.0)
        return SinusoidRun(algorithm=algorithm, seed=seed, iterations=round(share * iterations), test_tasks=test_tasks)

    protocol = {"Meta-batches": iterations, "Waves each": TASKS, "Points": SHOTS, "Test tasks": test_tasks}
    return KindStudy(
        name=WAVES_STUDY,
        title="From which weights do a few gradient steps lead far?",
        profile=profile,
        tasks=(KindTask(task=WAVES, reads=(), config=config, protocol=protocol),),
        algorithms=tuple(_WAVES),
        seeds=seeds,
        metrics=("mse_after_1", "mse_after_10", "training_seconds"),
        curves=("mse",),
    )


def _drawings(profile: str, data: str, steps: int, test_episodes: int, seeds: tuple[int, ...]) -> KindStudy:
    def config(algorithm: str, seed: int) -> FewShotRun:
        longer = 3 if algorithm == "maml-characters" else 1
        return FewShotRun(algorithm=algorithm, seed=seed, data=data, steps=longer * steps, test_episodes=test_episodes)

    protocol = {"Training episodes": steps, "Test episodes": test_episodes}
    return KindStudy(
        name=DRAWINGS_STUDY,
        title="What tells apart new characters from one drawing of each?",
        profile=profile,
        tasks=(KindTask(task=f"{data}-few-shot", reads=(data,), config=config, protocol=protocol),),
        algorithms=tuple(_DRAWINGS),
        seeds=seeds,
        metrics=(*(f"accuracy_{ways}_way_{shots}_shot" for ways, shots in SETTINGS), "training_seconds"),
    )


def _accuracy(column: str, words: str) -> Metric:
    return Metric(f"accuracy_{column}", f"accuracy, {words}", True, best=1.0)


def _error(step: int) -> Metric:
    words = f"squared error after {step} step" + ("s" if step > 1 else "")
    return Metric(f"mse_after_{step}", words, False, "", "", 1.0, 3)


_METRICS = (
    *(_error(step) for step in COMPARED),
    Metric("diverged", "share of diverged tasks", False, best=0.0),
    *(_accuracy(f"{ways}_way_{shots}_shot", f"{ways} ways, shots: {shots}") for ways, shots in SETTINGS),
    *(_accuracy(f"5_way_1_shot_after_{step}", f"5 ways, shots: 1, after step {step}") for step in TESTED_STEPS),
    _accuracy("uneven", "5 ways, uneven shots"),
    Metric("training_seconds", "CPU seconds of training", False, "s", "s", 1.0, 1),
)

TOPIC = Topic(
    title="Learning to learn",
    algorithms={**_rows(_WAVES, PRETRAINING), **_rows(_DRAWINGS, PIXELS)},
    studies=(
        _waves("quick", iterations=40, test_tasks=50, seeds=SEEDS[:2]),
        _waves("full", iterations=2000, test_tasks=600, seeds=SEEDS),
        _drawings("quick", "digits", steps=5, test_episodes=10, seeds=SEEDS[:2]),
        _drawings("full", "omniglot", steps=300, test_episodes=300, seeds=SEEDS),
    ),
    claims=CLAIMS,
    metrics=_METRICS,
    curves=(Curve("mse", "error-by-step", "squared error by gradient step", by_base=False, over="gradient step"),),
    margins={
        **{f"mse_after_{step}": {WAVES: ERROR} for step in COMPARED},
        **{f"accuracy_{ways}_way_{shots}_shot": {DRAWINGS: ACCURACY} for ways, shots in SETTINGS},
    },
)
