"""How many comparisons are of runs that were recorded on different processors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from advanced_optimizers.experiments.evidence.comparisons import Evidence
from advanced_optimizers.experiments.records.record import RunRecord

# Which instructions a processor has decides how sums are rounded; older records name the processor alone.
_FIELDS = ("device_name", "cpu_capability")


def across_processors(rows: Iterable[Evidence], records: Mapping[str, RunRecord]) -> tuple[int, int]:
    """In how many comparisons a pair of runs names different processors, and of how many.

    Args:
        rows: Comparisons; one that several claims make counts once, and so does one in several metrics.
        records: The runs by id.
    """
    compared = {row.run_ids for row in rows if row.run_ids}
    return sum(_processors_differ([records[run_id] for run_id in own]) for own in compared), len(compared)


def _processors_differ(records: Iterable[RunRecord]) -> bool:
    """Whether two runs with the same seed name different processors."""
    by_seed: dict[int, set[tuple[Any, ...]]] = {}
    for record in records:
        own = tuple(record.environment.get(field) for field in _FIELDS)
        by_seed.setdefault(record.config.seed, set()).add(own)
    return any(len(processors) > 1 for processors in by_seed.values())
