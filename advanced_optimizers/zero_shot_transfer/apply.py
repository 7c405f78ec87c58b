"""From base shapes to a muP model: everything is decided and checked first, and only then is the model changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from advanced_optimizers.zero_shot_transfer.base_shapes import InfDim, MuShape
from advanced_optimizers.zero_shot_transfer.checks import (
    check_computed,
    check_place,
    check_readouts,
    check_ties,
    params_in_branches,
)
from advanced_optimizers.zero_shot_transfer.init import default_corrections
from advanced_optimizers.zero_shot_transfer.layers import Multiplied, MuResidual, Readout
from advanced_optimizers.zero_shot_transfer.module_state import (
    forget,
    is_rescaled,
    mark_rescaled,
    mu_shapes,
    remember_again,
    remembered,
    set_mu_shape,
    set_rescaling_due,
)
from advanced_optimizers.zero_shot_transfer.places import (
    SPECTRAL_NORM,
    WEIGHT_NORM,
    Place,
    fans_of,
    places_of,
)


@dataclass(frozen=True)
class Plan:
    """What a model's parameters become; one entry per place in each list.

    Attributes:
        model: The model.
        places: Its parameters.
        shapes: Their shapes.
        corrections: What their values are multiplied by, so that torch's default init becomes muP's.
        readouts: Whether the parameter is a readout's.
        depth_ratio: The number of residual layers divided by the base's.
        is_meta: Whether parameters have no values yet.
    """

    model: nn.Module
    places: list[Place]
    shapes: list[MuShape]
    corrections: list[float]
    readouts: list[bool]
    depth_ratio: float
    is_meta: bool


def make_plan(
    model: nn.Module,
    shapes: dict[str, tuple[InfDim, ...]],
    *,
    rescale_params: bool,
    table: int,
    depth_ratio: float = 1.0,
    plain_readouts: frozenset[str] = frozenset(),
) -> Plan:
    """Decides what becomes of a model, and refuses what cannot be; the model stays as it is.

    ``plain_readouts`` names ordinary layers that are outputs. Table 3 only needs to know about them.
    """
    check_not_table_9(model)
    if rescale_params and any(is_rescaled(m) for m in model.modules()):
        raise RuntimeError(
            "the model's parameters were already rescaled, by an earlier call or in the checkpoint that it loaded: "
            "pass rescale_params=False to keep them, or create a new model"
        )
    check_readouts(model)
    branches = params_in_branches(model)
    places = places_of(model)
    readouts = [isinstance(place.layer, Readout) or place.module_name in plain_readouts for place in places]
    place_shapes: list[MuShape] = []
    for place, is_readout in zip(places, readouts, strict=True):
        depth = depth_ratio if id(place.p) in branches else 1.0
        shape = MuShape(shapes[place.key], *_fans(place, shapes[place.key]), depth_ratio=depth)
        check_place(place, shape, is_readout)
        place_shapes.append(replace(shape, theta=_theta(shape, is_readout and place.name == "weight", table)))
    check_ties(places, place_shapes)
    check_computed(places, place_shapes)
    is_meta = any(place.p.is_meta for place in places)
    if table == 9:
        _check_table_9(places, place_shapes, rescale_params and is_meta)
    corrections = _corrections(places, place_shapes) if rescale_params else [1.0] * len(places)
    return Plan(model, places, place_shapes, corrections, readouts, depth_ratio, is_meta)


def apply_plan(plan: Plan, *, rescale_params: bool) -> None:
    """Attaches shapes and multipliers to the modules and rescales the parameters.

    Parameters without values are not rescaled: their modules remember that it is due.
    """
    for module in plan.model.modules():
        forget(module)
    for place, shape in zip(plan.places, plan.shapes, strict=True):
        set_mu_shape(place.module, place.name, shape)
        if place.is_whole:
            set_mu_shape(place.layer, place.tensor, shape)  # a computed tensor has its shape too
    _set_multipliers(plan.model, plan.depth_ratio)
    if rescale_params and plan.is_meta:
        _leave_for_later(plan)
    elif rescale_params:
        _rescale(plan)
    _divide_stored(plan, rescale_params)


def undo_of(plan: Plan) -> Callable[[], None]:
    """Remembers what a model is, and returns a function that makes it so again after :func:`apply_plan` in table 3."""
    marks = [(module, remembered(module)) for module in plan.model.modules()]
    multipliers = [(m, m.multiplier) for m in plan.model.modules() if isinstance(m, Multiplied)]
    values = [
        (place.p, place.p.detach().clone())
        for place, shape, factor in zip(plan.places, plan.shapes, plan.corrections, strict=True)
        if factor != 1.0 or shape.theta != 1.0
    ]

    @torch.no_grad()
    def undo() -> None:
        for module, kept in marks:
            remember_again(module, kept)
        for multiplied, multiplier in multipliers:
            multiplied.multiplier = multiplier
        for p, value in values:
            p.copy_(value)

    return undo


def check_not_table_9(model: nn.Module) -> None:
    """Refuses a model that already has the parametrizations of table 9."""
    if any(isinstance(m, Multiplier) for m in model.modules()):
        raise RuntimeError(
            "the model already has the multipliers of table 9: create a new model to change its base shapes"
        )


def _check_table_9(places: Sequence[Place], shapes: Sequence[MuShape], is_due: bool) -> None:
    for place, shape in zip(places, shapes, strict=True):
        if shape.theta != 1.0 and place.computed_by in (WEIGHT_NORM, SPECTRAL_NORM):
            raise ValueError(
                f"{place.full_name} belongs to a weight with {place.computed_by}, which table=9 cannot store divided: "
                "use table=8"
            )
    if is_due and any(shape.theta != 1.0 for shape in shapes):
        raise ValueError(
            "table=9 cannot rescale a model on the meta device later: call set_base_shapes when the model has weights, "
            "or pass rescale_params=False if they will come from a checkpoint"
        )


def _fans(place: Place, dims: tuple[InfDim, ...]) -> tuple[int, int]:
    """The layer's, or in a custom parameter such as a stack of experts the two dimensions that grow."""
    infinite = tuple(i for i, dim in enumerate(dims) if dim.is_infinite)
    if len(infinite) == 2 and infinite != (0, 1):
        return infinite[1], infinite[0]
    return fans_of(place.layer)


def _theta(shape: MuShape, is_output: bool, table: int) -> float:
    if len(shape.infinite) != 1 or table == 8:
        return 1.0
    if table == 9:
        return math.sqrt(shape.width_mult)
    return shape.width_mult if is_output else 1.0


def _corrections(places: Sequence[Place], shapes: Sequence[MuShape]) -> list[float]:
    """Returns what each place's values are multiplied by; a tied tensor is multiplied in its first layer only."""
    embedded = {id(place.p) for place in places if isinstance(place.layer, nn.Embedding | nn.EmbeddingBag)}
    layers: dict[int, dict[str, MuShape]] = {}
    for place, shape in zip(places, shapes, strict=True):
        if place.is_whole:
            layers.setdefault(id(place.layer), {})[place.tensor] = shape
    done: set[int] = set()
    corrections = []
    for place in places:
        known = dict(default_corrections(place.layer, layers.get(id(place.layer), {})))
        is_first = id(place.p) not in done | embedded  # an embedding's init is right as it is
        corrections.append(known[place.tensor] if place.tensor in known and is_first and _carries_scale(place) else 1.0)
        if place.tensor in known:
            done.add(id(place.p))
    return corrections


def _carries_scale(place: Place) -> bool:
    if place.computed_by == WEIGHT_NORM:
        return place.is_gain
    return place.computed_by != SPECTRAL_NORM and place.is_whole


def _set_multipliers(model: nn.Module, depth_ratio: float) -> None:
    for module in model.modules():
        if isinstance(module, MuResidual):
            module.multiplier = 1.0 / math.sqrt(depth_ratio)
        elif isinstance(module, Multiplied):
            shape = mu_shapes(module)["weight"]
            module.multiplier = shape.theta / shape.width_mult


@torch.no_grad()
def _rescale(plan: Plan) -> None:
    for place, factor in zip(plan.places, plan.corrections, strict=True):
        if factor != 1.0:
            place.p.mul_(factor)
        mark_rescaled(place.module)


def _leave_for_later(plan: Plan) -> None:
    due: dict[int, set[str]] = {}
    for place, shape, factor in zip(plan.places, plan.shapes, plan.corrections, strict=True):
        if factor != 1.0 or shape.theta != 1.0:
            due.setdefault(id(place.module), set()).add(place.name)
            set_rescaling_due(place.module, due[id(place.module)])


class Multiplier(nn.Module):
    """Multiplies a parameter that is stored divided by theta."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, stored: Tensor) -> Tensor:
        return stored * self.theta

    def right_inverse(self, seen: Tensor) -> Tensor:
        return seen / self.theta


@torch.no_grad()
def _divide_stored(plan: Plan, rescale_params: bool) -> None:
    """Divides by theta what is stored.

    The forward pass of a readout makes up for it; other modules get a parametrization that does.
    """
    divided: set[str] = set()
    entries = zip(plan.places, plan.shapes, plan.readouts, strict=True)
    todo = [entry for entry in entries if entry[1].theta != 1.0]
    for place, shape, is_readout in sorted(todo, key=lambda entry: entry[2]):
        if is_readout and place.name == "weight":
            if rescale_params and place.key not in divided:
                place.p.div_(shape.theta)
        else:
            if place.key in divided:  # registering divides again
                place.p.mul_(shape.theta)
            parametrize.register_parametrization(place.module, place.name, Multiplier(shape.theta))
            stored: Any = place.module.parametrizations[place.name]  # type: ignore[index]
            set_mu_shape(stored, "original", shape)
        divided.add(place.key)
