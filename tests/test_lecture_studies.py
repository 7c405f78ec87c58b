"""The lecture's studies: protocols, learners, and the comparisons that decide its statements."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.demonstrations.augmentation import augmented
from advanced_optimizers.experiments.evidence.comparisons import RunData
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies import lecture_augmentation, lecture_decay, lecture_regularizers
from advanced_optimizers.experiments.studies.lecture import layers_of
from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES, get_study
from advanced_optimizers.experiments.studies.study import Study
from tests.experiments_helpers import make_record
from tests.learner_helpers import STEPS, make_batches, make_learner

LECTURE = [s for s in STUDIES.values() if s.name.startswith("lecture")]
CLAIMED = {k: claim for k, claim in CLAIMS.items() if k.startswith("lecture") and "-moved-" not in k}


def test_all_of_the_summarys_studies_are_there() -> None:
    assert {study.name for study in LECTURE if not study.name.endswith("-moved")} == {
        "lecture-optimizers",
        "lecture-rates",
        "lecture-optimizers-64",
        "lecture-rates-64",
        "lecture-adam-rates",
        "lecture-decay",
        "lecture-augmentation",
        "lecture-regularizers-300",
        "lecture-regularizers",
    }
    assert len(CLAIMED) == 13
    for claim in CLAIMED.values():
        assert claim.source == "summary of a lecture", "a mistake may be the summarizer's"


@pytest.mark.parametrize("study", [s for s in LECTURE if isinstance(s, Study)], ids=lambda s: s.profile + s.name)
def test_trials_and_runs_see_as_many_images_for_as_long(study: Study) -> None:
    (task,) = study.tasks
    assert task.tuning_epochs == task.epochs, "schedule and augmentation show their effect only at full length"
    assert task.schedule == "constant"
    if task.dataset == "mnist":
        assert round(task.tuning_fraction * 54_000) == round(task.data_fraction * 60_000)


def test_no_small_batch_comes_right_before_a_test() -> None:
    """Studies in batches of 64 show what one does: they decide no claim."""
    left = {}
    for study in LECTURE:
        for task in (t for t in study.tasks if study.profile == "full" and t.dataset != "digits"):
            left[study.name] = round(task.data_fraction * 60_000) % task.batch_size
    odd = {"lecture-optimizers-64", "lecture-rates-64"}
    assert {name: count for name, count in left.items() if name not in odd} == dict.fromkeys(left.keys() - odd, 0)
    assert {left[name] for name in odd} == {8}
    assert not odd & {claim.study for claim in CLAIMED.values()}


def test_the_parts_of_mnist() -> None:
    sizes = {
        s.name: round(s.tasks[0].data_fraction * 60_000)
        for s in LECTURE
        if s.profile == "full" and isinstance(s, Study)
    }
    assert sizes == {
        "lecture-optimizers": 5000,
        "lecture-optimizers-64": 5000,
        "lecture-decay": 5000,
        "lecture-augmentation": 1000,
        "lecture-regularizers-300": 300,
        "lecture-regularizers": 5000,
    }


# ---- decay -----------------------------------------------------------------------------------------------------------


def rates_of(algorithm: str, epochs: int = 4) -> list[float]:
    learner = make_learner(algorithm, epochs=epochs, hyperparameters={"lr": 0.08}, schedule="constant")
    rates = []
    for _ in range(epochs):
        for batch in make_batches():
            rates.append(learner.optimizer.param_groups[0]["lr"])
            learner.step(batch)
    return rates


def test_the_rate_drops_after_each_quarter() -> None:
    quarter = STEPS
    assert rates_of("lecture-constant") == [0.08] * 4 * quarter
    for name, factor in (("lecture-halved", 0.5), ("lecture-tenth", 0.1)):
        expected = [0.08 * factor ** (step // quarter) for step in range(4 * quarter)]
        assert rates_of(name) == pytest.approx(expected)


def test_the_cosine_ends_near_zero() -> None:
    rates = rates_of("lecture-cosine")
    assert rates == pytest.approx([0.04 * (1 + math.cos(math.pi * t / len(rates))) for t in range(len(rates))])


# ---- augmentation ----------------------------------------------------------------------------------------------------


@pytest.fixture
def images() -> torch.Tensor:
    digits = data.load("digits")
    return next(iter(data.Batches(digits.images, digits.labels, digits.mean, digits.std, 64))).images


def test_without_moves_images_stay(images: torch.Tensor) -> None:
    torch.testing.assert_close(augmented(images), images, rtol=0, atol=1e-5)


def test_shifts_are_whole_pixels_and_bring_in_the_background(images: torch.Tensor) -> None:
    moved = augmented(images, shift=2, generator=torch.Generator().manual_seed(0))
    low = float(images.min())
    padded = F.pad(images - low, (2, 2, 2, 2)) + low
    shifted = [padded[:, :, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
    distances = torch.stack([(moved - other).abs().amax(dim=(1, 2, 3)) for other in shifted])
    assert float(distances.min(dim=0).values.max()) < 1e-4
    assert len(set(distances.argmin(dim=0).tolist())) > 15, "each image has its own shift"


def test_mirroring_is_exact_and_half_of_the_time(images: torch.Tensor) -> None:
    moved = augmented(images, flip=True, generator=torch.Generator().manual_seed(0))
    same, mirrored = ((moved - other).abs().amax(dim=(1, 2, 3)) < 1e-4 for other in (images, images.flip(-1)))
    assert bool((same | mirrored).all())
    assert 16 < int((mirrored & ~same).sum()) < 48


def test_a_rotation_stays_below_its_limit_and_keeps_the_middle() -> None:
    image = torch.zeros(200, 1, 33, 33)
    image[:, :, 16, 28] = 1.0
    moved = augmented(image, degrees=30.0, generator=torch.Generator().manual_seed(0))
    brightest = moved.flatten(1).argmax(dim=1)
    y, x = brightest // 33, brightest % 33
    angles = torch.atan2((y - 16).double(), (x - 16).double()).rad2deg()
    assert 20 < float(angles.abs().max()) < 33
    assert float(angles.min()) < -20 < 20 < float(angles.max())


def test_bad_moves_are_named(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="degrees must be"):
        augmented(images, degrees=181.0)
    with pytest.raises(ValueError, match="shift must be"):
        augmented(images, shift=-1)


def test_the_learner_trains_on_moved_images_and_predicts_on_those_that_are_not() -> None:
    learner = make_learner("lecture-shift-2")
    batch = next(iter(make_batches()))
    before = learner.predict(batch.images)
    torch.testing.assert_close(before, learner.predict(batch.images), rtol=0, atol=0)
    seen = []
    learner.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    learner.step(batch)
    assert not torch.equal(seen[0], batch.images)


# ---- regularizers ----------------------------------------------------------------------------------------------------


def regularized(name: str, **hyperparameters: float) -> lecture_regularizers.RegularizedLearner:
    learner = make_learner(name, width=0.1, hyperparameters={"lr": 3e-3, **hyperparameters}, schedule="constant")
    assert isinstance(learner, lecture_regularizers.RegularizedLearner)
    return learner


def test_dropout_and_batch_norm_are_torchs_layers_in_their_places() -> None:
    def kinds(name: str, **values: float) -> list[type]:
        return [type(layer) for layer in layers_of(regularized(name, **values).model)]

    assert kinds("lecture-dropout", strength=0.3) == [nn.Flatten, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert kinds("lecture-batch-norm") == [nn.Flatten, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    dropout = layers_of(regularized("lecture-dropout", strength=0.3).model)[3]
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.3


@pytest.mark.parametrize(("name", "power"), [("lecture-l1", 1), ("lecture-l2", 2)])
def test_penalties_are_of_the_weights_and_not_the_biases(name: str, power: int) -> None:
    learner, plain = regularized(name, strength=0.01), regularized(lecture_regularizers.PLAIN)
    batch = next(iter(make_batches()))
    logits = learner.predict(batch.images)
    weights = [p for n, p in learner.model.named_parameters() if n.endswith("weight")]
    penalty = 0.01 * sum(float((w.detach().abs() ** power).sum()) for w in weights)
    assert len(weights) == 2
    assert float(learner.loss(logits, batch).detach()) == pytest.approx(
        float(plain.loss(logits, batch)) + penalty, rel=1e-5
    )


def test_decay_is_decoupled() -> None:
    learner = regularized("lecture-decoupled", strength=0.2)
    assert isinstance(learner.optimizer, torch.optim.AdamW)
    assert learner.optimizer.param_groups[0]["weight_decay"] == 0.2


def test_max_norm_keeps_every_unit_within_its_limit() -> None:
    learner = regularized("lecture-max-norm", strength=0.5)
    for batch in make_batches():
        learner.step(batch)
    norms = torch.cat([w.detach().norm(dim=1) for w in learner.weights])
    assert float(norms.max()) <= 0.5 + 1e-6
    free = regularized(lecture_regularizers.PLAIN)
    assert float(torch.cat([w.detach().norm(dim=1) for w in free.weights]).max()) > 0.5


def test_l1_by_autograd_makes_weights_small_and_never_zero() -> None:
    learner = regularized("lecture-l1", strength=3e-3)
    for _ in range(10):
        for batch in make_batches():
            learner.step(batch)
    shares = learner.end_epoch()
    assert shares["zero_weights"] == 0.0
    assert shares["small_weights"] > 3 * regularized(lecture_regularizers.PLAIN).end_epoch()["small_weights"]


# ---- the claims ------------------------------------------------------------------------------------------------------


def records_of(study: str, accuracies: dict[str, float]) -> list[RunRecord]:
    """Made-up runs of a full study with one learning rate, and a tenth of a point of noise."""
    full = get_study(study, "full")
    assert isinstance(full, Study)
    (task,) = full.tasks
    return [
        make_record(
            task.run(name, {"lr": 0.1}, seed, 0.0),
            test_accuracy=accuracies.get(name, 0.9)
            + np.random.default_rng([seed, zlib.crc32(name.encode())]).normal(0, 1e-3),
        )
        for name in full.algorithms
        for seed in full.seeds
    ]


def status(claim: str, **accuracies: float) -> str:
    named = {f"lecture-{name.replace('_', '-')}": value for name, value in accuracies.items()}
    return CLAIMS[claim].decide(RunData(records_frame(records_of(CLAIMS[claim].study, named)))).status


def test_momentum_and_nesterov_both_have_to_be_better() -> None:
    assert status("lecture-momentum-tuned", momentum=0.95, nesterov=0.95) == "supported"
    assert status("lecture-momentum-tuned", momentum=0.95, nesterov=0.9) == "not supported"


def test_good_as_well_means_within_a_point() -> None:
    assert status("lecture-adaptive-good") == "supported"
    assert status("lecture-adaptive-good", adagrad=0.95) == "supported"
    assert status("lecture-adaptive-good", rmsprop=0.87) == "not supported"


def test_too_much_augmentation_has_to_be_worse_than_none() -> None:
    worse = dict.fromkeys(("shift_8", "rotation_180", "flip"), 0.8)
    assert status("lecture-augmentation-too-much", **worse) == "supported"
    assert status("lecture-augmentation-too-much", **{**worse, "flip": 0.95}) == "not supported"
    assert status("lecture-augmentation-helps", shift_1=0.93, shift_2=0.93, rotation_10=0.93) == "supported"


def test_every_regularizer_has_to_help() -> None:
    every = {name.removeprefix("lecture-").replace("-", "_"): 0.95 for name in lecture_regularizers.AGAINST_OVERFITTING}
    assert set(every) == {"dropout", "l2", "l1", "decoupled", "max_norm"}
    assert status("lecture-regularizers-few", **every) == "supported"
    assert status("lecture-regularizers-many", **{**every, "l1": 0.9}) == "not supported"


def test_decay_is_compared_with_a_constant_rate() -> None:
    assert status("lecture-decay-better", halved=0.93, tenth=0.93) == "supported"
    assert status("lecture-decay-better", halved=0.93, tenth=0.89) == "not supported"
    assert lecture_decay.CONSTANT == "lecture-constant"
    assert lecture_augmentation.PLAIN == "lecture-not-augmented"
    assert "on the training set" in CLAIMS["lecture-decay-loss"].rule


@pytest.mark.parametrize("key", CLAIMED)
def test_without_runs_a_claim_waits(key: str) -> None:
    assert CLAIMED[key].decide(RunData(records_frame([]))).status == "pending"
