"""The convolutional optimizers on clean labels in batches of 64: the source's clean test, and two networks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.studies.convolutional import BASE
from advanced_optimizers.experiments.studies.convolutional_stress import AS_CLAIMED, MARGIN, MARGIN_WORDS, QUICK, TASK
from advanced_optimizers.experiments.studies.grid import grid_in_both_profiles, octaves
from advanced_optimizers.experiments.studies.topic import Topic

# 78 batches without a remainder: of 5,000 images, the step right before every test would be on eight of them.
_IMAGES = 78 * 64
_CLEAN = replace(
    AS_CLAIMED,
    epochs=20,
    tuning_epochs=20,
    batch_size=64,
    data_fraction=_IMAGES / 60_000,
    tuning_fraction=_IMAGES / 54_000,
)
_QUICK = replace(QUICK, batch_size=32)
_NETWORKS = {"deepnet": "DeepNet", "illconditioned": "IllConditionedNet"}
_ALGORITHMS = (BASE, "conv-adam", "conv-sgd", "conv-local", "conv-v2")
_WHERE = f"{_IMAGES:,} images, clean labels, batches of 64, 20 epochs, each at the rate that tuning chose"

_CLAIMS = (
    Claim(
        key="conv-adam-clean",
        method="Convolutional optimizers, tuned",
        short="Adam leads on clean labels",
        study="convolutional-clean",
        text="On clean labels, Adam leads.",
        source=COURSEWORK,
        rule=improvement_rule(
            "test accuracy",
            f"Adam against SGD, version 1, the local loss and version 2 as described; {_WHERE}",
            MARGIN_WORDS,
        ),
        decide=partial(
            compare_accuracy,
            comparisons=tuple(
                Comparison(TASK, "conv-adam", other, margin=MARGIN) for other in _ALGORITHMS if other != "conv-adam"
            ),
        ),
    ),
    *(
        Claim(
            key=f"conv-{model}",
            method="Convolutional SGD",
            short=f"helps {name}",
            study="convolutional-networks",
            text=f"Version 1 helps networks such as {name}.",
            source=COURSEWORK,
            rule=improvement_rule("test accuracy", f"version 1 against SGD on {name}; {_WHERE}", MARGIN_WORDS),
            decide=partial(
                compare_accuracy, comparisons=(Comparison(f"mnist-{model}", "conv-sgd", BASE, margin=MARGIN),)
            ),
        )
        for model, name in _NETWORKS.items()
    ),
)

TOPIC = Topic(
    title="Convolutional optimizers: clean",
    algorithms={},
    studies=(
        *grid_in_both_profiles(
            name="convolutional-clean",
            title="Which convolutional optimizer is better on clean labels?",
            full=(_CLEAN,),
            quick=(_QUICK,),
            rates=octaves(1e-3),
            algorithms=_ALGORITHMS,
        ),
        *grid_in_both_profiles(
            name="convolutional-networks",
            title="Does version 1 help deep and ill-conditioned networks?",
            full=tuple(replace(_CLEAN, model=model) for model in _NETWORKS),
            quick=tuple(replace(_QUICK, model=model) for model in _NETWORKS),
            rates=octaves(5e-4, 9),  # the last was added, for all: on DeepNet both chose the highest of eight
            algorithms=(BASE, "conv-sgd"),
        ),
    ),
    claims=_CLAIMS,
)
