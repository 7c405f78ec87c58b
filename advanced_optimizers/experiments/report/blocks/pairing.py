"""What pairing by seed gave: the correlation over the seeds in all comparisons of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from advanced_optimizers.experiments.evidence.comparisons import Evidence


def pairing_words(evidence: Iterable[Evidence]) -> str:
    """The median correlation by seed over the distinct comparisons, and how often pairing narrows the interval.

    Args:
        evidence: Rows of verdicts and figures; the same runs in the same metric count once, identical ones not at all.
    """
    distinct = {(row.quantity, row.run_ids): row.paired for row in evidence if row.paired is not None}
    paired = [own for own in distinct.values() if not own.identical and not math.isnan(own.correlation)]
    if not paired:
        return "no comparison yet"
    low, middle, high = np.quantile([own.correlation for own in paired], [0.25, 0.5, 0.75])
    narrower = sum(own.difference.half_width < own.unpaired.half_width for own in paired)
    return (
        f"median correlation {middle:+.2f} (middle half {low:+.2f} to {high:+.2f}) over {len(paired)} comparisons; "
        f"pairing narrows the interval in {narrower} of them"
    )
