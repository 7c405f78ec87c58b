r"""GC-ODE on hidden states: corrects their gradients before each down-sampling, by the adjoint of a learned ODE.

Part of a reconstruction; the package's docstring says what is known of the withdrawn paper.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from advanced_optimizers.gradient_correction.downsampling import Downsampling
from advanced_optimizers.gradient_correction.mixing import Basis, combine, make_safe
from advanced_optimizers.gradient_correction.predictor import unit_rows
from advanced_optimizers.gradient_correction.training import adam_step

_CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two hidden states, without a copy where both have their channels last."""
    return torch.dot(a.movedim(1, -1).reshape(-1), b.movedim(1, -1).reshape(-1))


def _sum_over_batch(a: Tensor) -> Tensor:
    """The sum over the batch, computed in memory order, which is ten times as fast as across it."""
    last = a.movedim(1, -1)
    return last.sum(dim=0).movedim(-1, 0) if last.is_contiguous() else a.sum(dim=0)


class HiddenCorrection:
    r"""Corrects the gradient of one hidden state; the network's output stays as it is.

    For a hidden state :math:`h` with gradient :math:`\delta`, let :math:`h(\tau)` solve
    :math:`dh / d\tau = f_\theta(h)` from :math:`h(0) = h`. If the next layer saw :math:`h(1)`, the gradient of
    :math:`h` would be the adjoint :math:`a(0)` of

    .. math::
        \frac{da}{d\tau} = -a^T \frac{\partial f_\theta}{\partial h}, \quad a(1) = \delta, \qquad
        f_\theta(h) = \text{gate} \cdot P \tanh(D h)

    with a depthwise 3-wide convolution :math:`D` and a pointwise one :math:`P`. The network still sees :math:`h`; its
    gradient becomes :math:`\delta' = \text{safe}(\delta + \beta\, (\hat\delta - \delta))`, where :math:`\hat\delta` is
    :math:`a(0)` scaled to the length of :math:`\delta`, and safe is
    :func:`~advanced_optimizers.gradient_correction.mixing.make_safe`. The equation is solved with one Euler step,
    because every further evaluation of :math:`f_\theta` costs as much again, and the adjoint is the exact one of that
    step. Initially :math:`D` averages, :math:`P` is the identity and the gate is 0.

    **Training.** :math:`\theta` is trained so that the sum of :math:`a(0)` over a batch points in the direction of the
    sum of :math:`\delta` over the *previous* batch: what it learns to predict lies behind it, not ahead. Each sum is
    the gradient of a bias added to :math:`h`, so the two can be compared although their samples differ. The predictors
    of weight gradients are trained on the *next* step's gradient; here that would require keeping a batch's hidden
    states until the next one, and in every checkpoint. On average, the products of two neighboring batches are the same
    in either order as long as the network hardly changes between them.

    :meth:`attach` gives it the hidden state of each forward pass. The backward passes collect what is needed for
    training, and :meth:`train` applies it.

    Args:
        found: The down-sampling in front of which to correct.
        strength: :math:`\beta`.
        min_cosine: The smallest allowed cosine of :math:`\delta'` and :math:`\delta`, as one vector of all samples. The
            gradients of weights sum over samples, and are not bounded by it.
        lr: Learning rate of Adam for :math:`\theta`.
        every: Train at every ``every``-th step.
    """

    def __init__(self, found: Downsampling, strength: float, min_cosine: float, lr: float, every: int) -> None:
        self.strength, self.min_cosine, self.lr, self.every = strength, min_cosine, lr, every
        self.name = found.place.name
        self.channels, self.sides = found.hidden.shape[1], found.hidden.dim() - 2
        self.values = self._initial_values(found.hidden)  # (3, size): parameters and Adam's two moments
        self.steps = self.values.new_zeros(1)  # training steps so far
        self.seen = 1  # the number of the current step
        self.target: Tensor | None = None  # the previous batch's sum, to be compared with
        self.forget()

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.values.shape[1]

    def attach(self, hidden: Tensor) -> None:
        """Corrects the gradient that a hidden state will get in its backward pass."""
        if hidden.requires_grad:
            kept = hidden.detach()  # a hook that held its own tensor would keep both alive forever
            hidden.register_hook(lambda grad: self._correct(kept, grad))

    def forget(self) -> None:
        """Drops what was collected since the last :meth:`train`."""
        self.reached = False  # by a gradient
        self._sum: Tensor | None = None
        self._gradient: Tensor | None = None
        self._losses: list[Tensor] = []

    def train(self) -> tuple[float, float]:
        """Trains on what the backward passes since the last call collected.

        Returns:
            The loss, which is the squared distance of the two sums' directions, or nan where there was nothing to
            train on; and the gate.
        """
        if self._gradient is not None and bool(self._gradient.isfinite().all()):
            self.steps = self.steps + 1
            self.values = adam_step(self.values, self._gradient, self.steps, self.lr)
        self.target = self._sum
        self.seen += 1
        loss = float(torch.stack(self._losses).mean()) if self._losses else math.nan
        self.forget()
        return loss, float(self.values[0, -1])

    def state_dict(self) -> dict[str, Any]:
        """Parameters and moments, and what the next batch is compared with."""
        return {"learned": self.values, "steps": self.steps, "seen": self.seen, "target": self.target}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        device = self.values.device
        self.values, self.steps = (state_dict[name].to(device, copy=True) for name in ("learned", "steps"))
        target = state_dict["target"]
        self.target = None if target is None else target.to(device, copy=True)
        self.seen = state_dict["seen"]
        self.forget()

    # ---- in the backward pass ------------------------------------------------------------------------------------

    def _correct(self, hidden: Tensor, grad: Tensor) -> Tensor:
        self.reached = True
        delta = grad.to(self.values.dtype)
        squared = _inner(delta, delta)
        if not bool(squared.isfinite()):
            return grad
        keeps, trains = (self.seen + 1) % self.every == 0, self.target is not None
        plain = _sum_over_batch(delta) if keeps or trains else None
        if keeps and plain is not None:
            self._sum = plain if self._sum is None or self._sum.shape != plain.shape else self._sum + plain
        target = self.target if plain is not None and self._comparable(plain) else None
        gate = float(self.values[0, -1])
        if target is None and gate == 0.0:
            return grad
        with torch.set_grad_enabled(target is not None), torch.autocast(grad.device.type, enabled=False):
            theta = self.values[0].detach().requires_grad_(target is not None)
            adjoint = self._adjoint(theta, hidden.to(delta.dtype), delta)
            if target is not None:
                self._collect(theta, _sum_over_batch(adjoint), target)
        # With the gate at 0 the adjoint is the gradient.
        return grad if gate == 0.0 else self._blend(grad, delta, adjoint.detach(), squared)

    def _comparable(self, plain: Tensor) -> bool:
        """Whether there is a sum to train on, and both sums have a direction."""
        target = self.target
        return target is not None and target.shape == plain.shape and bool(target.any() and plain.any())

    def _collect(self, theta: Tensor, total: Tensor, target: Tensor) -> None:
        """Adds to the derivative that :meth:`train` steps along."""
        loss = 2.0 - 2.0 * (total * target).sum() / (total.norm() * target.norm())
        (gradient,) = torch.autograd.grad(loss, theta)
        self._gradient = gradient if self._gradient is None else self._gradient + gradient
        self._losses.append(loss.detach())

    def _blend(self, grad: Tensor, delta: Tensor, adjoint: Tensor, squared: Tensor) -> Tensor:
        """The corrected gradient."""
        products = torch.stack([squared, _inner(delta, adjoint), _inner(adjoint, adjoint)])
        rows, lengths, inverse = unit_rows(products[:, None, None])
        gg, gm, mm = rows.unbind()
        itself, prediction = torch.eye(2, dtype=rows.dtype, device=rows.device)[:, None, None]
        basis = Basis(torch.stack([gg, gm, gm, mm]).view(1, 2, 2), gg[None], itself)
        mix = make_safe(combine(prediction, [self.strength], basis), basis, self.min_cosine)
        a, b = mix.flatten().tolist()
        b *= float(lengths[0] * inverse[1])
        return grad if b == 0.0 else (a * delta).add_(adjoint, alpha=b).to(grad.dtype)

    def _adjoint(self, theta: Tensor, hidden: Tensor, delta: Tensor) -> Tensor:
        r"""a(0) = delta + (df/dh)^T delta, with (df/dh)^T u = gate D^T ((1 - tanh^2(D h)) * P^T u)."""
        depthwise, pointwise, gate = self._split(theta)
        convolve, spatial = _CONVOLUTIONS[hidden.dim()], tuple(range(2, hidden.dim()))
        activation = torch.tanh(convolve(hidden, depthwise, padding=1, groups=self.channels))
        # As a matrix product, because a 1x1 convolution takes ten times as long on a CPU.
        across = (delta.movedim(1, -1) @ pointwise).movedim(-1, 1)
        across = torch.ops.aten.tanh_backward(across, activation)  # times 1 - tanh^2, in one pass
        return torch.addcmul(delta, gate, convolve(across, depthwise.flip(spatial), padding=1, groups=self.channels))

    def _split(self, theta: Tensor) -> list[Tensor]:
        c, sides = self.channels, self.sides
        depthwise, pointwise, gate = theta.split([c * 3**sides, c * c, 1])
        return [depthwise.view(c, 1, *[3] * sides), pointwise.view(c, c), gate]

    def _initial_values(self, hidden: Tensor) -> Tensor:
        options: dict[str, Any] = {"device": hidden.device, "dtype": torch.promote_types(hidden.dtype, torch.float32)}
        average = torch.full((self.channels * 3**self.sides,), 3.0**-self.sides, **options)
        flat = torch.cat([average, torch.eye(self.channels, **options).flatten(), torch.zeros(1, **options)])
        return torch.stack([flat, torch.zeros_like(flat), torch.zeros_like(flat)])
