"""How a base optimizer is built: what its parameters, groups and settings are checked for, and torch's fast path."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.parameter import Parameter, UninitializedParameter
from torch.optim import Optimizer

from advanced_optimizers._checks import check_range

ParamsT: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
BaseOptimizer: TypeAlias = Callable[..., Optimizer]

# How alike two names must be for one to be taken for a misspelling of the other.
_MISSPELLED = 0.8


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
        **kwargs: Passed on to ``base_optimizer``; NumPy's numbers become Python's.

    Raises:
        TypeError: ``base_optimizer`` cannot be called or does not return an ``Optimizer``, ``params`` is neither
            tensors nor groups, or a value has the wrong type.
        ValueError: ``lr`` is negative or not finite, ``params`` is empty or holds a tensor that cannot be optimized,
            ``base_optimizer`` refuses a value, or the optimizer cannot step without a closure.
    """
    _check_base_optimizer(base_optimizer)
    kwargs = {name: as_python(value) for name, value in kwargs.items()}
    check_lr(kwargs)
    entries = check_params(params, differentiable=bool(kwargs.get("differentiable")))
    chosen = {"fused", "foreach", "differentiable"} & kwargs.keys()
    if not chosen and base_optimizer in (torch.optim.Adam, torch.optim.AdamW) and _fit_for_fused(entries):
        kwargs = {**kwargs, "fused": True}
    optimizer = _construct(base_optimizer, entries, kwargs)
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


def _check_base_optimizer(base_optimizer: BaseOptimizer) -> None:
    kind = base_optimizer if isinstance(base_optimizer, type) else None
    if not callable(base_optimizer) or (kind is not None and not issubclass(kind, Optimizer)):
        raise TypeError(
            "base_optimizer must be a torch.optim.Optimizer class (or a function that builds one), "
            f"got {base_optimizer!r}"
        )
    if kind is not None and kind.step is Optimizer.step:
        raise TypeError(f"base_optimizer must be an optimizer that can step, got {base_optimizer!r}, which has no step")


def _construct(base_optimizer: BaseOptimizer, entries: Any, kwargs: dict[str, Any]) -> Any:
    # What an optimizer says about its own arguments may name neither the argument nor its value ("cannot unpack
    # non-iterable float object").
    try:
        return base_optimizer(entries, **kwargs)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        name = getattr(base_optimizer, "__name__", repr(base_optimizer))
        settings = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        raise kind(f"{name}({', '.join(filter(None, ['params', settings]))}) failed: {error}") from error


# ---- parameters --------------------------------------------------------------------------------------------------


def check_params(params: ParamsT, *, differentiable: bool = False) -> Any:
    """Reads ``params`` once, so that a generator can be looked at and passed on, and refuses what torch cannot take.

    Args:
        params: Tensors, ``(name, tensor)`` pairs or group dicts.
        differentiable: Whether the optimizer may optimize tensors that were computed from others.

    Returns:
        The same as a list, with the parameters of each group as a list too. A set stays a set: torch warns about it.

    Raises:
        TypeError: ``params`` is a tensor, is not iterable, or holds something else than parameters or groups.
        ValueError: ``params`` is empty, a parameter is in two groups, or it was computed from other tensors.
    """
    if isinstance(params, set):
        return params
    if isinstance(params, Tensor):
        raise TypeError(
            "params must be an iterable of tensors or group dicts (params argument given to the optimizer should be "
            "an iterable of Tensors or dicts), got one Tensor: put it in a list"
        )
    if isinstance(params, str | bytes | dict) or not isinstance(params, Iterable):
        raise TypeError(f"params must be an iterable of tensors or group dicts, got {params!r}: put it in a list")
    entries: list[Any] = [group_with_list(entry) if isinstance(entry, dict) else entry for entry in params]
    if not entries:
        raise ValueError("params must hold at least one tensor, got [] (optimizer got an empty parameter list)")
    seen: dict[Any, int] = {}
    for place, entry in enumerate(entries):
        is_group = isinstance(entry, dict)
        for p in entry["params"] if is_group else [entry]:
            tensor = p[1] if isinstance(p, tuple) and len(p) == 2 else p
            _check_param(tensor, differentiable)
            # Within one group torch warns about a parameter that stands twice.
            if seen.setdefault(tensor, place) != place and is_group:
                raise ValueError(
                    "params must hold each parameter in one group only (some parameters appear in more than one "
                    f"parameter group), got one of shape {tuple(tensor.shape)} in groups {seen[tensor]} and {place}"
                )
    return entries


def _check_param(p: Any, differentiable: bool) -> None:
    if not isinstance(p, Tensor):
        raise TypeError(f"params must hold tensors, (name, tensor) pairs or group dicts, got {p!r}")
    if not (differentiable or p.is_leaf or p.retains_grad):
        raise ValueError(
            f"params must hold leaf tensors, got one of shape {tuple(p.shape)} that was computed by {p.grad_fn!r} "
            "(can't optimize a non-leaf Tensor): pass what it was computed from, or detach it"
        )


def group_with_list(group: dict[str, Any]) -> dict[str, Any]:
    """The group dict with its parameters as a list, since a generator can be read only once."""
    if not isinstance(group, dict):
        raise TypeError(f"param_group must be a dict with 'params', got {group!r}")
    if "params" not in group:
        raise ValueError(f"a group of params must have 'params', got one with the keys {list(group)}")
    params = group["params"]
    if isinstance(params, Tensor):
        params = [params]
    elif isinstance(params, set):
        raise TypeError(
            "params of a group must be a list, got a set (optimizer parameters need to be organized in ordered "
            "collections, but the ordering of tensors in sets will change between runs. Please use a list instead.)"
        )
    elif isinstance(params, str | bytes | dict) or not isinstance(params, Iterable):
        raise TypeError(f"params of a group must be tensors, got {params!r}: put it in a list")
    return {**group, "params": list(params)}


def params_of(entries: Iterable[Any]) -> list[Tensor]:
    """The parameters themselves, from what :func:`check_params` returned."""
    members = [p for entry in entries for p in (entry["params"] if isinstance(entry, dict) else [entry])]
    return [p[1] if isinstance(p, tuple) else p for p in members]


def _fit_for_fused(entries: Iterable[Any]) -> bool:
    return all(p.device.type == "cpu" and p.is_floating_point() and is_dense(p) for p in params_of(entries))


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill a stretch of memory without gaps, in any order of dimensions.

    The fused kernels walk through memory from the first element on, whatever the strides say. A parameter of a lazy
    module will be dense once it has a shape.
    """
    # The type first: asking a parameter whether it is an instance takes longer than asking for its layout.
    if (type(tensor) is not Parameter and isinstance(tensor, UninitializedParameter)) or tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


# ---- settings ----------------------------------------------------------------------------------------------------


def as_python(value: Any) -> Any:
    """A NumPy number as Python's; anything else as it is. torch is all that the package imports."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value


def as_number(value: Any) -> Any:
    """A hyperparameter as Python's number, where it is NumPy's or a tensor with one element."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else as_python(value)


def check_lr(settings: dict[str, Any]) -> None:
    """Raises an error that names ``lr`` unless it is absent from the settings, or finite and >= 0."""
    lr = settings.get("lr", 0.0)
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr must be one number (Tensor lr must be 1-element), got {lr!r}")
    check_range("lr", lr, low=0.0, high=math.inf, open_high=True)


def check_group_names(group: dict[str, Any], known: Iterable[str]) -> None:
    """Raises a ValueError for a key of a group that looks like a misspelled hyperparameter.

    Keys of the user's own are allowed (``name``, ``lr_scale``, ``initial_lr``); so is one that consists of a
    hyperparameter's name and more words (``no_weight_decay``).

    Args:
        group: A parameter group.
        known: The hyperparameters' names.
    """
    names = {*known, "params", "param_names"}
    for key in group.keys() - names:
        near = difflib.get_close_matches(key, names, n=1, cutoff=_MISSPELLED) if isinstance(key, str) else []
        if near and f"_{near[0]}_" not in f"_{key}_":
            raise ValueError(
                f"a parameter group has no hyperparameter {key!r} (its value is {group[key]!r}); did you mean "
                f"{near[0]!r}?"
            )
