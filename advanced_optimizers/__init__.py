"""Advanced training algorithms as drop-in PyTorch code."""

from advanced_optimizers.fer_optimizer import (
    FEROptimizer,
    FlippingErrorReduction,
    FlippingErrors,
    FlippingTracker,
    create_fer_optimizer,
)
from advanced_optimizers.localized_learning import (
    DynamicTransition,
    LocalizedOptimizer,
    StaticTransition,
    create_localized_optimizer,
)

__all__ = [
    "DynamicTransition",
    "FEROptimizer",
    "FlippingErrorReduction",
    "FlippingErrors",
    "FlippingTracker",
    "LocalizedOptimizer",
    "StaticTransition",
    "create_fer_optimizer",
    "create_localized_optimizer",
]
