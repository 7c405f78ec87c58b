"""The studies: which runs answer which question."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from advanced_optimizers._checks import unknown_name
from advanced_optimizers.experiments.records.paths import check_profile
from advanced_optimizers.experiments.studies.gradient_correction import TARGETS
from advanced_optimizers.experiments.studies.study import BaseStudy, Study, Task

_SEEDS = (0, 1, 2, 3, 4)
_TRIALS = 12

_MNIST = Task(dataset="mnist", model="mlp", epochs=10, tuning_epochs=3)
_MNIST2 = replace(_MNIST, model="mlp2")
_CIFAR = Task(
    dataset="cifar10-jpeg",
    model="convnet",
    epochs=10,
    tuning_epochs=3,
    tuning_fraction=0.3,
    precision="bfloat16",
    augment=True,
)
_DIGITS = Task(dataset="digits", model="mlp", epochs=6, tuning_epochs=3, batch_size=64)
_DIGITS_CONV = Task(dataset="digits", model="convnet", epochs=4, tuning_epochs=2, batch_size=64)


def _profiles(
    *,
    full: tuple[Task, ...],
    quick: tuple[Task, ...],
    label_noises: tuple[float, ...] = (0.0,),
    left_out: Collection[tuple[str, str]] = (),
    longer: Mapping[tuple[str, str], float] | None = None,
    wider: Mapping[tuple[str, str], float] | None = None,
    **fields: Any,
) -> Iterator[Study]:
    """A study in both profiles; the quick one has other tasks, two seeds and two trials.

    Pairs are of (model, algorithm) here: those left out, those that train longer by a factor, and those of another
    width.
    """
    for profile, tasks, seeds, trials in (("full", full, _SEEDS, _TRIALS), ("quick", quick, _SEEDS[:2], 2)):
        yield Study(
            profile=profile,
            tasks=tasks,
            seeds=seeds,
            trials=trials,
            label_noises=label_noises,
            left_out=frozenset((task.name, name) for task in tasks for model, name in left_out if task.model == model),
            protocols={
                (task.name, name): changed
                for task in tasks
                for model, name, changed in (
                    *((model, name, task.longer(factor)) for (model, name), factor in (longer or {}).items()),
                    *((model, name, replace(task, width=width)) for (model, name), width in (wider or {}).items()),
                )
                if task.model == model
            },
            **fields,
        )


STUDIES: dict[tuple[str, str], Study] = {
    (study.name, study.profile): study
    for study in (
        *_profiles(
            name="fer",
            title="Does FER beat SGD and Adam, and does it reduce flipping errors?",
            full=(_MNIST, _CIFAR),
            quick=(_DIGITS, _DIGITS_CONV),
            algorithms=("sgd", "adam", "fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam"),
            label_noises=(0.0, 0.2),
            metrics=("test_accuracy", "relative_flipping_error"),
            curves=("test_accuracy", "relative_flipping_error", "consistency"),
        ),
        *_profiles(
            name="gradient-correction",
            title="Does gradient correction train in fewer epochs, and is it worth its cost?",
            full=(_MNIST, _CIFAR),
            quick=(_DIGITS, _DIGITS_CONV),
            algorithms=("adam", "correction", "correction-hidden", "adam-longer", "adam-longest", "adam-wider"),
            curves=("test_accuracy", "cpu_seconds", "prediction_gain"),
            # The MLP has no down-sampling layer, before which hidden states would be corrected.
            left_out=(("mlp", "correction-hidden"), ("mlp", "adam-longest")),
            # What an epoch with the correction takes, measured beside Adam's, and then rounded up to whole epochs.
            longer={
                ("mlp", "adam-longer"): 2.65,
                ("convnet", "adam-longer"): 1.14,
                ("convnet", "adam-longest"): 1.85,
            },
            # The narrowest networks with as many more parameters as the correction has: 240, and 6600 on hidden states.
            wider={("mlp", "adam-wider"): 513 / 512, ("convnet", "adam-wider"): 1.05},
            targets={**TARGETS, "digits-mlp": 0.9, "digits-convnet": 0.9},
        ),
        *_profiles(
            name="sigprop",
            title="Does forward signal propagation learn as well as backpropagation, in less time and memory?",
            full=(_MNIST2, replace(_CIFAR, model="vgg", epochs=20)),
            quick=(replace(_DIGITS, model="mlp2"), replace(_DIGITS_CONV, model="vgg")),
            algorithms=("adam", "sigprop", "readout"),
            curves=("test_accuracy", "cpu_seconds"),
        ),
        *_profiles(
            name="localized",
            title="Does localized learning train faster than SGD, and is it more than freezing?",
            full=(_MNIST2, _CIFAR),
            quick=(replace(_DIGITS, model="mlp2"), _DIGITS_CONV),
            algorithms=(
                "sgd",
                "localized-static",
                "localized-static-half",
                "localized-static-two",
                "localized-dynamic",
                "localized-frozen",
                "localized-frozen-half",
                "localized-frozen-two",
                "localized-random",
            ),
            curves=("test_accuracy", "cpu_seconds", "transition"),
            # Of three blocks no schedule localizes more than one.
            left_out=(("mlp2", "localized-static-half"), ("mlp2", "localized-frozen-half")),
        ),
    )
}


def study_names() -> list[str]:
    """The studies' names."""
    return sorted({name for name, _ in STUDIES})


def get_study(name: str, profile: str) -> Study:
    """The study of that name in a profile.

    Raises:
        ValueError: There is none; the nearest names are given.
    """
    return find_study(STUDIES, name, profile)


_AnyStudy = TypeVar("_AnyStudy", bound=BaseStudy)


def find_study(registry: Mapping[tuple[str, str], _AnyStudy], name: str, profile: str) -> _AnyStudy:
    """As :func:`get_study`, in a registry of studies of any kind."""
    check_profile(profile)
    if (name, profile) not in registry:
        raise unknown_name("study", name, sorted({known for known, _ in registry}), cutoff=0.3)
    return registry[name, profile]
