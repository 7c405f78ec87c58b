"""The mixed operation: all candidates at once, weighted by a softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_integer
from advanced_optimizers.automl.architecture_search.operations import check_operations, make_operation

# Standard deviation of the first architecture parameters: nearly equal weights, as published.
ALPHA_SCALE = 1e-3


class MixedOperation(nn.Module):
    r"""The operations of one edge: :math:`\bar o(x) = \sum_o w_o\, o(x)` (DARTS, equation 2).

    Operations whose weight is exactly zero are not computed and get no gradient.

    Args:
        operations: Names, or functions ``channels -> module`` of your own.
        channels: C >= 1.
        affine: See :func:`.make_operation`.
        running: See :func:`.make_operation`.
    """

    def __init__(
        self,
        operations: Sequence[str | Callable[[int], nn.Module]],
        channels: int,
        *,
        affine: bool = False,
        running: bool = False,
    ) -> None:
        super().__init__()
        self.names = tuple(o if isinstance(o, str) else getattr(o, "__name__", repr(o)) for o in operations)
        self.ops = nn.ModuleList(
            make_operation(o, channels, affine=affine, running=running) if isinstance(o, str) else o(channels)
            for o in operations
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum, of the shape of ``x`` (B, C, H, W).

        Args:
            x: The edge's input.
            weights: One per operation; usually a softmax, or a one-hot vector.

        Raises:
            ValueError: An operation changes the shape: what it returns cannot be added to the others.
        """
        # Only a constant weight of zero switches an operation off: one that is learned must stay in the graph.
        chosen = [o for o in range(len(self.ops)) if weights.requires_grad or weights[o] != 0]
        outputs = [self._output(o, x) for o in chosen]
        if not weights.requires_grad and len(chosen) == 1 and weights[chosen[0]] == 1:
            return outputs[0]
        terms = [weights[o] * output for o, output in zip(chosen, outputs, strict=True)]
        return sum(terms[1:], terms[0]) if terms else torch.zeros_like(x)

    def _output(self, o: int, x: Tensor) -> Tensor:
        output = self.ops[o](x)
        if output.shape != x.shape:
            raise ValueError(
                f"operation {self.names[o]!r} must keep the shape {tuple(x.shape)}, so that it can be mixed with the "
                f"others, got {tuple(output.shape)}: pad it, or use stride 1"
            )
        return output


class DARTS(nn.Module):
    r"""One mixed operation with its own architecture parameters: a softmax over candidates, learned by gradient.

    :math:`\bar o(x) = \sum_o \mathrm{softmax}(\alpha)_o\, o(x)`. A whole network of such edges, whose cells share one
    :math:`\alpha`, is :class:`.SearchNetwork`, and :func:`.search_architecture` searches with it.

    Args:
        input_channels: Channels of the input, >= 1. If they are not ``output_channels``, ReLU, a 1x1 convolution and
            batch normalization come first, since operations that are added must have equal shapes.
        output_channels: C >= 1, of every candidate.
        num_ops: How many of :data:`.OPERATIONS` are candidates, from the first on, >= 2.
        operations: Names, or functions ``channels -> module``; ``num_ops`` is then their number.
        affine: Whether batch normalization learns a scale and a shift; published: no, during the search.

    Attributes:
        ops: The candidates, a ``ModuleList``.
        alpha: :math:`\alpha`, a parameter of shape (num_ops,), at first 1e-3 times a normal random number.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import DARTS
        >>> mixed = DARTS(3, 16)
        >>> mixed(torch.randn(2, 3, 8, 8)).shape
        torch.Size([2, 16, 8, 8])

    References:
        Liu, Simonyan, Yang: DARTS: Differentiable Architecture Search. ICLR 2019, arXiv 1806.09055, sections 2.1, 2.2.

    Departures from the paper: the candidates are the source text's eight; none is separable.

    Limitations: all candidates are computed, so time and memory grow with their number. Batch normalization uses the
    batch's own statistics, in evaluation too, so a batch needs more than one value per channel.
    """

    def __init__(
        self,
        input_channels: int,
        output_channels: int,
        num_ops: int = 8,
        *,
        operations: Iterable[str | Callable[[int], nn.Module]] | None = None,
        affine: bool = False,
    ) -> None:
        super().__init__()
        self.input_channels = check_integer("input_channels", input_channels, low=1)
        check_integer("output_channels", output_channels, low=1)
        candidates: Sequence[str | Callable[[int], nn.Module]] = (
            check_operations(None, num_ops) if operations is None else tuple(operations)
        )
        if len(candidates) < 2:
            raise ValueError(f"operations must be at least two, for there is nothing to choose otherwise: {candidates}")
        self.preprocess = (
            nn.Identity()
            if input_channels == output_channels
            else nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(input_channels, output_channels, 1, bias=False),
                nn.BatchNorm2d(output_channels, affine=affine, track_running_stats=False),
            )
        )
        self.mixed = MixedOperation(candidates, output_channels, affine=affine)
        self.alpha = nn.Parameter(ALPHA_SCALE * torch.randn(len(candidates)))

    @property
    def ops(self) -> nn.ModuleList:
        """The candidates."""
        return self.mixed.ops

    @property
    def weights(self) -> Tensor:
        """The softmax of ``alpha``: positive, and of sum 1."""
        return self.alpha.softmax(0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_channels, H, W) -> (B, output_channels, H, W)."""
        if x.ndim != 4 or x.shape[1] != self.input_channels:
            raise ValueError(f"x must have shape (B, {self.input_channels}, H, W), got {tuple(x.shape)}")
        return self.mixed(self.preprocess(x), self.weights)
