"""Base shapes: which dimensions of a model's parameters are its width, and how wide they are in the base model.

muP compares every model with one narrow *base* model. A dimension is *infinite* (it is a width, and grows) or *finite*
(it is given by the data or by the task). This module reads the sizes from models, dicts and files and compares them;
:func:`advanced_optimizers.zero_shot_transfer.create.set_base_shapes` then acts on them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

BaseShapes: TypeAlias = dict[str, tuple[int | None, ...]]
ShapeSource: TypeAlias = nn.Module | Mapping[str, Sequence[int | None]] | str | os.PathLike[str]

# What wrappers put into parameter names; the model underneath knows nothing of them.
_WRAPPER_PARTS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


class InfDim(NamedTuple):
    """One dimension of a parameter: its size, and its size in the base model, None where it is finite."""

    size: int
    base: int | None

    @property
    def is_infinite(self) -> bool:
        """Whether the dimension is a width."""
        return self.base is not None

    @property
    def mult(self) -> float:
        """How many times wider than in the base model; 1 for a finite dimension."""
        return 1.0 if self.base is None else self.size / self.base


@dataclass(frozen=True)
class MuShape:
    """What muP knows of one parameter tensor.

    Attributes:
        dims: Its dimensions.
        fan_in: Which dimension is summed over; transposed convolutions and embeddings have it first.
        fan_out: Which dimension counts the outputs.
        theta: The parameter is stored divided by this, relative to table 8, and multiplied by it in the forward pass.
        depth_ratio: Residual layers here / in the base model, for parameters inside a residual branch; 1 elsewhere.
    """

    dims: tuple[InfDim, ...]
    fan_in: int = 1
    fan_out: int = 0
    theta: float = 1.0
    depth_ratio: float = 1.0

    @property
    def infinite(self) -> tuple[int, ...]:
        """Which dimensions are infinite: none, one (vector-like) or two (matrix-like)."""
        return tuple(i for i, dim in enumerate(self.dims) if dim.is_infinite)

    @property
    def width_mult(self) -> float:
        """The fan-in's multiplier of a matrix-like parameter, that of the one infinite dimension of a vector-like."""
        if len(self.infinite) == 2:
            return self.dims[self.fan_in].mult
        return math.prod(dim.mult for dim in self.dims)

    @property
    def fan_out_mult(self) -> float:
        """The fan-out's multiplier of a matrix-like parameter."""
        return self.dims[self.fan_out].mult


def make_base_shapes(base: ShapeSource, delta: ShapeSource, file: str | os.PathLike[str] | None = None) -> BaseShapes:
    """The base model's shapes, with None for every dimension that ``base`` and ``delta`` have in common.

    Args:
        base: The base model, or a dict of parameter name -> sizes. Models on the ``meta`` device do.
        delta: The same model, different in every dimension that is a width, and in no other.
        file: Where to save the result as well; see :func:`save_base_shapes`.

    Returns:
        Parameter name -> one number a dimension: the base size of an infinite dimension, None for a finite one.

    Raises:
        TypeError: ``base`` or ``delta`` is none of these.
        ValueError: Names or numbers of dimensions differ, or one of the two has its widths marked already.
    """
    base_sizes, delta_sizes = read_shapes("base", base), read_shapes("delta", delta)
    for argument, sizes in (("base", base_sizes), ("delta", delta_sizes)):
        if marks_finite_dims(sizes):
            raise ValueError(f"{argument} already says with None which dimensions are finite: leave out delta")
    delta_sizes = align_names("base", base_sizes, "delta", delta_sizes)
    shapes: BaseShapes = {
        name: tuple(None if b == d else b for b, d in zip(sizes, delta_sizes[name], strict=True))
        for name, sizes in base_sizes.items()
    }
    if file is not None:
        save_base_shapes(shapes, file)
    return shapes


def save_base_shapes(shapes: Mapping[str, Sequence[int | None]], file: str | os.PathLike[str]) -> None:
    """Writes base shapes as JSON, which is also YAML that the ``mup`` package reads.

    Args:
        shapes: From :func:`make_base_shapes`, or from ``get_base_shapes(model)``.
        file: Path of the file.
    """
    _check_shapes("shapes", shapes)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(list(dims))}" for name, dims in shapes.items())
    Path(file).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def load_base_shapes(file: str | os.PathLike[str]) -> BaseShapes:
    """Reads what :func:`save_base_shapes` wrote, or a base shape file of the ``mup`` package.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds neither.
    """
    text = Path(file).read_text(encoding="utf-8")
    try:
        read = json.loads(text) if text.lstrip().startswith("{") else _read_block_yaml(text)
        shapes = {name: tuple(dims) for name, dims in read.items()}
        _check_shapes("file", shapes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"file {os.fspath(file)!r} holds no base shapes: {error}") from error
    return shapes


def _read_block_yaml(text: str) -> dict[str, list[int | None]]:
    """The one form that the ``mup`` package writes: ``name:`` and below it ``- 64`` or ``- null`` a dimension."""
    read: dict[str, list[int | None]] = {}
    dims: list[int | None] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        name, colon, rest = entry.rpartition(":")
        if entry.startswith("-"):
            value = entry[1:].strip()
            dims.append(None if value == "null" else int(value))
        elif colon and rest.strip() in ("", "[]"):
            dims = read[name.strip("'\"")] = []
        elif entry:
            raise ValueError(f"line {number} is {line!r}")
    return read


def read_shapes(argument: str, source: ShapeSource) -> BaseShapes:
    """Sizes by plain parameter name, from a model, a dict or a file; a tied parameter has its first name."""
    if isinstance(source, str | os.PathLike):
        return load_base_shapes(source)
    if isinstance(source, nn.Module):
        for name, p in source.named_parameters():
            if is_lazy(p):
                raise ValueError(f"{argument} has the parameter {name} without a shape yet: run a batch through it")
        source = {name: tuple(p.shape) for name, p in source.named_parameters()}
    elif not isinstance(source, Mapping):
        raise TypeError(f"{argument} must be a model, a dict of shapes or the path of a file, got {source!r}")
    _check_shapes(argument, source)
    return {plain_name(name): tuple(dims) for name, dims in source.items()}


def _check_shapes(argument: str, shapes: Mapping[str, Any]) -> None:
    for name, dims in shapes.items():
        fine = isinstance(dims, Sequence) and all(
            d is None or (isinstance(d, int) and not isinstance(d, bool) and d >= 0) for d in dims
        )
        if not isinstance(name, str) or not fine:
            raise ValueError(f"{argument} must map names to sizes such as [64, None], got {name!r}: {dims!r}")


def marks_finite_dims(shapes: Mapping[str, Sequence[int | None]]) -> bool:
    """Whether finite dimensions are marked with None; without any, the sizes are those of a plain model."""
    return any(d is None for dims in shapes.values() for d in dims)


def plain_name(name: str) -> str:
    """A parameter's name without what wrappers (``torch.compile``, FSDP, checkpointing) put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPER_PARTS)


def align_names(expected: str, shapes: BaseShapes, argument: str, others: BaseShapes) -> BaseShapes:
    """``others`` under the names of ``shapes``, for a model may be inside ``DistributedDataParallel`` (``module.``).

    Raises:
        ValueError: The two have different parameters, or a parameter has different numbers of dimensions.
    """
    if shapes.keys() != others.keys():
        names = dict(zip(_without_module_prefix(shapes), shapes, strict=True))
        others = {
            names.get(plain, plain): dims
            for plain, dims in zip(_without_module_prefix(others), others.values(), strict=True)
        }
    missing, extra = sorted(shapes.keys() - others.keys()), sorted(others.keys() - shapes.keys())
    if missing or extra:
        raise ValueError(
            f"{expected} and {argument} must have the same parameters; only {expected} has {missing}, only {argument} "
            f"has {extra}: build both with the same code and depth, and let them differ in width alone"
        )
    for name, dims in shapes.items():
        if len(dims) != len(others[name]):
            raise ValueError(
                f"{name} has {len(dims)} dimensions in {expected} {dims} and {len(others[name])} in {argument} "
                f"{others[name]}: they are different models"
            )
    return {name: others[name] for name in shapes}


def _without_module_prefix(names: Iterable[str]) -> list[str]:
    names = list(names)
    wrapped = bool(names) and all(name.startswith("module.") for name in names)
    return [name.removeprefix("module.") for name in names] if wrapped else names


def compare_with_base(model: BaseShapes, base: BaseShapes, delta: BaseShapes | None) -> dict[str, tuple[InfDim, ...]]:
    """Says of each dimension of the model whether it is infinite, and what it is in the base.

    A dimension is infinite where ``base`` and ``delta`` differ; without ``delta``, where ``base`` gives a number and
    marks the finite ones with None, or else where ``base`` and the model differ.

    Raises:
        ValueError: The models do not match, or a dimension that should be finite has changed.
    """
    base = align_names("model", model, "base", base)
    marked = base if marks_finite_dims(base) else None
    if delta is not None:
        marked = make_base_shapes(base, align_names("model", model, "delta", delta))
        for name, sizes in model.items():
            for i, (size, b, infinite) in enumerate(zip(sizes, base[name], marked[name], strict=True)):
                if infinite is None and size != b:
                    raise ValueError(
                        f"dimension {i} of {name} is {b} in base and in delta, so it is finite, but {size} in the "
                        "model: delta must differ from base in every width, and the model in widths alone"
                    )
    shapes: dict[str, tuple[InfDim, ...]] = {}
    for name, sizes in model.items():
        against = base[name] if marked is None else marked[name]
        dims = []
        for size, b in zip(sizes, against, strict=True):
            assert size is not None, "models have sizes everywhere"
            dims.append(InfDim(size, None if marked is None and b == size else b))
        shapes[name] = tuple(dims)
    return shapes
