"""Learners: every algorithm of the table trains, resumes bit for bit, and refuses what it does not know."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers.experiments import data
from advanced_optimizers.experiments.algorithms import ALGORITHM_LABELS, ALGORITHMS, build_learner, get_algorithm
from advanced_optimizers.experiments.learners import (
    BackpropLearner,
    FERLearner,
    FlippingLearner,
    GradientCorrectionLearner,
    LocalizedLearner,
    Setting,
    SigPropLearner,
)
from advanced_optimizers.experiments.models import build_model
from tests.experiments_helpers import CONVNET, FOR_ANY_MODEL, hyperparameters_of, make_config

BITWISE = {"rtol": 0.0, "atol": 0.0}
SAMPLES = 360
BATCH_SIZE = 60
STEPS = SAMPLES // BATCH_SIZE

every_algorithm = pytest.mark.parametrize("algorithm", FOR_ANY_MODEL)


def make_learner(algorithm: str = "sgd", seed: int = 0, **changes: Any) -> Any:
    config = make_config(algorithm=algorithm, seed=seed, **{"epochs": 4, **changes})
    torch.manual_seed(seed)
    setting = Setting(
        config=config,
        model=build_model(config.model, (1, 8, 8), 10, config.width),
        num_samples=SAMPLES,
        num_classes=10,
        image_shape=(1, 8, 8),
        steps_per_epoch=STEPS,
    )
    return build_learner(setting)


def make_batches(seed: int = 0) -> data.Batches:
    digits = data.load("digits")
    images, labels = digits.images[:SAMPLES], digits.labels[:SAMPLES]
    generator = torch.Generator().manual_seed(seed)
    return data.Batches(images, labels, digits.mean, digits.std, BATCH_SIZE, generator=generator, shuffle=True)


def train_epochs(learner: Any, batches: data.Batches, first: int, last: int) -> list[Tensor]:
    losses = []
    for epoch in range(first, last + 1):
        learner.start_epoch(epoch)
        losses += [learner.step(batch).loss for batch in batches]
    return losses


def cross_entropy(learner: Any) -> float:
    return sum(float(F.cross_entropy(learner.predict(b.images), b.labels)) for b in make_batches()) / STEPS


def weights_of(learner: Any) -> list[Tensor]:
    return [value.clone() for value in learner.model.state_dict().values()]


def saved(learner: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(learner.state_dict(), buffer)
    return buffer.getvalue()


def loaded(content: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return state


# --- Every algorithm -------------------------------------------------------------------------------------------------


@every_algorithm
def test_training_lowers_the_cross_entropy(algorithm: str) -> None:
    learner = make_learner(algorithm, epochs=6, width=0.25)
    before = cross_entropy(learner)
    losses = train_epochs(learner, make_batches(), 1, 6)
    assert all(loss.shape == () and math.isfinite(loss) and not loss.requires_grad for loss in losses)
    assert before > 2.2  # no better than guessing
    assert cross_entropy(learner) < (0.8 if algorithm == "readout" else 0.5) * before


@every_algorithm
@pytest.mark.parametrize("schedule", ["one-cycle", "constant"])
@pytest.mark.parametrize("changes", [{}, CONVNET], ids=["mlp", "convnet"])
def test_a_restored_learner_takes_the_same_next_steps(algorithm: str, schedule: str, changes: dict[str, Any]) -> None:
    learner = make_learner(algorithm, schedule=schedule, **changes)
    train_epochs(learner, make_batches(1), 1, 2)
    other = make_learner(algorithm, seed=1, schedule=schedule, **changes)  # nothing of it may remain
    other.load_state_dict(loaded(saved(learner)))
    torch.testing.assert_close(
        train_epochs(other, make_batches(2), 3, 4), train_epochs(learner, make_batches(2), 3, 4), **BITWISE
    )
    torch.testing.assert_close(weights_of(other), weights_of(learner), **BITWISE)
    assert other.end_epoch() == learner.end_epoch()


# The network of the other one has batch statistics, and so other logits in training.
@pytest.mark.parametrize("algorithm", [name for name in FOR_ANY_MODEL if name != "correction-hidden"])
def test_a_step_counts_what_was_right_before_it(algorithm: str) -> None:
    learner = make_learner(algorithm)
    for batch in make_batches():
        expected = int((learner.predict(batch.images).argmax(dim=1) == batch.labels).sum())
        result = learner.step(batch)
        assert result.correct.shape == ()
        assert int(result.correct) == expected


@every_algorithm
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


# --- The table -------------------------------------------------------------------------------------------------------


@every_algorithm
def test_an_algorithm_searches_its_baselines_learning_rates(algorithm: str) -> None:
    baseline = ALGORITHMS[algorithm].baseline
    if baseline is None:
        assert set(ALGORITHMS[algorithm].search_space) == {"lr"}
        return
    assert ALGORITHMS[baseline].baseline is None
    assert ALGORITHMS[algorithm].search_space["lr"] == ALGORITHMS[baseline].search_space["lr"]


@every_algorithm
def test_ranges_are_ranges(algorithm: str) -> None:
    for space in ALGORITHMS[algorithm].search_space.values():
        assert space.low < space.high
        assert space.low > 0 or not space.log
        assert not space.integer or (space.low == int(space.low) and space.high == int(space.high))


@every_algorithm
@pytest.mark.parametrize("end", ["low", "high"])
def test_both_ends_of_every_range_are_accepted(algorithm: str, end: str) -> None:
    point = {
        name: int(getattr(space, end)) if space.integer else getattr(space, end)
        for name, space in ALGORITHMS[algorithm].search_space.items()
    }
    learner = make_learner(algorithm, hyperparameters=point)
    learner.start_epoch(1)
    assert math.isfinite(learner.step(next(iter(make_batches()))).loss)


OPTIONS = {
    "consistency_threshold": 0.5,
    "temperature": 2.0,
    "init_epochs": 2,
    "history_decay": 0.5,
    "min_cosine": 0.2,
    "predictor_lr": 0.1,
    "train_every": 2,
    "weak_supervision_weight": 0.5,
    "max_transition": 1,
    "update_every": 4,
}


@every_algorithm
def test_every_option_reaches_the_algorithm(algorithm: str) -> None:
    for option in ALGORITHMS[algorithm].options:
        given = {**hyperparameters_of(algorithm), option: OPTIONS[option]}
        learner = make_learner(algorithm, hyperparameters=given)
        if isinstance(learner, FERLearner | GradientCorrectionLearner):
            assert learner.optimizer.param_groups[0][option] == OPTIONS[option]
        else:
            holder = learner.optimizer if isinstance(learner, LocalizedLearner) else learner.criterion
            assert getattr(holder, option) == OPTIONS[option]


def test_labels_are_distinct() -> None:
    assert list(ALGORITHM_LABELS) == list(ALGORITHMS)
    assert len(set(ALGORITHM_LABELS.values())) == len(ALGORITHMS)


@pytest.mark.parametrize(
    ("name", "near"), [("sdg", "sgd"), ("fer_sgd", "fer-sgd"), ("flipping", "flipping-sgd"), ("qqqq", "sgd or adam")]
)
def test_an_unknown_algorithm_gives_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'; did you mean .*{near}"):
        get_algorithm(name)
    with pytest.raises(ValueError, match=f"'{name}'"):
        make_learner(name, hyperparameters={"lr": 0.1})


@every_algorithm
def test_a_missing_learning_rate_is_named(algorithm: str) -> None:
    own = {name: value for name, value in hyperparameters_of(algorithm).items() if name != "lr"}
    with pytest.raises(ValueError, match="hyperparameters must give lr"):
        make_learner(algorithm, hyperparameters=own)


@every_algorithm
def test_an_unknown_hyperparameter_is_named_with_the_known_ones(algorithm: str) -> None:
    with pytest.raises(ValueError, match="colour") as caught:
        make_learner(algorithm, hyperparameters={**hyperparameters_of(algorithm), "colour": 1.0})
    known = [*ALGORITHMS[algorithm].search_space, *ALGORITHMS[algorithm].options]
    assert all(name in str(caught.value) for name in [algorithm, *known])


@pytest.mark.parametrize(
    ("algorithm", "name", "value", "error"),
    [
        ("sgd", "lr", -0.1, ValueError),
        ("adam", "lr", "fast", TypeError),
        ("fer-sgd", "lr", -0.1, ValueError),
        ("fer-sgd", "fer_weight", -1.0, ValueError),
        ("fer-sgd", "memory_size", 0, ValueError),
        ("fer-adam", "memory_size", 2.5, TypeError),
        ("fer-adam", "consistency_threshold", 1.5, ValueError),
        ("flipping-sgd", "mu", -0.5, ValueError),
        ("flipping-sgd", "gamma", 1.5, ValueError),
        ("flipping-adam", "temperature", 0.0, ValueError),
        ("flipping-adam", "init_epochs", -1, ValueError),
    ],
)
def test_a_bad_hyperparameter_is_named(algorithm: str, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name) as caught:
        make_learner(algorithm, hyperparameters={**hyperparameters_of(algorithm), name: value})
    assert repr(value) in str(caught.value)


# --- What each kind reports ------------------------------------------------------------------------------------------


@every_algorithm
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
    kinds = {name: type(make_learner(name)) for name in FOR_ANY_MODEL}
    assert kinds == {
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
        "standard-sgd": BackpropLearner,
    }


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


@every_algorithm
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


@every_algorithm
def test_a_constant_schedule_stays(algorithm: str) -> None:
    learner = make_learner(algorithm, schedule="constant")
    assert set(rates_of(learner, 2)) == {hyperparameters_of(algorithm)["lr"]}


@every_algorithm
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
