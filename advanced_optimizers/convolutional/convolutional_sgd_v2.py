"""Version 2: kernels along both axes of each matrix, learned toward the average of past gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._base import BaseOptimizer, ParamsT
from advanced_optimizers._checks import check_range
from advanced_optimizers._rounding import Noise, Rounded, Steps, check_rounding, check_state_dtype
from advanced_optimizers._sharded import whole
from advanced_optimizers.convolutional.arguments import LR, MOMENTUM
from advanced_optimizers.convolutional.learned import _LearnedSmoothing
from advanced_optimizers.convolutional.learning import Products, Weights
from advanced_optimizers.convolutional.transform import Smoothed


class ConvolutionalSGDv2(_LearnedSmoothing):
    r"""SGD with gradients that learned kernels smooth along two axes: of a matrix, or of a convolution's filters.

    For each parameter of two dimensions or more, with gradient g and the average s of the gradients before it:

    .. math::
        y &= W_{row}\, W_{column}\, g, \qquad m \leftarrow \mu\, m + y, \qquad p \leftarrow p - \eta\, m \\
        L &= -\cos(g, y) + \lambda\, \mathrm{Var}(y) / \mathrm{Var}(g) - \rho\, \cos(s, y) \\
        s &\leftarrow \beta\, s + (1 - \beta)\, g, \qquad s_1 = g_1

    On every ``kernel_every``-th gradient each axis' kernel makes one step of gradient descent on L, the other axis'
    kernel held; then its taps are made non-negative, of sum 1, and, by the least blend with the identity, of a
    transform of at least ``min_gain`` at all frequencies, which keeps :math:`\langle g, Wg \rangle > 0` for every g.
    The present gradient acts on the kernels of the next step. The gradient of L is computed in closed form from a few
    inner products (:mod:`advanced_optimizers.convolutional.learning`).

    **Axes.** In ``Linear``, rows are output units and columns inputs. In a convolution, the height and width of its
    filters: the only weights there with real neighbors. In ``Conv1d`` the width alone. Filters of one element, biases
    and the weights of normalization have no neighbors and are left as they are.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts; groups may override each hyperparameter.
        lr: :math:`\eta \ge 0`, of SGD.
        momentum: :math:`\mu` in [0, 1), of SGD. The gradient is smoothed before it enters the momentum.
        kernel_size: The number of taps k along each axis, odd; 1 is plain SGD.
        kernel_lr: The step of the kernels, >= 0; with 0 they stay where they start.
        noise_estimation_momentum: :math:`\beta` in [0, 1), what remains of the average after a step.
        kernel_every: The kernels learn from every ``kernel_every``-th gradient, >= 1.
        smoothness_weight: :math:`\lambda \ge 0`, what the variance weighs.
        signal_weight: :math:`\rho \ge 0`, what the average weighs; with 0 it is kept for :meth:`get_stats` alone.
        kernel: See :class:`ConvolutionalSGD`, as for all further arguments. Default Gaussian.
        axes: See there. Default both.
        min_gain: See there.
        norm_preserving: See there.
        permute_axes: See there.
        base_optimizer: See there.
        base_optimizer_kwargs: See there.
        foreach: See there.
        state_dtype: ``torch.bfloat16`` keeps the average in half the space, rounded stochastically: with 0.99 as
            ``noise_estimation_momentum`` its numbers have relative errors of about 1.6% with mean 0. Kernels learn in
            float32 as without it. float16 is refused, since it has no numbers below 6e-8. None, the default, keeps the
            average in float32, or float64 for float64 gradients.

    Raises:
        TypeError: A value is of the wrong kind.
        ValueError: A value is out of range, or ``state_dtype`` is another type; at :meth:`step`, a gradient is sparse
            or complex, or its kernels would need rows that other processes have.

    Example:
        >>> import torch
        >>> from advanced_optimizers import ConvolutionalSGDv2
        >>> model = torch.nn.Linear(8, 4)
        >>> optimizer = ConvolutionalSGDv2(model.parameters(), lr=0.01, momentum=0.9, kernel_size=5, kernel_lr=0.005)
        >>> model(torch.randn(16, 8)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.get_kernels()["2d"][0].shape
        torch.Size([5, 5])

    References:
        The coursework's description (``ConvolutionalOptimizer``); there is no paper.

    Departures from the published code:
        A kernel for each tensor instead of one for all, which would make the result depend on their order. Separable
        kernels of symmetric taps: a Gaussian is separable, and the antisymmetric part of a kernel decides nothing. The
        start is a Gaussian; the published softmax of a Gaussian's values is nearly a box, which at five taps is no
        descent kernel and takes 24/25 of a white gradient. Filters are smoothed along their own height and width, of
        any size. Sum 1 without a softmax, which cannot reach the identity. The average does not hold the present
        gradient, whose noise would be its own target. The loss is the one that the description names, the same in all
        units of the gradient. Its gradient is exact instead of a difference. Even kernel sizes are refused instead of
        enlarged. A closure's loss is returned and not used, as in the published code. Padding, blend and state as in
        :class:`ConvolutionalSGD`.

    Limitations:
        A gradient that is not finite spreads to its neighbors; no kernel learns from it, and the average forgets it
        when kernels next learn. Memory: one tensor of the size of each smoothed gradient, float32 for half-precision
        gradients, and on the CPU one more for the result, kept between steps. With ``state_dtype`` the average has half
        the size, and where gradients are noisy a relative error of :math:`\varepsilon = 2^{-7.5} / \sqrt{6\,(1 -
        \beta^2)}`, less elsewhere: a cosine with it is smaller by :math:`\varepsilon^2 / 2`. The noise of the rounding
        is that of :class:`FEROptimizer`, so nobody's random numbers are used and a run that is resumed goes on bit for
        bit; numbers above 3.39e38 count as not finite. Filters that are laid out with channels last are copied.
        Together, see :class:`ConvolutionalSGD`; while kernels learn, some ten tensors more. Sharded tensors (FSDP2)
        need ``axes=(-1,)`` where they are matrices; processes add up the inner products of all kernels of a group in
        one exchange. ``torch.compile`` does not compile the smoothing. ``GradScaler``, closures, several groups and
        processes work.
    """

    _START = "gaussian"
    _KEPT = frozenset({"order", "kernel", "seen", "signal", "power", "rounding"})

    def __init__(
        self,
        params: ParamsT,
        lr: float = LR,
        momentum: float = MOMENTUM,
        kernel_size: int = 3,
        kernel_lr: float = 0.01,
        noise_estimation_momentum: float = 0.99,
        *,
        kernel_every: int = 4,
        smoothness_weight: float = 0.1,
        signal_weight: float = 1.0,
        kernel: str | Sequence[float] | None = None,
        axes: tuple[int, ...] | None = (-2, -1),
        min_gain: float = 0.01,
        norm_preserving: bool = False,
        permute_axes: int | None = None,
        base_optimizer: BaseOptimizer = torch.optim.SGD,
        base_optimizer_kwargs: dict[str, Any] | None = None,
        foreach: bool | None = None,
        state_dtype: torch.dtype | None = None,
    ) -> None:
        own = {
            "kernel_size": kernel_size,
            "kernel_lr": kernel_lr,
            "noise_estimation_momentum": noise_estimation_momentum,
            "kernel_every": kernel_every,
            "smoothness_weight": smoothness_weight,
            "signal_weight": signal_weight,
            "kernel": kernel,
            "axes": axes,
            "min_gain": min_gain,
            "norm_preserving": norm_preserving,
            "permute_axes": permute_axes,
        }
        self._state_dtype = check_state_dtype(state_dtype)
        self._steps = Steps()
        self._rounded = Rounded(self._steps)
        super().__init__(params, lr, momentum, own, base_optimizer, base_optimizer_kwargs, foreach)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        group["signal_weight"] = check_range("signal_weight", group["signal_weight"], 0.0, math.inf, open_high=True)
        group["noise_estimation_momentum"] = check_range(
            "noise_estimation_momentum", group["noise_estimation_momentum"], 0.0, 1.0, open_high=True
        )

    def _weights(self, group: dict[str, Any]) -> Weights:
        return Weights(group["smoothness_weight"], group["signal_weight"])

    def _decay(self, group: dict[str, Any]) -> float | None:
        decay: float = group["noise_estimation_momentum"]
        return decay

    def _update(self) -> None:
        super()._update()
        self._steps.advance()

    # ---- the average of past gradients -----------------------------------------------------------------------------

    def _noise(self, params: list[Tensor]) -> Noise | None:
        return None if self._state_dtype is None else Noise(params, self._params(), self._steps)

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _learn(self, smoothed: Sequence[Smoothed], group: dict[str, Any]) -> None:
        super()._learn(smoothed, group)
        if group["kernel_lr"] == 0.0:
            return
        if self._state_dtype is not None:
            self._rounded.begin_step([each.param for each in smoothed], self._params())
        for each in smoothed:
            self._average(each.param, each.x.view(each.param.shape), 1.0 - group["noise_estimation_momentum"])

    def _average(self, p: Tensor, x: Tensor, rate: float) -> None:
        """Adds a gradient to the average; the first one is the average."""
        state = self.state[p]
        is_first = "signal" not in state
        if is_first:
            state.setdefault("power", x.new_zeros(()))  # torch's flat checkpoints keep a first step's names
        if self._state_dtype is not None:
            average = x.clone() if is_first else self._rounded.read(state["signal"], x.dtype).lerp_(x, rate)
            self._rounded.keep(state, "signal", average, p)
        elif is_first:
            state["signal"] = x.clone()
        else:
            state["signal"].lerp_(x, rate)

    def _signal(self, each: Smoothed) -> Tensor | None:
        """The average as the kernels see it: a copy where a fused base optimizer has laid it out like its parameter."""
        signal: Tensor | None = self.state[each.param].get("signal")
        return None if signal is None else signal.reshape(each.seen.shape).contiguous()

    def _products(self, batch: Sequence[Smoothed]) -> Products:
        for each in batch:
            if "signal" in self.state[each.param]:
                self.state[each.param]["signal"].nan_to_num_(0.0, 0.0, 0.0)
        products = super()._products(batch)
        self._remember_power(batch, products.gradient)
        return products

    def _remember_power(self, batch: Sequence[Smoothed], squares: Tensor) -> None:
        """The average of |g|^2 over the gradients that kernels learned from, for the ratio of signal to noise."""
        beta = self._group_of(batch[0].param)["noise_estimation_momentum"]
        for each, square in zip(batch, squares[:: len(batch[0].kernel)], strict=True):
            power = self.state[each.param].get("power", torch.zeros_like(square))
            averaged = torch.where(power > 0.0, power.lerp(square, 1.0 - beta), square)
            self.state[each.param]["power"] = torch.where(square.isfinite(), averaged, power)

    # ---- what was learned ----------------------------------------------------------------------------------------

    def get_kernels(self) -> dict[str, dict[int, Tensor]]:
        """The kernels by the place of their parameter in the optimizer, on the CPU.

        Returns:
            Under ``"1d"`` the kernels (k,) of tensors that are smoothed along one axis, under ``"2d"`` those (k, k) of
            tensors that are smoothed along two, the products of one kernel for each. Empty before the first step and
            with ``kernel_lr=0``.
        """
        kernels = self._all_kernels()
        return {
            "1d": {place: taps[0] for place, taps in kernels.items() if len(taps) == 1},
            "2d": {place: torch.outer(taps[0], taps[1]) for place, taps in kernels.items() if len(taps) == 2},
        }

    def get_stats(self) -> dict[str, dict[int, float]]:
        r"""What the present kernels make of the gradients that the parameters have now, and what s says of their noise.

        Returns:
            As :meth:`ConvolutionalSGD.get_stats`, and ``"snr"``, the ratio of the powers of signal and noise. With t
            gradients in s, :math:`E|s|^2 = S + v_t N` and :math:`E|g|^2 = S + N`, where
            :math:`v_t = \beta^{2(t-1)} + (1 - \beta)^2 (1 - \beta^{2(t-1)}) / (1 - \beta^2)`, so both follow; a
            negative estimate of S counts as 0. The signal is taken to stay what it is, which over 1 / (1 - beta) steps
            it does not quite. NaN before the kernels have learned once.
        """
        ratios = {}
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.get(p, {})
                if "power" in state:
                    s, g = torch.stack(
                        [whole(state["signal"]).to(state["power"].dtype).square().sum(), state["power"]]
                    ).tolist()
                    ratios[p] = snr(s, g, int(state["seen"]), group["noise_estimation_momentum"])
        params = self._params()
        stats = super().get_stats()
        return {**stats, "snr": {place: ratios.get(params[place], math.nan) for place in stats["cosine"]}}

    # ---- checkpoints and copies ------------------------------------------------------------------------------------

    def _check_state(self, p: Tensor, state: dict[str, Any]) -> None:
        super()._check_state(p, state)
        check_rounding(state, self._state_dtype)
        if "signal" in state and self._state_dtype is not None:
            state["signal"] = state["signal"].to(self._state_dtype)

    def _load_extra(self, state_dict: dict[str, Any]) -> None:
        super()._load_extra(state_dict)
        self._steps = Steps.of(self.state)
        self._rounded = Rounded(self._steps)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_rounded"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._rounded = Rounded(self._steps)


def snr(of_average: float, of_gradient: float, seen: int, beta: float) -> float:
    """The ratio of signal and noise from :math:`|s|^2`, the mean of :math:`|g|^2`, and the number of gradients in s."""
    past = beta ** (2 * (seen - 1))
    left = past + (1.0 - beta) ** 2 * (1.0 - past) / (1.0 - beta**2)
    if left >= 1.0:
        return math.nan
    signal = max(0.0, (of_average - left * of_gradient) / (1.0 - left))
    noise = (of_gradient - of_average) / (1.0 - left)
    return signal / noise if noise > 0.0 else math.nan
