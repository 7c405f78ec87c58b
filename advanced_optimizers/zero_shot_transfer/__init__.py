"""muTransfer: tune a narrow model, then train a wide one with the same hyperparameters (Yang et al., arXiv 2203.03466).

In the maximal update parametrization (muP) the best learning rate does not depend on the width of the model:

    >>> from torch import nn
    >>> from advanced_optimizers import MuAdamW, MuReadout, set_base_shapes
    >>> def make_model(width):
    ...     hidden = nn.Linear(width, width)
    ...     return nn.Sequential(nn.Linear(784, width), nn.ReLU(), hidden, nn.ReLU(), MuReadout(width, 10))
    >>> model = set_base_shapes(make_model(256), base=make_model(64), delta=make_model(128))
    >>> optimizer = MuAdamW(model, lr=1e-3, weight_decay=0.1)  # tuned on a model of another width with the same base

- ``base_shapes``: which dimensions of a model are widths, and how wide they are in the base model.
- ``parametrization``: ``set_base_shapes`` turns a model into a muP model: ``places`` finds its parameters, ``checks``
  has the errors, ``scale`` measures the initial weights, ``apply`` decides and then changes the model.
- ``init``, ``layers``, ``optimizers``: the initial weights, the multipliers and the learning rates of a muP model;
  ``settings`` checks those of the optimizers.
- ``module_state``: what the modules of a muP model remember.
- ``coordinates``: the coordinate check, which shows whether a model is parametrized correctly.
- ``create``: the coursework's one call for a plain model, ``create_mu_transfer_optimizer``; ``recognize``
  finds its widths.
"""

from advanced_optimizers.zero_shot_transfer.base_shapes import load_base_shapes, make_base_shapes, save_base_shapes
from advanced_optimizers.zero_shot_transfer.coordinates import (
    CoordinateGrowth,
    CoordinateRow,
    coordinate_check,
    coordinate_growth,
)
from advanced_optimizers.zero_shot_transfer.create import create_mu_transfer_optimizer
from advanced_optimizers.zero_shot_transfer.init import mu_init_
from advanced_optimizers.zero_shot_transfer.layers import (
    MuReadout,
    MuReadoutConv1d,
    MuReadoutConv2d,
    MuResidual,
    MuSharedReadout,
    mu_attention_scale,
)
from advanced_optimizers.zero_shot_transfer.optimizers import (
    MuAdam,
    MuAdamW,
    MuSGD,
    mu_learning_rates,
)
from advanced_optimizers.zero_shot_transfer.parametrization import get_base_shapes, set_base_shapes

__all__ = [
    "CoordinateGrowth",
    "CoordinateRow",
    "MuAdam",
    "MuAdamW",
    "MuReadout",
    "MuReadoutConv1d",
    "MuReadoutConv2d",
    "MuResidual",
    "MuSGD",
    "MuSharedReadout",
    "coordinate_check",
    "coordinate_growth",
    "create_mu_transfer_optimizer",
    "get_base_shapes",
    "load_base_shapes",
    "make_base_shapes",
    "mu_attention_scale",
    "mu_init_",
    "mu_learning_rates",
    "save_base_shapes",
    "set_base_shapes",
]
