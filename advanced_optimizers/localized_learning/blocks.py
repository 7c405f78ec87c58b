"""Blocks of a network: the groups of modules over which the transition moves, in the order of execution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from advanced_optimizers.localized_learning.hebbian import Layer, is_eligible


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


class OrderRecorder:
    """The forward pre-hook of one unit: appends its index to the shared list ``order`` when the unit first runs."""

    def __init__(self, order: list[int], unit: int) -> None:
        self.order = order
        self.unit = unit

    def __call__(self, *ignored: Any) -> None:
        if self.unit not in self.order:
            self.order.append(self.unit)


def find_units(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules with parameters between which a boundary may lie, in the order in which the model lists them.

    These are the children of ``model``. ``Sequential``, ``ModuleList`` and ``ModuleDict`` are replaced with their own
    children, and so is a module that only wraps the whole model. Any other module with children, such as a residual
    block, is one unit.
    """
    name, root = "", model
    while not _is_container(root) and len(_parts(root)) == 1 and not root._parameters:
        ((child, root),) = _parts(root)
        name = f"{name}{child}."
    opened = [unit for child, part in _parts(root) for unit in _open(f"{name}{child}", part)]
    return opened or [(name.rstrip("."), root)]


def make_blocks(units: Sequence[tuple[str, nn.Module]]) -> tuple[Block, ...]:
    """Groups units, given in the order of execution, so that each block begins with one that has a localized rule.

    Raises:
        ValueError: There are fewer than two such units, or two blocks share a parameter.
    """
    members: list[list[tuple[str, nn.Module]]] = []
    leading: list[tuple[str, nn.Module]] = []  # for example, a normalization of the input goes with the first block
    for unit in units:
        if any(is_eligible(module) for module in unit[1].modules()):
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


def _block(members: Sequence[tuple[str, nn.Module]]) -> Block:
    modules = list(dict.fromkeys(module for _, unit in members for module in unit.modules()))
    params = dict.fromkeys(p for _, unit in members for p in unit.parameters())
    return Block(members[0][0], tuple(module for module in modules if is_eligible(module)), tuple(params))


def _is_container(module: nn.Module) -> bool:
    own_forward = type(module).forward not in (nn.Sequential.forward, nn.Module.forward)
    return isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict) and not own_forward


def _parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    # Not named_children, which omits the second occurrence of a module.
    return [
        (name, child)
        for name, child in module._modules.items()
        if child is not None and next(child.parameters(), None) is not None
    ]


def _open(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if not _is_container(module):
        yield name, module
        return
    for child, part in _parts(module):
        yield from _open(f"{name}.{child}", part)
