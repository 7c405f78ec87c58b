"""The time of ``import advanced_optimizers``, compared with ``import torch`` alone."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

from benchmarks.result import Result, Rows, cpu_environment
from benchmarks.timing import Spread, Timed, interleaved, ratios, spread

REFERENCE = "torch"
MODULES = ("advanced_optimizers", REFERENCE)
_PROGRAM = "import time; started = time.perf_counter(); import {}; print(time.perf_counter() - started)"


def run(quick: bool) -> Result:
    """Times the two imports in turns, each in its own process."""
    rounds = 1 if quick else 7
    contenders: dict[str, Timed] = {module: partial(import_seconds, module) for module in MODULES}
    if not quick:
        import_seconds(REFERENCE)  # brings the files into the system's cache
    seconds = interleaved(contenders, rounds)
    measurements = [
        {
            "module": module,
            "seconds": values,
            "median_seconds": spread(values).median,
            "ratio_to_reference": spread(ratios(values, seconds[REFERENCE]))._asdict(),
        }
        for module, values in seconds.items()
    ]
    return Result(
        name="import_time",
        caption=(
            f"Import: median of {rounds} fresh processes each, in turns, files in the system's cache. "
            f"Ratio: to import {REFERENCE} (with quartiles), round by round."
        ),
        rows=_rows(measurements),
        measurements=measurements,
        environment=cpu_environment(),
    )


def import_seconds(module: str) -> float:
    """Returns the seconds of the import statement in a new process."""
    command = [sys.executable, "-c", _PROGRAM.format(module)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    rows = []
    for m in measurements:
        ratio = Spread(**m["ratio_to_reference"])
        rows.append(
            {
                "Module": m["module"],
                "s": f"{m['median_seconds']:.2f}",
                "Ratio": f"{ratio.median:.3f} ({ratio.low:.3f}-{ratio.high:.3f})",
            }
        )
    return rows
