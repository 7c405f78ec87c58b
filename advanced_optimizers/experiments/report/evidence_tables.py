"""The tables of claims and of the comparisons behind them, with the runs that were compared."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import Verdict
from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels, noise_words, p_words
from advanced_optimizers.experiments.report import tables


def claims_table(claims: Mapping[str, Claim], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """Each claim, who makes it, its verdict and the reason, with its comparisons' runs (see ``tables.with_runs``)."""
    table = pd.DataFrame(
        {
            "Claim": [claims[key].text for key in verdicts],
            "Source": [claims[key].source for key in verdicts],
            "Verdict": [f"**{verdict.status}**" for verdict in verdicts.values()],
            "Reason": [verdict.sentence for verdict in verdicts.values()],
        }
    )
    return tables.with_runs(table, [verdict.run_ids for verdict in verdicts.values()])


def evidence_table(verdict: Verdict, *, labels: Labels) -> pd.DataFrame:
    """Each comparison of a verdict, its test, the two checks of that test, and its runs (see ``tables.with_runs``)."""
    rows = []
    for row in verdict.evidence:
        c = row.comparison
        names = (labels.get(c.algorithm, c.algorithm), labels.get(c.baseline, c.baseline))
        rows.append(
            {
                "Task": f"{labels.get(c.task, c.task)}, {noise_words(c.label_noise)}",
                "Comparison": f"{names[0]} against {names[1]}",
                "Result [95 % interval]": row.estimate,
                "n": row.interval.n,
                "Outcome": row.outcome + (", smaller than claimed" if row.falls_short else ""),
            }
        )
        if row.paired is not None and row.p_holm is not None:
            rows[-1] |= {
                "Paired t-test": p_words(row.paired.p),
                "After Holm": p_words(row.p_holm),
                "Wilcoxon": p_words(row.paired.p_wilcoxon),
                "Bootstrap [95 % interval]": METRICS[row.quantity].difference(row.paired.bootstrap),
            }
    return tables.with_runs(pd.DataFrame(rows), [row.run_ids for row in verdict.evidence])
