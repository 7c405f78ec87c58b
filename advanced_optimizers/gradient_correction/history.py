"""What gradient correction keeps of each tensor from step to step, and the inner products that it computes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advanced_optimizers._base import check_shape
from advanced_optimizers._checks import check_iterable
from advanced_optimizers._rounding import Rounded, check_rounding
from advanced_optimizers.gradient_correction.predictor import GCODE, GCW


class CorrectionRecord(NamedTuple):
    """Measurements of one step: means over the corrected tensors, nan for what did not take part.

    The gradients g and g' and the predictions are those of the previous step; they are compared with this step's
    gradient. A loss is the squared distance of two unit vectors, 2 - 2 cos, in [0, 4].

    Attributes:
        gcw_loss: Distance between GC-W's prediction and this step's gradient.
        gcode_loss: The same for GC-ODE's prediction; with a model, see ``HiddenCorrection``.
        plain_cosine: Cosine between g and this step's gradient.
        corrected_cosine: Cosine between g' and this step's gradient.
        gcw_gate: GC-W's gate, 0 at the start.
        gcode_gate: GC-ODE's gate, 0 at the start.
    """

    gcw_loss: float
    gcode_loss: float
    plain_cosine: float
    corrected_cosine: float
    gcw_gate: float
    gcode_gate: float


NOTHING_MEASURED = CorrectionRecord(*[math.nan] * len(CorrectionRecord._fields))


def says_something(record: CorrectionRecord) -> bool:
    """Whether anything was measured."""
    return not all(math.isnan(value) for value in (record.plain_cosine, record.gcode_loss))


class PreviousStep(NamedTuple):
    """The previous step of one tensor, kept where the predictors are to be trained on it.

    Attributes:
        products: (3, C), as in :class:`TensorStep`, from that step.
        mix: (2, C), the coefficients of its corrected gradient.
        with_gradient: (C,), the inner products of this step's rows with that step's gradient.
        with_memory: (C,), the same with that step's memory.
    """

    products: Tensor
    mix: Tensor
    with_gradient: Tensor
    with_memory: Tensor


class TensorStep(NamedTuple):
    """One step of one tensor.

    Attributes:
        param: The parameter.
        grad: Its gradient.
        state: What the optimizer keeps of it, ``optimizer.state[param]``.
        products: (3, C), inner products of rows: gradient with itself, gradient with memory, memory with itself.
        previous: The previous step, or None where there is nothing to train on.
    """

    param: Tensor
    grad: Tensor
    state: dict[str, Any]
    products: Tensor
    previous: PreviousStep | None


def squares(t: Tensor) -> Tensor:
    """(C,), the squared lengths of the rows, in float32 or better."""
    wide = t.to(torch.promote_types(t.dtype, torch.float32))
    return torch.linalg.vector_norm(wide, dim=_all_but_first(t)).square_()


def update_memory(
    p: Tensor,
    grad: Tensor,
    gg: Tensor,
    state: dict[str, Any],
    decay: float,
    scratch: Tensor | None,
    rounded: Rounded | None = None,
) -> TensorStep | None:
    r"""Adds a gradient to its memory, :math:`m \leftarrow \rho\, m + (1 - \rho)\, g`, and computes the inner products.

    A rounded memory is only read here: :func:`moved_memory` moves it, so that the gradient is mixed with what it is
    before it is rounded.

    Args:
        p: The parameter.
        grad: Its gradient.
        gg: The gradient's :func:`squares`.
        state: What the optimizer keeps of the parameter.
        decay: :math:`\rho`.
        scratch: Memory for elementwise products, in their precision; None allocates new memory.
        rounded: How memories are kept in bfloat16; None keeps them in float32 or better.

    Returns:
        None for the first gradient: it is its own memory, so there is nothing to predict from.
    """
    g = grad.to(gg.dtype)
    if "memory" not in state:
        if rounded is None:
            state["memory"] = g.clone()
        else:
            rounded.keep(state, "memory", g.clone(), p)
        state["seen"], state["products"] = torch.ones((), dtype=torch.int64), torch.stack([gg, gg, gg])
        return None
    state["seen"] += 1
    former, mix = state["products"], state.pop("mix", None)
    if rounded is None:
        mm = squares(state["memory"].lerp_(g, 1.0 - decay))
        gm = with_former_memory(gg, former[2], mm, decay)
        state["products"] = torch.stack([gg, decay * gm + (1.0 - decay) * gg, mm])
    else:  # rounding has changed the former memory, and so its products
        memory = rounded.read(state["memory"], g.dtype)
        gm = torch.mul(g, memory, out=scratch).sum(dim=_all_but_first(p))
        state["products"] = torch.stack([gg, gm, squares(memory)])
        move_products(state["products"], 1.0 - decay)
    previous = None
    if mix is not None:
        with_gradient = torch.mul(g, state["last"], out=scratch).sum(dim=_all_but_first(p))
        previous = PreviousStep(former, mix, with_gradient, gm)
    return TensorStep(p, grad, state, state["products"], previous)


def moved_memory(step: TensorStep, decay: float, rounded: Rounded) -> Tensor:
    """The memory that :func:`update_memory` left where it was after it has moved, to be kept by ``rounded``."""
    g = step.grad.to(step.products.dtype)
    return rounded.read(step.state["memory"], g.dtype).lerp_(g, 1.0 - decay)


def move_products(products: Tensor, rate: Tensor | float) -> None:
    """Makes inner products with the memory m those with m + r (g - m), in place.

    Args:
        products: (3, ...): gradient with itself, gradient with memory, memory with itself.
        rate: r, which can be broadcast to each of them.
    """
    gg, gm, mm = products.unbind()
    mm.lerp_(gm, rate)
    gm.lerp_(gg, rate)
    mm.lerp_(gm, rate).relu_()  # it is not negative, up to rounding


def with_former_memory(gg: Tensor, former: Tensor, mm: Tensor, decay: float) -> Tensor:
    r""":math:`\langle g, m \rangle` without a pass over memory, from the squared lengths of g, m and the new memory m'.

    :math:`|m'|^2 = \rho^2 |m|^2 + 2 \rho (1 - \rho) \langle g, m \rangle + (1 - \rho)^2 |g|^2`. Where g is far shorter
    than m, the difference is mostly rounding error: it is clamped to the Cauchy-Schwarz bound.
    """
    gm = (mm - decay**2 * former - (1.0 - decay) ** 2 * gg) / (2.0 * decay * (1.0 - decay))
    bound = (gg * former).sqrt()
    return torch.clamp(gm, -bound, bound)


def keep_for_training(step: TensorStep, mix: Tensor) -> None:
    """Keeps what is needed to train on this step once the next gradient is there; ``mix`` has shape (C, 2).

    In bfloat16, the gradient is rounded to the nearest, unlike the memory: of a copy no error adds up.
    """
    step.state["mix"] = mix.T.contiguous()
    step.state["last"] = step.state.get("last", torch.empty_like(step.state["memory"])).copy_(step.grad)


def _all_but_first(t: Tensor) -> tuple[int, ...]:
    return tuple(range(1, t.dim()))


def check_state(p: Tensor, state: dict[str, Any], dtype: torch.dtype | None) -> None:
    """Raises an error unless ``state``, as loaded, can be what was kept of ``p``; adapts it to the precision here.

    Args:
        p: The parameter.
        state: The state.
        dtype: The precision of what is as large as the parameter; None for float32 or better, as all else has.
    """
    check_rounding(state, dtype)
    for name in state.keys() & {"memory", "last"}:
        check_shape(name, state[name], p.shape)
    for name, rows in (("products", 3), ("mix", 2)):
        if name in state:
            check_shape(name, state[name], (rows, p.shape[0]))
    predictors = [predictor for predictor in (GCW, GCODE) if predictor.name in state]
    for predictor in predictors:
        check_shape(predictor.name, state[predictor.name], (3, predictor.size))
    if not predictors and int(state.get("seen", 0)) > 1:
        raise ValueError(
            "the predictors are missing, although they were trained: torch.distributed.checkpoint.state_dict drops "
            "them with flatten_optimizer_state_dict=True; save and load without it"
        )
    wide = torch.promote_types(p.dtype, torch.float32)
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            state[name] = value.to(dtype if dtype is not None and name in ("memory", "last") else wide)


def check_extra(state_dict: dict[str, Any], shapes: list[torch.Size]) -> None:
    """Checks what a state dict has besides ``"state"`` and the groups.

    Args:
        state_dict: The state dict.
        shapes: Those of the values that the corrections of hidden states learn.

    Raises:
        ValueError: Something is missing, or is of another optimizer.
    """
    saved = check_iterable("hidden of state_dict", state_dict.get("hidden", []), "dicts")
    if len(saved) != len(shapes):
        raise ValueError(
            f"state_dict must hold the {len(shapes)} hidden-state corrections of this optimizer, got "
            f"{len(saved)}: build the optimizer with the model and gcode_strength with which it was saved, and "
            "save its own state_dict() (torch.distributed.checkpoint.state_dict drops these)"
        )
    for own, shape in zip(saved, shapes, strict=True):
        found = sorted(own) if isinstance(own, dict) else own
        missing = {"learned", "steps", "target", "seen"}.difference(own if isinstance(own, dict) else ())
        if missing:
            raise ValueError(f"hidden of state_dict must have {sorted(missing)}, got {found}")
        check_shape("learned of hidden in state_dict", own["learned"], shape)
    for values in check_iterable("history of state_dict", state_dict.get("history", []), "records"):
        if not isinstance(values, list | tuple) or len(values) != len(CorrectionRecord._fields):
            raise ValueError(
                f"history of state_dict must hold {len(CorrectionRecord._fields)} numbers a record, got {values!r}"
            )
