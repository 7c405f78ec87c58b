"""The optimizer of gradient correction. The package's docstring says what is known of the withdrawn paper."""

from __future__ import annotations

import math
import warnings
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from advanced_optimizers._base import BaseOptimizer, GradientTransform, ParamsT
from advanced_optimizers._checks import (
    check_bool,
    check_integer,
    check_range,
    count_processes,
    refuse_per_sample_gradients,
)
from advanced_optimizers._rounding import Rounded, Steps, check_state_dtype
from advanced_optimizers._sharded import is_by_rows
from advanced_optimizers.gradient_correction.downsampling import Downsampling, find_downsampling
from advanced_optimizers.gradient_correction.hidden import HiddenCorrection
from advanced_optimizers.gradient_correction.history import (
    NOTHING_MEASURED,
    CorrectionRecord,
    check_extra,
    check_state,
    says_something,
)
from advanced_optimizers.gradient_correction.on_device import OnDevice
from advanced_optimizers.gradient_correction.one_by_one import OneByOne
from advanced_optimizers.gradient_correction.predictor import (
    GCODE,
    GCW,
    Predictor,
)
from advanced_optimizers.gradient_correction.together import settings_of
from advanced_optimizers.gradient_correction.watching import Watch

__all__ = ["CorrectionRecord", "GradientCorrectionOptimizer"]

# How many steps the diagnostics keep.
HISTORY = 1000


class GradientCorrectionOptimizer(GradientTransform):
    r"""Adds to each gradient the predicted difference to the next one, with predictors trained along the way.

    For each tensor with gradient :math:`g_t`, memory :math:`m_t`, strengths :math:`\alpha` (``gcw_strength``) and
    :math:`\beta` (``gcode_strength``):

    .. math::
        m_t &= \rho\, m_{t-1} + (1 - \rho)\, g_t, \qquad m_1 = g_1 \\
        g'_t &= \text{safe}\big(g_t + \alpha\, GC_W(g_t) + \beta\, GC_{ODE}(g_t)\big) \\
        GC_W(g_t) &= \hat g_t - g_t, \quad \hat g_t \text{ a prediction of } g_{t+1} \text{ as long as } g_t \\
        \theta_{t+1} &= \text{base}(\theta_t, g'_t)

    **GC-W** sees a tensor as rows, one per output unit (the matrix view of a convolution is (C_out, rest)). Each row
    is a token that says how long its gradient and memory are compared with the other rows', and how well the two
    agree. Rows attend to rows. The outcome says how to mix each row's gradient and memory into the offset, and a gate
    that starts at zero scales it (:func:`~advanced_optimizers.gradient_correction.predictor.attention`).

    **GC-ODE** moves each gradient along a learned differential equation in the plane of gradient and memory
    (:func:`~advanced_optimizers.gradient_correction.predictor.history_ode`).

    **With a model**, other gradients are corrected, fewer and not more. GC-ODE leaves all parameters' gradients alone
    and corrects those of the hidden states before each down-sampling, by the adjoint of a learned differential equation
    (:class:`HiddenCorrection`); from there they go on to all layers before. GC-W acts only on the weight of the last
    layer before each. So of six convolutions and a linear layer with three poolings, seven weights are corrected by
    both without the model, and with it three weights by GC-W and three hidden states by GC-ODE.

    **Training.** Every ``train_every``-th gradient :math:`g_{t+1}` trains the predictors on the predictions of the
    previous step, with an Adam of their own, on :math:`\lVert \hat g_t / \lVert \hat g_t \rVert - g_{t+1} /
    \lVert g_{t+1} \rVert \rVert^2`. Each tensor has its own small predictors (71 and 49 parameters).
    Those of hidden states are trained on the *previous* batch instead, see :class:`HiddenCorrection`.

    **Safety.** :math:`g'` is as long as :math:`g`, and their cosine is at least ``min_cosine``: otherwise :math:`g'` is
    turned back in their common plane. Where a prediction is not finite, :math:`g' = g`. Until training first opens a
    gate, :math:`g'` equals :math:`g` bit for bit.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts; groups may override each hyperparameter.
        base_optimizer: An ``Optimizer`` class, or a function ``(params, **kwargs) -> Optimizer``; another transform
            works too. Default Adam.
        base_optimizer_kwargs: Passed to it. Default ``{"lr": 1e-3}``. On the CPU Adam and AdamW are built with
            ``fused=True`` unless ``fused``, ``foreach`` or ``differentiable`` is given.
        gcw_strength: :math:`\alpha \ge 0`, how far to go toward GC-W's prediction: 0 switches it off, 1 is all the way.
        gcode_strength: :math:`\beta \ge 0`, the same for GC-ODE.
        history_decay: :math:`\rho` in (0, 1), the share of the memory that remains after a step.
        min_cosine: The smallest allowed cosine between :math:`g'` and :math:`g`, in [0, 1].
        predictor_lr: Learning rate of the predictors' own Adam, >= 0.
        train_every: The predictors are trained on every ``train_every``-th gradient, >= 1.
        model: A network with these parameters that shrinks a side of hidden states, (B, C, sides), to half or less:
            by modules without children, or by functions in the forward pass of any module (pooling, strided
            convolutions, ``interpolate``, ``pixel_unshuffle``, slices with steps along all sides, averages over all
            sides). Hooks are installed on it; :meth:`detach` removes them. Its output is unchanged.
        example_input: Required with ``model``: these places are found by calling ``model(example_input)``.
        foreach: Whether all tensors on a device are handled together: about 145 operations a step however many tensors
            there are (350 where the predictors are trained), none of which waits for the device. Default: everywhere
            but on the CPU, where one tensor after the other is faster. Both give the same up to rounding. Sharded
            tensors (FSDP2) are handled together in any case. (The base optimizer's own ``foreach`` belongs in
            ``base_optimizer_kwargs``.)
        state_dtype: ``torch.bfloat16`` keeps the memory and the gradient that waits for training in half the space. The
            memory is rounded stochastically: with 0.9 as ``history_decay`` its numbers have relative errors of about
            0.5% with mean 0. The gradient is rounded to the nearest, with errors of about 0.2%. All else is computed
            and kept as without it. float16 is refused, since it has no numbers below 6e-8. None, the default, keeps
            both in float32, or float64 for float64 gradients.

    Raises:
        TypeError: ``base_optimizer`` is not an optimizer, ``model`` is not a module, or a value has the wrong type.
        ValueError: A value is out of range, or ``state_dtype`` is another type; nothing in the model down-samples, its
            channels are last, or it has none of ``params``; at ``step``, a gradient is sparse or complex. In a forward
            pass in training mode, the model calls other functions, or a module more or less often, than with
            ``example_input``, so that it is not clear which call is which.

    Example:
        >>> import torch
        >>> from advanced_optimizers import GradientCorrectionOptimizer
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
        Unknown, because the paper's modules are unknown: every formula here is ours. Tensors with fewer than two
        dimensions or fewer than two rows (biases, normalization) are left alone. The weights themselves are not used.
        There is no published number to compare a result with.

    Limitations:
        Memory: two tensors of the size of each corrected gradient (float32 for half-precision gradients), and on the
        CPU one more for the result, kept between steps. With ``state_dtype`` both have half the size. The memory's
        relative error is then :math:`2^{-7.5} / \sqrt{6\,(1 - \rho^2)}` where gradients are noisy and less elsewhere,
        the gradient's :math:`2^{-7.5} / \sqrt{12}`; the noise of the rounding is that of :class:`FEROptimizer`, so
        nobody's random numbers are used and a run that is resumed goes on bit for bit; and a gradient whose squared
        norm is above 3.4e38 counts as not finite. A gradient that is
        not finite is passed on unchanged; it is neither remembered nor used for training. Time: about 12 numbers moved
        per corrected parameter and step, where Adam moves 7; a hundred small operations a step for all tensors of
        similarly many rows, three hundred where it trains; and two depthwise convolutions per hidden state and batch,
        which also wait for the device. Handled
        together, a gradient that is not finite costs its tensor a training, and the last 1000 records wait on the
        device until ``history`` is read. Not seen with a model: down-sampling by ``reshape`` or ``unfold``, by averages
        of tokens (B, length, features), in parts that run only in training mode, and inside reentrant checkpoints that
        are also active in evaluation mode. Hidden states are corrected with the arguments given here, whatever a
        parameter group overrides. ``GradScaler``, closures, gradient accumulation and several groups work;
        ``torch.compile`` leaves the step as it is; sparse and complex gradients are refused. Of tensors that FSDP2
        shards by rows, processes exchange three numbers a row, a fourth where they train, so all must have gradients of
        the same parameters; other ways of sharding, or sharding with a model, are refused.
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
        foreach: bool | None = None,
        state_dtype: torch.dtype | None = None,
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
        self._foreach = foreach if foreach is None else check_bool("foreach", foreach)
        self._state_dtype = check_state_dtype(state_dtype)
        self._begin(Steps())
        self._history: deque[CorrectionRecord] = deque(maxlen=HISTORY)
        self._measured: list[Tensor] = []
        self._hidden: list[HiddenCorrection] = []
        self._watch: Watch | None = None
        self._warned: set[str] = set()
        self._placed: set[Tensor] | None = None
        found = [] if model is None else find_downsampling(model, example_input)
        if model is None and example_input is not None:
            raise ValueError(
                f"example_input is for finding what down-samples in a model, got {_described(example_input)} without "
                "model: pass model too, or neither of them"
            )
        super().__init__(params, base_optimizer, base_optimizer_kwargs, defaults)
        if model is not None:
            self._install(model, found, defaults)

    def _begin(self, steps: Steps) -> None:
        """Starts without anything but what is in the state; ``steps`` are those of its rounding."""
        self._steps = steps
        self._rounded = None if self._state_dtype is None else Rounded(steps)
        self._together = OnDevice(self._foreach, None if self._state_dtype is None else steps)
        self._one_by_one = OneByOne(self._rounded)

    def _install(self, model: nn.Module, found: list[Downsampling], settings: dict[str, Any]) -> None:
        """Puts the corrections of hidden states in their places."""
        own = {p for group in self.param_groups for p in group["params"]}
        if own.isdisjoint(model.parameters()):
            raise ValueError(
                "model must have the parameters that are optimized, but none of params is in this "
                f"{type(model).__name__}"
            )
        self._placed = {each.weight for each in found if each.weight is not None}
        strength = settings["gcode_strength"]
        if strength > 0.0:
            others = [settings[name] for name in ("min_cosine", "predictor_lr", "train_every")]
            self._hidden = [HiddenCorrection(each, strength, *others) for each in found]
            places = [each.place for each in found]
            self._watch = Watch(model, [(p, h.attach) for p, h in zip(places, self._hidden, strict=True)])

    def _check_group(self, group: dict[str, Any]) -> None:
        for name in ("gcw_strength", "gcode_strength", "predictor_lr"):
            group[name] = check_range(name, group[name], low=0.0, high=math.inf, open_high=True)
        decay = check_range("history_decay", group["history_decay"], low=0.0, high=1.0, open_low=True, open_high=True)
        group["history_decay"] = decay
        group["min_cosine"] = check_range("min_cosine", group["min_cosine"], low=0.0, high=1.0)
        group["train_every"] = check_integer("train_every", group["train_every"], low=1)

    # ---- diagnostics, and leaving the model ------------------------------------------------------------------------

    @property
    def history(self) -> list[CorrectionRecord]:
        """One record for each of the last 1000 steps on which the predictors were trained."""
        self._history.extend(self._together.read())
        return list(self._history)

    @property
    def num_extra_parameters(self) -> int:
        """Number of parameters that the correction trains besides the model's own."""
        groups = [(p, group) for group in self.param_groups for p in group["params"]]
        of_tensors = sum(predictor.size for p, group in groups for predictor, _ in self._predictors(p, group))
        return of_tensors + sum(hidden.size for hidden in self._hidden)

    def detach(self) -> None:
        """Removes the hooks from the model; its hidden states' gradients are no longer corrected."""
        if self._watch is not None:
            self._watch.detach()
        self._watch, self._hidden = None, []

    # ---- one step ------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients, and what the corrections of hidden states collected from their backward passes."""
        super().zero_grad(set_to_none)
        for hidden in self._hidden:
            hidden.forget()

    def _update(self) -> None:
        if self._hidden:  # they learn from all samples of a batch
            refuse_per_sample_gradients("GradientCorrectionOptimizer(model=...)", self.param_groups)
        self._measured = []
        super()._update()
        self._steps.advance()
        self._warn_of_hidden_states()
        for loss, gate in (hidden.train() for hidden in self._hidden):
            record = NOTHING_MEASURED._replace(gcode_loss=loss, gcode_gate=gate)
            self._measured.append(torch.tensor([record], dtype=torch.float64))
        self._record()

    def _warn_of_hidden_states(self) -> None:
        missed = [hidden.name for hidden in self._hidden if not hidden.reached]
        if missed:
            self._warn_once(
                "missed",
                f"in this step no gradient came to the hidden states before {', '.join(missed)}, so they are not "
                "corrected: was the model in evaluation mode, compiled, or under activation checkpointing with "
                "use_reentrant=True, or are the layers before frozen?",
            )
        if self._hidden and count_processes() > 1:
            self._warn_once(
                "processes",
                "in several processes, hidden states are corrected as each process's part of the batch suggests, which "
                "is not what the whole batch would: the weights stay equal in all processes, but the run is not that "
                "of one process",
            )

    def _instead_of_sharded(self, grad: Tensor, group: dict[str, Any]) -> str:
        if self._watch is not None:
            return "leave out model, or use DistributedDataParallel"
        return "" if is_by_rows(grad) else "shard by rows, along one dimension of the mesh, as fully_shard does"

    def _warn_once(self, about: str, text: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            warnings.warn(text, stacklevel=8)  # the call of step

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
        corrected = dict(zip(params, grads, strict=True))
        predictors = {p: found for p in params if (found := self._predictors(p, group))}
        together = {p: corrected[p] for p in predictors if self._together.takes(p)}
        corrected |= self._together.correct(together, predictors, group, self)
        others = {p: corrected[p] for p in predictors if p not in together}
        if others:
            if self._rounded is not None:
                self._rounded.begin_step(list(others), [p for each in self.param_groups for p in each["params"]])
            settings = settings_of(group, predictors[next(iter(others))])  # which are the same for all of a group
            new, measured = self._one_by_one.correct(others, settings, self.state, self._output)
            corrected |= new
            self._measured += measured
        return [corrected[p] for p in params]

    def _record(self) -> None:
        if self._together.measured:
            self._together.remember(self._measured)
        elif self._measured:
            self._remember()
        self._measured = []

    def _remember(self) -> None:
        record = CorrectionRecord(*torch.cat(self._measured).nanmean(dim=0).tolist())
        if says_something(record):
            self._history.append(record)

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Memories, predictors, groups, history, and the base optimizer's state under ``"base"``."""
        hidden = [each.state_dict() for each in self._hidden]
        self._together.settle(self.state)
        return {**super().state_dict(), "history": [list(record) for record in self.history], "hidden": hidden}

    def _check_state(self, p: Tensor, state: dict[str, Any]) -> None:
        check_state(p, state, self._state_dtype)

    def _check_extra(self, state_dict: dict[str, Any]) -> None:
        check_extra(state_dict, [hidden.values.shape for hidden in self._hidden])

    def _load_extra(self, state_dict: dict[str, Any]) -> None:
        self._begin(Steps.of(self.state))
        self._history = deque((CorrectionRecord(*values) for values in state_dict.get("history", [])), maxlen=HISTORY)
        for hidden, own in zip(self._hidden, state_dict.get("hidden", []), strict=True):
            hidden.load_state_dict(own)
        for state in (self.state.get(p) for group in self.param_groups for p in group["params"]):
            if state and "seen" in state:
                state["seen"] = state["seen"].cpu()  # read at every step

    def __getstate__(self) -> dict[str, Any]:
        self._together.settle(self.state)
        self._history.extend(self._together.read())
        built_anew = ("_together", "_one_by_one", "_rounded")
        return {name: value for name, value in super().__getstate__().items() if name not in built_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._begin(self._steps)


def _described(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
