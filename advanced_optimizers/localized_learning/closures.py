"""Hears the loss that a closure returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer


class _Hearer(Protocol):
    def observe(self, loss: float | Tensor) -> None: ...


def hear_closures(optimizer: Optimizer, hearer: _Hearer) -> None:
    """From now on ``hearer`` observes the loss of each closure that is passed to the optimizer's ``step``."""

    def with_closure(_: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        own, *positional = args
        closure = positional[0] if positional else kwargs.get("closure")
        if closure is None:
            return None
        return (own,), {"closure": _heard(closure, hearer)}

    optimizer.register_step_pre_hook(with_closure)


def _heard(closure: Callable[[], Any], hearer: _Hearer) -> Callable[[], Any]:
    losses: list[Any] = []

    def evaluate() -> Any:
        loss = closure()
        if loss is not None and not losses:  # an optimizer may evaluate it again, at other weights
            losses.append(loss)
            hearer.observe(loss)
        return loss

    return evaluate
