"""Which modules of a network the localized transition takes as one step, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from advanced_optimizers.localized_learning.hebbian import Layer, is_eligible


@dataclass(frozen=True)
class Block:
    """What the transition takes as one step: modules that run one after the other and learn in the same way.

    Attributes:
        name: The name of its first module.
        layers: Its layers that have a localized rule.
        params: All its parameters, normalisation and biases too.
    """

    name: str
    layers: tuple[Layer, ...]
    params: tuple[nn.Parameter, ...]


class OrderRecorder:
    """The forward pre-hook of one unit: adds its index to ``order``, which all share, when it first runs."""

    def __init__(self, order: list[int], unit: int) -> None:
        self.order = order
        self.unit = unit

    def __call__(self, *ignored: Any) -> None:
        if self.unit not in self.order:
            self.order.append(self.unit)


def find_units(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules with parameters between which a boundary may lie, in the order in which the model lists them.

    The children of ``model``, with ``Sequential``, ``ModuleList`` and ``ModuleDict`` opened up, and so is a module
    that does nothing but hold the whole model. What else has an inside, such as a residual block, is one unit.
    """
    name, root = "", model
    while not _is_container(root) and len(_parts(root)) == 1 and not root._parameters:
        ((child, root),) = _parts(root)
        name = f"{name}{child}."
    opened = [unit for child, part in _parts(root) for unit in _open(f"{name}{child}", part)]
    return opened or [(name.rstrip("."), root)]


def make_blocks(units: Sequence[tuple[str, nn.Module]]) -> tuple[Block, ...]:
    """Puts units in the order of execution together, so that each block begins with a unit that has a localized rule.

    Raises:
        ValueError: There are fewer than two such units, or two blocks share a parameter.
    """
    members: list[list[tuple[str, nn.Module]]] = []
    leading: list[tuple[str, nn.Module]] = []  # a normalisation of the input, say, goes with the first block
    for unit in units:
        if any(is_eligible(module) for module in unit[1].modules()):
            members.append([*leading, unit])
            leading = []
        else:
            (members[-1] if members else leading).append(unit)
    if len(members) < 2:
        raise ValueError(
            "model must have at least two blocks with a Linear or Conv2d layer, one to learn localized and one by "
            f"gradient, got {len(members)}: give its layers as a Sequential, or as children of the model"
        )
    blocks = tuple(_block(group) for group in members)
    owners: dict[nn.Parameter, str] = {}
    for block in blocks:
        for p in block.params:
            if owners.setdefault(p, block.name) != block.name:
                raise ValueError(
                    f"model must not share a parameter between blocks, got one of shape {tuple(p.shape)} in both "
                    f"{owners[p]!r} and {block.name!r}: one would learn it localized, the other by gradient"
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
    # Not named_children, which leaves out a module that is listed twice.
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
