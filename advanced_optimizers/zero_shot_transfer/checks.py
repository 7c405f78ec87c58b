"""What can be wrong with a model that is to become a muP model; each problem has one error or warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import nn
from torch.nn.modules.conv import _ConvNd

from advanced_optimizers._checks import check_integer
from advanced_optimizers.zero_shot_transfer.base_shapes import (
    BaseShapes,
    InfDim,
    MuShape,
    ShapeSource,
    align_names,
    plain_name,
)
from advanced_optimizers.zero_shot_transfer.layers import MuResidual, Readout
from advanced_optimizers.zero_shot_transfer.places import SPECTRAL_NORM, WEIGHT_NORM, Place


def check_place(place: Place, shape: MuShape, is_readout: bool) -> None:
    """Refuses a parameter with too many widths, a missing readout, and a readout where none belongs."""
    infinite, dims, name = shape.infinite, shape.dims, place.full_name
    layer = place.layer if place.tensor == "weight" and place.is_whole else None
    is_map = isinstance(layer, nn.Linear | _ConvNd)
    widths = [(d.base, d.size) for d in dims if d.is_infinite]
    if len(infinite) > 2 or (is_map and not set(infinite) <= {0, 1}):
        raise ValueError(
            f"{name} has the widths {widths} in dimensions {infinite}: a parameter may have at most two, and a kernel "
            "none"
        )
    if len(infinite) == 2 and infinite != (0, 1) and dims[infinite[0]].mult != dims[infinite[1]].mult:
        raise ValueError(
            f"{name} has the widths {widths} in dimensions {infinite}, which grow by different factors: which of them "
            "is summed over is known only for dimensions 0 and 1 (fan-out, fan-in)"
        )
    if not is_map:
        return
    fan_in, fan_out = dims[shape.fan_in], dims[shape.fan_out]
    shrinks = fan_in.is_infinite and not fan_out.is_infinite and not _is_depthwise(place.layer)
    growth = f"({fan_in.base} -> {fan_in.size}) to {fan_out.size} outputs"
    if shrinks and not is_readout:
        raise ValueError(
            f"{name} maps a width {growth}, which do not grow: make its layer {_readout_for(place.layer)} if they are "
            "the model's outputs; otherwise let all dimensions of a block grow together. A size is finite if it is the "
            "same in the base and in the model, unless it is known to be a width"
        )
    if is_readout and infinite and not shrinks:
        raise ValueError(
            f"{name} belongs to a readout, which maps a width to a finite size, but it maps {fan_in.size} inputs (base "
            f"{fan_in.base}) to {fan_out.size} outputs (base {fan_out.base}): use the ordinary layer"
        )


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and 1 < module.groups == module.in_channels


def _readout_for(module: nn.Module) -> str:
    kinds = {nn.Linear: "a MuReadout", nn.Conv1d: "a MuReadoutConv1d", nn.Conv2d: "a MuReadoutConv2d"}
    return next((kind for cls, kind in kinds.items() if isinstance(module, cls)), "linear, followed by a MuReadout,")


def check_computed(places: list[Place], shapes: list[MuShape]) -> None:
    """Refuses norms of weights that would fix a weight at another scale than muP's."""
    gains = {
        (id(place.layer), place.tensor): shape
        for place, shape in zip(places, shapes, strict=True)
        if place.is_gain
    }  # fmt: skip
    for place, shape in zip(places, shapes, strict=True):
        if place.computed_by not in (SPECTRAL_NORM, WEIGHT_NORM) or place.is_gain or not shape.infinite:
            continue
        in_and_out = tuple(sorted((shape.fan_in, shape.fan_out)))
        grows_alike = shape.infinite == in_and_out and shape.dims[shape.fan_in].mult == shape.fan_out_mult
        if place.computed_by == SPECTRAL_NORM and not grows_alike:
            raise ValueError(
                f"{place.full_name} belongs to a weight with spectral_norm, which fixes its largest singular value at "
                "1: in muP this is right only where inputs and outputs grow by the same factor, and here the sizes are "
                f"{_growths(shape)}. Leave spectral_norm out of this layer"
            )
        if place.computed_by == WEIGHT_NORM and shape.dims[shape.fan_out].is_infinite:
            along = gains[id(place.layer), place.tensor].infinite
            if along != (shape.fan_out,) and not (along == (shape.fan_in,) and grows_alike):
                raise ValueError(
                    f"{place.full_name} belongs to a weight with weight_norm, whose norms are sums over its outputs, "
                    f"so they grow with width ({_growths(shape)}): pass dim={shape.fan_out} to weight_norm"
                )


def _growths(shape: MuShape) -> str:
    return " x ".join(f"{d.base} -> {d.size}" if d.is_infinite else str(d.size) for d in shape.dims)


def check_readouts(model: nn.Module) -> None:
    """Refuses a readout whose weight is not a parameter of its own."""
    for name, module in model.named_modules():
        if isinstance(module, Readout) and module._parameters.get("weight") is None:
            raise ValueError(
                f"{name} is a {type(module).__name__} whose weight is computed (weight_norm, pruning, ...): do not "
                "parametrize readouts in this way"
            )


def check_ties(places: list[Place], shapes: list[MuShape]) -> None:
    """Refuses a tensor that two modules would store differently."""
    thetas: dict[str, tuple[str, float]] = {}
    for place, shape in zip(places, shapes, strict=True):
        first, theta = thetas.setdefault(place.key, (place.full_name, shape.theta))
        if theta != shape.theta:
            raise ValueError(
                f"{first} and {place.full_name} are one tensor, but table 3 scales inputs and outputs differently: "
                "call set_base_shapes with table=8 or table=9"
            )


def params_in_branches(model: nn.Module) -> set[int]:
    """Returns the ids of the parameters inside residual branches."""
    inside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, MuResidual):
            if any(isinstance(m, MuResidual) for m in module.branch.modules()):
                raise ValueError(
                    f"{name} is a MuResidual with another inside its branch, which depth-muP does not cover"
                )
            inside |= {id(p) for p in module.branch.parameters()}
    return inside


def depth_ratio_of(model: nn.Module, depth: int | None, base_depth: int | None) -> float:
    """Returns ``depth / base_depth``; refuses a change of depth if no residual branch is marked."""
    if depth is None and base_depth is None:
        return 1.0
    if depth is None or base_depth is None:
        raise ValueError(f"depth and base_depth must be given together, got {depth} and {base_depth}")
    depth, base_depth = check_integer("depth", depth, 1), check_integer("base_depth", base_depth, 1)
    if depth != base_depth and not any(isinstance(m, MuResidual) for m in model.modules()):
        raise ValueError(
            f"depth is {depth} and base_depth {base_depth}, but the model has no MuResidual: wrap each residual branch "
            "in one, or give the model and the base the same depth"
        )
    return depth / base_depth


def check_direction(shapes: Mapping[str, tuple[InfDim, ...]], allow_wider_base: bool) -> None:
    """Refuses a wider base, and widths that change in opposite directions; warns about a width that stays the same."""
    widths = [(name, dim) for name, dims in shapes.items() for dim in dims if dim.is_infinite]
    wider = [f"{name} ({d.base} -> {d.size})" for name, d in widths if d.mult > 1]
    narrower = [f"{name} ({d.base} -> {d.size})" for name, d in widths if d.mult < 1]
    if wider and narrower:
        raise ValueError(
            f"from base to model, {wider[0]} grows and {narrower[0]} shrinks: all widths must grow together"
        )
    stays = [f"{name} ({d.base} -> {d.size})" for name, d in widths if d.mult == 1]
    if wider and stays:
        warnings.warn(
            f"{wider[0]} grows from base to model, but {stays[0]} stays the same, although delta says that it is a "
            "width: in muP all widths grow together. If it is not a width, delta must not differ from base there",
            stacklevel=3,
        )
    if narrower and not allow_wider_base:
        raise ValueError(
            f"base is wider than the model, in {narrower[0]}: are the two swapped? base is the small model that was "
            "tuned; pass allow_wider_base=True to transfer from a wide model to a narrow one anyway"
        )


def warn_if_own_base(shapes: Mapping[str, tuple[InfDim, ...]], base: BaseShapes, delta: BaseShapes | None) -> None:
    """Warns if the model was given as its own base, which turns muP off."""
    if delta is None or any(dim.mult != 1 for dims in shapes.values() for dim in dims):
        return
    delta = align_names("base", base, "delta", delta)
    pairs = [(b, d) for name in base for b, d in zip(base[name], delta[name], strict=True)]
    if all((b or 0) >= (d or 0) for b, d in pairs) and any(b != d for b, d in pairs):
        warnings.warn(
            "the model is as wide as base, and delta is narrower: every width multiplier is 1, which is standard "
            "parametrization. If the model is meant to be the wide one, base must be the narrow one; delta differs "
            "from base only to show which dimensions are widths",
            stacklevel=3,
        )


def warn_of_attention(model: nn.Module, shapes: Mapping[str, tuple[InfDim, ...]], base: ShapeSource | None) -> None:
    """Warns once about all attention that divides by the square root of a head size that may have grown."""
    known = {name: module for name, module in base.named_modules()} if isinstance(base, nn.Module) else {}
    grown: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            own = plain_name(f"{name}.out_proj." if name else "out_proj.")
            grows = any(dim.mult != 1 for key, dims in shapes.items() if key.startswith(own) for dim in dims)
            if grows and getattr(known.get(name), "head_dim", None) != module.head_dim:
                grown[name or "the model"] = module.head_dim
    if grown:
        sizes = sorted(set(grown.values()))
        one = len(grown) == 1
        warnings.warn(
            f"{', '.join(grown)} {'is an' if one else 'are'} nn.MultiheadAttention, which divides by the square root "
            f"of its head size {', '.join(map(str, sizes))}: this is muP's scale only if the heads of the base have "
            "the same size. Otherwise, write the attention with scaled_dot_product_attention(..., "
            "scale=mu_attention_scale(...))",
            stacklevel=3,
        )
