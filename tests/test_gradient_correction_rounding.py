"""Over Adam's fused kernel and over its loop, gradient correction parts by no more than rounding, amplified.

The two kernels round differently. A predictor's own Adam divides its derivative by its length, and so carries a
difference of rounding size in a short derivative into a step of ordinary size. That is amplification, not a fault: in
float64 the difference is smaller by the ratio of the two precisions, and nudging the weights by one unit in the last
place makes one kernel part from itself as far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from advanced_optimizers import GradientCorrectionOptimizer

STEPS = 25
OPTIONS = ({"lr": 0.01}, {"lr": 1e-3, "weight_decay": 0.1}, {"lr": 0.1, "betas": (0.8, 0.88)})


@dataclass
class Trajectory:
    """(steps, entries): the weights after each step, and the predictors' parameters."""

    weights: Tensor
    predictors: Tensor

    def distances(self, other: Trajectory) -> tuple[float, float]:
        pairs = ((self.weights, other.weights), (self.predictors, other.predictors))
        a, b = (float((x - y).abs().max()) for x, y in pairs)
        return a, b


def trajectory(dtype: torch.dtype, fused: bool, options: dict[str, Any], nudged: int = 0) -> Trajectory:
    """Trains a small network whose gradients hardly turn; ``nudged`` moves that one of its tensors by a last place."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 4), nn.Sigmoid()).to(dtype)
    if nudged:
        with torch.no_grad():
            p = list(model.parameters())[nudged - 1]
            p.copy_(torch.nextafter(p, torch.full_like(p, torch.inf)))
    kwargs = {**options, "fused": fused, "foreach": False}
    optimizer = GradientCorrectionOptimizer(model.parameters(), Adam, kwargs, train_every=1)
    x = torch.linspace(0.1, 0.6, 6, dtype=dtype).reshape(3, 2)
    weights, predictors = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        weights.append(torch.cat([p.detach().flatten().clone() for p in model.parameters()]))
        learned = [state[name][0] for state in optimizer.state.values() for name in ("gcw", "gcode") if name in state]
        predictors.append(torch.cat(learned) if learned else weights[0].new_zeros(2 * 120))
    return Trajectory(torch.stack(weights), torch.stack(predictors))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_in_float64_only_rounding_parts_them(options):
    loop, fused = (trajectory(torch.float64, fused, options) for fused in (False, True))
    weights, predictors = loop.distances(fused)
    assert weights < 1e-14
    assert predictors < 1e-11
    assert loop.predictors[-1].ne(loop.predictors[2]).any()  # they were trained


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_in_float32_a_nudge_by_one_last_place_parts_one_kernel_from_itself_as_far(options):
    loop, fused = (trajectory(torch.float32, fused, options) for fused in (False, True))
    of_kernels = loop.distances(fused)
    of_nudges = [loop.distances(trajectory(torch.float32, False, options, nudged)) for nudged in (1, 3)]
    weights, predictors = (max(each) for each in zip(*of_nudges, strict=True))
    # The kernels round differently at every step, the nudge comes once; a fault would be off by far more.
    assert of_kernels[0] <= 10.0 * weights
    assert of_kernels[1] <= 10.0 * predictors
