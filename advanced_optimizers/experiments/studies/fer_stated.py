"""FER at the values that its sources state: rows and studies beside the tuned ones of ``fer``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim, FormerRule, each, improvement_rule
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_metric
from advanced_optimizers.experiments.studies.baselines import (
    BASE_LABELS,
    BASES,
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    FLIPPING_MARGIN_WORDS,
    FLIPPING_MARGINS,
    LEARNING_RATES,
    MARGIN_WORDS,
    MARGINS,
    MNIST,
    base_and_own,
)
from advanced_optimizers.experiments.studies.fer import EACH_NOISE, PAPER, FERLearner, flipping
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm
from advanced_optimizers.experiments.training.learners import Learner, Setting, StepResult, known_mean
from advanced_optimizers.fer_optimizer import FEROptimizer
from advanced_optimizers.fer_optimizer.formula import consistency_correction

# ---- how they train ----------------------------------------------------------------------------------------------


class CorrectionLearner(FERLearner):
    """FER training that also reports how much the gradients were changed, averaged over tensors and steps."""

    def __init__(self, setting: Setting, optimizer: FEROptimizer) -> None:
        super().__init__(setting, optimizer)
        self.changes: list[Change] = []  # of the epoch so far

    def step(self, batch: Batch) -> StepResult:
        """Takes one step of the optimizer and of its schedule."""
        result = super().step(batch)
        (group,) = self.optimizer.param_groups
        known = [c for c in self.optimizer.tensor_cosines if not math.isnan(c)]
        self.changes += [change(c, group["fer_weight"], group["consistency_threshold"]) for c in known]
        return result

    def end_epoch(self) -> dict[str, float]:
        """Adds the cosine of g and g', the ratio of their lengths, and the share of tensors that were corrected."""
        curves = {**super().end_epoch(), **mean_change(self.changes)}
        self.changes = []
        return curves

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of model, optimizer and schedule, and the changes of the epoch so far."""
        return {**super().state_dict(), "changes": [tuple(c) for c in self.changes]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule and changes."""
        super().load_state_dict(state_dict)
        self.changes = [Change(*c) for c in state_dict["changes"]]


class Change(NamedTuple):
    """What FER did to the gradient of one tensor: cos(g, g'), |g'| / |g|, and whether it changed it at all."""

    kept_cosine: float
    length_ratio: float
    corrected: float


def change(cosine: float, weight: float, threshold: float) -> Change:
    """The change that follows from the cosine between gradient and memory; their lengths drop out."""
    correction = consistency_correction(cosine, 1.0, 1.0, weight, threshold, torch.finfo(torch.float32).eps)
    a, b = correction.gradient, correction.memory
    length = math.sqrt(a * a + 2.0 * a * b * cosine + b * b)
    kept = (a + b * cosine) / length if length > 0.0 else math.nan
    return Change(kept, length, float((a, b) != (1.0, 0.0)))


def mean_change(changes: Sequence[Change]) -> dict[str, float]:
    """The mean of each field, NaN without changes; a gradient that became zero has no cosine."""
    return {name: known_mean([getattr(c, name) for c in changes]) for name in Change._fields}


def _fixed_consistency(base: str, fer_weight: float) -> Callable[[Setting], Learner]:
    """FER at the coursework's threshold and horizon, with the learning rate alone to be chosen."""

    def build(setting: Setting) -> Learner:
        optimizer, kwargs, _ = base_and_own(setting, base)
        corrected = FEROptimizer(setting.model.parameters(), optimizer, kwargs, fer_weight=fer_weight)
        return CorrectionLearner(setting, corrected)

    return build


# ---- the algorithms ----------------------------------------------------------------------------------------------

# At the values that their sources state. Only the learning rate is tuned, or it is Adam's.
_COURSEWORK_WEIGHT = 0.1
_AUTHORS = {"gamma": 0.1, "mu": 1.0}
_ACTING = {
    "fer-adam-stated": ("Gradient consistency as stated, Adam", _COURSEWORK_WEIGHT),
    "fer-adam-same-rate": ("Gradient consistency as stated, at Adam's rate", _COURSEWORK_WEIGHT),
    "fer-adam-full": ("Gradient consistency, w = 1, Adam", 1.0),
}
_ALGORITHMS = {
    name: Algorithm(
        label=label,
        baseline="adam",
        search_space={"lr": LEARNING_RATES["adam"]},
        build=_fixed_consistency("adam", weight),
        timed=False,  # its steps are those of fer-adam
    )
    for name, (label, weight) in _ACTING.items()
}
_ALGORITHMS |= {
    f"flipping-{base}-stated": Algorithm(
        label=f"Flipping error reduction as published, {BASE_LABELS[base]}",
        baseline=base,
        search_space={"lr": LEARNING_RATES[base]},
        build=flipping(base, **_AUTHORS),
        timed=False,
    )
    for base in BASES
}

# ---- the claims --------------------------------------------------------------------------------------------------

_STATED = {f"flipping-{base}-stated": base for base in BASES}
_SPLIT = (
    "It joined both tasks, so that what had been found on MNIST stayed unsaid until the runs on cifar10-jpeg exist."
)
_WORDS_ON = {MNIST.name: "on MNIST", CIFAR.name: "on cifar10-jpeg"}


def _former(words: str) -> FormerRule:
    return FormerRule(rule=words, verdict="pending", result="Waiting for runs on cifar10-jpeg.", why=_SPLIT)


def _acting_words(where: str) -> str:
    return (
        f"clean labels, {where}: gradient consistency over Adam with w = 0.1, tau = 0.9 and H = 1000 at a tuned rate "
        "and at Adam's, and with w = 1, against Adam"
    )


def _published_words(where: str) -> str:
    return (
        "the paper's loss at its authors' values (gamma 0.1, mu 1) over SGD against SGD and over Adam against Adam, "
        f"{where}, with clean and 20 % wrong labels"
    )


def _claims_on(task: str) -> tuple[Claim, ...]:
    where, name = _WORDS_ON[task], task.split("-")[0]
    short = where.removeprefix("on ")
    acting, published = _acting_words(where), _published_words(where)
    return (
        Claim(
            key=f"fer-stated-beats-adam-{name}",
            method="Gradient consistency",
            short=f"as stated: beats Adam, {short}",
            study="fer-stated",
            text="Where it acts, gradient consistency beats Adam: at the coursework's own values, at these and Adam's "
            f"learning rate, and at full weight ({where}).",
            source=COURSEWORK,
            rule=improvement_rule("test accuracy", acting, MARGIN_WORDS),
            decide=partial(
                compare_accuracy, comparisons=each(dict.fromkeys(_ACTING, "adam"), (task,), margins=MARGINS)
            ),
            former=_former(improvement_rule("test accuracy", _acting_words("on both tasks"), MARGIN_WORDS)),
        ),
        Claim(
            key=f"flipping-stated-reduces-rfe-{name}",
            method="Flipping error reduction",
            short=f"as published: fewer flips, {short}",
            study="flipping-stated",
            text=f"At its authors' values, FER reduces flipping errors (RFE) {where}.",
            source=PAPER,
            rule=improvement_rule("relative flipping error", f"{published}; lower is better", FLIPPING_MARGIN_WORDS),
            decide=partial(
                compare_metric,
                metric="relative_flipping_error",
                comparisons=each(_STATED, (task,), EACH_NOISE, FLIPPING_MARGINS),
            ),
            former=_former(
                improvement_rule(
                    "relative flipping error",
                    f"{_published_words('on both tasks')}; lower is better",
                    FLIPPING_MARGIN_WORDS,
                )
            ),
        ),
        Claim(
            key=f"flipping-stated-accuracy-{name}",
            method="Flipping error reduction",
            short=f"as published: better, {short}",
            study="flipping-stated",
            text=f"At its authors' values, FER generalizes better {where}.",
            source=PAPER,
            rule=improvement_rule("test accuracy", published, MARGIN_WORDS),
            decide=partial(compare_accuracy, comparisons=each(_STATED, (task,), EACH_NOISE, MARGINS)),
            former=_former(improvement_rule("test accuracy", _published_words("on both tasks"), MARGIN_WORDS)),
        ),
    )


TOPIC = Topic(
    title="FER as stated",
    algorithms=_ALGORITHMS,
    studies=(
        *in_both_profiles(
            name="fer-stated",
            title="Does gradient consistency beat Adam where it acts?",
            full=(MNIST, CIFAR),
            quick=(DIGITS, DIGITS_CONV),
            algorithms=("adam", *_ACTING),
            tuned_as={"fer-adam-same-rate": "adam"},
            curves=("test_accuracy", "kept_cosine"),
        ),
        *in_both_profiles(
            name="flipping-stated",
            title="Does the published FER reduce flipping errors at its authors' values?",
            full=(MNIST, CIFAR),
            quick=(DIGITS, DIGITS_CONV),
            algorithms=("sgd", "adam", *_STATED),
            label_noises=EACH_NOISE,
            metrics=("test_accuracy", "relative_flipping_error"),
            curves=("test_accuracy", "relative_flipping_error"),
        ),
    ),
    claims=(*_claims_on(MNIST.name), *_claims_on(CIFAR.name)),
    metrics=(
        Metric("kept_cosine", "cosine of the gradient before and after", True, "", "", 1.0, 3),
        Metric("length_ratio", "length of the gradient after over before", True, "", "", 1.0, 3),
        Metric("corrected", "share of the gradients that are corrected", True, "", "", 1.0, 3),
    ),
    curves=(
        Curve(
            "kept_cosine",
            "kept-cosine",
            "cosine between a gradient and what becomes of it, by epoch",
            by_base=False,
        ),
    ),
)
