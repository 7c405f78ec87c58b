"""The lecture's optimizers side by side: each at its tuned learning rate, and all at the same rates.

Statements 1 (momentum and Nesterov are faster) and 7 (Adagrad, Adadelta and RMSprop are good, too). Each study is there
twice. The first time, in batches of 64, the last step before every test was on eight images. What that step does grows
with the learning rate, and it decided the comparison. These runs are kept as a demonstration of it.
"""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, FormerRule, each, improvement_rule, margin_rule
from advanced_optimizers.experiments.evidence.rates import compare_at_rate
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_margin
from advanced_optimizers.experiments.studies.lecture import (
    BATCH_SIZE,
    OPTIMIZERS,
    SUMMARY,
    digits_part,
    mnist_part,
    trained_with,
)
from advanced_optimizers.experiments.studies.rate_sweep import RateSweep, RateTask
from advanced_optimizers.experiments.studies.study import SEEDS, Study, in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range

# One range for all: nobody profits from being told where to look. Twelve points are a factor of two apart.
_RATES = Range(low=1e-3, high=10.0, log=True)
_LABELS = {
    "gd": "Gradient descent",
    "momentum": "Momentum",
    "nesterov": "Nesterov",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "rmsprop": "RMSprop",
    "adam": "Adam (torch's defaults)",
}
GD = "lecture-gd"
_ALGORITHMS = {
    f"lecture-{name}": Algorithm(
        label=_LABELS[name],
        baseline=None if name in ("gd", "adam") else GD,
        search_space={"lr": _RATES},
        build=trained_with(name),
        timed=False,
    )
    for name in OPTIMIZERS
}
_WITH_MOMENTUM = {"lecture-momentum": GD, "lecture-nesterov": GD}
_ADAPTIVE = {"lecture-adagrad": GD, "lecture-adadelta": GD, "lecture-rmsprop": GD}

TASK = "mnist-mlp128"
MARGIN, MARGIN_WORDS = 0.005, "half a point"
GOOD = 0.01
SMALL_RATE = 0.01
_UNEVEN = 64  # does not divide 5,000: the last batch has eight images

# ---- the claims ------------------------------------------------------------------------------------------------------

_WHY = (
    "In batches of 64, the last of 5,000 images are a batch of eight. The step on these is noisier than the others, "
    "and the test comes right after it: the comparison was about this step."
)


def _with_momentum_rule(batch_size: int, rates: str) -> str:
    return improvement_rule(
        "test accuracy",
        f"after 4 epochs on 5,000 images of MNIST in batches of {batch_size}: momentum and Nesterov against gradient "
        f"descent, {rates}",
        MARGIN_WORDS,
    )


def _adaptive_rule(batch_size: int) -> str:
    return margin_rule(
        f"after 4 epochs on 5,000 images of MNIST in batches of {batch_size}: Adagrad, Adadelta and RMSprop against "
        "gradient descent, each at the learning rate that tuning chose",
        GOOD,
        "our reading of good",
    )


_TUNED_WORDS = "each at the learning rate that tuning chose"
_SAME_RATE_WORDS = f"all at the learning rate {SMALL_RATE:g}"

_CLAIMS = (
    Claim(
        key="lecture-momentum-tuned",
        method="Lecture: momentum",
        short="better at tuned rates",
        study="lecture-optimizers",
        text="Momentum and Nesterov make gradient descent more stable and faster (each at its own best rate).",
        source=SUMMARY,
        rule=_with_momentum_rule(BATCH_SIZE, _TUNED_WORDS),
        decide=partial(compare_accuracy, comparisons=each(_WITH_MOMENTUM, (TASK,), margins={TASK: MARGIN})),
        former=FormerRule(
            rule=_with_momentum_rule(_UNEVEN, _TUNED_WORDS),
            verdict="supported",
            result="Of 2 comparisons: 2 better. Least in favor: Nesterov against Gradient descent on MNIST, MLP of "
            "128, clean labels, +4.37 [+3.48, +5.26] points (n = 5, p < 0.001).",
            why=_WHY,
        ),
    ),
    Claim(
        key="lecture-momentum-same-rate",
        method="Lecture: momentum",
        short="better at the same rate",
        study="lecture-rates",
        text="Momentum and Nesterov make gradient descent more stable and faster (at the same small rate).",
        source=SUMMARY,
        rule=_with_momentum_rule(BATCH_SIZE, _SAME_RATE_WORDS),
        decide=partial(
            compare_at_rate, rate=SMALL_RATE, comparisons=each(_WITH_MOMENTUM, (TASK,), margins={TASK: MARGIN})
        ),
        former=FormerRule(
            rule=_with_momentum_rule(_UNEVEN, _SAME_RATE_WORDS),
            verdict="supported",
            result="Of 2 comparisons: 2 better. Least in favor: Nesterov against Gradient descent on MNIST, MLP of "
            "128, clean labels, +4.46 [+3.63, +5.30] points (n = 5, p < 0.001).",
            why=_WHY,
        ),
    ),
    Claim(
        key="lecture-adaptive-good",
        method="Lecture: adaptive rates",
        short="good as well",
        study="lecture-optimizers",
        text="Adagrad, Adadelta and RMSprop are good as well.",
        source=SUMMARY,
        rule=_adaptive_rule(BATCH_SIZE),
        decide=partial(compare_margin, margin=GOOD, comparisons=each(_ADAPTIVE, (TASK,))),
        former=FormerRule(
            rule=_adaptive_rule(_UNEVEN),
            verdict="inconclusive",
            result="Of 3 comparisons: 1 unclear, 2 within. Least in favor: RMSprop against Gradient descent on MNIST, "
            "MLP of 128, clean labels, +1.16 [-1.54, +3.87] points (n = 5, p = 0.091 after Holm).",
            why=_WHY,
        ),
    ),
)

# ---- the studies -----------------------------------------------------------------------------------------------------


_EPOCHS, _QUICK_EPOCHS = 4, 2


def _tuned(name: str, title: str, batch_size: int) -> tuple[Study, ...]:
    return in_both_profiles(
        name=name,
        title=title,
        full=(mnist_part(5000, "mlp128", _EPOCHS, batch_size),),
        quick=(digits_part("mlp128", _QUICK_EPOCHS, batch_size=batch_size),),
        algorithms=tuple(_ALGORITHMS),
    )


def _sweeps(name: str, title: str, batch_size: int) -> tuple[RateSweep, ...]:
    full = RateTask(dataset="mnist", model="mlp128", epochs=_EPOCHS, batch_size=batch_size, data_fraction=5000 / 60_000)
    quick = RateTask(dataset="digits", model="mlp128", epochs=_QUICK_EPOCHS, batch_size=batch_size)
    rates = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
    return tuple(
        RateSweep(
            name=name,
            title=title,
            profile=profile,
            tasks=(task,),
            algorithms=tuple(_ALGORITHMS),
            seeds=seeds,
            rates=some,
            marked=(SMALL_RATE,),
        )
        for profile, task, seeds, some in (("full", full, SEEDS, rates), ("quick", quick, SEEDS[:2], rates[2:7:2]))
    )


TOPIC = Topic(
    title="Lecture: optimizers",
    algorithms=_ALGORITHMS,
    studies=(
        *_tuned("lecture-optimizers", "Which classic optimizer is best when each is tuned?", BATCH_SIZE),
        *_sweeps("lecture-rates", "How do the classic optimizers depend on their learning rate?", BATCH_SIZE),
        *_tuned("lecture-optimizers-64", "Which one is best right after a batch of eight images?", _UNEVEN),
        *_sweeps("lecture-rates-64", "What does a last batch of eight images do at each learning rate?", _UNEVEN),
    ),
    claims=_CLAIMS,
)
