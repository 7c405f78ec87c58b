"""The schedules of the learning rate over a whole run; they act on every parameter group, each from its own rate."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


def make_scheduler(schedule: str, optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Builds one of ``records.config.SCHEDULES``; it takes a step after each of the optimizer's.

    Args:
        schedule: ``one-cycle``: up to each group's rate during the first 30 % of the steps, then down to zero, both
            along cosines. ``cosine``: from the rate down to zero. ``constant``: the rate throughout; a warm-up is the
            optimizer's own.
        optimizer: Its groups' rates are the peaks.
        total_steps: Steps of the run, >= 1. The last one still learns: zero is reached after it.
    """
    if schedule == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    if schedule == "cosine":
        return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / total_steps)) / 2)
    max_lr = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr, total_steps=total_steps + 1, pct_start=0.3, cycle_momentum=False)
