"""What the optimizers share: torch's contract over a base optimizer, and gradient transforms built on it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from advanced_optimizers._building import BaseOptimizer, ParamsT, build_optimizer, is_dense
from advanced_optimizers._state import check_shape, laid_out_like, match_layout
from advanced_optimizers._wrapped import WrappedOptimizer

__all__ = [
    "BaseOptimizer",
    "GradientTransform",
    "ParamsT",
    "Part",
    "WrappedOptimizer",
    "build_optimizer",
    "check_shape",
    "ready_for_fused",
]


def ready_for_fused(optimizer: Optimizer) -> None:
    """Lays out state and gradients like their parameters where the step of a bare optimizer is fused; call it before.

    A wrapper does this itself. Where the elements of a parameter have gaps between them, fused is switched off.
    """
    if isinstance(optimizer, WrappedOptimizer):
        return
    for group in optimizer.param_groups:
        params = [p for p in group["params"] if p.grad is not None] if group.get("fused") else []
        if not all(map(is_dense, params)):  # the kernel would overwrite what lies in the gaps
            group["fused"] = False
            continue
        for p in params:
            match_layout(optimizer.state.get(p, {}), p)
            if p.grad.layout == torch.strided and p.grad.stride() != p.stride():
                p.grad = laid_out_like(p.grad, p)


class Part(NamedTuple):
    """What a transform gets of one parameter group: see :meth:`GradientTransform._transform`."""

    params: list[Tensor]
    grads: list[Tensor]
    group: dict[str, Any]


class GradientTransform(WrappedOptimizer):
    """Transforms the gradients, then lets a base optimizer step with them: ``g -> g'``, ``p <- base(p, g')``.

    A subclass writes :meth:`_transform` and, for its own hyperparameters, :meth:`_check_group`. ``p.grad`` is the same
    tensor with the same values after :meth:`step`. When transforms are nested, the outer one acts first.

    Args:
        params: See :class:`WrappedOptimizer`, as for all arguments.
        base_optimizer: See :class:`WrappedOptimizer`.
        base_optimizer_kwargs: See :class:`WrappedOptimizer`.
        defaults: The transform's own hyperparameters.
    """

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: BaseOptimizer,
        base_optimizer_kwargs: dict[str, Any] | None,
        defaults: dict[str, Any],
    ) -> None:
        super().__init__(params, base_optimizer, base_optimizer_kwargs, defaults)
        self._scratch: dict[Tensor, Tensor] = {}

    @abstractmethod
    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Returns the gradients that the base optimizer steps with, one for each parameter of one group.

        Args:
            params: The group's parameters that have a gradient; their state belongs in ``self.state[p]``.
            grads: Their gradients. They must not be written to, but one may be returned where nothing changes.
            group: The group's hyperparameters.
        """

    def _transform_all(self, parts: list[Part]) -> list[list[Tensor]]:
        """The transformed gradients of all groups; for a subclass that handles the tensors of all groups together."""
        return [self._transform(*part) for part in parts]

    def _output(self, p: Tensor, grad: Tensor) -> Tensor:
        """An uninitialized tensor for the transformed gradient of ``p``, laid out in memory like ``p``.

        On the CPU it is kept between steps, because getting fresh pages from the system costs more than filling them.
        On other devices the allocator keeps memory for everyone, so there the tensor is freed after the step.
        """
        if p.device.type != "cpu":
            return torch.empty_like(p, dtype=grad.dtype)
        kept = self._scratch.get(p)
        if kept is None or kept.shape != p.shape or kept.stride() != p.stride() or kept.dtype != grad.dtype:
            kept = self._scratch[p] = torch.empty_like(p, dtype=grad.dtype)
        return kept

    def _update(self) -> None:
        if self._scratch:  # a parameter that was replaced, as pruning does, must not be kept alive
            for p in self._scratch.keys() - {p for group in self.param_groups for p in group["params"]}:
                del self._scratch[p]
        originals: list[tuple[Tensor, Tensor]] = []
        parts: list[Part] = []
        try:
            for group in self.param_groups:
                pairs = [(p, grad) for p in group["params"] if (grad := p.grad) is not None]
                originals += pairs
                parts.append(Part([p for p, _ in pairs], [grad for _, grad in pairs], group))
            for part, transformed in zip(parts, self._transform_all(parts), strict=True):
                for p, grad in zip(part.params, transformed, strict=True):
                    p.grad = grad
            super()._update()
        finally:
            for p, grad in originals:
                p.grad = grad

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_scratch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._scratch = {}
