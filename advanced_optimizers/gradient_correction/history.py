"""What gradient correction keeps of each tensor from step to step, and the inner products that it takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from advanced_optimizers.gradient_correction.predictor import Mix, Rows, ratio


class CorrectionRecord(NamedTuple):
    """How one step went: means over the corrected tensors, nan for what did not take part.

    The gradients g, g' and the predictions are those of the step before; this step's gradient is what they are
    compared with. A loss is the squared distance of two unit vectors, 2 - 2 cos, in [0, 4].

    Attributes:
        gcw_loss: Of GC-W's prediction and this step's gradient.
        gcode_loss: Of GC-ODE's prediction; with a model, see ``HiddenCorrection``.
        plain_cosine: Of g and this step's gradient.
        corrected_cosine: Of g' and this step's gradient.
        gcw_gate: GC-W's gate, 0 at the start.
        gcode_gate: GC-ODE's gate, 0 at the start.
    """

    gcw_loss: float
    gcode_loss: float
    plain_cosine: float
    corrected_cosine: float
    gcw_gate: float
    gcode_gate: float


class Last(NamedTuple):
    """The step before, where there is something to learn from it.

    Attributes:
        products: (3, C), as :attr:`Step.products`, of that step.
        mix: (2, C), the coefficients of its corrected gradient.
        with_gradient: (C,), the products of this step's rows with that step's gradient.
        with_memory: (C,), the same with that step's memory.
    """

    products: Tensor
    mix: Tensor
    with_gradient: Tensor
    with_memory: Tensor


class Step(NamedTuple):
    """One tensor at one step.

    Attributes:
        param: The parameter.
        grad: Its gradient.
        products: (3, C), inner products of rows: gradient with itself, with the memory, memory with itself.
        last: The step before.
    """

    param: Tensor
    grad: Tensor
    products: Tensor
    last: Last | None


def squares(t: Tensor) -> Tensor:
    """(C,), the squared lengths of the rows, in float32 or better."""
    wide = t.to(torch.promote_types(t.dtype, torch.float32))
    return torch.linalg.vector_norm(wide, dim=_inner(t)).square_()


def take_step(
    p: Tensor, grad: Tensor, gg: Tensor, state: dict[str, Any], decay: float, scratch: Tensor | None
) -> Step | None:
    r"""Lets a gradient into its memory, :math:`m \leftarrow \rho\, m + (1 - \rho)\, g`, and takes its inner products.

    Args:
        p: The parameter.
        grad: Its gradient.
        gg: Its :func:`squares`.
        state: What is kept of it.
        decay: :math:`\rho`.
        scratch: For products, in their precision; None takes new memory.

    Returns:
        None for the first gradient: being its own memory, it has nothing to be predicted from.
    """
    g = grad.to(gg.dtype)
    if "memory" not in state:
        state["memory"], state["seen"] = g.clone(), torch.ones((), dtype=torch.int64)
        state["products"] = torch.stack([gg, gg, gg])
        return None
    state["seen"] += 1
    memory, products, mix = state["memory"], state["products"], state.pop("mix", None)
    memory.lerp_(g, 1.0 - decay)
    mm = squares(memory)
    # |m'|^2 = decay^2 |m|^2 + 2 decay (1 - decay) <g, m> + (1 - decay)^2 |g|^2 gives <g, m> without a pass of its own.
    # Where g is far shorter than m it is rounding error; it must not be more than Cauchy and Schwarz allow.
    gm = (mm - decay**2 * products[2] - (1.0 - decay) ** 2 * gg) / (2.0 * decay * (1.0 - decay))
    bound = (gg * products[2]).sqrt()
    gm = torch.clamp(gm, -bound, bound)
    last = None
    if mix is not None:
        with_last = torch.mul(g, state["last"], out=scratch).sum(dim=_inner(p))
        last = Last(products, mix, with_last, gm)
    state["products"] = torch.stack([gg, decay * gm + (1.0 - decay) * gg, mm])
    return Step(p, grad, state["products"], last)


def keep(step: Step, mix: Mix, state: dict[str, Any]) -> None:
    """Keeps what the next gradient needs to learn from this step; the mix is (C,)."""
    state["mix"] = torch.stack(mix)
    state["last"] = state.get("last", torch.empty_like(state["memory"])).copy_(step.grad)


def unit_rows(products: list[Tensor]) -> tuple[Rows, Tensor, Tensor]:
    """Products (3, C) of T tensors for unit length, and the lengths (T, 1) of gradient and memory."""
    gg, gm, mm = torch.stack(products, dim=1)
    squared_g, squared_m = (each.sum(dim=1, keepdim=True) for each in (gg, mm))
    g, m = squared_g.sqrt(), squared_m.sqrt()
    return Rows(ratio(gg, squared_g), ratio(gm, g * m), ratio(mm, squared_m)), g, m


def _inner(t: Tensor) -> tuple[int, ...]:
    return tuple(range(1, t.dim()))
