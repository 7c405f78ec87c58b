"""Version 2 by batch size: the source's ablation at its own rate, and small batches with tuned rates.

The source trains a smaller SimpleNet (64 hidden units) for 15 epochs on 3,000 images of MNIST with 10 % wrong labels,
with one seed, and states the best epoch on 500 test images. Here five seeds are tested on all 10,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.evidence.stated import compare_stated, stated_rule
from advanced_optimizers.experiments.studies.convolutional import BASE
from advanced_optimizers.experiments.studies.convolutional_stress import (
    AS_CLAIMED,
    MARGIN,
    MARGIN_WORDS,
    QUICK,
    RATE,
    TASK,
)
from advanced_optimizers.experiments.studies.grid import grid_in_both_profiles, octaves
from advanced_optimizers.experiments.studies.study import BaseStudy, in_both_profiles
from advanced_optimizers.experiments.studies.task import Task
from advanced_optimizers.experiments.studies.topic import Topic

NOISE = 0.1
# The stated accuracies of SGD and version 2, by batch size.
STATED: Mapping[int, tuple[float, float]] = {
    8: (0.884, 0.898),
    16: (0.892, 0.884),
    32: (0.908, 0.85),
    64: (0.906, 0.62),
}
# The standard error of a difference between two accuracies near 90 % on 500 images.
_TOLERANCE, _TOLERANCE_WORDS = 0.02, "two points"
_PUBLISHED = "conv-v2-published"
_AS_STATED = (BASE, _PUBLISHED)
_SMALL = (8, 16)  # what the source calls small


def task(batch_size: int) -> Task:
    """The source's ablation at a batch size."""
    return replace(
        AS_CLAIMED,
        epochs=15,
        tuning_epochs=15,
        batch_size=batch_size,
        width=0.5,
        data_fraction=3000 / 60_000,
        tuning_fraction=3000 / 54_000,
    )


def _claim(batch_size: int, stated: float) -> Claim:
    return Claim(
        key=f"conv-batch-{batch_size}",
        method="Convolutional SGD, version 2",
        short=f"as stated in batches of {batch_size}",
        study=f"convolutional-batch-{batch_size}",
        text=f"In batches of {batch_size}, version 2 is {100 * stated:+.1f} points from SGD.",
        source=COURSEWORK,
        rule=stated_rule(
            "the test accuracy of the best epoch (chosen on the test set, as the source does)",
            "version 2 as its published code has it, kernel learning included, against SGD, both at the source's rate "
            f"of 0.01; 3,000 images, 10 % wrong labels, batches of {batch_size}, 15 epochs",
            f"{100 * stated:+.1f} points",
            _TOLERANCE_WORDS,
            "the standard error of such a difference on the source's 500 test images",
        ),
        decide=partial(
            compare_stated,
            metric="best_test_accuracy",
            comparison=Comparison(TASK, _PUBLISHED, BASE, NOISE),
            stated=stated,
            margin=_TOLERANCE,
        ),
    )


def _small_claim(batch_size: int) -> Claim:
    return Claim(
        key=f"conv-small-batch-{batch_size}",
        method="Convolutional optimizers, tuned",
        short=f"version 2 helps in batches of {batch_size}",
        study=f"convolutional-small-{batch_size}",
        text=f"Smoothing helps in batches of at most 16 (here: {batch_size}).",
        source=COURSEWORK,
        rule=improvement_rule(
            "test accuracy",
            f"version 2 as described against SGD; 3,000 images, 10 % wrong labels, batches of {batch_size}, 15 epochs, "
            "each at the rate that tuning chose on noisy labels",
            MARGIN_WORDS,
        ),
        decide=partial(compare_accuracy, comparisons=(Comparison(TASK, "conv-v2", BASE, NOISE, margin=MARGIN),)),
    )


def _studies() -> tuple[BaseStudy, ...]:
    studies: list[BaseStudy] = []
    for size in STATED:
        studies += in_both_profiles(
            name=f"convolutional-batch-{size}",
            title=f"Is version 2 as far from SGD as stated in batches of {size}?",
            full=(task(size),),
            quick=(replace(QUICK, batch_size=size),),
            algorithms=_AS_STATED,
            label_noises=(NOISE,),
            untuned={name: {"lr": RATE} for name in _AS_STATED},
            stated={"best_test_accuracy": dict(zip(_AS_STATED, STATED[size], strict=True))},
            metrics=("best_test_accuracy", "test_accuracy", "smoothed_length"),
        )
    for size in _SMALL:
        studies += grid_in_both_profiles(
            name=f"convolutional-small-{size}",
            title=f"Does version 2 help in batches of {size} at tuned rates?",
            full=(task(size),),
            quick=(replace(QUICK, batch_size=size),),
            rates=octaves(1e-4),
            label_noise=NOISE,
            algorithms=(BASE, "conv-v2"),
        )
    return tuple(studies)


TOPIC = Topic(
    title="Convolutional optimizers: batches",
    algorithms={},
    studies=_studies(),
    claims=(*(_claim(size, round(own - sgd, 3)) for size, (sgd, own) in STATED.items()), *map(_small_claim, _SMALL)),
)
