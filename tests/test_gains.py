"""Gains of methods over their baselines, on one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.gains import Gain, error_ratio
from advanced_optimizers.experiments.report.blocks.gain_table import gains_figure, gains_table
from advanced_optimizers.experiments.studies.registry import STUDIES, TOPICS

GAIN = Gain(
    topic="Ours, for theirs",
    study="a",
    task="digits-cells",
    algorithm="darts-first",
    baseline="random-cells",
    metric="test_accuracy",
    samples=4000,
    parameters=12_345,
)


def runs(values: Mapping[str, list[float]], metric: str = "test_accuracy") -> pd.DataFrame:
    rows = [
        {"task": GAIN.task, "algorithm": name, "seed": seed, metric: value, "run_id": f"{name}-{seed}"}
        for name, by_seed in values.items()
        for seed, value in enumerate(by_seed)
    ]
    return pd.DataFrame(rows).assign(label_noise=0.0, split="test", status="completed")


def recorded(frame: pd.DataFrame) -> Any:
    records = [
        SimpleNamespace(
            config=SimpleNamespace(task=row.task, algorithm=row.algorithm), curves={"cpu_seconds": [1.0, None, 2.5]}
        )
        for row in frame.itertuples()
    ]
    return SimpleNamespace(frame=frame, records=records)


def test_an_error_is_the_distance_from_the_best_value_and_ratios_are_paired() -> None:
    ratio = error_ratio(runs({"random-cells": [0.5, 0.6, 0.9], "darts-first": [0.75, 0.9, 0.95]}), GAIN)
    assert ratio is not None
    assert ratio.estimate == pytest.approx((2.0 * 4.0 * 2.0) ** (1 / 3))
    assert ratio.n == 3
    assert ratio.low < 2.0 < ratio.high
    assert math.sqrt(ratio.low * ratio.high) == pytest.approx(ratio.estimate)


def test_the_better_of_two_costs_is_the_lower_one() -> None:
    gain = Gain(**{**vars(GAIN), "metric": "test_loss"})
    ratio = error_ratio(runs({"random-cells": [4.0, 2.0], "darts-first": [1.0, 0.5]}, "test_loss"), gain)
    assert ratio is not None
    assert ratio.estimate == ratio.low == ratio.high == pytest.approx(4.0)


@pytest.mark.parametrize("baseline", [[0.5], [1.0, 0.5]], ids=["one seed", "no error"])
def test_what_has_no_ratio(baseline: list[float]) -> None:
    assert error_ratio(runs({"random-cells": baseline, "darts-first": [0.75, 0.9]}), GAIN) is None


def test_a_row_says_what_the_method_needs_and_pending_what_has_no_run() -> None:
    frame = runs({"random-cells": [0.5, 0.6], "darts-first": [0.75, 0.8]})
    studies = {"a": recorded(frame), "b": recorded(pd.DataFrame())}
    table = gains_table([GAIN, Gain(**{**vars(GAIN), "topic": "Later", "study": "b"})], studies)
    first, later = table.to_dict("records")
    assert first["Error ratio"].startswith("2.00 [2.00")
    assert (first["CPU time (s)"], first["Parameters"], first["Samples"]) == ("3.5 (3.5)", "12,345", "4,000")
    assert set(later.values()) >= {"Later", "*no run yet*"}
    counted = gains_table([GAIN], {"a": recorded(frame.assign(parameters=[1.0, 1.0, 7.0, 9.0]))})
    assert counted["Parameters"].tolist() == ["8"]


def test_the_figure_has_a_row_for_each_known_ratio() -> None:
    frame = runs({"random-cells": [0.5, 0.6], "darts-first": [0.75, 0.9]})
    figure = gains_figure([GAIN], {"a": recorded(frame)})
    assert figure is not None
    assert set(figure.run_ids) == set(frame["run_id"])
    (axis,) = figure.draw().axes
    assert axis.get_xscale() == "log"
    assert [text.get_text() for text in axis.get_yticklabels()] == ["Ours, for theirs"]
    assert gains_figure([GAIN], {"a": recorded(pd.DataFrame())}) is None


def test_every_gain_is_a_comparison_of_its_study() -> None:
    gains = [gain for topic in TOPICS.values() for gain in topic.gains]
    assert len({gain.topic.partition(":")[0].partition(",")[0] for gain in gains}) == 7
    for gain in gains:
        study: Any = STUDIES[gain.study, "full"]
        assert gain.task in {task.name for task in study.tasks}
        assert {gain.algorithm, gain.baseline} <= set(study.algorithms)
        assert gain.metric in study.metrics
