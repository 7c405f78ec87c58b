"""What can be wrong with a model that is to become a muP model; each problem has one error or warning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

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


class Place(NamedTuple):
    """One parameter of one module; ``key`` is its name in ``shapes``, where a shared tensor has one name only."""

    module_name: str
    module: nn.Module
    name: str
    p: nn.Parameter
    key: str

    @property
    def full_name(self) -> str:
        return f"{self.module_name}.{self.name}" if self.module_name else self.name


def check_place(place: Place, shape: MuShape, is_readout: bool) -> None:
    """Refuses a parameter with too many widths, a missing readout, and a readout where none belongs."""
    infinite, dims, name = shape.infinite, shape.dims, place.full_name
    if len(infinite) > 2 or (len(infinite) == 2 and infinite != (0, 1)):
        raise ValueError(
            f"{name} has the widths {[(d.base, d.size) for d in dims if d.is_infinite]} in dimensions {infinite}: a "
            "parameter may have at most two, in dimensions 0 and 1"
        )
    if place.name != "weight" or not isinstance(place.module, nn.Linear | _ConvNd):
        return
    fan_in, fan_out = dims[shape.fan_in], dims[shape.fan_out]
    shrinks = fan_in.is_infinite and not fan_out.is_infinite and not _is_depthwise(place.module)
    growth = f"({fan_in.base} -> {fan_in.size}) to {fan_out.size} outputs"
    if shrinks and not is_readout:
        raise ValueError(
            f"{name} maps a width {growth}, which do not grow: make its layer {_readout_for(place.module)} if they are "
            "the model's outputs; otherwise let all dimensions of a block grow together. A size that is the same in "
            "the base model and in the model counts as finite unless delta differs there"
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
                f"{first} and {place.full_name} are one tensor, but table 3 scales inputs and outputs differently: use "
                "table=8 or table=9"
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
    check_integer("depth", depth, 1)
    check_integer("base_depth", base_depth, 1)
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
    """Warns about attention that divides by the square root of a head size that may have grown."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.MultiheadAttention):
            continue
        grows = shapes[plain_name(f"{name}.out_proj.weight" if name else "out_proj.weight")][0].mult != 1
        known = dict(base.named_modules()).get(name) if isinstance(base, nn.Module) else None
        if grows and getattr(known, "head_dim", None) != module.head_dim:
            warnings.warn(
                f"{name or 'the model'} is an nn.MultiheadAttention, which divides by the square root of its head size "
                f"{module.head_dim}: this is muP's scale only if the heads of the base have the same size. Otherwise, "
                "write the attention with scaled_dot_product_attention(..., scale=mu_attention_scale(...))",
                stacklevel=3,
            )
