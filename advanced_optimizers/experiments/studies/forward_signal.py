"""Forward signal propagation, with and without its local losses, compared with backpropagation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.experiments.data.datasets import Batch
from advanced_optimizers.experiments.evidence.claim import (
    COURSEWORK,
    Claim,
    each,
    improvement_rule,
    margin_rule,
    memory_rule,
    overhead_rule,
)
from advanced_optimizers.experiments.evidence.rules import (
    check_properties,
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
    MARGIN_WORDS,
    MARGINS,
    MNIST2,
)
from advanced_optimizers.experiments.studies.claims.former import FORMER
from advanced_optimizers.experiments.studies.claims.pipeline import BENCHMARK as PIPELINE
from advanced_optimizers.experiments.studies.claims.pipeline import CLAIM as PIPELINE_CLAIM
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting, StepResult
from advanced_optimizers.forward_signal import SigPropOptimizer, SigPropSequential, create_sigprop_optimizer

PAPER = "paper (Kohan et al., arXiv 2204.01723)"
CONTROL = "our control"

TIME_LIMIT = MEMORY_LIMIT = 1.0
# The difference of the published test errors on CIFAR-10 for this kind of network: 8.34 % with signal propagation, and
# 5.99 % with backpropagation (VGG8b, Nokland and Eidnes, ICML 2019).
MARGIN = 0.0235


# ---- how they train -------------------------------------------------------------------------------------------------


class SigPropLearner(BackpropLearner):
    """Training in the forward pass: each layer learns as soon as it is reached. The loss is the classifier's."""

    optimizer: SigPropOptimizer

    def step(self, batch: Batch) -> StepResult:
        """Updates every layer, then takes a step of the schedule."""
        self.model.train()
        with self.autocast():
            losses, scores = self.optimizer.learn(batch.images, batch.labels)
        self.scheduler.step()
        return StepResult(losses[-1], (scores.argmax(dim=1) == batch.labels).sum())


def _sigprop(setting: Setting) -> Learner:
    if not isinstance(setting.model, nn.Sequential):
        raise ValueError(f"model must be a Sequential for signal propagation, got {type(setting.model).__name__}")
    network = SigPropSequential(setting.model, setting.image_shape, setting.num_classes)
    network.to(next(setting.model.parameters()).device)  # the target generator is new
    own: dict[str, Any] = dict(setting.config.hyperparameters)
    optimizer = create_sigprop_optimizer(network, **own)
    return SigPropLearner(replace(setting, model=network), optimizer)


def _readout(setting: Setting) -> Learner:
    """Adam on the last layer alone. The layers before it stay as initialized, except for BatchNorm's statistics."""
    *_, last = (module for module in setting.model.modules() if isinstance(module, nn.Linear))
    setting.model.requires_grad_(False)
    last.requires_grad_(True)
    return BackpropLearner(
        setting, build_optimizer(torch.optim.Adam, last.parameters(), lr=setting.config.hyperparameters["lr"])
    )


# ---- the algorithms -------------------------------------------------------------------------------------------------

_ALGORITHMS = {
    "readout": Algorithm(
        label="Last layer only, Adam (control)",
        baseline="adam",
        search_space={"lr": LEARNING_RATES["adam"]},
        build=_readout,
        control=True,
    ),
    "sigprop": Algorithm(
        label="Signal propagation, Adam",
        baseline="adam",
        search_space={"lr": LEARNING_RATES["adam"], "signal_lr": LEARNING_RATES["adam"]},
        build=_sigprop,
    ),
}

# ---- the claims -----------------------------------------------------------------------------------------------------

_TASKS = ("mnist-mlp2", "cifar10-jpeg-vgg")
_SIGPROP = {"sigprop": "adam"}
_WORDS = "signal propagation against backpropagation through the same network, both with Adam,"

_CLAIMS = (
    Claim(
        key="sigprop-plausible",
        method="Signal propagation",
        short="biologically plausible",
        study="sigprop",
        text="Forward signal propagation is biologically plausible.",
        source=f"{COURSEWORK}, {PAPER}",
        rule="Six properties that a local learning rule of a brain would need, each tested on a network. Supported: "
        "all hold. Not supported: one does not.",
        decide=check_properties,
    ),
    Claim(
        key="sigprop-time",
        method="Signal propagation",
        short="less time",
        study="sigprop",
        text="Forward signal propagation needs less time than backpropagation.",
        source=PAPER,
        rule=overhead_rule(f"{_WORDS} on both tasks", TIME_LIMIT, "no more than backpropagation"),
        decide=partial(compare_overhead, limit=TIME_LIMIT, comparisons=each(_SIGPROP, _TASKS)),
        former=FORMER["sigprop-time"],
    ),
    Claim(
        key="sigprop-memory",
        method="Signal propagation",
        short="less memory",
        study="sigprop",
        text="Forward signal propagation needs less memory than backpropagation.",
        source=PAPER,
        rule=memory_rule(_WORDS, MEMORY_LIMIT, "no more than backpropagation"),
        decide=partial(compare_memory, limit=MEMORY_LIMIT, comparisons=each(_SIGPROP, _TASKS)),
    ),
    Claim(
        key="sigprop-accuracy",
        method="Signal propagation",
        short="close to backpropagation",
        study="sigprop",
        text="Its accuracy comes close to backpropagation's (91.66 % on CIFAR-10 with VGG8b, where backpropagation "
        "reaches 94.01 %).",
        source=PAPER,
        rule=margin_rule(f"{_WORDS} on both tasks", MARGIN, "the published gap"),
        decide=partial(compare_margin, margin=MARGIN, comparisons=each(_SIGPROP, _TASKS)),
        former=FORMER["sigprop-accuracy"],
    ),
    Claim(
        key="sigprop-learns-features",
        method="Signal propagation",
        short="hidden layers learn",
        study="sigprop",
        text="The local losses train the hidden layers: better than leaving them as they were initialized.",
        source=CONTROL,
        rule=improvement_rule(
            "test accuracy",
            "signal propagation against the same network with only its last layer trained, on both tasks",
            MARGIN_WORDS,
        ),
        decide=partial(compare_accuracy, comparisons=each({"sigprop": "readout"}, _TASKS, margins=MARGINS)),
        former=FORMER["sigprop-learns-features"],
    ),
)

TOPIC = Topic(
    title="Forward signal propagation",
    algorithms=_ALGORITHMS,
    studies=in_both_profiles(
        name="sigprop",
        title="Does forward signal propagation learn as well as backpropagation, in less time and memory?",
        full=(MNIST2, replace(CIFAR, model="vgg", epochs=20)),
        quick=(replace(DIGITS, model="mlp2"), replace(DIGITS_CONV, model="vgg")),
        algorithms=("adam", "sigprop", "readout"),
        curves=("test_accuracy", "cpu_seconds"),
        time_limit=TIME_LIMIT,
        properties="locality",
        benchmarks=(PIPELINE,),
    ),
    claims=(*_CLAIMS, PIPELINE_CLAIM),
)
