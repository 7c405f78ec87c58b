"""The claim that version 2 of the convolutional optimizers is slower, measured in steps over ResNet-18's parameters."""

from __future__ import annotations

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim
from advanced_optimizers.experiments.evidence.comparisons import RunData, Status, Verdict
from advanced_optimizers.experiments.evidence.medians import MIN_PAIRS, median_interval, ratios, sign_test
from advanced_optimizers.experiments.evidence.statistics import ALPHA

# The measurement, and what it calls the two.
BENCHMARK = "optimizer_step"
VERSION_2, SGD = "ConvolutionalSGDv2, 5 taps, every 4th", "SGD momentum, fused"


def compare_steps(data: RunData) -> Verdict:
    """Decides whether a step of version 2 takes longer than one of SGD.

    Supported: the median of the ratio of their seconds is above 1 by the sign test. Not supported: its interval ends at
    or below 1. Otherwise inconclusive.

    Args:
        data: Its measurements hold, under ``optimizer_step``, a list of ``{"optimizer", "seconds"}``; the seconds are
            those of turns, in the same order for every optimizer.
    """
    rows = [] if data.measurements is None else data.measurements.get(BENCHMARK, [])
    seconds = {row["optimizer"]: row["seconds"] for row in rows}
    if min(len(seconds.get(name, ())) for name in (VERSION_2, SGD)) < MIN_PAIRS:
        return Verdict("pending", "Waiting for the measured steps.")
    values = ratios(list(zip(seconds[VERSION_2], seconds[SGD], strict=True)))
    interval = median_interval(values)
    status: Status = "not supported" if interval.high <= 1.0 else "inconclusive"
    if interval.estimate > 1.0 and sign_test(values, 1.0) < ALPHA:
        status = "supported"
    return Verdict(
        status, f"A step takes {interval.bracket(digits=3)} times the seconds of SGD (n = {interval.n} turns)."
    )


CLAIM = Claim(
    key="conv-slower",
    method="Convolutional SGD, version 2",
    short="is slower",
    study="convolutional-as-claimed",
    text="Version 2 is slower than SGD.",
    source=COURSEWORK,
    rule="A step of version 2 as described, with five taps and learning from every fourth gradient, against a step of "
    "fused SGD, both over the parameters of ResNet-18: the ratio of their seconds, in turns in one process (at least "
    f"{MIN_PAIRS}), the median with its order-statistic interval. Supported: the median is above 1 by the sign test. "
    "Not supported: the interval ends at or below 1. Otherwise inconclusive.",
    decide=compare_steps,
)
