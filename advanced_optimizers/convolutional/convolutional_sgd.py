"""Version 1: one kernel, which the loss is to sharpen or to widen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from advanced_optimizers._base import BaseOptimizer, ParamsT, check_shape
from advanced_optimizers._checks import (
    check_bool,
    check_process_group,
    check_range,
    count_processes,
    refuse_per_sample_gradients,
)
from advanced_optimizers.convolutional.arguments import LR, MOMENTUM
from advanced_optimizers.convolutional.history import History
from advanced_optimizers.convolutional.kernels import all_taps, constant, start_of, total, with_least_gain
from advanced_optimizers.convolutional.transform import _Smoothing


class ConvolutionalSGD(_Smoothing):
    r"""SGD with gradients that are smoothed by one short kernel: :math:`y = Wg`, then a step of SGD with y.

    For each parameter tensor, with gradient :math:`g_t` taken as one line, the last axis running fastest:

    .. math::
        y_t = W_{t-1}\, g_t, \qquad m_t = \mu\, m_{t-1} + y_t, \qquad p_t = p_{t-1} - \eta\, m_t

    **The kernel** has ``kernel_size`` taps w, the same for all tensors of a parameter group, and starts as the box. If
    :meth:`step` gets a closure, its loss :math:`l_t` moves the kernel after the update, so no loss acts on its own
    step:

    .. math::
        w \leftarrow \frac{w + \kappa\,\delta}{1 + \kappa} \text{ if } l_t < l_{t-1}, \qquad
        w \leftarrow 0.9\, w + 0.1\,/\,k \text{ otherwise}

    The first loss is only remembered. A loss that is NaN changes nothing. Without a closure the kernel stays.

    **Descent.** What smooths is the least blend of w with the identity whose transform :math:`\hat w(\omega)` is at
    least ``min_gain`` at all frequencies; then :math:`\langle g, Wg \rangle > 0` for every g. The box of five taps
    becomes (.16, .16, .36, .16, .16).

    **What it does to the step.** Along an axis whose neighbors have nothing to do with each other,
    :math:`|Wg| = |w|\,|g|` and :math:`\cos(g, Wg) = w_0 / |w|`: so compare with SGD at a smaller learning rate.
    In ``Linear(inputs, outputs)`` the neighbors of a weight are those of the next inputs, for images the next pixels of
    a row; behind a hidden layer their order means nothing.

    **The rule for the kernel** compares losses of different batches, and those of consecutive steps are as often lower
    as higher: then the center of five taps stays near .208 with the default ``kernel_lr``. Since w is always a blend of
    the box and the identity itself, a center below that of the least safe blend (.3664 at five taps) smooths exactly as
    the box does: there the rule changes nothing, unless ``min_gain`` is -1.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts; groups may override each hyperparameter.
        lr: :math:`\eta \ge 0`, of SGD.
        momentum: :math:`\mu` in [0, 1), of SGD. The gradient is smoothed before it enters the momentum.
        kernel_size: The number of taps k, odd; 1 is plain SGD.
        adaptive_kernel: Whether a closure's loss moves the kernel.
        kernel_lr: :math:`\kappa \ge 0`, what the center gains when the loss fell.
        kernel: Where the kernel starts: ``"uniform"``, ``"gaussian"`` of standard deviation k / 5, ``"identity"``, or
            its k taps, symmetric, not negative, of sum 1. Default uniform.
        axes: None takes each tensor as one line. ``(-2, -1)``, ``(-2,)`` or ``(-1,)`` smooth along the last two axes
            or one of them: of a matrix (outputs, inputs), or the height and width of a convolution's filters. Tensors
            of fewer than two dimensions are then left as they are, and so is an axis of one element.
        min_gain: In [-1, 1). -1 smooths with w itself, which may turn a direction of descent around.
        norm_preserving: Whether to scale y to the length of g, so that smoothing does not change the step size.
        permute_axes: A seed for a fixed random order in which the kernel sees the elements of each axis, a control: if
            the neighborhood matters, this must do worse. None keeps their order.
        process_group: The processes of a data-parallel training, over which the loss is averaged, so that the kernels
            stay equal. Default all processes.
        base_optimizer: Another one than SGD, or another transform. It gets ``lr`` and ``momentum`` if it takes them.
        base_optimizer_kwargs: Its further arguments, such as ``{"weight_decay": 5e-4}``. Weight decay is not smoothed.
        foreach: Whether all tensors of a parameter group on a device are handled together, in a number of operations
            that does not depend on how many they are, and none waits for the device. Default: everywhere but on the
            CPU, where one tensor after the other is faster. Both give the same up to rounding. (The base optimizer's
            own ``foreach`` belongs in ``base_optimizer_kwargs``.)

    Raises:
        TypeError: A value is of the wrong kind.
        ValueError: A value is out of range; at :meth:`step`, a gradient is sparse or complex, or its kernels would need
            rows that other processes have.

    Example:
        >>> import torch
        >>> from advanced_optimizers import ConvolutionalSGD
        >>> model = torch.nn.Linear(8, 2)
        >>> optimizer = ConvolutionalSGD(model.parameters(), lr=0.01, momentum=0.9, kernel_size=5)
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     loss = model(torch.randn(16, 8)).square().mean()
        ...     loss.backward()
        ...     _ = optimizer.step(lambda: loss)
        >>> optimizer.get_kernel().shape
        torch.Size([5])

    References:
        The coursework's description (``ConvolutionalOptimizer``); there is no paper. Smoothing a flattened gradient by
        a fixed kernel with positive transform is Laplacian smoothing gradient descent: Osher et al., arXiv 1806.06317.

    Departures from the published code:
        Half-sample symmetric padding instead of reflection about the last element, which keeps neither the mean of the
        gradient nor descent. The blend with the identity. The hyperparameters are those of each group, with a kernel
        per group; the kernel and the last loss are in ``state_dict``. The closure is called once, before the step.

    Limitations:
        The kernel's history is not part of ``state_dict`` and holds at most 1000 rows. A closure that calls
        ``backward`` without ``zero_grad`` adds to the gradients that are already there. ``GradScaler`` takes no
        closure, so with it the kernel stays. A gradient that is not finite spreads to its neighbors. Opacus's guarantee
        does not cover a kernel that follows the loss, so that is refused; ``adaptive_kernel=False`` works. Memory: on
        the CPU one tensor for each gradient, kept between steps. ``torch.compile`` does not compile the smoothing.
        Together, what is not finite spreads no farther, and a step can be captured in a CUDA graph if the kernel stays.
        Memory: for each gradient two tensors of its size, float32 if it is in half precision, one of them only during
        the step; and for each axis that is smoothed, indexes of four bytes: as many as the tensor has numbers, and as
        many as its lines have when each is ``kernel_size - 1`` longer. So with kernels much wider than filters are,
        ``foreach=False`` needs less. Of sharded tensors (FSDP2), which are handled together in any case, each process
        smooths its rows: filters along height and width (``axes=(-2, -1)``), matrices along their rows
        (``axes=(-1,)``). Whatever would run across rows is refused.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = LR,
        momentum: float = MOMENTUM,
        kernel_size: int = 3,
        adaptive_kernel: bool = True,
        kernel_lr: float = 0.001,
        *,
        kernel: str | Sequence[float] | None = None,
        axes: tuple[int, ...] | None = None,
        min_gain: float = 0.01,
        norm_preserving: bool = False,
        permute_axes: int | None = None,
        process_group: Any = None,
        base_optimizer: BaseOptimizer = torch.optim.SGD,
        base_optimizer_kwargs: dict[str, Any] | None = None,
        foreach: bool | None = None,
    ) -> None:
        own = {
            "kernel_size": kernel_size,
            "adaptive_kernel": adaptive_kernel,
            "kernel_lr": kernel_lr,
            "kernel": kernel,
            "axes": axes,
            "min_gain": min_gain,
            "norm_preserving": norm_preserving,
            "permute_axes": permute_axes,
            # What the losses made of the kernel, and the last of them; not for the user to set.
            "present_kernel": None,
            "previous_loss": None,
        }
        self._process_group = check_process_group(process_group)
        self._histories: dict[int, History] = {}
        super().__init__(params, lr, momentum, own, base_optimizer, base_optimizer_kwargs, foreach)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        group["adaptive_kernel"] = check_bool("adaptive_kernel", group["adaptive_kernel"])
        group["kernel_lr"] = check_range("kernel_lr", group["kernel_lr"], low=0.0, high=math.inf, open_high=True)
        if group["present_kernel"] is not None:
            check_shape("present_kernel", group["present_kernel"], (group["kernel_size"] // 2 + 1,))
        if group["previous_loss"] is not None and not isinstance(group["previous_loss"], Tensor):
            raise TypeError(f"previous_loss must be a tensor or None, got {group['previous_loss']!r}")

    def _kernel(self, p: Tensor, axes: int, group: dict[str, Any]) -> Tensor | None:
        present = group["present_kernel"]
        if present is None:
            return self._first_kernel(p, axes, group)
        effective = with_least_gain(present, group["min_gain"])
        return effective.to(device=p.device, dtype=self._dtype(p)).expand(axes, -1)

    def _has_kernel(self, p: Tensor, group: dict[str, Any]) -> bool:
        return group["present_kernel"] is not None or super()._has_kernel(p, group)

    # ---- the kernel follows the loss -------------------------------------------------------------------------------

    @torch.no_grad()
    def _hear(self, loss: Any) -> None:
        super()._hear(loss)
        groups = enumerate(self.param_groups)
        adapting = {place: group for place, group in groups if group["adaptive_kernel"] and group["kernel_size"] > 1}
        if loss is None or not adapting:
            return
        refuse_per_sample_gradients("ConvolutionalSGD(adaptive_kernel=True)", adapting.values())
        loss = self._as_tensor(loss)
        for place, group in adapting.items():
            self._adapt(group, self._histories.setdefault(place, History()), loss)

    def _as_tensor(self, loss: Any) -> Tensor:
        """The loss as a tensor of one number, its mean over the processes."""
        if not isinstance(loss, Tensor):
            if isinstance(loss, bool) or not isinstance(loss, Real):  # NumPy registers its numbers as such
                raise TypeError(f"closure must return the loss, one number, got {loss!r}")
            loss = torch.tensor(float(loss))
        if loss.numel() != 1:
            raise ValueError(f"closure must return the loss, one number, got a tensor of shape {tuple(loss.shape)}")
        wide = torch.float32 if loss.device.type == "mps" else torch.float64
        loss = loss.detach().reshape(()).to(wide, copy=True)
        processes = count_processes(self._process_group)
        if processes > 1:
            dist.all_reduce(loss, group=self._process_group)
            loss /= processes
        return loss

    def _adapt(self, group: dict[str, Any], history: History, loss: Tensor) -> None:
        w, previous = group["present_kernel"], group["previous_loss"]
        if w is None:
            start = start_of(group["kernel"], group["kernel_size"], self._START)
            w = constant(start, -1.0, loss.dtype, loss.device)
            history.append(w)
        if previous is None:  # the first loss is only remembered
            group["present_kernel"], group["previous_loss"] = w, loss
            return
        w, previous = (each.to(loss) for each in (w, previous))
        group["present_kernel"] = followed(w, loss, previous, group["kernel_lr"])
        group["previous_loss"] = torch.where(loss.isnan(), previous, loss)
        history.append(group["present_kernel"])

    # ---- what it has become --------------------------------------------------------------------------------------

    def get_kernel(self, group: int = 0, *, effective: bool = False) -> Tensor:
        """The kernel of a parameter group, (k,), on the CPU, from left to right.

        Args:
            group: The group's place in ``param_groups``.
            effective: Whether to return what smooths, the blend with the identity, instead of what the losses move.
        """
        settings = self.param_groups[group]
        w = settings["present_kernel"]
        if w is None:
            start = start_of(settings["kernel"], settings["kernel_size"], self._START)
            w = constant(start, -1.0, torch.float64, torch.device("cpu"))
        return all_taps(with_least_gain(w, settings["min_gain"]) if effective else w).cpu()

    def get_kernel_history(self, group: int = 0) -> list[Tensor]:
        """The kernel (k,) at the start and after each loss but the first; of many, every n-th, at most 1000."""
        history = self._histories.get(group)
        return [] if history is None else [all_taps(w) for w in history.read()]


def followed(w: Tensor, loss: Tensor, previous: Tensor, kernel_lr: float) -> Tensor:
    """The kernel after a loss: sharper if it fell, closer to the box if it did not, unchanged if one of the two is NaN.

    Args:
        w: (r + 1,), from the center outward.
        loss: One number.
        previous: One number, NaN if there is none.
        kernel_lr: What the center gains.
    """
    sharper = w.clone()
    sharper[0] += kernel_lr
    wider = 0.9 * w + 0.1 / (2 * len(w) - 1)
    moved = torch.where(loss < previous, sharper, wider)
    return torch.where(loss.isnan() | previous.isnan(), w, moved / total(moved))
