"""Kernels of each tensor's own that descend a loss of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._base import check_shape
from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.convolutional.history import History
from advanced_optimizers.convolutional.kernels import all_taps
from advanced_optimizers.convolutional.learning import Products, Weights, joined, learned, of_filters, of_slices
from advanced_optimizers.convolutional.transform import Smoothed, _Smoothing, batches


class _LearnedSmoothing(_Smoothing):
    """State of a parameter: ``"kernel"`` (axes, r + 1), ``"seen"``, and with a signal ``"signal"`` and ``"power"``."""

    _KEPT = frozenset({"order", "kernel", "seen"})
    # The hyperparameter that is the step of the kernels.
    _STEP = "kernel_lr"
    _THROUGH_NORMALIZATION = False

    def __init__(self, *arguments: Any) -> None:
        self._losses = History()
        super().__init__(*arguments)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        for name in (self._STEP, "smoothness_weight"):
            group[name] = check_range(name, group[name], low=0.0, high=math.inf, open_high=True)
        group["kernel_every"] = check_integer("kernel_every", group["kernel_every"], low=1)

    def _weights(self, group: dict[str, Any]) -> Weights:
        return Weights(group["smoothness_weight"], 0.0)

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
        losses = [self._learn_together(kernels, group) for kernels in together.values()]
        if losses:
            self._losses.append(torch.cat([each.to(losses[0].device, losses[0].dtype) for each in losses]).nanmean())

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
