"""Learners: every algorithm of the table trains, resumes bit for bit, and reports what it did."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers.experiments.studies.fer import FERLearner, FlippingLearner
from advanced_optimizers.experiments.studies.fer_stated import CorrectionLearner
from advanced_optimizers.experiments.studies.forward_signal import SigPropLearner
from advanced_optimizers.experiments.studies.gradient_correction import GradientCorrectionLearner
from advanced_optimizers.experiments.studies.localized_learning import LocalizedLearner
from advanced_optimizers.experiments.studies.localized_supervision import SupervisedLearner, UnsupervisedLearner
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, build_learner
from advanced_optimizers.experiments.training.learners import BackpropLearner, Setting
from advanced_optimizers.experiments.training.models import build_model
from tests.experiments_helpers import CONVNET, OWN_SCHEDULE, hyperparameters_of, make_config, model_of
from tests.learner_helpers import (
    AUGMENTING,
    BITWISE,
    NOT_AS_PREDICTED,
    OF_EACH_KIND,
    SAMPLES,
    STEPS,
    cross_entropy,
    every_kind,
    every_kind_and_network,
    every_scheduled_kind,
    loaded,
    make_batches,
    make_learner,
    saved,
    train_epochs,
    weights_of,
)

# --- Every algorithm -------------------------------------------------------------------------------------------------


@every_kind
def test_training_lowers_the_cross_entropy(algorithm: str) -> None:
    learner = make_learner(algorithm, epochs=9, width=0.25)
    before = cross_entropy(learner)
    losses = train_epochs(learner, make_batches(), 1, 9)
    assert all(loss.shape == () and math.isfinite(loss) and not loss.requires_grad for loss in losses)
    assert before > 2.2  # no better than guessing
    # Few epochs on images that are moved by a quarter of their side, or turned around, teach little. So do gradients
    # that a box averages over hidden units, and over classes in the published code.
    slow = {"readout": 0.8, "conv-sgd": 0.8, "conv-v2": 0.8, "conv-v2-published": 0.98}
    share = 1.0 if algorithm in AUGMENTING else slow.get(algorithm, 0.5)
    assert cross_entropy(learner) < share * before


@every_kind_and_network({"schedule": "one-cycle"}, {"schedule": "constant", **CONVNET})
def test_a_restored_learner_takes_the_same_next_steps(algorithm: str, changes: dict[str, Any]) -> None:
    if algorithm in OWN_SCHEDULE and changes["schedule"] != "constant":
        pytest.skip("it has a schedule of its own, and refuses another")
    learner = make_learner(algorithm, **changes)
    train_epochs(learner, make_batches(1), 1, 2)
    other = make_learner(algorithm, seed=1, **changes)  # none of its state may remain
    other.load_state_dict(loaded(saved(learner)))
    torch.testing.assert_close(
        train_epochs(other, make_batches(2), 3, 4), train_epochs(learner, make_batches(2), 3, 4), **BITWISE
    )
    torch.testing.assert_close(weights_of(other), weights_of(learner), **BITWISE)
    assert other.end_epoch() == pytest.approx(learner.end_epoch(), rel=0, abs=0, nan_ok=True)


# The other networks have batch statistics, so their logits differ in training mode.
@pytest.mark.parametrize(
    "algorithm", [name for name in OF_EACH_KIND if model_of(name) == "mlp" and name not in NOT_AS_PREDICTED]
)
def test_a_step_counts_what_was_right_before_it(algorithm: str) -> None:
    learner = make_learner(algorithm)
    for batch in make_batches():
        expected = int((learner.predict(batch.images).argmax(dim=1) == batch.labels).sum())
        result = learner.step(batch)
        assert result.correct.shape == ()
        assert int(result.correct) == expected


@every_kind
def test_predicting_learns_nothing(algorithm: str) -> None:
    learner = make_learner(algorithm, **CONVNET)
    batches = list(make_batches())
    learner.step(batches[0])
    before = saved(learner)
    logits = learner.predict(batches[1].images)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    torch.testing.assert_close(learner.predict(batches[1].images), logits, **BITWISE)
    assert saved(learner) == before
    learner.step(batches[1])  # back in training mode: the running statistics move again
    means = {name: value for name, value in loaded(before)["model"].items() if name.endswith("running_mean")}
    assert means
    assert all(not torch.equal(learner.model.state_dict()[name], value) for name, value in means.items())


@pytest.mark.parametrize(
    ("algorithm", "off"), [("fer", {"fer_weight": 0.0}), ("flipping", {"gamma": 1.0})], ids=["fer", "flipping"]
)
@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_without_its_own_part_an_algorithm_is_its_baseline(algorithm: str, off: dict[str, float], base: str) -> None:
    lr = hyperparameters_of(base)
    plain = make_learner(base)
    turned_off = make_learner(f"{algorithm}-{base}", hyperparameters={**lr, **off})
    for learner in (plain, turned_off):
        train_epochs(learner, make_batches(), 1, 4)
    torch.testing.assert_close(weights_of(turned_off), weights_of(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam"])
def test_an_algorithms_own_part_changes_the_training(algorithm: str) -> None:
    learner, plain = make_learner(algorithm), make_learner(ALGORITHMS[algorithm].baseline or "")
    for each in (learner, plain):
        train_epochs(each, make_batches(), 1, 4)
    assert not any(torch.allclose(a, b) for a, b in zip(weights_of(learner), weights_of(plain), strict=True))


# --- What each kind reports ------------------------------------------------------------------------------------------


@every_kind
def test_the_lr_curve_is_the_schedules_rate_after_the_epoch(algorithm: str) -> None:
    learner = make_learner(algorithm)
    for epoch in (1, 2):
        train_epochs(learner, make_batches(), epoch, epoch)
        assert learner.end_epoch()["lr"] == learner.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("memory_size", [3, 50])
def test_consistency_is_the_mean_over_the_epochs_steps_that_are_kept(memory_size: int) -> None:
    learner = make_learner(
        "fer-sgd", hyperparameters={"lr": 0.1, "memory_size": memory_size, "consistency_threshold": 0.9}
    )
    assert math.isnan(learner.end_epoch()["consistency"])  # nothing to compare yet
    for epoch in (1, 2):
        cosines = []
        for batch in make_batches(epoch):
            learner.optimizer.zero_grad()
            memories = [learner.optimizer.state[p].get("memory") for p in learner.model.parameters()]
            memories = [None if m is None else m.clone() for m in memories]
            learner.step(batch)
            gradients = [p.grad for p in learner.model.parameters()]
            if None not in memories:
                pairs = zip(gradients, memories, strict=True)
                cosines.append(sum(float(F.cosine_similarity(g.ravel(), m.ravel(), 0)) for g, m in pairs) / 4)
        kept = cosines[-memory_size:]
        assert learner.end_epoch()["consistency"] == pytest.approx(sum(kept) / len(kept), abs=1e-5)
        assert len(cosines) == STEPS - (epoch == 1)


def test_ever_correct_is_the_share_of_samples_that_were_once_right() -> None:
    learner = make_learner("flipping-sgd")
    right: set[int] = set()
    for epoch in (1, 2):
        learner.start_epoch(epoch)
        for batch in make_batches(epoch):
            correct = learner.predict(batch.images).argmax(dim=1) == batch.labels
            learner.step(batch)
            right |= set(batch.indices[correct].tolist())
        assert learner.end_epoch()["ever_correct"] == pytest.approx(len(right) / SAMPLES)
    assert 0 < len(right) < SAMPLES


def test_the_flipping_loss_knows_the_epoch_and_the_length_of_the_run() -> None:
    learner = make_learner("flipping-sgd", epochs=4, hyperparameters={"lr": 0.1, "gamma": 0.2})
    learner.start_epoch(3)
    assert learner.criterion.weights() == pytest.approx((0.4, 0.6))


def test_gradient_correction_reports_what_it_adds_to_the_cosine_with_the_next_gradient() -> None:
    learner = make_learner("correction", hyperparameters={"lr": 0.005, "gcw_strength": 1.0, "train_every": 1})
    for epoch in (1, 2):
        train_epochs(learner, make_batches(), epoch, epoch)
        records = learner.optimizer.history[-STEPS:]
        curves = learner.end_epoch()
        known = [r for r in records if not math.isnan(r.plain_cosine)]
        assert curves["plain_cosine"] == pytest.approx(sum(r.plain_cosine for r in known) / len(known))
        gained = sum(r.corrected_cosine - r.plain_cosine for r in known) / len(known)
        assert curves["prediction_gain"] == pytest.approx(gained)
    assert curves["prediction_gain"] != 0.0


def test_each_algorithm_has_its_kind_of_learner() -> None:
    expected = {
        "sgd": BackpropLearner,
        "fer-sgd": FERLearner,
        "flipping-sgd": FlippingLearner,
        "adam": BackpropLearner,
        "fer-adam": FERLearner,
        "flipping-adam": FlippingLearner,
        "correction": GradientCorrectionLearner,
        "correction-hidden": GradientCorrectionLearner,
        "adam-longer": BackpropLearner,
        "adam-longest": BackpropLearner,
        "adam-wider": BackpropLearner,
        "readout": BackpropLearner,
        "sigprop": SigPropLearner,
        "localized-static": LocalizedLearner,
        "localized-static-half": LocalizedLearner,
        "localized-static-two": LocalizedLearner,
        "localized-dynamic": LocalizedLearner,
        "localized-frozen": LocalizedLearner,
        "localized-frozen-half": LocalizedLearner,
        "localized-frozen-two": LocalizedLearner,
        "localized-random": LocalizedLearner,
        "localized-unsupervised-default": UnsupervisedLearner,
        "localized-supervised-default": SupervisedLearner,
        "localized-reversed-default": SupervisedLearner,
        "localized-unsupervised-tenfold": UnsupervisedLearner,
        "localized-supervised-tenfold": SupervisedLearner,
        "localized-reversed-tenfold": SupervisedLearner,
        "standard-sgd": BackpropLearner,
        "fer-adam-stated": CorrectionLearner,
        "fer-adam-same-rate": CorrectionLearner,
        "fer-adam-full": CorrectionLearner,
        "flipping-sgd-stated": FlippingLearner,
        "flipping-adam-stated": FlippingLearner,
        "correction-shorter": GradientCorrectionLearner,
        "correction-hidden-shorter": GradientCorrectionLearner,
        "adam-shorter": BackpropLearner,
        "correction-weak": GradientCorrectionLearner,
        "correction-stated": GradientCorrectionLearner,
        "correction-hidden-weak": GradientCorrectionLearner,
        "correction-hidden-stated": GradientCorrectionLearner,
        "correction-hidden-gcw": GradientCorrectionLearner,
        "correction-hidden-gcode": GradientCorrectionLearner,
        "adam-slightly-wider": BackpropLearner,
    }
    assert {name: type(make_learner(name)) for name in expected} == expected


def test_readout_trains_the_last_layer_alone() -> None:
    learner = make_learner("readout", **CONVNET)
    before = {name: p.clone() for name, p in learner.model.named_parameters()}
    train_epochs(learner, make_batches(), 1, 1)
    moved = {name for name, p in learner.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, _ in list(learner.model.named_parameters())[-2:]}


def test_localized_learners_share_the_schedule_and_differ_in_the_rule() -> None:
    rules, curves = {}, {}
    for algorithm in ("localized-static", "localized-frozen", "localized-random"):
        learner = make_learner(algorithm, epochs=4, model="mlp2")
        rules[algorithm] = learner.optimizer.rule
        curves[algorithm] = []
        for epoch in range(1, 5):
            train_epochs(learner, make_batches(), epoch, epoch)
            curves[algorithm].append(learner.end_epoch()["transition"])
    assert list(rules.values()) == ["hebbian", "frozen", "random"]
    assert curves["localized-static"] == curves["localized-frozen"] == curves["localized-random"]
    assert curves["localized-static"][0] == 0.0 < curves["localized-static"][-1]
    assert make_learner("localized-dynamic").optimizer.rule == "hebbian"


# --- Schedule and precision ------------------------------------------------------------------------------------------


def rates_of(learner: Any, epochs: int) -> list[float]:
    """The learning rate of every step."""
    rates = []
    for _ in range(epochs):
        for batch in make_batches():
            rates.append(learner.optimizer.param_groups[0]["lr"])
            learner.step(batch)
    return rates


@every_scheduled_kind
def test_one_cycle_peaks_at_lr_and_ends_near_zero(algorithm: str) -> None:
    learner = make_learner(algorithm, epochs=8)
    lr = hyperparameters_of(algorithm)["lr"]
    rates = rates_of(learner, 8)
    peak = rates.index(max(rates))
    assert 0.99 * lr < max(rates) <= lr
    assert 0.25 < peak / len(rates) < 0.35
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 0.1 * lr
    assert 0 < rates[-1] < 0.01 * lr  # the last step still learns
    assert learner.end_epoch()["lr"] < 1e-4 * lr


def test_one_cycle_leaves_the_momentum_alone() -> None:
    learner = make_learner("sgd")
    train_epochs(learner, make_batches(), 1, 2)
    group = learner.optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_shortest_runs_have_a_schedule(epochs: int) -> None:
    config = make_config(epochs=epochs)
    model = build_model("mlp", (1, 8, 8), 10, 0.1)
    sizes = {"num_samples": 60, "num_classes": 10, "image_shape": (1, 8, 8), "steps_per_epoch": 1}
    setting = Setting(config=config, model=model, **sizes)
    learner: Any = build_learner(setting)
    for _, batch in zip(range(epochs), make_batches(), strict=False):
        rate = learner.optimizer.param_groups[0]["lr"]
        assert 0 < rate <= 0.1
        learner.step(batch)


@every_scheduled_kind
def test_a_constant_schedule_stays(algorithm: str) -> None:
    learner = make_learner(algorithm, schedule="constant")
    assert set(rates_of(learner, 2)) == {hyperparameters_of(algorithm)["lr"]}


@every_kind
def test_bfloat16_is_for_the_forward_pass_alone(algorithm: str) -> None:
    seen: set[torch.dtype] = set()
    learner = make_learner(algorithm, precision="bfloat16")
    first = next(module for module in learner.model.modules() if isinstance(module, nn.Linear))
    first.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    batches = list(make_batches())
    result = learner.step(batches[0])
    assert seen == {torch.bfloat16}
    assert result.loss.dtype == learner.predict(batches[1].images).dtype == torch.float32
    assert {p.dtype for p in learner.model.parameters()} == {torch.float32}
    state = [value for values in learner.optimizer.state.values() for value in values.values()]
    assert {value.dtype for value in state if isinstance(value, Tensor) and value.is_floating_point()} <= {
        torch.float32
    }


def test_float32_is_the_model_as_it_is() -> None:
    learner = make_learner("sgd")
    images = next(iter(make_batches())).images
    with torch.no_grad():
        torch.testing.assert_close(learner.predict(images), learner.model(images), **BITWISE)
