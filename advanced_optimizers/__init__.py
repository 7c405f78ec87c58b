"""Advanced training algorithms as drop-in PyTorch code."""

from advanced_optimizers.fer_optimizer import (
    FEROptimizer,
    FlippingErrorReduction,
    FlippingErrors,
    FlippingTracker,
    create_fer_optimizer,
)

__all__ = [
    "FEROptimizer",
    "FlippingErrorReduction",
    "FlippingErrors",
    "FlippingTracker",
    "create_fer_optimizer",
]
