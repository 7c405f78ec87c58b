"""The studies of the convolutional optimizers: their controls, what their runs record, their grid and their rules."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from torch import nn

from advanced_optimizers.convolutional.kernels import gaussian
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.stated import always_positive, compare_stated, value_within
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.report.results.stated_values import stated_figures, stated_table
from advanced_optimizers.experiments.studies.claims.convolutional import BENCHMARK, SGD, VERSION_2, compare_steps
from advanced_optimizers.experiments.studies.convolutional import BASE
from advanced_optimizers.experiments.studies.convolutional_batches import STATED
from advanced_optimizers.experiments.studies.convolutional_controls import Centered, PixelGrid, PublishedVersion2
from advanced_optimizers.experiments.studies.convolutional_training import alignment_gain, memorized, spread
from advanced_optimizers.experiments.studies.grid import GridStudy, octaves
from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES, get_study
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.loop import train
from tests.experiments_helpers import make_config, make_record
from tests.learner_helpers import make_batches, make_learner
from tests.reference.convolutional_published import AsPublished, PublishedConvolutionalSGDv2

OURS = {name: study for (name, profile), study in STUDIES.items() if profile == "full" and "convolutional" in name}
NETWORK = {"model": "simplenet", "schedule": "constant", "hyperparameters": {"lr": 0.01}, "width": 0.25}

# ---- controls --------------------------------------------------------------------------------------------------------


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]


def test_the_fast_version_2_is_the_published_one_and_resumes() -> None:
    shapes = ((7, 30), (7,), (3, 7), (3,), (8, 6), (8,), (4, 2, 3, 3))
    fast, slow = parameters(*shapes), parameters(*shapes)
    ours = PublishedVersion2(fast, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, kernel_lr=0.5)
    theirs = AsPublished(slow, PublishedConvolutionalSGDv2(5, 0.5), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    for step in range(17):
        for p, q in zip(fast, slow, strict=True):
            p.grad = 0.5 + torch.randn(p.shape, generator=generator, dtype=torch.float64)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
        if step == 7:
            saved = ours.state_dict()
            ours = PublishedVersion2(fast, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, kernel_lr=0.5)
            ours.load_state_dict(saved)
    for p, q in zip(fast, slow, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-11)
    for axes in (1, 2):
        np.testing.assert_allclose(ours.kernel(axes), theirs.transform.kernel(axes), atol=1e-12)
        assert ours.kernel(axes).max() > 1.1 * ours.kernel(axes).min(), "the kernels have learned"


def change_by(optimizer: Any, params: list[nn.Parameter], grads: list[torch.Tensor], **settings: Any) -> list[Any]:
    made = optimizer(params, torch.optim.SGD, {"lr": 1.0}, **settings)
    before = [p.detach().clone() for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    made.step()
    return [b - p.detach() for b, p in zip(before, params, strict=True)]


def test_the_pixel_grid_smooths_each_units_weights_as_an_image() -> None:
    params = parameters((5, 48), (5,), (3, 5))
    grads = [p.detach() * 2.0 + 1.0 for p in params]
    first, *others = change_by(PixelGrid, params, grads, image_shape=(1, 6, 8))
    taps = np.array([*gaussian(5)[:0:-1], *gaussian(5)])
    for unit, image in zip(first.view(5, 6, 8), grads[0].view(5, 6, 8), strict=True):
        np.testing.assert_allclose(unit, ndimage.convolve(image.numpy(), np.outer(taps, taps), mode="reflect"))
    for other, grad in zip(others, grads[1:], strict=True):
        torch.testing.assert_close(other, grad)


def test_centralization_takes_the_mean_of_each_output_away() -> None:
    params = parameters((5, 8), (5,), (4, 3, 2, 2))
    grads = [p.detach() * 2.0 + 1.0 for p in params]
    matrix, vector, filters = change_by(Centered, params, grads)
    assert float(matrix.mean(dim=1).abs().max()) < 1e-14
    torch.testing.assert_close(matrix, grads[0] - grads[0].mean(dim=1, keepdim=True))
    torch.testing.assert_close(vector, grads[1])
    assert float(filters.mean(dim=(1, 2, 3)).abs().max()) < 1e-14


# ---- what runs record ------------------------------------------------------------------------------------------------


def recorded(algorithm: str, **changes: Any) -> tuple[Any, dict[str, float]]:
    learner = make_learner(algorithm, **NETWORK, **changes)
    for batch in [*make_batches(), *make_batches(1), *make_batches(2)]:  # kernels learn at every tenth step
        learner.step(batch)
    return learner, learner.end_epoch()


def test_sgd_keeps_its_gradients() -> None:
    learner, curves = recorded(BASE)
    assert curves["smoothed_length"] == pytest.approx(1.0)
    assert curves["least_cosine"] == pytest.approx(1.0)
    assert curves["ascending"] == 0.0
    assert math.isnan(curves["kernel_center"])
    assert curves["gradient_norm_spread"] == 0.0, "there is one epoch"
    last = math.sqrt(sum(float(p.grad.square().sum()) for p in learner.model.parameters()))
    assert 0.3 * last < curves["gradient_norm"] < 3 * last


def test_what_smoothing_does_to_a_gradient_is_that_of_its_first_step() -> None:
    learner = make_learner("conv-gauss", **NETWORK)
    batch = next(iter(make_batches()))
    learner.step(batch)
    curves = learner.end_epoch()
    places = {i: p for i, p in enumerate(learner.model.parameters()) if p.dim() == 2}
    stats = learner.optimizer.get_stats()
    ratios = {i: stats["length_ratio"][i] ** 2 * float(p.grad.square().sum()) for i, p in places.items()}
    untouched = sum(float(p.grad.square().sum()) for p in learner.model.parameters() if p.dim() == 1)
    whole = sum(float(p.grad.square().sum()) for p in learner.model.parameters())
    assert curves["smoothed_length"] == pytest.approx(math.sqrt((sum(ratios.values()) + untouched) / whole), rel=1e-5)
    assert 0.0 < curves["least_cosine"] == curves["smoothed_cosine"] < 1.0


def test_the_center_of_the_kernel_is_that_of_the_optimizer() -> None:
    learner, curves = recorded("conv-sgd")
    assert curves["kernel_center"] == float(learner.optimizer.get_kernel()[2])
    learner, curves = recorded("conv-local")
    assert curves["kernel_center"] == float(learner.optimizer.get_kernels()[2][2])
    learner, curves = recorded("conv-v2")
    rows, columns = learner.optimizer.state[list(learner.model.parameters())[2]]["kernel"]
    assert curves["kernel_center"] == pytest.approx(float(columns[0]))
    assert float(columns[0]) != pytest.approx(float(rows[0]), abs=1e-4)


def test_the_published_stability_is_the_spread_of_the_epochs_means() -> None:
    assert spread([1.0, 2.0, 6.0]) == pytest.approx(np.std([1.0, 2.0, 6.0]))
    assert math.isnan(spread([]))
    learner = make_learner(BASE, **NETWORK)
    means = []
    for _ in range(3):
        for batch in make_batches():
            learner.step(batch)
        curves = learner.end_epoch()
        means.append(curves["gradient_norm"])
    assert curves["gradient_norm_spread"] == pytest.approx(np.std(means)) != 0.0


def test_memorized_are_wrong_labels_that_are_predicted() -> None:
    labels, right = torch.tensor([0, 1, 1, 2]), torch.tensor([True, True, False, False])
    predicted = torch.nn.functional.one_hot(torch.tensor([0, 2, 1, 0]), 3).float()
    assert memorized(lambda images: predicted, torch.zeros(4, 1), labels, right) == {
        "right_accuracy": 0.5,
        "memorized": 0.5,
    }


def test_smoothing_aligns_along_the_axis_where_the_signal_is_smooth() -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(50, 1, generator=generator) * torch.sin(torch.arange(200) / 15.0)
    noisy = whole + torch.randn(50, 200, generator=generator)
    assert alignment_gain(noisy, whole, dim=1) > 0.1
    assert alignment_gain(noisy, whole, dim=0) < -0.05


@pytest.mark.parametrize("split", ["validation", "test"])
def test_trials_measure_on_labels_as_noisy_as_those_they_train_on(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    digits = data.split_validation(data.load("digits")) if split == "validation" else data.load("digits")
    made: list[Any] = []
    monkeypatch.setattr(data, "Batches", partial(_kept, made, data.Batches))
    train(make_config(epochs=1, split=split, label_noise=0.15, data_fraction=1.0), store)
    trained, measured = (batches._labels for batches in made[:2])
    assert int((trained != digits.labels).sum()) == round(0.15 * len(trained))
    wrong = round(0.15 * len(measured)) if split == "validation" else 0
    assert int((measured != digits.test_labels).sum()) == wrong


def _kept(made: list[Any], kind: Any, *arguments: Any, **settings: Any) -> Any:
    made.append(kind(*arguments, **settings))
    return made[-1]


# ---- the studies -----------------------------------------------------------------------------------------------------


def test_every_arm_has_the_same_grid_on_labels_as_noisy_as_the_runs() -> None:
    study = get_study("convolutional-tuned", "full")
    assert isinstance(study, GridStudy)
    assert study.rates == tuple(round(1e-4 * 2**k, 6) for k in range(8))
    trials = study.tuning_configs()
    assert len(trials) == 8 * len(study.algorithms)
    assert {trial.label_noise for trial in trials} == {0.15}
    assert {(trial.split, trial.epochs, trial.schedule) for trial in trials} == {("validation", 10, "constant")}
    assert {round(trial.data_fraction * 54_000) for trial in trials} == {5000}
    with pytest.raises(ValueError, match="trials the number of rates, got"):
        replace(study, trials=3)


def test_the_best_rate_of_the_grid_is_taken(store: RunStore) -> None:
    study = get_study("convolutional-clean", "quick")
    for trial in study.tuning_configs():
        store.save(make_record(trial, test_accuracy=0.5 + trial.hyperparameters["lr"]))
    assert {config.hyperparameters["lr"] for config in study.final_configs(store)} == {max(study.rates)}


def test_the_figure_by_rate_shows_the_trials_of_all_arms(tmp_path: Path) -> None:
    study = get_study("convolutional-clean", "quick")
    store = RunStore(tmp_path / "results" / "runs")
    for trial in study.tuning_configs():
        store.save(make_record(trial, test_accuracy=0.83 - 2.5 * trial.hyperparameters["lr"]))
    results = results_of(study, tmp_path)
    figure = results.figures["convolutional-clean-rates"]
    assert len(figure.run_ids) == len(study.tuning_configs())
    drawn = figure.draw()
    assert drawn.get_supylabel() == "Validation error (%)"
    assert len(drawn.axes[0].get_yticks()) >= 2, "an axis from 18 to 25 % has marks, too"
    assert results.protocol["Tuning, for each algorithm"][0].startswith(
        "2 constant rates from 0.016 to 0.032, one trial"
    )


def test_a_grid_doubles() -> None:
    assert octaves(1e-4, 3) == (1e-4, 2e-4, 4e-4)


def test_the_source_is_run_at_its_own_rates() -> None:
    for config in get_study("convolutional-as-claimed", "full").final_configs(RunStore(Path("none"))):
        stated = {"conv-adam": 0.001, "conv-momentum-fifth": 0.002, "conv-momentum-25th": 0.0004}
        assert config.hyperparameters["lr"] == stated.get(config.algorithm, 0.01)
        assert (config.epochs, config.batch_size, config.label_noise) == (30, 8, 0.15)
        assert round(config.data_fraction * 60_000) == 5000
    assert {"conv-sgd", "conv-v2-published"} <= set(get_study("convolutional-as-claimed", "full").algorithms)
    for size in STATED:
        (config, *_) = get_study(f"convolutional-batch-{size}", "full").final_configs(RunStore(Path("none")))
        assert (config.batch_size, config.epochs, config.label_noise, config.width) == (size, 15, 0.1, 0.5)


def test_every_claim_waits_for_its_runs() -> None:
    claims = {key: claim for key, claim in CLAIMS.items() if key.startswith("conv-")}
    assert {claim.study for claim in claims.values()} == set(OURS)
    for claim in claims.values():
        assert claim.decide(RunData(pd.DataFrame())).status == "pending"


# ---- the rules -------------------------------------------------------------------------------------------------------

TASK = "digits-mlp"


def frame_of(values: dict[str, list[float]], metric: str = "test_accuracy") -> RunData:
    records = [
        make_record(make_config(algorithm=name, seed=seed, width=1.0), **{metric: value})
        for name, own in values.items()
        for seed, value in enumerate(own)
    ]
    return RunData(records_frame(records))


def compared(gain: float, scatter: float = 0.001) -> Verdict:
    base = [0.80, 0.81, 0.82, 0.79, 0.83]
    own = [value + gain + scatter * sign for value, sign in zip(base, (1, -1, 0, 1, -1), strict=True)]
    comparison = Comparison(TASK, "adam", "sgd")
    data_of_both = frame_of({"sgd": base, "adam": own})
    return compare_stated(data_of_both, metric="test_accuracy", comparison=comparison, stated=-0.05, margin=0.02)


def test_a_stated_difference_is_confirmed_or_refuted_by_where_its_interval_lies() -> None:
    assert compared(-0.06).status == "supported"
    assert compared(-0.09).status == "not supported"
    assert compared(0.0).status == "not supported"
    assert compared(-0.07).status == compared(-0.06, scatter=0.05).status == "inconclusive"
    assert "stated -5.00 points" in compared(-0.06).sentence
    assert len(compared(-0.06).run_ids) == 10


def test_what_is_stated_stands_beside_what_was_measured() -> None:
    runs = frame_of({"sgd": [0.70, 0.71, 0.72, 0.70, 0.71], "adam": [0.8]}).frame
    stated = {"test_accuracy": {"sgd": 0.71, "adam": 0.9}}
    table = stated_table(runs, stated, labels={"sgd": "SGD"})
    assert table["Here"].tolist() == ["70.80 ± 1.04", "-"]
    assert table["Stated"].tolist() == ["71.00", "90.00"]
    assert table["The stated value"].tolist() == ["lies in the interval", "-"]
    lower = stated_table(runs, {"test_accuracy": {"sgd": 0.6}}, labels={})
    assert lower["The stated value"].tolist() == ["is below the interval"]


def test_the_figure_of_stated_differences_marks_both() -> None:
    verdicts = {f"conv-batch-{size}": compared(-0.06) for size in (8, 64)}
    (figure,) = stated_figures(verdicts).values()
    assert len(figure.run_ids) == 40 / 2
    (axis,) = figure.draw().axes
    crosses = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "x"]
    assert crosses == pytest.approx([-5.0, -5.0])
    assert stated_figures({"conv-batch-8": compared(-0.06)}) == {}, "one difference has its sentence"


def test_a_value_must_lie_in_its_range() -> None:
    found = frame_of({"sgd": [0.70, 0.71, 0.72, 0.70, 0.71]})
    decide = partial(value_within, found, metric="test_accuracy", task=TASK, algorithm="sgd")
    assert decide(low=0.6, high=0.8).status == "supported"
    assert decide(low=0.75, high=1.0).status == "not supported"
    assert decide(low=0.708, high=1.0).status == "inconclusive"
    few = frame_of({"sgd": [0.70, 0.71]})
    assert value_within(few, metric="test_accuracy", task=TASK, algorithm="sgd", low=0, high=1).status == "pending"


def test_one_counterexample_refutes() -> None:
    decide = partial(always_positive, metric="test_accuracy", task=TASK, algorithms=("sgd", "adam"))
    assert decide(frame_of({"sgd": [0.1] * 5, "adam": [0.2] * 5})).status == "supported"
    assert decide(frame_of({"sgd": [0.1] * 5, "adam": [0.2, 0.2, -0.001, 0.2, 0.2]})).status == "not supported"
    assert decide(frame_of({"sgd": [0.1] * 5})).status == "pending"


@pytest.mark.parametrize(("ratio", "status"), [(1.5, "supported"), (0.9, "not supported"), (None, "pending")])
def test_version_2_is_slower_if_its_steps_are(ratio: float | None, status: str) -> None:
    rows = [{"optimizer": SGD, "seconds": [1.0, 1.1] * 5}]
    if ratio is not None:
        rows.append({"optimizer": VERSION_2, "seconds": [ratio, 1.1 * ratio] * 5})
    assert compare_steps(RunData(pd.DataFrame(), {BENCHMARK: rows})).status == status


def test_the_best_epoch_is_the_highest_of_all() -> None:
    record = make_record(make_config(epochs=3), test_accuracy=0.7)  # the others are 1
    assert records_frame([record])["best_test_accuracy"].tolist() == [1.0]


def test_the_rows_are_those_of_the_studies() -> None:
    assert {name for name in ALGORITHMS if name.startswith("conv-")} == {
        name for study in OURS.values() for name in study.algorithms
    }
