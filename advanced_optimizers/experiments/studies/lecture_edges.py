"""The lecture's choices at the edge of their range, tuned again in a range that is moved by an octave."""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, each
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.tunings import decide_same_outcomes, same_outcomes_rule
from advanced_optimizers.experiments.studies import lecture_augmentation as augmentation
from advanced_optimizers.experiments.studies import lecture_optimizers as optimizers
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuning import moved
from advanced_optimizers.experiments.studies.variants import MovedRanges, Variant, variants_in_both_profiles

_MODEL = "mlp128"
RMSPROP = "lecture-rmsprop"
_MARGIN, _MARGIN_WORDS = 0.005, "half a point"


def _study(name: str, title: str, topic: Topic, study: str, algorithm: str, octaves: int) -> tuple[MovedRanges, ...]:
    """The comparison of another study, once as it is and once with one algorithm's range of rates moved."""
    full, quick = (
        next(own for own in topic.studies if isinstance(own, Study) and (own.name, own.profile) == (study, profile))
        for profile in ("full", "quick")
    )
    space = topic.algorithms[algorithm].search_space["lr"]
    ranges = {(_MODEL, algorithm): {"lr": moved(space, octaves)}}
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
            RMSPROP,
            octaves=-1,
        ),
        *_study(
            "lecture-augmentation-moved",
            "Does the rate without augmentation at the edge of its range change an outcome?",
            augmentation.TOPIC,
            "lecture-augmentation",
            augmentation.PLAIN,
            octaves=1,
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
    ),
)
