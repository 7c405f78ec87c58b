"""FER as gradient consistency, the coursework's method: gradients are pulled toward the average of past ones."""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._base import BaseOptimizer, GradientTransform, ParamsT, Part, check_shape
from advanced_optimizers._checks import check_bool, check_integer, check_iterable, check_range
from advanced_optimizers._flat import Gathered, Ring, precise, runs_together
from advanced_optimizers._rounding import Noise, Rounded, Steps, check_rounding, check_state_dtype
from advanced_optimizers._sharded import shards_of
from advanced_optimizers.fer_optimizer.formula import consistency_correction
from advanced_optimizers.fer_optimizer.products import as_numbers, combine, inner_products
from advanced_optimizers.fer_optimizer.together import Setting, Together

__all__ = ["FEROptimizer", "create_fer_optimizer"]

# How many steps' cosines wait on a device until somebody asks for the history.
HISTORY = 1000


class FEROptimizer(GradientTransform):
    r"""Gradient-consistency FER, the coursework's: pulls a gradient that disagrees with past ones toward their average.

    For each parameter tensor, with gradient :math:`g_t`, memory :math:`m_{t-1}`, weight :math:`w` (``fer_weight``),
    threshold :math:`\tau` (``consistency_threshold``) and horizon :math:`H` (``memory_size``):

    .. math::
        c_t &= \cos(g_t, m_{t-1}) \\
        g'_t &= g_t \text{ if } c_t \ge \tau, \text{ else } g_t + w\,(P(g_t) - g_t) \\
        m_t &= (1 - 1/H)\, m_{t-1} + (1/H)\, g_t, \qquad m_1 = g_1 \\
        \theta_{t+1} &= \text{base}(\theta_t, g'_t)

    where :math:`P` projects onto the cone of consistent gradients
    :math:`C = \{v : \langle v, m_{t-1} \rangle \ge \tau \lVert v \rVert \lVert m_{t-1} \rVert\}`.

    **Where the correction comes from.** The coursework asks for :math:`L_{FER} = L + w\,R_{consistency}` and does not
    define :math:`R`. We define it as half the squared distance between the displacement of one plain unit step and the
    cone of consistent displacements, as seen from the current point :math:`\theta_t`, with :math:`g_t` and :math:`m`
    held constant:

    .. math::
        R(\theta) = \tfrac{1}{2} \operatorname{dist}^2\big(\theta_t - (\theta - g_t),\; C\big)

    The gradient of half a squared distance :math:`\tfrac12 \operatorname{dist}^2(v, C)` is :math:`v - P(v)`, and
    :math:`v = \theta_t - \theta + g_t` has derivative :math:`-1`, so :math:`\nabla R(\theta_t) = P(g_t) - g_t` and
    :math:`\nabla L_{FER}(\theta_t) = g_t + w\,(P(g_t) - g_t)`, which is :math:`g'_t`. :math:`R` needs no second
    derivatives, it is zero for a consistent gradient, and its gradient is continuous at :math:`c_t = \tau`. For
    :math:`w \le 1`, :math:`\langle g', g \rangle \ge (1 - w) \lVert g \rVert^2`, so :math:`-g'` remains a
    descent direction.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts; groups may override each hyperparameter.
        base_optimizer: An ``Optimizer`` class, or a function ``(params, **kwargs) -> Optimizer``; another transform
            works too. Default Adam.
        base_optimizer_kwargs: Passed to it. Default ``{"lr": 1e-3}``. On the CPU Adam and AdamW are built with
            ``fused=True`` unless ``fused``, ``foreach`` or ``differentiable`` is given.
        fer_weight: :math:`w \ge 0`. With 0 this is the base optimizer; 1 replaces an inconsistent gradient with its
            projection.
        consistency_threshold: :math:`\tau` in [-1, 1], a cosine. With -1 this is the base optimizer. The cosine between
            a small batch's gradient and the average is rarely above 0.5, so at the default 0.9 nearly every step is
            corrected.
        memory_size: :math:`H \ge 1`, in steps; 1 compares with the previous gradient only. Also the number of values
            that ``consistency_history`` keeps.
        foreach: Whether all tensors on a device are handled together: about 40 operations a step however many tensors
            there are, none of which waits for the device. Default: everywhere but on the CPU, where one tensor after
            the other is faster. Both give the same up to rounding. Sharded tensors (FSDP2) are handled together in any
            case. (The base optimizer's own ``foreach`` belongs in ``base_optimizer_kwargs``.)
        state_dtype: ``torch.bfloat16`` keeps the memory in half the space, rounded stochastically: with 1000 as
            ``memory_size`` its numbers have relative errors of up to about 5% with mean 0, and cosines with it are
            smaller by 0.1%. float16 is refused, since it has no numbers below 6e-8. None, the default, keeps the memory
            in float32, or float64 for float64 gradients.

    Raises:
        TypeError: ``base_optimizer`` is not an optimizer, or a value has the wrong type.
        ValueError: A value is out of range, or ``state_dtype`` is another type; at ``step``, a gradient is sparse or
            complex, or sharded in another way than its parameter.

    Example:
        >>> import torch
        >>> from advanced_optimizers import FEROptimizer
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = FEROptimizer(model.parameters(), torch.optim.Adam, {"lr": 1e-3}, fer_weight=0.1)
        >>> model(torch.ones(8, 4)).square().mean().backward()
        >>> optimizer.step()

    References:
        The coursework's description (gradient memory, cosine, threshold, weight). No paper describes this method. The
        published method of the same name is :class:`FlippingErrorReduction`.

    Departures from the coursework:
        The memory is an exponential average with a horizon of ``memory_size`` steps, rather than that many stored
        gradients. The form of :math:`R` and the comparison tensor by tensor are ours.

    Limitations:
        Memory: one tensor of the size of each gradient (float32 for half-precision gradients), and one more for the
        corrected gradient, kept between steps where tensors are handled together or on the CPU. Together, each tensor's
        part is rounded up to 16 KiB, of its cosines the last 1000 steps wait until ``consistency_history`` is read, and
        a step can be captured in a CUDA graph if the base optimizer is ``capturable``. With ``state_dtype`` the memory
        has half the size, and its relative error is :math:`\sqrt{H / 12} \cdot 2^{-7.5}` where gradients are noisy and
        less elsewhere. The noise of the rounding follows from the step, the place of a parameter among all and its
        layout alone: nobody's random numbers are used, and a run that is resumed goes on bit for bit. A gradient whose
        squared norm is above 3.4e38 then counts as not finite.
        A gradient that is not finite is passed on unchanged and does not enter the memory. ``GradScaler``, closures,
        gradient accumulation and several groups work; sparse and complex gradients are refused. Sharded tensors (FSDP2)
        are compared as wholes: processes add up three numbers of each tensor, in one exchange for each way of sharding,
        so all must have gradients of the same parameters.
        ``torch.distributed.checkpoint.state_dict`` keeps all but ``consistency_history``, which then starts empty.
    """

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: BaseOptimizer = torch.optim.Adam,
        base_optimizer_kwargs: dict[str, Any] | None = None,
        fer_weight: float = 0.1,
        consistency_threshold: float = 0.9,
        memory_size: int = 1000,
        *,
        foreach: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        defaults = {
            "fer_weight": fer_weight,
            "consistency_threshold": consistency_threshold,
            "memory_size": memory_size,
        }
        self._check_group(defaults)
        self._foreach = foreach if foreach is None else check_bool("foreach", foreach)
        self._state_dtype = check_state_dtype(state_dtype)
        # The squared length of a gradient that is finite, and stays so in what the memory is rounded from.
        self._largest = sys.float_info.max if self._state_dtype is None else torch.finfo(torch.float32).max
        self._steps = Steps()
        self._rounded = Rounded(self._steps)
        self._compiling: dict[str, Any] | None = None
        self._together: Gathered[Together] = Gathered()
        self._rings: list[Ring] = []  # one, once tensors were handled together
        self._cosines: list[float] = []
        self._cosines_together: list[Tensor] = []
        self._history: deque[float] = deque(maxlen=check_integer("memory_size", memory_size, low=1))
        if base_optimizer_kwargs is None:
            base_optimizer_kwargs = {"lr": 1e-3}
        super().__init__(params, base_optimizer, base_optimizer_kwargs, defaults)

    def _check_group(self, group: dict[str, Any]) -> None:
        check_range("fer_weight", group["fer_weight"], low=0.0, high=math.inf, open_high=True)
        check_range("consistency_threshold", group["consistency_threshold"], low=-1.0, high=1.0)
        check_integer("memory_size", group["memory_size"], low=1)

    def _instead_of_sharded(self, grad: Tensor, group: dict[str, Any]) -> str:
        return ""

    @property
    def consistency_history(self) -> list[float]:
        """The cosine between gradient and memory, averaged over the tensors, for the last ``memory_size`` steps.

        The first step adds no value, since there is nothing to compare with, and neither does a step in which every
        gradient is zero.
        """
        self._read_rings()
        return list(self._history)

    @property
    def tensor_cosines(self) -> list[float]:
        """The cosine between gradient and memory for each tensor of the last step; NaN where one of them is zero.

        Tensors that are handled together come first, and have NaN too where there was nothing to compare with.
        """
        return [c for each in self._cosines_together for c in each[0].clamp(-1.0, 1.0).tolist()] + self._cosines

    def _update(self) -> None:
        self._cosines, self._cosines_together = [], []
        super()._update()
        self._steps.advance()
        if self._cosines_together:
            self._remember_together()
            return
        known = [c for c in self._cosines if not math.isnan(c)]
        if known:
            self._history.append(sum(known) / len(known))

    def compile(self, **options: Any) -> None:
        """Compiles what is done with tensors that are handled together (``foreach``): far fewer passes over memory.

        ``torch.compile`` of :meth:`step`, or of a function that calls it, leaves the step as it is: one graph break,
        and nothing to compile again.

        Args:
            **options: Passed to ``torch.compile``.
        """
        self._settle()
        self._compiling, self._together = options, Gathered()

    # ---- all tensors of a device together ------------------------------------------------------------------------

    def _transform_all(self, parts: list[Part]) -> list[list[Tensor]]:
        # By id: a tensor's own hash takes several times as long.
        together: dict[object, dict[int, tuple[Tensor, Tensor]]] = {}
        for p, grad in (pair for part in parts for pair in zip(part.params, part.grads, strict=True)):
            shards = shards_of(p)
            if shards is not None or runs_together(self._foreach, p.device):
                together.setdefault((p.device, grad.dtype, shards), {})[id(p)] = p, grad
        if not together and self._state_dtype is None:
            return super()._transform_all(parts)
        corrected: dict[int, Tensor] = {}
        for key, pairs in together.items():
            corrected |= self._correct_together(key, pairs)
        others = [[each for each in zip(*part[:2], strict=True) if id(each[0]) not in corrected] for part in parts]
        if self._state_dtype is not None:
            order = [p for group in self.param_groups for p in group["params"]]
            self._rounded.begin_step([p for left in others for p, _ in left], order)
        for part, left in zip(parts, others, strict=True):
            if left:
                params, grads = [p for p, _ in left], [grad for _, grad in left]
                corrected.update(zip(map(id, params), self._transform(params, grads, part.group), strict=True))
        return [[corrected[id(p)] for p in part.params] for part in parts]

    def _correct_together(self, key: object, pairs: dict[int, tuple[Tensor, Tensor]]) -> dict[int, Tensor]:
        params = [p for p, _ in pairs.values()]
        order = [p for group in self.param_groups for p in group["params"]]

        def build(params: list[Tensor]) -> list[Together]:
            noise = None if self._state_dtype is None else Noise(params, order, self._steps)
            _, grad = next(iter(pairs.values()))
            together = Together(params, self.state, grad.dtype, noise)
            if self._compiling is not None:
                together.compile(self._compiling)
            return [together]

        (found,) = self._together.find(key, params, self.state, order, build)
        settings: dict[int, Setting] = {}
        for group in self.param_groups:
            settings |= dict.fromkeys(map(id, group["params"]), _setting(group))
        grads = {of_p: grad for of_p, (_, grad) in pairs.items()}
        self._cosines_together.append(found.step(grads, [settings[id(p)] for p in found.params]))
        corrected = zip(map(id, found.params), found.corrected, strict=True)
        return {of_p: each for of_p, each in corrected if of_p in grads}

    def _remember_together(self) -> None:
        """Keeps the step's cosines where they are; whoever asks for the history waits for the device."""
        device = self._cosines_together[0].device
        rows = [each.to(device) for each in self._cosines_together]
        if self._cosines:
            rows.append(torch.tensor([self._cosines], dtype=rows[0].dtype, device=device))
        row = torch.cat(rows, dim=1) if len(rows) > 1 else rows[0]
        if not self._rings or self._rings[0].width != row.shape[1]:
            self._read_rings()
            self._rings = [Ring(row.shape[1], HISTORY, precise(device), device)]
        self._rings[0].append(row)

    def _read_rings(self) -> None:
        for ring in self._rings:
            self._history.extend(ring.take().clamp(-1.0, 1.0).nanmean(dim=1).tolist())

    def _settle(self) -> None:
        """Brings everything into the state that is saved and copied."""
        self._read_rings()
        self._together.settle(self.state)

    # ---- one tensor at a time ------------------------------------------------------------------------------------

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        corrected: dict[Tensor, Tensor] = {}
        for chunk in _chunks(params, grads):
            memories = [self._memory(p, grad) for p, grad in chunk]
            pairs = zip(chunk, memories, strict=True)
            products = [inner_products(_wide(grad), memory) for (_, grad), memory in pairs]
            for (p, grad), memory, (gm, gg, mm) in zip(chunk, memories, as_numbers(products), strict=True):
                corrected[p] = self._correct(p, grad, memory, gm, gg, mm, group)
        return [corrected[p] for p in params]

    def _memory(self, p: Tensor, grad: Tensor) -> Tensor | None:
        memory = self.state[p].get("memory")
        if self._state_dtype is None or memory is None:
            return memory
        return self._rounded.read(memory, _memory_dtype(grad))

    def _keep(self, p: Tensor, memory: Tensor) -> None:
        if self._state_dtype is None:
            self.state[p]["memory"] = memory
        else:
            self._rounded.keep(self.state[p], "memory", memory, p)

    def _correct(
        self, p: Tensor, grad: Tensor, memory: Tensor | None, gm: float, gg: float, mm: float, group: dict[str, Any]
    ) -> Tensor:
        if not gg <= self._largest:
            return grad
        if memory is None:
            self._keep(p, grad.to(_memory_dtype(grad), copy=True))
            return grad
        correction = consistency_correction(
            gm, gg, mm, group["fer_weight"], group["consistency_threshold"], torch.finfo(memory.dtype).eps
        )
        self._cosines.append(correction.cosine)
        corrected = grad
        g = grad if grad.dtype == memory.dtype else grad.to(memory.dtype)
        if correction.gradient != 1.0 or correction.memory != 0.0:
            corrected = self._output(p, grad)
            wide = corrected if g is grad else torch.empty_like(memory)
            combine(g, correction.gradient, memory, correction.memory, out=wide)
            if wide is not corrected:
                corrected.copy_(wide)
        memory.lerp_(g, 1.0 / group["memory_size"])
        self._keep(p, memory)
        return corrected

    def state_dict(self) -> dict[str, Any]:
        """The memory, the groups, the consistency history, and the base optimizer's state under ``"base"``."""
        self._settle()
        return {**super().state_dict(), "consistency_history": self.consistency_history}

    def _check_state(self, p: Tensor, state: dict[str, Any]) -> None:
        if state.keys() - {"memory", "rounding"}:
            raise ValueError(
                f"FEROptimizer keeps a 'memory' of each parameter, and 'rounding' with state_dtype, got "
                f"{sorted(map(str, state))}"
            )
        check_rounding(state, self._state_dtype)
        if "memory" in state:
            check_shape("memory", state["memory"], p.shape)
            state["memory"] = state["memory"].to(self._state_dtype or _memory_dtype(p))

    def _check_extra(self, state_dict: dict[str, Any]) -> None:
        for value in check_iterable("consistency_history", state_dict.get("consistency_history", []), "cosines"):
            check_range("consistency_history", value)

    def _load_extra(self, state_dict: dict[str, Any]) -> None:
        self._together, self._rings = Gathered(), []
        self._steps = Steps.of(self.state)
        self._rounded = Rounded(self._steps)
        size = max(group["memory_size"] for group in self.param_groups)
        self._history = deque(state_dict.get("consistency_history", []), maxlen=size)

    # ---- copies --------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        built_anew = ("_together", "_rings", "_cosines_together", "_rounded")
        return {name: value for name, value in super().__getstate__().items() if name not in built_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._together, self._rings, self._cosines_together = Gathered(), [], []
        self._rounded = Rounded(self._steps)


def create_fer_optimizer(
    params: ParamsT, lr: float = 1e-3, fer_weight: float = 0.1, consistency_threshold: float = 0.9
) -> FEROptimizer:
    """Gradient-consistency FER over Adam.

    Args:
        params: As for :class:`FEROptimizer`.
        lr: Adam's learning rate, >= 0.
        fer_weight: See :class:`FEROptimizer`.
        consistency_threshold: See :class:`FEROptimizer`.

    Raises:
        ValueError: A value is out of range.
    """
    return FEROptimizer(
        params, torch.optim.Adam, {"lr": lr}, fer_weight=fer_weight, consistency_threshold=consistency_threshold
    )


def _setting(group: dict[str, Any]) -> Setting:
    return group["fer_weight"], group["consistency_threshold"], group["memory_size"]


def _chunks(params: list[Tensor], grads: list[Tensor]) -> list[list[tuple[Tensor, Tensor]]]:
    # On the CPU one tensor at a time, so that it is still in the cache for the later passes; elsewhere all tensors of a
    # device together, so that there is one device sync.
    chunks: dict[object, list[tuple[Tensor, Tensor]]] = {}
    for p, grad in zip(params, grads, strict=True):
        key = p if p.device.type == "cpu" else p.device
        chunks.setdefault(key, []).append((p, grad))
    return list(chunks.values())


def _memory_dtype(grad: Tensor) -> torch.dtype:
    # In half precision, adding 1/H of a gradient would be lost to rounding.
    return torch.promote_types(grad.dtype, torch.float32)


def _wide(grad: Tensor) -> Tensor:
    dtype = _memory_dtype(grad)
    return grad if grad.dtype == dtype else grad.to(dtype)  # a call that changes nothing costs as much as a dot product
