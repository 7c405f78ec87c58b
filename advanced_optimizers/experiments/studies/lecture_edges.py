"""The lecture's choices at the edge of their range, tuned again in a range that is moved by an octave."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, each
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.tunings import decide_same_outcomes, same_outcomes_rule
from advanced_optimizers.experiments.studies import lecture_augmentation as augmentation
from advanced_optimizers.experiments.studies import lecture_optimizers as optimizers
from advanced_optimizers.experiments.studies import lecture_regularizers as regularizers
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuning import moved
from advanced_optimizers.experiments.studies.variants import MovedRanges, Variant, variants_in_both_profiles

RMSPROP, BATCH_NORM = "lecture-rmsprop", "lecture-batch-norm"
_MARGIN, _MARGIN_WORDS = 0.005, "half a point"


def _study(
    name: str, title: str, topic: Topic, study: str, moves: Mapping[str, tuple[str, int]]
) -> tuple[MovedRanges, ...]:
    """The comparison of another study, once as it is and once with moved ranges.

    Args:
        name: Name of the new study.
        title: Its question.
        topic: The topic of the other study.
        study: Name of the other study.
        moves: By algorithm, the hyperparameter whose range is moved, and by how many octaves.
    """
    full, quick = (
        next(own for own in topic.studies if isinstance(own, Study) and (own.name, own.profile) == (study, profile))
        for profile in ("full", "quick")
    )
    spaces = {algorithm: topic.algorithms[algorithm].search_space for algorithm in moves}
    ranges = {
        (task.model, algorithm): {moving: moved(spaces[algorithm][moving], octaves)}
        for task in (*full.tasks, *quick.tasks)
        for algorithm, (moving, octaves) in moves.items()
    }
    return variants_in_both_profiles(
        MovedRanges,
        name=name,
        title=title,
        full=full.tasks,
        quick=quick.tasks,
        algorithms=full.algorithms,
        variants={"stated": Variant(), "moved": Variant(ranges=ranges)},
    )


def _claim(study: str, short: str, text: str, comparisons: tuple[Comparison, ...]) -> Claim:
    return Claim(
        key=f"{study}-{comparisons[0].task}",
        method="Tuning",
        short=short,
        study=study,
        text=text,
        source="our control",
        rule=same_outcomes_rule(comparisons, _MARGIN_WORDS),
        decide=partial(decide_same_outcomes, comparisons=comparisons, variants=("stated", "moved")),
    )


def _regularized(*algorithms: str) -> tuple[Comparison, ...]:
    return each(
        dict.fromkeys(algorithms, regularizers.PLAIN), (regularizers.TASK,), margins={regularizers.TASK: _MARGIN}
    )


_AUGMENTATIONS = dict.fromkeys((*augmentation.MODERATE, *augmentation.TOO_MUCH), augmentation.PLAIN)

TOPIC = Topic(
    title="Lecture: edges of ranges",
    algorithms={},
    studies=(
        *_study(
            "lecture-optimizers-moved",
            "Does RMSprop's rate at the edge of its range change an outcome?",
            optimizers.TOPIC,
            "lecture-optimizers",
            {RMSPROP: ("lr", -1)},
        ),
        *_study(
            "lecture-augmentation-moved",
            "Does the rate without augmentation at the edge of its range change an outcome?",
            augmentation.TOPIC,
            "lecture-augmentation",
            {augmentation.PLAIN: ("lr", 1)},
        ),
        *_study(
            "lecture-regularizers-300-moved",
            "Do strengths and rates at the edge of their range change an outcome, with 300 images?",
            regularizers.TOPIC,
            "lecture-regularizers-300",
            {"lecture-l1": ("strength", -1), "lecture-l2": ("strength", -1), BATCH_NORM: ("lr", 1)},
        ),
        *_study(
            "lecture-regularizers-moved",
            "Does batch normalization's rate at the edge of its range change an outcome, with 5,000 images?",
            regularizers.TOPIC,
            "lecture-regularizers",
            {BATCH_NORM: ("lr", 1)},
        ),
    ),
    claims=(
        _claim(
            "lecture-optimizers-moved",
            "edges do not matter, RMSprop",
            "On mnist-mlp128, RMSprop's choice at the edge of its range does not change its outcome.",
            each({RMSPROP: optimizers.GD}, (optimizers.TASK,), margins={optimizers.TASK: _MARGIN}),
        ),
        _claim(
            "lecture-augmentation-moved",
            "edges do not matter, augmentation",
            "On mnist-mlp128, the choice at the edge of the range without augmentation changes no outcome.",
            each(_AUGMENTATIONS, (augmentation.TASK,), margins={augmentation.TASK: _MARGIN}),
        ),
        _claim(
            "lecture-regularizers-300-moved",
            "edges do not matter, 300 images",
            "On mnist-mlp, with 300 images, choices at the edge of a range change no outcome.",
            _regularized("lecture-l1", "lecture-l2", BATCH_NORM),
        ),
        _claim(
            "lecture-regularizers-moved",
            "edges do not matter, 5,000 images",
            "On mnist-mlp, with 5,000 images, the choice at the edge of a range changes no outcome.",
            _regularized(BATCH_NORM),
        ),
    ),
)
