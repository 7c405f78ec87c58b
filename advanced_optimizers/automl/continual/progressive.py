r"""Progressive networks: a new column of layers for each task, fed by the frozen columns of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_bool, check_integer


class _Shape(NamedTuple):
    """Of a column."""

    hidden_dim: int
    output_dim: int


class _Column(nn.Module):
    """Layers of one task: hidden ones, and a linear output."""

    def __init__(self, input_dim: int, shape: _Shape, num_layers: int, batch_norm: bool) -> None:
        super().__init__()
        widths = [input_dim, *[shape.hidden_dim] * num_layers, shape.output_dim]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(shape.hidden_dim) for _ in range(num_layers if batch_norm else 0)])

    def hidden(self, depth: int, total: Tensor) -> Tensor:
        """F of what arrives at a hidden layer."""
        return torch.relu(self.norms[depth](total) if len(self.norms) else total)


class _Adapter(nn.Module):
    r"""U relu(V [alpha_1 h_1; alpha_2 h_2; ...]): laterals with a hidden layer, and a learned scale per column."""

    def __init__(self, widths: list[int], dim: int, out: int) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.ones(len(widths)))
        self.down, self.up = nn.Linear(sum(widths), dim, bias=False), nn.Linear(dim, out, bias=False)
        self.widths = widths

    def forward(self, lower: Tensor) -> Tensor:
        parts = lower.split(self.widths, dim=1)
        scaled = torch.cat([scale * part for scale, part in zip(self.scales, parts, strict=True)], dim=1)
        return self.up(torch.relu(self.down(scaled)))


class ProgressiveNeuralNetwork(nn.Module):
    r"""A column per task; it sees the hidden layers of all earlier columns, and these are frozen.

    .. math::
        h_i^{(k)} = f\Bigl(W_i^{(k)} h_{i-1}^{(k)} + b_i^{(k)} + \sum_{j<k} U_i^{(k:j)} h_{i-1}^{(j)}\Bigr),
        \quad i \ge 2, \qquad h_1^{(k)} = f(W_1^{(k)} x + b_1^{(k)})

    with ReLU as :math:`f` in the hidden layers and none in the output. All columns see the same input, so the first
    layer has no laterals. The constructor builds column 0. :meth:`add_column` freezes all columns, with their laterals
    and the statistics of their batch normalization, and builds one more; train it with an optimizer over
    :meth:`trainable_parameters`. What earlier columns compute then stays the same bit for bit, so nothing is forgotten;
    the price is that the network grows, and that a task's column must be known when it is used.

    Args:
        input_dim: Features of an input, >= 1; the same for all columns.
        hidden_dim: Units per hidden layer of column 0, >= 1.
        output_dim: Outputs of column 0, such as its classes, >= 1; by default ``hidden_dim``.
        num_layers: Hidden layers of each column, >= 1.
        adapter_dim: If given, >= 1, laterals are :math:`U \, \mathrm{relu}(V [\alpha_j h^{(j)}]_{j<k})` with so many
            hidden units and a learned :math:`\alpha_j` per earlier column; by default they are linear.
        batch_norm: Whether the sum in a hidden layer is normalized by batch before :math:`f`.

    Attributes:
        columns: The columns.
        lateral_connections: By column, its laterals by layer from the second on; column 0 has none.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is too small.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import ProgressiveNeuralNetwork
        >>> net = ProgressiveNeuralNetwork(8, hidden_dim=16, output_dim=2)
        >>> net.add_column(8, hidden_dim=16, output_dim=3)  # when the first task has been learned
        >>> optimizer = torch.optim.Adam(net.trainable_parameters())
        >>> net(torch.randn(5, 8), 0).shape, net(torch.randn(5, 8), 1).shape
        (torch.Size([5, 2]), torch.Size([5, 3]))

    References:
        Rusu et al., *Progressive Neural Networks*, 2016, arXiv 1606.04671, equations 1 and 2; recalled.

    Departures from the paper:
        Laterals are linear by default, as in its equation 1. Adapters share one V per layer, have no biases, and their
        scales begin at 1, where the paper's begin at small random numbers. Layers are fully connected only.

    Limitations:
        With as many units in each, K columns of L hidden layers have K times the parameters of one, and K (K - 1) / 2
        times the L laterals. Computing column k computes all before it. A column cannot be removed. An optimizer that
        still holds frozen parameters leaves them alone, as they have no gradient any more.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 64,
        *,
        output_dim: int | None = None,
        num_layers: int = 1,
        adapter_dim: int | None = None,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.input_dim = check_integer("input_dim", input_dim, 1)
        self.num_layers = check_integer("num_layers", num_layers, 1)
        self.adapter_dim = None if adapter_dim is None else check_integer("adapter_dim", adapter_dim, 1)
        self.batch_norm = check_bool("batch_norm", batch_norm)
        self.columns = nn.ModuleList()
        self.lateral_connections = nn.ModuleList()
        self._shapes: list[_Shape] = []
        self.add_column(input_dim, hidden_dim, output_dim=output_dim)

    def add_column(self, input_dim: int, hidden_dim: int = 64, *, output_dim: int | None = None) -> None:
        """Freezes what is there and adds a column, on the device and in the type of the others.

        Args:
            input_dim: That of the network.
            hidden_dim: Units per hidden layer, >= 1.
            output_dim: Outputs, >= 1; by default ``hidden_dim``.

        Raises:
            TypeError: An argument has another type.
            ValueError: A number is too small, or ``input_dim`` is another than the network's.
        """
        if check_integer("input_dim", input_dim, 1) != self.input_dim:
            raise ValueError(
                f"input_dim must be the network's, {self.input_dim}, as all columns see one input, got {input_dim}"
            )
        hidden_dim = check_integer("hidden_dim", hidden_dim, 1)
        shape = _Shape(hidden_dim, hidden_dim if output_dim is None else check_integer("output_dim", output_dim, 1))
        column = _Column(self.input_dim, shape, self.num_layers, self.batch_norm)
        laterals = nn.ModuleList(self._laterals(shape) if self._shapes else [])
        for p in self.parameters():
            p.requires_grad_(False)
            p.grad = None
        like = next(self.parameters(), None)
        self.columns.append(column if like is None else column.to(like))
        self.lateral_connections.append(laterals if like is None else laterals.to(like))
        self._shapes.append(shape)
        self.train(self.training)

    def forward(self, x: Tensor, column_idx: int) -> Tensor:
        """The output of a column.

        Args:
            x: Inputs, (batch, ``input_dim``).
            column_idx: The task's column, in [0, number of columns).

        Returns:
            (batch, the column's ``output_dim``).

        Raises:
            TypeError: ``x`` is not a tensor, or ``column_idx`` not an integer.
            ValueError: A shape does not fit, or there is no such column.
            RuntimeError: An earlier column has been unfrozen.
        """
        column_idx = self._check(x, column_idx)
        columns = [self._column(k) for k in range(column_idx + 1)]
        below = [column.hidden(0, column.layers[0](x)) for column in columns]  # the layer before, column by column
        for depth in range(1, self.num_layers):
            below = [column.hidden(depth, self._total(k, depth, below)) for k, column in enumerate(columns)]
        return self._total(column_idx, self.num_layers, below)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the newest column and of its laterals."""
        yield from self.columns[-1].parameters()
        yield from self.lateral_connections[-1].parameters()

    def train(self, mode: bool = True) -> ProgressiveNeuralNetwork:
        """As for any module, but earlier columns stay in evaluation mode."""
        super().train(mode)
        for column in self.columns[:-1]:
            column.eval()
        return self

    def _laterals(self, shape: _Shape) -> list[nn.Module]:
        """Of a new column, from the second layer to the output."""
        widths = [earlier.hidden_dim for earlier in self._shapes]
        outs = [shape.hidden_dim] * (self.num_layers - 1) + [shape.output_dim]
        if self.adapter_dim is None:
            return [nn.Linear(sum(widths), out, bias=False) for out in outs]  # all U side by side
        return [_Adapter(widths, self.adapter_dim, out) for out in outs]

    def _column(self, k: int) -> _Column:
        column = self.columns[k]
        assert isinstance(column, _Column)  # add_column makes no other
        return column

    def _total(self, k: int, depth: int, below: list[Tensor]) -> Tensor:
        own: Tensor = self._column(k).layers[depth](below[k])
        if k == 0:
            return own
        laterals = self.lateral_connections[k]
        assert isinstance(laterals, nn.ModuleList)
        return own + laterals[depth - 1](torch.cat(below[:k], dim=1))

    def _check(self, x: Tensor, column_idx: int) -> int:
        count = len(self.columns)
        index = check_integer("column_idx", column_idx, 0)
        if index >= count:
            raise ValueError(f"column_idx must be in [0, {count - 1}], as there are {count} columns, got {column_idx}")
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor, got {x!r}")
        if x.ndim != 2 or x.shape[1] != self.input_dim:
            raise ValueError(f"x must be of shape (batch, input_dim = {self.input_dim}), got {tuple(x.shape)}")
        for kind in (self.columns, self.lateral_connections):
            if any(p.requires_grad for old in kind[:-1] for p in old.parameters()):
                raise RuntimeError(
                    f"columns before number {count - 1} must stay frozen, got one that requires a gradient: unfreeze "
                    "none but trainable_parameters()"
                )
        return index


# The spelling of the source text.
ProgressiveNeuralnetwork = ProgressiveNeuralNetwork
