"""One update of one unit of a SigProp network by its base optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.optim import Optimizer

from advanced_optimizers._base import ready_for_fused
from advanced_optimizers.forward_signal.layers import ClassifierOutput, Signals, SigPropLayer, TargetOutput

__all__ = ["has_finite_gradients", "learn_unit", "parameters_of", "step_base"]


def learn_unit(
    unit: SigPropLayer | ClassifierOutput | TargetOutput,
    base: Optimizer | None,
    h: Tensor,
    t: Tensor,
    y: Tensor,
    average: Callable[[Optimizer], None] | None = None,
) -> Signals:
    """Passes both streams through one unit and updates it; returns them detached, with the loss before the update.

    Args:
        unit: A layer or the output.
        base: Its optimizer, or None.
        h: Incoming activations.
        t: Incoming targets.
        y: Labels.
        average: Averages the gradients of ``base`` over several processes.
    """
    if base is None:
        with torch.no_grad():
            return unit.propagate(h, t, y)
    _drop_gradients(base)
    with torch.enable_grad():
        signals = unit.propagate(h, t, y)
    assert signals.loss is not None
    if not signals.loss.requires_grad:  # frozen since
        return signals
    device = h.device.type
    # Backward runs outside autocast, which is meant for the forward operations only.
    with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext():
        signals.loss.backward()
    if average is not None:
        average(base)
    step_base(base)
    _drop_gradients(base)
    return Signals(signals.h.detach(), signals.t.detach(), signals.loss.detach())


def step_base(base: Optimizer) -> None:
    """Lets a base optimizer step, with everything laid out in memory like the parameters where a kernel needs it."""
    ready_for_fused(base)
    base.step()


def _drop_gradients(base: Optimizer) -> None:
    # Like zero_grad, but without its overhead, which is large compared with a small layer.
    for p in parameters_of(base):
        p.grad = None


def has_finite_gradients(base: Optimizer) -> bool:
    """Whether no gradient of a base optimizer has an infinite or NaN element."""
    return all(bool(p.grad.isfinite().all()) for p in parameters_of(base) if p.grad is not None)


def parameters_of(base: Optimizer) -> list[Tensor]:
    """Returns the parameters of a base optimizer, group by group."""
    return [p for group in base.param_groups for p in group["params"]]
