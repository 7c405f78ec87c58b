"""The claim that signal propagation trains layers in parallel, measured against other ways to use two cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advanced_optimizers.experiments.evidence.claim import COURSEWORK, Claim
from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, RunData, Status, Verdict
from advanced_optimizers.experiments.evidence.statistics import ratio_interval

# The measurement, and what it calls the ways to train.
BENCHMARK = "pipeline"
_PIPELINE, _THREADS, _ONE = "pipeline of 2 stages", "2 threads in each operation", "one thread"


def compare_pipeline(data: RunData) -> Verdict:
    """Decides whether layers in parallel beat what two cores do without them.

    Supported: on every network the interval of the pipeline's seconds over those of two threads in each operation ends
    at or below 1. Not supported: one starts above it.

    Args:
        data: Its measurements hold, under ``pipeline``, a list of ``{"network", "training", "seconds"}``; the seconds
            are those of turns, in the same order for every way to train.
    """
    rows = [] if data.measurements is None else data.measurements.get(BENCHMARK, [])
    seconds: dict[str, dict[str, Any]] = {}
    for row in rows:
        seconds.setdefault(row["network"], {})[row["training"]] = row["seconds"]
    if not seconds or any(len(ways.get(_PIPELINE, ())) < MIN_SEEDS for ways in seconds.values()):
        return Verdict("pending", "Waiting for the measured pipeline.")
    ratios = {network: _ratio(ways, _THREADS) for network, ways in seconds.items()}
    status: Status = "inconclusive"
    if any(ratio.low > 1.0 for ratio in ratios.values()):
        status = "not supported"
    elif all(ratio.high <= 1.0 for ratio in ratios.values()):
        status = "supported"
    words = [
        f"{ratios[network].bracket(digits=3)} times the seconds of two threads and "
        f"{_ratio(ways, _ONE).bracket(digits=3)} times those of one (network: {network}; n = {ratios[network].n} turns)"
        for network, ways in seconds.items()
    ]
    return Verdict(status, f"The pipeline takes {'; '.join(words)}.")


def _ratio(ways: Mapping[str, Any], other: str) -> Any:
    return ratio_interval(list(zip(ways[_PIPELINE], ways[other], strict=True)))


CLAIM = Claim(
    key="sigprop-parallel",
    method="Signal propagation",
    short="layers in parallel",
    study="sigprop",
    text="Forward signal propagation trains its layers in parallel.",
    source=COURSEWORK,
    rule="The layers of two networks in a pipeline of two threads against two threads in each operation, the ordinary "
    "use of two cores: the ratio of the seconds of a turn over the same batches, in turns in one process (at least "
    f"{MIN_SEEDS}), with the 95 % interval of its geometric mean. Supported: every interval ends at or below 1. Not "
    "supported: an interval starts above it. Otherwise inconclusive.",
    decide=compare_pipeline,
)
