"""Forward signal propagation (SigProp): every layer learns in the forward pass, from a signal sent along."""

from advanced_optimizers.forward_signal.losses import LocalLoss
from advanced_optimizers.forward_signal.network import SigPropConvNet, SigPropNet, SigPropSequential
from advanced_optimizers.forward_signal.optimizer import LearnResult, SigPropOptimizer, create_sigprop_optimizer
from advanced_optimizers.forward_signal.pipeline import SigPropPipeline

__all__ = [
    "LearnResult",
    "LocalLoss",
    "SigPropConvNet",
    "SigPropNet",
    "SigPropOptimizer",
    "SigPropPipeline",
    "SigPropSequential",
    "create_sigprop_optimizer",
]
