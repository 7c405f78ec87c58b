"""The meta-gradient of many tasks at once (vmap) against a loop over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from advanced_optimizers.automl import MAML
from advanced_optimizers.experiments.data.sinusoids import sinusoid_tasks
from benchmarks.result import Result, Rows, cpu_environment, number_of_threads
from benchmarks.timing import Spread, Timed, interleaved, ratios, spread, timed

REFERENCE = "Loop"
TASKS = 25
EXAMPLES = 10
INNER_STEPS = (1, 5)

Sets = tuple[Tensor, Tensor]


def run(quick: bool) -> Result:
    """Times both ways on sine waves of ten examples; the network is the paper's, of two layers of 40."""
    rounds, repeats = (1, 1) if quick else (10, 3)
    generator = torch.Generator().manual_seed(0)
    x, y = sinusoid_tasks(TASKS, 2 * EXAMPLES, generator)
    support, query = (x[:, :EXAMPLES], y[:, :EXAMPLES]), (x[:, EXAMPLES:], y[:, EXAMPLES:])
    measurements = []
    for steps in INNER_STEPS:
        for order in ("second", "first"):
            maml = MAML(network(), lr=0.01, first_order=order == "first", loss=mse_loss)
            seconds = interleaved(_timed(ways(maml, support, query, steps), repeats), rounds)
            measurements += [
                {
                    "order": order,
                    "inner_steps": steps,
                    "way": way,
                    "seconds": values,
                    "median_seconds": spread(values).median / repeats,
                    "ratio_to_reference": spread(ratios(values, seconds[REFERENCE]))._asdict(),
                }
                for way, values in seconds.items()
            ]
    threads = number_of_threads(torch.get_num_threads())
    return Result(
        name="tasks",
        caption=(
            f"Meta-gradient of MAML over {TASKS} sine waves of {EXAMPLES} examples, {threads}: median of {rounds} "
            f"rounds of {repeats}, in turns. Ratio: to the loop (with quartiles), round by round."
        ),
        rows=_rows(measurements),
        measurements=measurements,
        environment=cpu_environment(),
    )


def ways(maml: MAML, support: Sets, query: Sets, steps: int) -> Mapping[str, Callable[[], None]]:
    """The two ways to leave the gradient of the mean loss over the tasks in ``.grad``."""

    def at_once() -> None:
        maml.zero_grad()
        maml.meta_batch(support, query, steps).backward()

    def one_by_one() -> None:
        maml.zero_grad()
        for task in range(TASKS):
            own, asked = (support[0][task], support[1][task]), (query[0][task], query[1][task])
            (maml.meta_update(own, asked, steps) / TASKS).backward()

    return {"At once (vmap)": at_once, REFERENCE: one_by_one}


def network() -> nn.Module:
    """Two hidden layers of 40."""
    return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def _timed(contenders: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, Timed]:
    def repeated(work: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            for _ in range(repeats):
                work()

        return call

    return {name: timed(repeated(work)) for name, work in contenders.items()}


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    rows = []
    for m in measurements:
        ratio = Spread(**m["ratio_to_reference"])
        rows.append(
            {
                "Meta-gradient": f"{m['order'].capitalize()} order, inner steps: {m['inner_steps']}",
                "Tasks": m["way"],
                "ms": f"{1e3 * m['median_seconds']:.2f}",
                "Ratio": f"{ratio.median:.3f} ({ratio.low:.3f}-{ratio.high:.3f})",
            }
        )
    return rows
