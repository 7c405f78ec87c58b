r"""``set_base_shapes``: turns a model into a muP model, in the form of table 3, 8 or 9 of the paper.

The three tables are one parametrization. A parameter may be stored as :math:`w / \theta` and multiplied by
:math:`\theta` in the forward pass; if its learning rate is divided by :math:`\theta^2` (SGD) or :math:`\theta` (Adam),
the network stays the same function throughout training. Relative to table 8, and with :math:`m` the width multiplier,
:math:`\theta` is:

=======================  ===========  =======  ============
parameter                table 3      table 8  table 9
=======================  ===========  =======  ============
input weights, vectors   1            1        :math:`\sqrt m`
output weights           :math:`m`    1        :math:`\sqrt m`
hidden weights           1            1        1
=======================  ===========  =======  ============
"""

from __future__ import annotations

import os
import re

from torch import nn

from advanced_optimizers._checks import check_bool
from advanced_optimizers.zero_shot_transfer.apply import Multiplier, apply_plan, check_not_table_9, make_plan
from advanced_optimizers.zero_shot_transfer.base_shapes import (
    BaseShapes,
    ShapeSource,
    check_path,
    compare_with_base,
    plain_name,
    read_shapes,
    save_base_shapes,
)
from advanced_optimizers.zero_shot_transfer.checks import (
    check_direction,
    depth_ratio_of,
    warn_if_own_base,
    warn_of_attention,
)
from advanced_optimizers.zero_shot_transfer.module_state import mu_shapes
from advanced_optimizers.zero_shot_transfer.scale import (
    check_can_be_drawn,
    measure,
    model_with_weights,
    reinitialize_weights,
    warn_of_scale,
)

__all__ = ["get_base_shapes", "set_base_shapes"]

TABLES = (3, 8, 9)


def set_base_shapes(
    model: nn.Module,
    base: ShapeSource | None,
    delta: ShapeSource | None = None,
    *,
    rescale_params: bool = True,
    reinitialize: bool = False,
    table: int = 8,
    depth: int | None = None,
    base_depth: int | None = None,
    allow_wider_base: bool = False,
    file: str | os.PathLike[str] | None = None,
) -> nn.Module:
    r"""Compares a model with a base model, and turns its initial weights and multipliers into muP's.

    Call it once, right after creating the model: before any init of your own (:func:`mu_init_`), before the optimizer
    (:func:`MuAdam`, ...) and before ``DistributedDataParallel``, FSDP or ``torch.compile``. The modules remember the
    shapes of their parameters by name, so copies and wrapped models keep them.

    Args:
        model: The target model. Every output layer must be a :class:`MuReadout` or one of its variants.
        base: The base model, a dict of its shapes, base shapes (:func:`make_base_shapes`), or the path of a file with
            them. None means the model itself, that is, standard parametrization.
        delta: The same model again, but different in every width: whatever differs between ``base`` and ``delta`` is a
            width. Without it, whatever differs between ``base`` and ``model`` is one.
        rescale_params: Whether to turn torch's default init into muP's. This is also correct for any other init whose
            variance is proportional to 1 / fan-in, such as Kaiming's. True for a new model; False for weights that come
            from a checkpoint. A model on the ``meta`` device has no weights to rescale: call this again when it has,
            or the optimizers raise an error.
        reinitialize: Whether to draw the weights again, for models whose init is not of this kind: the standard
            deviation is a constant (GPT-2, ViT, BERT), or ``mode="fan_out"`` makes it depend on the outputs. Every
            weight that maps from or to a width is drawn by ``mu_init_(layer, torch.nn.init.normal_, std=...)`` with the
            standard deviation that it has in ``base`` (or in ``delta``), which must be a model with weights. Weights
            that are zero stay zero; embeddings, biases and norms are left alone.
        table: 8, as in the ``mup`` package; 3, with no multipliers in the forward pass; or 9, where SGD's learning rate
            is the same for all parameters. They train the same function. Table 9 registers parametrizations, so
            ``state_dict`` has other names. Tied embeddings need 8 or 9.
        depth: The number of residual layers of the model, in any unit that suits you: only ``depth / base_depth``
            counts. Must be given together with ``base_depth``; see :class:`MuResidual`. Build ``base`` and ``delta``
            with the depth of ``model``: they only show which dimensions are widths.
        base_depth: The number of residual layers of the base model.
        allow_wider_base: Whether the base may be wider than the model. This transfers poorly, and usually means that
            arguments were swapped, so it is refused by default.
        file: Where to save the base shapes as well.

    Returns:
        The same model.

    Raises:
        RuntimeError: The parameters were already rescaled.
        TypeError: An argument has the wrong type.
        ValueError: The models do not match; a layer that is not a readout maps a width to a finite size; a parameter
            has more than two widths; the base is wider than the model; ``depth`` differs from ``base_depth`` in a model
            without a :class:`MuResidual`; weights are tied in table 3; a norm of a weight fixes it at another scale
            than muP's; or ``reinitialize`` has no weights to measure. A refused call leaves the model as it was.

    Warns:
        UserWarning: Initial weights are not of muP's scale, measured against ``base`` or ``delta``, whichever is a
            model with weights (with their names, and how many times they are too large); the model is its own base; a
            width does not grow; or an attention's scale is muP's only for heads of one size. Each once.

    Example:
        >>> from torch import nn
        >>> from advanced_optimizers import MuAdamW, MuReadout, set_base_shapes
        >>> def mlp(width):
        ...     return nn.Sequential(nn.Linear(4, width), nn.ReLU(), MuReadout(width, 2))
        >>> model = set_base_shapes(mlp(256), mlp(64), delta=mlp(128))
        >>> optimizer = MuAdamW(model, lr=1e-3)

    References:
        Yang et al., *Tensor Programs V*, arXiv 2203.03466, tables 3, 8 and 9; the ``mup`` package for table 8.

    Departures from the ``mup`` package:
        What the package keeps on tensors is kept in modules. Its one assertion (no plain ``nn.Linear`` outputs) also
        covers convolutions. The fan-in of transposed convolutions is their first dimension. The default init of
        recurrent layers and of attention is corrected as well, and the weight of a tied readout is left to its
        embedding. The package keeps an init with a constant standard deviation without a word, although its hidden
        weights are then :math:`\sqrt m` times too large.

    Limitations:
        Parameters of custom modules keep their init. With two widths in dimensions 0 and 1 they must be (fan-out,
        fan-in); with two in others, as in a stack of experts, these must grow by the same factor. The scale of the
        initial weights cannot be measured against a dict, a file or a model on the ``meta`` device, nor in weights with
        fewer than 32 elements, which ``reinitialize`` also leaves alone. ``weight_norm``, ``spectral_norm`` and pruning
        are supported on hidden layers (``weight_norm`` on inputs too), not on outputs; other parametrizations are taken
        as they are. A depthwise convolution counts as vector-like, like the gain of a norm. ``nn.MultiheadAttention``
        divides by :math:`\sqrt d`, which is muP's scale only while the head size stays the same (a warning says so
        otherwise). ``docs/mutransfer_on_real_models.md`` has the lines that library models need.
        ``DataParallel`` is untested; FSDP needs ``use_orig_params=True``. torch cannot pickle a model with
        parametrizations, so save the ``state_dict`` of a model in table 9.
    """
    _check_arguments(model, rescale_params, reinitialize, table, allow_wider_base, file)
    check_not_table_9(model)
    ratio = depth_ratio_of(model, depth, base_depth)
    sizes = read_shapes("model", model)
    base_sizes = sizes if base is None else read_shapes("base", base)
    delta_sizes = None if delta is None else read_shapes("delta", delta)
    shapes = compare_with_base(sizes, base_sizes, delta_sizes)
    check_direction(shapes, allow_wider_base)
    plan = make_plan(model, shapes, rescale_params=rescale_params, table=table, depth_ratio=ratio)
    reference = model_with_weights(base, delta) if rescale_params and not plan.is_meta else None
    measured = [] if reference is None else measure(plan.places, plan.shapes, plan.corrections, reference)
    if reinitialize and reference is None:
        raise ValueError(
            "reinitialize=True needs a base (or delta) that is a model with weights, whose standard deviations it "
            f"takes, and a model with weights, got a base of type {type(base).__name__}"
        )
    warn_if_own_base(shapes, base_sizes, delta_sizes)
    warn_of_attention(model, shapes, base)
    if reinitialize:
        check_can_be_drawn(measured)
    else:
        warn_of_scale(measured, stacklevel=3)
    if file is not None:  # it can fail, so it comes before the model changes
        save_base_shapes({name: [dim.base for dim in dims] for name, dims in shapes.items()}, file)
    apply_plan(plan, rescale_params=rescale_params)
    if reinitialize:
        reinitialize_weights(measured)
    return model


def _check_arguments(
    model: nn.Module, rescale_params: bool, reinitialize: bool, table: int, allow_wider_base: bool, file: object
) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {model!r}")
    if table not in TABLES:
        raise ValueError(f"table must be 3, 8 or 9, got {table!r}")
    check_bool("rescale_params", rescale_params)
    check_bool("reinitialize", reinitialize)
    check_bool("allow_wider_base", allow_wider_base)
    if reinitialize and not rescale_params:
        raise ValueError("reinitialize=True draws new weights, but rescale_params=False keeps them: pass one only")
    if file is not None:
        check_path("file", file)


def get_base_shapes(model: nn.Module) -> BaseShapes:
    """Returns the base shapes of a model, to keep in a checkpoint or to save with :func:`save_base_shapes`.

    Args:
        model: A model on which :func:`set_base_shapes` was called, also inside ``DistributedDataParallel``, FSDP and
            the like.

    Returns:
        Parameter name -> the base size of each dimension, None if it is finite.

    Raises:
        RuntimeError: No base shapes were set.
        TypeError: ``model`` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {model!r}")
    inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    shapes: BaseShapes = {}
    seen: set[int] = set()
    stored = {id(parent) for parent in inner.modules() if any(isinstance(m, Multiplier) for m in parent.children())}
    for prefix, module in inner.named_modules():
        for name, shape in mu_shapes(module).items():
            p = module._parameters.get(name)
            if p is not None and id(p) not in seen:
                seen.add(id(p))
                full = plain_name(f"{prefix}.{name}" if prefix else name)
                if id(module) in stored:  # the name before table 9 stored it elsewhere
                    full = re.sub(r"parametrizations\.(\w+)\.original$", r"\1", full)
                shapes[full] = tuple(dim.base for dim in shape.dims)
    if not shapes:
        raise RuntimeError(f"{type(model).__name__} has no base shapes: call set_base_shapes on it first")
    return shapes
