"""The table of a source's statements, the same for notebook and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Verdict
from advanced_optimizers.experiments.evidence.statement import Statement, word_for
from advanced_optimizers.experiments.report.tables.table_files import noted, with_runs

_GARBLED = "\\*"
_NOTE = "A star marks a wording that is the summary's, and need not be the lecturer's."


def statements_table(statements: Sequence[Statement], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """One row per statement: what the source says, its word, what we find, and where it is shown.

    Args:
        statements: In the order of the rows.
        verdicts: On at least the claims that decide some of them.
    """
    table = pd.DataFrame(
        {
            "No.": [s.key for s in statements],
            "The source says": [f"{s.text}{_GARBLED if s.garbled else ''}" for s in statements],
            "Word": [f"**{word_for(s, verdicts)}**" for s in statements],
            "What we find": [s.finding for s in statements],
            "Shown in": [s.shown or "-" for s in statements],
        }
    )
    table = with_runs(table, [[r for key in s.claims for r in verdicts[key].run_ids] for s in statements])
    return noted(table, _NOTE) if any(s.garbled for s in statements) else table
