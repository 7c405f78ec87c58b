"""What the optimizers share: torch's contract over a base optimizer, and gradient transforms built on it."""

from __future__ import annotations

import copy
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, TypeAlias, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from advanced_optimizers._checks import check_range, is_dtensor

ParamsT: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
BaseOptimizer: TypeAlias = Callable[..., Optimizer]


def build_optimizer(base_optimizer: BaseOptimizer, params: ParamsT, /, **kwargs: Any) -> Optimizer:
    """Builds ``base_optimizer(params, **kwargs)``, with Adam and AdamW on their fastest path for the device.

    On the CPU torch uses its ``for`` loop by default, although its own ``fused`` kernel is several times faster. So
    on the CPU these two get ``fused=True`` when every parameter is a real floating-point tensor that is dense in
    memory and the caller chose none of ``fused``, ``foreach`` and ``differentiable``. On other devices torch's own
    choice stands. Other optimizers are built as they are: fused SGD gains little, and it raises an error when one
    gradient arrives later than the others.

    Args:
        base_optimizer: An ``Optimizer`` class, or a function ``(params, **kwargs) -> Optimizer``.
        params: Tensors, ``(name, tensor)`` pairs or group dicts, as every torch optimizer takes them.
        **kwargs: Passed on to ``base_optimizer``.

    Raises:
        TypeError: ``base_optimizer`` cannot be called or does not return an ``Optimizer``, or ``params`` is a tensor.
        ValueError: ``lr`` is negative, or the optimizer cannot step without a closure.
    """
    is_other_class = isinstance(base_optimizer, type) and not issubclass(base_optimizer, Optimizer)
    if not callable(base_optimizer) or is_other_class:
        raise TypeError(
            "base_optimizer must be a torch.optim.Optimizer class (or a function that builds one), "
            f"got {base_optimizer!r}"
        )
    if "lr" in kwargs:
        check_range("lr", kwargs["lr"], low=0.0)
    if isinstance(params, Tensor):
        raise TypeError("params must be an iterable of tensors or group dicts, got one Tensor: put it in a list")
    entries = [_with_params_as_list(entry) for entry in params]
    chosen = {"fused", "foreach", "differentiable"} & kwargs.keys()
    if not chosen and base_optimizer in (torch.optim.Adam, torch.optim.AdamW) and _fit_for_fused(entries):
        kwargs = {**kwargs, "fused": True}
    optimizer = base_optimizer(entries, **kwargs)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"base_optimizer must return a torch.optim.Optimizer, {base_optimizer!r} returned "
            f"{type(optimizer).__name__}"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"base_optimizer must step without a closure, but {type(optimizer).__name__} evaluates the loss several "
            "times per step: use a first-order optimizer such as torch.optim.SGD or torch.optim.Adam"
        )
    return optimizer


def _fit_for_fused(entries: list[Any]) -> bool:
    return all(
        isinstance(t, Tensor) and t.device.type == "cpu" and t.is_floating_point() and _is_dense(t)
        for t in _params_of(entries)
    )


def _with_params_as_list(entry: Any) -> Any:
    """A group dict whose parameters are a list, since a generator can be read only once; other entries unchanged."""
    if isinstance(entry, dict) and not isinstance(entry.get("params"), Tensor | set):
        return {**entry, "params": list(entry["params"])}
    return entry


def _params_of(entries: list[Any]) -> list[Any]:
    """The parameters themselves, from tensors, ``(name, tensor)`` pairs and group dicts."""
    groups = [entry["params"] if isinstance(entry, dict) else [entry] for entry in entries]
    members = [member for group in groups for member in ([group] if isinstance(group, Tensor) else group)]
    return [member[1] if isinstance(member, tuple) else member for member in members]


def _is_dense(tensor: Tensor) -> bool:
    # The fused kernels walk through memory from the first element on, whatever the strides say.
    return tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def _match_layout(grad: Tensor, p: Tensor) -> Tensor:
    # Fused kernels assume that gradient and parameter have the same strides. Autograd's do; a user's need not.
    return grad if grad.stride() == p.stride() else torch.empty_like(p, dtype=grad.dtype).copy_(grad)


@cache
def _torch_attributes() -> frozenset[str]:
    """The attributes that torch itself sets on an optimizer."""
    return frozenset(vars(torch.optim.SGD([torch.zeros(1)], lr=0.0)))


class WrappedOptimizer(Optimizer):
    """Torch's whole contract over a base optimizer; on its own it does exactly what the base does.

    A subclass overrides :meth:`_update` to do more, and :meth:`_check_group` to check its own hyperparameters. This
    class takes care of the rest:

    - ``param_groups`` is the base optimizer's own list, with the wrapper's hyperparameters added to each group, so
      learning-rate schedulers and per-group overrides act on both.
    - ``state`` holds the wrapper's own tensors; ``state_dict`` nests the base optimizer's under ``"base"``. A load
      that fails changes nothing.
    - A copy takes over every attribute. A subclass that builds one anew drops it in ``__getstate__`` and sets it in
      ``__setstate__``.
    - Wrappers nest: pass another one as ``base_optimizer``.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts. Groups may override any hyperparameter.
        base_optimizer: An ``Optimizer`` class, or a function ``(params, **kwargs) -> Optimizer``.
        base_optimizer_kwargs: Passed to ``base_optimizer``. See :func:`build_optimizer` for the CPU's fast path.
        defaults: The wrapper's own hyperparameters.

    Raises:
        TypeError: ``base_optimizer`` is not an optimizer.
        ValueError: A value is out of range, or the base optimizer has a hyperparameter of the same name.
    """

    base: Optimizer

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: BaseOptimizer,
        base_optimizer_kwargs: dict[str, Any] | None,
        defaults: dict[str, Any],
    ) -> None:
        kwargs = {} if base_optimizer_kwargs is None else base_optimizer_kwargs
        if not isinstance(kwargs, Mapping):
            raise TypeError(f"base_optimizer_kwargs must be a dict such as {{'lr': 1e-3}}, got {kwargs!r}")
        self.base = build_optimizer(base_optimizer, params, **kwargs)
        taken = defaults.keys() & self.base.defaults.keys()
        if taken:
            raise ValueError(
                f"{type(self).__name__} cannot wrap {type(self.base).__name__}: both have a hyperparameter named "
                f"{sorted(taken)}, and they share one param_groups"
            )
        super().__init__(self.base.param_groups, {**self.base.defaults, **defaults})
        self.param_groups = self.base.param_groups

    def _check_group(self, group: dict[str, Any]) -> None:
        """Raises a ValueError when one of the wrapper's own hyperparameters in ``group`` is out of range."""

    # ---- one step ------------------------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Makes one step with the gradients in ``p.grad``, which keep their values.

        Args:
            closure: Clears the gradients, computes the loss, calls ``backward`` and returns the loss. Called once.

        Returns:
            The closure's loss, or ``None``.

        Raises:
            ValueError: A gradient is sparse or complex.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._check_gradients(group)  # all of them before any state changes
        self._update()
        return loss

    def _update(self) -> None:
        """Updates parameters and state. The gradients have been checked, and autograd is off."""
        self.base.step()

    def _check_gradients(self, group: dict[str, Any]) -> None:
        for grad in (p.grad for p in group["params"] if p.grad is not None):
            if grad.layout != torch.strided:
                raise ValueError(
                    f"{type(self).__name__} does not support sparse gradients, got one of shape {tuple(grad.shape)}: "
                    "use sparse=False in the embedding, or a plain SparseAdam for it"
                )
            if grad.is_complex():
                raise ValueError(
                    f"{type(self).__name__} does not support complex gradients, got one of shape {tuple(grad.shape)}: "
                    "optimize torch.view_as_real of the parameter"
                )
            if is_dtensor(grad):
                raise ValueError(
                    f"{type(self).__name__} does not support sharded gradients, got a DTensor of shape "
                    f"{tuple(grad.shape)}: use DistributedDataParallel instead of FSDP2's fully_shard"
                )

    # ---- groups, checkpoints, copies -----------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the wrapper and to its base optimizer; the group may override any hyperparameter."""
        groups = self.base.param_groups
        merged = {**self.defaults, **param_group}
        if "lr" in merged:
            check_range("lr", merged["lr"], low=0.0)
        self._check_group(merged)
        # While __init__ adopts the base's groups, the group is already one of them.
        if not any(param_group is group for group in groups):
            param_group = _with_params_as_list(param_group)
            on_cpu = [t for t in _params_of([param_group]) if isinstance(t, Tensor) and t.device.type == "cpu"]
            if self.base.defaults.get("fused") and not all(_is_dense(t) for t in on_cpu):
                # The fused kernel would overwrite what lies between the elements.
                param_group = {"fused": False, **param_group}
            self.base.add_param_group(dict(param_group))
            param_group = groups[-1]
        for name, value in self.defaults.items():
            param_group.setdefault(name, value)

    def state_dict(self) -> dict[str, Any]:
        """The wrapper's own state and groups as torch lays them out, and the base optimizer's under ``"base"``."""
        return {**super().state_dict(), "base": self.base.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned, each tensor in the precision in which it was saved.

        Raises:
            ValueError: ``state_dict`` was not saved by this class, or its groups differ from this optimizer's.
        """
        if "base" not in state_dict:
            raise ValueError(
                f"state_dict must hold the base optimizer's state under 'base', got the keys {sorted(state_dict)}: "
                f"it was not saved by {type(self).__name__}"
            )
        before = self.base.state_dict()
        self.base.load_state_dict(copy.deepcopy(state_dict["base"]))
        own = {key: value for key, value in state_dict.items() if key != "base"}
        try:
            super().load_state_dict(copy.deepcopy(own))
        except Exception:
            self.base.load_state_dict(before)
            self.param_groups = self.base.param_groups
            raise
        self._restore_precision(own)
        for loaded, shared in zip(self.param_groups, self.base.param_groups, strict=True):
            for name, value in loaded.items():
                shared.setdefault(name, value)
        self.param_groups = self.base.param_groups

    def _restore_precision(self, state_dict: dict[str, Any]) -> None:
        # torch casts floating-point state to the precision of its parameter, which would round a float32 memory of
        # bfloat16 gradients at every resume.
        saved_ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(saved_ids, params, strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][name] = value.clone().to(device=p.device)

    def __getstate__(self) -> dict[str, Any]:
        # Not copied: torch's hooks, as for every optimizer, and a method that somebody replaced on this object (a
        # learning-rate scheduler wraps step), because the replacement would go on acting on the original.
        own = {
            name: value
            for name, value in vars(self).items()
            if name not in _torch_attributes() and not callable(getattr(type(self), name, None))
        }
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # a checkpoint older than a hyperparameter gets its default
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}over {self.base!r}\n)"


class GradientTransform(WrappedOptimizer):
    """Transforms the gradients, then lets a base optimizer step with them: ``g -> g'``, ``p <- base(p, g')``.

    A subclass writes :meth:`_transform` and, for its own hyperparameters, :meth:`_check_group`. ``p.grad`` is the same
    tensor with the same values after :meth:`step`. When transforms are nested, the outer one acts first.

    Args:
        params: See :class:`WrappedOptimizer`, as for all arguments.
        base_optimizer: See :class:`WrappedOptimizer`.
        base_optimizer_kwargs: See :class:`WrappedOptimizer`.
        defaults: The transform's own hyperparameters.
    """

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: BaseOptimizer,
        base_optimizer_kwargs: dict[str, Any] | None,
        defaults: dict[str, Any],
    ) -> None:
        super().__init__(params, base_optimizer, base_optimizer_kwargs, defaults)
        self._scratch: dict[Tensor, Tensor] = {}

    @abstractmethod
    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Returns the gradients that the base optimizer steps with, one for each parameter of one group.

        Args:
            params: The group's parameters that have a gradient; their state belongs in ``self.state[p]``.
            grads: Their gradients. They must not be written to, but one may be returned where nothing changes.
            group: The group's hyperparameters.
        """

    def _output(self, p: Tensor, grad: Tensor) -> Tensor:
        """An uninitialized tensor for the transformed gradient of ``p``, laid out in memory like ``p``.

        On the CPU it is kept between steps, because getting fresh pages from the system costs more than filling them.
        On other devices the allocator keeps memory for everyone, so there the tensor is freed after the step.
        """
        if p.device.type != "cpu":
            return torch.empty_like(p, dtype=grad.dtype)
        kept = self._scratch.get(p)
        if kept is None or kept.stride() != p.stride() or kept.dtype != grad.dtype:
            kept = self._scratch[p] = torch.empty_like(p, dtype=grad.dtype)
        return kept

    def _update(self) -> None:
        originals: list[tuple[Tensor, Tensor]] = []
        try:
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                grads = [p.grad for p in params]
                originals += zip(params, grads, strict=True)
                for p, transformed in zip(params, self._transform(params, grads, group), strict=True):
                    p.grad = _match_layout(transformed, p)
            super()._update()
        finally:
            for p, grad in originals:
                p.grad = grad

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_scratch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._scratch = {}
