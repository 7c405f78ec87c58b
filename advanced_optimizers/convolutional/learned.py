"""Kernels of each tensor's own that descend a loss of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._base import check_shape
from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers._rounding import Noise
from advanced_optimizers.convolutional.history import History
from advanced_optimizers.convolutional.kernels import all_taps
from advanced_optimizers.convolutional.learned_together import LearnedTogether, Rule
from advanced_optimizers.convolutional.learning import Products, Weights, joined, learned, of_filters, of_slices
from advanced_optimizers.convolutional.together import Member, Together
from advanced_optimizers.convolutional.transform import Smoothed, _Smoothing, batches


class _LearnedSmoothing(_Smoothing):
    """State of a parameter: ``"kernel"`` (axes, r + 1), ``"seen"``, and with a signal ``"signal"`` and ``"power"``."""

    _KEPT = frozenset({"order", "kernel", "seen"})
    _MARK = "kernel"
    # The hyperparameter that is the step of the kernels.
    _STEP = "kernel_lr"
    _THROUGH_NORMALIZATION = False

    def __init__(self, *arguments: Any) -> None:
        self._losses = History()
        self._of_step: list[Tensor] = []  # the losses of a group's kernels in a step
        super().__init__(*arguments)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        for name in (self._STEP, "smoothness_weight"):
            group[name] = check_range(name, group[name], low=0.0, high=math.inf, open_high=True)
        group["kernel_every"] = check_integer("kernel_every", group["kernel_every"], low=1)

    def _weights(self, group: dict[str, Any]) -> Weights:
        return Weights(group["smoothness_weight"], 0.0)

    def _decay(self, group: dict[str, Any]) -> float | None:
        """What remains of the average of past gradients after a step; None if there is none."""
        return None

    # ---- kernels -------------------------------------------------------------------------------------------------

    def _kernel(self, p: Tensor, axes: int, group: dict[str, Any]) -> Tensor | None:
        shape = (axes, group["kernel_size"] // 2 + 1)
        if p in self.state and "kernel" in self.state[p]:
            kernel: Tensor = self.state[p]["kernel"]
            if kernel.shape != shape:
                raise ValueError(
                    f"kernel_size={group['kernel_size']} and axes={group['axes']} need kernels of shape {shape}, but a "
                    f"parameter of shape {tuple(p.shape)} has one of shape {tuple(kernel.shape)}, learned with other "
                    "settings: they cannot change during training"
                )
            return kernel
        first = self._first_kernel(p, axes, group)
        if group[self._STEP] == 0.0:
            return first
        if first is None:
            first = torch.zeros(shape, dtype=self._dtype(p), device=p.device)
            first[:, 0] = 1.0
        own = self.state[p]["kernel"] = first.clone()
        return own

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        self._of_step = []
        transformed = super()._transform(params, grads, group)
        if self._of_step:
            device, dtype = self._of_step[0].device, self._of_step[0].dtype
            self._losses.append(torch.cat([each.to(device, dtype) for each in self._of_step]).nanmean())
        return transformed

    def _learn(self, smoothed: Sequence[Smoothed], group: dict[str, Any]) -> None:
        if group[self._STEP] == 0.0:
            return
        due = []
        for each in smoothed:
            state = self.state[each.param]
            state["seen"] = state.get("seen", torch.zeros((), dtype=torch.int64)) + 1
            if int(state["seen"]) % group["kernel_every"] == 0:
                due.append(each)
        together: dict[object, list[Smoothed]] = {}
        for each in due:
            together.setdefault((each.x.dtype, each.x.device), []).append(each)
        self._of_step += [self._learn_together(kernels, group) for kernels in together.values()]

    def _learn_together(self, smoothed: Sequence[Smoothed], group: dict[str, Any]) -> Tensor:
        """One step of the kernels of tensors on one device, of one precision; returns the losses before it."""
        parts, kernels = [], []
        for batch in batches(smoothed):
            parts.append(self._products(batch))
            kernels += [each.kernel for each in batch]
        products = joined(parts)
        new, losses = learned(
            torch.cat(kernels),
            products,
            self._weights(group),
            group[self._STEP],
            group["min_gain"],
            self._THROUGH_NORMALIZATION,
        )
        torch._foreach_copy_(kernels, list(new.split([len(kernel) for kernel in kernels])))
        return losses

    def _products(self, batch: Sequence[Smoothed]) -> Products:
        signals = [self._signal(each) for each in batch]
        if batch[0].seen.are_filters:
            kernels = torch.stack([each.kernel for each in batch])
            return of_filters([each.x for each in batch], signals, kernels, batch[0].seen)
        ((each, signal),) = zip(batch, signals, strict=True)
        return of_slices(each.x, signal, each.kernel, each.seen)

    def _signal(self, each: Smoothed) -> Tensor | None:
        """The average of the past gradients of a tensor, as its kernels see it."""
        return None

    # ---- all tensors of a device together ------------------------------------------------------------------------

    def _has_own_kernels(self, p: Tensor, group: dict[str, Any]) -> bool:
        return group[self._STEP] > 0.0 or (p in self.state and "kernel" in self.state[p])

    def _has_kernel(self, p: Tensor, group: dict[str, Any]) -> bool:
        return self._has_own_kernels(p, group) or super()._has_kernel(p, group)

    def _gather(self, members: list[Member], dtype: torch.dtype, group: dict[str, Any]) -> Together:
        if not self._has_own_kernels(members[0].param, group):
            return super()._gather(members, dtype, group)
        found = (self._kernel(param, len(seen.axes), group) for param, seen, _ in members)
        kernels = [kernel for kernel in found if kernel is not None]
        has_average = self._decay(group) is not None
        noise = self._noise([member.param for member in members])
        return LearnedTogether(members, dtype, group["kernel_size"] // 2, kernels, self.state, has_average, noise)

    def _noise(self, params: list[Tensor]) -> Noise | None:
        """What averages in bfloat16 are rounded with; None if there are none."""
        return None

    def _step_together(self, found: Together, grads: dict[Tensor, Tensor], group: dict[str, Any]) -> None:
        if not isinstance(found, LearnedTogether):
            super()._step_together(found, grads, group)
            return
        losses = found.step_and_learn(grads, group["norm_preserving"], self._rule(group), self.state)
        self._of_step += [] if losses is None else [losses]

    def _rule(self, group: dict[str, Any]) -> Rule | None:
        if group[self._STEP] == 0.0:
            return None
        return Rule(
            group[self._STEP],
            self._weights(group),
            group["min_gain"],
            group["kernel_every"],
            self._THROUGH_NORMALIZATION,
            self._decay(group),
        )

    # ---- what was learned ----------------------------------------------------------------------------------------

    def _all_kernels(self) -> dict[int, Tensor]:
        """The kernels (axes, k) by the place of the parameter, on the CPU; for those that are smoothed so far."""
        found = {}
        places = [(p, group) for group in self.param_groups for p in group["params"]]
        for place, (p, _) in enumerate(places):
            if p in self.state and "kernel" in self.state[p]:
                found[place] = all_taps(self.state[p]["kernel"].detach().cpu())
        return found

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def _check_state(self, p: Tensor, state: dict[str, Any]) -> None:
        super()._check_state(p, state)
        if "kernel" in state:
            kernel = state["kernel"]
            if not isinstance(kernel, Tensor) or kernel.dim() != 2:
                raise ValueError(f"kernel must be a tensor of shape (axes, numbers), got {kernel!r}")
        if "signal" in state:
            check_shape("signal", state["signal"], p.shape)
        if "seen" in state:
            check_integer("seen", state["seen"], low=0)
        for name in state.keys() & {"kernel", "signal", "power"}:
            state[name] = state[name].to(self._dtype(p))

    def _load_extra(self, state_dict: dict[str, Any]) -> None:
        super()._load_extra(state_dict)
        for state in (self.state.get(p) for group in self.param_groups for p in group["params"]):
            if state and "seen" in state:
                state["seen"] = state["seen"].cpu()  # read at every step
