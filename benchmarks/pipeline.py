"""Batches per second of signal propagation: layers in parallel threads, one thread, and torch in parallel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers import SigPropConvNet, SigPropNet, SigPropOptimizer, SigPropPipeline, SigPropSequential
from advanced_optimizers.experiments.records.machine import threads
from advanced_optimizers.forward_signal.pipeline import split_by_cost
from benchmarks.result import Result, Rows, cpu_environment
from benchmarks.timing import Spread, Timed, interleaved, ratios, spread, timed

STAGES = 2
REFERENCE = "one thread"
PARALLEL_TORCH, PIPELINE = f"{STAGES} threads in each operation", f"pipeline of {STAGES} stages"
BATCH_SIZE = 128
_CLASSES = 10


def run(quick: bool) -> Result:
    """Times every way to use two threads on every network, in turns over the same batches."""
    batches, rounds = (4, 2) if quick else (20, 15)
    measurements = [m for name, build in NETWORKS.items() for m in measure(name, build(), batches, rounds)]
    return Result(
        name="pipeline",
        caption=(
            f"Signal propagation on {STAGES} threads: {batches} batches of {BATCH_SIZE} a turn, float32, Adam; median "
            f"of {rounds} turns, the ways to train taking turns, starting and draining the pipeline included. Speed-up "
            f"over {REFERENCE} (with quartiles), turn by turn. Bound: all layers' time over the dearest stage's. The "
            "pipeline's weights are those of one thread, bit for bit."
        ),
        rows=_rows(measurements),
        measurements=measurements,
        environment=cpu_environment(),
    )


def measure(name: str, net: SigPropSequential, count: int, rounds: int) -> list[dict[str, Any]]:
    """Times one network; the costs of its layers are measured first, and define the stages for all turns."""
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(BATCH_SIZE, *net.input_shape, generator=generator), torch.arange(BATCH_SIZE) % _CLASSES)
        for _ in range(count)
    ]
    optimizer = SigPropOptimizer(net, lr=1e-4, signal_lr=1e-4)
    with threads(1):
        costs = measure_costs(optimizer, batches)
    contenders: dict[str, Timed] = {
        REFERENCE: timed(partial(learn, optimizer, batches, 1)),
        PARALLEL_TORCH: timed(partial(learn, optimizer, batches, STAGES)),
        PIPELINE: timed(partial(learn_in_pipeline, optimizer, batches, costs)),
    }
    seconds = interleaved(contenders, rounds)
    stages = [sum(costs[i] for i in part) for part in split_by_cost(costs, STAGES)]
    return [
        {
            "network": name,
            "training": training,
            "batches": count,
            "seconds": values,
            "speed_up": spread(ratios(seconds[REFERENCE], values))._asdict(),
            "unit_seconds": costs if training == PIPELINE else None,
            "bound": sum(costs) / max(stages) if training == PIPELINE else None,
        }
        for training, values in seconds.items()
    ]


def measure_costs(optimizer: SigPropOptimizer, batches: list[tuple[Tensor, Tensor]]) -> list[float]:
    """Returns the processor seconds of each layer and the output, as the pipeline measures them."""
    with SigPropPipeline(optimizer, stages=1) as pipeline:
        for x, y in batches[:4]:
            pipeline.submit(x, y)
    assert pipeline.costs is not None
    return pipeline.costs


def learn(optimizer: SigPropOptimizer, batches: list[tuple[Tensor, Tensor]], number: int) -> None:
    """Learns batch by batch, with ``number`` threads of torch in each operation."""
    with threads(number):
        for x, y in batches:
            optimizer.learn(x, y)


def learn_in_pipeline(optimizer: SigPropOptimizer, batches: list[tuple[Tensor, Tensor]], costs: list[float]) -> None:
    """Learns the same batches through two stages with one thread each."""
    with SigPropPipeline(optimizer, STAGES, costs=costs) as pipeline:
        for x, y in batches:
            pipeline.submit(x, y)


def dense() -> SigPropNet:
    """Returns a network with four layers of the same size."""
    return SigPropNet(1024, [1024] * 4, _CLASSES)


def convolutional() -> SigPropConvNet:
    """Returns a network whose first layers are the slowest."""
    net = SigPropConvNet((3, 32, 32), [32, 64, 128], _CLASSES)
    return net.to(memory_format=torch.channels_last)


NETWORKS: dict[str, Callable[[], SigPropSequential]] = {"dense, 4 x 1024": dense, "VGG-style, 32-64-128": convolutional}


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    rows = []
    for m in measurements:
        speed_up = Spread(**m["speed_up"])
        rows.append(
            {
                "Training": m["training"],
                "Network": m["network"],
                "ms a batch": f"{spread(m['seconds']).median / m['batches'] * 1e3:.1f}",
                "Speed-up": f"{speed_up.median:.2f} ({speed_up.low:.2f}-{speed_up.high:.2f})",
                "Bound": f"{m['bound']:.2f}" if m["bound"] else "",
            }
        )
    return rows
