"""The claims on learning from a few examples, and their rules: the text's (M3, M7, P1, P2), and ours."""

from __future__ import annotations

from advanced_optimizers.experiments.studies.claims.meta_learning import (
    OURS,
    TEXT,
    against,
    better,
    claim,
    columns,
    value,
)

DRAWINGS, STUDY = "omniglot-few-shot", "meta-few-shot"
ONE_SHOT, FIVE_SHOT, UNEVEN = "accuracy_5_way_1_shot", "accuracy_5_way_5_shot", "accuracy_uneven"

_OF_FIVE = "accuracy with 5 ways and {}"
_ONE_NAME, _FIVE_NAME = _OF_FIVE.format("1 shot"), _OF_FIVE.format("5 shots")

CLAIMS = tuple(
    claim(key, method, short, STUDY, source, text, rule)
    for key, method, short, source, text, rule in (
        (
            "maml-more-steps-characters",
            "MAML",
            "more steps, large ones",
            TEXT,
            "More inner steps are more accurate, also where the steps are large.",
            columns(
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
            columns(
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
            better(
                ONE_SHOT,
                _ONE_NAME,
                "prototypical networks against the nearest mean of raw pixels",
                against(DRAWINGS, "prototypes", "few-shot-pixels", claimed=0.20),
                ", or it gains less than 20 points (a paired t-test against that gain)",
            ),
        ),
        (
            "prototypes-one-shot",
            "Prototypes",
            "88 % of one shot",
            OURS,
            "Prototypical networks reach 88 % with 5 ways and 1 shot.",
            value(ONE_SHOT, f"The {_ONE_NAME}", DRAWINGS, "prototypes", 0.88, 1.0, "at or above 88 %"),
        ),
        (
            "prototypes-five-shot",
            "Prototypes",
            "96 % of five shots",
            OURS,
            "Prototypical networks reach 96 % with 5 ways and 5 shots.",
            value(FIVE_SHOT, f"The {_FIVE_NAME}", DRAWINGS, "prototypes", 0.96, 1.0, "at or above 96 %"),
        ),
        (
            "prototypes-in-seconds",
            "Prototypes",
            "in 30 seconds",
            OURS,
            "That takes less than 30 seconds of one processor core.",
            value(
                "training_seconds", "The CPU seconds of training", DRAWINGS, "prototypes", 0.0, 30.0, "at or below 30"
            ),
        ),
        (
            "prototypes-beat-classifier",
            "Prototypes",
            "better than a classifier",
            OURS,
            "Training on episodes is better than training a classifier of all classes.",
            better(
                ONE_SHOT,
                _ONE_NAME,
                "prototypical networks against the nearest mean of the features of a classifier, trained on as many "
                "drawings",
                against(DRAWINGS, "prototypes", "few-shot-classifier"),
            ),
        ),
        (
            "prototypes-squared",
            "Prototypes",
            "squared distances",
            OURS,
            "Squared Euclidean distances are better than cosines.",
            better(
                ONE_SHOT,
                _ONE_NAME,
                "squared Euclidean distances against ten times the cosine",
                against(DRAWINGS, "prototypes", "prototypes-cosine"),
            ),
        ),
        (
            "prototypes-more-ways",
            "Prototypes",
            "train with more ways",
            OURS,
            "Training with more ways than are tested is better.",
            better(
                ONE_SHOT,
                _ONE_NAME,
                "training with 20 ways against 5, as many episodes",
                against(DRAWINGS, "prototypes", "prototypes-5-way"),
            ),
        ),
        (
            "matching-temperature",
            "Matching",
            "temperature",
            OURS,
            "Ten times the cosine is better than the cosine as published.",
            better(
                ONE_SHOT,
                _ONE_NAME,
                "matching networks with a temperature of 10 against 1",
                against(DRAWINGS, "matching", "matching-as-published"),
            ),
        ),
        (
            "matching-full-context",
            "Matching",
            "full context",
            OURS,
            "Embeddings in the light of the whole support set are better.",
            better(
                ONE_SHOT,
                _ONE_NAME,
                "matching networks with full context against without, both with a temperature of 10",
                against(DRAWINGS, "matching-full-context", "matching"),
            ),
        ),
        (
            "prototypes-beat-matching",
            "Prototypes",
            "better than matching",
            OURS,
            "With five shots, means of classes are better than single examples.",
            better(
                FIVE_SHOT,
                _FIVE_NAME,
                "prototypical networks against matching networks with a temperature of 10",
                against(DRAWINGS, "prototypes", "matching"),
            ),
        ),
    )
)
