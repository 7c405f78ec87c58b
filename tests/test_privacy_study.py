"""The studies of privacy: their noise, what each run does, and the attacks."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from advanced_optimizers.automl.privacy import PrivacyCost, train_private
from advanced_optimizers.experiments.evidence.comparisons import RunData
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.figures.against_plots import metric_against
from advanced_optimizers.experiments.report.tables.tables import metrics_table
from advanced_optimizers.experiments.studies.claims.privacy import never_above
from advanced_optimizers.experiments.studies.privacy import NOISE
from advanced_optimizers.experiments.studies.privacy_attacks import GradientInversion, Sensitivity
from advanced_optimizers.experiments.studies.privacy_clients import PrivateFederation
from advanced_optimizers.experiments.studies.privacy_runs import FastPool, PrivateRun, Trained, build, read_sets
from advanced_optimizers.experiments.studies.registry import get_study
from advanced_optimizers.experiments.studies.running import run_study
from advanced_optimizers.experiments.studies.tuned_kind import TRIAL_SEED, TunedKindStudy
from advanced_optimizers.experiments.training.kinds import perform
from tests.reference import privacy as reference

pytest.importorskip("opacus", reason="needs the extra `dp`")
pytestmark = pytest.mark.filterwarnings("ignore:Optimal order")
CPU = torch.device("cpu")


def tiny(**fields: object) -> PrivateRun:
    settings = {"hyperparameters": {"lr": 0.5, "max_norm": 0.1}, "sample_rate": 0.1, "steps": 10, "images": 200}
    return PrivateRun(algorithm="private-epsilon-3", dataset="digits", **{**settings, **fields})  # type: ignore[arg-type]


def final(run: PrivateRun | PrivateFederation | GradientInversion | Sensitivity) -> dict[str, float | None]:
    return perform(run, CPU).final


def test_the_noise_that_is_written_down_costs_its_epsilon() -> None:
    for (rate, steps), multipliers in NOISE.items():
        for epsilon, multiplier in multipliers.items():
            spent = PrivacyCost(multiplier, rate, steps).epsilon(1e-5)
            assert 0.995 * float(epsilon) <= spent <= 1.0005 * float(epsilon)


@pytest.mark.parametrize("fields", [{"clipped": True, "noise_multiplier": 1.0}, {"noise_multiplier": 1.0}, {}])
def test_runs_repeat_and_only_clipping_with_noise_has_an_epsilon(fields: dict[str, object]) -> None:
    first, second = (perform(tiny(**fields), CPU) for _ in range(2))
    assert first.outcome() == second.outcome()
    epsilon = first.final["epsilon"]
    if len(fields) == 2:
        assert epsilon == pytest.approx(PrivacyCost(1.0, 0.1, 10).epsilon(1e-5))
    else:
        assert epsilon is None or math.isnan(epsilon)


def test_without_clipping_steps_are_plain_and_noise_is_as_large_as_with_it() -> None:
    """In a step on all samples, the gradient is the mean; in a step of rate 0, it would be the noise."""
    moved = {}
    for noise in (0.0, 3.0):
        torch.manual_seed(0)
        trained = Trained(tiny(sample_rate=1.0, noise_multiplier=noise), "cpu")
        before = [p.detach().clone() for p in trained.model.parameters()]
        loss = cross_entropy(trained.model(trained.sets.images), trained.sets.labels)
        gradients = torch.autograd.grad(loss, list(trained.model.parameters()))
        trained.train(1)
        moved[noise] = torch.cat(
            [
                (p.detach() - b + 0.5 * g).flatten()
                for p, b, g in zip(trained.model.parameters(), before, gradients, strict=True)
            ]
        )
    assert_close(moved[0.0], torch.zeros_like(moved[0.0]), atol=1e-6, rtol=0)
    deviation, n = 0.5 * 3.0 * 0.1 / 200, moved[3.0].numel()  # rate * sigma * norm / samples
    assert float(moved[3.0].std()) == pytest.approx(deviation, rel=4 / math.sqrt(2 * n))


def test_the_convolutional_network_is_that_of_the_example_and_its_pooling_is_torchs(rng: torch.Generator) -> None:
    assert sum(p.numel() for p in build("cnn", 28, 10).parameters()) == 26_010
    x = torch.randn(3, 4, 7, 7, generator=rng)
    outputs = []
    for pool in (FastPool(2, 1), nn.MaxPool2d(2, 1)):
        own = x.clone().requires_grad_()
        out = pool(own)
        (out**2).sum().backward()
        outputs.append((out.detach(), own.grad, out.is_contiguous()))
    for fast, torchs in zip(*outputs, strict=True):
        assert_close(fast, torchs)


def test_opacus_clips_the_convolutional_network_as_a_loop_does(rng: torch.Generator) -> None:
    """Its norms of convolutions are wrong where tensors are channels-last, as they are inside the pooling."""
    images, labels = torch.randn(6, 28, 28, generator=rng), torch.randint(10, (6,), generator=rng)
    model, slow = build("cnn", 28, 10), build("cnn", 28, 10)
    slow.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    train_private(model, optimizer, images, labels, noise_multiplier=0.0, max_grad_norm=0.5, batch_size=6, steps=2)
    reference.dp_sgd(slow, images, labels, cross_entropy, max_norm=0.5, lr=1.0, steps=2)
    for p, q in zip(model.parameters(), slow.parameters(), strict=True):
        assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_a_trial_is_measured_on_images_that_it_does_not_train_on() -> None:
    sets = read_sets("digits", 0, True, 0)
    trained = {tuple(image.flatten().tolist()) for image in sets.images}
    assert sum(tuple(image.flatten().tolist()) in trained for image in sets.test_images) <= 2  # an image is there twice
    assert len(sets.images) + len(sets.test_images) == len(read_sets("digits", 0, False, 0).images)


def test_runs_take_what_the_trials_of_another_chose_on_another_task(tmp_path: Path) -> None:
    quick = get_study("privacy-cnn", "quick")
    assert isinstance(quick, TunedKindStudy)
    tuned, own = (
        replace(
            quick.tasks[0],
            task=f"digits-mlp-{kind}",
            config=lambda a, s, rate=rate: replace(_plain(a, s), sample_rate=rate),
        )
        for kind, rate in (("private", 0.5), ("full-batch", 1.0))
    )
    study = replace(
        quick,
        tasks=(own,),
        seeds=(0,),
        tuned_on=tuned,
        algorithms=("private-none", "private-fewer-600"),
        points={"private-none": ({"lr": 1e-6}, {"lr": 0.5})},
        tuned_as={"private-fewer-600": "private-none"},
    )
    store = RunStore(tmp_path / "results" / "runs")
    assert run_study(study, store, progress=False).trained == 2 + 2
    assert [trial.seed for trial in study.trials(tuned, "private-none")] == [TRIAL_SEED, TRIAL_SEED]
    for config in study.final_configs(store):
        assert (config.task, config.split, config.hyperparameters) == (own.task, "test", {"lr": 0.5})


def _plain(algorithm: str, seed: int) -> PrivateRun:
    return PrivateRun(algorithm=algorithm, seed=seed, dataset="digits", steps=10, images=200)


def test_clients_are_clipped_and_noise_is_added_for_each_round() -> None:
    run = PrivateFederation(
        algorithm="clients-private",
        dataset="digits",
        clients=20,
        sample_rate=0.5,
        rounds=2,
        hyperparameters={"lr": 0.1, "max_norm": 1e-6},
    )
    still, noisy = final(replace(run, clipped=True)), final(replace(run, clipped=True, noise_multiplier=1.0))
    moved = final(run)
    assert moved["test_loss"] < still["test_loss"] - 0.1  # a norm of 1e-6 lets nothing through
    assert noisy["epsilon"] == pytest.approx(PrivacyCost(1.0, 0.5, 2).epsilon(1e-5))


def test_a_gradient_of_one_image_is_the_image_and_noise_hides_it() -> None:
    found = {
        name: final(GradientInversion(algorithm=f"inversion-{name}", dataset="digits", images=12))
        for name in ("one", "clipped", "batch", "noisy")
    }
    assert [found[name]["recovered"] for name in found] == [1.0, 1.0, 0.0, 0.0]
    assert found["one"]["label_found"] == 1.0
    assert found["one"]["image_error"] < 1e-4


def test_only_clipping_samples_jointly_bounds_the_change() -> None:
    changes = [
        final(Sensitivity(algorithm=f"clip-{name}", dataset="digits", images=6))["sensitivity"]
        for name in ("sample", "sample-tensors")
    ]
    assert changes[0] == pytest.approx(1.0, abs=1e-5)  # the outlier's gradient is long
    assert changes[1] > 1.2


def frame() -> pd.DataFrame:
    rows = [
        {
            "task": "mnist-mlp-private",
            "algorithm": f"private-{name}",
            "label_noise": 0.0,
            "split": "test",
            "seed": seed,
            "status": "completed",
            "run_id": f"{name}{seed}",
            "test_accuracy": accuracy + 1e-3 * seed,
            "epsilon": epsilon,
        }
        for name, accuracy, epsilon in (("none", 0.96, math.nan), ("epsilon-3", 0.92, 2.997), ("epsilon-1", 0.9, 0.999))
        for seed in range(5)
    ]
    return pd.DataFrame(rows)


def test_accuracy_is_drawn_against_epsilon_and_what_has_none_as_a_line() -> None:
    figure = metric_against(frame(), "test_accuracy", "epsilon", labels=labels())
    (axis,) = figure.axes
    points, line = axis.get_lines()
    assert points.get_xdata().tolist() == pytest.approx([0.999, 2.997])
    assert points.get_ydata().tolist() == pytest.approx([90.2, 92.2])
    assert list(line.get_ydata()) == pytest.approx([96.2, 96.2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["by epsilon", "No privacy"]
    with pytest.raises(ValueError, match="run the study first"):
        metric_against(frame().iloc[:5], "test_accuracy", "epsilon", labels=labels())


def test_a_table_has_what_does_not_vary_beside_the_metrics() -> None:
    table = metrics_table(frame(), ("test_accuracy",), labels=labels(), constants=("epsilon",))
    assert table.to_dict("list") == {
        "Algorithm": ["No privacy", "DP-SGD, epsilon 3", "DP-SGD, epsilon 1"],
        "Epsilon": ["-", "3.00", "1.00"],
        "Test accuracy (%)": ["96.20 ± 0.20", "92.20 ± 0.20", "90.20 ± 0.20"],
    }


@pytest.mark.parametrize(("largest", "status"), [(1.0, "supported"), (1.3, "not supported")])
def test_one_run_above_a_bound_refutes_it(largest: float, status: str) -> None:
    runs = frame().iloc[:5].assign(sensitivity=[0.2, 0.2, largest, 0.2, 0.2])
    rule = partial(never_above, metric="sensitivity", task="mnist-mlp-private", algorithm="private-none", limit=1.0)
    verdict = rule(RunData(runs))
    assert verdict.status == status
    assert f"above the limit in {int(largest > 1)} of 5 runs" in verdict.sentence
    assert rule(RunData(runs.iloc[:4])).status == "pending"
