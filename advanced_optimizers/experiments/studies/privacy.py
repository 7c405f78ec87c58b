"""Differential privacy: what it costs in accuracy, which of its parts costs it, and what attacks find without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.records.config import Hyperparameters, KindConfig
from advanced_optimizers.experiments.studies.claims.privacy import CLAIMS, MARGINS
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask, MakeConfig
from advanced_optimizers.experiments.studies.privacy_attacks import GradientInversion, Sensitivity
from advanced_optimizers.experiments.studies.privacy_clients import PrivateFederation
from advanced_optimizers.experiments.studies.privacy_runs import PrivateRun
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuned_kind import TunedKindStudy
from advanced_optimizers.experiments.training.algorithms import Algorithm

# By rate of samples and steps, and by epsilon at a delta of 1e-5: the noise multiplier, by Opacus's RDP accountant.
# They are part of the runs' ids, so they are written down; a test derives them again.
NOISE: dict[tuple[float, int], dict[str, float]] = {
    (0.01, 500): {"0.5": 1.936, "1": 1.259, "3": 0.798, "8": 0.573},
    (0.1, 50): {"0.5": 5.711, "1": 3.185, "3": 1.454, "8": 0.858},
    (0.1, 10): {"3": 1.071},  # of clients, in rounds
}
# What the classical formula asks for at an epsilon of 1.
CLASSICAL = 4.845

# Six trials each, at an epsilon of 3 and without privacy; the others take what these choose.
PRIVATE: tuple[Hyperparameters, ...] = tuple(
    {"lr": lr, "max_norm": norm} for norm, rates in ((1.0, (0.5, 1.0, 2.0)), (0.3, (1.5, 3.0, 6.0))) for lr in rates
)
PLAIN: tuple[Hyperparameters, ...] = tuple({"lr": lr} for lr in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0))
LIKE_PRIVATE = (
    "private-epsilon-0.5",
    "private-epsilon-1",
    "private-epsilon-8",
    "private-clip-only",
    "private-noise-only",
)
LIKE_PLAIN = ("private-fewer-6000", "private-fewer-600")
TUNED_AS = dict.fromkeys(LIKE_PRIVATE, "private-epsilon-3") | dict.fromkeys(LIKE_PLAIN, "private-none")


def _run(algorithm: str, seed: int, dataset: str, model: str, rate: float, steps: int) -> PrivateRun:
    """What an algorithm's run is: its noise, and whether it clips."""
    noise, images = NOISE[rate, steps], 0
    multiplier = noise.get(algorithm.removeprefix("private-epsilon-"), 0.0)
    if algorithm == "private-noise-only":
        multiplier = noise["3"]
    if algorithm in LIKE_PLAIN:  # as many steps, of about as many samples
        fewer = int(algorithm.rpartition("-")[2])
        images, rate = fewer // (1 if dataset == "mnist" else 40), min(0.5, rate * 60_000 / fewer)
    return PrivateRun(
        algorithm=algorithm,
        seed=seed,
        dataset=dataset,
        model=model,
        clipped=algorithm in {"private-epsilon-3", *LIKE_PRIVATE} and algorithm != "private-noise-only",
        noise_multiplier=multiplier,
        sample_rate=rate,
        steps=steps,
        images=images,
    )


def _calls(algorithm: str, seed: int, dataset: str) -> PrivateRun:
    return PrivateRun(
        algorithm=algorithm,
        seed=seed,
        dataset=dataset,
        clipped=True,
        noise_multiplier=CLASSICAL,
        sample_rate=1.0,
        steps=100,
        images=3000 if dataset == "mnist" else 300,
        hyperparameters={"lr": 2.0, "max_norm": 1.0},
    )


def _clients(algorithm: str, seed: int, dataset: str) -> PrivateFederation:
    return PrivateFederation(
        algorithm=algorithm,
        seed=seed,
        dataset=dataset,
        clipped=algorithm != "clients-plain",
        noise_multiplier=NOISE[0.1, 10]["3"] if algorithm == "clients-private" else 0.0,
        hyperparameters={"lr": 0.1, "max_norm": 1.0},
    )


def _task(example: KindConfig, make: MakeConfig, **protocol: str | float) -> KindTask:
    return KindTask(task=example.task, reads=example.datasets, config=make, protocol=protocol)


def _training_task(dataset: str, model: str, rate: float, steps: int) -> KindTask:
    def config(algorithm: str, seed: int) -> PrivateRun:
        return _run(algorithm, seed, dataset, model, rate, steps)

    protocol = {"Rate of samples": rate, "Steps": steps}
    return _task(config("private-none", 0), config, **protocol)


def _in_both(
    name: str, title: str, make: Callable[[str, int, str], KindConfig], algorithms: tuple[str, ...], **fields: Any
) -> tuple[KindStudy, ...]:
    """A study without tuning, in both profiles; ``make(algorithm, seed, dataset)`` returns a run."""
    studies = []
    for profile, dataset, seeds in (("full", "mnist", SEEDS), ("quick", "digits", SEEDS[:2])):

        def config(algorithm: str, seed: int, dataset: str = dataset) -> KindConfig:
            return make(algorithm, seed, dataset)

        example = config(algorithms[0], 0)
        tasks = (_task(example, config, Runs=example.extent),)
        studies.append(
            KindStudy(
                name=name, title=title, profile=profile, tasks=tasks, algorithms=algorithms, seeds=seeds, **fields
            )
        )
    return tuple(studies)


def _row(label: str, baseline: str | None = "private-none", *, control: bool = False) -> Algorithm:
    return Algorithm(label=label, baseline=baseline, timed=False, control=control)


_TRAINING = {
    "private-none": _row("No privacy", None),
    "private-epsilon-8": _row("DP-SGD, epsilon 8"),
    "private-epsilon-3": _row("DP-SGD, epsilon 3"),
    "private-epsilon-1": _row("DP-SGD, epsilon 1"),
    "private-epsilon-0.5": _row("DP-SGD, epsilon 0.5"),
    "private-clip-only": _row("Clipping without noise (control)", control=True),
    "private-noise-only": _row("Noise without clipping (control)", control=True),
    "private-fewer-6000": _row("No privacy, a tenth of the images (control)", control=True),
    "private-fewer-600": _row("No privacy, a hundredth of the images (control)", control=True),
}
_OTHERS = {
    "private-calls": _row("Noise of epsilon 1 in each step", None),
    "clients-plain": _row("FedAvg without privacy", None),
    "clients-clipped": _row("FedAvg, clipped updates (control)", "clients-plain", control=True),
    "clients-private": _row("DP-FedAvg, epsilon 3", "clients-plain"),
    "inversion-one": _row("Gradient of one image", None),
    "inversion-batch": _row("Mean gradient of ten images", "inversion-one"),
    "inversion-clipped": _row("Clipped gradient", "inversion-one"),
    "inversion-noisy": _row("Clipped gradient with noise", "inversion-one"),
    "inversion-mean": _row("The mean image, no gradient (control)", "inversion-one", control=True),
    "clip-batch-tensors": _row("Of the batch, tensor by tensor", None),
    "clip-batch": _row("Of the batch", "clip-batch-tensors"),
    "clip-sample-tensors": _row("Of each sample, tensor by tensor", "clip-batch-tensors"),
    "clip-sample": _row("Of each sample, jointly", "clip-batch-tensors"),
}
_MEASURED = (
    Metric("membership_auc", "area under the curve of membership inference", False, "", "", 1.0, 3),
    Metric("recovered", "images recovered", False),
    Metric("image_error", "error of the recovered image", True, "% of its norm", "points", 100.0, 1),
    Metric("label_found", "labels found", False),
    Metric("sensitivity", "largest change by one sample", False, "of the norm clipped to", "", 1.0, 3),
)
_CONSTANT = (
    Metric("epsilon", "epsilon", False, "", "", 1.0, 2),
    Metric("noise_multiplier", "noise multiplier", False, "", "", 1.0, 3),
    Metric("sample_rate", "rate of samples", False, "", "", 1.0, 2),
    Metric("steps", "steps", False, "", "", 1.0, 0),
    Metric("rounds", "rounds", False, "", "", 1.0, 0),
)

_MLP = _training_task("mnist", "mlp", 0.01, 500)
_DIGITS = _training_task("digits", "mlp", 0.1, 50)


def _training(
    name: str, title: str, tasks: tuple[KindTask, ...], quick: bool, algorithms: tuple[str, ...]
) -> KindStudy:
    return TunedKindStudy(
        name=name,
        title=title,
        profile="quick" if quick else "full",
        tasks=tasks,
        algorithms=algorithms,
        seeds=SEEDS[:2] if quick else SEEDS,
        metrics=("test_accuracy", "membership_auc"),
        constants=("noise_multiplier", "sample_rate", "steps", "epsilon"),
        against="epsilon",
        points={
            "private-epsilon-3": PRIVATE[2:3] if quick else PRIVATE,
            "private-none": PLAIN[3:4] if quick else PLAIN,
        },
        tuned_as=TUNED_AS,
        tuned_on=_DIGITS if quick else _MLP,
    )


_COST = "What does privacy cost, and which part of it?"
_CNN = "What does it cost a convolutional network?"
_BOTH = ("private-none", "private-epsilon-3")
_STUDIES = (
    _training("privacy", _COST, (_MLP,), False, tuple(_TRAINING)),
    _training("privacy", _COST, (_DIGITS,), True, tuple(_TRAINING)),
    # A run takes two CPU minutes.
    _training("privacy-cnn", _CNN, (_training_task("mnist", "cnn", 0.01, 500),), False, _BOTH),
    _training("privacy-cnn", _CNN, (_DIGITS,), True, _BOTH),  # the digits are too small for its layers
    *_in_both(
        "privacy-calls",
        "What do steps cost together, each of which has an epsilon of 1?",
        _calls,
        ("private-calls",),
        metrics=("test_accuracy",),
        constants=("noise_multiplier", "sample_rate", "steps", "epsilon"),
        curves=("epsilon",),
    ),
    *_in_both(
        "privacy-clients",
        "Does privacy of whole clients leave anything to learn?",
        _clients,
        ("clients-plain", "clients-clipped", "clients-private"),
        metrics=("test_accuracy",),
        constants=("noise_multiplier", "sample_rate", "rounds", "epsilon"),
    ),
    *_in_both(
        "privacy-inversion",
        "What does a gradient tell of its image?",
        lambda algorithm, seed, dataset: GradientInversion(
            algorithm=algorithm, seed=seed, dataset=dataset, images=200 if dataset == "mnist" else 40
        ),
        ("inversion-one", "inversion-batch", "inversion-clipped", "inversion-noisy", "inversion-mean"),
        metrics=("recovered", "image_error", "label_found"),
    ),
    *_in_both(
        "privacy-sensitivity",
        "Which way of clipping bounds what one sample changes?",
        lambda algorithm, seed, dataset: Sensitivity(
            algorithm=algorithm, seed=seed, dataset=dataset, images=40 if dataset == "mnist" else 10
        ),
        ("clip-batch-tensors", "clip-batch", "clip-sample-tensors", "clip-sample"),
        metrics=("sensitivity",),
    ),
)

TOPIC = Topic(
    title="Differential privacy",
    tasks={
        "mnist-mlp-private": "MNIST, 64 units",
        "mnist-cnn-private": "MNIST, convolutional",
        "mnist-mlp-full-batch": "MNIST, all samples in each step",
        "mnist-100-clients": "MNIST, 100 clients",
        "mnist-gradients": "MNIST, gradients",
        "mnist-sensitivity": "MNIST, one image left out",
    },
    algorithms={**_TRAINING, **_OTHERS},
    studies=_STUDIES,
    claims=CLAIMS,
    metrics=(*_MEASURED, *_CONSTANT),
    curves=(Curve("epsilon", "epsilon", "epsilon by twenty steps", by_base=False, over="twenty steps"),),
    margins={"test_accuracy": MARGINS},
)
