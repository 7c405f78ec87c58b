"""In which order the units of a network run, and which of them compute its output: learned from every training pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from advanced_optimizers.localized_learning.blocks import Unit, has_layer
from advanced_optimizers.localized_learning.hebbian import NoObserver


class Order:
    """What the passes so far have shown about the units, which are counted in the order in which the model lists them.

    Attributes:
        before: The pairs (i, j) of units such that i first ran before j in some pass.
        ran: The units that ran.
        outputs: The units that computed an output of the model, or ran last.
    """

    def __init__(self) -> None:
        self.before: set[tuple[int, int]] = set()
        self.ran: set[int] = set()
        self.outputs: set[int] = set()

    def add(self, runs: Sequence[int]) -> None:
        """Learns from one pass, in which the units ran in the order ``runs``; one that ran twice counts once."""
        first = list(dict.fromkeys(runs))
        self.ran.update(first)
        self.before.update((i, j) for place, i in enumerate(first) for j in first[place + 1 :])

    def earlier(self) -> dict[int, set[int]]:
        """For each unit that ran, those that run before it, also by way of others."""
        direct: dict[int, set[int]] = {j: set() for j in self.ran}
        for i, j in self.before:
            direct[j].add(i)
        return {j: _ancestors(j, direct) for j in self.ran}

    def sequence(self) -> list[int]:
        """The units that ran, each after those that run before it, otherwise as the model lists them."""
        earlier = self.earlier()
        # Units that run in either order are not counted among each other's predecessors.
        predecessors = {j: sum(j not in earlier[i] for i in earlier[j]) for j in self.ran}
        return sorted(self.ran, key=lambda j: (predecessors[j], j))

    def state(self) -> dict[str, list[Any]]:
        """The attributes, as lists."""
        pairs = [list(pair) for pair in sorted(self.before)]
        return {"before": pairs, "ran": sorted(self.ran), "outputs": sorted(self.outputs)}

    def restore(
        self, before: Iterable[Sequence[int]] = (), ran: Iterable[int] = (), outputs: Iterable[int] = ()
    ) -> None:
        """Takes over what :meth:`state` returned."""
        self.before = {(i, j) for i, j in before}
        self.ran, self.outputs = set(ran), set(outputs)


def _ancestors(unit: int, direct: Mapping[int, set[int]]) -> set[int]:
    found: set[int] = set()
    waiting = list(direct[unit])
    while waiting:
        i = waiting.pop()
        if i not in found:
            found.add(i)
            waiting += direct[i]
    return found


class Recorder:
    """The hooks that show an :class:`Order` what runs, in each pass of ``model`` in training mode with gradients on.

    What runs outside the model's own forward pass does not count, such as a segment that activation checkpointing runs
    again during the backward pass. Only if the model itself is never called do its parts count wherever they run. A
    compiled pass counts until the optimizer knows the order.

    Args:
        model: The network.
        units: Its units.
        order: What is learned from the passes.

    Attributes:
        known: Whether the optimizer has taken over the order of a pass.
        unreached: The units whose result required no gradient; a step clears them.
    """

    def __init__(self, model: nn.Module, units: Sequence[Unit], order: Order) -> None:
        self.known = bool(order.ran)
        self.unreached: set[int] = set()
        self._order = order
        self._layered = [has_layer(unit) for unit in units]
        self._listening: bool | None = None  # None until the model itself is called
        self._runs: list[int] = []  # of this pass
        self._latest: list[int] = []  # of the latest pass that was learned
        self._ends: dict[Node, int] = {}  # the node of the autograd graph with which a unit's result ends, in this pass
        self._handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(_Begin(self)),
            *(unit.register_forward_hook(_Ran(self, i)) for i, (_, unit) in enumerate(units)),
            model.register_forward_hook(_End(self)),
        ]

    def begin(self, training: bool) -> None:
        """A pass of the model begins."""
        compiling = torch.compiler.is_compiling()
        # A list that changes from pass to pass would be compiled again and again.
        listening = training and torch.is_grad_enabled() and not (compiling and self.known)
        if listening or self._listening is not None:
            self._listening = listening
        if not compiling:
            self._forget()

    def ran(self, unit: int, training: bool, output: Any) -> None:
        """A unit has run."""
        listening = training and torch.is_grad_enabled() if self._listening is None else self._listening
        compiling = torch.compiler.is_compiling()
        if not listening or (compiling and self.known):
            return
        self._runs.append(unit)
        if compiling:
            return
        reached = False
        for tensor in _tensors(output):
            reached |= tensor.requires_grad
            if tensor.grad_fn is not None and self._layered[unit] and not self._complete:
                self._ends[tensor.grad_fn] = unit
        if not reached:
            self.unreached.add(unit)

    def end(self, output: Any) -> None:
        """The pass of the model has ended."""
        if not torch.compiler.is_compiling():
            if not self._complete and not self._order.ran.issuperset(self._runs):
                self._order.outputs |= _sinks([tensor.grad_fn for tensor in _tensors(output)], self._ends)
            self.settle()
        if self._listening is not None:
            self._listening = False

    def settle(self) -> None:
        """Learns from what ran since the last call."""
        if self._runs != self._latest:
            layered = [unit for unit in self._runs if self._layered[unit]]
            if layered:
                self._order.add(self._runs)
                self._order.outputs.add(layered[-1])
                self._latest = list(self._runs)
        self._forget()

    @property
    def _complete(self) -> bool:
        return len(self._order.ran) == len(self._layered)

    def _forget(self) -> None:
        self._runs.clear()
        self._ends.clear()

    def remove(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class _Hook:
    def __init__(self, recorder: Recorder, unit: int = -1) -> None:
        self.recorder = recorder
        self.unit = unit

    def __reduce__(self) -> tuple[Any, ...]:
        return NoObserver, ()  # a copy of the model alone must not keep recording


class _Begin(_Hook):
    def __call__(self, module: nn.Module, args: Any) -> None:
        self.recorder.begin(module.training)


class _Ran(_Hook):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.recorder.ran(self.unit, module.training, output)


class _End(_Hook):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.recorder.end(output)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def _sinks(roots: Sequence[Node | None], nodes: Mapping[Node, int]) -> set[int]:
    """The units whose result reaches the roots of the autograd graph, but no other unit on the way there."""
    last = _nearest(roots, nodes)
    used = {
        nodes[feeding] for node in last for feeding in _nearest(_inputs(node), nodes) if nodes[feeding] != nodes[node]
    }
    return {nodes[node] for node in last} - used


def _nearest(roots: Iterable[Node | None], nodes: Mapping[Node, int]) -> set[Node]:
    """Those of ``nodes`` that reach the roots without passing through another one."""
    found: set[Node] = set()
    seen: set[Node] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in nodes:
            found.add(node)
        else:
            waiting += _inputs(node)
    return found


def _inputs(node: Node) -> list[Node | None]:
    return [following for following, _ in node.next_functions]
