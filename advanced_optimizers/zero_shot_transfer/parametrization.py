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

import math
import os
import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from advanced_optimizers.zero_shot_transfer.base_shapes import (
    BaseShapes,
    InfDim,
    MuShape,
    ShapeSource,
    compare_with_base,
    plain_name,
    read_shapes,
    save_base_shapes,
)
from advanced_optimizers.zero_shot_transfer.checks import (
    Place,
    check_direction,
    check_place,
    check_readouts,
    check_ties,
    depth_ratio_of,
    params_in_branches,
    warn_if_own_base,
    warn_of_attention,
)
from advanced_optimizers.zero_shot_transfer.init import default_corrections
from advanced_optimizers.zero_shot_transfer.layers import Multiplied, MuResidual, Readout
from advanced_optimizers.zero_shot_transfer.module_state import (
    drop_mu_shapes,
    is_rescaled,
    mark_rescaled,
    mu_shapes,
    set_mu_shape,
)

__all__ = ["get_base_shapes", "set_base_shapes"]

TABLES = (3, 8, 9)


def set_base_shapes(
    model: nn.Module,
    base: ShapeSource | None,
    delta: ShapeSource | None = None,
    *,
    rescale_params: bool = True,
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
            from a checkpoint.
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
            without a :class:`MuResidual`; or weights are tied in table 3. A refused call leaves the model as it was.

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
        embedding.

    Limitations:
        Parameters of custom modules keep their init; with two widths, they must be (fan-out, fan-in). A depthwise
        convolution counts as vector-like, like the gain of a norm. ``nn.MultiheadAttention`` divides by
        :math:`\sqrt d`, which is muP's scale only while the head size stays the same (a warning says so otherwise).
        ``DataParallel`` is untested; FSDP needs ``use_orig_params=True``. torch cannot pickle a model with
        parametrizations, so save the ``state_dict`` of a model in table 9.
    """
    if table not in TABLES:
        raise ValueError(f"table must be 3, 8 or 9, got {table!r}")
    _check_not_table_9(model)
    ratio = depth_ratio_of(model, depth, base_depth)
    sizes = read_shapes("model", model)
    base_sizes = sizes if base is None else read_shapes("base", base)
    delta_sizes = None if delta is None else read_shapes("delta", delta)
    shapes = compare_with_base(sizes, base_sizes, delta_sizes)
    check_direction(shapes, allow_wider_base)
    warn_if_own_base(shapes, base_sizes, delta_sizes)
    warn_of_attention(model, shapes, base)
    apply_mup(model, shapes, rescale_params=rescale_params, table=table, depth_ratio=ratio)
    if file is not None:
        save_base_shapes(get_base_shapes(model), file)
    return model


def get_base_shapes(model: nn.Module) -> BaseShapes:
    """Returns the base shapes of a model, to keep in a checkpoint or to save with :func:`save_base_shapes`.

    Args:
        model: A model on which :func:`set_base_shapes` was called, also inside ``DistributedDataParallel``, FSDP and
            the like.

    Returns:
        Parameter name -> the base size of each dimension, None if it is finite.

    Raises:
        RuntimeError: No base shapes were set.
    """
    inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    shapes: BaseShapes = {}
    seen: set[int] = set()
    for prefix, module in inner.named_modules():
        for name, shape in mu_shapes(module).items():
            p = module._parameters.get(name)
            if p is not None and id(p) not in seen:
                seen.add(id(p))
                full = plain_name(f"{prefix}.{name}" if prefix else name)
                full = re.sub(r"parametrizations\.(\w+)\.original$", r"\1", full)  # the name in table 9
                shapes[full] = tuple(dim.base for dim in shape.dims)
    if not shapes:
        raise RuntimeError(f"{type(model).__name__} has no base shapes: call set_base_shapes on it first")
    return shapes


def _places(model: nn.Module) -> list[Place]:
    keys = {id(p): plain_name(name) for name, p in model.named_parameters()}
    return [
        Place(module_name, module, name, p, keys[id(p)])
        for module_name, module in model.named_modules()
        for name, p in module._parameters.items()
        if p is not None
    ]


def apply_mup(
    model: nn.Module,
    shapes: dict[str, tuple[InfDim, ...]],
    *,
    rescale_params: bool,
    table: int,
    depth_ratio: float = 1.0,
    plain_readouts: frozenset[str] = frozenset(),
) -> None:
    """Attaches shapes and multipliers to the modules and rescales the parameters; all checks come first.

    ``plain_readouts`` names ordinary layers that are outputs. Table 3 only needs to know about them.
    """
    _check_not_table_9(model)
    if rescale_params and any(is_rescaled(m) for m in model.modules()):
        raise RuntimeError(
            "the model's parameters were already rescaled, by an earlier call or in the checkpoint that it loaded: "
            "pass rescale_params=False to keep them, or create a new model"
        )
    check_readouts(model)
    branches = params_in_branches(model)
    places = _places(model)
    readouts = [isinstance(place.module, Readout) or place.module_name in plain_readouts for place in places]
    place_shapes: list[MuShape] = []
    for place, is_readout in zip(places, readouts, strict=True):
        depth = depth_ratio if id(place.p) in branches else 1.0
        shape = MuShape(shapes[place.key], *_fans(place.module), depth_ratio=depth)
        check_place(place, shape, is_readout)
        place_shapes.append(replace(shape, theta=_theta(shape, is_readout and place.name == "weight", table)))
    check_ties(places, place_shapes)
    for module in model.modules():
        drop_mu_shapes(module)
    for place, shape in zip(places, place_shapes, strict=True):
        set_mu_shape(place.module, place.name, shape)
    _set_multipliers(model, depth_ratio)
    if rescale_params:
        _rescale(model)
    _divide_stored(places, place_shapes, readouts, rescale_params)


def _check_not_table_9(model: nn.Module) -> None:
    if any(isinstance(m, _Multiplier) for m in model.modules()):
        raise RuntimeError(
            "the model already has the multipliers of table 9: create a new model to change its base shapes"
        )


def _fans(module: nn.Module) -> tuple[int, int]:
    """Returns which dimensions of a weight are fan-in and fan-out."""
    return (0, 1) if isinstance(module, _ConvTransposeNd | nn.Embedding | nn.EmbeddingBag) else (1, 0)


def _theta(shape: MuShape, is_output: bool, table: int) -> float:
    if len(shape.infinite) != 1 or table == 8:
        return 1.0
    if table == 9:
        return math.sqrt(shape.width_mult)
    return shape.width_mult if is_output else 1.0


def _set_multipliers(model: nn.Module, depth_ratio: float) -> None:
    for module in model.modules():
        if isinstance(module, MuResidual):
            module.multiplier = 1.0 / math.sqrt(depth_ratio)
        elif isinstance(module, Multiplied):
            shape = mu_shapes(module)["weight"]
            module.multiplier = shape.theta / shape.width_mult


@torch.no_grad()
def _rescale(model: nn.Module) -> None:
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    done: set[int] = set()
    for module in model.modules():
        shapes = mu_shapes(module)
        for name, factor in default_corrections(module, shapes):
            p = module._parameters[name]
            if (
                p is not None and id(p) not in done | embedded and factor != 1.0
            ):  # an embedding's init is right as it is
                p.mul_(factor)
            done.add(id(p))
        if shapes:
            mark_rescaled(module)


class _Multiplier(nn.Module):
    """Multiplies a parameter that is stored divided by theta."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, stored: Tensor) -> Tensor:
        return stored * self.theta

    def right_inverse(self, seen: Tensor) -> Tensor:
        return seen / self.theta


@torch.no_grad()
def _divide_stored(places: list[Place], shapes: list[MuShape], readouts: list[bool], rescale_params: bool) -> None:
    """Divides by theta what is stored.

    The forward pass of a readout makes up for it; other modules get a parametrization that does.
    """
    divided: set[str] = set()
    todo = [entry for entry in zip(places, shapes, readouts, strict=True) if entry[1].theta != 1.0]
    for place, shape, is_readout in sorted(todo, key=lambda entry: entry[2]):
        if is_readout and place.name == "weight":
            if rescale_params and place.key not in divided:
                place.p.div_(shape.theta)
        else:
            if place.key in divided:  # registering divides again
                place.p.mul_(shape.theta)
            parametrize.register_parametrization(place.module, place.name, _Multiplier(shape.theta))
            stored: Any = place.module.parametrizations[place.name]  # type: ignore[index]
            set_mu_shape(stored, "original", shape)
        divided.add(place.key)
