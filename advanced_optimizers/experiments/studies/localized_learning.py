"""Selective localized learning (LoCal+SGD): its schedules, and controls with frozen layers or random updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.evidence.claim import (
    COURSEWORK,
    Claim,
    each,
    margin_rule,
    memory_rule,
    metric_rule,
    overhead_rule,
)
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.evidence.rules import (
    compare_accuracy,
    compare_margin,
    compare_memory,
    compare_overhead,
)
from advanced_optimizers.experiments.studies.baselines import (
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    LEARNING_RATES,
    MNIST2,
    base_and_own,
)
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting, StepResult
from advanced_optimizers.localized_learning import LocalizedOptimizer, create_localized_optimizer
from advanced_optimizers.localized_learning.blocks import find_units, make_blocks

PAPER = "paper (Krithivasan et al., 2022)"
CONTROL = "our control"

# The paper states 1.5 times as fast.
PAPER_RATIO = 0.667
MARGIN = 0.005
# The coursework states 11.7 s per epoch, and 12.3 s for SGD.
COURSEWORK_RATIO = 0.951
MEMORY_LIMIT = 1.0


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


def _localized_row(label: str, rule: str, mode: str = "static", **schedule: Any) -> Algorithm:
    return Algorithm(
        label=label,
        baseline="sgd",
        search_space={"lr": LEARNING_RATES["sgd"], **({} if rule == "frozen" else {"hebbian_lr": _HEBBIAN_RATE})},
        build=localized(mode, rule, **schedule),
        options=frozenset({"weak_supervision_weight", "max_transition", "update_every"}),
        timed=mode == "static",
        control=rule in ("frozen", "random"),
    )


_ALGORITHMS = {
    "localized-static": _localized_row("Localized learning, static", "hebbian"),
    "localized-static-half": _localized_row("Localized learning, static, half the blocks", "hebbian", **_HALF),
    "localized-static-two": _localized_row("Localized learning, static, first two blocks", "hebbian", **_TWO),
    "localized-dynamic": _localized_row("Localized learning, dynamic", "hebbian", mode="dynamic"),
    "localized-frozen": _localized_row("Freezing, static (control)", "frozen"),
    "localized-frozen-half": _localized_row("Freezing, static, half the blocks (control)", "frozen", **_HALF),
    "localized-frozen-two": _localized_row("Freezing, static, first two blocks (control)", "frozen", **_TWO),
    "localized-random": _localized_row("Random updates, static (control)", "random"),
}

# ---- the claims -----------------------------------------------------------------------------------------------------

_TASKS = ("mnist-mlp2", "cifar10-jpeg-convnet")
_STATIC = {"localized-static": "sgd"}
_BOTH = {"localized-static": "sgd", "localized-dynamic": "sgd"}
# Half of the MLP's three blocks is one block, as in the default schedule.
_HALF_TASKS = ("cifar10-jpeg-convnet",)
_CONTROLS = ("localized-frozen", "localized-random")
_WORDS = "localized learning with the static transition against SGD"


def _of_schedule(
    name: str, short: str, words: str, compared: str, tasks: tuple[str, ...], where: str
) -> tuple[Claim, ...]:
    """The claims about a milder schedule: the accuracy it loses, the time it saves, and whether it beats freezing."""
    own, frozen = f"localized-static-{name}", f"localized-frozen-{name}"
    return (
        Claim(
            key=f"localized-{name}-accuracy",
            method="Localized learning",
            short=f"{short}: half a point lost",
            study="localized",
            text=f"{words}, localized learning loses no more than 0.5 points of accuracy.",
            source=CONTROL,
            rule=margin_rule(f"{compared} SGD, {where}", MARGIN, "the paper's"),
            decide=partial(compare_margin, margin=MARGIN, comparisons=each({own: "sgd"}, tasks)),
        ),
        Claim(
            key=f"localized-{name}-speed",
            method="Localized learning",
            short=f"{short}: shorter epochs",
            study="localized",
            text=f"{words}, its epochs are still shorter than SGD's.",
            source=CONTROL,
            rule=overhead_rule(f"{compared} SGD, {where}", 1.0, "no more than SGD"),
            decide=partial(compare_overhead, limit=1.0, comparisons=each({own: "sgd"}, tasks)),
        ),
        Claim(
            key=f"localized-{name}-beats-freezing",
            method="Localized learning",
            short=f"{short}: beats freezing",
            study="localized",
            text=f"{words}, the localized updates are worth more than freezing.",
            source=CONTROL,
            rule=metric_rule("test accuracy", f"{compared} freezing the same layers at the same epochs, {where}"),
            decide=partial(compare_accuracy, comparisons=each({own: frozen}, tasks)),
        ),
    )


_CLAIMS = (
    Claim(
        key="localized-speed",
        method="Localized learning",
        short="1.5 times as fast",
        study="localized",
        text="LoCal+SGD trains up to 1.5 times as fast as SGD.",
        source=PAPER,
        rule=overhead_rule(f"{_WORDS} on both tasks", PAPER_RATIO, "1 / 1.5"),
        decide=partial(compare_overhead, limit=PAPER_RATIO, comparisons=each(_STATIC, _TASKS)),
    ),
    Claim(
        key="localized-fastest",
        method="Localized learning",
        short="fastest per epoch",
        study="localized",
        text="Localized learning is the fastest per epoch (11.7 s against 12.3 s for SGD).",
        source=COURSEWORK,
        rule=overhead_rule(f"{_WORDS} on both tasks", COURSEWORK_RATIO, "11.7 / 12.3"),
        decide=partial(compare_overhead, limit=COURSEWORK_RATIO, comparisons=each(_STATIC, _TASKS)),
    ),
    Claim(
        key="localized-accuracy",
        method="Localized learning",
        short="loses half a point",
        study="localized",
        text="LoCal+SGD loses about 0.5 points of accuracy.",
        source=PAPER,
        rule=margin_rule(
            "localized learning with the static and with the dynamic transition against SGD, on both tasks",
            MARGIN,
            "the paper's",
        ),
        decide=partial(compare_margin, margin=MARGIN, comparisons=each(_BOTH, _TASKS)),
    ),
    Claim(
        key="localized-memory",
        method="Localized learning",
        short="saves memory",
        study="localized",
        text="Localized learning saves memory.",
        source=PAPER,
        rule=memory_rule(f"{_WORDS}, in the last epoch,", MEMORY_LIMIT, "no more than SGD"),
        decide=partial(compare_memory, limit=MEMORY_LIMIT, comparisons=each(_STATIC, _TASKS)),
    ),
    *_of_schedule(
        "half",
        "at ½ blocks",
        "Up to half the blocks",
        "localized learning with the static transition up to half the blocks against",
        _HALF_TASKS,
        "on the ConvNet",
    ),
    *_of_schedule(
        "two",
        "at 2 blocks",
        "Up to two blocks at an even pace",
        "localized learning with a static transition that goes up to two blocks at an even pace against",
        _TASKS,
        "on both tasks",
    ),
    Claim(
        key="localized-beats-freezing",
        method="Localized learning",
        short="beats freezing",
        study="localized",
        text="The localized updates are worth more than no updates, and than random ones.",
        source=CONTROL,
        rule=metric_rule(
            "test accuracy",
            "localized learning with the static transition against freezing the same layers at the same epochs, and "
            "against random updates of the same norm, on both tasks",
        ),
        decide=partial(
            compare_accuracy,
            comparisons=tuple(c for control in _CONTROLS for c in each({"localized-static": control}, _TASKS)),
        ),
    ),
)

TOPIC = Topic(
    title="Localized learning",
    algorithms=_ALGORITHMS,
    studies=in_both_profiles(
        name="localized",
        title="Does localized learning train faster than SGD, and is it more than freezing?",
        full=(MNIST2, CIFAR),
        quick=(replace(DIGITS, model="mlp2"), DIGITS_CONV),
        algorithms=("sgd", *_ALGORITHMS),
        curves=("test_accuracy", "cpu_seconds", "transition"),
        # Half of the MLP's three blocks is one block, as in the default schedule.
        left_out=(("mlp2", "localized-static-half"), ("mlp2", "localized-frozen-half")),
        time_limit=PAPER_RATIO,
    ),
    claims=_CLAIMS,
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
