"""Captions that are made, pairs that may not belong, and the study of fusion on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from advanced_optimizers.experiments.data import load
from advanced_optimizers.experiments.data.captions import Captioner, pair_up, shapes
from advanced_optimizers.experiments.evidence.comparisons import RunData
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.tables.tables import metrics_table
from advanced_optimizers.experiments.studies.claims.multimodal import MATCHING, joint_alone
from advanced_optimizers.experiments.studies.multimodal_runs import (
    FUSIONS,
    FusionRun,
    Trained,
    build,
    fusion_dim_for,
    parameters_used,
    read_sets,
)
from advanced_optimizers.experiments.studies.registry import get_study
from advanced_optimizers.experiments.studies.running import run_study
from advanced_optimizers.experiments.studies.tuned_kind import TRIAL_SEED, RatedStudy
from advanced_optimizers.experiments.studies.tuning import best_trial
from advanced_optimizers.experiments.training.kinds import perform

# ---- captions -------------------------------------------------------------------------------------------------------


def bar(lean: float = 0.0, thickness: int = 2, at: int = 8) -> Tensor:
    """A bar that leans to the right by so many pixels per row, (1, 20, 20, 1)."""
    image = torch.zeros(1, 20, 20, 1, dtype=torch.uint8)
    for y in range(4, 16):
        x = at + round(lean * (y - 10))
        image[0, y, x : x + thickness] = 255
    return image


def test_shapes_are_slant_mass_and_width() -> None:
    (slant, mass, width), (leaning, _, wider), (_, heavier, thicker) = shapes(
        torch.cat([bar(), bar(lean=0.5), bar(thickness=4)])
    ).tolist()
    assert (slant, mass, width) == pytest.approx((0.0, 24.0, 0.5), abs=1e-4)
    assert leaning == pytest.approx(0.5, abs=0.05)
    assert wider > width
    assert (heavier, thicker) == pytest.approx((48.0, 1.25**0.5), abs=1e-3)
    assert torch.allclose(shapes(bar(lean=0.5, at=11)), shapes(bar(lean=0.5)), atol=1e-3)  # wherever it stands
    assert shapes(torch.zeros(1, 20, 20, 1, dtype=torch.uint8)).tolist() == [[0.0, 0.0, 0.0]]


def test_a_caption_has_the_class_and_a_third_of_each_kind() -> None:
    digits = load("digits")
    captioner = Captioner.of(digits.images, digits.num_classes)
    captions = captioner.describe(digits.images, digits.labels)
    assert captioner.vocabulary == 19
    assert captions.shape == (len(digits.labels), 4)
    assert captions[:, 0].equal(digits.labels)
    for place, first in enumerate((10, 13, 16), start=1):
        share = captions[:, place].bincount(minlength=19)[first : first + 3] / len(captions)
        assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.02)
        assert share.sum() == pytest.approx(1.0)
    assert captioner.text(torch.tensor([7, 10, 15, 17])) == "7, leaning right, heavy, of average width"


def test_half_of_the_pairs_are_wrong_and_nothing_shows_in_one_of_the_two(rng: torch.Generator) -> None:
    captions = torch.randint(0, 40, (20_000, 1), generator=rng)
    given, belongs = pair_up(captions, rng)
    assert belongs.equal((given == captions).all(dim=1))
    assert float(belongs.float().mean()) == pytest.approx(0.5 + 0.5 / 40, abs=0.01)  # another image may have the same
    for seen in (captions, given):
        rates = [float(belongs[seen[:, 0] == word].float().mean()) for word in range(40)]
        assert max(rates) - min(rates) < 0.15
    assert bool(pair_up(torch.zeros(50, 4, dtype=torch.int64), rng)[1].all())


# ---- runs -----------------------------------------------------------------------------------------------------------


def tiny(algorithm: str = "fusion-intermediate", **fields: object) -> FusionRun:
    run = FusionRun(
        algorithm=algorithm,
        hyperparameters={"lr": 2e-3},
        dataset="digits",
        images=200,
        steps=8,
        batch_size=32,
        shrink=1,
    )
    return replace(run, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", FUSIONS)
def test_every_algorithm_has_as_many_parameters(algorithm: str) -> None:
    wanted = sum(p.numel() for p in build("fusion-attention", 196, 19, 32).parameters())
    model = build(algorithm, 196, 19, fusion_dim_for(algorithm, 196, 19))
    assert sum(p.numel() for p in parameters_used(algorithm, model)) == pytest.approx(wanted, rel=0.005)


@pytest.mark.parametrize(("algorithm", "unseen"), [("fusion-image", "words"), ("fusion-text", "images")])
def test_a_modality_that_is_not_seen_changes_nothing(algorithm: str, unseen: str) -> None:
    run = tiny(algorithm)
    sets = read_sets(run)
    trained, joint = (Trained(replace(run, algorithm=name), sets, "cpu") for name in (algorithm, "fusion-late"))
    images, words = sets.test.images[:20], torch.eye(19)[sets.test.captions[:20]]
    other = (images.flip(0), words) if unseen == "images" else (images, words.flip(0))
    assert trained.scores(images, words).equal(trained.scores(*other))
    assert not joint.scores(images, words).equal(joint.scores(*other))


def test_runs_repeat_bit_for_bit_and_share_their_pairs() -> None:
    for goal in ("matching", "parity", "retrieval"):
        first, second = (perform(tiny(goal=goal), torch.device("cpu")) for _ in range(2))
        assert first.outcome() == second.outcome()
    one, other = read_sets(tiny()), read_sets(tiny("fusion-attention"))
    assert one.test.captions.equal(other.test.captions)
    assert not one.test.captions.equal(read_sets(tiny(seed=1)).test.captions)


def test_a_trial_is_measured_on_training_images_that_it_does_not_train_on() -> None:
    digits, trial = load("digits"), tiny(held_out=True)
    assert trial.split == "validation"
    sets = read_sets(trial)
    assert len(sets.test.images) == len(digits.images) - 200
    trained = {tuple(row) for row in sets.train.images.tolist()}
    assert sum(tuple(row) in trained for row in sets.test.images.tolist()) <= 2  # the digits hold an image twice


# ---- the study ------------------------------------------------------------------------------------------------------


def test_each_algorithm_runs_with_the_rate_of_its_best_trial(tmp_path: Path) -> None:
    quick = get_study("multimodal", "quick")
    assert isinstance(quick, RatedStudy)
    names = ("fusion-intermediate", "fusion-image")
    task = replace(
        quick.tasks[0], config=lambda algorithm, seed: tiny(algorithm, seed=seed), task="digits-matching-200"
    )
    own = replace(quick, tasks=(task,), algorithms=names, seeds=(0,), rates=(1e-5, 1e-2))
    store = RunStore(tmp_path / "results" / "runs")
    assert run_study(own, store, progress=False).trained == 4 + 2
    for config in own.final_configs(store):
        trials = [store.load(trial) for trial in own.trials(task, config.algorithm)]
        best = best_trial([trial for trial in trials if trial is not None])
        assert config.hyperparameters == best.config.hyperparameters
        assert (config.split, best.config.split, best.config.seed) == ("test", "validation", TRIAL_SEED)


def frame(**means: tuple[float, float]) -> RunData:
    """Five runs per algorithm with this accuracy, and this much above the base rate."""
    rows = [
        {
            "task": MATCHING,
            "algorithm": f"fusion-{name}",
            "label_noise": 0.0,
            "split": "test",
            "seed": seed,
            "status": "completed",
            "run_id": f"{name}{seed}",
            "test_accuracy": accuracy + 1e-3 * seed,
            "over_base_rate": above + 1e-3 * seed,
        }
        for name, (accuracy, above) in means.items()
        for seed in range(5)
    ]
    return RunData(pd.DataFrame(rows))


def test_one_table_has_every_metric_of_every_algorithm() -> None:
    data = frame(product=(0.8, 0.3), late=(0.5, 0.0))
    table = metrics_table(data.frame, ("test_accuracy", "over_base_rate"), labels=labels())
    assert table.to_dict("records") == [
        {
            "Algorithm": "Late fusion",
            "Test accuracy (%)": "50.20 ± 0.20",
            "Accuracy above the base rate (points)": "0.20 ± 0.20",
        },
        {
            "Algorithm": "Product",
            "Test accuracy (%)": "80.20 ± 0.20",
            "Accuracy above the base rate (points)": "30.20 ± 0.20",
        },
    ]


@pytest.mark.parametrize(
    ("joint", "late", "status"),
    [
        ((0.84, 0.33), (0.5, -0.01), "supported"),
        ((0.76, 0.25), (0.5, -0.01), "not supported"),  # below 78 %
        ((0.84, 0.33), (0.6, 0.10), "not supported"),  # what cannot know anything does
        ((0.778, 0.27), (0.5, -0.01), "inconclusive"),
    ],
)
def test_joint_models_must_know_what_others_cannot(
    joint: tuple[float, float], late: tuple[float, float], status: str
) -> None:
    data = frame(product=joint, late=late)
    assert joint_alone(data, joint=("fusion-product",), alone=("fusion-late",)).status == status
    assert joint_alone(data, joint=("fusion-product", "fusion-early"), alone=("fusion-late",)).status == "pending"
