"""The tables of claims and of the comparisons behind them, with the runs that were compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from advanced_optimizers.experiments.evidence.claim import Claim
from advanced_optimizers.experiments.evidence.comparisons import ClaimedGain, Evidence, Verdict
from advanced_optimizers.experiments.evidence.labels import where
from advanced_optimizers.experiments.evidence.metrics import METRICS, Labels, Metric, p_words
from advanced_optimizers.experiments.report.tables import table_files

_NOTHING = "-"


def claims_table(claims: Mapping[str, Claim], verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """Each claim, who makes it, its verdict and the reason, with its comparisons' runs (see ``with_runs``)."""
    table = pd.DataFrame(
        {
            "Claim": [claims[key].text for key in verdicts],
            "Source": [claims[key].source for key in verdicts],
            "Verdict": [f"**{verdict.status}**" for verdict in verdicts.values()],
            "Reason": [verdict.sentence for verdict in verdicts.values()],
        }
    )
    return table_files.with_runs(table, [verdict.run_ids for verdict in verdicts.values()])


def evidence_table(evidence: Sequence[Evidence], *, labels: Labels) -> pd.DataFrame:
    """Each comparison, its tests, what they could have found, and its runs (see ``with_runs``)."""
    stated = any(row.comparison.claimed is not None for row in evidence)
    rows = []
    for row in evidence:
        c = row.comparison
        names = (labels.get(c.algorithm, c.algorithm), labels.get(c.baseline, c.baseline))
        rows.append(
            {
                "Task": where(c.task, c.label_noise, labels),
                "Comparison": f"{names[0]} against {names[1]}",
                "Result [95 % interval]": row.estimate,
                "n": row.interval.n,
                "Outcome": _outcome(row),
                **({"Claimed gain": _claimed(row)} if stated else {}),
                **_tests(row),
            }
        )
    table = table_files.with_runs(pd.DataFrame(rows), [row.run_ids for row in evidence])
    return table_files.noted(table, power_note(evidence))


def power_note(evidence: Sequence[Evidence]) -> str:
    """What the columns about the tests mean; empty for ratios."""
    rows = [row for row in evidence if row.paired is not None]
    if not rows:
        return ""
    against = {METRICS[row.quantity].difference_words(row.null) for row in rows if row.null}
    null = f"p-values are against a difference of {', '.join(sorted(against))}. " if against else ""
    return (
        f"{null}Detectable: the smallest true difference that a paired t-test finds with 80 % power, given the scatter "
        "of these differences, alone and as the first of Holm's tests over all rows. Undecided: the n at which a "
        "difference as large as the margin is detectable after Holm. Unpaired: Welch's interval, which ignores that "
        "both have the same seeds. Correlation: of the two over the seeds."
    )


def _outcome(row: Evidence) -> str:
    words = row.outcome
    if row.seeds_needed is not None and row.comparison.margin is not None:
        margin = METRICS[row.quantity].size(row.comparison.margin)
        words += f" (n = {row.seeds_needed} for {margin})"
    return words + (", smaller than claimed" if row.falls_short else "")


def _claimed(row: Evidence) -> str:
    """The stated gain, or the stated ratio of errors beside the measured one."""
    if row.comparison.claimed is None:
        return _NOTHING
    kind = METRICS[row.quantity]
    sign = 1.0 if kind.higher_is_better else -1.0
    gain = kind.difference_words(sign * row.comparison.claimed)
    return f"{gain}{_ratio_words(row.claimed)}"


def _ratio_words(gain: ClaimedGain | None) -> str:
    if gain is None or gain.error_ratio is None or gain.claimed_ratio is None:
        return ""
    return (
        f", more than is left: error times {gain.claimed_ratio:.3f} in the source's table, "
        f"{gain.error_ratio.bracket(digits=3)} here"
    )


def _tests(row: Evidence) -> dict[str, str]:
    if row.paired is None:
        return {} if row.p_holm is None else {"Against the limit, after Holm": p_words(row.p_holm)}
    paired, kind = row.paired, METRICS[row.quantity]
    return {
        "Paired t-test": p_words(paired.p),
        "After Holm": _NOTHING if row.p_holm is None else p_words(row.p_holm),
        "Detectable, alone": _detectable(row, kind, corrected=False),
        "Detectable, after Holm": _detectable(row, kind, corrected=True),
        "Wilcoxon": p_words(paired.p_wilcoxon),
        "Bootstrap [95 % interval]": kind.difference(paired.bootstrap),
        "Unpaired [95 % interval]": kind.difference(paired.unpaired),
        "Correlation": f"{paired.correlation:+.2f}",
    }


def _detectable(row: Evidence, kind: Metric, *, corrected: bool) -> str:
    difference = row.smallest_difference(corrected=corrected)
    return _NOTHING if difference is None else kind.size(difference)
