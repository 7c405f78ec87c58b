"""What a search finds: which operation is on which edge of the cell, as a value that JSON can keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._checks import check_choice, check_integer
from advanced_optimizers.automl.architecture_search.operations import NONE, PARAMETER_FREE, check_operations

Edge = tuple[int, int]
WIRINGS = ("dense", "chain")


def edges_of(num_nodes: int, wiring: str = "dense") -> tuple[Edge, ...]:
    """The edges (source, target) of a cell. Node 0 is its input; nodes 1 to ``num_nodes`` add up what comes in.

    Args:
        num_nodes: Nodes that compute, >= 1. The last one is the cell's output.
        wiring: ``dense``: every node reads all earlier ones, ``num_nodes (num_nodes + 1) / 2`` edges; three nodes have
            the six edges of NAS-Bench-201, in its order. ``chain``: every node reads the one before.
    """
    check_integer("num_nodes", num_nodes, low=1)
    first = {"dense": lambda target: 0, "chain": lambda target: target - 1}[check_choice("wiring", wiring, WIRINGS)]
    return tuple((source, target) for target in range(1, num_nodes + 1) for source in range(first(target), target))


@dataclass(frozen=True)
class Genotype:
    """A cell that is not searched any more.

    Attributes:
        edges: Pairs (source, target), sorted by target.
        operations: The operation of each edge; ``none`` where the edge was left out.
    """

    edges: tuple[Edge, ...]
    operations: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.operations):
            raise ValueError(
                f"operations must be one for each of the {len(self.edges)} edges, got {len(self.operations)}"
            )
        check_operations((*self.operations, NONE))

    @property
    def skip_share(self) -> float:
        """The share of the edges that only pass on their input, in [0, 1]."""
        return self.operations.count("identity") / len(self.operations)

    @property
    def parameter_free_share(self) -> float:
        """The share of the edges without weights (skips, pools and edges left out), in [0, 1]."""
        return sum(name in PARAMETER_FREE for name in self.operations) / len(self.operations)

    def to_json(self) -> str:
        """As JSON: ``{"edges": [[0, 1], ...], "operations": ["conv_3x3", ...]}``."""
        return json.dumps({"edges": [list(edge) for edge in self.edges], "operations": list(self.operations)})

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """What :meth:`to_json` wrote.

        Raises:
            ValueError: It is not such a text, or names an unknown operation.
        """
        content: Any = json.loads(text)
        if not isinstance(content, dict) or content.keys() != {"edges", "operations"}:
            raise ValueError(f"text must be JSON with 'edges' and 'operations', got {text[:60]!r}")
        return cls(tuple((int(s), int(t)) for s, t in content["edges"]), tuple(content["operations"]))


def discretize(
    weights: Tensor, edges: Sequence[Edge], operations: Sequence[str], edges_per_node: int | None = 2
) -> Genotype:
    """The cell that is left of a mixture (DARTS, section 2.4 and ``model_search.py``).

    On every edge stays the operation with the largest weight, ``none`` excluded; then every node keeps its
    ``edges_per_node`` strongest incoming edges, an edge being as strong as what stayed on it.

    Args:
        weights: Softmax weights, shape (edges, operations).
        edges: One pair per row.
        operations: One name per column.
        edges_per_node: k >= 1, 2 as published; None keeps every edge.
    """
    if weights.shape != (len(edges), len(operations)):
        raise ValueError(f"weights must have shape {(len(edges), len(operations))}, got {tuple(weights.shape)}")
    hidden = torch.tensor([name == NONE for name in operations], device=weights.device)
    strength, best = weights.detach().masked_fill(hidden, -1.0).max(dim=1)
    kept: set[int] = set()
    for target in {target for _, target in edges}:
        incoming = [row for row, edge in enumerate(edges) if edge[1] == target]
        strongest = sorted(incoming, key=lambda row: -float(strength[row]))
        kept.update(strongest[: None if edges_per_node is None else check_integer("edges_per_node", edges_per_node, 1)])
    names = tuple(operations[int(best[row])] if row in kept else NONE for row in range(len(edges)))
    return Genotype(tuple(edges), names)
