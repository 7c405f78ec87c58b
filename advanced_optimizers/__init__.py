"""Advanced training algorithms as drop-in PyTorch code."""

from advanced_optimizers.fer_optimizer import (
    FEROptimizer,
    FlippingErrorReduction,
    FlippingErrors,
    FlippingTracker,
    create_fer_optimizer,
)
from advanced_optimizers.forward_signal import (
    LearnResult,
    LocalLoss,
    SigPropConvNet,
    SigPropNet,
    SigPropOptimizer,
    SigPropSequential,
    create_sigprop_optimizer,
)
from advanced_optimizers.forward_signal_pipeline import SigPropPipeline
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
    "LearnResult",
    "LocalLoss",
    "LocalizedOptimizer",
    "SigPropConvNet",
    "SigPropNet",
    "SigPropOptimizer",
    "SigPropPipeline",
    "SigPropSequential",
    "StaticTransition",
    "create_fer_optimizer",
    "create_localized_optimizer",
    "create_sigprop_optimizer",
]
