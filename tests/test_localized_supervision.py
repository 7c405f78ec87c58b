"""The study of weak supervision: what its rows do when the loss rises, and a rule that needs the updates to turn."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import RunData, Verdict
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from tests.learner_helpers import make_batches, make_learner, train_epochs

RISING = (1.0, 2.0, 0.5, 0.5)  # what an epoch's loss is said to be, one after the other


def directions(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[float], list[float]]:
    """Transition, direction and count of four epochs with a loss that rises in the second."""
    learner = make_learner(algorithm, epochs=4, model="mlp2")
    if "unsupervised" not in algorithm:
        losses = iter(RISING)
        monkeypatch.setattr(learner, "reported_loss", lambda: next(losses))
    curves = []
    for epoch in range(1, 5):
        train_epochs(learner, make_batches(), epoch, epoch)
        curves.append(learner.end_epoch())
    return tuple([c[name] for c in curves] for name in ("transition", "localized_direction", "turned"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("algorithm", "third", "turned"),
    [
        ("localized-supervised-tenfold", -0.1, 1.0),
        ("localized-reversed-tenfold", -1.0, 1.0),
        ("localized-unsupervised-tenfold", 1.0, 0.0),
    ],
)
def test_the_epoch_after_a_rise_is_turned_around(
    algorithm: str, third: float, turned: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    transition, direction, count = directions(algorithm, monkeypatch)
    assert transition == [0.0, 2.0, 2.0, 2.0]
    assert direction == [1.0, 1.0, third, 1.0]
    assert count == [0.0, 0.0, turned, turned]


def test_without_supervision_a_rising_loss_changes_nothing() -> None:
    learner = make_learner("localized-unsupervised-tenfold", model="mlp2")
    train_epochs(learner, make_batches(), 1, 1)
    assert learner.reported_loss() == 0.0
    supervised = make_learner("localized-supervised-tenfold", model="mlp2")
    train_epochs(supervised, make_batches(), 1, 1)
    assert supervised.reported_loss() > 0.0


def test_the_rates_are_the_default_and_ten_times_that() -> None:
    for name, rate in (("default", 1e-3), ("tenfold", 1e-2)):
        for kind in ("unsupervised", "supervised", "reversed"):
            (group,) = make_learner(f"localized-{kind}-{name}", model="mlp2").optimizer.param_groups
            assert group["hebbian_lr"] == rate


def test_all_rows_train_at_the_rate_of_sgd() -> None:
    study = get_study("localized-supervision", "full")
    assert set(study.tuned_as) == set(study.algorithms) - {"sgd"}
    assert {config.algorithm for config in study.tuning_configs()} == {"sgd"}


BASE = (0.951, 0.949, 0.952, 0.948, 0.950)
NOISE = (0.0010, -0.0010, 0.0012, -0.0012, 0.0)


def frame_of(gain: float, turned: Sequence[float], status: str = "completed", seeds: int = 5) -> pd.DataFrame:
    """Runs of two weights that gain as much over unsupervised ones and turned in so many epochs."""
    rows = [
        {
            "run_id": f"{kind}-{seed}",
            "task": "mnist-mlp2",
            "algorithm": f"localized-{kind}-tenfold",
            "seed": seed,
            "label_noise": 0.0,
            "split": "test",
            "status": status if kind == "reversed" else "completed",
            "test_accuracy": BASE[seed] + (0.0 if kind == "unsupervised" else gain + NOISE[seed]),
            "turned": 0.0 if kind == "unsupervised" else turned[seed],
        }
        for kind in ("unsupervised", "supervised", "reversed")
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def decide(gain: float, turned: Sequence[float], status: str = "completed", seeds: int = 5) -> Verdict:
    """The verdict on such runs."""
    return CLAIMS["localized-supervision-tenfold-mnist"].decide(RunData(frame_of(gain, turned, status, seeds)))


@pytest.mark.parametrize(
    ("gain", "status", "outcome"),
    [
        (0.01, "supported", "better"),
        (-0.01, "not supported", "worse"),
        (0.0002, "not supported", "equivalent"),
        (0.0012, "inconclusive", "undecided"),
    ],
)
def test_where_it_turned_accuracy_decides(gain: float, status: str, outcome: str) -> None:
    verdict = decide(gain, [1, 2, 1, 3, 1])
    assert verdict.status == status
    assert {row.outcome for row in verdict.evidence} == {outcome}


def test_one_run_in_which_it_never_turned_leaves_the_claim_untested() -> None:
    verdict = decide(0.01, [1, 2, 0, 3, 1])
    assert verdict.status == "inconclusive"
    assert verdict.sentence.startswith("Untested")
    assert "in 2 of 10 supervised runs" in verdict.sentence


def test_runs_that_scatter_over_the_whole_scale_have_a_verdict() -> None:
    frame = frame_of(0.0, [1] * 5)
    collapsed = (frame["algorithm"] == "localized-reversed-tenfold") & frame["seed"].isin([0, 2])
    frame.loc[collapsed, "test_accuracy"] = 0.25
    verdict = CLAIMS["localized-supervision-tenfold-mnist"].decide(RunData(frame))
    assert "undecided" in {row.outcome for row in verdict.evidence}


def test_missing_and_diverged_runs_come_first() -> None:
    assert decide(0.01, [0] * 5, seeds=4).status == "pending"
    assert "diverged" in decide(0.01, [1] * 5, status="diverged").sentence
