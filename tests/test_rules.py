"""The rules beside those of metrics and of time: margins of accuracy, memory, structural properties."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence import Comparison, Verdict
from advanced_optimizers.experiments.rules import check_properties, compare_margin, compare_memory
from advanced_optimizers.experiments.runs import records_frame
from tests.synthetic_runs import make_config, make_record

TASK = "mnist-mlp"
PAIR = Comparison(TASK, "fer-sgd", "sgd")
BASE = (0.951, 0.949, 0.952, 0.948, 0.950)
CHANCE = (0.0010, -0.0010, 0.0012, -0.0012, 0.0)  # a 95 % interval of +-0.00137 around a mean difference


def frame_of(loss: float, seeds: int = 5, status: str = "completed") -> pd.DataFrame:
    lossy = [base - loss + chance for base, chance in zip(BASE, CHANCE, strict=True)]
    return records_frame(
        make_record(make_config(TASK, algorithm, seed), values[seed], status if algorithm == "fer-sgd" else "completed")
        for algorithm, values in (("sgd", BASE), ("fer-sgd", lossy))
        for seed in range(seeds)
    )


def margin(loss: float, allowed: float = 0.005, **changes: object) -> Verdict:
    return compare_margin(frame_of(loss, **changes), margin=allowed, comparisons=[PAIR])  # type: ignore[arg-type]


class TestMargin:
    @pytest.mark.parametrize(
        ("loss", "status"),
        [
            (-0.010, "supported"),  # a gain
            (0.0, "supported"),
            (0.0036, "supported"),
            (0.0037, "inconclusive"),
            (0.0063, "inconclusive"),
            (0.0064, "not supported"),
        ],
    )
    def test_the_whole_interval_decides(self, loss: float, status: str) -> None:
        assert margin(loss).status == status

    def test_the_sentence_names_the_largest_loss(self) -> None:
        verdict = margin(0.010)
        assert "1 above" in verdict.sentence
        assert "-1.00" in verdict.sentence
        assert len(verdict.run_ids) == 10

    def test_missing_seeds_are_waited_for(self) -> None:
        assert margin(0.0, seeds=4).status == "pending"

    def test_a_diverged_run_decides_nothing(self) -> None:
        assert margin(0.0, status="diverged").status == "inconclusive"

    def test_one_comparison_beyond_the_margin_refutes(self) -> None:
        frame = pd.concat(
            [frame_of(0.0), records_frame(make_record(make_config(TASK, "adam", s), 0.9) for s in range(5))]
        )
        verdict = compare_margin(frame, margin=0.005, comparisons=[PAIR, Comparison(TASK, "adam", "sgd")])
        assert verdict.status == "not supported"


def memory(counts: Sequence[tuple[int, int]], limit: float = 1.0) -> Verdict:
    compared = [Comparison(f"task{i}", "sigprop", "adam") for i in range(len(counts))]
    rows = [
        {"task": c.task, "algorithm": c.algorithm, "baseline": c.baseline, "pairs": [], "peak_bytes": list(count)}
        for c, count in zip(compared, counts, strict=True)
    ]
    return compare_memory(pd.DataFrame(), {"measurements": rows}, limit=limit, comparisons=compared)


class TestMemory:
    def test_every_ratio_within_the_limit_supports(self) -> None:
        verdict = memory([(50, 100), (100, 100)])
        assert verdict.status == "supported"
        assert "2 within" in verdict.sentence

    def test_one_ratio_above_the_limit_refutes(self) -> None:
        verdict = memory([(50, 100), (101, 100)])
        assert verdict.status == "not supported"
        assert "1.010" in verdict.sentence

    def test_what_was_not_counted_is_waited_for(self) -> None:
        for measurements in (None, {"measurements": []}):
            verdict = compare_memory(pd.DataFrame(), measurements, limit=1.0, comparisons=[PAIR])
            assert verdict.status == "pending"
            assert "sgd" in verdict.sentence.lower()


class TestProperties:
    def test_all_must_hold(self) -> None:
        rows = [
            {"property": "no error travels back", "holds": True},
            {"property": "one sample at a time", "holds": False},
        ]
        verdict = check_properties(pd.DataFrame(), {"measurements": [], "locality": rows})
        assert verdict.status == "not supported"
        assert verdict.sentence == "1 of 2 properties hold. Not: one sample at a time."
        assert check_properties(pd.DataFrame(), {"measurements": [], "locality": rows[:1]}).status == "supported"

    @pytest.mark.parametrize("measurements", [None, {"measurements": []}])
    def test_without_a_test_there_is_no_verdict(self, measurements: dict | None) -> None:
        assert check_properties(pd.DataFrame(), measurements).status == "pending"
