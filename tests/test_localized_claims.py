"""The claims about localized learning: one for each schedule and task, at the sources' numbers, with the old rules."""

from __future__ import annotations

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import RunData
from advanced_optimizers.experiments.studies.claims.localized_learning import COURSEWORK_RATIO, MARGIN, PAPER_RATIO
from advanced_optimizers.experiments.studies.claims.localized_learning_former import FORMER
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

OWN = {key: claim for key, claim in CLAIMS.items() if claim.study == "localized"}
COMPARED = {key: getattr(claim.decide, "keywords", {}) for key, claim in OWN.items()}
# By what stands for it in the keys: the algorithm, and whether MNIST has a run of its own.
SCHEDULES = {
    "": ("localized-static", True),
    "-half": ("localized-static-half", False),
    "-two": ("localized-static-two", True),
    "-dynamic": ("localized-dynamic", True),
}


@pytest.mark.parametrize("kind", ["accuracy", "fastest", "beats-freezing"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_schedule_and_task_has_a_verdict_of_its_own(schedule: str, kind: str) -> None:
    algorithm, on_mnist = SCHEDULES[schedule]
    for suffix, task, there in (("", "cifar10-jpeg-convnet", True), ("-mnist", "mnist-mlp2", on_mnist)):
        key = f"localized{schedule}-{kind}{suffix}"
        if not there or (schedule == "-dynamic" and kind != "accuracy"):  # neither timed nor has it a frozen control
            assert key not in OWN
            continue
        comparisons = COMPARED[key]["comparisons"]
        assert {(c.algorithm, c.task) for c in comparisons} == {(algorithm, task)}
        if kind == "beats-freezing":
            assert all(c.margin == (0.002 if suffix else 0.005) for c in comparisons)
            assert all(c.baseline.removeprefix("localized-").split("-")[0] in ("frozen", "random") for c in comparisons)


def test_limits_are_those_of_the_sources() -> None:
    assert pytest.approx(1 / 1.5, abs=5e-4) == PAPER_RATIO
    assert pytest.approx(11.7 / 12.3, abs=5e-4) == COURSEWORK_RATIO
    assert MARGIN == 0.005
    assert f"{COURSEWORK_RATIO:g}" in CLAIMS["localized-fastest"].rule


def test_stated_accuracies_are_a_gain_over_sgd_and_a_loss_against_adam() -> None:
    assert ALGORITHMS["localized-static"].claimed == {"mnist-mlp2": 0.963, "cifar10-jpeg-convnet": 0.705}
    assert {k: COMPARED[f"localized-above-sgd{k}"]["comparisons"][0].claimed for k in ("", "-mnist")} == {
        "": 0.021,
        "-mnist": 0.011,
    }
    assert {k: COMPARED[f"localized-below-adam{k}"]["margin"] for k in ("", "-mnist")} == {"": 0.007, "-mnist": 0.005}
    assert "0.5 points" in CLAIMS["localized-below-adam-mnist"].rule


def test_the_fastest_of_all_is_compared_with_the_courseworks_table() -> None:
    assert COMPARED["localized-fastest-of-all"]["others"] == ("sgd", "adam", "fer-adam", "correction")
    assert COMPARED["localized-fastest-of-all-mnist"]["others"] == ("sgd", "adam")
    timed = {name for name, row in ALGORITHMS.items() if row.claimed}
    assert timed == {"localized-static", "sgd", "adam", "fer-adam", "correction"}


def test_every_rule_that_was_changed_says_what_it_was() -> None:
    assert {key for key, claim in OWN.items() if claim.former is not None} == set(FORMER)
    for former in FORMER.values():
        assert former.verdict in ("supported", "not supported", "inconclusive")
        assert former.result.startswith("Of ")


def test_adam_takes_no_runs_of_its_own() -> None:
    def trials(study: str, task: str) -> set[str]:
        return {c.run_id for c in get_study(study, "full").tuning_configs() if (c.algorithm, c.task) == ("adam", task)}

    assert trials("localized", "mnist-mlp2") == trials("sigprop", "mnist-mlp2") != set()
    assert trials("localized", "cifar10-jpeg-convnet") == trials("fer", "cifar10-jpeg-convnet") != set()


def test_without_measurements_the_fastest_of_all_is_pending() -> None:
    verdict = CLAIMS["localized-fastest-of-all"].decide(RunData(pd.DataFrame(), None))
    assert verdict.status == "pending"
    assert "Gradient correction" in verdict.sentence
