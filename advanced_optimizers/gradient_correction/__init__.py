r"""Gradient correction, a *reconstruction*: the paper was withdrawn because it misdescribes both of its modules.

The authors' words (Li, Ni, Li, Zhang, Gao: Gradient Correction beyond Gradient Descent, arXiv 2203.08345):

    There are errors in the description of GC-W module and GC-ODE Section 3.2 and Section 3.3, which may mislead the
    readers. e.g., 1. the structure of GC-W module is not described correctly. 2. the GC-ODE module is not described
    clearly. Therefore we want to withdrawal this paper for a thorough correction

Neither code nor a corrected version exists. What is known: there are two plug-in modules, GC-W for weight gradients,
"inspired by the idea of gradient prediction" and with an attention-like structure, and GC-ODE for hidden-state
gradients, "based on Neural ODE"; and layers before down-sampling matter most. Everything beyond that is ours.

- ``optimizer.py``: :class:`GradientCorrectionOptimizer` corrects the gradients for any base optimizer. ``create.py``
  builds it as the coursework does.
- ``predictor.py``: the predictors of weight gradients. ``training.py`` trains them on a batch of tensors, with the
  derivatives of ``derivatives.py``. ``mixing.py``: lengths and cosines of what they predict, and the safety.
- ``one_by_one.py`` corrects one tensor after the other; ``history.py`` says what is kept of each from step to step.
- ``together.py`` corrects all tensors of a device at once, in the buffers of ``parts.py``; ``on_device.py`` gathers
  them.
- ``hidden.py``: GC-ODE on hidden states. ``downsampling.py`` finds them in a model, ``watching.py`` shows them in each
  forward pass, and ``shapes.py`` says which calls down-sample.
"""

from advanced_optimizers.gradient_correction.create import create_gradient_correction_optimizer
from advanced_optimizers.gradient_correction.history import CorrectionRecord
from advanced_optimizers.gradient_correction.optimizer import GradientCorrectionOptimizer

__all__ = [
    "CorrectionRecord",
    "GradientCorrectionOptimizer",
    "create_gradient_correction_optimizer",
]
