"""The seconds per epoch that a source states, beside the ratios that were measured."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from advanced_optimizers.experiments.evidence.comparisons import Measurements
from advanced_optimizers.experiments.evidence.medians import median_interval, ratios
from advanced_optimizers.experiments.evidence.metrics import Labels, ordered
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

_NOTHING = "-"


def stated_seconds_table(measurements: Measurements, stated: Mapping[str, float], *, labels: Labels) -> pd.DataFrame:
    """Each algorithm's stated seconds, their ratio to its base's, and the median of the measured ratios on each task.

    Seconds depend on the machine, which a source may not even name; of two epochs on one machine the ratio is left.

    Args:
        measurements: As for ``rules.compare_overhead``.
        stated: Seconds per epoch by algorithm.
        labels: Names for display, of algorithms and tasks; its order is that of the rows and columns.
    """
    rows = measurements["measurements"]
    pairs = {(row["task"], row["algorithm"]): row["pairs"] for row in rows if row["algorithm"] in stated}
    tasks = ordered((task for task, _ in pairs), labels)
    table = []
    for name in ordered(stated, labels):
        base = ALGORITHMS[name].baseline
        values = {task: ratios(pairs[task, name]) for task in tasks if (task, name) in pairs}
        measured = {task: median_interval(own).bracket(digits=3) for task, own in values.items()}
        table.append(
            {
                "Algorithm": labels.get(name, name),
                "Stated (s per epoch)": f"{stated[name]:.1f}",
                "Base": _NOTHING if base is None else labels.get(base, base),
                "Stated ratio": _NOTHING if base is None else f"{stated[name] / stated[base]:.3f}",
                **{f"{labels.get(t, t)}, measured ratio [95 % interval]": measured.get(t, _NOTHING) for t in tasks},
            }
        )
    return pd.DataFrame(table)
