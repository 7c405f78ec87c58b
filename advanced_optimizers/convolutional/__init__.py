"""SGD with gradients that are smoothed by short kernels, in three versions, all the coursework's own.

- :class:`ConvolutionalSGD`: one kernel, which a closure's loss sharpens or widens.
- :class:`LocalLossConvSGD`: a kernel for each tensor, which descends a loss of its own.
- :class:`ConvolutionalSGDv2`: kernels along two axes of each tensor, which also follow the average of past gradients.
"""

from advanced_optimizers.convolutional.convolutional_sgd import ConvolutionalSGD
from advanced_optimizers.convolutional.convolutional_sgd_v2 import ConvolutionalSGDv2
from advanced_optimizers.convolutional.local_loss import LocalLossConvSGD

__all__ = ["ConvolutionalSGD", "ConvolutionalSGDv2", "LocalLossConvSGD"]
