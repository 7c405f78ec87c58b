"""Configurations with their ids and checks, records as JSON, and the frames."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pandas as pd
import pytest

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.frames import curves_frame, records_frame
from advanced_optimizers.experiments.records.record import RunRecord
from tests.experiments_helpers import make_config, make_record

# --- The configuration -----------------------------------------------------------------------------------------------

GOLDEN = RunConfig(
    dataset="mnist",
    model="mlp",
    algorithm="fer-sgd",
    hyperparameters={"lr": 0.1, "fer_weight": 0.3, "memory_size": 100},
    seed=3,
    label_noise=0.2,
)

CHANGES: dict[str, Any] = {
    "dataset": "digits",
    "model": "convnet",
    "algorithm": "fer-adam",
    "hyperparameters": {"lr": 0.1, "fer_weight": 0.3, "memory_size": 101},
    "seed": 4,
    "epochs": 11,
    "batch_size": 127,
    "label_noise": 0.25,
    "data_fraction": 0.5,
    "width": 2.0,
    "precision": "bfloat16",
    "schedule": "constant",
    "augment": True,
    "split": "validation",
}


def test_run_id_is_pinned() -> None:
    # Committed records are found by their ids: if this fails, the studies find none of them.
    assert GOLDEN.run_id == "fe593dfd6bc2c828"


def test_run_id_does_not_depend_on_the_order_of_the_hyperparameters() -> None:
    turned = dict(reversed(GOLDEN.hyperparameters.items()))
    assert list(turned) != list(GOLDEN.hyperparameters)
    assert replace(GOLDEN, hyperparameters=turned).run_id == GOLDEN.run_id


def test_every_field_changes_the_run_id() -> None:
    assert set(CHANGES) == {field.name for field in fields(RunConfig)}
    ids = [replace(GOLDEN, **{name: value}).run_id for name, value in CHANGES.items()]
    assert len({GOLDEN.run_id, *ids}) == len(CHANGES) + 1


@pytest.mark.parametrize(("name", "whole", "decimal"), [("label_noise", 0, 0.0), ("data_fraction", 1, 1.0)])
def test_equal_configurations_have_equal_ids(name: str, whole: int, decimal: float) -> None:
    one, other = make_config(**{name: whole}), make_config(**{name: decimal})
    assert one == other
    assert one.run_id == other.run_id


def test_a_configuration_is_frozen() -> None:
    config = make_config()
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


def test_a_configuration_keeps_its_own_hyperparameters() -> None:
    mine = {"lr": 0.1}
    config = make_config(hyperparameters=mine)
    run_id = config.run_id
    mine["lr"] = 0.2
    assert config.hyperparameters == {"lr": 0.1}
    assert config.run_id == run_id


def test_task_names_dataset_and_model() -> None:
    assert GOLDEN.task == "mnist-mlp"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("seed", -1, ValueError),
        ("seed", 1.5, TypeError),
        ("seed", True, TypeError),
        ("epochs", 0, ValueError),
        ("epochs", "3", TypeError),
        ("batch_size", 0, ValueError),
        ("batch_size", 64.0, TypeError),
        ("label_noise", -0.1, ValueError),
        ("label_noise", 1.0, ValueError),
        ("label_noise", math.nan, ValueError),
        ("label_noise", "0.2", TypeError),
        ("data_fraction", 0.0, ValueError),
        ("data_fraction", 1.1, ValueError),
        ("data_fraction", None, TypeError),
        ("width", 0.0, ValueError),
        ("width", math.inf, ValueError),
        ("width", "1", TypeError),
        ("precision", "float16", ValueError),
        ("schedule", "linear", ValueError),
        ("split", "train", ValueError),
        ("augment", "yes", TypeError),
        ("augment", 1, TypeError),
        ("dataset", 3, TypeError),
        ("model", None, TypeError),
        ("algorithm", 3, TypeError),
        ("hyperparameters", 0.1, TypeError),
    ],
)
def test_a_bad_field_is_named_with_its_value(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        replace(make_config(), **{name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, [0.1]])
def test_a_bad_hyperparameter_is_named_with_its_value(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        make_config(hyperparameters={"lr": value})
    assert "lr" in str(caught.value)
    assert repr(value) in str(caught.value)


# --- The record ------------------------------------------------------------------------------------------------------


def test_a_record_comes_back_from_json() -> None:
    record = make_record(GOLDEN, consistency=-0.25, wrongly_flipped=3.0)
    assert RunRecord.from_json(record.to_json()) == record


def test_values_that_are_not_finite_become_null() -> None:
    record = make_record(GOLDEN, "diverged", train_loss=math.nan, test_loss=math.inf)
    record.environment["note"] = {"deep": [1.0, -math.inf]}
    content = json.loads(record.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["curves"]["train_loss"] == [*[1.0] * (GOLDEN.epochs - 1), None]
    assert content["final"]["test_loss"] is None
    assert content["environment"]["note"] == {"deep": [1.0, None]}
    assert RunRecord.from_json(record.to_json()).final["train_loss"] is None


def test_the_outcome_leaves_out_time_and_memory_alone() -> None:
    record = make_record(GOLDEN, cpu_seconds=1.0, evaluation_seconds=1.0)
    slower = replace(
        record,
        curves={**record.curves, "seconds": [9.0, 9.0], "cpu_seconds": [9.0, 9.0], "evaluation_seconds": [9.0, 9.0]},
        environment={},
        total_seconds=99.0,
        peak_memory_bytes=1,
    )
    assert slower.outcome() == record.outcome()
    for other in (
        replace(record, status="diverged"),
        replace(record, config=make_config()),
        replace(record, curves={**record.curves, "test_accuracy": [1.0, 0.9 + 1e-16 * 2]}),
    ):
        assert other.outcome() != record.outcome()


def test_the_outcome_survives_json() -> None:
    record = make_record(GOLDEN, "diverged", train_loss=math.nan)
    assert RunRecord.from_json(record.to_json()).outcome() == record.outcome()


# --- The frames ------------------------------------------------------------------------------------------------------


def _two_records() -> list[RunRecord]:
    fer = make_record(make_config(algorithm="fer-sgd", label_noise=0.2), consistency=0.25)
    diverged = make_record(make_config(algorithm="adam", seed=1), "diverged", train_loss=None, seconds=4.0)
    return [fer, diverged]


def test_records_frame_has_one_row_per_run() -> None:
    records = _two_records()
    frame = records_frame(records)
    assert frame["run_id"].tolist() == [record.run_id for record in records]
    assert {field.name for field in fields(RunConfig)} - {"hyperparameters"} <= set(frame.columns)
    first, second = (row for _, row in frame.iterrows())
    expected = {
        "task": "digits-mlp",
        "dataset": "digits",
        "model": "mlp",
        "algorithm": "fer-sgd",
        "seed": 0,
        "epochs": 2,
        "label_noise": 0.2,
        "split": "test",
        "status": "completed",
        "commit": "0123456789abcdef",
        "test_accuracy": 0.9,
        "train_loss": 0.5,
        "consistency": 0.25,
        "hp_lr": 0.1,
        "hp_fer_weight": 0.3,
        "hp_memory_size": 50,
        "seconds_per_epoch": 1.5,  # the median of 1 and 2
        "total_seconds": 5.0,
        "peak_memory_bytes": 2**20,
    }
    assert {name: first[name] for name in expected} == expected
    assert second["status"] == "diverged"
    assert second["seconds_per_epoch"] == 2.5
    for missing in ("train_loss", "consistency", "hp_fer_weight", "cpu_seconds_per_epoch"):
        assert math.isnan(second[missing]), missing


def test_seconds_per_epoch_is_a_median() -> None:
    record = make_record(make_config())
    slow_start = replace(record, curves={"seconds": [100.0, 1.0, 2.0], "cpu_seconds": [3.0, None, 5.0]})
    row = records_frame([slow_start]).iloc[0]
    assert row["seconds_per_epoch"] == 2.0
    assert row["cpu_seconds_per_epoch"] == 4.0


def test_curves_frame_has_one_row_per_epoch() -> None:
    records = _two_records()
    frame = curves_frame(records)
    assert frame["run_id"].tolist() == [record.run_id for record in records for _ in range(2)]
    assert frame["epoch"].tolist() == [1, 2, 1, 2]
    assert frame["task"].unique().tolist() == ["digits-mlp"]
    assert frame["algorithm"].tolist() == ["fer-sgd", "fer-sgd", "adam", "adam"]
    assert frame["label_noise"].tolist() == [0.2, 0.2, 0.0, 0.0]
    assert frame["seed"].tolist() == [0, 0, 1, 1]
    assert frame["split"].unique().tolist() == ["test"]
    assert frame["test_accuracy"].tolist() == [1.0, 0.9, 1.0, 0.9]
    pd.testing.assert_series_equal(frame["train_loss"], pd.Series([1.0, 0.5, 1.0, math.nan], name="train_loss"))
    pd.testing.assert_series_equal(frame["consistency"], pd.Series([1.0, 0.25, math.nan, math.nan], name="consistency"))


def test_frames_of_no_records_are_empty() -> None:
    assert records_frame([]).empty
    assert curves_frame([]).empty
