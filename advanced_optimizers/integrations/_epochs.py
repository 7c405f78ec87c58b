"""What the callbacks share: who needs to hear of epochs in a framework's training run, and telling them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from torch import nn

from advanced_optimizers.fer_optimizer import FlippingErrorReduction
from advanced_optimizers.localized_learning import LocalizedOptimizer

# Under which names frameworks keep the optimizer that they wrap: accelerate and Lightning, Opacus, timm's Lookahead.
_INSIDE = ("optimizer", "original_optimizer", "_base_optimizer")


def local_optimizers(optimizers: Iterable[Any]) -> list[LocalizedOptimizer]:
    """The local learners among a framework's optimizers, taken out of what it wraps them in."""
    return [found for found in map(_unwrapped, optimizers) if isinstance(found, LocalizedOptimizer)]


def _unwrapped(optimizer: Any) -> Any:
    while not isinstance(optimizer, LocalizedOptimizer):
        inside = next((getattr(optimizer, name) for name in _INSIDE if hasattr(optimizer, name)), None)
        if inside is None:
            break
        optimizer = inside
    return optimizer


def criteria_of(model: nn.Module) -> list[FlippingErrorReduction]:
    """The losses that remember samples, among a model's modules."""
    return [module for module in model.modules() if isinstance(module, FlippingErrorReduction)]


def check_run(model: nn.Module, optimizers: Iterable[Any], epochs: int | None) -> None:
    """Checks, before the first step, that somebody hears of the epochs, once each, and that there are not too many.

    Args:
        model: The model that is trained.
        optimizers: The framework's optimizers.
        epochs: How many epochs the run has; None if it is counted in steps.

    Raises:
        ValueError: A loss was built for a shorter run, or a local learner ends its epochs itself.

    Warns:
        UserWarning: Nothing needs to hear of the epochs.
    """
    criteria = criteria_of(model)
    for criterion in criteria:
        if epochs is not None and epochs > criterion.total_epochs:
            raise ValueError(
                f"total_epochs of the FlippingErrorReduction must be the length of the run, {epochs} epochs, got "
                f"{criterion.total_epochs}"
            )
    learners = local_optimizers(optimizers)
    for learner in learners:
        if learner.steps_per_epoch is not None:
            raise ValueError(
                "steps_per_epoch of the LocalizedOptimizer must be None with EpochCallback, which ends its epochs, "
                f"got {learner.steps_per_epoch}: leave one of the two out"
            )
    if not criteria and not learners:
        warnings.warn(
            "EpochCallback found neither a LocalizedOptimizer among the optimizers nor a FlippingErrorReduction among "
            "the model's modules, so it does nothing: make the loss an attribute of the model, or leave the callback "
            "out",
            stacklevel=2,
        )


def begin_epoch(model: nn.Module, epoch: int) -> None:
    """Tells the model's losses that an epoch begins; epochs are counted from 1."""
    for criterion in criteria_of(model):
        criterion.set_epoch(epoch)
