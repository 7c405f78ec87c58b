"""The rules that were changed after their runs had been seen: what was wrong, and what they had said."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim, FormerRule
from advanced_optimizers.experiments.evidence.comparisons import Verdict

_AS_ABOVE = "as above"


def changed_rules_tables(claims: Mapping[str, Claim], verdicts: Mapping[str, Verdict]) -> list[pd.DataFrame]:
    """The former and the present verdict of each claim whose rule was changed, and the former rules.

    Claims that share what was wrong with their rule stand together, and so do those that shared the rule.

    Args:
        claims: All claims, by key.
        verdicts: The present verdicts of those to list, by key.

    Returns:
        Two frames of text, or none if no rule was changed.
    """
    former = {key: rule for key in verdicts if (rule := claims[key].former) is not None}
    if not former:
        return []
    order = [
        key for why in dict.fromkeys(rule.why for rule in former.values()) for key in former if former[key].why == why
    ]
    return [_verdicts_table(order, claims, former, verdicts), _rules_table(order, former)]


def _verdicts_table(
    order: list[str], claims: Mapping[str, Claim], former: Mapping[str, FormerRule], verdicts: Mapping[str, Verdict]
) -> pd.DataFrame:
    seen: set[str] = set()
    rows = []
    for number, key in enumerate(order, start=1):
        old = former[key]
        rows.append(
            {
                "No.": number,
                "Claim": claims[key].text,
                "What was wrong": _AS_ABOVE if old.why in seen else old.why,
                "What the rule had said": f"**{old.verdict}**: {old.result}",
                "Now": f"**{verdicts[key].status}**",
            }
        )
        seen.add(old.why)
    return pd.DataFrame(rows)


def _rules_table(order: list[str], former: Mapping[str, FormerRule]) -> pd.DataFrame:
    numbers: dict[str, list[str]] = {}
    for number, key in enumerate(order, start=1):
        numbers.setdefault(former[key].rule, []).append(str(number))
    return pd.DataFrame({"Of No.": ", ".join(own), "Rule as it was": rule} for rule, own in numbers.items())
