"""The coursework's one call for a plain model: it needs only the widths of the model and of its base."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

from torch import nn
from torch.optim import Optimizer

from advanced_optimizers._checks import check_bool, check_integer, check_range
from advanced_optimizers.zero_shot_transfer.apply import apply_plan, make_plan, undo_of
from advanced_optimizers.zero_shot_transfer.checks import warn_of_attention
from advanced_optimizers.zero_shot_transfer.layers import MuResidual
from advanced_optimizers.zero_shot_transfer.optimizers import MuAdamW
from advanced_optimizers.zero_shot_transfer.recognize import Sizes, recognize
from advanced_optimizers.zero_shot_transfer.settings import takes_parameters

__all__ = ["create_mu_transfer_optimizer"]

Config = Mapping[str, Any]


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
    until the configurations name its size. A named size in the middle, such as that of a condition, is finite too, and
    refused if a layer produces it. Where these rules are not enough, use :func:`set_base_shapes` with a base
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
            dimension is ambiguous. A refused call leaves the model as it was.

    Warns:
        UserWarning: ``depth`` differs, but the model marks no residual branch with :class:`MuResidual`, so only width
            is transferred. Or the model has ``nn.MultiheadAttention``, whose scale is muP's only for heads of one size.

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

    Limitations:
        Without a base model, the scale of the initial weights cannot be measured, as :func:`set_base_shapes` does.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {model!r}")
    check_bool("rescale_params", rescale_params)
    if not callable(optimizer) or takes_parameters(optimizer):
        raise TypeError(
            f"optimizer must be MuAdamW, MuAdam, MuSGD or a function (model, **kwargs) -> Optimizer, got {optimizer!r}"
        )
    base_width, width = _widths(base_model_config, target_model_config)
    depths = _depths(base_model_config, target_model_config)
    named = _named_sizes(base_model_config, target_model_config)
    hyperparams = _hyperparams(base_hyperparams)
    shapes, readout = recognize(model, Sizes(width, base_width, named))
    has_residuals = any(isinstance(module, MuResidual) for module in model.modules())
    plan = make_plan(
        model,
        shapes,
        rescale_params=rescale_params,
        table=3,
        depth_ratio=depths[1] / depths[0],
        plain_readouts=frozenset([readout]),
    )
    if depths[0] != depths[1] and not has_residuals:
        warnings.warn(
            f"depth differs ({depths[0]} in the base, {depths[1]} here), but the model has no MuResidual: only width "
            "is transferred. Wrap each residual branch in a MuResidual to transfer across depth",
            stacklevel=2,
        )
    warn_of_attention(model, shapes, base=None)
    undo = undo_of(plan)
    apply_plan(plan, rescale_params=rescale_params)
    try:
        return optimizer(model, **hyperparams)
    except BaseException:
        undo()
        raise


def _hyperparams(given: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping) or "lr" not in given:
        raise ValueError(f"base_hyperparams must be a dict with 'lr', got {given!r}")
    check_range("lr", given["lr"], low=0.0, open_high=True)
    return dict(given)


def _widths(base: Config, target: Config) -> tuple[int, int]:
    for argument, config in (("base_model_config", base), ("target_model_config", target)):
        if not isinstance(config, Mapping):
            raise TypeError(f"{argument} must be a dict such as {{'width': 64, 'depth': 2}}, got {config!r}")
        if "width" not in config:
            raise ValueError(f"{argument} must contain 'width', got {dict(config)}")
        for key in config.keys() - {"width", "depth"}:
            near = difflib.get_close_matches(key.lower(), ["width", "depth"], 1, 0.8) if isinstance(key, str) else []
            if near or not isinstance(key, str):
                raise ValueError(f"{argument} has the key {key!r}; did you mean {' or '.join(near) or 'a name'}?")
    base_width = check_integer("base_model_config['width']", base["width"], 1)
    width = check_integer("target_model_config['width']", target["width"], 1)
    if width < base_width:
        raise ValueError(
            f"base_model_config has the width {base_width} and target_model_config {width}: are they swapped? The base "
            "is the narrow model that was tuned (the function set_base_shapes takes a wider one)"
        )
    if width == 1:
        raise ValueError("target_model_config['width'] must be >= 2, got 1: every size is a multiple of 1")
    return base_width, width


def _depths(base: Config, target: Config) -> tuple[int, int]:
    if ("depth" in base) != ("depth" in target):
        raise ValueError(f"'depth' must be in both configurations or in neither, got {dict(base)} and {dict(target)}")
    return (
        check_integer("base_model_config['depth']", base.get("depth", 1), 1),
        check_integer("target_model_config['depth']", target.get("depth", 1), 1),
    )


def _named_sizes(base: Config, target: Config) -> dict[int, list[str]]:
    named: dict[int, list[str]] = {}
    for key in sorted((base.keys() | target.keys()) - {"width", "depth"}):
        if key not in base or key not in target or base[key] != target[key]:
            raise ValueError(
                f"{key!r} must be the same in both configurations, got {base.get(key)!r} in the base and "
                f"{target.get(key)!r} in the target: the models may differ only in 'width' and 'depth'"
            )
        if isinstance(base[key], Integral) and not isinstance(base[key], bool):
            named.setdefault(int(base[key]), []).append(key)
    return named
