"""Tables of claims for the report: their verdicts at a glance, their evidence, and the texts of their rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import Status, Verdict

SYMBOLS: Mapping[Status, str] = {"supported": "✓", "not supported": "✗", "inconclusive": "○", "pending": "…"}

# A sentence of so many rules is stated once.
_SHARED_BY = 4
_SENTENCES = re.compile(r"(?<=[.)]) (?=[A-Z])")


def verdict_counts_table(groups: Mapping[str, Iterable[str]], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """How many claims of each group have which verdict, and the sums.

    Args:
        groups: The keys of the claims of each group, by its name; groups without a verdict are left out.
        verdicts: By the claims' keys.
    """
    counts = {name: Counter(verdicts[key].status for key in keys if key in verdicts) for name, keys in groups.items()}
    counts = {name: own for name, own in counts.items() if own}
    counts["All"] = sum(counts.values(), Counter())
    rows = [
        {"Claims about": name, "Claims": own.total(), **{f"{SYMBOLS[s]} {s}": own[s] for s in SYMBOLS}}
        for name, own in counts.items()
    ]
    return pd.DataFrame(rows)


def headlines_table(keys: Sequence[str], claims: Mapping[str, Claim], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """Some claims in a few words, each with its method, its verdict and its key."""
    return pd.DataFrame(
        {
            "Method": [claims[key].method for key in keys],
            "Claim": [claims[key].short for key in keys],
            "Verdict": [f"{SYMBOLS[verdicts[key].status]} {verdicts[key].status}" for key in keys],
            "Name": [f"`{key}`" for key in keys],
        }
    )


def claims_table(keys: Sequence[str], claims: Mapping[str, Claim], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """Claims in a few words with their keys, their verdicts and the evidence; the method only where several differ."""
    several = len({claims[key].method for key in keys}) > 1
    return pd.DataFrame(
        {
            "Claim": [f"{claims[key].method + ': ' if several else ''}{claims[key].short} (`{key}`)" for key in keys],
            "Verdict": [f"**{verdicts[key].status}**" for key in keys],
            "Evidence": [verdicts[key].sentence for key in keys],
        }
    )


def shared_sentences(rules: Iterable[str]) -> dict[str, str]:
    """The sentences that at least four different rules share, in the order of their first use, with short names."""
    counts = Counter(sentence for rule in dict.fromkeys(rules) for sentence in _SENTENCES.split(rule))
    shared = [sentence for sentence, count in counts.items() if count >= _SHARED_BY]
    return {sentence: f"S{number}" for number, sentence in enumerate(shared, start=1)}


def shared_sentences_table(shared: Mapping[str, str]) -> pd.DataFrame:
    """The sentences with their names."""
    return pd.DataFrame({"Name": list(shared.values()), "Sentence": list(shared)})


def rules_table(keys: Sequence[str], claims: Mapping[str, Claim], shared: Mapping[str, str]) -> pd.DataFrame:
    """Claims as their sources put them, and their rules, in which shared sentences stand by their names.

    Claims that share a rule stand together.
    """
    by_rule: dict[tuple[str, str], list[str]] = {}
    for key in keys:
        by_rule.setdefault((claims[key].source, claims[key].rule), []).append(key)
    return pd.DataFrame(
        {
            "Claim": [" ".join(f"{claims[key].text} (`{key}`)" for key in own) for own in by_rule.values()],
            "Source": [source for source, _ in by_rule],
            "Rule": [_abridged(rule, shared) for _, rule in by_rule],
        }
    )


def _abridged(rule: str, shared: Mapping[str, str]) -> str:
    """The rule with the names of shared sentences in their places."""
    return " ".join(f"[{shared[s]}]" if s in shared else s for s in _SENTENCES.split(rule))
