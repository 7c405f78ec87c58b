"""Base shapes: which dimensions of a model's parameters are widths, and how wide they are in the base model.

muP compares every model with one narrow *base* model. A dimension is *infinite* (it is a width, and grows) or *finite*
(it is given by the data or the task). This module reads sizes from models, dicts and files, and compares them;
:func:`advanced_optimizers.zero_shot_transfer.parametrization.set_base_shapes` then acts on them.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

BaseShapes: TypeAlias = dict[str, tuple[int | None, ...]]
ShapeSource: TypeAlias = nn.Module | Mapping[str, Sequence[int | None]] | str | os.PathLike[str]

# Parts of parameter names that wrappers insert; the wrapped model does not have them.
_WRAPPER_PARTS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


class InfDim(NamedTuple):
    """One dimension of a parameter: its size, and its size in the base model (None if the dimension is finite)."""

    size: int
    base: int | None

    @property
    def is_infinite(self) -> bool:
        """Whether the dimension is a width."""
        return self.base is not None

    @property
    def mult(self) -> float:
        """How many times wider the dimension is than in the base model; 1 if it is finite."""
        return 1.0 if self.base is None else self.size / self.base


@dataclass(frozen=True)
class MuShape:
    """What muP knows about one parameter tensor.

    Attributes:
        dims: Its dimensions.
        fan_in: Index of the dimension that is summed over; transposed convolutions and embeddings have it first.
        fan_out: Index of the dimension that counts the outputs.
        theta: The parameter is stored divided by this factor, relative to table 8, and multiplied by it in the forward
            pass.
        depth_ratio: Number of residual layers divided by that of the base model, for parameters inside a residual
            branch; 1 elsewhere.
    """

    dims: tuple[InfDim, ...]
    fan_in: int = 1
    fan_out: int = 0
    theta: float = 1.0
    depth_ratio: float = 1.0

    @property
    def infinite(self) -> tuple[int, ...]:
        """The indices of the infinite dimensions: none, one (vector-like) or two (matrix-like)."""
        return tuple(i for i, dim in enumerate(self.dims) if dim.is_infinite)

    @property
    def width_mult(self) -> float:
        """The multiplier of a matrix-like parameter's fan-in, or of a vector-like one's only infinite dimension."""
        if len(self.infinite) == 2:
            return self.dims[self.fan_in].mult
        return math.prod(dim.mult for dim in self.dims)

    @property
    def fan_out_mult(self) -> float:
        """The multiplier of a matrix-like parameter's fan-out."""
        return self.dims[self.fan_out].mult


def make_base_shapes(base: ShapeSource, delta: ShapeSource, file: str | os.PathLike[str] | None = None) -> BaseShapes:
    """Returns the shapes of the base model, with None for every dimension in which ``base`` and ``delta`` agree.

    Args:
        base: The base model, a dict of parameter name -> sizes, or the path of a file with them. A model may be on the
            ``meta`` device.
        delta: The same model, but different in every dimension that is a width, and only in these.
        file: Where to save the result as well; see :func:`save_base_shapes`.

    Returns:
        Parameter name -> one entry per dimension: the base size of an infinite dimension, None for a finite one.

    Raises:
        TypeError: ``base`` or ``delta`` is none of these.
        ValueError: Names or numbers of dimensions differ, or one of the two already marks its finite dimensions.
    """
    base_sizes, delta_sizes = read_shapes("base", base), read_shapes("delta", delta)
    for argument, sizes in (("base", base_sizes), ("delta", delta_sizes)):
        _check_unmarked(argument, sizes, "it is itself what this function returns")
    shapes = _marked(base_sizes, delta_sizes)
    if file is not None:
        save_base_shapes(shapes, file)
    return shapes


def _marked(base: BaseShapes, delta: BaseShapes) -> BaseShapes:
    delta = align_names("base", base, "delta", delta)
    shapes: BaseShapes = {
        name: tuple(None if b == d else b for b, d in zip(sizes, delta[name], strict=True))
        for name, sizes in base.items()
    }
    if not any(d is not None for dims in shapes.values() for d in dims):
        raise ValueError(
            f"delta has the sizes of base in all {len(base)} parameters, so that nothing is a width: delta must be "
            "wider than base (or narrower), only to show which dimensions are widths"
        )
    return shapes


def save_base_shapes(shapes: Mapping[str, Sequence[int | None]], file: str | os.PathLike[str]) -> None:
    """Writes base shapes as JSON, which is also YAML that the ``mup`` package can read.

    The file is written whole or not at all, and only if it changes.

    Args:
        shapes: From :func:`make_base_shapes`, or from ``get_base_shapes(model)``.
        file: Path of the file.
    """
    shapes = as_shapes("shapes", shapes)
    check_path("file", file)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(list(dims))}" for name, dims in shapes.items())
    _write_whole(Path(os.path.realpath(file)), f"{{\n{lines}\n}}\n")


def _write_whole(path: Path, text: str) -> None:
    """Writes a file unless it has that text; if that fails, or the power does, the file is as it was."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as out:
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_base_shapes(file: str | os.PathLike[str]) -> BaseShapes:
    """Reads a file that :func:`save_base_shapes` wrote, or a base shape file of the ``mup`` package.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is neither.
    """
    return _load("file", file)


def _load(argument: str, file: str | os.PathLike[str]) -> BaseShapes:
    check_path(argument, file)
    try:
        text = Path(file).read_text(encoding="utf-8")
        read = json.loads(text) if text.lstrip().startswith("{") else _read_block_yaml(text)
        return as_shapes("it", read)
    except ValueError as error:  # of Unicode and JSON too
        raise ValueError(f"{argument} {os.fspath(file)!r} contains no base shapes: {error}") from error


def _read_block_yaml(text: str) -> dict[str, list[int | None]]:
    """Parses the one form that the ``mup`` package writes: ``name:``, then ``- 64`` or ``- null`` per dimension."""
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
            raise ValueError(f"line {number} is neither a name nor a size: {line!r}")
    return read


def read_shapes(argument: str, source: ShapeSource) -> BaseShapes:
    """Returns sizes by plain parameter name, from a model, a dict or a file; a tied parameter has its first name."""
    if isinstance(source, str | os.PathLike):
        return {plain_name(name): dims for name, dims in _load(argument, source).items()}
    if isinstance(source, nn.Module):
        for name, p in source.named_parameters():
            if is_lazy(p):
                raise ValueError(
                    f"parameter {name} of {argument} has no shape yet: run a batch through the model first"
                )
        source = {name: tuple(p.shape) for name, p in source.named_parameters()}
    elif not isinstance(source, Mapping):
        raise TypeError(f"{argument} must be a model, a dict of shapes or the path of a file, got {source!r}")
    return {plain_name(name): dims for name, dims in as_shapes(argument, source).items()}


def as_shapes(argument: str, shapes: Mapping[str, Any]) -> BaseShapes:
    """Returns shapes with Python's own integers and tuples, or raises an error that shows the entry that is none."""
    if not isinstance(shapes, Mapping):
        raise TypeError(f"{argument} must be a dict of shapes such as {{'0.weight': [64, None]}}, got {shapes!r}")
    for name, dims in shapes.items():
        fine = isinstance(dims, Sequence) and all(
            d is None or (isinstance(d, Integral) and not isinstance(d, bool) and int(d) >= 0) for d in dims
        )
        if not isinstance(name, str) or not fine:
            raise ValueError(f"{argument} must map names to sizes such as [64, None], got {name!r}: {dims!r}")
    return {name: tuple(None if d is None else int(d) for d in dims) for name, dims in shapes.items()}


def check_path(argument: str, file: object) -> None:
    """Refuses what is not the path of a file; Python would take a number for an open file."""
    if not isinstance(file, str | os.PathLike):
        raise TypeError(f"{argument} must be the path of a file, got {file!r}")


def marks_finite_dims(shapes: Mapping[str, Sequence[int | None]]) -> bool:
    """Whether finite dimensions are marked with None; without any None, the sizes are those of a plain model."""
    return any(d is None for dims in shapes.values() for d in dims)


def _check_unmarked(argument: str, shapes: BaseShapes, way_out: str) -> None:
    for name, dims in shapes.items():
        if None in dims:
            raise ValueError(f"{argument} already marks its finite dimensions with None, in {name}: {dims}: {way_out}")


def plain_name(name: str) -> str:
    """Returns a parameter's name without the parts that wrappers (``torch.compile``, FSDP, checkpointing) insert."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPER_PARTS)


def align_names(expected: str, shapes: BaseShapes, argument: str, others: BaseShapes) -> BaseShapes:
    """Returns ``others`` under the names of ``shapes``.

    The two may differ by the prefix ``module.``, which a model inside ``DistributedDataParallel`` has.

    Raises:
        ValueError: The two have different parameters, or a parameter has different numbers of dimensions.
    """
    if shapes.keys() != others.keys():
        names = dict(zip(without_module_prefix(shapes), shapes, strict=True))
        others = {
            names.get(plain, plain): dims
            for plain, dims in zip(without_module_prefix(others), others.values(), strict=True)
        }
    missing, extra = sorted(shapes.keys() - others.keys()), sorted(others.keys() - shapes.keys())
    if missing or extra:
        raise ValueError(
            f"{expected} and {argument} must have the same parameters, but only {expected} has {missing}, and only "
            f"{argument} has {extra}: build both with the same code and depth, so that they differ only in width"
        )
    for name, dims in shapes.items():
        if len(dims) != len(others[name]):
            raise ValueError(
                f"{name} has {len(dims)} dimensions in {expected} {dims} and {len(others[name])} in {argument} "
                f"{others[name]}: they are different models"
            )
    return {name: others[name] for name in shapes}


def without_module_prefix(names: Iterable[str]) -> list[str]:
    """Returns parameters' names without the prefix that ``DistributedDataParallel`` gives to all of them."""
    names = list(names)
    wrapped = bool(names) and all(name.startswith("module.") for name in names)
    return [name.removeprefix("module.") for name in names] if wrapped else names


def compare_with_base(model: BaseShapes, base: BaseShapes, delta: BaseShapes | None) -> dict[str, tuple[InfDim, ...]]:
    """Determines for each dimension of the model whether it is infinite, and which size it has in the base.

    With ``delta``, a dimension is infinite if ``base`` and ``delta`` differ there. Without it, there are two cases. If
    ``base`` marks its finite dimensions with None, all others are infinite. If it does not, a dimension is infinite if
    ``base`` and the model differ there.

    Raises:
        ValueError: The models do not match, or a dimension that should be finite has changed.
    """
    base = align_names("model", model, "base", base)
    marked = base if marks_finite_dims(base) else None
    if delta is not None:
        _check_unmarked("base", base, "leave out delta")
        _check_unmarked("delta", delta, "give it as base, and leave out delta")
        marked = _marked(base, align_names("model", model, "delta", delta))
        for name, sizes in model.items():
            for i, (size, b, infinite) in enumerate(zip(sizes, base[name], marked[name], strict=True)):
                if infinite is None and size != b:
                    raise ValueError(
                        f"dimension {i} of {name} is {b} in base and in delta, so it is finite, but it is {size} in "
                        "the model: delta must differ from base in every width, and the model only in widths"
                    )
    shapes: dict[str, tuple[InfDim, ...]] = {}
    for name, sizes in model.items():
        against = base[name] if marked is None else marked[name]
        dims = []
        for size, b in zip(sizes, against, strict=True):
            assert size is not None, "models have sizes everywhere"
            dim = InfDim(size, None if marked is None and b == size else b)
            if dim.is_infinite and 0 in dim:
                raise ValueError(f"a dimension of {name} is {b} in base and {size} in the model: a width must not be 0")
            dims.append(dim)
        shapes[name] = tuple(dims)
    return shapes
