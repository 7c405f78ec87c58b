"""The claims about the coursework's table: decided by the runs of other studies."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.report.tables.stated_seconds import stated_seconds_table
from advanced_optimizers.experiments.studies import fer, gradient_correction
from advanced_optimizers.experiments.studies.claims.localized_learning import COURSEWORK_RATIO
from advanced_optimizers.experiments.studies.coursework_table import SECONDS, compare_order
from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES, TOPICS, get_study
from advanced_optimizers.experiments.studies.study import Study
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from tests.synthetic_runs import make_measurements

STUDY = get_study("coursework-table", "full")
TASK = "mnist-mlp"


def order(ratios: Mapping[tuple[str, str], float], slower: str, faster: str) -> tuple[str, str]:
    """The verdict on one pair, and its outcome."""
    data = RunData(pd.DataFrame(), make_measurements(ratios, [TASK]))
    verdict = compare_order(data, comparisons=[Comparison(TASK, slower, faster)])
    return verdict.status, verdict.evidence[0].outcome if verdict.evidence else ""


def test_every_run_is_one_of_another_studys() -> None:
    assert isinstance(STUDY, Study)
    assert STUDY.label_noises == (0.0,)
    full = [s for s in STUDIES.values() if isinstance(s, Study) and s.profile == "full" and s is not STUDY]
    others = [s for s in full if (s.seeds, s.trials) == (STUDY.seeds, STUDY.trials) and 0.0 in s.label_noises]
    for task in STUDY.tasks:
        for name in STUDY.algorithms_on(task):
            assert any(
                name in s.algorithms and task in s.tasks and s.protocol(task, name) == STUDY.protocol(task, name)
                for s in others
            ), (task.name, name)
    trials = {config.run_id for study in others for config in study.tuning_configs()}
    assert {config.run_id for config in STUDY.tuning_configs()} <= trials


def test_a_topic_without_algorithms_is_registered_after_those_that_it_is_about() -> None:
    assert list(TOPICS).index("coursework_table") > list(TOPICS).index("localized_learning")


def test_the_seconds_are_those_of_the_claims_of_the_methods() -> None:
    assert SECONDS["fer-adam"] / SECONDS["adam"] == pytest.approx(fer.COURSEWORK_RATIO, abs=5e-4)
    assert SECONDS["correction"] / SECONDS["adam"] == pytest.approx(gradient_correction.COURSEWORK_RATIO, abs=5e-4)
    assert SECONDS["localized-static"] / SECONDS["sgd"] == pytest.approx(COURSEWORK_RATIO, abs=5e-4)
    stated = sorted(SECONDS, key=SECONDS.__getitem__)
    assert stated == ["localized-static", "sgd", "adam", "fer-adam", "correction"]
    for c in CLAIMS["coursework-order-of-seconds"].decide.keywords["comparisons"]:
        assert SECONDS[c.algorithm] > SECONDS[c.baseline]


def test_the_stated_accuracies_say_what_the_claims_say() -> None:
    claimed = {name: ALGORITHMS[name].claimed for name in SECONDS}
    for task, best in {"mnist-mlp": "97.1", "cifar10-jpeg-convnet": "72.1"}.items():
        values = {name: own[task] for name, own in claimed.items() if task in own}
        assert max(values, key=values.__getitem__) == "fer-adam"
        assert f"{100 * values['fer-adam']:.1f}" == best
        assert best in CLAIMS["coursework-fer-most-accurate"].text
    text = CLAIMS["coursework-all-beat-baselines"].text
    for task in ("mnist-mlp", "cifar10-jpeg-convnet"):
        assert f"{100 * claimed['adam'][task]:.1f}" in text


def test_all_algorithms_are_compared_with_both_baselines_on_two_tasks() -> None:
    compared = CLAIMS["coursework-all-beat-baselines"].decide.keywords["comparisons"]
    methods = set(SECONDS) - {"sgd", "adam"}
    assert {(c.algorithm, c.baseline) for c in compared} == {(m, b) for m in methods for b in ("sgd", "adam")}
    assert len(compared) == len(set(compared)) == 12


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (1.2, ("supported", "in order")),
        (0.8, ("not supported", "reversed")),
        (1.0, ("inconclusive", "unclear")),
    ],
)
def test_the_order_of_an_algorithm_and_its_base(ratio: float, expected: tuple[str, str]) -> None:
    assert order({("fer-adam", "adam"): ratio}, "fer-adam", "adam") == expected
    turned = order({("fer-adam", "adam"): 1 / ratio}, "adam", "fer-adam")
    assert turned == expected  # measured the other way around


@pytest.mark.parametrize(("slower", "expected"), [(1.5, "in order"), (1.1, "reversed")])
def test_two_algorithms_are_compared_by_their_ratios_to_the_same_base(slower: float, expected: str) -> None:
    ratios = {("fer-adam", "adam"): 1.3, ("correction", "adam"): slower}
    assert order(ratios, "correction", "fer-adam")[1] == expected


def test_one_reversed_pair_refutes_the_order_and_one_unclear_pair_leaves_it_open() -> None:
    ratios = {("fer-adam", "adam"): 1.3, ("correction", "adam"): 0.9, ("localized-static", "sgd"): 1.0}
    data = RunData(pd.DataFrame(), make_measurements(ratios, [TASK]))
    in_order, reversed_, unclear = (
        Comparison(TASK, slower, faster)
        for slower, faster in (("fer-adam", "adam"), ("correction", "adam"), ("sgd", "localized-static"))
    )
    assert compare_order(data, comparisons=[in_order, reversed_, unclear]).status == "not supported"
    verdict = compare_order(data, comparisons=[in_order, unclear])
    assert verdict.status == "inconclusive"
    assert verdict.sentence.startswith("Of 2 pairs: 1 in the coursework's order, 0 reversed, 1 unclear. Least in favor")


def test_without_measured_epochs_the_order_is_pending() -> None:
    comparison = Comparison(TASK, "fer-adam", "adam")
    assert compare_order(RunData(pd.DataFrame()), comparisons=[comparison]).status == "pending"
    assert order({("correction", "adam"): 2.0}, "correction", "fer-adam") == ("pending", "")


def test_stated_seconds_stand_beside_measured_ratios() -> None:
    measurements = make_measurements({("fer-adam", "adam"): 1.2, ("other", "adam"): 3.0}, [TASK])
    table = stated_seconds_table(measurements, SECONDS, labels=labels()).set_index("Algorithm")
    row = table.loc["Gradient consistency over Adam"]
    assert (row["Stated (s per epoch)"], row["Base"], row["Stated ratio"]) == ("13.8", "Adam", "1.053")
    (column,) = [name for name in table if "measured" in name]
    assert row[column].startswith("1.200 [1.19")
    assert table.loc["Gradient correction, Adam", column] == "-"  # not measured
    assert table.loc["SGD", ["Base", "Stated ratio", column]].tolist() == ["-", "-", "-"]
