"""Two methods are called FER. They share a name and nothing else.

- :class:`FEROptimizer` is the coursework's method, *gradient consistency*: it works on gradients.
- :class:`FlippingErrorReduction` is the published method, *flipping error reduction* (Deng, Xiao, Long, Zhang, AAAI
  2022, arXiv 2203.08390): a loss that works on the predictions for each training sample. :class:`FlippingTracker`
  measures the flipping errors that the paper is about.
"""

from advanced_optimizers.fer_optimizer.consistency import FEROptimizer, create_fer_optimizer
from advanced_optimizers.fer_optimizer.flipping import FlippingErrorReduction
from advanced_optimizers.fer_optimizer.flipping_errors import FlippingErrors, FlippingTracker

__all__ = [
    "FEROptimizer",
    "FlippingErrorReduction",
    "FlippingErrors",
    "FlippingTracker",
    "create_fer_optimizer",
]
