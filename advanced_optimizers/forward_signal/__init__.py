"""Forward signal propagation (SigProp): each layer learns in the forward pass, from a signal sent along with the input.

Kohan, Rietman, Siegelmann: Signal Propagation: The Framework for Learning and Inference in a Forward Pass, IEEE TNNLS
2023, arXiv 2204.01723.

- ``network``: ``SigPropSequential`` turns an ``nn.Sequential`` into a SigProp network. ``SigPropNet`` (dense) and
  ``SigPropConvNet`` (VGG-style) come with their own models.
- ``architectures``, ``layers``, ``losses``: those models, the layers that carry two streams, and the local losses.
- ``optimizer``: ``SigPropOptimizer`` trains a network layer by layer; ``create_sigprop_optimizer`` makes one with Adam.
- ``pipeline``: ``SigPropPipeline`` trains groups of layers in parallel threads.
"""

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
