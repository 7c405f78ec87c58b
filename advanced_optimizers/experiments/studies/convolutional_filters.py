"""Version 2 on convolutional filters, the only weights of which both axes have neighbors: cifar10-jpeg.

Reduced for the time it takes: five arms, a network of half the width, a fifth of the images, and
short trials on a tenth.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.studies.baselines import CIFAR, DIGITS_CONV
from advanced_optimizers.experiments.studies.convolutional import BASE
from advanced_optimizers.experiments.studies.grid import grid_in_both_profiles, octaves
from advanced_optimizers.experiments.studies.topic import Topic

# Batches of 128 without a remainder: at a constant rate, a last step on a few images decides what the test measures.
_IMAGES, _TRIAL_IMAGES = 78 * 128, 35 * 128
_TASK = replace(
    CIFAR, width=0.5, data_fraction=_IMAGES / 50_000, tuning_fraction=_TRIAL_IMAGES / 45_000, schedule="constant"
)
_QUICK = replace(DIGITS_CONV, epochs=1, tuning_epochs=1, tuning_fraction=0.25, data_fraction=0.25, schedule="constant")
_MARGIN = 0.01  # one run differs from another by about as much
_WHERE = (
    f"10 epochs of a ConvNet of half the width on {_IMAGES:,} images of cifar10-jpeg, cropped and mirrored, each at "
    "the rate that tuning chose"
)


def _claim(key: str, short: str, text: str, words: str, algorithm: str, *others: str) -> Claim:
    return Claim(
        key=key,
        method="Convolutional optimizers, tuned",
        short=short,
        study="convolutional-filters",
        text=text,
        source=COURSEWORK,
        rule=improvement_rule("test accuracy", f"{words}; {_WHERE}", "one point"),
        decide=partial(
            compare_accuracy,
            comparisons=tuple(Comparison(_TASK.name, algorithm, other, margin=_MARGIN) for other in others),
        ),
    )


TOPIC = Topic(
    title="Convolutional optimizers: filters",
    algorithms={},
    studies=grid_in_both_profiles(
        name="convolutional-filters",
        title="Does smoothing convolutional filters along their height and width help?",
        full=(_TASK,),
        quick=(_QUICK,),
        rates=octaves(1.6e-3),
        algorithms=(BASE, "conv-adam", "conv-v2", "conv-gauss", "conv-gauss-permuted"),
        metrics=("test_accuracy", "smoothed_length"),
    ),
    claims=(
        _claim(
            "conv-filters",
            "version 2 helps on filters",
            "Smoothing along the height and width of filters helps.",
            "version 2 as described against SGD and against Adam",
            "conv-v2",
            BASE,
            "conv-adam",
        ),
        _claim(
            "conv-filters-structure",
            "structure matters on filters",
            "The two-dimensional structure of filters matters.",
            "a fixed Gaussian along height and width against the same along axes in a random order",
            "conv-gauss",
            "conv-gauss-permuted",
        ),
    ),
)
