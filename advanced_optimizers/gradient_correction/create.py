"""The call by which the coursework builds gradient correction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from advanced_optimizers._base import ParamsT
from advanced_optimizers._checks import check_bool, check_range
from advanced_optimizers.gradient_correction.optimizer import GradientCorrectionOptimizer


def create_gradient_correction_optimizer(
    params: ParamsT,
    lr: float = 1e-3,
    use_gcw: bool = True,
    use_gcode: bool = True,
    gcw_strength: float = 0.1,
    device: torch.device | str | None = None,
    *,
    model: nn.Module | None = None,
    example_input: Tensor | None = None,
) -> GradientCorrectionOptimizer:
    """Gradient correction over Adam.

    Args:
        params: As for :class:`GradientCorrectionOptimizer`.
        lr: Adam's learning rate, >= 0.
        use_gcw: Whether to use GC-W; if not, ``gcw_strength`` has no effect.
        use_gcode: Whether to use GC-ODE, with a strength of 0.1.
        gcw_strength: See :class:`GradientCorrectionOptimizer`.
        device: The device that the parameters must be on. The predictors always live next to their parameters, so
            there is nothing to move, and another device is refused. None accepts the parameters wherever they are.
        model: See :class:`GradientCorrectionOptimizer`.
        example_input: See :class:`GradientCorrectionOptimizer`.

    Raises:
        TypeError: ``use_gcw`` or ``use_gcode`` is not a bool.
        ValueError: A value is out of range, ``device`` is none, or a parameter is not on it.
    """
    check_bool("use_gcw", use_gcw)
    check_bool("use_gcode", use_gcode)
    check_range("lr", lr, low=0.0, high=math.inf, open_high=True)
    wanted = _as_device(device)
    check_range("gcw_strength", gcw_strength, low=0.0, high=math.inf, open_high=True)
    optimizer = GradientCorrectionOptimizer(
        params,
        torch.optim.Adam,
        {"lr": lr},
        gcw_strength=gcw_strength if use_gcw else 0.0,
        gcode_strength=0.1 if use_gcode else 0.0,
        model=model,
        example_input=example_input,
    )
    if wanted is not None:
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p.device.type != wanted.type or wanted.index not in (None, p.device.index):
                optimizer.detach()
                raise ValueError(
                    f"device must be where the parameters are, got {device!r} and a parameter on {p.device}: move the "
                    "model first, or leave device out"
                )
    return optimizer


def _as_device(device: torch.device | str | None) -> torch.device | None:
    if device is None:
        return None
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be a torch.device such as 'cpu' or 'cuda:0', got {device!r}") from error
