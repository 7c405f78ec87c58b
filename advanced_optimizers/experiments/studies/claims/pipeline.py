"""The claim that signal propagation trains layers in parallel, measured against other ways to use two cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim
from advanced_optimizers.experiments.evidence.comparisons import RunData, Status, Verdict
from advanced_optimizers.experiments.evidence.medians import MIN_PAIRS, median_interval, ratios, sign_test
from advanced_optimizers.experiments.evidence.statistics import ALPHA, holm

# The measurement, and what it calls the ways to train.
BENCHMARK = "pipeline"
_PIPELINE, _THREADS, _ONE = "pipeline of 2 stages", "2 threads in each operation", "one thread"


def compare_pipeline(data: RunData) -> Verdict:
    """Decides whether layers in parallel beat what two cores do without them.

    Supported: on every network the interval of the median of the pipeline's seconds over those of two threads in each
    operation ends at or below 1. Not supported: a median is above it by the sign test, after Holm's correction.

    Args:
        data: Its measurements hold, under ``pipeline``, a list of ``{"network", "training", "seconds"}``; the seconds
            are those of turns, in the same order for every way to train.
    """
    rows = [] if data.measurements is None else data.measurements.get(BENCHMARK, [])
    seconds: dict[str, dict[str, Sequence[float]]] = {}
    for row in rows:
        seconds.setdefault(row["network"], {})[row["training"]] = row["seconds"]
    if not seconds or any(len(ways.get(_PIPELINE, ())) < MIN_PAIRS for ways in seconds.values()):
        return Verdict("pending", "Waiting for the measured pipeline.")
    against = {network: _ratios(ways, _THREADS) for network, ways in seconds.items()}
    intervals = {network: median_interval(values) for network, values in against.items()}
    p_values = holm([sign_test(values, 1.0) for values in against.values()])
    status: Status = "inconclusive"
    if any(i.estimate > 1.0 and p < ALPHA for i, p in zip(intervals.values(), p_values, strict=True)):
        status = "not supported"
    elif all(interval.high <= 1.0 for interval in intervals.values()):
        status = "supported"
    words = [
        f"{interval.bracket(digits=3)} times the seconds of two threads and "
        f"{median_interval(_ratios(seconds[network], _ONE)).bracket(digits=3)} times those of one "
        f"(network: {network}; n = {interval.n} turns)"
        for network, interval in intervals.items()
    ]
    return Verdict(status, f"The pipeline takes {'; '.join(words)}.")


def _ratios(ways: Mapping[str, Sequence[float]], other: str) -> list[float]:
    """The pipeline's seconds over those of another way to train, turn by turn."""
    return ratios(list(zip(ways[_PIPELINE], ways[other], strict=True)))


CLAIM = Claim(
    key="sigprop-parallel",
    method="Signal propagation",
    short="layers in parallel",
    study="sigprop",
    text="Forward signal propagation trains its layers in parallel.",
    source=COURSEWORK,
    rule="The layers of two networks in a pipeline of two threads against two threads in each operation, the ordinary "
    "use of two cores: the ratio of the seconds of a turn over the same batches, in turns in one process (at least "
    f"{MIN_PAIRS}), the median with its order-statistic interval. Supported: every interval ends at or below 1. Not "
    "supported: a median is above it by the sign test, with Holm's correction over the networks. Otherwise "
    "inconclusive.",
    decide=compare_pipeline,
)
