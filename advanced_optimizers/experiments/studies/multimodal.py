"""Two modalities: ways to bring images and captions together, where neither alone says anything and where both do."""

from __future__ import annotations

from advanced_optimizers.experiments.evidence.metrics import Metric
from advanced_optimizers.experiments.studies.claims.multimodal import CLAIMS, MARGINS
from advanced_optimizers.experiments.studies.kind_study import KindTask
from advanced_optimizers.experiments.studies.multimodal_runs import FusionRun
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuned_kind import RatedStudy
from advanced_optimizers.experiments.training.algorithms import Algorithm

# Attention takes about four times as long per step; the control of equal time takes as many steps more.
LONGER = 4
RATES = (5e-4, 2e-3, 8e-3)


def _task(dataset: str, goal: str, images: int, steps: int, shrink: int) -> KindTask:
    def config(algorithm: str, seed: int) -> FusionRun:
        own = steps * LONGER if algorithm == "fusion-longer" else steps
        return FusionRun(
            algorithm=algorithm, seed=seed, dataset=dataset, goal=goal, images=images, steps=own, shrink=shrink
        )

    return KindTask(
        task=f"{dataset}-{goal}-{images}",
        reads=(dataset,),
        config=config,
        protocol={"Images": images, "Steps": steps, "Pairs per step": FusionRun.batch_size},
    )


def _studies(
    name: str, title: str, goal: str, sizes: tuple[int, ...], arms: tuple[str, ...], metrics: tuple[Metric, ...]
) -> tuple[RatedStudy, ...]:
    """A study in both profiles."""
    full = tuple(_task("mnist", goal, size, 600, 2) for size in sizes)
    quick = tuple(_task("digits", goal, size // 20, 20, 1) for size in sizes[:2])
    return tuple(
        RatedStudy(
            name=name,
            title=title,
            profile=profile,
            tasks=tasks,
            algorithms=tuple(f"fusion-{arm}" for arm in arms),
            seeds=seeds,
            rates=rates,
            metrics=("test_accuracy", *(metric.column for metric in metrics)),
            curves=("test_accuracy",),
        )
        for profile, tasks, seeds, rates in (("full", full, SEEDS, RATES), ("quick", quick, SEEDS[:2], RATES[1:2]))
    )


def _row(label: str, *, control: bool = False) -> Algorithm:
    return Algorithm(label=label, baseline="fusion-intermediate", timed=False, control=control)


_ALGORITHMS = {
    "fusion-intermediate": Algorithm(label="Concatenation", baseline=None, timed=False),
    "fusion-longer": _row(f"Concatenation, {LONGER} times the steps (control)", control=True),
    "fusion-image": _row("Image only (control)", control=True),
    "fusion-text": _row("Caption only (control)", control=True),
    "fusion-late": _row("Late fusion"),
    "fusion-early": _row("Early fusion"),
    "fusion-product": _row("Product"),
    "fusion-attention": _row("Cross-attention"),
    "fusion-contrastive": _row("Contrastive"),
    "fusion-shuffled": _row("Contrastive, shuffled captions (control)", control=True),
}

_CORRUPTED = (
    Metric("noisy_image_accuracy", "accuracy with noise on the images", True),
    Metric("missing_word_accuracy", "accuracy with a word missing", True),
)
# It only decides a claim: its differences are those of the accuracy.
_ABOVE = Metric("over_base_rate", "accuracy above the base rate", True, "points")
_FOUND = (
    Metric("recall_at_5", "recall at 5", True, best=1.0),
    Metric("recall_at_10", "recall at 10", True, best=1.0),
    Metric("recall_of_rare", "recall at 1 of rare captions", True, best=1.0),
    Metric("recall_of_common", "recall at 1 of common captions", True, best=1.0),
    Metric("digit_found", "accuracy of the digit in the caption found", True, best=1.0),
)

_STUDIES = (
    *_studies(
        "multimodal",
        "Does a caption belong to an image, by way of fusion?",
        "matching",
        (20_000,),
        ("intermediate", "longer", "image", "text", "late", "early", "product", "attention"),
        _CORRUPTED,
    ),
    *_studies(
        "multimodal-images",
        "Is cross-attention better than concatenation, and with how many images?",
        "matching",
        (20_000, 2000, 500),
        ("intermediate", "attention"),
        (),
    ),
    *_studies(
        "multimodal-parity",
        "Is a digit odd, by a noisy image and an unreliable caption?",
        "parity",
        (20_000,),
        ("intermediate", "image", "text", "late"),
        _CORRUPTED,
    ),
    *_studies(
        "multimodal-retrieval",
        "Which caption is the image's?",
        "retrieval",
        (20_000,),
        ("intermediate", "product", "contrastive", "shuffled"),
        _FOUND,
    ),
)

TOPIC = Topic(
    title="Two modalities",
    tasks={
        "mnist-matching-20000": "MNIST, matching, 20,000 images",
        "mnist-matching-2000": "MNIST, matching, 2,000 images",
        "mnist-matching-500": "MNIST, matching, 500 images",
        "mnist-parity-20000": "MNIST, parity",
        "mnist-retrieval-20000": "MNIST, retrieval",
    },
    algorithms=_ALGORITHMS,
    studies=_STUDIES,
    claims=CLAIMS,
    metrics=(_ABOVE, *_CORRUPTED, *_FOUND),
    margins={"test_accuracy": MARGINS},
)
