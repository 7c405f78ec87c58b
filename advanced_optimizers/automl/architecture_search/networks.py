"""Networks of cells: one whose cells are searched, and one whose cells are fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_integer
from advanced_optimizers.automl.architecture_search.genotype import Edge, Genotype, discretize, edges_of
from advanced_optimizers.automl.architecture_search.mixed import ALPHA_SCALE, MixedOperation
from advanced_optimizers.automl.architecture_search.operations import check_operations


class Shape(NamedTuple):
    """The frame around the cells, the same for a search and for what it found.

    Attributes:
        input_channels: Channels of the images, >= 1.
        num_classes: Outputs, >= 2.
        channels: C >= 1 of the first cell; it doubles where the resolution is halved.
        num_cells: Cells, >= 1. Between two of them the resolution is halved at most twice, at thirds of the depth.
        stem_stride: Stride of the first convolution, >= 1; 2 halves the resolution of all cells.
    """

    input_channels: int = 3
    num_classes: int = 10
    channels: int = 16
    num_cells: int = 2
    stem_stride: int = 1

    def check(self) -> Shape:
        """Itself, or an error that names the attribute that is out of range."""
        for name, low in zip(self._fields, (1, 2, 1, 1, 1), strict=True):
            check_integer(name, getattr(self, name), low=low)
        return self

    @property
    def reductions(self) -> frozenset[int]:
        """The cells before which the resolution is halved: at one third and two thirds of the depth, as published."""
        return frozenset({self.num_cells // 3, 2 * self.num_cells // 3} - {0})


class Cell(nn.Module):
    """A graph of mixed operations: node 0 is the input, every other node the sum of its edges, the last the output."""

    def __init__(self, edges: Sequence[Edge], operations: Iterable[MixedOperation]) -> None:
        super().__init__()
        self.edges = tuple(edges)
        self.mixed = nn.ModuleList(operations)

    def forward(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """(B, C, H, W) -> the same shape; ``weights`` are those of each edge's operations."""
        nodes = [x]
        for target in range(1, self.edges[-1][1] + 1):
            terms = [
                mixed(nodes[source], row)
                for (source, into), mixed, row in zip(self.edges, self.mixed, weights, strict=True)
                if into == target
            ]
            nodes.append(sum(terms[1:], terms[0]))
        return nodes[-1]


class _Network(nn.Module):
    """Stem, cells with reductions between them, global average pool, linear layer."""

    def __init__(self, shape: Shape, make_cell: Callable[[int], Cell], affine: bool, running: bool) -> None:
        super().__init__()
        self.shape = shape.check()

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels, affine=affine, track_running_stats=running)

        channels = shape.channels
        self.stem = nn.Sequential(
            nn.Conv2d(shape.input_channels, channels, 3, stride=shape.stem_stride, padding=1, bias=False),
            norm(channels),
        )
        self.reductions, self.cells = nn.ModuleList(), nn.ModuleList()
        for number in range(shape.num_cells):
            halve: nn.Module = nn.Identity()
            if number in shape.reductions:
                pool = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)  # odd sizes, too
                halve = nn.Sequential(
                    pool, nn.ReLU(), nn.Conv2d(channels, 2 * channels, 1, bias=False), norm(2 * channels)
                )
                channels *= 2
            self.reductions.append(halve)
            self.cells.append(make_cell(channels))
        self.classifier = nn.Linear(channels, shape.num_classes)

    def _logits(self, images: Tensor, weights: Sequence[Tensor]) -> Tensor:
        if images.ndim != 4 or images.shape[1] != self.shape.input_channels:
            raise ValueError(
                f"images must have shape (B, {self.shape.input_channels}, H, W), got {tuple(images.shape)}: "
                "input_channels of the network's shape says how many channels they have"
            )
        x = self.stem(images)
        for halve, cell in zip(self.reductions, self.cells, strict=True):
            x = cell(halve(x), weights)
        return self.classifier(x.relu().mean(dim=(2, 3)))


class SearchNetwork(_Network):
    r"""A network whose cells hold every candidate on every edge. All cells share one matrix of weights.

    With the softmax of :attr:`alpha` it is the network that DARTS searches with; with one-hot weights, that of one
    discrete cell with shared weights, as ENAS trains them.

    Args:
        shape: The frame around the cells.
        num_nodes: Nodes of a cell that compute, >= 1.
        operations: Candidates, at least two; None for the eight of :data:`.OPERATIONS`.
        wiring: See :func:`.edges_of`.

    Attributes:
        alpha: :math:`\alpha`, a parameter of shape (edges, operations), part of the state dict.

    Departures from the paper (DARTS, section 2.1 and ``train_search.py``): a cell has one input instead of two, and its
    output is its last node instead of all of them side by side; halving the resolution is not searched. Batch
    normalization uses the batch's own statistics always, so no evaluation depends on those of another mixture.

    Limitations: every candidate is computed, so memory grows with their number.
    """

    def __init__(
        self,
        shape: Shape = Shape(),  # noqa: B008  (it is immutable)
        *,
        num_nodes: int = 3,
        operations: Iterable[str] | None = None,
        wiring: str = "dense",
    ) -> None:
        self.operations = check_operations(operations)
        self.edges = edges_of(num_nodes, wiring)
        self.num_nodes = num_nodes

        def make_cell(channels: int) -> Cell:
            return Cell(self.edges, (MixedOperation(self.operations, channels) for _ in self.edges))

        super().__init__(shape, make_cell, affine=False, running=False)
        self.alpha = nn.Parameter(ALPHA_SCALE * torch.randn(len(self.edges), len(self.operations)))

    @property
    def weights(self) -> Tensor:
        """The softmax of ``alpha`` on each edge, shape (edges, operations)."""
        return self.alpha.softmax(dim=1)

    @property
    def shared(self) -> list[nn.Parameter]:
        """All parameters but ``alpha``: those of the operations and of the frame."""
        return [p for p in self.parameters() if p is not self.alpha]

    def forward(self, images: Tensor, weights: Tensor | None = None) -> Tensor:
        """Images (B, input_channels, H, W) -> logits (B, num_classes).

        Args:
            images: The batch.
            weights: Weights of the operations, shape (edges, operations); None for the softmax of ``alpha``.
        """
        return self._logits(images, (self.weights if weights is None else weights).unbind(0))

    def genotype(self, edges_per_node: int | None = 2) -> Genotype:
        """The cell that is left when every edge is decided, see :func:`.discretize`."""
        return discretize(self.weights, self.edges, self.operations, edges_per_node)

    def one_hot(self, genotype: Genotype) -> Tensor:
        """The weights that make this network compute a cell with its shared weights, shape (edges, operations).

        Edges that the cell left out have weights of zero.

        Raises:
            ValueError: The cell has other edges, or an operation that is not a candidate.
        """
        if genotype.edges != self.edges:
            raise ValueError(f"genotype must have the edges {self.edges}, got {genotype.edges}")
        weights = torch.zeros(len(self.edges), len(self.operations), device=self.alpha.device)
        for row, name in enumerate(genotype.operations):
            if name in self.operations:
                weights[row, self.operations.index(name)] = 1.0
            elif name != "none":
                raise ValueError(f"operation {name!r} on edge {self.edges[row]} must be among {self.operations}")
        return weights


class CellNetwork(_Network):
    """A network of fixed cells, trained from scratch once the search is over. It has only the operations of its cell.

    Args:
        genotype: The cell.
        shape: The frame around the cells, usually that of the search.
    """

    def __init__(self, genotype: Genotype, shape: Shape = Shape()) -> None:  # noqa: B008  (it is immutable)
        self.genotype = genotype

        def make_cell(channels: int) -> Cell:
            return Cell(
                genotype.edges,
                (MixedOperation((name,), channels, affine=True, running=True) for name in genotype.operations),
            )

        super().__init__(shape, make_cell, affine=True, running=True)
        self.register_buffer("_ones", torch.ones(len(genotype.edges), 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, input_channels, H, W) -> logits (B, num_classes)."""
        return self._logits(images, self._ones.unbind(0))  # type: ignore[operator]
