"""Two methods are called FER: the coursework's gradient consistency and the published flipping error reduction."""

from advanced_optimizers.fer_optimizer.consistency import FEROptimizer, create_fer_optimizer
from advanced_optimizers.fer_optimizer.flipping import FlippingErrorReduction, FlippingErrors, FlippingTracker

__all__ = [
    "FEROptimizer",
    "FlippingErrorReduction",
    "FlippingErrors",
    "FlippingTracker",
    "create_fer_optimizer",
]
