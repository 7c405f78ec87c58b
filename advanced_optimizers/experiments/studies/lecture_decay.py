"""Lowering the learning rate in the course of training: statement 13 of the lecture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from advanced_optimizers.experiments.evidence.claim import Claim, each, improvement_rule
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_metric
from advanced_optimizers.experiments.studies.lecture import SUMMARY, build, digits_part, mnist_part
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting

# (optimizer, steps of the whole run) -> one of torch's schedulers, which steps after every batch.
MakeScheduler: TypeAlias = Callable[[Optimizer, int], LRScheduler]

DROPS = 4  # a run has four equal parts, and the rate drops between them


class DecayLearner(BackpropLearner):
    """Gradient descent whose learning rate follows one of torch's schedulers."""

    def __init__(self, setting: Setting, make: MakeScheduler) -> None:
        config = setting.config
        if config.schedule != "constant":
            raise ValueError(
                f"schedule must be 'constant' for {config.algorithm}, which has one of its own, got {config.schedule!r}"
            )
        super().__init__(setting, build(setting, "gd"))
        self.scheduler = make(self.optimizer, config.epochs * setting.steps_per_epoch)


def drops(optimizer: Optimizer, steps: int, factor: float) -> LRScheduler:
    """The rate times ``factor`` after each quarter of the run."""
    return StepLR(optimizer, step_size=-(-steps // DROPS), gamma=factor)


def cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Half a cosine from the rate down to zero."""
    return CosineAnnealingLR(optimizer, T_max=steps)


_SCHEDULES: dict[str, tuple[str, MakeScheduler]] = {
    "lecture-constant": ("Constant rate", partial(drops, factor=1.0)),
    "lecture-halved": ("Halved three times", partial(drops, factor=0.5)),
    "lecture-tenth": ("Divided by ten three times", partial(drops, factor=0.1)),
    "lecture-cosine": ("Cosine to zero", cosine),
}
CONSTANT = "lecture-constant"


def _decaying(make: MakeScheduler) -> Callable[[Setting], Learner]:
    return lambda setting: DecayLearner(setting, make)


_ALGORITHMS = {
    name: Algorithm(
        label=label,
        baseline=None if name == CONSTANT else CONSTANT,
        search_space={"lr": Range(low=5e-3, high=1.0, log=True)},
        build=_decaying(make),
        timed=False,
    )
    for name, (label, make) in _SCHEDULES.items()
}

TASK = "mnist-mlp128"
_DROPPING = {"lecture-halved": CONSTANT, "lecture-tenth": CONSTANT}
_WORDS = (
    "after 20 epochs of gradient descent in batches of 20 on 5,000 images of MNIST: the rate halved every 5 epochs, "
    "and divided by ten every 5 epochs, against a constant rate, each from the learning rate that tuning chose"
)

_CLAIMS = (
    Claim(
        key="lecture-decay-better",
        method="Lecture: decay",
        short="drops are better",
        study="lecture-decay",
        text="Lowering the learning rate by 2 or 10 at fixed epochs improves the result.",
        source=SUMMARY,
        rule=improvement_rule("test accuracy", _WORDS, "0.3 points"),
        decide=partial(compare_accuracy, comparisons=each(_DROPPING, (TASK,), margins={TASK: 0.003})),
    ),
    Claim(
        key="lecture-decay-loss",
        method="Lecture: decay",
        short="drops lower the loss",
        study="lecture-decay",
        text="Lowering the learning rate may lower the loss.",
        source=SUMMARY,
        rule=improvement_rule("train loss", f"{_WORDS}; lower is better", "").replace(
            "of the last epoch on the test set", "of the last epoch on the training set"
        ),
        decide=partial(compare_metric, metric="train_loss", comparisons=each(_DROPPING, (TASK,))),
    ),
)

TOPIC = Topic(
    title="Lecture: decay",
    algorithms=_ALGORITHMS,
    studies=in_both_profiles(
        name="lecture-decay",
        title="Should the learning rate drop in the course of training?",
        full=(mnist_part(5000, "mlp128", epochs=20, batch_size=20),),
        quick=(digits_part("mlp128", epochs=4),),
        algorithms=tuple(_ALGORITHMS),
        metrics=("test_accuracy", "train_loss"),
    ),
    claims=_CLAIMS,
)
