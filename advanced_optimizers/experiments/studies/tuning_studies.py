"""How much tuning matters: further tunings, full-length trials, no tuning at all, and ranges moved past an edge.

None of these studies has an algorithm of its own. The methods are those of the other topics, in the same ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, each
from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Comparison
from advanced_optimizers.experiments.evidence.tunings import (
    decide_retuning,
    decide_same_outcomes,
    decide_scatter,
    decide_trial_length,
    same_outcomes_rule,
)
from advanced_optimizers.experiments.studies.baselines import (
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    LEARNING_RATES,
    MARGIN_WORDS,
    MARGINS,
    MNIST,
    MNIST2,
)
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuning import moved
from advanced_optimizers.experiments.studies.variants import (
    MovedRanges,
    Retuning,
    TrialLength,
    Untuned,
    Variant,
    variants_in_both_profiles,
)
from advanced_optimizers.experiments.training.algorithms import Range

CONTROL = "our control"

_VGG = replace(CIFAR, model="vgg", epochs=20)
_DIGITS2 = replace(DIGITS, model="mlp2")
_DIGITS_VGG = replace(DIGITS_CONV, model="vgg")

# On which networks each method is studied, as in its own topic.
_ON_MLP = ("fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam", "correction")
_ON_MLP2 = ("localized-static", "localized-frozen", "sigprop", "readout")


def _but(models: Mapping[str, Collection[str]], algorithms: Sequence[str]) -> set[tuple[str, str]]:
    """What is left out if each model trains only its own algorithms."""
    return {(model, name) for model, own in models.items() for name in algorithms if name not in own}


# The tasks in the figure of all verdicts.
_SHORT = {
    "mnist-mlp": "MNIST",
    "mnist-mlp2": "MNIST, 512-256",
    "cifar10-jpeg-convnet": "cifar10-jpeg",
    "cifar10-jpeg-vgg": "cifar10-jpeg, VGG",
}

# ---- further tunings ------------------------------------------------------------------------------------------------

# Seed numbers of the further tunings' trials and runs: 100 times the tuning's number, and up.
_RUNS = 3
_TUNINGS = {
    "tuning 1": Variant(),
    "tuning 2": Variant(block=1, trial_seed=200, seeds=(200, 201, 202)),
    "tuning 3": Variant(block=2, trial_seed=300, seeds=(300, 301, 302)),
}
_TWO_BASES = {
    "fer-sgd": "sgd",
    "fer-adam": "adam",
    "flipping-sgd": "sgd",
    "flipping-adam": "adam",
    "correction": "adam",
}
_TASKS_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "mnist-mlp": tuple(_TWO_BASES.items()),
    "mnist-mlp2": (
        ("localized-static", "sgd"),
        ("localized-static", "localized-frozen"),
        ("sigprop", "adam"),
        ("sigprop", "readout"),
    ),
    "cifar10-jpeg-convnet": (
        *_TWO_BASES.items(),
        ("localized-static", "sgd"),
        ("localized-static", "localized-frozen"),
    ),
}
_RETUNED = ("sgd", "adam", *_ON_MLP, *_ON_MLP2)
_ON_CONVNET = ("sgd", "adam", *_ON_MLP, "localized-static", "localized-frozen")
_RETUNED_ON = {"mlp": ("sgd", "adam", *_ON_MLP), "mlp2": ("sgd", "adam", *_ON_MLP2), "convnet": _ON_CONVNET}


def _pairs(task: str) -> tuple[Comparison, ...]:
    return tuple(Comparison(task, own, base, margin=MARGINS[task]) for own, base in _TASKS_PAIRS[task])


def _retuning_claims(task: str) -> tuple[Claim, ...]:
    compared = _pairs(task)
    algorithms = tuple(dict.fromkeys(name for c in compared for name in (c.baseline, c.algorithm)))
    return (
        Claim(
            key=f"retuning-{task}",
            method="Tuning",
            short=f"outcomes stay, {_SHORT[task]}",
            study="retuning",
            text=f"On {task}, the outcomes of the main comparisons do not hang on one tuning.",
            source=CONTROL,
            rule=(
                "The test accuracy of the last epoch of each method against its baseline or control "
                f"({'; '.join(f'{c.algorithm} against {c.baseline}' for c in compared)}), judged twice, as better, "
                f"worse, equivalent within the margin ({MARGIN_WORDS}) or undecided: by the {MIN_SEEDS} seeds of the "
                f"first tuning, and by {len(_TUNINGS)} tunings, where the mean over the first {_RUNS} seeds of a "
                "tuning is one value and values are paired by tuning. Each judgment is as for the methods' own "
                "claims. Supported: every comparison that the seeds decide has the same outcome by tunings. Not "
                "supported: the tunings decide one of them otherwise. Otherwise, and whenever a run diverged, "
                "inconclusive."
            ),
            decide=partial(decide_retuning, comparisons=compared, variants=tuple(_TUNINGS), runs=_RUNS),
        ),
        Claim(
            key=f"scatter-{task}",
            method="Tuning",
            short=f"scatters as seeds do, {_SHORT[task]}",
            study="retuning",
            text=f"On {task}, tuning scatters at least as much as seeds do.",
            source=CONTROL,
            rule=(
                "The standard deviations of tuning and of seeds in the test accuracy of the last epoch, from a one-way "
                f"random effects model with {len(_TUNINGS)} tunings of {_RUNS} runs, pooled over "
                f"{len(algorithms)} algorithms, and the 95 % interval of their ratio from the F distribution. "
                "Supported: it lies at or above 1. Not supported: it lies below 1. Otherwise inconclusive."
            ),
            decide=partial(decide_scatter, task=task, algorithms=algorithms, variants=tuple(_TUNINGS), runs=_RUNS),
        ),
    )


# ---- full-length trials ---------------------------------------------------------------------------------------------

# Seed 0 is the trials', so that neither choice is tested on the weights that it was chosen with.
_LENGTHS = {"short": Variant(seeds=(1, 2, 3, 4, 5)), "full": Variant(seeds=(1, 2, 3, 4, 5), full_trials=True)}
_BLIND = ("sgd", "adam", "fer-adam", "correction")


def _length_claim(task: str) -> Claim:
    return Claim(
        key=f"trial-length-{task}",
        method="Tuning",
        short=f"short trials suffice, {_SHORT[task]}",
        study="trial-length",
        text=f"On {task}, short trials choose as well as trials of full length.",
        source=CONTROL,
        rule=(
            f"For {', '.join(_BLIND)}: the test accuracy of the last epoch with the best of 12 short trials against "
            "that with the best of 12 trials as long as the runs, at the same points, paired by seed (1 to 5; the "
            f"trials' seed is 0), judged as better, worse, equivalent within the margin ({MARGIN_WORDS}) or undecided, "
            "corrected over these algorithms. Supported: for each algorithm the short trials' choice is equivalent, "
            "better or the same point. Not supported: for one of them it is worse. Otherwise, and whenever a run "
            "diverged, inconclusive."
        ),
        decide=partial(
            decide_trial_length, task=task, algorithms=_BLIND, variants=("short", "full"), margin=MARGINS[task]
        ),
    )


# ---- no tuning ------------------------------------------------------------------------------------------------------

# The values of the constructors, which are the sources'. Where a source states no learning rate it is torch's default.
_TORCH_RATE = 1e-3
_CONSISTENCY = {"lr": _TORCH_RATE, "fer_weight": 0.1, "memory_size": 1000}
DEFAULTS: dict[str, dict[str, float | int | bool | str]] = {
    "sgd": {"lr": _TORCH_RATE},
    "adam": {"lr": _TORCH_RATE},
    "fer-sgd": {**_CONSISTENCY},
    "fer-adam": {**_CONSISTENCY},
    "flipping-sgd": {"lr": 0.05, "gamma": 0.1, "mu": 1.0},  # the authors' rate for ResNets
    "correction": {"lr": _TORCH_RATE, "gcw_strength": 0.1, "gcode_strength": 0.1},
    "localized-static": {"lr": _TORCH_RATE, "hebbian_lr": 0.001},
    "localized-dynamic": {"lr": _TORCH_RATE, "hebbian_lr": 0.001},
    "sigprop": {"lr": _TORCH_RATE, "signal_lr": 0.001},
}
_LOCALIZED = ("localized-static", "localized-dynamic")
_UNTUNED_ON = {
    "mlp": ("sgd", "adam", "fer-sgd", "fer-adam", "flipping-sgd", "correction"),
    "mlp2": ("sgd", "adam", *_LOCALIZED, "sigprop"),
    "convnet": ("sgd", "adam", "fer-sgd", "fer-adam", "flipping-sgd", "correction", *_LOCALIZED),
}

# ---- moved ranges ---------------------------------------------------------------------------------------------------

# By (model, algorithm), what the tuning of the other studies chose at the edge of its range (``tuning.at_the_edge``),
# and Adam on the ConvNet, whose choice is the third highest rate of twelve: no edge by the rule, but asked for.
_STATED_MU = Range(low=0.3, high=1.0)
_HIGHER_RATE = moved(LEARNING_RATES["adam"], 1)
_MOVED = {
    ("mlp2", "readout"): {"lr": _HIGHER_RATE},
    ("mlp", "flipping-adam"): {"mu": moved(_STATED_MU, 1)},
    ("convnet", "flipping-adam"): {"mu": moved(_STATED_MU, 1)},
    ("convnet", "adam"): {"lr": _HIGHER_RATE},
    ("vgg", "sigprop"): {"signal_lr": _HIGHER_RATE},
}
_MOVING = ("adam", "fer-adam", "flipping-adam", "correction", "sigprop", "readout")
_MOVING_ON = {
    "mlp": ("adam", "flipping-adam"),
    "mlp2": ("adam", "sigprop", "readout"),
    "convnet": ("adam", "fer-adam", "flipping-adam", "correction"),
    "vgg": ("adam", "sigprop", "readout"),
}
_AFTER_MOVING: Mapping[str, Mapping[str, str]] = {
    "mnist-mlp": {"flipping-adam": "adam"},
    "mnist-mlp2": {"sigprop": "readout"},
    "cifar10-jpeg-convnet": dict.fromkeys(("fer-adam", "flipping-adam", "correction"), "adam"),
    "cifar10-jpeg-vgg": {"sigprop": "adam"},
}


def _moving_claim(task: str) -> Claim:
    compared = each(_AFTER_MOVING[task], (task,), margins=MARGINS)
    return Claim(
        key=f"moved-ranges-{task}",
        method="Tuning",
        short=f"edges do not matter, {_SHORT[task]}",
        study="moved-ranges",
        text=f"On {task}, a choice at the edge of its range does not change an outcome.",
        source=CONTROL,
        rule=same_outcomes_rule(compared, MARGIN_WORDS),
        decide=partial(decide_same_outcomes, comparisons=compared, variants=("stated", "moved")),
    )


# ---- the topic ------------------------------------------------------------------------------------------------------

TOPIC = Topic(
    title="Tuning",
    algorithms={},
    studies=(
        *variants_in_both_profiles(
            Retuning,
            name="retuning",
            title="Do the outcomes hang on one tuning?",
            full=(MNIST, MNIST2, CIFAR),
            quick=(DIGITS, _DIGITS2, DIGITS_CONV),
            algorithms=_RETUNED,
            variants=_TUNINGS,
            left_out=_but(_RETUNED_ON, _RETUNED),
        ),
        *variants_in_both_profiles(
            TrialLength,
            name="trial-length",
            title="Do short trials choose as well as trials of full length?",
            full=(MNIST, CIFAR),
            quick=(DIGITS, DIGITS_CONV),
            algorithms=_BLIND,
            variants=_LENGTHS,
        ),
        *variants_in_both_profiles(
            Untuned,
            name="untuned",
            title="What do the methods do at their authors' values?",
            full=(MNIST, MNIST2, CIFAR),
            quick=(DIGITS, _DIGITS2, DIGITS_CONV),
            algorithms=tuple(DEFAULTS),
            variants={"tuned": Variant(seeds=SEEDS), "untuned": Variant(seeds=SEEDS, untuned=DEFAULTS)},
            left_out=_but(_UNTUNED_ON, tuple(DEFAULTS)),
        ),
        *variants_in_both_profiles(
            MovedRanges,
            name="moved-ranges",
            title="Does a choice at the edge of its range change an outcome?",
            full=(MNIST, MNIST2, CIFAR, _VGG),
            quick=(DIGITS, _DIGITS2, DIGITS_CONV, _DIGITS_VGG),
            algorithms=_MOVING,
            variants={"stated": Variant(), "moved": Variant(ranges=_MOVED)},
            left_out=_but(_MOVING_ON, _MOVING),
        ),
    ),
    claims=(
        *(claim for task in _TASKS_PAIRS for claim in _retuning_claims(task)),
        *(_length_claim(task) for task in ("mnist-mlp", "cifar10-jpeg-convnet")),
        *(_moving_claim(task) for task in _AFTER_MOVING),
    ),
)
