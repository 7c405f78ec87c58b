"""Learning to learn: from many small tasks, how to learn the next one from a few examples.

By gradient steps from weights that suit them:

- :class:`MAML`: gradients through the steps, or, to first order, past them.
- :class:`MetaSGD`: the same, and the size of each step is learned, too.
- :class:`Reptile`: toward the weights at which the steps arrive.

By distances between embeddings, without any step:

- :class:`PrototypicalNetworks` (also ``Prototypicalnetworks``): to the mean of each class.
- :class:`MatchingNetworks`: to each example.
"""

from advanced_optimizers.automl.meta_learning.maml import MAML, MetaSGD
from advanced_optimizers.automl.meta_learning.matching import MatchingNetworks
from advanced_optimizers.automl.meta_learning.prototypes import PrototypicalNetworks, Prototypicalnetworks
from advanced_optimizers.automl.meta_learning.reptile import Reptile

__all__ = [
    "MAML",
    "MatchingNetworks",
    "MetaSGD",
    "PrototypicalNetworks",
    "Prototypicalnetworks",
    "Reptile",
]
