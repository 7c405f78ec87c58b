"""The claim that layers are trained in parallel: the pipeline against the ordinary use of two cores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import RunData, Verdict
from advanced_optimizers.experiments.report.results.study_results import StudyResults
from advanced_optimizers.experiments.studies.claims.pipeline import compare_pipeline
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from benchmarks.pipeline import PARALLEL_TORCH, PIPELINE, REFERENCE

SPREAD = (0.99, 1.0, 1.01, 0.995, 1.005, 1.0, 0.998)


def rows(network: str, pipeline: float, threads: float = 0.6, turns: int = 7) -> list[dict[str, Any]]:
    """Turns of the three ways to train; one thread takes a second."""
    times = {REFERENCE: 1.0, PARALLEL_TORCH: threads, PIPELINE: pipeline}
    return [
        {"network": network, "training": training, "seconds": [seconds * share for share in SPREAD[:turns]]}
        for training, seconds in times.items()
    ]


def decide(measured: list[dict[str, Any]]) -> Verdict:
    return compare_pipeline(RunData(pd.DataFrame(), {"measurements": [], "pipeline": measured}))


@pytest.mark.parametrize(
    ("dense", "convolutional", "status"),
    [(0.5, 0.55, "supported"), (0.5, 0.7, "not supported"), (0.8, 0.9, "not supported")],
)
def test_every_network_must_beat_two_threads(dense: float, convolutional: float, status: str) -> None:
    assert decide([*rows("dense", dense), *rows("convolutional", convolutional)]).status == status


def test_an_interval_around_one_decides_nothing() -> None:
    measured = rows("dense", 0.6)
    measured[2]["seconds"] = [0.55, 0.65, 0.6, 0.56, 0.64, 0.61, 0.58]
    assert decide(measured).status == "inconclusive"


def test_the_sentence_has_both_comparisons() -> None:
    sentence = decide(rows("dense", 0.9)).sentence
    assert "1.500 [1.500, 1.500] times the seconds of two threads" in sentence
    assert "0.900 [0.900, 0.900] times those of one (network: dense; n = 7 turns)" in sentence


def test_too_few_turns_or_none_are_waited_for() -> None:
    assert decide([]).status == "pending"
    assert decide(rows("dense", 0.5, turns=5)).status == "pending"
    assert compare_pipeline(RunData(pd.DataFrame())).status == "pending"


def test_the_study_reads_the_measured_pipeline(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "epoch_overhead.json").write_text(json.dumps({"measurements": []}))
    (folder / "pipeline.json").write_text(json.dumps({"measurements": rows("dense", 0.9)}))
    results = StudyResults(get_study("sigprop", "full"), tmp_path)
    verdict = CLAIMS["sigprop-parallel"].decide(RunData(pd.DataFrame(), results.measurements))
    assert verdict.status == "not supported"
