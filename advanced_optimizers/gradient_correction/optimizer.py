r"""Gradient correction, a *reconstruction*: the paper was withdrawn because it misdescribes both of its modules.

The authors' words (Li, Ni, Li, Zhang, Gao: Gradient Correction beyond Gradient Descent, arXiv 2203.08345):

    There are errors in the description of GC-W module and GC-ODE Section 3.2 and Section 3.3, which may mislead the
    readers. e.g., 1. the structure of GC-W module is not described correctly. 2. the GC-ODE module is not described
    clearly. Therefore we want to withdrawal this paper for a thorough correction

No code and no corrected version exist. What is known: two plug-in modules, GC-W for weight gradients, "inspired by the
idea of gradient prediction" and with an attention-like structure, and GC-ODE for hidden-state gradients, "based on
Neural ODE"; and that layers before down-sampling matter most. Everything beyond that here is ours.

- :class:`GradientCorrectionOptimizer` corrects the gradients of any base optimizer.
- ``gradient_predictor.py`` holds the predictors of weight gradients, ``adjoint_correction.py`` the hidden states'.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from advanced_optimizers._base import BaseOptimizer, GradientTransform, ParamsT
from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.gradient_correction.hidden import HiddenCorrection, find_downsampling
from advanced_optimizers.gradient_correction.history import CorrectionRecord, Step, keep, squares, take_step, unit_rows
from advanced_optimizers.gradient_correction.predictor import (
    GCODE,
    GCW,
    Following,
    Mix,
    Predictor,
    combine,
    cosine,
    has_direction,
    learn,
    ratio,
    unchanged,
)

__all__ = ["CorrectionRecord", "GradientCorrectionOptimizer", "create_gradient_correction_optimizer"]

# How many steps the diagnostics go back.
HISTORY = 1000


class GradientCorrectionOptimizer(GradientTransform):
    r"""Adds to each gradient the offset by which the next one is predicted to differ, and learns that as it goes.

    For each tensor with gradient :math:`g_t`, memory :math:`m_t`, strengths :math:`\alpha` (``gcw_strength``) and
    :math:`\beta` (``gcode_strength``):

    .. math::
        m_t &= \rho\, m_{t-1} + (1 - \rho)\, g_t, \qquad m_1 = g_1 \\
        g'_t &= \text{safe}\big(g_t + \alpha\, GC_W(g_t) + \beta\, GC_{ODE}(g_t)\big) \\
        GC_W(g_t) &= \hat g_t - g_t, \quad \hat g_t \text{ a prediction of } g_{t+1} \text{ as long as } g_t \\
        \theta_{t+1} &= \text{base}(\theta_t, g'_t)

    **GC-W** sees a tensor as rows, one for each output unit (the matrix view of a convolution is (C_out, rest)). Each
    row is a token that says how long its gradient and memory are beside the other rows', and how well the two agree.
    Rows attend to rows, the outcome says how each row's gradient and memory mix to the offset, and a gate that starts
    at zero lets it in (:func:`~advanced_optimizers.gradient_correction.predictor.attention`).

    **GC-ODE**, from the parameters alone, moves each gradient along a learned differential equation in the plane of
    gradient and memory (:func:`~advanced_optimizers.gradient_correction.predictor.history_ode`). With a ``model``
    it corrects the hidden states' gradients before each down-sampling layer instead, by the adjoint of a learned
    differential equation (:class:`HiddenCorrection`), and GC-W is left to the last layer before each.

    **Learning.** Every ``train_every``-th gradient :math:`g_{t+1}` teaches the predictions made at the step before: by
    an Adam of their own, on :math:`\lVert \hat g_t / \lVert \hat g_t \rVert - g_{t+1} / \lVert g_{t+1} \rVert
    \rVert^2`. Each tensor has its own small predictors (71 and 49 parameters).

    **Safety.** :math:`g'` is as long as :math:`g` and no farther from it than ``min_cosine``: beyond, it is turned
    back in their common plane. Where a prediction is not finite, :math:`g' = g`. Until the first training opens a
    gate, :math:`g'` is :math:`g` to the bit.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts; groups may override each hyperparameter.
        base_optimizer: An ``Optimizer`` class, or a function ``(params, **kwargs) -> Optimizer``; another transform
            too. Default Adam.
        base_optimizer_kwargs: Passed to it. Default ``{"lr": 1e-3}``. On the CPU Adam and AdamW are built with
            ``fused=True`` unless ``fused``, ``foreach`` or ``differentiable`` is given.
        gcw_strength: :math:`\alpha \ge 0`, how far toward GC-W's prediction: 0 switches it off, 1 is all the way.
        gcode_strength: :math:`\beta \ge 0`, the same for GC-ODE.
        history_decay: :math:`\rho` in (0, 1), the share of the memory that a step keeps.
        min_cosine: The least cosine between :math:`g'` and :math:`g`, in [0, 1].
        predictor_lr: Learning rate of the predictors' own Adam, >= 0.
        train_every: The predictors learn from every so many gradients, >= 1.
        model: A network of these parameters with down-sampling layers: modules without children that shrink a side of
            their input to half or less. Hooks are put on it; :meth:`detach` removes them. Its output is unchanged.
        example_input: With ``model``, what to find these layers with, as in ``model(example_input)``.

    Raises:
        TypeError: ``base_optimizer`` is no optimizer, ``model`` no module, or a value no number.
        ValueError: A value is out of range, the model has no down-sampling layer, or calls one more than once a
            forward pass; at ``step``, a gradient is sparse or complex.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = GradientCorrectionOptimizer(model.parameters(), torch.optim.Adam, {"lr": 1e-3})
        >>> for _ in range(9):
        ...     optimizer.zero_grad()
        ...     model(torch.randn(8, 4)).square().mean().backward()
        ...     optimizer.step()
        >>> len(optimizer.history)
        2

    References:
        Li, Ni, Li, Zhang, Gao: Gradient Correction beyond Gradient Descent, arXiv 2203.08345, withdrawn.

    Departures from the paper:
        Unknown, since its modules are: every formula here is ours. Tensors with fewer than two dimensions or fewer
        than two rows (biases, normalisation) are left alone. The weights themselves are not looked at. No published
        number exists that a result could be held against.

    Limitations:
        Memory: two tensors the size of each corrected gradient (float32 for half-precision gradients), and on the CPU
        one more for the result, kept between steps. A gradient that is not finite is passed on as it is, and neither
        remembered nor learned from. Time: about 12 numbers moved for each corrected parameter and step, where Adam
        moves 7, and a few hundred small operations for each number of rows that occurs; for each hidden state two
        depthwise convolutions a batch. Hidden states are corrected with the arguments given here, whatever a parameter
        group overrides. ``GradScaler``, closures, gradient accumulation and several groups work; ``torch.compile``
        leaves the correction as it is; sparse and complex gradients are refused; distributed sharding is untested.
    """

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: BaseOptimizer = torch.optim.Adam,
        base_optimizer_kwargs: dict[str, Any] | None = None,
        gcw_strength: float = 0.1,
        gcode_strength: float = 0.1,
        history_decay: float = 0.9,
        min_cosine: float = 0.5,
        predictor_lr: float = 0.01,
        train_every: int = 4,
        *,
        model: nn.Module | None = None,
        example_input: Tensor | None = None,
    ) -> None:
        defaults = {
            "gcw_strength": gcw_strength,
            "gcode_strength": gcode_strength,
            "history_decay": history_decay,
            "min_cosine": min_cosine,
            "predictor_lr": predictor_lr,
            "train_every": train_every,
        }
        self._check_group(defaults)
        if base_optimizer_kwargs is None:
            base_optimizer_kwargs = {"lr": 1e-3}
        self._history: deque[CorrectionRecord] = deque(maxlen=HISTORY)
        self._measured: list[Tensor] = []
        self._hidden: list[HiddenCorrection] = []
        self._placed: set[Tensor] | None = None
        places = [] if model is None else find_downsampling(model, example_input)
        if model is None and example_input is not None:
            raise ValueError("example_input is for finding the layers of a model: give model too, or neither")
        super().__init__(params, base_optimizer, base_optimizer_kwargs, defaults)
        if model is not None:
            self._placed = {place.weight for place in places if place.weight is not None}
            if gcode_strength > 0.0:
                self._hidden = [
                    HiddenCorrection(place, gcode_strength, min_cosine, predictor_lr, train_every) for place in places
                ]

    def _check_group(self, group: dict[str, Any]) -> None:
        for name in ("gcw_strength", "gcode_strength", "predictor_lr"):
            check_range(name, group[name], low=0.0, high=math.inf, open_high=True)
        check_range("history_decay", group["history_decay"], low=0.0, high=1.0, open_low=True, open_high=True)
        check_range("min_cosine", group["min_cosine"], low=0.0, high=1.0)
        check_integer("train_every", group["train_every"], low=1)

    # ---- what it has learned -------------------------------------------------------------------------------------

    @property
    def history(self) -> list[CorrectionRecord]:
        """One record for each of the last 1000 steps that the predictors learned from."""
        return list(self._history)

    @property
    def num_extra_parameters(self) -> int:
        """Number of parameters that the correction trains beside the model's own."""
        groups = [(p, group) for group in self.param_groups for p in group["params"]]
        of_tensors = sum(predictor.size for p, group in groups for predictor, _ in self._predictors(p, group))
        return of_tensors + sum(hidden.size for hidden in self._hidden)

    def detach(self) -> None:
        """Removes the hooks from the model; the hidden states' gradients are then its own again."""
        for hidden in self._hidden:
            hidden.detach()
        self._hidden = []

    # ---- one step ------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        self._measured = []
        super()._update()
        nan = math.nan
        for learned_loss, gate in (hidden.learn() for hidden in self._hidden):
            self._measured.append(torch.tensor([[nan, learned_loss, nan, nan, nan, gate]], dtype=torch.float64))
        self._record()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients, and what the hidden states' corrections took from their backward passes."""
        super().zero_grad(set_to_none)
        for hidden in self._hidden:
            hidden.forget()

    def _predictors(self, p: Tensor, group: dict[str, Any]) -> list[tuple[Predictor, float]]:
        """The predictors that correct a parameter's gradient, with their strengths."""
        if p.dim() < 2 or p.shape[0] < 2 or p.numel() == 0:
            return []
        if self._placed is None:
            strengths = [(GCW, group["gcw_strength"]), (GCODE, group["gcode_strength"])]
        else:
            strengths = [(GCW, group["gcw_strength"] if p in self._placed else 0.0)]
        return [(predictor, strength) for predictor, strength in strengths if strength > 0.0]

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        if torch.compiler.is_compiling():  # a traced step would train the predictors with wrong numbers
            return torch.compiler.disable(self._corrected)(params, grads, group)
        return self._corrected(params, grads, group)

    def _corrected(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        corrected = dict(zip(params, grads, strict=True))
        chosen = [(p, grad, squares(grad)) for p, grad in corrected.items() if self._predictors(p, group)]
        if not chosen:
            return grads
        finite = torch.stack([gg.sum() for _, _, gg in chosen]).isfinite().tolist()  # one wait for the device
        batches: dict[object, list[Step]] = {}
        for p, grad, gg in itertools.compress(chosen, finite):
            scratch = self._output(p, grad) if grad.dtype == gg.dtype else None
            step = take_step(p, grad, gg, self.state[p], group["history_decay"], scratch)
            if step is not None:
                batches.setdefault((p.shape[0], gg.dtype, p.device), []).append(step)
        for batch in batches.values():
            self._learn([step for step in batch if step.last is not None], group)
            corrected |= self._correct(batch, group)
        return [corrected[p] for p in params]

    def _learn(self, batch: list[Step], group: dict[str, Any]) -> None:
        """Trains the predictors with this step's gradients, and measures how near the last step came to them."""
        if not batch:
            return
        products, mixes, with_gradient, with_memory = zip(*(step.last for step in batch if step.last), strict=True)
        rows, g, m = unit_rows(list(products))
        length = torch.stack([step.products[0].sum() for step in batch]).sqrt()[:, None]
        following = Following(
            length, ratio(torch.stack(with_gradient), g * length), ratio(torch.stack(with_memory), m * length)
        )
        known, nothing = has_direction(rows, following), torch.full_like(length, math.nan)
        measured = dict.fromkeys(CorrectionRecord._fields, nothing)
        applied = Mix(*torch.stack(mixes, dim=1))
        for name, mix in (("plain_cosine", unchanged(rows)), ("corrected_cosine", applied)):
            measured[name] = torch.where(known, cosine(mix, rows, following), nothing)
        for predictor, _ in self._predictors(batch[0].param, group):
            learned, steps = self._learned(batch, predictor)
            lesson = learn(predictor, learned, steps, rows, following, group["predictor_lr"])
            for step, new, count in zip(batch, lesson.learned, lesson.steps, strict=True):
                self.state[step.param][predictor.name].copy_(new)
                self.state[step.param][f"{predictor.name}_steps"].copy_(count)
            measured[f"{predictor.name}_loss"] = lesson.loss
            measured[f"{predictor.name}_gate"] = lesson.learned[:, 0, -1:]
        self._measured.append(torch.cat(list(measured.values()), dim=1).double().cpu())

    def _learned(self, batch: list[Step], predictor: Predictor) -> tuple[Tensor, Tensor]:
        """What a predictor has learned for each tensor, (T, 3, size), and how often it was trained, (T, 1)."""
        name, counts = predictor.name, f"{predictor.name}_steps"
        states = [self.state[step.param] for step in batch]
        for state in states:
            if name not in state:
                state[name] = predictor.start(state["memory"].dtype, state["memory"].device)
                state[counts] = state[name].new_zeros(1)
        return torch.stack([state[name] for state in states]), torch.stack([state[counts] for state in states])

    def _correct(self, batch: list[Step], group: dict[str, Any]) -> dict[Tensor, Tensor]:
        """The gradients that change."""
        rows, g, m = unit_rows([step.products for step in batch])
        predictions = [
            (strength, predictor(self._learned(batch, predictor)[0][:, 0], rows))
            for predictor, strength in self._predictors(batch[0].param, group)
        ]
        mix = combine(predictions, rows, group["min_cosine"])
        changed = ((mix.gradient != 1.0) | (mix.memory != 0.0)).any(dim=1).tolist()
        memories = ratio(g, m) * mix.memory
        corrected = {}
        for i, step in enumerate(batch):
            if changed[i]:
                corrected[step.param] = self._mixed(step, mix.gradient[i], memories[i])
            if (int(self.state[step.param]["seen"]) + 1) % group["train_every"] == 0:
                keep(step, Mix(mix.gradient[i], mix.memory[i]), self.state[step.param])
        return corrected

    def _mixed(self, step: Step, own: Tensor, memories: Tensor) -> Tensor:
        """The corrected gradient, from the coefficients (C,) of its own rows and of the memory's."""
        grad, memory = step.grad, self.state[step.param]["memory"]
        a, b = (coefficients.view(-1, *[1] * (grad.dim() - 1)) for coefficients in (own, memories))
        out = self._output(step.param, grad)
        wide = out if grad.dtype == memory.dtype else torch.empty_like(memory)
        torch.mul(grad, a, out=wide).addcmul_(memory, b)
        return out if wide is out else out.copy_(wide)

    def _record(self) -> None:
        if not self._measured:
            return
        record = CorrectionRecord(*torch.cat(self._measured).nanmean(dim=0).tolist())
        self._measured = []
        if not all(math.isnan(value) for value in (record.plain_cosine, record.gcode_loss)):
            self._history.append(record)

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Memories, predictors, groups, history, and the base optimizer's state under ``"base"``."""
        hidden = [each.state_dict() for each in self._hidden]
        return {**super().state_dict(), "history": [list(record) for record in self._history], "hidden": hidden}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave.

        Raises:
            ValueError: As :meth:`GradientTransform.load_state_dict`, or the corrected hidden states differ.
        """
        saved = state_dict.get("hidden", [])
        if len(saved) != len(self._hidden):
            raise ValueError(
                f"state_dict must hold the {len(self._hidden)} hidden-state corrections of this optimizer, got "
                f"{len(saved)}: give the same model and gcode_strength as when it was saved"
            )
        super().load_state_dict(state_dict)
        self._history = deque((CorrectionRecord(*values) for values in state_dict.get("history", [])), maxlen=HISTORY)
        for hidden, own in zip(self._hidden, saved, strict=True):
            hidden.load_state_dict(own)
        for state in self.state.values():
            if "seen" in state:
                state["seen"] = state["seen"].cpu()  # read on every step


def create_gradient_correction_optimizer(
    params: ParamsT,
    lr: float = 1e-3,
    use_gcw: bool = True,
    use_gcode: bool = True,
    gcw_strength: float = 0.1,
    device: torch.device | str | None = None,
    *,
    model: nn.Module | None = None,
    example_input: Tensor | None = None,
) -> GradientCorrectionOptimizer:
    """Gradient correction over Adam.

    Args:
        params: As for :class:`GradientCorrectionOptimizer`.
        lr: Adam's learning rate, >= 0.
        use_gcw: Whether GC-W takes part.
        use_gcode: Whether GC-ODE takes part, with a strength of 0.1.
        gcw_strength: See :class:`GradientCorrectionOptimizer`.
        device: Where the parameters must be. The predictors always lie beside their parameters, so there is nothing to
            move: another device is refused. None takes the parameters wherever they are.
        model: See :class:`GradientCorrectionOptimizer`.
        example_input: See :class:`GradientCorrectionOptimizer`.

    Raises:
        ValueError: A value is out of range, or a parameter is not on ``device``.
    """
    check_range("gcw_strength", gcw_strength, low=0.0, high=math.inf, open_high=True)
    optimizer = GradientCorrectionOptimizer(
        params,
        torch.optim.Adam,
        {"lr": lr},
        gcw_strength=gcw_strength if use_gcw else 0.0,
        gcode_strength=0.1 if use_gcode else 0.0,
        model=model,
        example_input=example_input,
    )
    if device is not None:
        wanted = torch.device(device)
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p.device.type != wanted.type or wanted.index not in (None, p.device.index):
                optimizer.detach()
                raise ValueError(f"device must be where the parameters are, got {device!r} and one on {p.device}")
    return optimizer
