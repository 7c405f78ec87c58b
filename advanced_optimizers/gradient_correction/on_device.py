"""Which tensors gradient correction handles together, and what it measures of them, kept on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from advanced_optimizers._checks import is_dtensor
from advanced_optimizers._flat import Gathered, Ring, State, runs_together
from advanced_optimizers._rounding import Noise, Steps
from advanced_optimizers._sharded import shards_of
from advanced_optimizers.gradient_correction.history import CorrectionRecord, says_something
from advanced_optimizers.gradient_correction.predictor import Predictor
from advanced_optimizers.gradient_correction.together import FEW, Together, buckets, settings_of

# How many trainings' measurements wait on a device until somebody asks for the history.
HISTORY = 1000

Predictors = list[tuple[Predictor, float]]


class OnDevice:
    """The tensors of an optimizer that are handled together.

    Args:
        foreach: As the optimizer got it.
        steps: The optimizer's, where memories are rounded to bfloat16; None keeps them in float32 or better.
    """

    def __init__(self, foreach: bool | None, steps: Steps | None) -> None:
        self._foreach, self._steps = foreach, steps
        self._gathered: Gathered[Together] = Gathered()
        self._rings: list[Ring] = []  # one, once something was measured
        self.measured: list[Tensor] = []

    def takes(self, p: Tensor) -> bool:
        """Whether a parameter is handled together with others."""
        return is_dtensor(p) or runs_together(self._foreach, p.device)

    def correct(
        self, grads: dict[Tensor, Tensor], predictors: dict[Tensor, Predictors], group: dict[str, Any], owner: Optimizer
    ) -> dict[Tensor, Tensor]:
        """Corrects gradients of one parameter group, by parameter.

        Args:
            grads: The gradients.
            predictors: What corrects each, with the strengths.
            group: The group.
            owner: The optimizer.
        """
        (place,) = [i for i, each in enumerate(owner.param_groups) if each is group]
        together: dict[tuple[Any, ...], list[Tensor]] = {}
        for p, grad in grads.items():
            names = tuple(predictor.name for predictor, _ in predictors[p])
            together.setdefault((place, p.device, grad.dtype, names, shards_of(p)), []).append(p)
        corrected: dict[Tensor, Tensor] = {}
        for key, params in together.items():
            settings = settings_of(group, predictors[params[0]])
            dtype, used = key[2], [predictor for predictor, _ in settings.predictors]

            def build(chosen: list[Tensor], dtype: torch.dtype = dtype, used: list[Predictor] = used) -> list[Together]:
                return [
                    Together(some, owner.state, dtype, used, self._noise(some, owner)) for some in buckets(chosen, FEW)
                ]

            for found in self._gathered.find(key, params, owner.state, group["params"], build):
                new, measured = found.step({p: grads[p] for p in found.params if p in grads}, settings)
                corrected |= new
                self.measured += [] if measured is None else [measured]
        return corrected

    def _noise(self, params: list[Tensor], owner: Optimizer) -> Noise | None:
        order = [p for group in owner.param_groups for p in group["params"]]
        return None if self._steps is None else Noise(params, order, self._steps)

    def settle(self, state: State) -> None:
        """Brings everything into the state that is saved and copied; waits for the device."""
        self._gathered.settle(state)

    # ---- measurements --------------------------------------------------------------------------------------------

    def remember(self, others: list[Tensor]) -> None:
        """Keeps the mean over what was measured in this step, together with what was measured elsewhere."""
        device, dtype = self.measured[0].device, self.measured[0].dtype
        row = torch.cat([each.to(device, dtype) for each in (*self.measured, *others)]).nanmean(dim=0, keepdim=True)
        self.measured = []
        if not self._rings:
            self._rings = [Ring(row.shape[1], HISTORY, dtype, device)]
        self._rings[0].append(row.to(self._rings[0].device, self._rings[0].dtype))

    def read(self) -> list[CorrectionRecord]:
        """What was measured since the last call, and forgets it; waits for the device."""
        records = [CorrectionRecord(*row) for ring in self._rings for row in ring.take().tolist()]
        return [record for record in records if says_something(record)]
