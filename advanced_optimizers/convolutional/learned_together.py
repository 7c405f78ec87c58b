"""Learning of all kernels of a device at once, from inner products that are sums over parts of one buffer."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advanced_optimizers._flat import precise
from advanced_optimizers._rounding import Noise, round_stochastically
from advanced_optimizers._sharded import like, local
from advanced_optimizers.convolutional.learning import Products, Weights, learned
from advanced_optimizers.convolutional.together import Member, Together

States = MutableMapping[Tensor, dict[str, Any]]


class Rule(NamedTuple):
    """How the kernels of a parameter group learn.

    Attributes:
        lr: Their step, > 0.
        weights: Of the terms of their loss.
        min_gain: See :func:`with_least_gain`.
        every: They learn from every gradient of that number.
        through_normalization: See :func:`learned`.
        decay: What remains of the average of past gradients after a step; None if there is none.
    """

    lr: float
    weights: Weights
    min_gain: float
    every: int
    through_normalization: bool
    decay: float | None


class LearnedTogether(Together):
    """Tensors with kernels of their own, and with averages of their past gradients if a rule has them.

    ``state[p]`` has views of what is kept of a parameter.

    Args:
        members: As for :class:`Together`, as the next two.
        dtype: See there.
        radius: See there.
        kernels: The kernels of each, (axes, r + 1).
        state: The optimizer's; what is there is taken over.
        has_average: Whether averages are kept.
        noise: What averages in bfloat16 are rounded with; None keeps them in float32 or better.
    """

    def __init__(
        self,
        members: Sequence[Member],
        dtype: torch.dtype,
        radius: int,
        kernels: Sequence[Tensor],
        state: States,
        has_average: bool,
        noise: Noise | None = None,
    ) -> None:
        super().__init__(members, dtype, radius)
        self._noise = noise
        self.kernels = torch.stack(list(kernels))
        wide = precise(self._layout.device)
        self._numbers = torch.tensor([p.numel() for p in self.params]).to(self._layout.device, wide)
        kept: dict[str, Tensor | Sequence[Tensor]] = {"kernel": self.kernels}
        self._counts = [int(state[p].get("seen", 0)) for p in self.params]
        self._seen = torch.tensor(self._counts)
        kept["seen"] = self._seen
        self._signal, self._power = None, self.kernels.new_zeros(len(members))
        if has_average:
            self._signal = self._layout.zeros(self._work.dtype if noise is None else torch.bfloat16)
            views = self._layout.views(self._signal)
            kept["signal"] = [like(p, view) for p, view in zip(self.params, views, strict=True)]
            kept["power"] = self._power
        if noise is not None:
            kept["rounding"] = [noise.power] * len(members)
        self._kept = [{name: values[i] for name, values in kept.items()} for i in range(len(members))]
        self._has_average = ["signal" in state[p] for p in self.params]
        for p, own, shared in zip(self.params, self._kept, self._shared, strict=True):
            for name in own.keys() & state[p].keys():
                local(own[name]).copy_(local(state[p][name]))
                shared[name] = state[p][name] = own[name]

    # ---- one step ------------------------------------------------------------------------------------------------

    def step_and_learn(
        self, grads: dict[Tensor, Tensor], keep_length: bool, rule: Rule | None, state: States
    ) -> Tensor | None:
        """Smooths gradients into :attr:`smoothed`, then the kernels of those learn, if there is a rule.

        Returns:
            The losses of the kernels of all tensors before that, NaN where there is none; None if it isn't time.
        """
        x = self._taken(grads)
        y = self._smooth(x, self.kernels, keep_length)
        losses = None
        if rule is not None:
            here = [p in grads for p in self.params]
            due = self._count(here, rule.every)
            losses = self._learn(x, due, rule) if any(due) else None
            if self._signal is not None and rule.decay is not None:
                self._average(x, self._signal, here, rule.decay)
            self._share(here, state)
        self._give(y)
        return losses

    def _count(self, here: list[bool], every: int) -> list[bool]:
        """Counts the gradients, and says from which tensors' kernels learn."""
        self._seen.add_(1 if all(here) else torch.tensor(here))
        self._counts = [count + is_here for count, is_here in zip(self._counts, here, strict=True)]
        return [is_here and count % every == 0 for count, is_here in zip(self._counts, here, strict=True)]

    def _share(self, here: list[bool], state: States) -> None:
        """Puts what is kept of a tensor into its state once it has had a gradient."""
        for p, is_here, own, shared in zip(self.params, here, self._kept, self._shared, strict=True):
            if is_here and not own.keys() <= shared.keys():
                state[p].update(own)
                shared.update(own)

    def _learn(self, x: Tensor, due: list[bool], rule: Rule) -> Tensor:
        is_due = torch.tensor(due, device=x.device) if not all(due) else None
        if self._signal is not None:
            self._forget(self._signal, is_due)
        products = self._products(x, self._signal if rule.weights.signal else None)
        theta = self.kernels.flatten(0, 1)
        new, losses = learned(theta, products, rule.weights, rule.lr, rule.min_gain, rule.through_normalization)
        if is_due is not None:
            of_rows = is_due[:, None].expand(-1, self.axes).flatten()
            new = torch.where(of_rows[:, None], new, theta)
            losses = losses.masked_fill(~of_rows, torch.nan)
        self.kernels.copy_(new.view_as(self.kernels))
        if self._signal is not None and rule.decay is not None:
            self._remember_power(products.gradient[:: self.axes], is_due, rule.decay)
        return losses

    def _products(self, x: Tensor, signal: Tensor | None) -> Products:
        r"""The inner products of all tensors, whose axes are the rows.

        Of :math:`a_j = \langle x, B_j x\rangle` those beyond r follow from :math:`B_r B_n = B_{r+n} + B_{r-n}`.
        """
        of_axes = [self._along(axis, x, signal) for axis in range(self.axes)]
        common = [_inner(x, x), x.sum(dim=1)] + ([] if signal is None else [_inner(signal, signal.to(x.dtype))])
        sums = self._summed(torch.stack([*(row for rows in of_axes for row in rows), *common]).to(self._numbers.dtype))
        *of_axes_, of_all = sums.split([*(len(rows) for rows in of_axes), len(common)])
        radius = self.kernels.shape[2] - 1
        auto, with_gradient, with_signal = [], [], []
        for rows in of_axes_:
            near, squares, others = rows.split([radius + 1, radius, len(rows) - 2 * radius - 1])
            doubled = torch.cat([2.0 * near[:1], near[1:]])
            auto.append(torch.cat([near, squares - doubled[:-1].flip(0)]))
            of_gradient = near if self.axes == 1 else others[: radius + 1]
            with_gradient.append(of_gradient)
            with_signal.append(torch.zeros_like(of_gradient) if signal is None else others[-radius - 1 :])
        gg, total = of_all[:2]
        mean = total.square() / (self._numbers * gg)
        ss = torch.zeros_like(gg) if signal is None else of_all[2]
        in_rows = (torch.stack(each, dim=2).flatten(1).t() for each in (auto, with_gradient, with_signal))
        repeated = torch.stack([gg, ss, mean])[..., None].expand(-1, -1, self.axes).flatten(1)
        return Products(*(each.to(self.kernels.dtype) for each in (*in_rows, *repeated)))

    def _along(self, axis: int, g: Tensor, signal: Tensor | None) -> list[Tensor]:
        """The inner products of each block along one axis, as :meth:`_products` reads them."""
        x = g if self.axes == 1 else self._lines[1 - axis].smooth(g, self.kernels[:, 1 - axis])
        seen = [x, *self._lines[axis].neighbors(x)]
        pairs = [(x, each) for each in seen] + [(seen[-1], each) for each in seen[1:]]
        pairs += [] if self.axes == 1 else [(g, each) for each in seen]
        pairs += [] if signal is None else [(signal, each) for each in seen]
        return [_inner(a, b) for a, b in pairs]

    # ---- averages ------------------------------------------------------------------------------------------------

    def _forget(self, signal: Tensor, is_due: Tensor | None) -> None:
        """Takes what is not finite out of the averages of tensors whose kernels learn."""
        if is_due is None:
            signal.nan_to_num_(0.0, 0.0, 0.0)
            return
        (of_blocks,) = self._layout.spread(is_due[None])
        signal.copy_(torch.where(of_blocks, signal.nan_to_num(0.0, 0.0, 0.0), signal))

    def _remember_power(self, squares: Tensor, is_due: Tensor | None, decay: float) -> None:
        """The average of |g|^2 over the gradients that kernels learned from."""
        averaged = torch.where(self._power > 0.0, self._power.lerp(squares, 1.0 - decay), squares)
        counts = squares.isfinite() if is_due is None else squares.isfinite() & is_due
        self._power.copy_(torch.where(counts, averaged, self._power))

    def _average(self, x: Tensor, signal: Tensor, here: list[bool], decay: float) -> None:
        """Adds gradients to their averages; the first one is the average."""
        average = signal.to(x.dtype)  # itself, unless it is kept in bfloat16
        if all(here) and all(self._has_average):
            average.lerp_(x, 1.0 - decay)
        else:
            kinds = [
                (1.0 - decay if has else 1.0) if is_here else 0.0
                for has, is_here in zip(self._has_average, here, strict=True)
            ]
            (rate,) = self._layout.spread(torch.tensor([kinds], dtype=x.dtype, device=x.device))
            average = torch.where(rate == 1.0, x, torch.where(rate == 0.0, average, average.lerp(x, rate)))
            self._has_average = [has or is_here for has, is_here in zip(self._has_average, here, strict=True)]
        if self._noise is not None:
            self._noise.draw()
            average = average.float()
            round_stochastically(average, self._noise.of_all())
        if average is not signal:
            signal.copy_(average)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each block, (blocks,)."""
    return (a * b).sum(dim=1)
