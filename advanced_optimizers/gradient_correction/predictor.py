r"""The predictors of gradient correction: each one predicts the next gradient from the current one.

Both work on a gradient :math:`G` (rows :math:`G_i`, one per output unit) and its memory :math:`M` through row
coefficients :math:`a_i, b_i`: the prediction is :math:`\hat G_i = a_i G_i + b_i M_i`. Inner products of rows are
therefore all that they read and all that training them needs. Computing these takes a few passes over the gradient;
the rest costs next to nothing.

Here G and M have unit length, each as a whole tensor. Tensors with equally many rows are handled together: for T
tensors with C rows everything has shape (T, C), or (T, 1) where there is one number per tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Numbers that describe a row; width of queries and keys; the most keys that a row may attend to.
TOKEN, WIDTH, KEYS = 3, 8, 64
# Width of the velocity's hidden layer.
HIDDEN = 8
# The predictors' Adam. Its eps is large, so that a derivative that is zero up to rounding moves nothing.
BETA1, BETA2, EPS = 0.9, 0.999, 1e-4


class Padding(NamedTuple):
    """How tensors with unequally many rows are handled together: those with fewer than C get rows of zeros.

    Attributes:
        rows: (T, 1), how many rows each tensor has.
        blocks: (T, keys, n), the rows that are averaged into each key; C where there are fewer than n.
        sizes: (T, keys, 1), how many these are; 0 where a tensor has fewer keys.
    """

    rows: Tensor
    blocks: Tensor
    sizes: Tensor


class Rows(NamedTuple):
    """Inner products of rows: of G with itself, of G with M, of M with itself."""

    gg: Tensor
    gm: Tensor
    mm: Tensor
    padding: Padding | None = None


class Mix(NamedTuple):
    """A gradient given by its coefficients: ``gradient * G + memory * M``."""

    gradient: Tensor
    memory: Tensor


class NextGradient(NamedTuple):
    """The next gradient G': its length (T, 1), and its rows' products with those of G and M, all at unit length."""

    length: Tensor
    with_gradient: Tensor
    with_memory: Tensor


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, or 0 where the denominator is not positive."""
    undefined = ~(denominator > 0)
    return (numerator / denominator.masked_fill(undefined, 1.0)).masked_fill(undefined, 0.0)


def squared_length(mix: Mix, rows: Rows) -> Tensor:
    """(T, 1), of the whole tensors; exactly that of G where the mix is G."""
    a, b = mix
    with_g = torch.addcmul(a * rows.gg, 2.0 * b, rows.gm)
    return torch.addcmul(a * with_g, b * b, rows.mm).sum(dim=1, keepdim=True)


def as_long_as_the_gradient(mix: Mix, rows: Rows) -> Mix:
    """Scales a mix to the length of G; G itself is returned bit for bit."""
    scale = ratio(rows.gg.sum(dim=1, keepdim=True), squared_length(mix, rows)).sqrt()
    return Mix(scale * mix.gradient, scale * mix.memory)


def unchanged(rows: Rows) -> Mix:
    """The gradient itself."""
    return Mix(torch.ones_like(rows.gg), torch.zeros_like(rows.gg))


def cosine(mix: Mix, rows: Rows, next_gradient: NextGradient) -> Tensor:
    """(T, 1), between a mix and the next gradient."""
    products = torch.addcmul(mix.gradient * next_gradient.with_gradient, mix.memory, next_gradient.with_memory)
    return ratio(products.sum(dim=1, keepdim=True), squared_length(mix, rows).sqrt())


# ---- GC-W: rows attend to rows -----------------------------------------------------------------------------------


def tokens(rows: Rows) -> Tensor:
    """(T, C, 3), each in [-1, 1]: the lengths of G_i and M_i relative to a typical row's, and their cosine."""
    number: Tensor | int = rows.gg.shape[1]
    root: Tensor | float = math.sqrt(number)
    if rows.padding is not None:
        number, root = rows.padding.rows, rows.padding.rows.sqrt()
    g, m = (root * squares.sqrt() for squares in (rows.gg, rows.mm))
    agreement = number * ratio(rows.gm, g * m)
    return torch.stack([(g - 1.0) / (g + 1.0), (m - 1.0) / (m + 1.0), agreement], dim=2)


def averages_of(x: Tensor, padding: Padding | None) -> Tensor:
    """The tokens (T, C, 3) averaged over at most 64 blocks of neighboring rows, (T, keys, 3)."""
    if padding is None:
        return F.adaptive_avg_pool1d(x.mT, min(x.shape[1], KEYS)).mT
    tensors = torch.arange(len(x), device=x.device)[:, None, None]
    return F.pad(x, (0, 0, 0, 1))[tensors, padding.blocks].sum(dim=2) / padding.sizes.clamp(min=1)


def attention(theta: list[Tensor], rows: Rows) -> Mix:
    r"""GC-W. With tokens :math:`x`, and their averages :math:`\bar x` over at most 64 blocks of neighboring rows,

    .. math::
        A &= \mathrm{softmax}\big((x W_q + b_q)(\bar x W_k)^T / \sqrt r\big), \quad
        c = x W_s + A (\bar x W_v + b_v) \\
        \Delta_i &= c_{i1} G_i + c_{i2} M_i, \quad \hat G = G + \text{gate} \cdot \Delta / \lVert \Delta \rVert
    """
    w_q, b_q, w_k, w_s, w_v, b_v, gate = theta
    x = tokens(rows)
    averages = averages_of(x, rows.padding)
    scores = torch.baddbmm(b_q[:, None], x, w_q) @ (averages @ w_k).mT
    if rows.padding is not None:
        scores = scores.masked_fill(rows.padding.sizes.mT == 0, -math.inf)
    weights = torch.softmax(scores / math.sqrt(WIDTH), dim=2)
    own, memory = (x @ w_s + weights @ torch.baddbmm(b_v[:, None], averages, w_v)).unbind(dim=2)
    step = ratio(gate, squared_length(Mix(own, memory), rows).sqrt())
    return Mix(1.0 + step * own, step * memory)


# ---- GC-ODE: a differential equation in the plane of gradient and memory ------------------------------------------


def midpoint(velocity: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    r""":math:`y(1)` of :math:`dy / d\tau = \text{velocity}(y)` from :math:`y(0)`: one explicit midpoint step."""
    return y + velocity(y + 0.5 * velocity(y))


def history_ode(theta: list[Tensor], rows: Rows) -> Mix:
    r"""GC-ODE on a gradient's own history: from :math:`y(0) = (1, 0)` to :math:`y(1)`, in the plane of G and M,

    .. math::
        \frac{dy}{d\tau} = \text{gate} \cdot W_2 \tanh(W_1 [y, \cos(G, M)] + b_1), \quad \hat G = y_1 G + y_2 M
    """
    w_1, b_1, w_2, gate = theta
    agreement = rows.gm.sum(dim=1, keepdim=True)

    def velocity(y: Tensor) -> Tensor:
        hidden = torch.tanh(torch.baddbmm(b_1[:, None], torch.cat([y, agreement], dim=1)[:, None], w_1))
        return gate * (hidden @ w_2)[:, 0]

    start = torch.cat([torch.ones_like(agreement), torch.zeros_like(agreement)], dim=1)
    return Mix(*midpoint(velocity, start).split(1, dim=1))


# ---- a predictor's parameters and their training ------------------------------------------------------------------


@dataclass(frozen=True)
class Predictor:
    """A prediction with trainable parameters.

    Attributes:
        name: The key of its parameters in a tensor's state.
        shapes: Shapes of the parameters, matrices as (inputs, outputs). The last one is the gate.
        predict: ``predict(parameters, rows)``, each parameter with T as its first dimension.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    predict: Callable[[list[Tensor], Rows], Mix]

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

    def __call__(self, theta: Tensor, rows: Rows) -> Mix:
        """The predicted next gradient, of any length, for parameters of shape (T, size)."""
        pieces = theta.split([math.prod(shape) for shape in self.shapes], dim=1)
        return self.predict([t.unflatten(1, shape) for t, shape in zip(pieces, self.shapes, strict=True)], rows)


GCW = Predictor("gcw", ((TOKEN, WIDTH), (WIDTH,), (TOKEN, WIDTH), (TOKEN, 2), (TOKEN, 2), (2,), (1,)), attention)
GCODE = Predictor("gcode", ((3, HIDDEN), (HIDDEN,), (HIDDEN, 2), (1,)), history_ode)


class PredictorState(NamedTuple):
    """A predictor's state for T tensors.

    Attributes:
        values: (T, 3, size), the parameters and Adam's two moments, as :meth:`Predictor.initial_values` returns them.
        steps: (T, 1), the number of training steps so far.
    """

    values: Tensor
    steps: Tensor


def train_predictor(
    predictor: Predictor, state: PredictorState, rows: Rows, next_gradient: NextGradient, lr: float
) -> tuple[PredictorState, Tensor]:
    r"""One step of Adam on the squared distance of two unit vectors, the prediction and the next gradient.

    A gradient of zeros has no direction, so it trains nothing, neither as the input nor as the target.

    Args:
        predictor: The predictor to train.
        state: Its state for each tensor.
        rows: Inner products of the step that the prediction was made from.
        next_gradient: The gradient that was to be predicted.
        lr: Adam's learning rate.

    Returns:
        The new state, and the loss before this training step, (T, 1); nan where nothing was trained.
    """
    with torch.enable_grad():
        theta = state.values[:, 0].detach().requires_grad_()
        loss = 2.0 - 2.0 * cosine(predictor(theta, rows), rows, next_gradient)
        (gradient,) = torch.autograd.grad(loss.sum(), theta)
    trained = gradient.isfinite().all(dim=1, keepdim=True) & has_direction(rows, next_gradient)
    steps = torch.where(trained, state.steps + 1, state.steps)
    values = torch.where(trained[..., None], adam_step(state.values, gradient, steps, lr), state.values)
    return PredictorState(values, steps), torch.where(trained, loss.detach(), math.nan)


def has_direction(rows: Rows, next_gradient: NextGradient) -> Tensor:
    """(T, 1), whether neither gradient is zero."""
    return rows.gg.any(dim=1, keepdim=True) & (next_gradient.length > 0)


def adam_step(values: Tensor, gradient: Tensor, steps: Tensor, lr: float) -> Tensor:
    """The ``steps``-th step of Adam on stacked (parameters, first, second moments), shape (..., 3, size)."""
    theta, first, second = values.unbind(dim=-2)
    first = torch.lerp(first, gradient, 1.0 - BETA1)
    second = torch.lerp(second, gradient * gradient, 1.0 - BETA2)
    corrections = [-torch.expm1(steps * math.log(beta)) for beta in (BETA1, BETA2)]  # 1 - beta^steps
    theta = theta - lr * (first / corrections[0]) / ((second / corrections[1]).sqrt() + EPS)
    return torch.stack([theta, first, second], dim=-2)


# ---- the corrected gradient --------------------------------------------------------------------------------------


def combine(predictions: list[tuple[float, Mix]], rows: Rows, min_cosine: float) -> Mix:
    r""":math:`g' = g + \sum_k \alpha_k (\hat g_k - g)`, each prediction scaled to the length of g, then made safe.

    Args:
        predictions: Pairs of strength and prediction.
        rows: Inner products of the step.
        min_cosine: See :func:`make_safe`.
    """
    a, b = unchanged(rows)
    for strength, prediction in predictions:
        predicted = as_long_as_the_gradient(prediction, rows)
        a = a + strength * (predicted.gradient - 1.0)
        b = b + strength * predicted.memory
    return make_safe(Mix(a, b), rows, min_cosine)


def make_safe(mix: Mix, rows: Rows, min_cosine: float) -> Mix:
    """Scales a mix to the length of g, and turns it back toward g where their cosine is below ``min_cosine``.

    Where this is not defined, the result is g: for a gradient of zeros, for a mix that is zero or not finite, and for
    one that points exactly against g.
    """
    a, b = as_long_as_the_gradient(mix, rows)
    squared = rows.gg.sum(dim=1, keepdim=True)
    c = ratio(torch.addcmul(a * rows.gg, b, rows.gm).sum(dim=1, keepdim=True), squared)
    across = 1.0 - c * c
    # In the plane of g and the mix: min_cosine along g, the rest of the length across g.
    turn = ratio(torch.full_like(across, 1.0 - min_cosine * min_cosine), across).sqrt()
    near = c >= min_cosine
    safe = Mix(torch.where(near, a, min_cosine + turn * (a - c)), torch.where(near, b, turn * b))
    defined = (near | (across > 8.0 * torch.finfo(c.dtype).eps)) & (squared > 0) & (squared_length(mix, rows) > 0)
    defined &= (safe.gradient.isfinite() & safe.memory.isfinite()).all(dim=1, keepdim=True)
    return Mix(*(torch.where(defined, new, old) for new, old in zip(safe, unchanged(rows), strict=True)))
