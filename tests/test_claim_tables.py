"""The report's tables of claims, rules and differences."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import Verdict
from advanced_optimizers.experiments.report.tables.claim_tables import (
    claims_table,
    headlines_table,
    rules_table,
    shared_sentences,
    verdict_counts_table,
)
from advanced_optimizers.experiments.report.tables.difference_table import differences_table

SHARED = "Otherwise inconclusive."
CLAIMS = {
    key: Claim(
        key, "made-up", f"Claim {key}.", "us", f"Rule {key}. {SHARED}", lambda data: Verdict("pending", ""), "m", key
    )
    for key in "abcd"
}
VERDICTS = {key: Verdict("supported" if key == "a" else "pending", f"Because of {key}.") for key in "abcd"}


def test_counts_add_up() -> None:
    table = verdict_counts_table({"one": "ab", "two": "cd", "none": "x"}, VERDICTS)
    assert table["Claims about"].tolist() == ["one", "two", "All"]
    assert table["Claims"].tolist() == [2, 2, 4]
    assert table["✓ supported"].tolist() == [1, 0, 1]
    assert table.drop(columns=["Claims about", "Claims"]).sum(axis=1).tolist() == [2, 2, 4]


def test_claims_are_found_by_their_keys() -> None:
    (row,) = claims_table("a", CLAIMS, VERDICTS).to_dict("records")
    assert row == {"Claim": "a (`a`)", "Verdict": "**supported**", "Evidence": "Because of a."}
    other = CLAIMS | {"b": replace(CLAIMS["b"], method="n")}
    assert claims_table("ab", other, VERDICTS)["Claim"].tolist() == ["m: a (`a`)", "n: b (`b`)"]
    assert headlines_table("ba", CLAIMS, VERDICTS)["Name"].tolist() == ["`b`", "`a`"]


def test_what_four_rules_share_is_said_once() -> None:
    shared = shared_sentences(claim.rule for claim in CLAIMS.values())
    assert shared == {SHARED: "S1"}
    assert rules_table("ab", CLAIMS, shared)["Rule"].tolist() == ["Rule a. [S1]", "Rule b. [S1]"]
    assert shared_sentences(CLAIMS[key].rule for key in "abc") == {}


def test_claims_with_one_rule_share_a_row() -> None:
    claims = CLAIMS | {"b": replace(CLAIMS["b"], rule=CLAIMS["a"].rule)}
    assert rules_table("abc", claims, {})["Claim"].tolist() == ["Claim a. (`a`) Claim b. (`b`)", "Claim c. (`c`)"]


def test_differences_are_means_over_seeds_and_ratios_of_times() -> None:
    rows = [
        (algorithm, seed, value + seed / 1000) for algorithm, value in (("x", 0.5), ("y", 0.4)) for seed in (0, 1, 2)
    ]
    frame = pd.DataFrame(rows, columns=["algorithm", "seed", "test_accuracy"])
    frame = frame.assign(task="t", label_noise=0.0, status="completed", split="test", run_id=[str(i) for i in range(6)])
    pairs = [(2.0, 1.0)] * 6
    measured = {"measurements": [{"task": "t", "algorithm": "x", "baseline": "y", "pairs": pairs}]}
    (row,) = differences_table(
        frame,
        measured,
        [("x", "y")],
        tasks=["t", "u"],
        noises=[0.0],
        metrics=["time", "test_accuracy"],
        labels={"x": "X"},
    ).to_dict("records")
    assert row["Comparison"] == "X vs y"
    assert row["t: time (ratio)"].startswith("2.000 [")
    assert row["t: test accuracy (points)"] == "+10.00 [+10.00, +10.00]"
    assert row["u: test accuracy (points)"] == "-"
