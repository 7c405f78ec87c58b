"""The rules besides those about metrics and time: epochs, margins of accuracy, memory, structural properties."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.rules import (
    check_properties,
    compare_epochs,
    compare_margin,
    compare_memory,
)
from advanced_optimizers.experiments.records.frames import epochs_to, records_frame
from advanced_optimizers.experiments.report.tables.tables import epochs_table
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
    return compare_margin(RunData(frame_of(loss, **changes)), margin=allowed, comparisons=[PAIR])  # type: ignore[arg-type]


def epochs(own: Sequence[float], base: Sequence[float], limit: float = 0.8) -> Verdict:
    """The verdict on runs of 10 epochs that took so many to reach their target; NaN means that a run never did."""
    frame = frame_of(0.0)
    for algorithm, counts in (("fer-sgd", own), ("sgd", base)):
        frame.loc[frame["algorithm"] == algorithm, "epochs_to_target"] = list(counts)
    return compare_epochs(RunData(frame), limit=limit, comparisons=[PAIR])


class TestEpochs:
    FIVE = (5.0, 5.1, 4.9, 5.2, 4.8)
    NEVER = (5.0, 5.1, 4.9, 5.2, math.nan)

    def test_clearly_fewer_is_supported(self) -> None:
        verdict = epochs([0.6 * count for count in self.FIVE], self.FIVE)
        assert verdict.status == "supported"
        assert "0.600 [0.600, 0.600] times" in verdict.sentence
        assert verdict.run_ids == sorted(frame_of(0.0)["run_id"])

    def test_fewer_but_not_by_as_much_is_not(self) -> None:
        assert epochs([0.9 * count for count in self.FIVE], self.FIVE).status == "not supported"
        assert epochs(self.FIVE, self.FIVE).status == "not supported"

    def test_an_interval_around_the_limit_decides_nothing(self) -> None:
        assert epochs((3.0, 4.5, 4.0, 5.0, 3.5), self.FIVE).status == "inconclusive"

    def test_a_run_of_the_method_that_ends_too_early_only_counts_against_it(self) -> None:
        assert epochs(self.NEVER, self.FIVE).status == "inconclusive"
        assert epochs([math.nan] * 5, self.FIVE).status == "not supported"  # at least twice as many
        # It ended after 10 epochs while the baseline took 25, but it may have needed any number.
        assert epochs([math.nan] * 5, [25.0] * 5).status == "inconclusive"

    def test_a_run_of_the_baseline_that_ends_too_early_only_counts_for_the_method(self) -> None:
        assert epochs(self.FIVE, [math.nan] * 5).status == "supported"  # at most half as many
        assert epochs([9.9] * 5, [math.nan] * 5).status == "inconclusive"

    def test_runs_that_end_too_early_on_both_sides_say_nothing(self) -> None:
        assert epochs([math.nan] * 5, [math.nan] * 5).status == "inconclusive"

    def test_several_ratios_raise_the_bar_for_above_and_not_for_within(self) -> None:
        frame, own = frame_of(0.0), (4.0, 4.7, 4.2, 4.5, 4.4)  # alone, p = 0.03 against 0.8
        frame.loc[frame["algorithm"] == "fer-sgd", "epochs_to_target"] = list(own)
        frame.loc[frame["algorithm"] == "sgd", "epochs_to_target"] = list(self.FIVE)
        four = [Comparison(TASK, name, "sgd") for name in ("fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam")]
        others = [frame[frame["algorithm"] == "fer-sgd"].assign(algorithm=c.algorithm) for c in four[1:]]
        data = RunData(pd.concat([frame, *others]))
        assert compare_epochs(data, limit=0.8, comparisons=four[:1]).status == "not supported"
        assert compare_epochs(data, limit=0.8, comparisons=four).status == "inconclusive"
        assert compare_epochs(data, limit=1.0, comparisons=four).status == "supported"

    def test_missing_seeds_are_waited_for(self) -> None:
        frame = frame_of(0.0, seeds=4).assign(epochs_to_target=5.0)
        assert compare_epochs(RunData(frame), limit=0.8, comparisons=[PAIR]).status == "pending"


class TestCountingEpochs:
    def test_crossings_between_two_epochs_are_interpolated(self) -> None:
        assert epochs_to([0.5, 0.7, 0.9], 0.8) == pytest.approx(2.5)
        assert epochs_to([0.5, 0.7, 0.9], 0.7) == pytest.approx(2.0)

    def test_the_first_crossing_counts(self) -> None:
        assert epochs_to([0.5, 0.9, 0.6, 0.9], 0.9) == pytest.approx(2.0)

    def test_the_first_epoch_has_no_line(self) -> None:
        assert epochs_to([0.9, 0.95], 0.8) == 1.0

    def test_never(self) -> None:
        assert math.isnan(epochs_to([0.5, None, 0.7], 0.8))
        assert math.isnan(epochs_to([], 0.8))

    def test_a_task_without_a_target_is_not_counted(self) -> None:
        records = [make_record(make_config(TASK, "sgd", 0))]
        assert "epochs_to_target" not in records_frame(records)
        assert records_frame(records, {"other": 0.5})["epochs_to_target"].isna().all()
        assert records_frame(records, {TASK: 0.5})["epochs_to_target"].notna().all()

    def test_the_table_counts_a_run_that_never_reached_it_as_longer_than_it_was(self) -> None:
        frame = frame_of(0.0)
        frame["epochs_to_target"] = [4.0, 5.0, 6.0, math.nan, math.nan] + [math.nan] * 3 + [7.0, 8.0]
        table = epochs_table(frame, {TASK: 0.9}, labels=labels())
        assert table["Reached"].tolist() == ["3 of 5 runs", "2 of 5 runs"]
        assert table["Epochs, median (range)"].tolist() == ["6.0 (4.0 to over 10)", "over 10 (7.0 to over 10)"]
        frame["epochs_to_target"] = math.nan
        assert set(epochs_table(frame, {TASK: 0.9}, labels=labels())["Epochs, median (range)"]) == {"over 10"}


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

    def test_identical_runs_say_nothing_about_a_loss(self) -> None:
        frame = records_frame(
            make_record(make_config(TASK, a, s), BASE[s]) for a in ("sgd", "fer-sgd") for s in range(5)
        )
        verdict = compare_margin(RunData(frame), margin=0.005, comparisons=[PAIR])
        assert (verdict.status, verdict.evidence[0].outcome) == ("inconclusive", "identical")

    def test_missing_seeds_are_waited_for(self) -> None:
        assert margin(0.0, seeds=4).status == "pending"

    def test_a_diverged_run_decides_nothing(self) -> None:
        assert margin(0.0, status="diverged").status == "inconclusive"

    def test_one_comparison_beyond_the_margin_refutes(self) -> None:
        frame = pd.concat(
            [frame_of(0.0), records_frame(make_record(make_config(TASK, "adam", s), 0.9) for s in range(5))]
        )
        verdict = compare_margin(RunData(frame), margin=0.005, comparisons=[PAIR, Comparison(TASK, "adam", "sgd")])
        assert verdict.status == "not supported"

    def test_several_losses_raise_the_bar_for_beyond_and_not_for_within(self) -> None:
        four = [Comparison(TASK, name, "sgd") for name in ("fer-sgd", "fer-adam", "flipping-sgd", "flipping-adam")]

        def verdict(loss: float) -> Verdict:
            frame = frame_of(loss)
            others = [frame[frame["algorithm"] == "fer-sgd"].assign(algorithm=c.algorithm) for c in four[1:]]
            return compare_margin(RunData(pd.concat([frame, *others])), margin=0.005, comparisons=four)

        assert verdict(0.0036).status == "supported"
        assert verdict(0.0064).status == "inconclusive"  # alone, it refutes
        assert verdict(0.0090).status == "not supported"

    def test_the_p_value_is_against_the_margin(self) -> None:
        (row,) = margin(0.0064).evidence
        assert row.null == -0.005
        assert row.paired is not None
        assert row.p_holm == row.paired.p < 0.05


def memory(counts: Sequence[tuple[int, int]], limit: float = 1.0) -> Verdict:
    compared = [Comparison(f"task{i}", "sigprop", "adam") for i in range(len(counts))]
    rows = [
        {"task": c.task, "algorithm": c.algorithm, "baseline": c.baseline, "pairs": [], "peak_bytes": list(count)}
        for c, count in zip(compared, counts, strict=True)
    ]
    return compare_memory(RunData(pd.DataFrame(), {"measurements": rows}), limit=limit, comparisons=compared)


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
            verdict = compare_memory(RunData(pd.DataFrame(), measurements), limit=1.0, comparisons=[PAIR])
            assert verdict.status == "pending"
            assert "sgd" in verdict.sentence.lower()


class TestProperties:
    def test_all_must_hold(self) -> None:
        rows = [
            {"property": "no error travels back", "holds": True},
            {"property": "one sample at a time", "holds": False},
        ]
        verdict = check_properties(RunData(pd.DataFrame(), {"measurements": [], "properties": rows}))
        assert verdict.status == "not supported"
        assert verdict.sentence == "1 of 2 properties hold. Not: one sample at a time."
        assert (
            check_properties(RunData(pd.DataFrame(), {"measurements": [], "properties": rows[:1]})).status
            == "supported"
        )

    @pytest.mark.parametrize("measurements", [None, {"measurements": []}])
    def test_without_a_test_there_is_no_verdict(self, measurements: dict | None) -> None:
        assert check_properties(RunData(pd.DataFrame(), measurements)).status == "pending"
