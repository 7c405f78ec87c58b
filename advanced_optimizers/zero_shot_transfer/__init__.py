"""muTransfer: tune a narrow model and train a wide one with the same hyperparameters, by muP."""

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
