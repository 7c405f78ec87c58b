r"""GC-ODE on hidden states: their gradients before each down-sampling layer, by the adjoint of a learned equation.

Part of the reconstruction in ``gradient_correction.py``, which says what is known of the withdrawn paper.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from advanced_optimizers.gradient_correction.history import unit_rows
from advanced_optimizers.gradient_correction.predictor import Mix, adam, combine, ratio

_CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


class Downsampling(NamedTuple):
    """A layer that down-samples, as a probe forward found it.

    Attributes:
        module: The layer.
        hidden: An example of its input, (B, C, sides).
        weight: The weight of the last layer with one before it.
    """

    module: nn.Module
    hidden: Tensor
    weight: nn.Parameter | None


def find_downsampling(model: nn.Module, example_input: Tensor | None) -> list[Downsampling]:
    """Runs ``model(example_input)`` once and finds the layers that shrink a side of their input to half or less.

    Layers are modules without children. One whose input needs no gradient (the images) does not count; of several
    with the same input (a convolution and its shortcut) only the first does. The model is in evaluation mode
    meanwhile, so that nothing in it moves.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: There is no example input or no such layer, or one is called more than once.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
    if not isinstance(example_input, Tensor):
        raise ValueError(f"example_input must be a tensor that model can be called with, got {example_input!r}")
    found: list[Downsampling] = []
    last_weight: list[nn.Parameter | None] = [None]

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and _downsamples(inputs[0], output):
            if any(place.module is module for place in found):
                raise ValueError(
                    f"model calls the same {module} twice in a forward pass: give each call its own module"
                )
            if not any(place.hidden.data_ptr() == inputs[0].data_ptr() for place in found):
                found.append(Downsampling(module, inputs[0].detach(), last_weight[0]))
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() > 1:
            last_weight[0] = weight

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(look) for module in leaves]
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.enable_grad():
            model(example_input)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    if not found:
        raise ValueError(
            "model must have a down-sampling layer, a module that halves a side of its input (a strided convolution, a "
            f"pooling module): {type(model).__name__} has none; without model the parameters' gradients are corrected"
        )
    return found


def _downsamples(hidden: Any, output: Any) -> bool:
    if not (isinstance(hidden, Tensor) and isinstance(output, Tensor) and hidden.requires_grad):
        return False
    if hidden.dim() not in _CONVOLUTIONS or output.dim() != hidden.dim():
        return False
    sides = zip(hidden.shape[2:], output.shape[2:], strict=True)
    return any(small < large and small <= math.ceil(large / 2) for large, small in sides)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two hidden states, without a copy where both have their channels last."""
    return torch.dot(a.movedim(1, -1).reshape(-1), b.movedim(1, -1).reshape(-1))


def _total(a: Tensor) -> Tensor:
    """The sum over the batch, in the order in which it lies in memory: ten times as fast as across it."""
    last = a.movedim(1, -1)
    return last.sum(dim=0).movedim(-1, 0) if last.is_contiguous() else a.sum(dim=0)


class HiddenCorrection:
    r"""Corrects the gradient of one hidden state; the network's output stays as it is.

    For hidden state :math:`h` and its gradient :math:`\delta`, let :math:`h(\tau)` solve
    :math:`dh / d\tau = f_\theta(h)` from :math:`h(0) = h`. Were :math:`h(1)` what the next layer sees, the gradient of
    :math:`h` would be the adjoint :math:`a(0)` of

    .. math::
        \frac{da}{d\tau} = -a^T \frac{\partial f_\theta}{\partial h}, \quad a(1) = \delta, \qquad
        f_\theta(h) = \text{gate} \cdot P \tanh(D h)

    with a depthwise 3-wide convolution :math:`D` and a pointwise one :math:`P`. The network keeps :math:`h`, and its
    gradient becomes :math:`\delta' = \text{safe}(\delta + \beta\, (\hat\delta - \delta))` with
    :math:`\hat\delta` = :math:`a(0)` at the length of :math:`\delta`, safe as in
    :func:`~advanced_optimizers.gradient_correction.predictor.make_safe`. We solve with one Euler step, since each
    further evaluation of :math:`f_\theta` costs as much again, and take the exact adjoint of that. At the start
    :math:`D` averages, :math:`P` is the identity and the gate is 0.

    **Learning.** :math:`\theta` is trained to make the sum of :math:`a(0)` over a batch point where the sum of
    :math:`\delta` over the batch before points: each sum is the gradient of a bias added to :math:`h`, so they can be
    compared although their samples differ. Weight gradients are trained on the *next* step's gradient instead; here
    that would keep a batch's hidden states until the next one, and in every checkpoint. The products of two
    neighbouring batches are on average the same either way round.

    The hooks act in training mode only, and collect what there is to learn; :meth:`learn` applies it.

    Args:
        place: Where.
        strength: :math:`\beta`.
        min_cosine: The least cosine of :math:`\delta'` and :math:`\delta`, over the whole batch.
        lr: Learning rate of Adam for :math:`\theta`.
        every: Train at every so many steps.
    """

    def __init__(self, place: Downsampling, strength: float, min_cosine: float, lr: float, every: int) -> None:
        self.strength, self.min_cosine, self.lr, self.every = strength, min_cosine, lr, every
        self.channels, self.sides = place.hidden.shape[1], place.hidden.dim() - 2
        self.learned = self._start(place.hidden)
        self.steps = self.learned.new_zeros(1)
        self.seen = 1  # the number of this step
        self.target: Tensor | None = None
        self.forget()
        self._handle: RemovableHandle = place.module.register_forward_pre_hook(self._before_layer)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.learned.shape[1]

    def detach(self) -> None:
        """Removes the hook."""
        self._handle.remove()

    def forget(self) -> None:
        """Drops what was collected since the last :meth:`learn`."""
        self._sum: Tensor | None = None
        self._gradient: Tensor | None = None
        self._losses: list[Tensor] = []

    def learn(self) -> tuple[float, float]:
        """Trains on what the backward passes since the last call collected; gives the loss (nan if none) and the gate.

        The loss is the squared distance of the two sums' directions, as :class:`CorrectionRecord` has it.
        """
        if self._gradient is not None and bool(self._gradient.isfinite().all()):
            self.steps = self.steps + 1
            self.learned = adam(self.learned, self._gradient, self.steps, self.lr)
        self.target = self._sum
        self.seen += 1
        loss = float(torch.stack(self._losses).mean()) if self._losses else math.nan
        self.forget()
        return loss, float(self.learned[0, -1])

    def state_dict(self) -> dict[str, Any]:
        """Parameters and moments, and what the next batch is compared with."""
        return {"learned": self.learned, "steps": self.steps, "seen": self.seen, "target": self.target}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        device = self.learned.device
        self.learned, self.steps = (state_dict[name].to(device, copy=True) for name in ("learned", "steps"))
        target = state_dict["target"]
        self.target = None if target is None else target.to(device, copy=True)
        self.seen = state_dict["seen"]
        self.forget()

    # ---- the hooks -----------------------------------------------------------------------------------------------

    def _before_layer(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        hidden = inputs[0]
        if module.training and torch.is_grad_enabled() and hidden.requires_grad:
            kept = hidden.detach()  # the hook must not hold its own tensor, or both would live for ever
            hidden.register_hook(lambda grad: self._correct(kept, grad))

    def _correct(self, hidden: Tensor, grad: Tensor) -> Tensor:
        delta = grad.to(self.learned.dtype)
        squared = _inner(delta, delta)
        if not bool(squared.isfinite()):
            return grad
        keeps, learns = (self.seen + 1) % self.every == 0, self.target is not None
        plain = _total(delta) if keeps or learns else None
        if keeps and plain is not None:
            self._sum = plain if self._sum is None or self._sum.shape != plain.shape else self._sum + plain
        target = self.target if plain is not None and self._comparable(plain) else None
        gate = float(self.learned[0, -1])
        if target is None and gate == 0.0:
            return grad
        with torch.set_grad_enabled(target is not None), torch.autocast(grad.device.type, enabled=False):
            theta = self.learned[0].detach().requires_grad_(target is not None)
            adjoint = self._adjoint(theta, hidden.to(delta.dtype), delta)
            if target is not None:
                self._collect(theta, _total(adjoint), target)
        # With the gate at 0 the adjoint is the gradient.
        return grad if gate == 0.0 else self._blend(grad, delta, adjoint.detach(), squared)

    def _comparable(self, plain: Tensor) -> bool:
        """Whether there is a sum to learn from, and both have a direction."""
        target = self.target
        return target is not None and target.shape == plain.shape and bool(target.any() and plain.any())

    def _collect(self, theta: Tensor, total: Tensor, target: Tensor) -> None:
        """Adds to the derivative that :meth:`learn` steps along."""
        loss = 2.0 - 2.0 * (total * target).sum() / (total.norm() * target.norm())
        (gradient,) = torch.autograd.grad(loss, theta)
        self._gradient = gradient if self._gradient is None else self._gradient + gradient
        self._losses.append(loss.detach())

    def _blend(self, grad: Tensor, delta: Tensor, adjoint: Tensor, squared: Tensor) -> Tensor:
        """The corrected gradient."""
        products = torch.stack([squared, _inner(delta, adjoint), _inner(adjoint, adjoint)])
        rows, length, length_of_adjoint = unit_rows([products[:, None]])
        prediction = Mix(torch.zeros_like(rows.gg), torch.ones_like(rows.gg))
        mix = combine([(self.strength, prediction)], rows, self.min_cosine)
        a, b = float(mix.gradient), float(mix.memory * ratio(length, length_of_adjoint))
        return grad if b == 0.0 else (a * delta).add_(adjoint, alpha=b).to(grad.dtype)

    def _adjoint(self, theta: Tensor, hidden: Tensor, delta: Tensor) -> Tensor:
        r"""a(0) = delta + (df/dh)^T delta, with (df/dh)^T u = gate D^T ((1 - tanh^2(D h)) * P^T u)."""
        depthwise, pointwise, gate = self._cut(theta)
        convolve, spatial = _CONVOLUTIONS[hidden.dim()], tuple(range(2, hidden.dim()))
        activation = torch.tanh(convolve(hidden, depthwise, padding=1, groups=self.channels))
        # As a product of matrices, since a 1x1 convolution takes ten times as long on a CPU.
        across = (delta.movedim(1, -1) @ pointwise).movedim(-1, 1)
        across = torch.ops.aten.tanh_backward(across, activation)  # times 1 - tanh^2, in one pass
        return torch.addcmul(delta, gate, convolve(across, depthwise.flip(spatial), padding=1, groups=self.channels))

    def _cut(self, theta: Tensor) -> list[Tensor]:
        c, sides = self.channels, self.sides
        depthwise, pointwise, gate = theta.split([c * 3**sides, c * c, 1])
        return [depthwise.view(c, 1, *[3] * sides), pointwise.view(c, c), gate]

    def _start(self, hidden: Tensor) -> Tensor:
        options: dict[str, Any] = {"device": hidden.device, "dtype": torch.promote_types(hidden.dtype, torch.float32)}
        average = torch.full((self.channels * 3**self.sides,), 3.0**-self.sides, **options)
        flat = torch.cat([average, torch.eye(self.channels, **options).flatten(), torch.zeros(1, **options)])
        return torch.stack([flat, torch.zeros_like(flat), torch.zeros_like(flat)])
