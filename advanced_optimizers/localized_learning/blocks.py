"""Blocks of a network: the groups of modules over which the transition moves, in the order of execution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

from advanced_optimizers.localized_learning.hebbian import Layer, is_eligible

Unit: TypeAlias = tuple[str, nn.Module]

LARGE = 0.5  # a module with a larger share of the parameters is opened
_FEWEST_PARTS = 3  # if it has at least so many parts with a layer: fewer are often parallel, as in a residual block


@dataclass(frozen=True)
class Block:
    """One step of the transition: modules that run one after the other and learn in the same way.

    Attributes:
        name: The name of its first module.
        layers: Its layers that have a localized rule.
        params: All its parameters, including normalization and biases.
    """

    name: str
    layers: tuple[Layer, ...]
    params: tuple[nn.Parameter, ...]


def find_units(model: nn.Module) -> list[Unit]:
    """The modules with parameters between which a boundary may lie, in the order in which the model lists them.

    These are the children of ``model``. ``Sequential``, ``ModuleList`` and ``ModuleDict`` are replaced with their own
    children, and so is a module that only wraps the whole model. Any other module with children, such as a residual
    block, is one unit, unless it holds more than half of the model's parameters, as a backbone does. Then it is
    replaced with its own children, too, and the largest of these with its own, until at least three units with a layer
    result; if that is impossible, it stays one unit.
    """
    name, root = "", model
    while not _is_container(root) and len(_parts(root)) == 1 and not root._parameters:
        ((child, root),) = _parts(root)
        name = f"{name}{child}."
    large = LARGE * count_parameters(model.parameters())
    units = [unit for child, part in _parts(root) for unit in _open(f"{name}{child}", part)]
    return [part for unit in units for part in _split(unit, large)] or [(name.rstrip("."), root)]


def has_layer(unit: Unit) -> bool:
    """Whether a unit has a layer with a localized rule."""
    return any(is_eligible(module) for module in unit[1].modules())


def count_parameters(params: Iterable[nn.Parameter]) -> int:
    """The number of elements, each parameter counted once; those of a lazy layer are not known yet."""
    return sum(0 if is_lazy(p) else p.numel() for p in dict.fromkeys(params))


def make_blocks(units: Sequence[Unit]) -> tuple[Block, ...]:
    """Groups units, given in the order of execution, so that each block begins with one that has a localized rule.

    Raises:
        ValueError: There are fewer than two such units, or two blocks share a parameter.
    """
    members: list[list[Unit]] = []
    leading: list[Unit] = []  # for example, a normalization of the input goes with the first block
    for unit in units:
        if has_layer(unit):
            members.append([*leading, unit])
            leading = []
        else:
            (members[-1] if members else leading).append(unit)
    if len(members) < 2:
        raise ValueError(
            "model must have at least two blocks with a Linear or Conv2d layer, one for the localized rule and one for "
            f"the gradient, got {len(members)}: make its layers a Sequential, or children of the model"
        )
    blocks = tuple(_block(group) for group in members)
    owners: dict[nn.Parameter, str] = {}
    for block in blocks:
        for p in block.params:
            if owners.setdefault(p, block.name) != block.name:
                raise ValueError(
                    f"model must not share a parameter between blocks, got one of shape {tuple(p.shape)} in both "
                    f"{owners[p]!r} and {block.name!r}, which would learn it in different ways: give each its own"
                )
    return blocks


def _block(members: Sequence[Unit]) -> Block:
    modules = list(dict.fromkeys(module for _, unit in members for module in unit.modules()))
    params = dict.fromkeys(p for _, unit in members for p in unit.parameters())
    return Block(members[0][0], tuple(module for module in modules if is_eligible(module)), tuple(params))


def _is_container(module: nn.Module) -> bool:
    own_forward = type(module).forward not in (nn.Sequential.forward, nn.Module.forward)
    return isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict) and not own_forward


def _parts(module: nn.Module) -> list[Unit]:
    # Not named_children, which omits the second occurrence of a module.
    return [
        (name, child)
        for name, child in module._modules.items()
        if child is not None and next(child.parameters(), None) is not None
    ]


def _open(name: str, module: nn.Module) -> Iterator[Unit]:
    if not _is_container(module):
        yield name, module
        return
    for child, part in _parts(module):
        yield from _open(f"{name}.{child}", part)


def _split(unit: Unit, large: float) -> list[Unit]:
    """The parts of a unit with more than ``large`` parameters."""
    if _size(unit) <= large:
        return [unit]
    parts = _parts_of(unit)
    while sum(map(has_layer, parts)) < _FEWEST_PARTS:
        largest = max(filter(has_layer, parts), key=_size, default=None)
        inner = [] if largest is None else _parts_of(largest)
        if largest is None or not inner:
            return [unit]
        place = parts.index(largest)
        parts[place : place + 1] = inner
    return [smaller for part in parts for smaller in _split(part, large)]


def _parts_of(unit: Unit) -> list[Unit]:
    name, module = unit
    return [inner for child, part in _parts(module) for inner in _open(f"{name}.{child}", part)]


def _size(unit: Unit) -> int:
    return count_parameters(unit[1].parameters())
