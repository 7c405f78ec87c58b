"""How many comparisons are of runs from different processors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advanced_optimizers.experiments.evidence.comparisons import Comparison, metric_evidence
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.report.blocks.processors import across_processors
from tests.synthetic_runs import make_records

TASK = "mnist-mlp"
RECORDS = make_records([TASK], ("sgd", "adam", "fer-sgd"), (0.0,))
ROWS = metric_evidence(
    records_frame(RECORDS), "test_accuracy", [Comparison(TASK, "fer-sgd", "sgd"), Comparison(TASK, "adam", "sgd")]
)


def recorded_on(record: RunRecord, **environment: str) -> RunRecord:
    return replace(record, environment={**record.environment, **environment})


def count(records: list[RunRecord]) -> tuple[int, int]:
    return across_processors(ROWS, {record.run_id: record for record in records})


def test_on_one_processor_no_comparison_is_across() -> None:
    assert count(RECORDS) == (0, 2)


@pytest.mark.parametrize("environment", [{"device_name": "Another"}, {"cpu_capability": "AVX512"}])
def test_another_processor_of_one_algorithm(environment: dict[str, str]) -> None:
    moved = [recorded_on(r, **environment) if r.config.algorithm == "fer-sgd" else r for r in RECORDS]
    assert count(moved) == (1, 2)
    baseline = [recorded_on(r, **environment) if r.config.algorithm == "sgd" else r for r in RECORDS]
    assert count(baseline) == (2, 2)


def test_a_processor_that_both_runs_of_each_pair_share_is_none_across() -> None:
    assert count([recorded_on(r, device_name=f"Number {r.config.seed}") for r in RECORDS]) == (0, 2)


def test_a_single_pair_counts() -> None:
    moved = [
        recorded_on(r, device_name="Another") if (r.config.algorithm, r.config.seed) == ("adam", 3) else r
        for r in RECORDS
    ]
    assert count(moved) == (1, 2)


def test_a_comparison_that_several_claims_make_counts_once() -> None:
    assert across_processors([*ROWS, *ROWS], {record.run_id: record for record in RECORDS}) == (0, 2)
