"""Times of runs from different machines on one scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.calibration import calibrate, machine_of, measured_seconds
from advanced_optimizers.experiments.report.results.study_results import StudyResults
from advanced_optimizers.experiments.studies.registry import get_study
from tests.synthetic_runs import make_config, make_measurements, make_record

MACHINES = {"a": "old", "b": "new", "c": "new"}


def curves() -> pd.DataFrame:
    """On the old machine everything takes three times as long."""
    rows = [("a", "sgd", 6.0), ("a", "sgd", 6.0), ("b", "fer-sgd", 3.0), ("b", "fer-sgd", 3.0), ("c", "other", 4.0)]
    frame = pd.DataFrame(rows, columns=["run_id", "algorithm", "cpu_seconds"])
    return frame.assign(task="mnist-mlp")


def test_measured_seconds_are_medians_over_all_pairs() -> None:
    pairs = [[3.0, 2.0], [3.3, 2.2], [2.7, 1.8]]
    rows = [
        {"task": "mnist-mlp", "algorithm": "fer-sgd", "baseline": "sgd", "pairs": pairs},
        {"task": "mnist-mlp", "algorithm": "other", "baseline": "sgd", "pairs": [[4.0, 2.1], [4.4, 2.3]]},
    ]
    measured = measured_seconds({"measurements": rows})
    assert measured == {
        ("mnist-mlp", "fer-sgd"): 3.0,
        ("mnist-mlp", "sgd"): pytest.approx(2.1),
        ("mnist-mlp", "other"): pytest.approx(4.2),
    }
    assert measured_seconds(None) == {}


def test_a_machines_runs_are_scaled_together() -> None:
    measured = {("mnist-mlp", "sgd"): 1.0, ("mnist-mlp", "fer-sgd"): 1.5}
    scaled = calibrate(curves(), MACHINES, measured)["calibrated_seconds"]
    # The third algorithm was not measured: it still takes 4/3 of the time of the other one on its machine.
    assert scaled.tolist() == pytest.approx([1.0, 1.0, 1.5, 1.5, 2.0])


def test_the_factor_is_the_geometric_mean_over_the_measured_algorithms() -> None:
    measured = {("mnist-mlp", "sgd"): 1.0, ("mnist-mlp", "fer-sgd"): 3.0, ("mnist-mlp", "other"): 16.0}
    scaled = calibrate(curves(), MACHINES, measured)["calibrated_seconds"]
    assert scaled.tolist() == pytest.approx([1.0, 1.0, 6.0, 6.0, 8.0])  # factors of 1 and 4


def test_without_a_measured_algorithm_times_stay_as_recorded() -> None:
    assert "calibrated_seconds" not in calibrate(curves(), MACHINES, {("mnist-mlp", "sgd"): 1.0})
    assert "calibrated_seconds" not in calibrate(curves(), MACHINES, {})


def test_machines_with_processors_of_one_name_are_told_apart_by_the_day() -> None:
    first, second = ({"device_name": "AMD", "started_at": f"2026-01-0{day}T10:00:00+00:00"} for day in (1, 2))
    assert machine_of(first) == machine_of({**first, "started_at": "2026-01-01T23:00:00+00:00"})
    assert len({machine_of(first), machine_of(second), machine_of({**first, "device_name": "Intel"})}) == 3


def test_a_study_scales_runs_of_different_days_apart(tmp_path: Path) -> None:
    plain, later = (make_record(make_config("mnist-mlp", name, 0)) for name in ("adam", "fer-adam"))
    later = replace(later, environment={**later.environment, "started_at": "2026-02-01T00:00:00+00:00"})
    results = StudyResults(get_study("fer", "full"), tmp_path)
    results.records = [plain, later]
    results.measurements = make_measurements({("fer-adam", "adam"): 1.5}, ["mnist-mlp"])
    means = results.calibrated_curves.groupby("algorithm")["calibrated_seconds"].mean()
    # Each is the only measured algorithm of its day, so its time is the measured one; one factor could not fit both.
    assert means.to_dict() == pytest.approx({"adam": 2.0, "fer-adam": 3.0}, rel=0.01)
