"""The tables of claims and comparisons, and how their CSV files lead from a number to its runs."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import RunData
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.evidence.statistics import mean
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.report.tables.evidence_tables import claims_table, evidence_table
from advanced_optimizers.experiments.report.tables.table_files import render_tables, to_markdown, with_runs
from advanced_optimizers.experiments.report.tables.tables import summary_table
from advanced_optimizers.experiments.studies.registry import CLAIMS, decide_claims
from tests.synthetic_runs import make_measurements, make_records

RECORDS = {record.run_id: record for record in make_records()}
FRAME = records_frame(RECORDS.values())
MEASUREMENTS = make_measurements({("fer-sgd", "sgd"): 1.02, ("fer-adam", "adam"): 1.08})
VERDICTS = decide_claims("fer", RunData(FRAME))
TABLES = Path(__file__).parent.parent / "results" / "tables"


@cache
def known_runs() -> frozenset[str]:
    return frozenset(record.stem for record in (TABLES.parent / "runs").rglob("*.json"))


def csv_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_tables({"table": table})["table.csv"])))


def test_claims_and_evidence() -> None:
    table = claims_table(CLAIMS, VERDICTS)
    assert len(table) == len(VERDICTS) == 5
    assert table["Verdict"].tolist()[1] == "**pending**"
    evidence = evidence_table(VERDICTS["fer-beats-baselines"].evidence, labels=labels())
    assert len(evidence) == 6
    assert evidence["Outcome"].str.contains("smaller than claimed").any()
    assert "Ratio" not in evidence
    measured = CLAIMS["fer-overhead"].decide(RunData(FRAME, MEASUREMENTS))
    assert len(evidence_table(measured.evidence, labels=labels())) == 4


def test_each_comparison_names_its_runs_in_csv() -> None:
    verdict = VERDICTS["fer-beats-baselines"]
    rows = csv_rows(evidence_table(verdict.evidence, labels=labels()))
    for row, evidence in zip(rows, verdict.evidence, strict=True):
        ids = row["Runs"].split()
        assert ids == list(evidence.run_ids)
        configs = [RECORDS[run_id].config for run_id in ids]
        assert sorted(config.seed for config in configs) == sorted([*range(5)] * 2)
        c = evidence.comparison
        assert {config.algorithm for config in configs} == {c.algorithm, c.baseline}
        assert {(config.task, config.label_noise) for config in configs} == {(c.task, c.label_noise)}


def test_each_claim_names_its_runs_in_csv() -> None:
    rows = csv_rows(claims_table(CLAIMS, VERDICTS))
    assert [row["Runs"].split() for row in rows] == [verdict.run_ids for verdict in VERDICTS.values()]
    assert [bool(row["Runs"]) for row in rows] == [bool(verdict.evidence) for verdict in VERDICTS.values()]


def test_each_mean_is_that_of_its_runs() -> None:
    rows = csv_rows(summary_table(FRAME, METRICS.keys() & {"test_accuracy", "test_loss"}, labels=labels()))
    assert len(rows) == 2 * 2 * 2 * 6
    for row in rows:
        values = [RECORDS[run_id].final[row["metric"]] for run_id in row["Runs"].split()]
        assert float(row["mean"]) == pytest.approx(mean([v for v in values if v is not None]), rel=1e-5)
        assert int(row["n"]) == len(values)


def test_neither_markdown_nor_the_screen_is_filled_with_ids() -> None:
    evidence = evidence_table(VERDICTS["fer-beats-baselines"].evidence, labels=labels())
    some_id = VERDICTS["fer-beats-baselines"].run_ids[0]
    assert some_id not in to_markdown(evidence)
    assert some_id not in evidence.to_string()
    assert "Runs" not in evidence


def test_what_was_measured_and_not_run_has_no_such_column() -> None:
    measured = CLAIMS["fer-overhead"].decide(RunData(FRAME, MEASUREMENTS))
    assert "Runs" not in csv_rows(evidence_table(measured.evidence, labels=labels()))[0]
    assert "Runs" not in render_tables({"empty": with_runs(pd.DataFrame(), [])})["empty.csv"]


@pytest.mark.parametrize("path", sorted(TABLES.glob("*-evidence-*.csv")), ids=lambda path: path.stem)
def test_recorded_comparisons_lead_to_records(path: Path) -> None:
    known = known_runs()
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    claim = path.stem.partition("-evidence-")[2]
    not_by_runs = ("overhead", "time", "speed", "fastest", "seconds", "memory")
    by_runs = ("modal-attention-time",)  # at equal time, which is set and not measured
    measured = claim not in by_runs and any(word in claim for word in not_by_runs)
    assert all(bool(row.get("Runs")) != measured for row in rows)
    assert all(set(row.get("Runs", "").split()) <= known for row in rows)
