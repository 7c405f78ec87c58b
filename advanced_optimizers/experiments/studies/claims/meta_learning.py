"""The claims on learning to learn by gradient steps, and their rules: the text's (M2 to M5, M8), and ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.rules import compare_metric
from advanced_optimizers.experiments.evidence.stated import value_rule, value_within
from advanced_optimizers.experiments.evidence.within_runs import compare_columns, compare_ratio

TEXT, OURS = "text on AutoML", "our question"

WAVES, STUDY = "sinusoid-10-shot", "meta-sinusoid"

# The largest differences that do not matter: of an error, a fiftieth of what a prediction of zero has; of an accuracy,
# about three standard errors of 300 episodes.
ERROR, ACCURACY = 0.08, 0.01


def margin_on(task: str) -> float:
    """The largest difference that does not matter."""
    return ERROR if task == WAVES else ACCURACY


def margin_words(task: str) -> str:
    """That, in words."""
    return f"{ERROR:g}" if task == WAVES else f"{100 * ACCURACY:g} point"


def against(task: str, algorithm: str, *baselines: str, claimed: float | None = None) -> tuple[Comparison, ...]:
    """Comparisons with several baselines, within the task's margin or with a gain that is claimed."""
    margin = margin_on(task) if claimed is None else None
    return tuple(Comparison(task, algorithm, baseline, margin=margin, claimed=claimed) for baseline in baselines)


def better(
    metric: str, name: str, compared: str, comparisons: tuple[Comparison, ...], size: str = ""
) -> dict[str, object]:
    """The rule, in words and as a function, of a claim that a metric improves."""
    task = comparisons[0].task
    words = improvement_rule(name, compared, "" if size else margin_words(task), size)
    words = words.replace(" of the last epoch on the test set", "" if task == WAVES else " on new characters")
    return {"rule": words, "decide": partial(compare_metric, metric=metric, comparisons=comparisons)}


def value(metric: str, name: str, task: str, algorithm: str, low: float, high: float, words: str) -> dict[str, object]:
    """The rule, in words and as a function, of a claim that a mean lies in a range."""
    decide = partial(value_within, metric=metric, task=task, algorithm=algorithm, low=low, high=high)
    return {"rule": value_rule(name, words), "decide": decide}


def columns(metrics: tuple[str, ...], name: str, task: str, *algorithms: str) -> dict[str, object]:
    """The rule, in words and as a function, of a claim about quantities of the same runs."""
    words = (
        f"{name}, on the same runs, paired by seed (at least {MIN_SEEDS}), by a paired t-test at the level 0.05. "
        "Supported: every difference is in the claim's favor; all of them must be, so none is corrected. Not "
        "supported: one is against it, or equivalent within the margin by two one-sided tests "
        f"({margin_words(task)}); one is enough, so each kind of test has Holm's correction. Otherwise inconclusive."
    )
    decide = partial(compare_columns, metrics=metrics, task=task, algorithms=algorithms, margin=margin_on(task))
    return {"rule": words, "decide": decide}


def _half(metric: str, limit: float, comparison: Comparison) -> dict[str, object]:
    words = (
        "The squared error after one gradient step on ten points of a new wave, MAML's over that of pretraining, "
        f"paired by seed (at least {MIN_SEEDS}), with the 95 % interval of its geometric mean. Supported: the interval "
        f"ends at or below {limit:g}. Not supported: the ratio is above it by a t-test of its logarithm. Otherwise, "
        "and whenever a run diverged, inconclusive."
    )
    return {"rule": words, "decide": partial(compare_ratio, metric=metric, limit=limit, comparison=comparison)}


def claim(key: str, method: str, short: str, study: str, source: str, text: str, rule: dict[str, object]) -> Claim:
    """A claim whose rule is one of those above."""
    decide: Callable[[RunData], Verdict] = rule["decide"]  # type: ignore[assignment]
    return Claim(
        key=key,
        method=method,
        short=short,
        study=study,
        source=source,
        text=text,
        rule=str(rule["rule"]),
        decide=decide,
    )


_AFTER = "squared error after {} gradient steps on ten points of a new wave"
_ONE, _TEN = _AFTER.format("one").replace("steps", "step"), _AFTER.format("ten")

CLAIMS = tuple(
    claim(key, method, short, STUDY, source, text, rule)
    for key, method, short, source, text, rule in (
        (
            "maml-fast",
            "MAML",
            "adapts fast",
            TEXT,
            "MAML adapts fast to new tasks.",
            better(
                "mse_after_1",
                _ONE,
                "MAML trained with one step of 0.01, against pretraining on the same waves and against untrained "
                "weights, both with the rate of fine-tuning that is best on other tasks",
                against(WAVES, "maml", "pretraining", "fine-tuning"),
            ),
        ),
        (
            "maml-one-step",
            "MAML",
            "error after one step",
            OURS,
            "The squared error after one step is at most 1.1, where the best prediction that ignores the task has 3.0.",
            value("mse_after_1", f"The {_ONE}", WAVES, "maml", 0.0, 1.1, "at or below 1.1"),
        ),
        (
            "maml-half-of-pretraining",
            "MAML",
            "half of pretraining's error",
            OURS,
            "The squared error after one step is at most half of pretraining's.",
            _half("mse_after_1", 0.5, Comparison(WAVES, "maml", "pretraining")),
        ),
        (
            "maml-ten-steps",
            "MAML",
            "error after ten steps",
            OURS,
            "The squared error after ten steps is at most 0.5.",
            value("mse_after_10", f"The {_TEN}", WAVES, "maml", 0.0, 0.5, "at or below 0.5"),
        ),
        (
            "maml-more-steps",
            "MAML",
            "more steps are better",
            TEXT,
            "More inner steps are more accurate: 20 than 10, 10 than 5, 5 than 1.",
            columns(
                tuple(f"mse_after_{n}" for n in (1, 5, 10, 20)),
                "The squared error after 5 steps against 1, 10 against 5, and 20 against 10, for MAML trained with one "
                "step and with five",
                WAVES,
                "maml",
                "maml-5-steps",
            ),
        ),
        (
            "maml-more-steps-trained",
            "MAML",
            "five trained steps",
            TEXT,
            "Five inner steps in training are better than one.",
            better(
                "mse_after_10",
                _TEN,
                "MAML trained with five steps against one step, with two fifths of its meta-batches, which take about "
                "as long",
                against(WAVES, "maml-5-steps", "maml"),
            ),
        ),
        (
            "maml-larger-steps",
            "MAML",
            "a step of 0.1 is faster",
            TEXT,
            "An inner learning rate of 0.1 is faster than one of 0.01.",
            better(
                "mse_after_1",
                _ONE,
                "MAML with an inner rate of 0.1 against 0.01",
                against(WAVES, "maml-lr-0.1", "maml"),
            ),
        ),
        (
            "maml-unstable-steps",
            "MAML",
            "a step of 0.5 is unstable",
            TEXT,
            "An inner learning rate of 0.5 is unstable.",
            value(
                "diverged",
                "The share of new waves on which twenty steps of 0.5, from weights trained with them, end in an error "
                "of 25 or more",
                WAVES,
                "maml-lr-0.5",
                0.05,
                1.0,
                "at or above 5 %",
            ),
        ),
        (
            "maml-second-order",
            "MAML",
            "second derivatives pay",
            TEXT,
            "MAML takes second-order gradients into account; it is better for it.",
            better(
                "mse_after_1",
                _ONE,
                "MAML against first-order MAML, with as many meta-batches",
                against(WAVES, "maml", "maml-first-order"),
            ),
        ),
        (
            "reptile-effective",
            "Reptile",
            "simple and effective",
            TEXT,
            "Reptile is simple and effective.",
            better(
                "mse_after_10",
                _TEN,
                "Reptile, with a fifth of the meta-batches, against pretraining with the rate of fine-tuning that is "
                "best on other tasks",
                against(WAVES, "reptile", "pretraining"),
            ),
        ),
        (
            "meta-sgd-learns-steps",
            "Meta-SGD",
            "learned steps are better",
            TEXT,
            "Meta-SGD learns step sizes.",
            better(
                "mse_after_1",
                _ONE,
                "Meta-SGD against MAML, both trained with one step and as many meta-batches",
                against(WAVES, "meta-sgd", "maml"),
            ),
        ),
    )
)
