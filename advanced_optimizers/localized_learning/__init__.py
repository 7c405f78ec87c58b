"""Selective localized learning (LoCal+SGD): early layers learn by a Hebbian rule, the others by SGD."""

from advanced_optimizers.localized_learning.create import create_localized_optimizer
from advanced_optimizers.localized_learning.optimizer import LocalizedOptimizer
from advanced_optimizers.localized_learning.transition import DynamicTransition, StaticTransition

__all__ = [
    "DynamicTransition",
    "LocalizedOptimizer",
    "StaticTransition",
    "create_localized_optimizer",
]
