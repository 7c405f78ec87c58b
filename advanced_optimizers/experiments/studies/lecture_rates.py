"""Adam's learning rate from task to task: statements 10 (3e-4, and 3e-2 for small tasks), 11 and 12 of the lecture."""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS
from advanced_optimizers.experiments.evidence.rates import easier_wants_larger, good_rate_rule, rate_is_good
from advanced_optimizers.experiments.studies.baselines import CIFAR_ALTERNATIVES
from advanced_optimizers.experiments.studies.lecture import BATCH_SIZE, SUMMARY
from advanced_optimizers.experiments.studies.rate_sweep import RateSweep, RateTask
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic

ADAM = "lecture-adam"
KARPATHY, SMALL = 3e-4, 3e-2
_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
_PART = 5000 / 60_000

# From the smallest to the largest network; 5,000 images each where there are more.
_FULL = (
    RateTask(dataset="digits", model="linear", epochs=10, batch_size=BATCH_SIZE),
    RateTask(dataset="digits", model="mlp128", epochs=10, batch_size=BATCH_SIZE),
    RateTask(dataset="mnist", model="linear", epochs=4, batch_size=BATCH_SIZE, data_fraction=_PART),
    RateTask(dataset="mnist", model="mlp128", epochs=4, batch_size=BATCH_SIZE, data_fraction=_PART),
    RateTask(dataset="mnist", model="mlp2", epochs=4, batch_size=BATCH_SIZE, data_fraction=_PART),
    RateTask(dataset="mnist", model="deep256", epochs=4, batch_size=BATCH_SIZE, data_fraction=_PART),
    RateTask(
        dataset="cifar10-jpeg",
        model="convnet",
        epochs=4,
        batch_size=BATCH_SIZE,
        data_fraction=0.1,
        alternatives=CIFAR_ALTERNATIVES,
    ),
)
_QUICK = (
    RateTask(dataset="digits", model="linear", epochs=3, batch_size=BATCH_SIZE),
    RateTask(dataset="digits", model="mlp128", epochs=3, batch_size=BATCH_SIZE),
)
_TASKS = tuple(task.name for task in _FULL)
_SMALL_TASKS, _LARGE_TASKS = _TASKS[:2], _TASKS[4:]

# What does not matter to somebody who wants a rate to begin with.
GOOD, GOOD_WORDS = 0.01, "our reading of good"
# Spearman's correlation that chance reaches in fewer than one of twenty orders of seven tasks.
MONOTONE = 0.714


def _good(key: str, short: str, text: str, tasks: tuple[str, ...], rate: float, where: str) -> Claim:
    return Claim(
        key=key,
        method="Lecture: Adam's rate",
        short=short,
        study="lecture-adam-rates",
        text=text,
        source=SUMMARY,
        rule=good_rate_rule(f"Adam at the learning rate {rate:g} on {where}", GOOD, GOOD_WORDS),
        decide=partial(rate_is_good, algorithm=ADAM, rates=dict.fromkeys(tasks, rate), margin=GOOD),
    )


_CLAIMS = (
    _good(
        "lecture-adam-classification",
        "3e-4 for classification",
        "For classification, 3e-4 is a good learning rate for Adam.",
        _TASKS,
        KARPATHY,
        "all seven tasks",
    ),
    _good(
        "lecture-adam-large",
        "3e-4 for large tasks",
        "For large tasks, 3e-4 is a good learning rate for Adam.",
        _LARGE_TASKS,
        KARPATHY,
        "the three largest tasks (MNIST with 512 and 256 units and with 6 x 256 units, cifar10-jpeg)",
    ),
    _good(
        "lecture-adam-small",
        "3e-2 for small tasks",
        "For small tasks, 3e-2 is a good learning rate for Adam.",
        _SMALL_TASKS,
        SMALL,
        "the two smallest tasks (the digits)",
    ),
    Claim(
        key="lecture-easier-larger",
        method="Lecture: Adam's rate",
        short="easier wants larger",
        study="lecture-adam-rates",
        text="The easier the task, the larger the learning rate.",
        source=SUMMARY,
        rule="Over the seven tasks, Spearman's rank correlation between Adam's best learning rate (of the test error, "
        "between the rates tried by a parabola) and the accuracy reached with the best rate tried, by seed (at least "
        f"{MIN_SEEDS}), with the 95 % interval of its mean. Supported: the interval lies at or above {MONOTONE:g} (of "
        "random orders of seven, fewer than one in twenty are). Not supported: it lies below. Otherwise inconclusive.",
        decide=partial(easier_wants_larger, algorithm=ADAM, tasks=_TASKS, least=MONOTONE),
    ),
)


def _sweep(profile: str, tasks: tuple[RateTask, ...], seeds: tuple[int, ...], rates: tuple[float, ...]) -> RateSweep:
    return RateSweep(
        name="lecture-adam-rates",
        title="Which learning rate does Adam want, from task to task?",
        profile=profile,
        tasks=tasks,
        algorithms=(ADAM,),
        seeds=seeds,
        rates=rates,
        marked=(KARPATHY, SMALL),
    )


TOPIC = Topic(
    title="Lecture: Adam's learning rate",
    algorithms={},
    studies=(_sweep("full", _FULL, SEEDS, _RATES), _sweep("quick", _QUICK, SEEDS[:2], _RATES[1:6])),
    claims=_CLAIMS,
)
