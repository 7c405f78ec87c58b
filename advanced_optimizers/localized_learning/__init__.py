"""LoCal+SGD, selective localized learning: early layers learn by a localized Hebbian rule, the others by SGD.

The boundary between the two moves up during training.

Krithivasan, Sen, Venkataramani, Raghunathan: Accelerating DNN Training Through Selective Localized Learning. Frontiers
in Neuroscience 15:759807, 2022, doi 10.3389/fnins.2021.759807.

- ``optimizer.py``: :class:`LocalizedOptimizer`. ``create.py``: :func:`create_localized_optimizer`.
- ``hebbian.py``: the localized rules, and the hooks that observe a layer.
- ``transition.py``: when the boundary moves; ``movement.py``: what the dynamic transition measures.
- ``blocks.py``: the steps in which it moves; ``order.py``: in which order they run, and the hooks that show it.
- ``localizer.py``: which blocks and parameters are localized.
- ``processes.py``: what several processes share.
- ``arguments.py``: checks; ``closures.py``: the losses of closures; ``once.py``: warnings.
"""

from advanced_optimizers.localized_learning.create import create_localized_optimizer
from advanced_optimizers.localized_learning.optimizer import LocalizedOptimizer
from advanced_optimizers.localized_learning.transition import DynamicTransition, StaticTransition

__all__ = [
    "DynamicTransition",
    "LocalizedOptimizer",
    "StaticTransition",
    "create_localized_optimizer",
]
