"""The coursework's one call for a plain model: it needs only the widths of the model and of its base."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.optim import Optimizer

from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.zero_shot_transfer.base_shapes import InfDim, read_shapes
from advanced_optimizers.zero_shot_transfer.layers import MuResidual
from advanced_optimizers.zero_shot_transfer.optimizers import MuAdamW
from advanced_optimizers.zero_shot_transfer.parametrization import apply_mup, set_base_shapes

__all__ = ["create_mu_transfer_optimizer"]

Config = Mapping[str, Any]
_LAYERS = (nn.Linear, _ConvNd)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def create_mu_transfer_optimizer(
    model: nn.Module,
    base_model_config: Config,
    target_model_config: Config,
    base_hyperparams: Mapping[str, Any],
    *,
    optimizer: Callable[..., Optimizer] = MuAdamW,
    rescale_params: bool = True,
) -> Optimizer:
    r"""Turns a plain model into a muP model, given only its width and its base's, and builds the optimizer.

    The result is **table 3 with** :func:`MuAdamW`. Table 3 has no multipliers in the forward pass, so the layers of the
    model stay as they are. The initial weights of the output layer are divided by the square root of the width
    multiplier :math:`m` (so that their variance is proportional to :math:`1/\text{fan\_in}^2`), and the learning rates
    differ by layer. The optimizer is AdamW, because weight decay that passes through Adam's normalization does not
    transfer.

    **Which dimensions are widths.** A dimension is a width if its size is a multiple :math:`k w` of the target's width
    :math:`w`; its size in the base is then :math:`k w_0`. These dimensions are finite: kernel sizes, the vocabulary of
    an embedding, and the two ends of the model. The ends are the inputs of the first linear or convolutional layer in
    the order of registration (unless there is an embedding), and the outputs of the last one, which is the output
    layer. Further output layers must be :class:`MuReadout`. An end of exactly :math:`w` could be either, and is refused
    until the configurations name its size. Where these rules are not enough, use :func:`set_base_shapes` with a base
    model.

    Args:
        model: The target model, newly created, with torch's default init or another one whose variance is proportional
            to 1 / fan-in. Its parameters are rescaled in place.
        base_model_config: ``{"width": w0, "depth": L0}`` of the model that ``base_hyperparams`` were tuned on.
            ``depth`` may be left out of both configurations. Further entries, such as
            ``{"input_dim": 64, "num_classes": 10}``, name the sizes of the ends; they must be in both configurations,
            and equal.
        target_model_config: The same for ``model``: ``{"width": w, "depth": L}``.
        base_hyperparams: ``{"lr": ..., "weight_decay": ...}`` as tuned on the base, and the optimizer's other settings.
        optimizer: :func:`MuAdamW`, :func:`MuAdam` or :func:`MuSGD`.
        rescale_params: False for weights that come from a checkpoint.

    Returns:
        The optimizer, as from :func:`MuAdamW`.

    Raises:
        RuntimeError: The parameters were already rescaled.
        TypeError: A width or depth is not an integer, or a configuration is not a dict.
        ValueError: A key is missing; base and target are swapped; the model does not have the target's width; or a
            dimension is ambiguous.

    Warns:
        UserWarning: ``depth`` differs, but the model marks no residual branch with :class:`MuResidual`, so only width
            is transferred.

    Example:
        >>> from torch import nn
        >>> from advanced_optimizers import create_mu_transfer_optimizer
        >>> model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
        >>> base, target = {"width": 64, "depth": 2}, {"width": 256, "depth": 2}
        >>> tuned = {"lr": 1e-3, "weight_decay": 0.1}
        >>> optimizer = create_mu_transfer_optimizer(model, base, target, tuned)
        >>> sorted({group["lr"] for group in optimizer.param_groups})
        [0.00025, 0.001]

    References:
        Yang et al., arXiv 2203.03466, table 3; :class:`MuResidual` for depth.

    Departures from the paper:
        Recognizing widths by their sizes is our idea. Attention must be scaled by :func:`mu_attention_scale` in the
        model.
    """
    base_width, width = _widths(base_model_config, target_model_config)
    depths = _depths(base_model_config, target_model_config)
    ends = _named_sizes(base_model_config, target_model_config)
    if not isinstance(base_hyperparams, Mapping) or "lr" not in base_hyperparams:
        raise ValueError(f"base_hyperparams must be a dict with 'lr', got {base_hyperparams!r}")
    check_range("lr", base_hyperparams["lr"], low=0.0)
    # Bad settings are refused here, before the model changes. (A norm draws no random numbers.)
    optimizer(set_base_shapes(nn.LayerNorm(1), None), **base_hyperparams)
    shapes, readout = _recognize(model, width, base_width, ends)
    has_residuals = any(isinstance(module, MuResidual) for module in model.modules())
    if depths[0] != depths[1] and not has_residuals:
        warnings.warn(
            f"depth differs ({depths[0]} in the base, {depths[1]} here), but the model has no MuResidual: only width "
            "is transferred. Wrap each residual branch in a MuResidual to transfer across depth",
            stacklevel=2,
        )
    apply_mup(
        model,
        shapes,
        rescale_params=rescale_params,
        table=3,
        depth_ratio=depths[1] / depths[0],
        plain_readouts=frozenset([readout]),
    )
    return optimizer(model, **base_hyperparams)


def _widths(base: Config, target: Config) -> tuple[int, int]:
    for argument, config in (("base_model_config", base), ("target_model_config", target)):
        if not isinstance(config, Mapping):
            raise TypeError(f"{argument} must be a dict such as {{'width': 64, 'depth': 2}}, got {config!r}")
        if "width" not in config:
            raise ValueError(f"{argument} must contain 'width', got {dict(config)}")
        check_integer(f"{argument}['width']", config["width"], 1)
    if target["width"] < base["width"]:
        raise ValueError(
            f"base_model_config has the width {base['width']} and target_model_config {target['width']}: are they "
            "swapped? The base is the narrow model that was tuned (set_base_shapes has allow_wider_base)"
        )
    if target["width"] == 1:
        raise ValueError("target_model_config['width'] must be >= 2, got 1: every size is a multiple of 1")
    return base["width"], target["width"]


def _depths(base: Config, target: Config) -> tuple[int, int]:
    if ("depth" in base) != ("depth" in target):
        raise ValueError(f"'depth' must be in both configurations or in neither, got {dict(base)} and {dict(target)}")
    for argument, config in (("base_model_config", base), ("target_model_config", target)):
        check_integer(f"{argument}['depth']", config.get("depth", 1), 1)
    return base.get("depth", 1), target.get("depth", 1)


def _named_sizes(base: Config, target: Config) -> frozenset[int]:
    further = (base.keys() | target.keys()) - {"width", "depth"}
    for key in sorted(further):
        if key not in base or key not in target or base[key] != target[key]:
            raise ValueError(
                f"{key!r} must be the same in both configurations, got {base.get(key)!r} in the base and "
                f"{target.get(key)!r} in the target: the models may differ only in 'width' and 'depth'"
            )
    return frozenset(base[key] for key in further if isinstance(base[key], int))


def _recognize(
    model: nn.Module, width: int, base_width: int, ends: frozenset[int]
) -> tuple[dict[str, tuple[InfDim, ...]], str]:
    """Returns the dimensions of every parameter, and the name of the output layer."""
    read_shapes("model", model)  # refuses parameters that have no shape yet
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, _LAYERS)]
    recurrent = [m for m in model.modules() if isinstance(m, nn.RNNBase | nn.RNNCellBase)]
    if recurrent:
        raise ValueError(
            f"model has recurrent layers ({type(recurrent[0]).__name__}), whose sizes do not show which dimensions "
            "belong to the data: use set_base_shapes with a base model"
        )
    if not layers:
        raise ValueError("model must have a linear or convolutional layer, got none")
    has_embedding = any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
    first, last = layers[0][0], layers[-1][0]
    finite: dict[str, set[int]] = {}  # dimensions that are finite because of where they are
    is_data = not has_embedding
    for name, module in model.named_modules():
        is_data = is_data and name != first
        prefix = f"{name}." if name else ""
        fan_in, fan_out = (0, 1) if isinstance(module, _ConvTransposeNd) else (1, 0)
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            finite[f"{prefix}weight"] = {0}
        elif isinstance(module, _LAYERS):
            kernel = set(range(2, module.weight.dim()))
            inputs = {fan_in} if name == first and not has_embedding else set()
            outputs = {fan_out} if name == last else set()
            for i in inputs | outputs:
                _check_end(f"{prefix}weight", i, module.weight.shape[i], width, ends)
            finite[f"{prefix}weight"] = kernel | inputs | outputs
            finite[f"{prefix}bias"] = {0} if outputs else set()
        elif isinstance(module, _NORMS) and is_data:  # it normalizes the inputs
            finite |= {f"{prefix}{own}": set(range(p.dim())) for own, p in module.named_parameters(recurse=False)}
    shapes = {}
    for name, p in model.named_parameters():
        infinite = {i for i, size in enumerate(p.shape) if size and size % width == 0} - finite.get(name, set())
        if len(infinite) > 1 and name not in finite and "in_proj_weight" not in name:
            raise ValueError(
                f"{name} of shape {tuple(p.shape)} has several dimensions that are multiples of the width {width}: use "
                "set_base_shapes with a base model, which shows what grows"
            )
        shapes[name] = tuple(
            InfDim(size, size // width * base_width if i in infinite else None) for i, size in enumerate(p.shape)
        )
    if not any(dim.is_infinite for dims in shapes.values() for dim in dims):
        fits_base = any(size % base_width == 0 for p in model.parameters() for size in p.shape)
        hint = f"; it fits the base's width {base_width}: are the two swapped?" if fits_base else ""
        raise ValueError(f"model has no dimension that is a multiple of target_model_config['width'] = {width}{hint}")
    return shapes, last


def _check_end(name: str, dimension: int, size: int, width: int, ends: frozenset[int]) -> None:
    if size == width and size not in ends:
        raise ValueError(
            f"dimension {dimension} of {name} is {size}, which is the width, but it is at an end of the model: if it "
            f"belongs to the data, name it in both configurations, such as {{..., 'input_dim': {size}}}; if it is a "
            "width, use set_base_shapes with a base model"
        )
