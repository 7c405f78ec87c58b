"""The rules that were changed after their runs had been seen: what was wrong, and what they had said."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim, FormerRule
from advanced_optimizers.experiments.evidence.comparisons import Verdict

_AS_ABOVE = "as above"


def changed_rules_table(claims: Mapping[str, Claim], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """The former and the present verdict of each claim whose rule was changed.

    Claims that share what was wrong with their rule stand together.

    Args:
        claims: All claims, by key.
        verdicts: The present verdicts of those to list, by key.

    Returns:
        A frame of text, empty if no rule was changed.
    """
    seen: set[str] = set()
    rows = []
    for number, (key, old) in enumerate(_changed(claims, verdicts).items(), start=1):
        rows.append(
            {
                "No.": number,
                "Claim": f"`{key}`",
                "What was wrong": _AS_ABOVE if old.why in seen else old.why,
                "What the rule had said": f"**{old.verdict}**: {old.result}",
                "Now": f"**{verdicts[key].status}**",
            }
        )
        seen.add(old.why)
    return pd.DataFrame(rows)


def former_rules_table(claims: Mapping[str, Claim], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """The former rules, each once, with the numbers that their claims have in :func:`changed_rules_table`."""
    numbers: dict[str, list[str]] = {}
    for number, old in enumerate(_changed(claims, verdicts).values(), start=1):
        numbers.setdefault(old.rule, []).append(str(number))
    return pd.DataFrame({"Of No.": ", ".join(own), "Rule as it was": rule} for rule, own in numbers.items())


def _changed(claims: Mapping[str, Claim], verdicts: Mapping[str, Verdict]) -> dict[str, FormerRule]:
    """The former rules by the keys of their claims; those that had the same fault stand together."""
    former = {key: rule for key in verdicts if (rule := claims[key].former) is not None}
    faults = dict.fromkeys(rule.why for rule in former.values())
    return {key: former[key] for why in faults for key in former if former[key].why == why}
