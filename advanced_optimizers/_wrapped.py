"""Torch's whole contract for an optimizer that wraps another one."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from advanced_optimizers._building import (
    BaseOptimizer,
    ParamsT,
    as_number,
    build_optimizer,
    check_group_names,
    check_lr,
    check_params,
    group_with_list,
    is_dense,
    params_of,
)
from advanced_optimizers._checks import check_closure, check_gradient, check_groups
from advanced_optimizers._state import (
    BASE,
    base_of,
    check_fused,
    in_one_piece,
    laid_out_like,
    match_layout,
    on_device_of,
    share_state,
)


@cache
def _torch_attributes() -> frozenset[str]:
    """The attributes that torch itself sets on an optimizer."""
    return frozenset(vars(torch.optim.SGD([torch.zeros(1)], lr=0.0)))


class WrappedOptimizer(Optimizer):
    """Torch's whole contract over a base optimizer; on its own it does exactly what the base does.

    A subclass overrides :meth:`_update` to do more, :meth:`_check_group` to check its own hyperparameters and
    :meth:`_check_state` to check what it loads. This class takes care of the rest:

    - ``param_groups`` is the base optimizer's own list, with the wrapper's hyperparameters added to each group, so
      learning-rate schedulers and per-group overrides act on both, and so does whoever assigns the attribute.
    - ``state[p]`` holds the wrapper's own tensors and, under ``"base"``, the dict that the base optimizer keeps of the
      same parameter. What is put into it, replaced or removed reaches the base before the next step.
    - So ``state_dict`` has torch's form, with each fact once: an edit of its groups counts, torch's hooks see it whole,
      and ``torch.distributed.checkpoint.state_dict`` keeps all of it. (What a subclass adds beside ``"state"`` and
      ``"param_groups"`` is dropped by those functions.) Checkpoints that earlier versions wrote can be loaded.
    - A load checks everything first, values as strictly as given ones, then changes everything: one that fails changes
      nothing.
    - A global step hook (``register_optimizer_step_pre_hook``) fires once, for the outermost optimizer.
    - State and gradients are laid out in memory like their parameter when a fused kernel steps.
    - A copy takes over every attribute. A subclass that builds one anew drops it in ``__getstate__`` and sets it in
      ``__setstate__``.
    - Wrappers nest: pass another one as ``base_optimizer``.

    A base optimizer that evaluates the loss again within its step (LBFGS, SAM) is refused, because those gradients
    would reach it untransformed. SAM can be put outside, with the wrapper as its own base optimizer.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts. Groups may override any hyperparameter.
        base_optimizer: An ``Optimizer`` class, or a function ``(params, **kwargs) -> Optimizer``.
        base_optimizer_kwargs: Passed to ``base_optimizer``. See :func:`build_optimizer` for the CPU's fast path.
        defaults: The wrapper's own hyperparameters.

    Raises:
        TypeError: ``base_optimizer`` is not an optimizer, or ``params`` are not parameters.
        ValueError: A value is out of range, a group has a misspelled hyperparameter, or the base optimizer has a
            hyperparameter of the same name.
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
        self._own_defaults = {name: as_number(value) for name, value in defaults.items()}
        self._shared_state: dict[Any, Any] = {}
        groups, self._is_built = self.base.param_groups, False
        super().__init__(groups, {**self.base.defaults, **self._own_defaults})  # torch takes groups over one by one
        self.param_groups, self._is_built = groups, True
        self._share_state()

    def _check_group(self, group: dict[str, Any]) -> None:
        """Raises an error when one of the wrapper's own hyperparameters in ``group`` has the wrong type or range."""

    def _check_state(self, p: Tensor, state: dict[str, Any]) -> None:
        """Raises an error when the wrapper's own state of ``p``, as loaded, cannot be what this class saved.

        It may adapt ``state`` to the parameter, such as to its precision.
        """

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's own list of groups."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        check_groups(groups)
        for group in groups:
            for name, value in self._own_defaults.items():
                group.setdefault(name, value)
        self.base.param_groups = groups

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
            TypeError: ``closure`` is not a function.
            ValueError: A gradient is sparse or complex, or the base optimizer needs a closure of its own.
        """
        if torch.compiler.is_compiling():  # a trace would hold on to values that are others at the next step
            return _untraced_step(self, closure)
        return self._step(closure)

    def _step(self, closure: Callable[[], float] | None) -> float | None:
        loss = None
        check_closure(closure)
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._share_state()
        for group in self.param_groups:
            self._check_gradients(group)  # all of them before any state changes
        for group in self.param_groups:
            if group.get("fused"):
                self._prepare_for_fused(group)
        self._update()
        if len(self.base.state) != len(self._shared_state):
            self._share_state()
        if closure is not None:
            self._hear(loss)
        return loss

    def _hear(self, loss: Any) -> None:
        """Told what the closure returned, after the update; tells it to a wrapper inside, whose step got no closure."""
        if isinstance(self.base, WrappedOptimizer):
            self.base._hear(loss)

    def _update(self) -> None:
        """Updates parameters and state. The gradients have been checked, and autograd is off."""
        fused = [] if isinstance(self.base, WrappedOptimizer) else [g for g in self.param_groups if g.get("fused")]
        params = [p for group in fused for p in group["params"] if p.grad is not None]
        strange = [(p, p.grad) for p in params if p.grad.stride() != p.stride()]  # autograd's are not; a user's can be
        try:
            for p, grad in strange:
                p.grad = laid_out_like(grad, p)
            self._step_base()
        finally:
            for p, grad in strange:
                p.grad = grad

    def _step_base(self) -> None:
        """``base.step()``, with the base's own hooks; the global ones have fired for this optimizer."""
        base, step = self.base, type(self.base).step
        try:
            if "step" in vars(base) or not getattr(step, "hooked", False):
                base.step()
                return
            args: tuple[Any, ...] = (base,)
            kwargs: dict[str, Any] = {}
            for before in base._optimizer_step_pre_hooks.values():
                args, kwargs = before(base, args, kwargs) or (args, kwargs)
            cast(Any, step).__wrapped__(*args, **kwargs)
            for after in base._optimizer_step_post_hooks.values():
                after(base, args, kwargs)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            if "closure" not in str(error).lower() or isinstance(base, WrappedOptimizer):
                raise
            raise ValueError(
                f"base_optimizer must step without a closure, but {type(base).__name__} needs one ({error}): it "
                f"evaluates the loss again, and {type(self).__name__} would not see those gradients; build it the "
                f"other way round, with {type(self).__name__} as the optimizer inside {type(base).__name__}"
            ) from error

    def _instead_of_sharded(self, grad: Tensor, group: dict[str, Any]) -> str:
        """What to use instead of a sharded gradient of a parameter group; nothing if it can be handled."""
        return "use DistributedDataParallel instead of FSDP2's fully_shard"

    def _check_gradients(self, group: dict[str, Any]) -> None:
        if isinstance(self.base, WrappedOptimizer):  # before anything changes out here
            self.base._check_gradients(group)
        for p in group["params"]:
            if p.grad is not None:
                check_gradient(type(self).__name__, p, p.grad, lambda grad: self._instead_of_sharded(grad, group))

    def _prepare_for_fused(self, group: dict[str, Any]) -> None:
        """Lays out the state like its parameters, or leaves the fused kernel where a parameter is not dense."""
        for p in group["params"]:
            if p.grad is None:
                continue
            if not is_dense(p):  # the kernel would overwrite what lies between the elements
                group["fused"] = False
                return
            state = self.state.get(p)
            if state:
                match_layout(state, p)
                match_layout(state.get(BASE, {}), p)

    def _share_state(self) -> None:
        if isinstance(self.base, WrappedOptimizer):
            self.base._share_state()
        self._shared_state = share_state(
            cast(defaultdict[Any, Any], self.state), cast(defaultdict[Any, Any], self.base.state), self._shared_state
        )

    # ---- groups --------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the wrapper and to its base optimizer; the group may override any hyperparameter.

        Raises:
            TypeError: ``param_group`` is not a group dict, or a value has the wrong type.
            ValueError: A value is out of range, a hyperparameter is misspelled, or a parameter cannot be optimized or
                is in another group already.
        """
        group = group_with_list(param_group)
        self._check_values(group)
        if self._is_built:
            others = [{"params": other["params"]} for other in self.param_groups]
            check_params([*others, group], differentiable=bool(self.defaults.get("differentiable")))
            if self.base.defaults.get("fused") and not all(is_dense(p) for p in params_of([group])):
                group = {"fused": False, **group}  # the fused kernel would overwrite what lies between the elements
            self.base.add_param_group(dict(group))
            param_group = self.base.param_groups[-1]
        for name, value in self._own_defaults.items():
            param_group[name] = as_number(param_group.get(name, value))

    def _check_values(self, group: dict[str, Any]) -> None:
        check_group_names(group, self.defaults)
        merged = {**self.defaults, **group}
        check_lr(merged)
        self._check_group(merged)

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State and groups as torch lays them out; a parameter's state holds the base optimizer's under ``"base"``."""
        self._share_state()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned, each tensor of a wrapper in the precision in which it was saved.

        Raises:
            TypeError: A loaded value has the wrong type.
            ValueError: ``state_dict`` was not saved by this class, its groups differ from this optimizer's, or a value
                is out of range. Nothing has changed then.
        """
        if isinstance(state_dict, dict):
            state_dict = state_dict.copy()
            for before in self._optimizer_load_state_dict_pre_hooks.values():
                changed = before(self, state_dict)
                state_dict = state_dict if changed is None else changed
        state_dict = in_one_piece(state_dict, self.param_groups)
        groups = copy.deepcopy(state_dict["param_groups"])
        self._check_saved_by_this_class(state_dict)
        for group in groups:
            self._check_values(group)
        state, of_base = self._split(state_dict)
        self._check_extra(state_dict)

        self._load_base({"state": of_base, "param_groups": groups})
        self.param_groups = self.base.param_groups  # a checkpoint older than a hyperparameter gets its default
        self.state, self._shared_state = state, {}
        self._share_state()
        self._load_extra(state_dict)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _check_extra(self, state_dict: dict[str, Any]) -> None:
        """Checks what a subclass adds to ``state_dict``; nothing has been changed yet."""

    def _load_extra(self, state_dict: dict[str, Any]) -> None:
        """Restores what a subclass adds to ``state_dict``; everything else has been loaded."""

    def _check_saved_by_this_class(self, state_dict: dict[str, Any]) -> None:
        own = self._own_defaults.keys()
        states = [state for state in state_dict["state"].values() if isinstance(state, dict)]
        has_own = any(own & group.keys() for group in state_dict["param_groups"])
        if not has_own and (own or states) and not any(BASE in state for state in states):
            raise ValueError(
                f"state_dict must hold the base optimizer's state under 'base' in each parameter's, and {sorted(own)} "
                f"in its groups, got the keys {sorted({str(name) for state in states for name in state})} and "
                f"{sorted({str(name) for group in state_dict['param_groups'] for name in group})}: it was not saved "
                f"by {type(self).__name__}"
            )

    def _split(self, state_dict: dict[str, Any]) -> tuple[defaultdict[Any, Any], dict[Any, Any]]:
        """The loaded state as this optimizer's own, by parameter, and the base's, by what it was saved under."""
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        of_id = dict(zip(ids, (p for group in self.param_groups for p in group["params"]), strict=True))
        own: defaultdict[Any, Any] = defaultdict(dict)
        of_base: dict[Any, Any] = {}
        for i, saved in state_dict["state"].items():
            p = of_id.get(i)
            if isinstance(saved, dict) and BASE in saved:
                of_base[i] = copy.deepcopy(base_of(i, saved))
                saved = {name: value for name, value in saved.items() if name != BASE}
                if not saved:
                    continue
            if p is None:  # not of a parameter: torch keeps it as it is
                own[i] = saved
                continue
            if not isinstance(saved, dict):
                raise TypeError(f"state_dict['state'][{i!r}] must be a dict, got {saved!r}")
            own[p] = on_device_of(p, saved)
            try:
                self._check_state(p, own[p])
            except (TypeError, ValueError) as error:
                raise type(error)(f"state_dict['state'][{i!r}]: {error}") from error
        return own, of_base

    def _load_base(self, state_dict: dict[str, Any]) -> None:
        state, groups = self.base.state, self.base.param_groups
        try:
            if not isinstance(self.base, WrappedOptimizer):
                check_fused(state_dict, self.param_groups)
            self.base.load_state_dict(state_dict)
        except Exception as error:
            self.base.state, self.base.param_groups = state, groups
            if isinstance(error, TypeError | ValueError):
                raise
            raise ValueError(f"{type(self.base).__name__} cannot load its part of state_dict: {error!r}") from error

    # ---- copies --------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # Not copied: the groups, which are the base's; torch's hooks, as for every optimizer; and a method that
        # somebody replaced on this object (a learning-rate scheduler wraps step), because the replacement would go on
        # acting on the original.
        self._share_state()
        own = {
            name: value
            for name, value in vars(self).items()
            if name not in _torch_attributes() and not callable(getattr(type(self), name, None))
        }
        return {"defaults": self.defaults, "state": self.state, **own}

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}over {self.base!r}\n)"


@torch._disable_dynamo  # type: ignore[attr-defined, untyped-decorator, unused-ignore]
def _untraced_step(optimizer: WrappedOptimizer, closure: Callable[[], float] | None) -> float | None:
    # Not torch.compiler.disable, which would import the compiler with this module.
    return optimizer._step(closure)
