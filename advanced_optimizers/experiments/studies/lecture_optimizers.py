"""The lecture's optimizers side by side: each at its tuned learning rate, and all at the same rates.

Statements 1 (momentum and Nesterov are faster) and 7 (Adagrad, Adadelta and RMSprop are good, too).
"""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, each, improvement_rule, margin_rule
from advanced_optimizers.experiments.evidence.rates import compare_at_rate
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_margin
from advanced_optimizers.experiments.studies.lecture import OPTIMIZERS, SUMMARY, digits_part, mnist_part, trained_with
from advanced_optimizers.experiments.studies.rate_sweep import RateSweep, RateTask
from advanced_optimizers.experiments.studies.study import SEEDS, in_both_profiles
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

# ---- the claims ------------------------------------------------------------------------------------------------------

_CLAIMS = (
    Claim(
        key="lecture-momentum-tuned",
        method="Lecture: momentum",
        short="better at tuned rates",
        study="lecture-optimizers",
        text="Momentum and Nesterov make gradient descent more stable and faster (each at its own best rate).",
        source=SUMMARY,
        rule=improvement_rule(
            "test accuracy",
            "after 4 epochs on 5,000 images of MNIST: momentum and Nesterov against gradient descent, each at the "
            "learning rate that tuning chose",
            MARGIN_WORDS,
        ),
        decide=partial(compare_accuracy, comparisons=each(_WITH_MOMENTUM, (TASK,), margins={TASK: MARGIN})),
    ),
    Claim(
        key="lecture-momentum-same-rate",
        method="Lecture: momentum",
        short="better at the same rate",
        study="lecture-rates",
        text="Momentum and Nesterov make gradient descent more stable and faster (at the same small rate).",
        source=SUMMARY,
        rule=improvement_rule(
            "test accuracy",
            f"after 4 epochs on 5,000 images of MNIST: momentum and Nesterov against gradient descent, all at the "
            f"learning rate {SMALL_RATE:g}",
            MARGIN_WORDS,
        ),
        decide=partial(
            compare_at_rate, rate=SMALL_RATE, comparisons=each(_WITH_MOMENTUM, (TASK,), margins={TASK: MARGIN})
        ),
    ),
    Claim(
        key="lecture-adaptive-good",
        method="Lecture: adaptive rates",
        short="good as well",
        study="lecture-optimizers",
        text="Adagrad, Adadelta and RMSprop are good as well.",
        source=SUMMARY,
        rule=margin_rule(
            "after 4 epochs on 5,000 images of MNIST: Adagrad, Adadelta and RMSprop against gradient descent, each at "
            "the learning rate that tuning chose",
            GOOD,
            "our reading of good",
        ),
        decide=partial(compare_margin, margin=GOOD, comparisons=each(_ADAPTIVE, (TASK,))),
    ),
)

# ---- the studies -----------------------------------------------------------------------------------------------------


def _sweep(profile: str, task: RateTask, seeds: tuple[int, ...], rates: tuple[float, ...]) -> RateSweep:
    return RateSweep(
        name="lecture-rates",
        title="How do the classic optimizers depend on their learning rate?",
        profile=profile,
        tasks=(task,),
        algorithms=tuple(_ALGORITHMS),
        seeds=seeds,
        rates=rates,
        marked=(SMALL_RATE,),
        in_progress=True,
    )


TOPIC = Topic(
    title="Lecture: optimizers",
    algorithms=_ALGORITHMS,
    studies=(
        *in_both_profiles(
            name="lecture-optimizers",
            title="Which classic optimizer is best when each is tuned?",
            full=(mnist_part(5000, "mlp128", epochs=4),),
            quick=(digits_part("mlp128", epochs=3),),
            algorithms=tuple(_ALGORITHMS),
            in_progress=True,
        ),
        _sweep(
            "full",
            RateTask(dataset="mnist", model="mlp128", epochs=4, batch_size=64, data_fraction=5000 / 60_000),
            SEEDS,
            (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0),
        ),
        _sweep(
            "quick", RateTask(dataset="digits", model="mlp128", epochs=3, batch_size=64), SEEDS[:2], (1e-2, 1e-1, 1.0)
        ),
    ),
    claims=_CLAIMS,
)
