"""The blocks about claims: their verdicts, evidence and rules."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

from advanced_optimizers._checks import check_known
from advanced_optimizers.experiments.report.blocks.gain_table import gains_table
from advanced_optimizers.experiments.report.tables import claim_tables
from advanced_optimizers.experiments.report.tables.changed_rules import changed_rules_table, former_rules_table
from advanced_optimizers.experiments.report.tables.claim_tables import SYMBOLS
from advanced_optimizers.experiments.report.tables.statement_table import statements_table
from advanced_optimizers.experiments.report.tables.table_files import PENDING, to_markdown
from advanced_optimizers.experiments.studies.registry import CLAIMS, TOPICS

if TYPE_CHECKING:
    from advanced_optimizers.experiments.report.blocks.blocks import ReportContext


def verdict(context: ReportContext, claim: str) -> str:
    """A claim's verdict in one or two words."""
    check_known("claim", claim, context.verdicts)
    return context.verdicts[claim].status


def symbol(context: ReportContext, claim: str) -> str:
    """A claim's verdict as one character."""
    check_known("claim", claim, context.verdicts)
    return SYMBOLS[context.verdicts[claim].status]


def legend(context: ReportContext) -> str:
    """The meaning of the symbols for verdicts."""
    return ", ".join(f"{symbol} {status}" for status, symbol in SYMBOLS.items())


def tally(context: ReportContext) -> str:
    """How many claims have which verdict."""
    counts = Counter(verdict.status for verdict in context.verdicts.values())
    return f"of {counts.total()} claims, {', '.join(f'{counts[s]} {s}' for s in SYMBOLS if counts[s])}"


def reason(context: ReportContext, claim: str) -> str:
    """The reason for a verdict, in a sentence or two."""
    check_known("claim", claim, context.verdicts)
    return context.verdicts[claim].sentence


def rule(context: ReportContext, claim: str) -> str:
    """The rule that decides a claim."""
    check_known("claim", claim, context.verdicts)
    return CLAIMS[claim].rule


def verdict_counts(context: ReportContext) -> str:
    """How many claims about each method have which verdict; a method's name ends at a comma or a colon."""
    groups: dict[str, list[str]] = {}
    for key in context.verdicts:
        groups.setdefault(re.split("[,:]", CLAIMS[key].method)[0], []).append(key)
    return to_markdown(claim_tables.verdict_counts_table(groups, context.verdicts))


def headlines(context: ReportContext, claims: str) -> str:
    """Chosen claims, separated by commas, and their verdicts."""
    keys = [check_known("claim", key, context.verdicts) for key in claims.split(",")]
    return to_markdown(claim_tables.headlines_table(keys, CLAIMS, context.verdicts))


def claims(context: ReportContext, topics: str) -> str:
    """The claims of some topics with their keys, verdicts and evidence."""
    keys = _claims_of(context, topics)
    return to_markdown(claim_tables.claims_table(keys, CLAIMS, context.verdicts))


def shared_sentences(context: ReportContext) -> str:
    """The sentences that several rules share, and the names that stand for them."""
    return to_markdown(claim_tables.shared_sentences_table(_shared(context)))


def rules(context: ReportContext, topics: str) -> str:
    """The rules of some topics' claims, shared sentences by their names."""
    keys = _claims_of(context, topics)
    return to_markdown(claim_tables.rules_table(keys, CLAIMS, _shared(context)))


def _claims_of(context: ReportContext, topics: str) -> list[str]:
    """The keys of the claims of topics, which are separated by commas."""
    known = {name: [c.key for c in topic.claims if c.key in context.verdicts] for name, topic in TOPICS.items()}
    return [key for topic in topics.split(",") for key in known[check_known("topic", topic, known)]]


def _shared(context: ReportContext) -> dict[str, str]:
    return claim_tables.shared_sentences(CLAIMS[key].rule for key in context.verdicts)


def changed_rules(context: ReportContext) -> str:
    """The rules that were changed after their runs had been seen: what was wrong, what they had said, and now say."""
    return _changed(changed_rules_table(CLAIMS, context.verdicts))


def former_rules(context: ReportContext) -> str:
    """The rules as they were before they were changed."""
    return _changed(former_rules_table(CLAIMS, context.verdicts))


def _changed(table: pd.DataFrame) -> str:
    return "*no rule was changed*" if table.empty else to_markdown(table)


def errors(context: ReportContext, claim: str, task: str, baseline: str) -> str:
    """The ratio of errors to a baseline's, where a claimed gain is more than the scale holds, with its interval."""
    check_known("claim", claim, context.verdicts)
    for row in context.verdicts[claim].evidence:
        ratio = None if row.claimed is None else row.claimed.error_ratio
        if (row.comparison.task, row.comparison.baseline) == (task, baseline) and ratio is not None:
            return f"{ratio.bracket(digits=3)} (n = {ratio.n})"
    return PENDING


def gains(context: ReportContext, topic: str) -> str:
    """A topic's table of gains."""
    check_known("topic", topic, {name: known for name, known in TOPICS.items() if known.gains})
    return to_markdown(gains_table(TOPICS[topic].gains, context.results))


def statements(context: ReportContext, topic: str) -> str:
    """A topic's statements, each with its word."""
    check_known("topic", topic, {name: known for name, known in TOPICS.items() if known.statements})
    return to_markdown(statements_table(TOPICS[topic].statements, context.verdicts))
