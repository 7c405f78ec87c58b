"""The table of rules that were changed after their runs had been seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from advanced_optimizers.experiments.evidence.claim import Claim, FormerRule
from advanced_optimizers.experiments.evidence.comparisons import Status, Verdict
from advanced_optimizers.experiments.report.blocks import claim_blocks
from advanced_optimizers.experiments.report.blocks.blocks import ReportContext, render_block
from advanced_optimizers.experiments.report.tables.changed_rules import changed_rules_table, former_rules_table

TIE = "A tie counted as a failure."
LATE = "The ratio could not exceed 1."


def make_claim(key: str, former: FormerRule | None = None) -> Claim:
    return Claim(
        key=key,
        study="made-up",
        text=f"Claim {key}.",
        source="us",
        rule=f"The new rule of {key}.",
        decide=lambda data: Verdict("pending", ""),
        method="m",
        short="s",
        former=former,
    )


CLAIMS = {
    "a": make_claim("a", FormerRule("Every p < 0.05.", "not supported", "Of 2 comparisons: 2 tie.", TIE)),
    "b": make_claim("b"),
    "c": make_claim("c", FormerRule("The ratio is at most 1.", "supported", "0.2 times.", LATE)),
    "d": make_claim("d", FormerRule("Every p < 0.05.", "inconclusive", "Of 1 comparison: 1 tie.", TIE)),
}


def verdicts(**statuses: Status) -> Mapping[str, Verdict]:
    return {key: Verdict(status, f"The new sentence of {key}.") for key, status in statuses.items()}


NOW = verdicts(a="inconclusive", b="supported", c="not supported", d="pending")


def test_each_changed_rule_shows_its_former_and_its_present_verdict() -> None:
    changed = changed_rules_table(CLAIMS, NOW)
    rows = changed.set_index("Claim")
    assert set(rows.index) == {"`a`", "`c`", "`d`"}  # the rule of b was never changed
    assert rows.loc["`a`", "What the rule had said"] == "**not supported**: Of 2 comparisons: 2 tie."
    assert rows["Now"].to_dict() == {
        "`a`": "**inconclusive**",
        "`c`": "**not supported**",
        "`d`": "**pending**",
    }


def test_claims_with_the_same_fault_stand_together_and_name_it_once() -> None:
    changed = changed_rules_table(CLAIMS, NOW)
    assert changed["Claim"].tolist() == ["`a`", "`d`", "`c`"]
    assert changed["What was wrong"].tolist() == [TIE, "as above", LATE]


def test_a_former_rule_that_claims_shared_is_printed_once() -> None:
    changed, rules = changed_rules_table(CLAIMS, NOW), former_rules_table(CLAIMS, NOW)
    assert changed["No."].tolist() == [1, 2, 3]
    assert rules.to_dict("list") == {
        "Of No.": ["1, 2", "3"],
        "Rule as it was": ["Every p < 0.05.", "The ratio is at most 1."],
    }


def test_only_claims_with_a_verdict_are_listed() -> None:
    only = verdicts(c="supported")
    assert changed_rules_table(CLAIMS, only)["Claim"].tolist() == ["`c`"]
    assert former_rules_table(CLAIMS, only)["Of No."].tolist() == ["1"]


@pytest.mark.parametrize("statuses", [{}, {"b": "supported"}])
def test_without_a_changed_rule_there_is_no_table(statuses: dict[str, Status]) -> None:
    assert changed_rules_table(CLAIMS, verdicts(**statuses)).empty
    assert former_rules_table(CLAIMS, verdicts(**statuses)).empty


def test_the_blocks_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ReportContext(tmp_path, studies=[])
    assert render_block(context, "changed-rules", {}) == "*no rule was changed*"
    assert render_block(context, "former-rules", {}) == "*no rule was changed*"
    monkeypatch.setattr(claim_blocks, "CLAIMS", CLAIMS)
    context.verdicts = dict(NOW)
    assert render_block(context, "changed-rules", {}).count(TIE) == 1
    assert render_block(context, "former-rules", {}).count("The ratio is at most 1.") == 1
