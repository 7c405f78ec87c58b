"""A kernel of each tensor's own that is to keep the gradient's direction and to even it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advanced_optimizers._base import BaseOptimizer, ParamsT
from advanced_optimizers.convolutional.arguments import LR, MOMENTUM
from advanced_optimizers.convolutional.learned import _LearnedSmoothing


class LocalLossConvSGD(_LearnedSmoothing):
    r"""SGD with smoothed gradients, with a kernel for each tensor that descends a loss of its own.

    For each parameter tensor, with gradient g taken as one line, the last axis running fastest:

    .. math::
        y &= W g, \qquad m \leftarrow \mu\, m + y, \qquad p \leftarrow p - \eta\, m \\
        L(w) &= -\cos(g, Wg) + \lambda\, \mathrm{Var}(Wg) / \mathrm{Var}(g) \\
        w &\leftarrow \max(0,\; w - \kappa\, \nabla L(w / \Sigma w)), \qquad w \leftarrow w / \Sigma w

    and then the least blend of w with the identity whose transform is at least ``min_gain`` at all frequencies, which
    keeps :math:`\langle g, Wg \rangle > 0` for every g. The kernel of the previous step smooths; the present gradient
    acts on the next one. :math:`\nabla L` is computed in closed form from a few inner products
    (:mod:`advanced_optimizers.convolutional.learning`).

    **Where the kernel goes.** With :math:`\lambda = 0` to the identity, since :math:`\cos(g, Wg) = 1` there. For
    gradients without correlation along the line, five taps end at (u, u, 1 - 4u, u, u) with u = .062 for
    :math:`\lambda = .1` and .126 for 1: equal side taps are the signature of such a gradient, not of a signal in it.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts; groups may override each hyperparameter.
        lr: :math:`\eta \ge 0`, of SGD.
        momentum: :math:`\mu` in [0, 1), of SGD. The gradient is smoothed before it enters the momentum.
        kernel_size: The number of taps k, odd; 1 is plain SGD.
        local_lr: :math:`\kappa \ge 0`, the step of the kernel; with 0 it stays where it starts.
        smoothness_weight: :math:`\lambda \ge 0`, what the variance weighs.
        kernel_every: The kernels learn from every ``kernel_every``-th gradient, >= 1.
        kernel: See :class:`ConvolutionalSGD`, as for all further arguments. Default uniform.
        axes: With two axes, each has a kernel of its own, and both learn from the same step.
        min_gain: See there.
        norm_preserving: See there.
        permute_axes: See there.
        base_optimizer: See there.
        base_optimizer_kwargs: See there.
        foreach: See there.

    Raises:
        TypeError: A value is of the wrong kind.
        ValueError: A value is out of range; at :meth:`step`, a gradient is sparse or complex, or its kernels would need
            rows that other processes have.

    Example:
        >>> import torch
        >>> from advanced_optimizers import LocalLossConvSGD
        >>> model = torch.nn.Linear(8, 2)
        >>> optimizer = LocalLossConvSGD(model.parameters(), lr=0.01, kernel_size=5)
        >>> model(torch.ones(16, 8)).square().mean().backward()
        >>> optimizer.step()
        >>> [kernel.shape for kernel in optimizer.get_kernels().values()]
        [torch.Size([5])]

    References:
        The coursework's description (``ConvolutionalOptimizer``); there is no paper.

    Departures from the published code:
        The variance is relative to that of the gradient, so that the kernel's path does not depend on the scale of the
        loss or on the batch size; at the size of real gradients, the published absolute variance weighs nothing.
        Kernels are symmetric, which no optimum of the loss loses anything by. The derivative is exact instead of a
        difference. The kernel stays where a gradient is zero or constant. Padding, blend and state as in
        :class:`ConvolutionalSGD`.

    Limitations:
        The history of the losses is not part of ``state_dict`` and holds at most 1000 numbers. A gradient that is not
        finite spreads to its neighbors, and its kernel does not learn from it. Memory: on the CPU one tensor for each
        gradient, kept between steps. Together, and for sharded tensors (FSDP2), see :class:`ConvolutionalSGDv2`; there
        ``axes`` cannot be None where a tensor is smoothed. ``torch.compile`` does not compile the smoothing.
        ``GradScaler``, closures (whose loss is returned and not used), several groups and processes work.
    """

    _STEP = "local_lr"
    _THROUGH_NORMALIZATION = True

    def __init__(
        self,
        params: ParamsT,
        lr: float = LR,
        momentum: float = MOMENTUM,
        kernel_size: int = 3,
        local_lr: float = 0.001,
        smoothness_weight: float = 0.1,
        *,
        kernel_every: int = 1,
        kernel: str | Sequence[float] | None = None,
        axes: tuple[int, ...] | None = None,
        min_gain: float = 0.01,
        norm_preserving: bool = False,
        permute_axes: int | None = None,
        base_optimizer: BaseOptimizer = torch.optim.SGD,
        base_optimizer_kwargs: dict[str, Any] | None = None,
        foreach: bool | None = None,
    ) -> None:
        own = {
            "kernel_size": kernel_size,
            "local_lr": local_lr,
            "smoothness_weight": smoothness_weight,
            "kernel_every": kernel_every,
            "kernel": kernel,
            "axes": axes,
            "min_gain": min_gain,
            "norm_preserving": norm_preserving,
            "permute_axes": permute_axes,
        }
        super().__init__(params, lr, momentum, own, base_optimizer, base_optimizer_kwargs, foreach)

    def get_kernels(self) -> dict[int, Tensor]:
        """The kernels by the place of their parameter in the optimizer: (k,), or (2, k) for two axes.

        Without those that are not smoothed, and empty before the first step and with ``local_lr=0``.
        """
        return {place: kernels.squeeze(0) for place, kernels in self._all_kernels().items()}

    def get_local_losses(self) -> list[float]:
        """The kernels' loss before each of their steps, a mean over tensors and axes; at most 1000 numbers in all."""
        return [float(loss) for loss in self._losses.read()]
