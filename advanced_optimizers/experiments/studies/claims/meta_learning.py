"""The claims on learning to learn, and the rules that decide them: the text's (M2 to M8, P1, P2), and ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.rules import compare_metric
from advanced_optimizers.experiments.evidence.stated import value_rule, value_within
from advanced_optimizers.experiments.evidence.within_runs import compare_columns, compare_ratio

TEXT, OURS = "text on AutoML", "our question"

WAVES, DRAWINGS = "sinusoid-10-shot", "omniglot-few-shot"
WAVES_STUDY, DRAWINGS_STUDY = "meta-sinusoid", "meta-few-shot"
ONE_SHOT, FIVE_SHOT, UNEVEN = "accuracy_5_way_1_shot", "accuracy_5_way_5_shot", "accuracy_uneven"

# The largest differences that do not matter: of an error, a fiftieth of what a prediction of zero has; of an accuracy,
# about three standard errors of 300 episodes.
ERROR, ACCURACY = 0.08, 0.01
_MARGINS = {WAVES: ERROR, DRAWINGS: ACCURACY}
_MARGIN_WORDS = {WAVES: "0.08", DRAWINGS: "1 point"}


def _against(task: str, algorithm: str, *baselines: str, claimed: float | None = None) -> tuple[Comparison, ...]:
    margin = _MARGINS[task] if claimed is None else None
    return tuple(Comparison(task, algorithm, baseline, margin=margin, claimed=claimed) for baseline in baselines)


def _better(
    metric: str, name: str, compared: str, comparisons: tuple[Comparison, ...], size: str = ""
) -> dict[str, object]:
    """The rule, in words and as a function, of a claim that a metric improves."""
    words = improvement_rule(name, compared, "" if size else _MARGIN_WORDS[comparisons[0].task], size)
    words = words.replace("of the last epoch on the test set, ", "on tasks that were not trained on, ")
    return {"rule": words, "decide": partial(compare_metric, metric=metric, comparisons=comparisons)}


def _value(metric: str, name: str, task: str, algorithm: str, low: float, high: float, words: str) -> dict[str, object]:
    """The rule, in words and as a function, of a claim that a mean lies in a range."""
    decide = partial(value_within, metric=metric, task=task, algorithm=algorithm, low=low, high=high)
    return {"rule": value_rule(name, words), "decide": decide}


def _columns(metrics: tuple[str, ...], name: str, task: str, *algorithms: str) -> dict[str, object]:
    """The rule, in words and as a function, of a claim about quantities of the same runs."""
    words = (
        f"{name}, on the same runs, paired by seed (at least {MIN_SEEDS}), by a paired t-test at the level 0.05. "
        "Supported: every difference is in the claim's favor; all of them must be, so none is corrected. Not "
        "supported: one is against it, or equivalent within the margin by two one-sided tests "
        f"({_MARGIN_WORDS[task]}); one is enough, so each kind of test has Holm's correction. Otherwise inconclusive."
    )
    decide = partial(compare_columns, metrics=metrics, task=task, algorithms=algorithms, margin=_MARGINS[task])
    return {"rule": words, "decide": decide}


def _half(metric: str, limit: float, comparison: Comparison) -> dict[str, object]:
    words = (
        "The squared error after one gradient step on ten points of a new wave, MAML's over that of pretraining, "
        f"paired by seed (at least {MIN_SEEDS}), with the 95 % interval of its geometric mean. Supported: the interval "
        f"ends at or below {limit:g}. Not supported: the ratio is above it by a t-test of its logarithm. Otherwise, "
        "and whenever a run diverged, inconclusive."
    )
    return {"rule": words, "decide": partial(compare_ratio, metric=metric, limit=limit, comparison=comparison)}


def _claim(key: str, method: str, short: str, study: str, source: str, text: str, rule: dict[str, object]) -> Claim:
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

_STEPS = tuple(
    _claim(key, method, short, WAVES_STUDY, source, text, rule)
    for key, method, short, source, text, rule in (
        (
            "maml-fast",
            "MAML",
            "adapts fast",
            TEXT,
            "MAML adapts fast to new tasks.",
            _better(
                "mse_after_1",
                _ONE,
                "MAML trained with one step of 0.01, against pretraining on the same waves and against untrained "
                "weights, both with the rate of fine-tuning that is best on other tasks",
                _against(WAVES, "maml", "pretraining", "fine-tuning"),
            ),
        ),
        (
            "maml-one-step",
            "MAML",
            "error after one step",
            OURS,
            "The squared error after one step is at most 1.1, where the best prediction that ignores the task has 3.0.",
            _value("mse_after_1", f"The {_ONE}", WAVES, "maml", 0.0, 1.1, "at or below 1.1"),
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
            _value("mse_after_10", f"The {_TEN}", WAVES, "maml", 0.0, 0.5, "at or below 0.5"),
        ),
        (
            "maml-more-steps",
            "MAML",
            "more steps are better",
            TEXT,
            "More inner steps are more accurate: 20 than 10, 10 than 5, 5 than 1.",
            _columns(
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
            _better(
                "mse_after_10",
                _TEN,
                "MAML trained with five steps against one step, with two fifths of its meta-batches, which take about "
                "as long",
                _against(WAVES, "maml-5-steps", "maml"),
            ),
        ),
        (
            "maml-larger-steps",
            "MAML",
            "a step of 0.1 is faster",
            TEXT,
            "An inner learning rate of 0.1 is faster than one of 0.01.",
            _better(
                "mse_after_1",
                _ONE,
                "MAML with an inner rate of 0.1 against 0.01",
                _against(WAVES, "maml-lr-0.1", "maml"),
            ),
        ),
        (
            "maml-unstable-steps",
            "MAML",
            "a step of 0.5 is unstable",
            TEXT,
            "An inner learning rate of 0.5 is unstable.",
            _value(
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
            _better(
                "mse_after_1",
                _ONE,
                "MAML against first-order MAML, with as many meta-batches",
                _against(WAVES, "maml", "maml-first-order"),
            ),
        ),
        (
            "reptile-effective",
            "Reptile",
            "simple and effective",
            TEXT,
            "Reptile is simple and effective.",
            _better(
                "mse_after_10",
                _TEN,
                "Reptile, with a fifth of the meta-batches, against pretraining with the rate of fine-tuning that is "
                "best on other tasks",
                _against(WAVES, "reptile", "pretraining"),
            ),
        ),
        (
            "meta-sgd-learns-steps",
            "Meta-SGD",
            "learned steps are better",
            TEXT,
            "Meta-SGD learns step sizes.",
            _better(
                "mse_after_1",
                _ONE,
                "Meta-SGD against MAML, both trained with one step and as many meta-batches",
                _against(WAVES, "meta-sgd", "maml"),
            ),
        ),
    )
)

_OF_FIVE = "accuracy with 5 ways and {}"
_ONE_NAME, _FIVE_NAME = _OF_FIVE.format("1 shot"), _OF_FIVE.format("5 shots")

_EXAMPLES = tuple(
    _claim(key, method, short, DRAWINGS_STUDY, source, text, rule)
    for key, method, short, source, text, rule in (
        (
            "maml-more-steps-characters",
            "MAML",
            "more steps, large ones",
            TEXT,
            "More inner steps are more accurate, also where the steps are large.",
            _columns(
                tuple(f"{ONE_SHOT}_after_{n}" for n in (1, 3, 5)),
                "The accuracy with 5 ways and 1 shot after 3 steps of 0.4 against 1, and after 5 against 3, for MAML "
                "trained with one step",
                DRAWINGS,
                "maml-characters",
            ),
        ),
        (
            "meta-balanced",
            "Few-shot",
            "balanced examples",
            TEXT,
            "A balanced support set is recommended.",
            _columns(
                (UNEVEN, FIVE_SHOT),
                "The accuracy with 5 examples of each of 5 classes against 1, 2, 4, 8 and 10, for MAML and for "
                "prototypes",
                DRAWINGS,
                "maml-characters",
                "prototypes",
            ),
        ),
        (
            "prototypes-above-pixels",
            "Prototypes",
            "above pixels",
            TEXT,
            "Prototypical networks learn few-shot classification; our measure: 20 points above the nearest mean of "
            "pixels.",
            _better(
                ONE_SHOT,
                _ONE_NAME,
                "prototypical networks against the nearest mean of raw pixels",
                _against(DRAWINGS, "prototypes", "few-shot-pixels", claimed=0.20),
                ", or it gains less than 20 points (a paired t-test against that gain)",
            ),
        ),
        (
            "prototypes-one-shot",
            "Prototypes",
            "88 % of one shot",
            OURS,
            "Prototypical networks reach 88 % with 5 ways and 1 shot.",
            _value(ONE_SHOT, f"The {_ONE_NAME}", DRAWINGS, "prototypes", 0.88, 1.0, "at or above 88 %"),
        ),
        (
            "prototypes-five-shot",
            "Prototypes",
            "96 % of five shots",
            OURS,
            "Prototypical networks reach 96 % with 5 ways and 5 shots.",
            _value(FIVE_SHOT, f"The {_FIVE_NAME}", DRAWINGS, "prototypes", 0.96, 1.0, "at or above 96 %"),
        ),
        (
            "prototypes-in-seconds",
            "Prototypes",
            "in 30 seconds",
            OURS,
            "That takes less than 30 seconds of one processor core.",
            _value(
                "training_seconds", "The CPU seconds of training", DRAWINGS, "prototypes", 0.0, 30.0, "at or below 30"
            ),
        ),
        (
            "prototypes-beat-classifier",
            "Prototypes",
            "better than a classifier",
            OURS,
            "Training on episodes is better than training a classifier of all classes.",
            _better(
                ONE_SHOT,
                _ONE_NAME,
                "prototypical networks against the nearest mean of the features of a classifier, trained on as many "
                "drawings",
                _against(DRAWINGS, "prototypes", "few-shot-classifier"),
            ),
        ),
        (
            "prototypes-squared",
            "Prototypes",
            "squared distances",
            OURS,
            "Squared Euclidean distances are better than cosines.",
            _better(
                ONE_SHOT,
                _ONE_NAME,
                "squared Euclidean distances against ten times the cosine",
                _against(DRAWINGS, "prototypes", "prototypes-cosine"),
            ),
        ),
        (
            "prototypes-more-ways",
            "Prototypes",
            "train with more ways",
            OURS,
            "Training with more ways than are tested is better.",
            _better(
                ONE_SHOT,
                _ONE_NAME,
                "training with 20 ways against 5, as many episodes",
                _against(DRAWINGS, "prototypes", "prototypes-5-way"),
            ),
        ),
        (
            "matching-temperature",
            "Matching",
            "temperature",
            OURS,
            "Ten times the cosine is better than the cosine as published.",
            _better(
                ONE_SHOT,
                _ONE_NAME,
                "matching networks with a temperature of 10 against 1",
                _against(DRAWINGS, "matching", "matching-as-published"),
            ),
        ),
        (
            "matching-full-context",
            "Matching",
            "full context",
            OURS,
            "Embeddings in the light of the whole support set are better.",
            _better(
                ONE_SHOT,
                _ONE_NAME,
                "matching networks with full context against without, both with a temperature of 10",
                _against(DRAWINGS, "matching-full-context", "matching"),
            ),
        ),
        (
            "prototypes-beat-matching",
            "Prototypes",
            "better than matching",
            OURS,
            "With five shots, means of classes are better than single examples.",
            _better(
                FIVE_SHOT,
                _FIVE_NAME,
                "prototypical networks against matching networks with a temperature of 10",
                _against(DRAWINGS, "prototypes", "matching"),
            ),
        ),
    )
)

CLAIMS = _STEPS + _EXAMPLES
