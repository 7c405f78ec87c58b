"""Which dimensions of a plain model are widths, judged by their sizes and places, for the coursework's one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from advanced_optimizers.zero_shot_transfer.base_shapes import InfDim, read_shapes
from advanced_optimizers.zero_shot_transfer.places import Place, fans_of, places_of

_LAYERS = (nn.Linear, _ConvNd)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


class Sizes(NamedTuple):
    """What the configurations say.

    Attributes:
        width: The model's width.
        base_width: The base's.
        named: The sizes of the data, and the keys that name each.
    """

    width: int
    base_width: int
    named: Mapping[int, Sequence[str]]


class Recognized(NamedTuple):
    """The dimensions of every parameter, and the name of the output layer."""

    shapes: dict[str, tuple[InfDim, ...]]
    readout: str


def recognize(model: nn.Module, sizes: Sizes) -> Recognized:
    """Finds the widths of a model.

    Raises:
        ValueError: A size could be a width or not, or the model has none.
    """
    read_shapes("model", model)  # refuses parameters that have no shape yet
    places = places_of(model)
    names = [name for name, module in model.named_modules() if isinstance(module, _LAYERS)]
    _check_layers(model, names)
    finite = _finite_by_place(model, places, names[0], names[-1], sizes)
    _add_named(places, finite, sizes)
    shapes: dict[str, tuple[InfDim, ...]] = {}
    for place in places:
        own = finite.get(place.key, set())
        infinite = {i for i, size in enumerate(place.p.shape) if size and size % sizes.width == 0} - own
        is_known = isinstance(place.layer, (*_LAYERS, *_EMBEDDINGS)) or "in_proj_weight" in place.tensor
        if len(infinite) > 1 and not is_known:
            raise ValueError(
                f"{place.full_name} of shape {tuple(place.p.shape)} has several dimensions that are multiples of the "
                f"width {sizes.width}: use set_base_shapes with a base model, which shows what grows"
            )
        shapes.setdefault(
            place.key,
            tuple(
                InfDim(size, size // sizes.width * sizes.base_width if i in infinite else None)
                for i, size in enumerate(place.p.shape)
            ),
        )
    if not any(dim.is_infinite for dims in shapes.values() for dim in dims):
        fits_base = any(size % sizes.base_width == 0 for p in model.parameters() for size in p.shape)
        hint = f"; it fits the base's width {sizes.base_width}: are the two swapped?" if fits_base else ""
        raise ValueError(
            f"model has no dimension that is a multiple of target_model_config['width'] = {sizes.width}{hint}"
        )
    return Recognized(shapes, names[-1])


def _check_layers(model: nn.Module, names: Sequence[str]) -> None:
    recurrent = [m for m in model.modules() if isinstance(m, nn.RNNBase | nn.RNNCellBase)]
    if recurrent:
        raise ValueError(
            f"model has recurrent layers ({type(recurrent[0]).__name__}), whose sizes do not show which dimensions "
            "belong to the data: use set_base_shapes with a base model"
        )
    if not names:
        raise ValueError(f"model must have a linear or convolutional layer, got none in {type(model).__name__}")
    if model.get_submodule(names[-1])._parameters.get("weight") is None:
        raise ValueError(
            f"the weight of {names[-1]}, the model's output layer, is computed (weight_norm, pruning, ...): do not "
            "parametrize the output layer in this way"
        )


def _finite_by_place(
    model: nn.Module, places: Sequence[Place], first: str, last: str, sizes: Sizes
) -> dict[str, set[int]]:
    """Returns which dimensions belong to the data because of where they are: kernels, vocabularies and the ends."""
    has_embedding = any(isinstance(module, _EMBEDDINGS) for module in model.modules())
    inputs, output = model.get_submodule(first), model.get_submodule(last)
    finite: dict[str, set[int]] = {}
    is_data = not has_embedding
    for place in places:
        own = finite.setdefault(place.key, set())
        fan_in, fan_out = fans_of(place.layer)
        is_data = is_data and place.layer is not inputs
        if isinstance(place.layer, _EMBEDDINGS):
            own.add(0)
        elif isinstance(place.layer, _LAYERS) and place.tensor == "weight":
            own |= set(range(2, place.p.dim()))
            ends = {fan_in} if place.layer is inputs and not has_embedding else set()
            ends |= {fan_out} if place.layer is output else set()
            for i in ends:
                _check_end(place, i, sizes)
            own |= ends
        elif isinstance(place.layer, _LAYERS) and place.layer is output:  # its bias
            own.add(0)
        elif isinstance(place.layer, _NORMS) and is_data:  # it normalizes the inputs
            own |= set(range(place.p.dim()))
    return finite


def _check_end(place: Place, dimension: int, sizes: Sizes) -> None:
    size = place.p.shape[dimension]
    if size == sizes.width and size not in sizes.named:
        raise ValueError(
            f"dimension {dimension} of {place.full_name} is {size}, which is the width, but it is at an end of the "
            f"model: if it belongs to the data, name it in both configurations, such as {{..., 'input_dim': {size}}}; "
            "if it is a width, use set_base_shapes with a base model"
        )


def _add_named(places: Sequence[Place], finite: dict[str, set[int]], sizes: Sizes) -> None:
    """Adds the dimensions in the middle of the model whose size the configurations name.

    A named size stands in the middle if more keys name it than there are ends of that size. It counts as the data's if
    no layer in the middle produces it.
    """
    weights = [place for place in places if place.is_whole and place.tensor == "weight"]
    at_ends = Counter(
        place.p.shape[i]
        for place in weights
        for i in finite[place.key]
        if i in fans_of(place.layer) and isinstance(place.layer, (*_LAYERS, *_EMBEDDINGS))
    )
    for size, keys in sizes.named.items():
        if size % sizes.width or len(keys) <= at_ends[size]:
            continue
        produced = [
            place.full_name
            for place in weights
            for i in [fans_of(place.layer)[1]]
            if isinstance(place.layer, (*_LAYERS, *_EMBEDDINGS))
            and place.p.shape[i] == size
            and i not in finite[place.key]
        ]
        if size == sizes.width or produced:
            where = f"; {produced[0]} produces it" if produced else ""
            raise ValueError(
                f"{keys[-1]}={size} is named as a size of the data, but in the middle of the model it cannot be told "
                f"from the width {sizes.width} or a multiple of it{where}: leave the key out if it is not the size of "
                "a layer's inputs, or use set_base_shapes with a base model"
            )
        for place in places:
            finite[place.key] |= {i for i, s in enumerate(place.p.shape) if s == size}
