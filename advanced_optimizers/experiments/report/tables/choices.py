"""What follows from a comparison for a choice: for each need, a rule, and the algorithms that meet it. No ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from advanced_optimizers.experiments.evidence.contests import Ruling
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.statistics import Interval

# The limits of the rules: chosen while only the anchors' runs were recorded, before anyone had looked at them.
_BLIND_COST = 0.01
_FEW_TRIALS = 2
_KEPT = 0.01
_CHEAP = 1.2


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a comparison found on one task.

    Attributes:
        algorithms: The algorithms that are complete, in the order in which they are named.
        anchors: The anchors among them.
        rulings: The rulings.
        blind: By algorithm, what a rate picked blindly costs, as a fraction; empty if that is not known.
        trials: By algorithm, the number of trials until the expected best is within the margin of that of all.
        changes: By other setting, in words, the change of accuracy of each algorithm.
        times: By algorithm, the ratio of its seconds per epoch to those of the first anchor, from one run.
    """

    algorithms: Sequence[str]
    anchors: Sequence[str]
    rulings: Sequence[Ruling]
    blind: Mapping[str, Interval]
    trials: Mapping[str, int]
    changes: Mapping[str, Mapping[str, Interval]]
    times: Mapping[str, Interval]


def choices_table(facts: Facts) -> pd.DataFrame:
    """One row per need, with the algorithms in the order of the families; a need of which nothing is known is left out.

    Args:
        facts: What the comparison found on one task.
    """
    rows = [_row(f"{_against(a)}", *_verdicts(facts, a, ("better", "equivalent"))) for a in facts.anchors]
    rows += [
        _row(
            "One run, and no trial",
            f"A blind rate costs at most {100 * _BLIND_COST:g} point, by the upper end of its interval",
            _meeting(facts, facts.blind, lambda cost: cost.high <= _BLIND_COST),
        ),
        _row(
            "Few trials",
            f"Within the margin after {_FEW_TRIALS} trials",
            _meeting(facts, facts.trials, lambda needed: needed <= _FEW_TRIALS),
        ),
    ]
    for words, values in facts.changes.items():
        bar = max((values[anchor].high for anchor in facts.anchors if anchor in values), default=None)
        if bar is not None and "labels" in words:
            rule = "Loses less than each anchor: its interval lies above theirs"
            rows.append(_row(words, rule, _meeting(facts, values, lambda v, bar=bar: v.low > bar)))
        else:
            rule = f"Loses at most {100 * _KEPT:g} point at the tuned rate, by the lower end of its interval"
            rows.append(_row(words, rule, _meeting(facts, values, lambda v: v.low >= -_KEPT)))
    cheap = _meeting(facts, facts.times, lambda ratio: ratio.high <= _CHEAP)
    rows.append(_row("Time per epoch", f"At most {_CHEAP:g} times the first anchor's, by the interval", cheap))
    return pd.DataFrame([row for row in rows if row])


def _against(anchor: str) -> str:
    return f"At least as accurate as {label(anchor)}"


def _verdicts(facts: Facts, anchor: str, wanted: Sequence[str]) -> tuple[str, list[tuple[str, bool]]]:
    found = {r.comparison.algorithm: r.verdict for r in facts.rulings if r.comparison.baseline == anchor}
    known = {name: verdict for name, verdict in found.items() if verdict != "withheld"}
    rule = "Better or equivalent within the margin"
    return rule, [(name, known[name] in wanted) for name in facts.algorithms if name in known]


def _meeting(facts: Facts, values: Mapping[str, object], rule: Callable[..., bool]) -> list[tuple[str, bool]]:
    return [(name, rule(values[name])) for name in facts.algorithms if name in values]


def _row(need: str, rule: str, found: Sequence[tuple[str, bool]]) -> dict[str, str]:
    """Nothing for a need about which nothing is known."""
    if not found:
        return {}
    names = [label(name) for name, meets in found if meets]
    return {
        "Need": need[:1].upper() + need[1:],
        "Rule": rule,
        "Meet it": "; ".join(names) or "none",
        "Of": str(len(found)),
    }
