"""Selective localized learning (LoCal+SGD): its schedules, and controls with frozen layers or random updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.studies.baselines import (
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    LEARNING_RATES,
    MNIST2,
    base_and_own,
)
from advanced_optimizers.experiments.studies.claims.localized_learning import CLAIMED, CLAIMS, PAPER_RATIO
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting, StepResult
from advanced_optimizers.localized_learning import LocalizedOptimizer, create_localized_optimizer
from advanced_optimizers.localized_learning.blocks import find_units, make_blocks

# ---- how they train -------------------------------------------------------------------------------------------------


class LocalizedLearner(BackpropLearner):
    """Ordinary training with LocalizedOptimizer, which needs the training loss of every epoch."""

    optimizer: LocalizedOptimizer

    def __init__(self, setting: Setting, optimizer: LocalizedOptimizer) -> None:
        super().__init__(setting, optimizer)
        self.losses: list[Tensor] = []  # of the epoch so far

    def step(self, batch: Batch) -> StepResult:
        """Takes one step of the optimizer and of its schedule."""
        result = super().step(batch)
        self.losses.append(result.loss)
        return result

    def end_epoch(self) -> dict[str, float]:
        """Adds how many blocks were localized and the direction of their updates; both may then change."""
        curves = {
            **super().end_epoch(),
            "transition": float(self.optimizer.transition),
            "localized_direction": self.optimizer.localized_direction,
        }
        self.optimizer.end_epoch(self.reported_loss())
        self.losses = []
        return curves

    def reported_loss(self) -> float:
        """Returns the loss that the optimizer hears of: the mean of the epoch so far."""
        return float(torch.stack(self.losses).mean())

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of model, optimizer and schedule, and the losses of the epoch so far."""
        return {**super().state_dict(), "losses": [float(loss) for loss in self.losses]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule and losses."""
        super().load_state_dict(state_dict)
        self.losses = [torch.tensor(loss) for loss in state_dict["losses"]]


def localized(
    mode: str,
    rule: str,
    highest: Callable[[int], int] | None = None,
    learner: Callable[[Setting, LocalizedOptimizer], Learner] = LocalizedLearner,
    **options: Any,
) -> Callable[[Setting], Learner]:
    """Localized learning over SGD.

    Args:
        mode: How the transition moves, see ``create_localized_optimizer``.
        rule: By which rule localized layers learn, see there.
        highest: Maps the number of blocks to the highest transition; None keeps the default.
        learner: Builds the learner from the setting and the optimizer.
        **options: Further arguments of ``create_localized_optimizer`` that are not hyperparameters of the run.
    """

    def build(setting: Setting) -> Learner:
        optimizer, kwargs, own = base_and_own(setting, "sgd")
        own = {"total_epochs": setting.config.epochs, **options, **own}
        if highest is not None:
            own.setdefault("max_transition", highest(len(make_blocks(find_units(setting.model)))))
        return learner(
            setting,
            create_localized_optimizer(
                setting.model,
                kwargs.pop("lr"),
                selection_mode=mode,
                rule=rule,
                base_optimizer=optimizer,
                base_optimizer_kwargs=kwargs,
                **own,
            ),
        )

    return build


# ---- the algorithms -------------------------------------------------------------------------------------------------


def first_two(blocks: int) -> int:
    """The highest transition of a schedule that localizes the first two blocks of so many."""
    return min(2, blocks - 1)


_HEBBIAN_RATE = Range(low=1e-5, high=1e-2, log=True)
# Schedules of the static transition besides the default: how far it goes, and at what pace.
_HALF: dict[str, Any] = {"highest": lambda blocks: blocks // 2}
_TWO: dict[str, Any] = {"highest": first_two, "power": 1.0}


def _localized_row(
    label: str, rule: str, mode: str = "static", claimed: Mapping[str, float] | None = None, **schedule: Any
) -> Algorithm:
    return Algorithm(
        label=label,
        baseline="sgd",
        search_space={"lr": LEARNING_RATES["sgd"], **({} if rule == "frozen" else {"hebbian_lr": _HEBBIAN_RATE})},
        build=localized(mode, rule, **schedule),
        options=frozenset({"weak_supervision_weight", "max_transition", "update_every"}),
        timed=mode == "static",
        control=rule in ("frozen", "random"),
        claimed=claimed or {},
    )


_ALGORITHMS = {
    "localized-static": _localized_row("Localized learning, static", "hebbian", claimed=CLAIMED),
    "localized-static-half": _localized_row("Localized learning, static, half the blocks", "hebbian", **_HALF),
    "localized-static-two": _localized_row("Localized learning, static, first two blocks", "hebbian", **_TWO),
    "localized-dynamic": _localized_row("Localized learning, dynamic", "hebbian", mode="dynamic"),
    "localized-frozen": _localized_row("Freezing, static (control)", "frozen"),
    "localized-frozen-half": _localized_row("Freezing, static, half the blocks (control)", "frozen", **_HALF),
    "localized-frozen-two": _localized_row("Freezing, static, first two blocks (control)", "frozen", **_TWO),
    "localized-random": _localized_row("Random updates, static (control)", "random"),
}

TOPIC = Topic(
    title="Localized learning",
    algorithms=_ALGORITHMS,
    studies=in_both_profiles(
        name="localized",
        title="Does localized learning train faster than SGD, and is it more than freezing?",
        full=(MNIST2, CIFAR),
        quick=(replace(DIGITS, model="mlp2"), DIGITS_CONV),
        # Adam only for what the coursework's table says of it; its runs are those of other studies.
        algorithms=("sgd", "adam", *_ALGORITHMS),
        curves=("test_accuracy", "cpu_seconds", "transition"),
        # Half of the MLP's three blocks is one block, as in the default schedule.
        left_out=(("mlp2", "localized-static-half"), ("mlp2", "localized-frozen-half")),
        time_limit=PAPER_RATIO,
        benchmarks=("epoch_overhead",),
    ),
    claims=CLAIMS,
    metrics=(
        Metric("transition", "blocks below the transition", True, "", "", 1.0, 1),
        Metric("localized_direction", "direction of the localized updates", True, "", "", 1.0, 1),
    ),
    curves=(
        Curve(
            "transition",
            "transition",
            "blocks below the transition, which are trained without backpropagation, by epoch",
            by_base=False,
        ),
        Curve(
            "localized_direction",
            "direction",
            "direction of the localized updates, by epoch: 1 along the Hebbian product, negative against it",
            by_base=False,
        ),
    ),
)
