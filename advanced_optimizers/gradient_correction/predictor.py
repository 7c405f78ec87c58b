r"""The predictors of gradient correction: each one predicts the next gradient from the current one.

Both work on a gradient :math:`G` (rows :math:`G_i`, one per output unit) and its memory :math:`M`. GC-ODE's prediction
is a mix of both. GC-W's is a mix of :math:`G` and an offset :math:`D`, whose rows are :math:`D_i = a_i G_i + b_i M_i`.
Inner products of rows are therefore all that they read and all that training them needs. Computing these takes a few
passes over the gradient; the rest costs next to nothing.

Here G and M have unit length, each as a whole tensor. Tensors are handled together: for T tensors with at most C rows,
what is one number for each row has shape (T, C), with zeros for the rows that a tensor lacks. Mixes of G, M and D are
given by their coefficients, see :mod:`~advanced_optimizers.gradient_correction.mixing`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advanced_optimizers.gradient_correction.mixing import Basis, or_infinity

# Numbers that describe a row; width of queries and keys; the most keys that a row may attend to.
TOKEN, WIDTH, KEYS = 3, 8, 64
# Width of the velocity's hidden layer.
HIDDEN = 8
# The predictors' Adam. Its eps is large, so that a derivative that is zero up to rounding moves nothing.
BETA1, BETA2, EPS = 0.9, 0.999, 1e-4

# A predictor's parameters, each with T as its first dimension.
Theta = list[Tensor]


class Batch(NamedTuple):
    """What never changes of T tensors that are handled together.

    Attributes:
        rows: (T, 1), how many rows each tensor has.
        tensors: (T, 1, 1), their numbers.
        blocks: (T, keys, n), the rows that are averaged into each key.
        weights: (T, keys, n, 1), how much each counts in the average: 0 where there are fewer than n.
        absent: (T, 1, keys): 0, or minus infinity where a tensor has fewer keys.
        gradient: (T, 1, 2), the coefficients of the gradient itself as a mix of G and M.
        gradient_of_three: (T, 1, 3), the same as a mix of G, M and D.
        zero: (T, 1, 1), zeros.
    """

    rows: Tensor
    tensors: Tensor
    blocks: Tensor
    weights: Tensor
    absent: Tensor
    gradient: Tensor
    gradient_of_three: Tensor
    zero: Tensor


def batch_of(counts: Tensor, dtype: torch.dtype, device: torch.device) -> Batch:
    """A batch of tensors with so many rows; neighboring rows are averaged as ``adaptive_avg_pool1d`` does it."""
    rows, keys = counts[:, None], counts.clamp(max=KEYS)[:, None]
    key = torch.arange(int(keys.max()))
    start, end = key * rows // keys, -(-(key + 1) * rows // keys)
    sizes = torch.where(key < keys, end - start, 0)[..., None]
    within = torch.arange(int(sizes.max()))
    gradient = torch.tensor([1.0, 0.0, 0.0]).expand(len(counts), 1, 3)
    return Batch(
        rows.to(device, dtype),
        torch.arange(len(counts), device=device)[:, None, None],
        torch.where(within < sizes, start[..., None] + within, 0).to(device),
        torch.where(within < sizes, 1.0 / sizes.to(dtype), 0.0)[..., None].to(device),
        torch.where(sizes > 0, 0.0, -math.inf).mT.to(device, dtype),
        gradient[..., :2].to(device, dtype, copy=True),
        gradient.to(device, dtype, copy=True),
        torch.zeros(len(counts), 1, 1, dtype=dtype, device=device),
    )


def unit_rows(products: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scales inner products of rows (3, T, C) to unit length: G with itself, G with M, M with itself.

    Returns:
        The scaled products; the lengths of gradient and memory, (2, T, 1); and their reciprocals, 0 for 0.
    """
    lengths = products[::2].sum(dim=2, keepdim=True).sqrt()
    inverse = or_infinity(lengths).reciprocal()
    g, m = inverse.unbind()
    return products * (torch.stack([g, g, m]) * torch.stack([g, m, m])), lengths, inverse


# ---- GC-W: rows attend to rows -----------------------------------------------------------------------------------


def tokens(rows: Tensor, batch: Batch) -> Tensor:
    """(T, C, 3), each in [-1, 1]: the lengths of G_i and M_i relative to a typical row's, and their cosine."""
    scaled = rows * batch.rows
    lengths = scaled[::2].sqrt()
    agreement = scaled[1:2] / or_infinity(lengths.prod(dim=0, keepdim=True))
    return torch.cat([(lengths - 1.0) / (lengths + 1.0), agreement]).permute(1, 2, 0)


def averages_of(x: Tensor, batch: Batch) -> Tensor:
    """The tokens (T, C, 3) averaged over at most 64 blocks of neighboring rows, (T, keys, 3)."""
    return (x[batch.tensors, batch.blocks] * batch.weights).sum(dim=2)


class Attended(NamedTuple):
    """What :func:`attention` computes on the way; the offset is (T, C, 2), the coefficients of the rows of D."""

    x: Tensor
    averages: Tensor
    queries: Tensor
    keys: Tensor
    weights: Tensor
    values: Tensor
    offset: Tensor


def attention(theta: Theta, rows: Tensor, batch: Batch) -> Attended:
    r"""GC-W's offset. With tokens :math:`x`, and their averages :math:`\bar x` over blocks of neighboring rows,

    .. math::
        A &= \mathrm{softmax}\big((x W_q + b_q)(\bar x W_k)^T / \sqrt r\big), \quad
        c = x W_s + A (\bar x W_v + b_v) \\
        D_i &= c_{i1} G_i + c_{i2} M_i, \quad \hat G = G + \text{gate} \cdot D / \lVert D \rVert
    """
    w_q, b_q, w_k, w_s, w_v, b_v, _ = theta
    x = tokens(rows, batch)
    averages = averages_of(x, batch)
    queries, keys = torch.baddbmm(b_q, x, w_q), torch.bmm(averages, w_k)
    scores = torch.baddbmm(batch.absent, queries, keys.mT, alpha=1.0 / math.sqrt(WIDTH))
    weights, values = torch.softmax(scores, dim=2), torch.baddbmm(b_v, averages, w_v)
    offset = torch.baddbmm(torch.bmm(x, w_s), weights, values)
    return Attended(x, averages, queries, keys, weights, values, offset)


# ---- GC-ODE: a differential equation in the plane of gradient and memory ------------------------------------------


class Stage(NamedTuple):
    """An evaluation of the velocity: its input [y, cos(G, M)], its hidden layer, and the velocity over the gate."""

    inputs: Tensor
    hidden: Tensor
    direction: Tensor


class Path(NamedTuple):
    """What :func:`history_ode` computes on the way, and y(1), (T, 1, 2)."""

    stages: tuple[Stage, Stage]
    end: Tensor


def history_ode(theta: Theta, agreement: Tensor, start: Tensor) -> Path:
    r"""GC-ODE on a gradient's own history: from :math:`y(0) = (1, 0)` to :math:`y(1)`, in the plane of G and M,

    .. math::
        \frac{dy}{d\tau} = \text{gate} \cdot W_2 \tanh(W_1 [y, \cos(G, M)] + b_1), \quad \hat G = y_1 G + y_2 M

    by one explicit midpoint step.

    Args:
        theta: The parameters.
        agreement: (T, 1, 1), the cosine.
        start: (T, 1, 2), y(0).
    """
    w_1, b_1, w_2, gate = theta

    def at(y: Tensor) -> Stage:
        inputs = torch.cat([y, agreement], dim=2)
        hidden = torch.tanh(torch.baddbmm(b_1, inputs, w_1))
        return Stage(inputs, hidden, torch.bmm(hidden, w_2))

    first = at(start)
    second = at(torch.addcmul(start, gate, first.direction, value=0.5))
    return Path((first, second), torch.addcmul(start, gate, second.direction))


# ---- a predictor's parameters -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictor:
    """Trainable parameters of a prediction.

    Attributes:
        name: The key of its parameters in a tensor's state.
        shapes: Shapes of the parameters, matrices as (inputs, outputs), biases as vectors. The last one is the gate.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Number of parameters per corrected tensor."""
        return sum(math.prod(shape) for shape in self.shapes)

    def initial_values(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """(3, size): parameters and Adam's two moments. The gate is 0, so the first prediction is the gradient."""
        # A generator of its own, so that the correction does not change the random numbers of the rest of a run.
        rng = torch.Generator().manual_seed(0)
        parameters = [
            torch.randn(shape, generator=rng, dtype=torch.float64) / math.sqrt(shape[0])
            if len(shape) == 2
            else torch.zeros(shape, dtype=torch.float64)
            for shape in self.shapes
        ]
        flat = torch.cat([parameter.flatten() for parameter in parameters])
        return torch.stack([flat, torch.zeros_like(flat), torch.zeros_like(flat)]).to(device, dtype)


GCW = Predictor("gcw", ((TOKEN, WIDTH), (WIDTH,), (TOKEN, WIDTH), (TOKEN, 2), (TOKEN, 2), (2,), (1,)))
GCODE = Predictor("gcode", ((3, HIDDEN), (HIDDEN,), (HIDDEN, 2), (1,)))


def as_theta(parameters: Tensor, predictors: Sequence[Predictor]) -> dict[str, Theta]:
    """Parameters of one predictor after the other, (T, size), as matrices (T, inputs, outputs), by predictor."""
    shapes = [shape if len(shape) == 2 else (1, *shape) for each in predictors for shape in each.shapes]
    pieces = parameters.split([math.prod(shape) for shape in shapes], dim=1)
    matrices = iter([piece.unflatten(1, shape) for piece, shape in zip(pieces, shapes, strict=True)])
    return {each.name: [next(matrices) for _ in each.shapes] for each in predictors}


# ---- the predictions ---------------------------------------------------------------------------------------------


class Prediction(NamedTuple):
    """Predicted gradients, of any length.

    Attributes:
        mixes: (T, K, n), GC-W's first; n is 3 with GC-W, and otherwise 2, since there is no D.
        basis: What they are mixed of.
        target: (T, n, 1), the inner products of G, M and D with the next gradient; empty if that is not given.
        products: (T, n rows, C), of rows: of G, M and D, in this order, with each of G, M, D and the next gradient.
        attended: What GC-W computed, and the reciprocal length of D, (T, 1, 1); None without GC-W.
        path: What GC-ODE computed; None without it.
    """

    mixes: Tensor
    basis: Basis
    target: Tensor
    products: Tensor
    attended: tuple[Attended, Tensor] | None
    path: Path | None


def predict(theta: Mapping[str, Theta], rows: Tensor, batch: Batch, target: Sequence[Tensor] = ()) -> Prediction:
    """Predicts next gradients.

    Args:
        theta: The parameters by predictor: of GC-W, of GC-ODE, or of both.
        rows: (3, T, C), the inner products of rows of :func:`unit_rows`.
        batch: Of the tensors.
        target: The inner products of the next gradient's rows with those of G and of M, (T, C) each.
    """
    gg, gm, mm = rows.unbind()
    table = [[gg, gm, *target[:1]], [gm, mm, *target[1:]]]
    seen = attention(theta[GCW.name], rows, batch) if GCW.name in theta else None
    if seen is not None:
        table = _with_offset(table, seen.offset)
    products = torch.stack([row for each in table for row in each], dim=1)
    sums = products.sum(dim=2)
    of_single = sums.view(len(sums), -1, 1, 1).unbind(dim=1)
    gram, with_target = sums.view(len(sums), len(table), -1).split([len(table), len(target) // 2], dim=2)
    gradient = batch.gradient if seen is None else batch.gradient_of_three
    mixes, attended, path = [], None, None
    if seen is not None:
        inverse_length = or_infinity(of_single[2 * len(table[0]) + 2]).rsqrt()
        attended = (seen, inverse_length)
        mixes += [batch.gradient, theta[GCW.name][-1] * inverse_length]
    if GCODE.name in theta:
        path = history_ode(theta[GCODE.name], of_single[1], batch.gradient)
        mixes += [path.end] if seen is None else [path.end, batch.zero]
    found = torch.cat(mixes, dim=2).view(len(sums), -1, len(table))
    return Prediction(found, Basis(gram, of_single[0], gradient), with_target, products, attended, path)


def _with_offset(table: list[list[Tensor]], offset: Tensor) -> list[list[Tensor]]:
    """The table of products with one more row and column, for D."""
    a, b = offset.unbind(dim=2)
    d = [torch.addcmul(a * with_g, b, with_m) for with_g, with_m in zip(*table, strict=True)]
    dd = torch.addcmul(a * d[0], b, d[1])
    (gg, gm, *g), (_, mm, *m), (dg, dm, *target) = *table, d
    return [[gg, gm, dg, *g], [gm, mm, dm, *m], [dg, dm, dd, *target]]


def of_rows(mix: Tensor, prediction: Prediction) -> Tensor:
    """The coefficients (T, C, 2) of the rows of G and M in a mix (T, 1, n)."""
    if prediction.attended is None:
        return mix.expand(-1, prediction.products.shape[2], -1)
    own, of_offset = mix.split([2, 1], dim=2)
    return torch.addcmul(own, of_offset, prediction.attended[0].offset)
