"""Gradient correction, a reconstruction of a withdrawn paper: gradients turned toward a predicted next one."""

from advanced_optimizers.gradient_correction.history import CorrectionRecord
from advanced_optimizers.gradient_correction.optimizer import (
    GradientCorrectionOptimizer,
    create_gradient_correction_optimizer,
)

__all__ = [
    "CorrectionRecord",
    "GradientCorrectionOptimizer",
    "create_gradient_correction_optimizer",
]
