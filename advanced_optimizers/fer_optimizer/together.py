"""Gradient-consistency FER on all tensors of one device at once: the number of operations does not depend on theirs.

Of a tensor that is sharded over processes, each handles its own part; only the inner products are those of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advanced_optimizers._flat import KeptSums, Layout, State, precise
from advanced_optimizers._rounding import Noise, round_stochastically
from advanced_optimizers._sharded import like, local, shards_of

# A tensor's hyperparameters: fer_weight, consistency_threshold, memory_size.
Setting = tuple[float, float, int]


class Numbers(NamedTuple):
    """The hyperparameters and what follows from them, (1, tensors) each if nothing else is said."""

    weight: Tensor
    threshold: Tensor
    least: Tensor  # a cosine below this one is corrected: none where the threshold is -1, whatever the rounding
    sigma: Tensor
    rate: Tensor
    unchanged: Tensor  # (2, tensors), the coefficients of gradient and memory
    unweighted: Tensor  # (2, tensors), these without what is weighted
    one: Tensor
    nan: Tensor


class Together:
    """The memories of tensors on one device, with gradients of one precision, in one buffer.

    ``state[p]["memory"]`` is a view of it. A tensor that has no gradient in a step keeps its place.

    Args:
        params: The parameters; all are whole, or all are sharded in the same way.
        state: The optimizer's; a memory that is there is taken over.
        dtype: The precision of the gradients.
        noise: For memories in bfloat16, what they are rounded with; None keeps them in float32 or wider.
    """

    def __init__(
        self,
        params: list[Tensor],
        state: MutableMapping[Tensor, dict[str, Any]],
        dtype: torch.dtype,
        noise: Noise | None = None,
    ) -> None:
        self.params = params
        self._noise = noise
        self._strides = [p.stride() for p in params]
        self._shards = shards_of(params[0])
        self._layout = Layout([local(p) for p in params])
        wide = torch.promote_types(dtype, torch.float32)
        self._work = self._layout.zeros(wide)  # the gradients, which become the corrected ones
        self._memory = self._layout.zeros(wide if noise is None else torch.bfloat16)
        self._largest = torch.finfo(wide if noise is None else torch.float32).max
        self._gradients = self._layout.views(self._work)
        self._narrow = None if dtype == wide else self._layout.zeros(dtype)
        corrected = self._gradients if self._narrow is None else self._layout.views(self._narrow)
        self.corrected = [like(p, part) for p, part in zip(params, corrected, strict=True)]
        self._memories = [like(p, part) for p, part in zip(params, self._layout.views(self._memory), strict=True)]
        states = [state[p] for p in params]
        known = ["memory" in each for each in states]
        for each, memory in zip(states, self._memories, strict=True):
            if "memory" in each:
                local(memory).copy_(local(each["memory"]))
            each["memory"] = memory
            if noise is not None:
                each["rounding"] = noise.power
        self._known = torch.tensor([known], device=self._layout.device)
        self._all_known = all(known)
        # What there is one of for each tensor is written in place, so that its rows need not be taken apart in a step.
        self._sums = KeptSums(self._layout, 3, wide)
        self._squares = self._sums.of_blocks[:2]
        self._of_work, self._of_memory, self._inner = self._sums.of_blocks.unbind()
        self._products = self._sums.of_tensors.split(1)
        self._relative = torch.zeros_like(self._sums.of_tensors)
        self._of_relative = self._relative.split(1)
        self._directions = torch.zeros_like(self._relative[:2])
        self._of_directions = self._directions.split(1)
        self._moves = torch.zeros_like(self._relative)
        self._coefficients, self._rates = self._moves.split([2, 1])
        self._of_blocks = torch.zeros_like(self._sums.of_blocks)
        self._each_block = self._of_blocks.unsqueeze(2).unbind()
        self._arithmetic: Callable[[], Tensor] = self._correct
        self._settings: list[Setting] = []
        self._numbers: Numbers
        self._here: list[bool] = []
        self._is_here: Tensor | None = None

    def has_changed(self, state: State) -> bool:
        """Whether a parameter has another layout, or its memory was replaced, as loading and copying do."""
        return any(
            p.stride() != stride or state.get(p, {}).get("memory") is not memory
            for p, stride, memory in zip(self.params, self._strides, self._memories, strict=True)
        )

    def settle(self, state: State) -> None:
        """Takes the memories of tensors without a finite gradient so far out of their state; waits for the device."""
        if self._all_known:
            return
        known = self._known[0].tolist()
        for p, memory, is_known in zip(self.params, self._memories, known, strict=True):
            if not is_known and state.get(p, {}).get("memory") is memory:
                del state[p]["memory"]
                state[p].pop("rounding", None)
        self._all_known = all(known)

    def compile(self, options: dict[str, Any]) -> None:
        """Compiles the arithmetic with ``torch.compile``, unless processes exchange sums in the middle of it."""
        if self._shards is None:
            self._arithmetic = torch.compile(self._correct, dynamic=False, **options)

    def step(self, grads: dict[int, Tensor], settings: list[Setting]) -> Tensor:
        """Corrects the gradients into :attr:`corrected`, then moves the memories.

        Args:
            grads: The gradients by the ``id`` of their parameter, of all parameters or some.
            settings: The hyperparameters of each parameter.

        Returns:
            (1, tensors), the cosines; NaN where there was nothing to compare.
        """
        self._use(settings)
        here = [id(p) in grads for p in self.params]
        if here != self._here:
            self._here = here
            self._is_here = None if all(here) else torch.tensor([here], device=self._layout.device)
        into = [gradient for gradient, is_here in zip(self._gradients, here, strict=True) if is_here]
        torch._foreach_copy_(into, [local(grads[id(p)]) for p in self.params if id(p) in grads])
        if self._noise is not None:
            self._noise.draw()
        return self._arithmetic()

    def _use(self, settings: list[Setting]) -> None:
        if settings == self._settings:
            return
        weights, thresholds, sizes = zip(*settings, strict=True)
        least = [t if t > -1.0 else -math.inf for t in thresholds]
        sigmas = [math.sqrt(1.0 - t * t) for t in thresholds]
        rows = [weights, thresholds, least, sigmas, [1.0 / size for size in sizes]]
        numbers = torch.tensor(rows, dtype=torch.float64).to(precise(self._layout.device)).to(self._layout.device)
        weight, threshold, least, sigma, rate = numbers.split(1)
        one, zero = torch.ones_like(weight), torch.zeros_like(weight)
        self._settings = settings
        unchanged, unweighted = torch.cat([one, zero]), torch.cat([1.0 - weight, zero])
        self._numbers = Numbers(
            weight, threshold, least, sigma, rate, unchanged, unweighted, one, torch.full_like(one, math.nan)
        )

    def _correct(self) -> Tensor:
        n, work = self._numbers, self._work
        memory = self._memory.to(work.dtype)  # itself, unless it is kept in bfloat16
        self._multiply(work, memory)
        gg, mm, _ = self._products
        finite = gg <= self._largest
        if self._is_here is not None:
            finite &= self._is_here
        r = torch.where(finite, (gg * mm).rsqrt(), n.nan)
        torch.mul(self._sums.of_tensors, r, out=self._relative)
        ratio, _, c = self._of_relative
        # The formula of consistency_correction, with u = sigma / s and v = w rho. At s = 0, u is 0 too.
        squared = torch.addcmul(n.one, c, c, value=-1.0)
        u, of_memory = self._of_directions
        torch.mul(n.sigma, torch.threshold(squared, 8.0 * torch.finfo(work.dtype).eps, math.inf).rsqrt(), out=u)
        v = n.weight * torch.addcmul(n.threshold * c, u, squared).relu()
        torch.mul(torch.addcmul(n.threshold, u, c, value=-1.0), ratio, out=of_memory)
        corrected = torch.addcmul(n.unweighted, v, self._directions)
        torch.where(c < n.least, corrected, n.unchanged, out=self._coefficients)
        torch.where(self._known, n.rate, n.one, out=self._rates).mul_(finite)  # the first gradient becomes the memory
        self._known.logical_or_(finite)
        self._layout.spread_into(self._of_blocks, self._moves.to(work.dtype))
        a, b, t = self._each_block
        entering = work.nan_to_num(0.0, 0.0, 0.0)  # what is not finite enters at a rate of 0
        work.mul_(a).addcmul_(memory, b)
        memory.lerp_(entering, t)
        del entering  # makes room for the noise
        if self._noise is not None:
            memory = memory.float()
            round_stochastically(memory, self._noise.of_all())
            self._memory.copy_(memory)
        if self._narrow is not None:
            self._narrow.copy_(work)
        return c

    def _multiply(self, work: Tensor, memory: Tensor) -> None:
        """Squared norms and inner product of gradient and memory, of whole tensors."""
        torch.linalg.vector_norm(work, dim=1, out=self._of_work)
        torch.linalg.vector_norm(memory, dim=1, out=self._of_memory)
        self._squares.square_()
        torch.sum(work * memory, dim=1, out=self._inner)
        self._sums()
        if self._shards is not None:
            self._shards.add_up(self._sums.of_tensors)
