"""Advanced training algorithms as drop-in PyTorch code.

The public names are imported on first use, so that what needs no torch (the command line's help) starts without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from advanced_optimizers import _moved

if TYPE_CHECKING:
    from advanced_optimizers._create import create_optimizer, list_optimizers
    from advanced_optimizers.convolutional import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
    from advanced_optimizers.fer_optimizer import (
        FEROptimizer,
        FlippingErrorReduction,
        FlippingErrors,
        FlippingTracker,
        create_fer_optimizer,
    )
    from advanced_optimizers.forward_signal import (
        LearnResult,
        LocalLoss,
        SigPropConvNet,
        SigPropNet,
        SigPropOptimizer,
        SigPropPipeline,
        SigPropSequential,
        create_sigprop_optimizer,
    )
    from advanced_optimizers.gradient_correction import (
        CorrectionRecord,
        GradientCorrectionOptimizer,
        create_gradient_correction_optimizer,
    )
    from advanced_optimizers.localized_learning import (
        DynamicTransition,
        LocalizedOptimizer,
        StaticTransition,
        create_localized_optimizer,
    )
    from advanced_optimizers.zero_shot_transfer import (
        CoordinateGrowth,
        CoordinateRow,
        MuAdam,
        MuAdamW,
        MuReadout,
        MuReadoutConv1d,
        MuReadoutConv2d,
        MuResidual,
        MuSGD,
        MuSharedReadout,
        coordinate_check,
        coordinate_growth,
        create_mu_transfer_optimizer,
        get_base_shapes,
        load_base_shapes,
        make_base_shapes,
        mu_attention_scale,
        mu_init_,
        mu_learning_rates,
        save_base_shapes,
        set_base_shapes,
    )

__version__ = "0.1.0"
__all__ = [
    "ConvolutionalSGD",
    "ConvolutionalSGDv2",
    "CoordinateGrowth",
    "CoordinateRow",
    "CorrectionRecord",
    "DynamicTransition",
    "FEROptimizer",
    "FlippingErrorReduction",
    "FlippingErrors",
    "FlippingTracker",
    "GradientCorrectionOptimizer",
    "LearnResult",
    "LocalLoss",
    "LocalLossConvSGD",
    "LocalizedOptimizer",
    "MuAdam",
    "MuAdamW",
    "MuReadout",
    "MuReadoutConv1d",
    "MuReadoutConv2d",
    "MuResidual",
    "MuSGD",
    "MuSharedReadout",
    "SigPropConvNet",
    "SigPropNet",
    "SigPropOptimizer",
    "SigPropPipeline",
    "SigPropSequential",
    "StaticTransition",
    "coordinate_check",
    "coordinate_growth",
    "create_fer_optimizer",
    "create_gradient_correction_optimizer",
    "create_localized_optimizer",
    "create_mu_transfer_optimizer",
    "create_optimizer",
    "create_sigprop_optimizer",
    "get_base_shapes",
    "list_optimizers",
    "load_base_shapes",
    "make_base_shapes",
    "mu_attention_scale",
    "mu_init_",
    "mu_learning_rates",
    "save_base_shapes",
    "set_base_shapes",
]

_ROOMS = (
    "convolutional",
    "fer_optimizer",
    "forward_signal",
    "gradient_correction",
    "localized_learning",
    "zero_shot_transfer",
)
_moved.install()


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in (*_ROOMS, "_create"):
            module = import_module(f"{__name__}.{room}")
            if name in module.__all__:
                globals()[name] = value = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
