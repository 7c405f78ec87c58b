"""Weak supervision of localized learning where it acts: a fixed transition, and losses that rise.

In the runs of ``localized`` the training loss never rose, so the localized updates were never turned around. Here the
first two blocks are localized from the second epoch on, at the coursework's Hebbian rate and at ten times that: on the
digits, where the setting was chosen, the loss then rises. The learning rate is that of SGD, and the rows differ in the
supervision alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim, each, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData, Verdict, select_pair
from advanced_optimizers.experiments.evidence.metrics import Metric
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.studies.baselines import (
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    LEARNING_RATES,
    MARGIN_WORDS,
    MARGINS,
    MNIST2,
)
from advanced_optimizers.experiments.studies.claims.localized_learning import CONTROL
from advanced_optimizers.experiments.studies.localized_learning import LocalizedLearner, first_two, localized
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm
from advanced_optimizers.experiments.training.learners import Setting
from advanced_optimizers.localized_learning import LocalizedOptimizer

# ---- how they train -------------------------------------------------------------------------------------------------


class SupervisedLearner(LocalizedLearner):
    """Localized learning that counts the epochs in which localized updates were turned around."""

    def __init__(self, setting: Setting, optimizer: LocalizedOptimizer) -> None:
        super().__init__(setting, optimizer)
        self.turned = 0

    def end_epoch(self) -> dict[str, float]:
        """Adds in how many epochs so far blocks were localized and their updates turned around."""
        self.turned += self.optimizer.transition > 0 and self.optimizer.localized_direction < 0.0
        return {**super().end_epoch(), "turned": float(self.turned)}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of model, optimizer and schedule, the losses of the epoch, and the count."""
        return {**super().state_dict(), "turned": self.turned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule, losses and count."""
        super().load_state_dict(state_dict)
        self.turned = state_dict["turned"]


class UnsupervisedLearner(SupervisedLearner):
    """The same without supervision: the optimizer hears of a loss that never rises."""

    def reported_loss(self) -> float:
        """Returns the same loss for every epoch."""
        return 0.0


# ---- the algorithms -------------------------------------------------------------------------------------------------

# The coursework's default, and the largest rate that the study of the schedules searches.
_RATES = {"default": 1e-3, "tenfold": 1e-2}
# The coursework's default weight, and full reversal.
_WEIGHTS = {"supervised": 0.1, "reversed": 1.0}
_TURNED = {"supervised": "turned by a tenth", "reversed": "turned in full"}


def _row(label: str, hebbian_lr: float, weight: float | None) -> Algorithm:
    """A row with these fixed values; a weight of None is no supervision."""
    return Algorithm(
        label=label,
        baseline="sgd",
        search_space={"lr": LEARNING_RATES["sgd"]},
        build=localized(
            "static",
            "hebbian",
            first_two,
            UnsupervisedLearner if weight is None else SupervisedLearner,
            total_epochs=None,  # the transition is fixed from the second epoch on
            hebbian_lr=hebbian_lr,
            **({} if weight is None else {"weak_supervision_weight": weight}),
        ),
        timed=False,
        control=weight is None,
    )


def _rows(name: str, rate: float) -> dict[str, Algorithm]:
    words = f"Localized, rate {rate:g}"
    return {f"localized-unsupervised-{name}": _row(f"{words}, never turned (control)", rate, None)} | {
        f"localized-{kind}-{name}": _row(f"{words}, {_TURNED[kind]}", rate, weight) for kind, weight in _WEIGHTS.items()
    }


_ALGORITHMS = {key: row for name, rate in _RATES.items() for key, row in _rows(name, rate).items()}

# ---- the claims -----------------------------------------------------------------------------------------------------

_ACTS = (
    "First, the localized updates must have been turned around in at least one epoch of every supervised run; if not, "
    "the claim is untested, and inconclusive. Then: "
)


def compare_where_turned(data: RunData, *, comparisons: Sequence[Comparison]) -> Verdict:
    """Applies ``compare_accuracy`` if weak supervision acted in every run of the comparisons' algorithms.

    Supported and not supported: as there. Inconclusive: also if a run had no epoch in which it turned the updates.

    Args:
        data: The runs of one study; the column ``turned`` counts those epochs.
        comparisons: All comparisons that the claim needs.
    """
    verdict = compare_accuracy(data, comparisons=comparisons)
    if not verdict.evidence:  # runs are missing, or diverged
        return verdict
    supervised = pd.concat([select_pair(data.frame, c)[0] for c in comparisons])
    idle = int((~(supervised["turned"] > 0)).sum())
    if idle:
        reason = f"Untested: in {idle} of {len(supervised)} supervised runs the updates were never turned around."
        return Verdict("inconclusive", reason)
    return verdict


def _claim(task: str, name: str, key: str, where: str) -> Claim:
    rate = f"{_RATES[name]:g}"
    supervised = dict.fromkeys((f"localized-{kind}-{name}" for kind in _WEIGHTS), f"localized-unsupervised-{name}")
    compared = (
        f"on {where}: the first two blocks localized from the second epoch on at a Hebbian rate of {rate}, with "
        "updates that are turned around by a tenth (w = 0.1) and in full (w = 1) after an epoch in which the training "
        "loss rose, against updates that are never turned around"
    )
    return Claim(
        key=key,
        method="Localized learning",
        short=f"supervised at {rate}, {where}",
        study="localized-supervision",
        text=f"Weak supervision helps localized learning where the loss rises: at a Hebbian rate of {rate}, {where}.",
        source=CONTROL,
        rule=_ACTS + improvement_rule("test accuracy", compared, MARGIN_WORDS),
        decide=partial(compare_where_turned, comparisons=each(supervised, (task,), margins=MARGINS)),
    )


_CLAIMS = tuple(
    _claim(task, name, f"localized-supervision-{name}{suffix}", where)
    for task, suffix, where in (("mnist-mlp2", "-mnist", "MNIST"), ("cifar10-jpeg-convnet", "", "cifar10-jpeg"))
    for name in _RATES
)

TOPIC = Topic(
    title="Weak supervision",
    algorithms=_ALGORITHMS,
    studies=in_both_profiles(
        name="localized-supervision",
        title="Does weak supervision help localized learning where it acts?",
        full=(MNIST2, CIFAR),
        quick=(replace(DIGITS, model="mlp2"), DIGITS_CONV),
        algorithms=("sgd", *_ALGORITHMS),
        tuned_as=dict.fromkeys(_ALGORITHMS, "sgd"),
        curves=("test_accuracy", "localized_direction"),
    ),
    claims=_CLAIMS,
    metrics=(Metric("turned", "epochs with localized updates turned around", True, "", "", 1.0, 0),),
)
