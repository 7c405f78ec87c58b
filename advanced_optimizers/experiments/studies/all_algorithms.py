"""Every algorithm of the project beside what a user would pick today, under one protocol and against two anchors.

Spaces, budgets, margins and families of comparisons are those of this module, and were written before the first trial.
No rate is tuned by hand. A choice in the outermost stratum of its range is flagged; the range may then be moved by an
octave for that algorithm, the anchors included, with new trials that replace the old ones. The test set is used once,
at the last epoch.

The algorithms are asked about in three groups, each with families of its own: with one family of thirty and four
tunings, Holm's first step would find no difference below six standard errors.

Localized learning is left out on the MLP, where it has no layer to localize and is SGD itself; muTransfer altogether,
since its claim is about networks of several widths (``zero_shot_transfer``). On CIFAR-10 an algorithm takes 54 epochs,
so of the plain ones and of those of today there are fewer: one of each kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from advanced_optimizers.experiments.evidence.contests import ruling_rule
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.studies.baselines import (
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    LEARNING_RATES,
    MNIST,
    WIDER_SPACES,
)
from advanced_optimizers.experiments.studies.contenders import CONTENDERS, OF_TODAY, PLAIN
from advanced_optimizers.experiments.studies.halving import Rung
from advanced_optimizers.experiments.studies.referee import (
    Referee,
    at_defaults,
    in_other_batches,
    on_noisy_labels,
    tunings,
)
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuning import moved
from advanced_optimizers.experiments.studies.tuning_studies import DEFAULTS
from advanced_optimizers.experiments.studies.variants import Variant
from advanced_optimizers.experiments.training.algorithms import Range

# SGD with Nesterov's momentum and weight decay, and AdamW: what anyone would compare with.
ANCHORS = ("sgd", "adamw")

# SGD with momentum and no weight decay is what the convolutional optimizers are compared with in their own studies.
_BARE = "conv-momentum"
_PLAIN = (*ANCHORS, "adam", _BARE, *(name for name in PLAIN if name not in ANCHORS))
_OF_TODAY = tuple(OF_TODAY)
_CONVOLUTIONAL = ("conv-sgd", "conv-local", "conv-v2")
_OWN = ("fer-adam", "flipping-adam", "correction", "sigprop", *_CONVOLUTIONAL)
_LOCALIZED = "localized-static"

GROUPS = {"plain": _PLAIN, "of today": _OF_TODAY, "this project's": (*_OWN, _LOCALIZED)}
_ON_MNIST = (*_PLAIN, *_OF_TODAY, *_OWN)
_ON_CIFAR = (
    *ANCHORS,
    "adam",
    _BARE,
    "muon-adamw",
    "schedule-free-adamw",
    "lion",
    "prodigy",
    *_OWN,
    _LOCALIZED,
)
_QUICK = (*ANCHORS, "sgd-momentum", "muon-adamw")

_DEFAULTS: Mapping[str, Hyperparameters] = {
    **{name: DEFAULTS[name] for name in (*_PLAIN, *_OWN, _LOCALIZED) if name in DEFAULTS},
    **{name: {row.rate: row.default} for name, row in CONTENDERS.items()},
}

# What a wider search tunes besides the rate.
_SPACES: Mapping[str, Mapping[str, Range]] = {
    **WIDER_SPACES,
    **{name: row.full for name, row in CONTENDERS.items()},
}

# ---- tasks and budgets ----------------------------------------------------------------------------------------------

# Half the width: on wide layers the steps of the matrix methods take longer than the passes.
_MNIST = replace(MNIST, width=0.5, epochs=6, tuning_epochs=6)
_CIFAR = replace(CIFAR, epochs=5, tuning_epochs=5, tuning_fraction=1.0)
_DIGITS = replace(DIGITS, width=0.5, epochs=3, tuning_fraction=1.0, data_fraction=1.0)
_DIGITS_CONV = replace(DIGITS_CONV, width=0.5, epochs=2)

# The largest differences that do not matter. On the digits nothing is decided: one test image is 0.28 points.
MARGINS = {"mnist-mlp": 0.002, "cifar10-jpeg-convnet": 0.01}
RULE = ruling_rule("0.2 points on MNIST, 1.0 on cifar10-jpeg")

_TUNINGS, _TRIALS, _RUNS = 4, 8, 3  # eight points of the sequence lie in eight strata; twelve lie in nine of twelve
_RUNGS = (Rung(8, 1), Rung(3, 2), Rung(2, 5))
_CIFAR_RUNS = 5
_NOISES = (0.2, 0.4)
_BATCHES = (32, 512)
# Standard errors of accuracies on 6,000 and 5,000 images that are held out.
_MNIST_TIE, _CIFAR_TIE = 0.0017, 0.006


def _defaults_of(algorithms: tuple[str, ...]) -> dict[str, Hyperparameters]:
    return {name: _DEFAULTS[name] for name in algorithms if name in _DEFAULTS}


# All four tunings of Lion on MNIST chose the lowest stratum of the range that was written first. On the ConvNet the
# moved range was tried first as well, and the highest stratum chosen: there it is the range that was written first.
_MOVED = {(_MNIST.model, "lion"): {"lr": moved(CONTENDERS["lion"].space, -1)}}


def _own_ranges(model: str) -> dict[tuple[str, str], Mapping[str, Range]]:
    """The convolutional optimizers step like SGD with momentum; in their own studies the grids are wider."""
    convolutional = {name: {"lr": LEARNING_RATES["sgd"]} for name in (_BARE, *_CONVOLUTIONAL)}
    return {**{(model, name): ranges for name, ranges in convolutional.items()}, **_MOVED}


def _on_mnist(count: int, runs: int, model: str, algorithms: tuple[str, ...]) -> dict[str, Variant]:
    tuned = tunings(count, runs, ranges=_own_ranges(model))
    return {
        **tuned,
        **at_defaults(tuned, _defaults_of(algorithms)),
        **on_noisy_labels(tuned, _NOISES),
        **in_other_batches(tuned, _BATCHES),
    }


def _wider(count: int, runs: int, model: str, algorithms: tuple[str, ...]) -> dict[str, Variant]:
    return tunings(count, runs, ranges={(model, name): _SPACES[name] for name in algorithms})


def _on_cifar(runs: int, algorithms: tuple[str, ...]) -> dict[str, Variant]:
    """One tuning of all, and a second one of the anchors, for what tuning again changes."""
    ranges = _own_ranges(CIFAR.model)
    first = tunings(1, runs, ranges=ranges)
    (again,) = [variant for name, variant in tunings(2, min(runs, 3), ranges=ranges).items() if name not in first]
    return {
        **first,
        "anchors again": replace(again, algorithms=ANCHORS),
        **at_defaults(first, _defaults_of(algorithms)),
    }


_WIDER = tuple(name for name in (*_PLAIN, *_OF_TODAY) if _SPACES.get(name))
_QUICK_WIDER = tuple(name for name in _QUICK if name in _WIDER)


def _study(profile: str, **own: Any) -> Referee:
    seeds = tuple(dict.fromkeys(seed for variant in own["variants"].values() for seed in variant.seeds))
    return Referee(profile=profile, seeds=seeds, anchors=ANCHORS, groups=GROUPS, rule=RULE, **own)


_FULL_MNIST: dict[str, Any] = {
    "tasks": (_MNIST,),
    "trials": _TRIALS,
    "margins": MARGINS,
    "tie": _MNIST_TIE,
    "test_images": 10_000,
}
_QUICK_DIGITS: dict[str, Any] = {"tasks": (_DIGITS,), "trials": 4, "test_images": 360}
_TITLES = {
    "referee-mnist": "Which training algorithm is better than the anchors on MNIST?",
    "referee-mnist-wider": "Which one is, when more than the rate is tuned?",
    "referee-cifar": "Which training algorithm is better than the anchors on CIFAR-10?",
}

TOPIC = Topic(
    title="All algorithms",
    algorithms={},
    studies=(
        _study(
            "full",
            name="referee-mnist",
            title=_TITLES["referee-mnist"],
            algorithms=_ON_MNIST,
            variants=_on_mnist(_TUNINGS, _RUNS, _MNIST.model, _ON_MNIST),
            **_FULL_MNIST,
        ),
        _study(
            "quick",
            name="referee-mnist",
            title=_TITLES["referee-mnist"],
            algorithms=_QUICK,
            variants=_on_mnist(2, 2, _DIGITS.model, _QUICK),
            **_QUICK_DIGITS,
        ),
        _study(
            "full",
            name="referee-mnist-wider",
            title=_TITLES["referee-mnist-wider"],
            algorithms=_WIDER,
            variants=_wider(_TUNINGS, _RUNS, _MNIST.model, _WIDER),
            **_FULL_MNIST,
        ),
        _study(
            "quick",
            name="referee-mnist-wider",
            title=_TITLES["referee-mnist-wider"],
            algorithms=_QUICK_WIDER,
            variants=_wider(2, 2, _DIGITS.model, _QUICK_WIDER),
            **_QUICK_DIGITS,
        ),
        _study(
            "full",
            name="referee-cifar",
            title=_TITLES["referee-cifar"],
            tasks=(_CIFAR,),
            algorithms=_ON_CIFAR,
            trials=_RUNGS[0].trials,
            rungs=_RUNGS,
            variants=_on_cifar(_CIFAR_RUNS, _ON_CIFAR),
            margins=MARGINS,
            tie=_CIFAR_TIE,
            test_images=10_000,
        ),
        _study(
            "quick",
            name="referee-cifar",
            title=_TITLES["referee-cifar"],
            tasks=(_DIGITS_CONV,),
            algorithms=_QUICK,
            trials=4,
            rungs=(Rung(4, 1), Rung(2, 2)),
            variants=_on_cifar(2, _QUICK),
            test_images=360,
        ),
    ),
)
