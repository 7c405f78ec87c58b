"""What the convolutional optimizers share: gradients are smoothed, then the base optimizer steps with them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advanced_optimizers._base import BaseOptimizer, GradientTransform, ParamsT
from advanced_optimizers._checks import check_bool, is_dtensor
from advanced_optimizers._flat import Gathered, runs_together
from advanced_optimizers._sharded import is_by_rows, local, shards_of, whole
from advanced_optimizers.convolutional.arguments import arguments_of_base, check_smoothing
from advanced_optimizers.convolutional.kernels import constant, identity, start_of
from advanced_optimizers.convolutional.smoothing import (
    Seen,
    filter_matrices,
    permuted,
    seen_by_kernels,
    smooth_axes,
    smooth_filters,
)
from advanced_optimizers.convolutional.together import Member, Together


class Smoothed(NamedTuple):
    """A tensor whose gradient is smoothed.

    Attributes:
        param: The parameter.
        grad: Its gradient.
        seen: How kernels see it.
        x: The gradient as the kernels see it: of that shape, contiguous, float32 or better, its axes permuted.
        kernel: (axes, r + 1), from the center outward.
    """

    param: Tensor
    grad: Tensor
    seen: Seen
    x: Tensor
    kernel: Tensor


class _Smoothing(GradientTransform):
    """Smooths the gradients with :meth:`_kernel`; a subclass says what that is and may learn from what was smoothed."""

    _START = "uniform"
    _KEPT: frozenset[str] = frozenset({"order"})
    # What the state of a parameter has once its kernels are its own.
    _MARK: str | None = None

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float,
        own: dict[str, Any],
        base_optimizer: BaseOptimizer,
        base_optimizer_kwargs: dict[str, Any] | None,
        foreach: bool | None,
    ) -> None:
        self._check_group(own)
        self._foreach = foreach if foreach is None else check_bool("foreach", foreach)
        self._gathered: Gathered[Together] = Gathered(self._MARK)
        self._workspace: dict[torch.dtype, Tensor] = {}
        kwargs = arguments_of_base(base_optimizer, base_optimizer_kwargs, lr, momentum)
        super().__init__(params, base_optimizer, kwargs, own)

    def _check_group(self, group: dict[str, Any]) -> None:
        check_smoothing(group, self._START)

    # ---- kernels -------------------------------------------------------------------------------------------------

    @abstractmethod
    def _kernel(self, p: Tensor, axes: int, group: dict[str, Any]) -> Tensor | None:
        """The kernels (axes, r + 1) of a parameter, of :meth:`_dtype`; None where they leave everything as it is."""

    def _learn(self, smoothed: Sequence[Smoothed], group: dict[str, Any]) -> None:
        """Called when the gradients of a group have been smoothed, with the kernels that did it."""

    def _first_kernel(self, p: Tensor, axes: int, group: dict[str, Any]) -> Tensor | None:
        """The kernels that a parameter starts with; None for the identity. Nobody may write to them."""
        start = start_of(group["kernel"], group["kernel_size"], self._START)
        if start == identity(group["kernel_size"]):
            return None
        return constant(start, group["min_gain"], self._dtype(p), p.device).expand(axes, -1)

    @staticmethod
    def _dtype(p: Tensor) -> torch.dtype:
        return torch.promote_types(p.dtype, torch.float32)

    # ---- sharded tensors -----------------------------------------------------------------------------------------

    def _instead_of_sharded(self, grad: Tensor, group: dict[str, Any]) -> str:
        seen = seen_by_kernels(grad.shape, group["axes"], group["kernel_size"])
        shards = shards_of(grad)
        if seen is None or shards is None or all(placement.is_replicate() for placement in shards.placements):
            return ""
        if not is_by_rows(grad):
            return "shard by rows, along one dimension of the mesh, as fully_shard does"
        if len(seen.shape) == 3 or 0 not in seen.axes:
            return ""
        within = {1: "", 2: "axes=(-1,), which smooths within rows, or "}.get(grad.dim(), "axes=(-2, -1) or ")
        return (
            f"with axes={group['axes']!r} its kernels run across rows, some of which other processes have: put the "
            f"parameter into a group with {within}kernel_size=1, which leaves it as it is, or do not shard it"
        )

    # ---- smoothing -----------------------------------------------------------------------------------------------

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        given = dict(zip(params, grads, strict=True))
        together = {p: grad for p, grad in given.items() if is_dtensor(p) or runs_together(self._foreach, p.device)}
        results = self._smooth_together(together, group)
        alone = [p for p in params if p not in together]
        smoothed = self._found(alone, [given[p] for p in alone], group)
        results |= {each.param: result for each, result in self._apply(smoothed, group)}
        self._learn(smoothed, group)
        return [results.get(p, grad) for p, grad in given.items()]

    def _found(self, params: Iterable[Tensor], grads: Iterable[Tensor], group: dict[str, Any]) -> list[Smoothed]:
        found = []
        for p, grad in zip(params, grads, strict=True):
            seen = seen_by_kernels(p.shape, group["axes"], group["kernel_size"])
            kernel = None if seen is None else self._kernel(p, len(seen.axes), group)
            if seen is None or kernel is None:
                continue
            x = grad.to(self._dtype(p)).reshape(seen.shape)
            if group["permute_axes"] is not None:
                x = permuted(x, self._order(p, seen, group["permute_axes"]), seen)
            found.append(Smoothed(p, grad, seen, x.contiguous(), kernel))
        return found

    def _apply(self, smoothed: Sequence[Smoothed], group: dict[str, Any]) -> list[tuple[Smoothed, Tensor]]:
        """Each tensor with its smoothed gradient, laid out like the parameter."""
        results = []
        for batch in batches(smoothed):
            matrices: Sequence[Tensor | None] = [None] * len(batch)
            if batch[0].seen.are_filters:
                matrices = filter_matrices(torch.stack([each.kernel for each in batch]), batch[0].seen).unbind()
            for each, matrix in zip(batch, matrices, strict=True):
                results.append((each, self._smooth_one(each, matrix, group)))
        return results

    def _smooth_one(self, each: Smoothed, matrix: Tensor | None, group: dict[str, Any]) -> Tensor:
        """The smoothed gradient, by the small matrix of filters or else by slices."""
        out, x = torch.empty_like(each.grad) if is_dtensor(each.param) else self._output(each.param, each.grad), each.x
        in_place = out.is_contiguous() and out.dtype == x.dtype
        y = out.view(each.seen.shape) if in_place else torch.empty_like(x)
        if matrix is not None:
            smooth_filters(x, matrix, y)
        else:
            smooth_axes(x, each.kernel, each.seen.axes, y, self._between(x) if len(each.seen.axes) == 2 else None)
        if group["norm_preserving"]:
            y.mul_(relative_length(x, y))
        if group["permute_axes"] is not None:
            y = permuted(y, self._order(each.param, each.seen, group["permute_axes"]), each.seen, back=True)
            in_place = False
        return out if in_place else out.copy_(y.view(out.shape))

    def _between(self, x: Tensor) -> Tensor | None:
        """Memory for a tensor that is smoothed along one of two axes; on the CPU kept between steps, as outputs are."""
        if x.device.type != "cpu":
            return None
        kept = self._workspace.get(x.dtype)
        if kept is None or kept.numel() < x.numel():
            kept = self._workspace[x.dtype] = torch.empty(x.numel(), dtype=x.dtype)
        return kept[: x.numel()].view(x.shape)

    # ---- all tensors of a device together ------------------------------------------------------------------------

    def _smooth_together(self, grads: dict[Tensor, Tensor], group: dict[str, Any]) -> dict[Tensor, Tensor]:
        """The smoothed gradients by parameter, of those that are smoothed."""
        shape = [group[name] for name in ("kernel_size", "axes", "permute_axes")]
        (place,) = [i for i, each in enumerate(self.param_groups) if each is group]
        together: dict[tuple[Any, ...], list[Tensor]] = {}
        for p, grad in grads.items():
            seen = seen_by_kernels(p.shape, group["axes"], group["kernel_size"])
            if seen is not None and self._has_kernel(p, group):
                own = self._has_own_kernels(p, group)
                key = (place, *shape, own, len(seen.axes), p.device, grad.dtype, shards_of(p))
                together.setdefault(key, []).append(p)
        results: dict[Tensor, Tensor] = {}
        for key, params in together.items():
            dtype = grads[params[0]].dtype

            def build(chosen: list[Tensor], dtype: torch.dtype = dtype) -> list[Together]:
                return [self._gather([self._member(p, group) for p in chosen], dtype, group)]

            (found,) = self._gathered.find(key, params, self.state, group["params"], build)
            self._step_together(found, {p: grads[p] for p in params}, group)
            results |= {p: y for p, y in zip(found.params, found.smoothed, strict=True) if p in grads}
        return results

    def _has_kernel(self, p: Tensor, group: dict[str, Any]) -> bool:
        """Whether :meth:`_kernel` has kernels for a parameter."""
        return start_of(group["kernel"], group["kernel_size"], self._START) != identity(group["kernel_size"])

    def _has_own_kernels(self, p: Tensor, group: dict[str, Any]) -> bool:
        """Whether a parameter's kernels may differ from those of others in its group."""
        return False

    def _member(self, p: Tensor, group: dict[str, Any]) -> Member:
        seen = _seen_here(p, group)
        assert seen is not None
        return Member(p, seen, None if group["permute_axes"] is None else self._order(p, seen, group["permute_axes"]))

    def _gather(self, members: list[Member], dtype: torch.dtype, group: dict[str, Any]) -> Together:
        return Together(members, dtype, group["kernel_size"] // 2)

    def _step_together(self, found: Together, grads: dict[Tensor, Tensor], group: dict[str, Any]) -> None:
        shape = (len(found.params), found.axes)
        kernel = self._kernel(found.params[0], math.prod(shape), group)  # the same for all
        assert kernel is not None
        found.step(grads, kernel.unflatten(0, shape), group["norm_preserving"])

    # ---- permuted axes -------------------------------------------------------------------------------------------

    def _order(self, p: Tensor, seen: Seen, seed: int) -> Tensor:
        """A random order of each smoothed axis, one after the other: drawn once, then part of the state."""
        state = self.state[p]
        if "order" not in state:
            places = [id(q) for group in self.param_groups for q in group["params"]]
            # A generator takes 32 bits; the odd factor keeps those of different tensors apart.
            rng = torch.Generator().manual_seed((seed + 0x9E3779B9 * places.index(id(p))) % 2**32)
            orders = [torch.randperm(seen.shape[axis], generator=rng) for axis in seen.axes]
            state["order"] = torch.cat(orders).to(p.device)
        order: Tensor = state["order"]
        if len(order) != sum(seen.shape[axis] for axis in seen.axes):
            raise ValueError(f"axes={self._group_of(p)['axes']!r} cannot change during training with permute_axes")
        return order

    # ---- what the kernels do -------------------------------------------------------------------------------------

    def get_stats(self) -> dict[str, dict[int, float]]:
        r"""What the present kernels make of the gradients that the parameters have now.

        Call it between a step and the next ``zero_grad``. It smooths all gradients once more. Sharded ones are put
        together for that, so every process must call it.

        Returns:
            By name, and then by the place of the parameter in the optimizer, for those that are smoothed:
            ``"length_ratio"``, :math:`|Wg| / |g|`, and ``"cosine"``, :math:`\cos(g, Wg)`: a descent direction where
            it is positive. A gradient that is zero has NaN.
        """
        places = {p: place for place, p in enumerate(q for group in self.param_groups for q in group["params"])}
        found: list[tuple[int, Tensor]] = []
        with torch.no_grad():
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                for each, y in self._apply(self._found(params, [whole(p.grad) for p in params], group), group):
                    g = each.grad.to(each.x.dtype)
                    inner, gg, yy = ((a * b).sum() for a, b in ((g, y), (g, g), (y.to(g.dtype), y.to(g.dtype))))
                    found.append((places[each.param], torch.stack([(yy / gg).sqrt(), inner / (gg * yy).sqrt()]).cpu()))
        values = [(place, *row.tolist()) for place, row in found]
        return {
            "length_ratio": {place: ratio for place, ratio, _ in values},
            "cosine": {place: cosine for place, _, cosine in values},
        }

    def _group_of(self, p: Tensor) -> dict[str, Any]:
        return next(group for group in self.param_groups if any(q is p for q in group["params"]))

    # ---- checkpoints and copies ----------------------------------------------------------------------------------

    def _check_state(self, p: Tensor, state: dict[str, Any]) -> None:
        if state.keys() - self._KEPT:
            raise ValueError(
                f"{type(self).__name__} keeps {sorted(self._KEPT)} of a parameter, got {sorted(map(str, state))}"
            )
        if "order" in state:
            order = state["order"]
            if not isinstance(order, Tensor) or order.dim() != 1 or order.dtype != torch.int64:
                raise ValueError(f"order must be a tensor of integers of shape (n,), got {order!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in super().__getstate__().items() if name not in ("_workspace", "_gathered")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._workspace, self._gathered = {}, Gathered(self._MARK)

    def _load_extra(self, state_dict: dict[str, Any]) -> None:
        super()._load_extra(state_dict)
        self._gathered = Gathered(self._MARK)


def _seen_here(p: Tensor, group: dict[str, Any]) -> Seen | None:
    """How kernels see the part of a parameter that this process has."""
    seen = seen_by_kernels(p.shape, group["axes"], group["kernel_size"])
    if seen is None or not is_dtensor(p):
        return seen
    inner = seen.shape[1:]
    return Seen((local(p).numel() // math.prod(inner), *inner), seen.axes)


def batches(smoothed: Iterable[Smoothed]) -> list[list[Smoothed]]:
    """Tensors of filters of one size together, all others alone."""
    found: dict[object, list[Smoothed]] = {}
    for each in smoothed:
        of_filters = (each.seen.shape[1:], each.seen.axes, each.x.dtype, each.x.device, each.kernel.shape)
        found.setdefault(of_filters if each.seen.are_filters else each.param, []).append(each)
    return list(found.values())


def relative_length(x: Tensor, y: Tensor) -> Tensor:
    """|x| / |y|, 1 where y is zero."""
    lengths = [torch.linalg.vector_norm(each) for each in (x, y)]
    return torch.where(lengths[1] > 0.0, lengths[0] / lengths[1], 1.0)
